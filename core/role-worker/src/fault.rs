//! What can go wrong with a proxy, by whose fault.

use cocoon_channel::ChannelFault;
use thiserror::Error;

/// Why a connection to a proxy must be closed. The caller closes it and dials again later.
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
