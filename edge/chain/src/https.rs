//! One HTTP request over TLS, for servers outside.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// How long connecting and shaking hands may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Names another file of certificate authorities, as with other programs.
const AUTHORITIES_VARIABLE: &str = "SSL_CERT_FILE";
/// Where systems keep their certificate authorities.
const AUTHORITIES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
    "/etc/ssl/ca-bundle.pem",
];

/// Why a request over TLS had no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsFault {
    /// This system names no authorities: install them or name a file.
    #[error("no certificate authorities: install them, or name a file in {AUTHORITIES_VARIABLE}")]
    NoAuthorities,
    /// The server cannot be reached, or is not who it should be.
    #[error("{0}")]
    Unreachable(String),
}

/// Talks TLS to servers that the authorities vouch for.
#[derive(Clone)]
pub(crate) struct Tls(TlsConnector);

impl Tls {
    /// Trusts the system's authorities.
    pub(crate) fn system() -> Result<Self, TlsFault> {
        let named = std::env::var_os(AUTHORITIES_VARIABLE).map(PathBuf::from);
        let found = named
            .into_iter()
            .chain(AUTHORITIES.into_iter().map(PathBuf::from))
            .find(|path| path.is_file());
        Self::trusting(&found.ok_or(TlsFault::NoAuthorities)?)
    }

    /// Trusts the authorities in a PEM file.
    pub(crate) fn trusting(file: &Path) -> Result<Self, TlsFault> {
        let certificates =
            CertificateDer::pem_file_iter(file).map_err(|_| TlsFault::NoAuthorities)?;
        let mut roots = RootCertStore::empty();
        // One odd certificate among many is passed over, as everywhere.
        roots.add_parsable_certificates(certificates.flatten());
        if roots.is_empty() {
            return Err(TlsFault::NoAuthorities);
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| TlsFault::Unreachable(error.to_string()))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self(TlsConnector::from(Arc::new(config))))
    }

    /// Sends a request over a connection of its own. The request's URI is absolute.
    pub(crate) async fn send(
        &self,
        mut request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, TlsFault> {
        let unreachable = |reason: String| TlsFault::Unreachable(reason);
        let uri = request.uri().clone();
        let host = uri.host().unwrap_or_default().to_owned();
        let port = uri.port_u16().unwrap_or(443);
        let name = ServerName::try_from(host.clone())
            .map_err(|error| unreachable(format!("{host}: {error}")))?;
        let connect = async {
            let stream = TcpStream::connect((host.as_str(), port)).await?;
            self.0.connect(name, stream).await
        };
        let stream = tokio::time::timeout(CONNECT_TIMEOUT, connect)
            .await
            .map_err(|_| unreachable("no connection in time".to_owned()))?
            .map_err(|error| unreachable(error.to_string()))?;
        let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        *request.uri_mut() = path.parse().map_err(|_| unreachable("an odd path".to_owned()))?;
        let authority = uri.authority().map(ToString::to_string).unwrap_or_default();
        let authority = authority.parse().map_err(|_| unreachable("an odd host".to_owned()))?;
        request.headers_mut().insert(hyper::header::HOST, authority);
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| unreachable(error.to_string()))?;
        // Drives the connection until the answer is read; errors reach the answer's reader.
        tokio::spawn(connection);
        sender.send_request(request).await.map_err(|error| unreachable(error.to_string()))
    }
}
