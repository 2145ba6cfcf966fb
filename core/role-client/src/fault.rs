//! What can go wrong with a proxy, by whose fault.

use cocoon_channel::ChannelFault;
use thiserror::Error;

/// Why a connection to a proxy must be closed. The caller fails the requests on it and dials
/// again later.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum Fault {
    /// What the proxy says is wrong in itself or does not fit what we know.
    #[error(transparent)]
    Channel(#[from] ChannelFault),
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
    /// Configuration: one side is in test mode, the other is not.
    #[error("proxy is not in the same mode: our is_test is {own}")]
    TestMode {
        /// Our side's mode.
        own: bool,
    },
    /// Peer: speaks none of our protocol versions.
    #[error("proxy chose protocol version {0}")]
    Version(i32),
    /// Peer: its evidence is not in the root contract.
    #[error("proxy image {0} is not in the root contract")]
    ProxyImage(String),
}

/// Why a request ended without an answer, or in the middle of one.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{message}")]
pub struct Refused {
    /// Code of protocol notes, wire 1.7.
    pub code: i32,
    /// The words of the proxy or the worker, sanitised. Never content of the request.
    pub message: String,
}
