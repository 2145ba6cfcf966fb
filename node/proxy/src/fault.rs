//! Why a proxy does not start, or ends.

use cocoon_host::config::ConfigFault;
use cocoon_host::keys::KeyFault;
use thiserror::Error;

/// Why the node did not start or had to end.
#[derive(Debug, Error)]
pub enum RunFault {
    /// Configuration: correct what the text names.
    #[error(transparent)]
    Config(#[from] ConfigFault),
    /// Configuration or environment: a key file cannot be used.
    #[error(transparent)]
    Key(#[from] KeyFault),
    /// Environment: the journal cannot be used; what is on disk is safe.
    #[error(transparent)]
    Journal(#[from] cocoon_journal::Fault),
    /// Environment: the journal holds something this version does not know.
    #[error("journal: {0}")]
    Record(#[from] cocoon_ledger::RecordFault),
    /// Configuration or environment: books, root and configuration do not fit together.
    #[error(transparent)]
    Start(#[from] cocoon_role_proxy::StartFault),
    /// Configuration or chain: the root contract cannot be used.
    #[error(transparent)]
    Root(#[from] cocoon_host::chain::RootFault),
    /// Environment: the wallet's file cannot be used.
    #[error("wallet: {0}")]
    Wallet(#[from] cocoon_host::chain::WalletFault),
    /// Environment: a file of the data directory cannot be used.
    #[error("{path}: {reason}")]
    File {
        /// Which.
        path: std::path::PathBuf,
        /// Why not.
        reason: String,
    },
    /// The node was asked to stop before it could start.
    #[error("asked to stop while waiting for the chain")]
    Stopped,
    /// Environment: a port cannot be opened.
    #[error("cannot listen on {address} for {what}: {source}")]
    Listen {
        /// Which.
        address: std::net::SocketAddr,
        /// For what.
        what: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// Configuration: the key is no TLS key.
    #[error("the node's certificate cannot be made: {0}")]
    Certificate(String),
    /// Us: the books broke a rule of their own. The journal is kept; report it.
    #[error("books: {0}")]
    Books(#[from] cocoon_ledger::Broken),
}

impl RunFault {
    pub(crate) fn file(path: &std::path::Path, reason: &dyn std::fmt::Display) -> Self {
        Self::File { path: path.to_owned(), reason: reason.to_string() }
    }
}
