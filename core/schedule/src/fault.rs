//! What can go wrong, by who has to act.

use thiserror::Error;

/// Why a request gets no worker and does not wait either.
///
/// The first four mirror rows 7 to 10 of the admission table (protocol notes 3.6); the caller
/// answers the client with the text given there. The last two are ours: the client should come
/// back later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// No worker with this model has ever connected.
    #[error("no worker has ever offered this model")]
    UnknownModel,
    /// The model was seen, but no connection offers it now.
    #[error("no worker offers this model now")]
    NoConnections,
    /// Connections exist, none of them is enabled (or can take keys, when the request needs that).
    #[error("no worker with this model is ready")]
    NoneReady,
    /// Every ready worker costs more than the cap.
    #[error("every ready worker is above the price cap, the cheapest asks {cheapest}")]
    TooExpensive {
        /// Coefficient of the cheapest ready worker; 1000 means 1.0.
        cheapest: u32,
    },
    /// The line of this model is full, or the request has no time to wait.
    #[error("all workers are busy and {waiting} requests wait already")]
    Busy {
        /// How many requests wait for this model.
        waiting: usize,
    },
    /// This client has as many requests waiting as it may have.
    #[error("this client has {waiting} requests waiting already")]
    ClientBusy {
        /// How many requests of this client wait for this model.
        waiting: usize,
    },
}

/// Why a worker connection is not taken into the pool. The caller closes the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum JoinFault {
    /// The id is in the pool already: a mistake of the caller.
    #[error("worker connection {0} is in the pool already")]
    Twice(u64),
    /// As many workers as the limits allow are connected.
    #[error("the pool holds {0} worker connections, which is its limit; raise it or add a proxy")]
    WorkersFull(usize),
    /// As many models as the limits allow are in use.
    #[error("the pool holds {0} models in use, which is its limit; raise it or add a proxy")]
    ModelsFull(usize),
    /// A worker that may run nothing cannot be scheduled.
    #[error("a worker must be able to run at least one request")]
    NoSlots,
}
