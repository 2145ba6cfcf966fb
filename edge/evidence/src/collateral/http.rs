//! One HTTP GET, as much as collateral services need.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::Request;
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::fault::{EvidenceFault, crypto};

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

/// Gets documents over HTTP from a cache on the same machine or network, and over HTTPS, by the
/// roots of the public web, from the makers themselves.
#[derive(Clone)]
pub struct WebHttp {
    tls: TlsConnector,
}

impl std::fmt::Debug for WebHttp {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("WebHttp")
    }
}

impl WebHttp {
    /// Returns a client.
    ///
    /// # Errors
    /// The cryptographic library failed.
    pub fn new() -> Result<Self, EvidenceFault> {
        let roots = rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(crypto)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { tls: TlsConnector::from(Arc::new(config)) })
    }

    async fn ask(&self, url: &str) -> Result<HttpAnswer, String> {
        let uri: hyper::Uri = url.parse().map_err(|error| format!("no address: {error}"))?;
        let host = uri.host().ok_or("no host in the address")?;
        let (secure, port) = match uri.scheme_str() {
            Some("https") => (true, 443),
            Some("http") => (false, 80),
            _ => return Err("the address is neither http nor https".to_owned()),
        };
        let authority = (host.trim_matches(['[', ']']), uri.port_u16().unwrap_or(port));
        let stream = TcpStream::connect(authority).await.map_err(|error| error.to_string())?;
        if !secure {
            return get(stream, &uri, host).await;
        }
        let name = ServerName::try_from(authority.0.to_owned())
            .map_err(|_| "the host in the address is no name".to_owned())?;
        let stream = self.tls.connect(name, stream).await.map_err(|error| error.to_string())?;
        get(stream, &uri, host).await
    }
}

impl HttpGet for WebHttp {
    async fn get(&self, url: &str) -> Result<HttpAnswer, EvidenceFault> {
        let fault = |detail: String| EvidenceFault::Service { url: url.to_owned(), detail };
        match tokio::time::timeout(TIMEOUT, self.ask(url)).await {
            Ok(answer) => answer.map_err(fault),
            Err(_) => Err(fault(format!("no answer within {} s", TIMEOUT.as_secs()))),
        }
    }
}

async fn get<S>(stream: S, uri: &hyper::Uri, host: &str) -> Result<HttpAnswer, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
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
