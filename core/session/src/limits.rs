//! The limits of one connection; every one of them ends in a typed fault or refusal.

use cocoon_wire::frame::{HEADER_BYTES, PAYLOAD_BYTES_MAX};

/// Times and sizes that bound a connection.
///
/// The defaults are the reference's timers (protocol notes 1.4) and sizes that hold the
/// largest frame in either direction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Milliseconds without a received frame after which the connection is closed.
    pub idle_ms: u64,
    /// Milliseconds without a received frame after which a ping is sent, once per silence;
    /// `None` never pings.
    pub ping_after_ms: Option<u64>,
    /// Milliseconds the peer has for its first frame.
    pub hello_ms: u64,
    /// Milliseconds output may wait without the peer taking a single byte.
    pub stall_ms: u64,
    /// Largest payload accepted from the peer, in bytes; at most [`PAYLOAD_BYTES_MAX`].
    pub received_payload_bytes_max: usize,
    /// Output that may wait for the peer, in bytes.
    pub output_bytes_max: usize,
    /// Queries that may wait for the peer's answer.
    pub queries_max: usize,
}

impl Limits {
    /// Limits of the side that dialled: closes after 20 s of silence, pings after 10 s.
    #[must_use]
    pub fn connecting() -> Self {
        Self { idle_ms: 20_000, ping_after_ms: Some(10_000), ..Self::accepting() }
    }

    /// Limits of the side that was dialled: closes after 60 s of silence, never pings.
    #[must_use]
    pub fn accepting() -> Self {
        Self {
            idle_ms: 60_000,
            ping_after_ms: None,
            // As long as a reference peer waits for our answer to its own first frame.
            hello_ms: 20_000,
            stall_ms: 20_000,
            received_payload_bytes_max: PAYLOAD_BYTES_MAX,
            // Two of the largest frames, so that one may be written while one waits.
            output_bytes_max: 2 * (HEADER_BYTES + PAYLOAD_BYTES_MAX),
            queries_max: 1_024,
        }
    }
}
