//! What can be wrong with a proxy's word.

use cocoon_ledger::Difference;
use cocoon_units::AddressFault;
use cocoon_wire::TlFault;
use thiserror::Error;

/// Why a connection to a proxy must be closed. The caller closes it and dials again later.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum ChannelFault {
    /// Peer: bytes that are no message of the protocol.
    #[error("proxy sent a malformed {what}: {fault}")]
    Malformed {
        /// Which message was expected.
        what: &'static str,
        /// What is wrong with it.
        fault: TlFault,
    },
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
