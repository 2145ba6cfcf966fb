//! What the mock saw.

use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What happened so far. `requests` is the sum of the next five once nothing runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Chat completions asked for.
    pub requests: u64,
    /// Answered to the end, streams and whole ones. Counted when the last byte goes to the
    /// system.
    pub completed: u64,
    /// The caller hung up before the end.
    pub cancelled: u64,
    /// Broken off or answered wrongly, as asked for.
    pub misbehaved: u64,
    /// Refused: no JSON.
    pub refused: u64,
    /// Running now.
    pub running: u64,
    /// Of the requests, those for a stream.
    pub streams: u64,
    /// Events sent, usage included.
    pub events: u64,
    /// Requests for the list of models and for the health page.
    pub probes: u64,
    /// Connections accepted.
    pub connections: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) requests: AtomicU64,
    pub(crate) completed: AtomicU64,
    pub(crate) cancelled: AtomicU64,
    pub(crate) misbehaved: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) streams: AtomicU64,
    pub(crate) events: AtomicU64,
    pub(crate) probes: AtomicU64,
    pub(crate) connections: AtomicU64,
}

/// Adds one. The counters are independent of each other, so no order between them is kept.
pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Counters {
    pub(crate) fn read(&self) -> Counts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        // Ends are read before beginnings, so that `running` never goes below zero.
        let completed = read(&self.completed);
        let cancelled = read(&self.cancelled);
        let misbehaved = read(&self.misbehaved);
        let refused = read(&self.refused);
        let requests = read(&self.requests);
        let ended = completed + cancelled + misbehaved + refused;
        Counts {
            requests,
            completed,
            cancelled,
            misbehaved,
            refused,
            running: requests.saturating_sub(ended),
            streams: read(&self.streams),
            events: read(&self.events),
            probes: read(&self.probes),
            connections: read(&self.connections),
        }
    }
}

/// One request from its arrival to its end. Dropped without an end, it was cancelled.
#[derive(Debug)]
pub(crate) struct Request {
    counters: Arc<Counters>,
    ended: bool,
}

impl Request {
    pub(crate) fn new(counters: &Arc<Counters>) -> Self {
        count(&counters.requests);
        Self { counters: Arc::clone(counters), ended: false }
    }

    pub(crate) fn counters(&self) -> &Counters {
        &self.counters
    }

    pub(crate) fn completed(&mut self) {
        self.ended = true;
        count(&self.counters.completed);
    }

    pub(crate) fn misbehaved(&mut self) {
        self.ended = true;
        count(&self.counters.misbehaved);
    }

    pub(crate) fn refused(&mut self) {
        self.ended = true;
        count(&self.counters.refused);
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        if !self.ended {
            count(&self.counters.cancelled);
        }
    }
}
