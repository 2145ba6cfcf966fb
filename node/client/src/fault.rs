//! Why a client node cannot run.

use cocoon_host::chain::{RootFault, WalletFault};
use cocoon_host::config::ConfigFault;
use cocoon_host::keys;
use thiserror::Error;

/// A client node that cannot run.
#[derive(Debug, Error)]
pub enum NetworkFault {
    /// The user's configuration.
    #[error(transparent)]
    Config(#[from] ConfigFault),
    /// Key files.
    #[error(transparent)]
    Key(#[from] keys::KeyFault),
    /// The journal.
    #[error("journal: {0}")]
    Journal(#[from] cocoon_journal::Fault),
    /// The node's own certificate.
    #[error("certificate: {0}")]
    Certificate(String),
    /// The root contract.
    #[error(transparent)]
    Root(#[from] RootFault),
    /// The node's wallet.
    #[error(transparent)]
    Wallet(#[from] WalletFault),
    /// The registry lists no proxy that can be reached.
    #[error("{0} lists no proxy with a readable address")]
    NoProxies(String),
    /// It was asked to end while it began.
    #[error("the connection was ended while it began")]
    Ended,
}
