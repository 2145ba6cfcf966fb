//! The parts of an answer that one task adds and others read.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;

use crate::infer::join;

/// The parts so far. All of them are held until [`Parts::close`].
#[derive(Default)]
pub(super) struct Parts {
    held: Mutex<Held>,
    /// Wakes who waits in [`Parts::room`].
    read: Notify,
}

#[derive(Default)]
struct Held {
    parts: VecDeque<Bytes>,
    bytes: usize,
    /// Parts in front of these that nobody needs any more.
    gone: usize,
    /// How many parts each reader has taken.
    readers: BTreeMap<u64, usize>,
    serial: u64,
    /// Nobody comes any more who reads from the beginning.
    is_closed: bool,
}

impl Held {
    /// Drops what all readers had, once no others come.
    fn trim(&mut self) {
        let needed = self.readers.values().min().copied().unwrap_or(usize::MAX);
        while self.is_closed && self.gone < needed {
            let Some(part) = self.parts.pop_front() else { break };
            self.bytes = self.bytes.saturating_sub(part.len());
            self.gone += 1;
        }
    }
}

impl Parts {
    /// An answer that is whole.
    pub(super) fn of(body: Bytes) -> Parts {
        let parts = Parts::default();
        if !body.is_empty() {
            parts.add(body);
        }
        parts
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add(&self, part: Bytes) {
        let mut held = self.lock();
        held.bytes = held.bytes.saturating_add(part.len());
        held.parts.push_back(part);
    }

    /// All parts as one piece; to be asked before [`Parts::close`].
    pub(super) fn whole(&self) -> Bytes {
        let parts = self.lock().parts.iter().cloned().collect();
        join(parts)
    }

    /// Reads from the beginning; to be asked before [`Parts::close`].
    pub(super) fn reader(self: &Arc<Self>) -> Reader {
        let mut held = self.lock();
        held.serial += 1;
        let id = held.serial;
        held.readers.insert(id, 0);
        Reader { parts: self.clone(), id }
    }

    /// No reader comes any more: from now on what all of them had is dropped.
    pub(super) fn close(&self) {
        let mut held = self.lock();
        held.is_closed = true;
        held.trim();
    }

    /// Waits until at most so many bytes are held; false when nobody reads any more.
    pub(super) async fn room(&self, bytes_max: usize) -> bool {
        loop {
            {
                let held = self.lock();
                if held.readers.is_empty() {
                    return false;
                }
                if held.bytes <= bytes_max {
                    return true;
                }
            }
            self.read.notified().await;
        }
    }
}

/// One who reads all parts from the beginning.
pub(super) struct Reader {
    parts: Arc<Parts>,
    id: u64,
}

impl Reader {
    /// The next part, where it is there; the same one until it is [`Reader::taken`].
    pub(super) fn next(&self) -> Option<Bytes> {
        let held = self.parts.lock();
        let taken = held.readers.get(&self.id)?;
        held.parts.get(taken.checked_sub(held.gone)?).cloned()
    }

    /// The next part was passed on.
    pub(super) fn taken(&self) {
        let mut held = self.parts.lock();
        if let Some(taken) = held.readers.get_mut(&self.id) {
            *taken += 1;
        }
        held.trim();
        drop(held);
        self.parts.read.notify_one();
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut held = self.parts.lock();
        held.readers.remove(&self.id);
        held.trim();
        drop(held);
        self.parts.read.notify_one();
    }
}
