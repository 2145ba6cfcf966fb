//! What can go wrong with the chain, sorted by who is guilty.

use std::path::PathBuf;

/// Why a question to the chain has no answer. Callers decide by the kind: an unreachable chain is
/// waited for, a refusal is final for this message, an unverifiable answer names a liar.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ChainFault {
    /// No server answers. Nothing is known about what was asked; ask again later, and take no
    /// new obligations meanwhile.
    #[error("{server} does not answer: {reason}")]
    Unreachable {
        /// Which server or set of servers.
        server: String,
        /// What happened.
        reason: String,
    },
    /// The chain refuses: the message is not accepted, the block or account is unknown. Asking
    /// the same again gives the same answer until the chain has moved.
    #[error("{server} refuses: {reason}")]
    Refused {
        /// Which server.
        server: String,
        /// The reason it gives.
        reason: String,
    },
    /// The answer's proof is wrong or missing: the server lies or is broken and was dropped.
    #[error("{server} gave an answer that does not prove: {reason}")]
    Unverifiable {
        /// Which server.
        server: String,
        /// Which check failed.
        reason: String,
    },
    /// The history of an account that was asked for is no longer kept: start from the current
    /// state instead.
    #[error("transactions of {account} after lt {after_lt} are no longer kept")]
    Forgotten {
        /// The account, raw form.
        account: String,
        /// The logical time asked for.
        after_lt: u64,
    },
}

impl ChainFault {
    /// Whether asking again later may help.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Unverifiable { .. })
    }
}

/// Why a local chain could not be opened or kept.
#[derive(Debug, thiserror::Error)]
pub enum NodeFault {
    /// Another process uses the directory: stop it or give another directory.
    #[error("{0} is in use by another process")]
    InUse(PathBuf),
    /// A file could not be read or written: check the disk and the permissions.
    #[error("{doing} {path}")]
    File {
        /// What was tried.
        doing: &'static str,
        /// With which file.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: std::io::Error,
    },
    /// A snapshot of the chain is damaged: do what `way_on` says.
    #[error("{path} is damaged: {reason}; {way_on}")]
    Damaged {
        /// The snapshot.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
        /// What can be done.
        way_on: &'static str,
    },
    /// The log of the chain is damaged, and not by a torn last write: start with
    /// [`NodeConfig::repair`](crate::NodeConfig::repair) to go on from the block before the damage.
    #[error(
        "{path} is damaged at byte {byte}, after {records} good records: {reason}; \
         keep a copy of the directory, then start with repair to go on from the last good record"
    )]
    DamagedLog {
        /// The log.
        path: PathBuf,
        /// Where the damaged record begins.
        byte: u64,
        /// Good records before it.
        records: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// An address could not be listened on: choose another.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: std::net::SocketAddr,
        /// The system's reason.
        #[source]
        source: std::io::Error,
    },
    /// The machine itself failed.
    #[error("the local chain failed")]
    Machine(#[from] cocoon_localchain::Fault),
}
