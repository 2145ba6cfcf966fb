//! What the engine tells its owner while it starts and runs.

use std::net::SocketAddr;

use crate::preset::Sha256;

/// One step in the life of an engine, in the order in which they come.
///
/// Progress events come often; an observer should only store or print them.
#[derive(Clone, Debug, PartialEq)]
pub enum EngineEvent {
    /// The socket is bound. Requests are answered with 503 until [`EngineEvent::Ready`].
    Listening {
        /// The address with the real port.
        addr: SocketAddr,
    },
    /// The model file is being hashed.
    Hashing {
        /// Bytes hashed.
        done_bytes: u64,
        /// Bytes of the file.
        total_bytes: u64,
    },
    /// The hash was right (or none was asked for) and the weights are being loaded.
    Loading {
        /// From 0 to 1.
        fraction: f32,
    },
    /// Requests are served from now on.
    Ready {
        /// Where.
        addr: SocketAddr,
        /// The hash of the model file that is served.
        sha256: Sha256,
        /// Context of one sequence in tokens, after the model's own limit.
        context_tokens: u32,
    },
    /// The shutdown signal was seen: no new connection is accepted.
    Stopping,
}
