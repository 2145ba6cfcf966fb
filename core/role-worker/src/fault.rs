//! What can go wrong with a proxy, by whose fault.

use cocoon_ledger::Difference;
use cocoon_units::AddressFault;
use cocoon_wire::TlFault;
use thiserror::Error;

/// Why a connection to a proxy must be closed. The caller closes it and dials again later.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum Fault {
    /// Peer: bytes that are no message of the protocol.
    #[error("proxy sent a malformed {what}: {fault}")]
    Malformed {
        /// Which message was expected.
        what: &'static str,
        /// What is wrong with it.
        fault: TlFault,
    },
    /// Peer: refused a step of the handshake, with its own words.
    #[error("proxy refused {step}: {code} {message}")]
    Refused {
        /// Which step.
        step: &'static str,
        /// Its code (protocol notes, wire 1.7).
        code: i32,
        /// Its text, sanitised.
        message: String,
    },
    /// Peer: an answer to nothing we asked.
    #[error("proxy answered query {0}, which is not open")]
    UnexpectedAnswer(i64),
    /// Peer: says it is something it cannot be.
    #[error("proxy states {what} {stated}, expected {expected}")]
    Identity {
        /// Which property.
        what: &'static str,
        /// What it says.
        stated: String,
        /// What must be.
        expected: String,
    },
    /// Peer: an address that is none.
    #[error("proxy states a malformed address: {0}")]
    Address(#[from] AddressFault),
    /// Peer: speaks none of our protocol versions.
    #[error("proxy chose protocol version {0}")]
    Version(i32),
    /// Peer: its evidence is not in the root contract.
    #[error("proxy image {0} is not in the root contract")]
    ProxyImage(String),
    /// Peer: its books contradict what it told us before.
    #[error("proxy's books do not fit ours: {0}")]
    Books(#[from] Difference),
    /// Peer: a payment that is not signed for us by this proxy.
    #[error("proxy's signed payment is not valid: {0}")]
    Payment(String),
    /// Configuration: addresses cannot be derived from the network's parameters.
    #[error("contract addresses cannot be derived: {0}")]
    Derive(String),
}

/// Why a query is not run. The caller answers the proxy with it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{message}")]
pub struct Reject {
    /// Code of protocol notes, wire 1.7.
    pub code: i32,
    /// Text for the user behind the client.
    pub message: String,
}

impl Reject {
    /// The worker runs as many queries as it announced.
    #[must_use]
    pub fn busy() -> Self {
        Self { code: 602, message: "too many active queries".into() }
    }

    /// The time the proxy granted is over.
    #[must_use]
    pub fn timeout() -> Self {
        Self { code: 652, message: "worker: timeout".into() }
    }

    /// The model server failed before its answer began.
    #[must_use]
    pub fn backend(reason: &str) -> Self {
        Self { code: 602, message: format!("worker: http failed: {reason}") }
    }

    pub(crate) fn request(reason: impl std::fmt::Display) -> Self {
        Self { code: 621, message: format!("worker: invalid http request: {reason}") }
    }
}
