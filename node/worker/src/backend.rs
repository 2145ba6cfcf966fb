//! The model server behind the worker: an OpenAI-compatible HTTP server, whichever it is.

use bytes::Bytes;
use cocoon_role_worker::BackendRequest;
use http::{HeaderValue, Method, Request, Response, Uri, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use std::time::Duration;
use thiserror::Error;

/// Time for one probe (protocol notes, wire 4.9 has 10 s; a local server answers in far less).
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an idle connection to the model server is kept; looked at as often, so that it may be
/// twice as long.
const IDLE: Duration = Duration::from_secs(10);
/// Largest answer to a probe that is read, bytes.
const PROBE_LEN_MAX: usize = 1 << 20;

/// A model server that does not answer as it should.
#[derive(Debug, Error)]
pub enum BackendFault {
    /// Configuration: not an `http://host:port` address.
    #[error("model server address {0:?} is not http://host:port")]
    Address(String),
    /// Environment: no connection, or it broke.
    #[error("model server cannot be reached: {0}")]
    Unreachable(String),
    /// Environment: it answered, but not as a model server does.
    #[error("model server answered {0}")]
    Status(u16),
    /// Environment: it did not answer in time.
    #[error("model server did not answer within {0:?}")]
    Timeout(Duration),
}

/// A pooled client of one model server. Clones share the pool.
#[derive(Clone, Debug)]
pub struct Backend {
    client: Client<HttpConnector, Full<Bytes>>,
    base: String,
}

impl Backend {
    /// A client of the server at `base`: `http://host:port`, or `host:port` as in the reference's
    /// configuration. A path prefix such as `/v1` at the end is dropped.
    ///
    /// # Errors
    /// [`BackendFault::Address`].
    pub fn new(base: &str) -> Result<Self, BackendFault> {
        let fault = || BackendFault::Address(base.to_owned());
        let text = base.trim().trim_end_matches('/').trim_end_matches("/v1");
        let text = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
        let uri: Uri = text.parse().map_err(|_| fault())?;
        if uri.scheme_str() != Some("http") || uri.authority().is_none() {
            return Err(fault());
        }
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(PROBE_TIMEOUT));
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .build(connector);
        Ok(Self { client, base: text })
    }

    /// Sends a request; returns when the head of the answer is there.
    ///
    /// # Errors
    /// [`BackendFault::Unreachable`].
    pub async fn send(&self, request: &BackendRequest) -> Result<Response<Incoming>, BackendFault> {
        let mut builder =
            Request::builder().method(Method::POST).uri(format!("{}{}", self.base, request.path));
        for (name, value) in &request.headers {
            if let Ok(value) = HeaderValue::from_bytes(value) {
                builder = builder.header(name.as_str(), value);
            }
        }
        let request = builder
            .header(header::USER_AGENT, "cocoon-worker")
            .body(Full::new(request.body.expose().clone()))
            .map_err(|fault| BackendFault::Unreachable(fault.to_string()))?;
        self.client.request(request).await.map_err(|fault| unreachable(&fault))
    }

    /// Asks whether the server is there and which models it serves.
    ///
    /// # Errors
    /// [`BackendFault`]: the worker takes no queries until the next probe succeeds.
    pub async fn probe(&self) -> Result<Vec<String>, BackendFault> {
        tokio::time::timeout(PROBE_TIMEOUT, self.models())
            .await
            .unwrap_or(Err(BackendFault::Timeout(PROBE_TIMEOUT)))
    }

    async fn models(&self) -> Result<Vec<String>, BackendFault> {
        let uri = format!("{}/v1/models", self.base);
        let request = Request::builder()
            .uri(uri)
            .header(header::USER_AGENT, "cocoon-worker")
            .body(Full::new(Bytes::new()))
            .map_err(|fault| BackendFault::Unreachable(fault.to_string()))?;
        let answer = self.client.request(request).await.map_err(|fault| unreachable(&fault))?;
        if answer.status() != http::StatusCode::OK {
            return Err(BackendFault::Status(answer.status().as_u16()));
        }
        let body = http_body_util::Limited::new(answer.into_body(), PROBE_LEN_MAX)
            .collect()
            .await
            .map_err(|fault| BackendFault::Unreachable(fault.to_string()))?
            .to_bytes();
        let list: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
        let models = list["data"].as_array().into_iter().flatten();
        Ok(models.filter_map(|model| model["id"].as_str().map(str::to_owned)).collect())
    }
}

fn unreachable(fault: &hyper_util::client::legacy::Error) -> BackendFault {
    use std::error::Error as _;
    let cause = fault.source().map_or_else(|| fault.to_string(), ToString::to_string);
    BackendFault::Unreachable(cause)
}
