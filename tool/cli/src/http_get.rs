//! Small HTTP requests to nodes on this machine.

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use std::time::Duration;

/// Largest answer that is read, bytes.
const ANSWER_LEN_MAX: usize = 16 << 20;

/// A client for one command.
#[derive(Clone, Debug)]
pub(crate) struct Http {
    client: Client<HttpConnector, Full<Bytes>>,
}

impl Http {
    pub(crate) fn new() -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(Duration::from_secs(5)));
        Self { client: Client::builder(TokioExecutor::new()).build(connector) }
    }

    /// Status and body of a GET.
    pub(crate) async fn get(&self, url: &str, timeout: Duration) -> Result<(u16, Bytes)> {
        let ask = async {
            let uri = url.parse().with_context(|| format!("{url} is no address"))?;
            let answer =
                self.client.get(uri).await.with_context(|| format!("{url} does not answer"))?;
            let status = answer.status().as_u16();
            let body = Limited::new(answer.into_body(), ANSWER_LEN_MAX)
                .collect()
                .await
                .map_err(|fault| anyhow::anyhow!("{url}: {fault}"))?;
            Ok((status, body.to_bytes()))
        };
        tokio::time::timeout(timeout, ask)
            .await
            .with_context(|| format!("{url} did not answer within {timeout:?}"))?
    }

    /// Sends a request and gives the answer with its body still running.
    pub(crate) async fn send(
        &self,
        request: http::Request<Full<Bytes>>,
    ) -> Result<http::Response<hyper::body::Incoming>> {
        let url = request.uri().to_string();
        self.client.request(request).await.with_context(|| format!("{url} does not answer"))
    }
}
