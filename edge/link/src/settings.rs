//! Limits of connections and of listening ports.

use std::time::Duration;

use cocoon_session::Limits;

/// What all connections of one node share.
#[derive(Clone, Debug)]
pub struct LinkSettings {
    /// Limits of connections we dialled.
    pub dialled: Limits,
    /// Limits of connections we accepted.
    pub accepted: Limits,
    /// Commands that may wait for one peer.
    pub queued_commands_max: usize,
    /// Bytes of commands that may wait for one peer, besides one unfinished frame.
    pub queued_bytes_max: usize,
    /// Output in the session above which commands stay in their queue, in bytes.
    pub output_bytes_high: usize,
    /// Time for a router's answers and its peer-info blob after accepting.
    pub peer_info_deadline: Duration,
    /// Time for a TCP connection to come to be.
    pub connect_deadline: Duration,
    /// Time for a router to connect, do the peer's work and shake hands.
    pub router_deadline: Duration,
    /// Time to write out what waits when we close.
    pub linger: Duration,
    /// Pauses between attempts to dial.
    pub backoff: BackoffSettings,
}

impl Default for LinkSettings {
    fn default() -> Self {
        Self {
            dialled: Limits::connecting(),
            accepted: Limits { hello_ms: 10_000, ..Limits::accepting() },
            // A burst of a thousand streams' parts; bytes are bounded beside it.
            queued_commands_max: 65_536,
            // Two of the largest frames.
            queued_bytes_max: 32 << 20,
            output_bytes_high: 256 << 10,
            peer_info_deadline: Duration::from_secs(10),
            connect_deadline: Duration::from_secs(10),
            router_deadline: cocoon_ratls::DIAL_DEADLINE,
            linger: Duration::from_secs(2),
            backoff: BackoffSettings::default(),
        }
    }
}

/// Pauses between attempts: `first`, growing by half each time up to `max`, each shortened
/// by up to half at random so that many nodes do not dial in step.
#[derive(Clone, Debug)]
pub struct BackoffSettings {
    /// Longest first pause.
    pub first: Duration,
    /// Longest pause at all.
    pub max: Duration,
    /// A connection that lived this long starts from `first` again.
    pub stable_after: Duration,
}

impl Default for BackoffSettings {
    fn default() -> Self {
        Self {
            first: Duration::from_millis(100),
            max: Duration::from_secs(10),
            stable_after: Duration::from_secs(5),
        }
    }
}

/// Limits of one listening port.
#[derive(Clone, Debug)]
pub struct PortLimits {
    /// Connections open at once.
    pub connections_max: usize,
    /// Connections open at once from one address (IPv6: one /64).
    pub connections_per_address_max: usize,
    /// Handshakes at once.
    pub handshakes_max: usize,
    /// Handshakes at once from one address (IPv6: one /64).
    pub handshakes_per_address_max: usize,
}

impl PortLimits {
    /// For a port that the world reaches. A connection holds a few KiB while idle; a
    /// handshake costs about half a millisecond of one core.
    #[must_use]
    pub fn public() -> Self {
        Self {
            connections_max: 16_384,
            connections_per_address_max: 256,
            handshakes_max: 1_024,
            handshakes_per_address_max: 64,
        }
    }

    /// For a port that only this machine reaches, where all peers share one address.
    #[must_use]
    pub fn local() -> Self {
        Self {
            connections_max: 16_384,
            connections_per_address_max: 16_384,
            handshakes_max: 16_384,
            handshakes_per_address_max: 16_384,
        }
    }
}
