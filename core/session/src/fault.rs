//! Why a connection ends, and why a command is refused.

use cocoon_wire::{FrameFault, TlFault};
use thiserror::Error;

/// Why a connection is over. The hand closes the socket; dialling again is its decision.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Fault {
    /// The peer announced a payload longer than it may send at this point: its first packet
    /// has 12 bytes, and our own limit may lie below the protocol's.
    #[error("the peer announced a payload of {announced} bytes, {limit} are accepted now")]
    PayloadLength {
        /// Bytes announced.
        announced: u32,
        /// Our limit.
        limit: usize,
    },
    /// The peer's frames break the protocol: length or sequence.
    #[error(transparent)]
    Frame(#[from] FrameFault),
    /// A frame of the peer is no packet of the protocol.
    #[error("the peer sent a frame that is no packet: {0}")]
    Packet(#[from] TlFault),
    /// The peer's first packet is not the one that opens a connection.
    #[error("the peer's first packet is not {expected}")]
    Hello {
        /// The packet that was due.
        expected: &'static str,
    },
    /// The peer sent no first frame in time.
    #[error("the peer sent no first frame within {limit_ms} ms")]
    NoHello {
        /// Our limit.
        limit_ms: u64,
    },
    /// The peer has been silent for too long.
    #[error("the peer sent no frame for {limit_ms} ms")]
    Silent {
        /// Our limit.
        limit_ms: u64,
    },
    /// The peer takes no bytes, or fewer than its own requests cause.
    #[error("the peer does not read: {queued} bytes wait for it")]
    SlowReader {
        /// Bytes that wait.
        queued: usize,
    },
    /// The peer closed the connection.
    #[error("the peer closed the connection")]
    PeerClosed,
    /// The attested handshake failed, as the hand told us.
    #[error("the attested handshake failed: {0}")]
    Attestation(String),
    /// The socket failed, as the hand told us.
    #[error("the connection failed: {0}")]
    Socket(String),
    /// We closed it ourselves.
    #[error("we closed the connection")]
    Local,
}

impl Fault {
    /// Whether the peer broke the protocol, so that a counter of bad peers should rise.
    #[must_use]
    pub fn is_violation(&self) -> bool {
        match self {
            Self::PayloadLength { .. } | Self::Frame(_) | Self::Packet(_) | Self::Hello { .. } => {
                true
            }
            Self::NoHello { .. }
            | Self::Silent { .. }
            | Self::SlowReader { .. }
            | Self::PeerClosed
            | Self::Attestation(_)
            | Self::Socket(_)
            | Self::Local => false,
        }
    }
}

/// Why a command had no effect. The connection goes on as before.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Refusal {
    /// The connection is over; dial again or give up.
    #[error("the connection is closed")]
    Closed,
    /// The peer has not answered our first frame; wait for the connection to be ready.
    #[error("the connection is not ready")]
    NotReady,
    /// The object does not fit into one frame; split it or fail the request.
    #[error("a payload of {len} bytes exceeds the {limit} of one frame")]
    TooLong {
        /// Bytes of the packet.
        len: usize,
        /// Bytes of the largest packet.
        limit: usize,
    },
    /// The peer reads slower than we write; hold back, or close.
    #[error("{queued} bytes wait for the peer, {limit} may")]
    OutputFull {
        /// Bytes that wait.
        queued: usize,
        /// Our limit.
        limit: usize,
    },
    /// Too many queries wait for the peer; hold back.
    #[error("{limit} queries wait for the peer")]
    TooManyQueries {
        /// Our limit.
        limit: usize,
    },
    /// A query with this id waits already; draw another id.
    #[error("a query with the id {id} waits already")]
    QueryIdInUse {
        /// The id.
        id: i64,
    },
}
