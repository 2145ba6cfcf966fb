//! The gateway's own TLS listener: a certificate chain and a key from PEM files.
//!
//! TLS 1.3 only and the hybrid X25519MLKEM768 first, as everywhere in the network.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use crate::config::TlsFiles;

/// Why the TLS listener cannot start. The configuration is at fault.
#[derive(Debug, thiserror::Error)]
pub enum TlsFault {
    /// A file that is not there or holds no PEM of the kind wanted.
    #[error("cannot read {what} from {path}: {reason}", path = path.display())]
    File {
        /// What was looked for.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// The reader's words.
        reason: String,
    },
    /// Certificate and key do not fit each other, or are of no known kind.
    #[error("certificate and private key cannot be used: {0}")]
    Unusable(#[from] rustls::Error),
}

/// Reads the files and makes an acceptor.
pub(crate) fn acceptor(files: &TlsFiles) -> Result<TlsAcceptor, TlsFault> {
    let chain = CertificateDer::pem_file_iter(&files.certificates)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|reason| file_fault("certificates", &files.certificates, &reason))?;
    if chain.is_empty() {
        let reason = io::Error::new(io::ErrorKind::InvalidData, "no certificate in the file");
        return Err(file_fault("certificates", &files.certificates, &reason));
    }
    let key = PrivateKeyDer::from_pem_file(&files.private_key)
        .map_err(|reason| file_fault("a private key", &files.private_key, &reason))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn file_fault(what: &'static str, path: &Path, reason: &dyn std::fmt::Display) -> TlsFault {
    TlsFault::File { what, path: path.to_path_buf(), reason: reason.to_string() }
}
