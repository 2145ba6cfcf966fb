//! What a connection is doing: shared by its stream, its answers and the crowd.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// Requests that a connection is working on, and whether it waits for its user.
#[derive(Clone, Debug, Default)]
pub struct Work(Arc<Activity>);

#[derive(Debug, Default)]
struct Activity {
    running: AtomicUsize,
    begun: AtomicUsize,
    asked: Notify,
    /// Orders events of all connections of a port.
    turn: Arc<AtomicU64>,
    /// When the last request ended, or the connection was made.
    last: AtomicU64,
    waits: Mutex<Waits>,
    given_up: Notify,
}

#[derive(Debug, Default)]
struct Waits {
    count: usize,
    since: Option<Instant>,
}

impl Work {
    /// A connection that was just made. `turn` counts up with every event at the port.
    pub(crate) fn begun_at(turn: &Arc<AtomicU64>) -> Work {
        let last = AtomicU64::new(turn.fetch_add(1, Ordering::Relaxed));
        Work(Arc::new(Activity { turn: Arc::clone(turn), last, ..Activity::default() }))
    }

    /// Counts one request until the guard is dropped.
    #[must_use]
    pub fn begin(&self) -> WorkGuard {
        self.0.running.fetch_add(1, Ordering::AcqRel);
        self.0.begun.fetch_add(1, Ordering::AcqRel);
        self.0.asked.notify_one();
        WorkGuard(self.0.clone())
    }

    /// Tells that the connection can go on only when its user sends or takes something, until the
    /// guard is dropped.
    #[must_use]
    pub fn wait_for_peer(&self) -> PeerWait {
        let mut waits = self.0.waits();
        waits.count += 1;
        waits.since.get_or_insert_with(Instant::now);
        PeerWait(self.0.clone())
    }

    /// Whether no request is under way.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.0.running.load(Ordering::Acquire) == 0
    }

    /// Waits until the first request has come. For one task at a time.
    pub async fn asked(&self) {
        while self.begun() == 0 {
            self.0.asked.notified().await;
        }
    }

    /// Requests so far.
    pub(crate) fn begun(&self) -> usize {
        self.0.begun.load(Ordering::Acquire)
    }

    /// Whether nobody but its user is kept waiting when the connection is closed: no request is under
    /// way, or its user has kept it waiting for `slow_after` at least.
    pub(crate) fn can_be_given_up(&self, slow_after: Duration) -> bool {
        let since = self.0.waits().since;
        since.map_or_else(|| self.is_idle(), |since| since.elapsed() >= slow_after)
    }

    /// Place of its last event among those of all connections of the port.
    pub(crate) fn last(&self) -> u64 {
        self.0.last.load(Ordering::Relaxed)
    }

    pub(crate) fn give_up(&self) {
        self.0.given_up.notify_one();
    }

    /// Waits until the connection is given up. For one task at a time.
    pub(crate) async fn given_up(&self) {
        self.0.given_up.notified().await;
    }
}

impl Activity {
    fn waits(&self) -> MutexGuard<'_, Waits> {
        self.waits.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Held by an answer until it is written or given up.
#[derive(Debug)]
pub struct WorkGuard(Arc<Activity>);

impl WorkGuard {
    /// The connection that works on it.
    #[must_use]
    pub fn work(&self) -> Work {
        Work(self.0.clone())
    }
}

impl Drop for WorkGuard {
    fn drop(&mut self) {
        let now = self.0.turn.fetch_add(1, Ordering::Relaxed);
        self.0.last.store(now, Ordering::Relaxed);
        self.0.running.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Held while a connection waits for its user.
#[derive(Debug)]
pub struct PeerWait(Arc<Activity>);

impl PeerWait {
    /// Tells that the user has done something worth the wait: its time begins anew.
    pub fn renew(&self) {
        self.0.waits().since = Some(Instant::now());
    }
}

impl Drop for PeerWait {
    fn drop(&mut self) {
        let mut waits = self.0.waits();
        waits.count = waits.count.saturating_sub(1);
        if waits.count == 0 {
            waits.since = None;
        }
    }
}
