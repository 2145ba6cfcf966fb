//! One HTTP GET, as much as collateral services need.

use std::future::Future;
use std::time::Duration;

use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::Request;
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::fault::EvidenceFault;

/// Longest answer in bytes.
pub const ANSWER_LIMIT: usize = 4 * 1024 * 1024;

/// How long one request may take.
const TIMEOUT: Duration = Duration::from_secs(20);

/// An answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HttpAnswer {
    /// Status code.
    pub status: u16,
    /// Headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Body, at most [`ANSWER_LIMIT`] bytes.
    pub body: Vec<u8>,
}

impl HttpAnswer {
    /// Returns the first header of this lower-case name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// Gets documents. A node gives its own client here, with its own rules for TLS: collateral
/// is signed by its maker, so that TLS guards only against being starved or watched.
pub trait HttpGet: Send + Sync {
    /// Gets `url`.
    ///
    /// # Errors
    /// [`EvidenceFault::Service`]: the service cannot be reached.
    fn get(&self, url: &str) -> impl Future<Output = Result<HttpAnswer, EvidenceFault>> + Send;
}

/// Gets documents over plain HTTP, from a cache on the same machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct PlainHttp;

impl HttpGet for PlainHttp {
    async fn get(&self, url: &str) -> Result<HttpAnswer, EvidenceFault> {
        let fault = |detail: String| EvidenceFault::Service { url: url.to_owned(), detail };
        match tokio::time::timeout(TIMEOUT, get(url)).await {
            Ok(answer) => answer.map_err(fault),
            Err(_) => Err(fault(format!("no answer within {} s", TIMEOUT.as_secs()))),
        }
    }
}

async fn get(url: &str) -> Result<HttpAnswer, String> {
    let uri: hyper::Uri = url.parse().map_err(|error| format!("no address: {error}"))?;
    if uri.scheme_str() != Some("http") {
        return Err("this client speaks http only".to_owned());
    }
    let host = uri.host().ok_or("no host in the address")?;
    let authority = (host, uri.port_u16().unwrap_or(80));
    let stream = TcpStream::connect(authority).await.map_err(|error| error.to_string())?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| error.to_string())?;
    let driver = tokio::spawn(connection);
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let request = Request::get(path)
        .header("host", uri.authority().map_or(host, |authority| authority.as_str()))
        .body(Empty::<Bytes>::new())
        .map_err(|error| error.to_string())?;
    let answer = sender.send_request(request).await.map_err(|error| error.to_string())?;
    let (head, body) = answer.into_parts();
    let headers = head
        .headers
        .iter()
        .filter_map(|(name, value)| {
            Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned()))
        })
        .collect();
    let body = Limited::new(body, ANSWER_LIMIT).collect().await.map_err(|error| error.to_string());
    driver.abort();
    Ok(HttpAnswer { status: head.status.as_u16(), headers, body: body?.to_bytes().to_vec() })
}
