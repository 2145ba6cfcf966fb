//! What can go wrong, by who is guilty, with the texts and codes peers get.

use cocoon_contract::Fault as ContractFault;
use cocoon_ledger::Fault as BooksFault;
use cocoon_units::PriceFault;
use thiserror::Error;

/// Codes of protocol notes 1.7.
pub mod code {
    /// No code was given.
    pub const NONE: i32 = 0;
    /// A failure on our side.
    pub const FAILURE: i32 = 601;
    /// An error that the peer can understand.
    pub const ERROR: i32 = 602;
    /// The peer broke the protocol.
    pub const PROTOCOL_VIOLATION: i32 = 621;
    /// Not ready to serve.
    pub const NOT_READY: i32 = 651;
    /// Out of time.
    pub const TIMEOUT: i32 = 652;
    /// Cancelled.
    pub const CANCELLED: i32 = 653;
}

/// Why a proxy cannot start or cannot take a root state in.
#[derive(Debug, Error)]
pub enum StartFault {
    /// Configuration: the root's prices make no sense; the network's owner must correct them.
    #[error("prices of the root cannot be used: {0}")]
    Prices(#[source] PriceFault),
    /// Configuration: addresses cannot be derived from the root's codes.
    #[error("addresses cannot be derived: {0}")]
    Address(#[source] ContractFault),
    /// Configuration: proxy and root disagree about test mode.
    #[error(
        "proxy has is_test = {ours}, the root has {theirs}: use a configuration for this network"
    )]
    TestMode {
        /// The proxy's.
        ours: bool,
        /// The root's.
        theirs: bool,
    },
    /// Environment: the journal does not fit. Keep the file and look at it with the tools.
    #[error("the journal does not replay: {0}")]
    Replay(#[source] BooksFault),
    /// Configuration: the books were written under later parameters than the root has.
    #[error(
        "the books are of params_version {books}, the root has {root}: is this the right root?"
    )]
    OlderRoot {
        /// Of the books.
        books: u32,
        /// Of the root.
        root: u32,
    },
}

/// An answer to a peer whose query or request is refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{code}: {text}")]
pub(crate) struct Refusal {
    pub(crate) code: i32,
    pub(crate) text: String,
    /// Whether the connection is closed behind the answer.
    pub(crate) close: bool,
}

impl Refusal {
    /// Ends the connection (protocol notes 3.2: a failed handshake query).
    pub(crate) fn closing(code: i32, text: impl Into<String>) -> Self {
        Self { code, text: text.into(), close: true }
    }

    /// Leaves the connection open (protocol notes 10.2 no. 3).
    pub(crate) fn open(code: i32, text: impl Into<String>) -> Self {
        Self { code, text: text.into(), close: false }
    }

    /// A query that is no object of its kind: the connection is closed.
    pub(crate) fn malformed(fault: &cocoon_wire::TlFault) -> Self {
        Self::closing(code::PROTOCOL_VIOLATION, format!("malformed query: {fault}"))
    }
}
