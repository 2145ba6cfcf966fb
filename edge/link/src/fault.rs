//! Why a connection did not come to be, and why a command was not taken.

use std::net::SocketAddr;
use std::time::Duration;

use cocoon_wire::{PeerInfoFault, SocksFault};
use thiserror::Error;

/// Why a connection did not become ready.
#[derive(Debug, Error)]
pub enum OpenFault {
    /// Nobody listens there, or the network is down. Dialling again may help.
    #[error("cannot connect to {target}: {source}")]
    Connect {
        /// Whom we dialled.
        target: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// The peer failed work, TLS, rules or policy.
    #[error(transparent)]
    Secure(#[from] cocoon_ratls::Fault),
    /// The router does not speak SOCKS as expected. Check the configured port.
    #[error("the router: {0}")]
    Socks(#[from] SocksFault),
    /// A router reaches only IPv4 addresses (protocol notes 2.9). Dial directly instead.
    #[error("{target} is no IPv4 address, a router reaches no other")]
    NotIpv4 {
        /// Whom we were to dial.
        target: SocketAddr,
    },
    /// What the router says about the peer cannot be read. Router and node must be of the
    /// same line, with the peer-info option on.
    #[error("the router's word about the peer: {0}")]
    PeerInfo(#[from] PeerInfoFault),
    /// The connection broke before it was ready. Dialling again may help.
    #[error("the connection broke during {stage}: {source}")]
    Broken {
        /// What was going on.
        stage: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// Nothing happened in time.
    #[error("{stage} was not over within {} ms", limit.as_millis())]
    TooSlow {
        /// What was going on.
        stage: &'static str,
        /// Time it was given.
        limit: Duration,
    },
    /// The peer broke the protocol, or closed, before its first frame was complete.
    #[error(transparent)]
    Session(#[from] cocoon_session::Fault),
}

/// Why a command was not taken; nothing was sent.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum SendFault {
    /// The connection is over. Its `Closed` event is on the way.
    #[error("the connection is closed")]
    Closed,
    /// The peer takes commands more slowly than they come. Hold back, or close it.
    #[error("the peer is stuck: {queued_commands} commands with {queued_bytes} bytes wait for it")]
    Stuck {
        /// Commands that wait.
        queued_commands: usize,
        /// Their bytes.
        queued_bytes: usize,
    },
    /// The object does not fit into one frame; fail the request.
    #[error("an object of {len} bytes does not fit into one frame")]
    TooLong {
        /// Its length in bytes.
        len: usize,
    },
}
