//! The queries that wait for the peer, by id and by deadline.

use std::collections::{BTreeMap, BTreeSet};

/// Queries without an answer yet. Ordered maps, so that two runs of the same history fail
/// queries in the same order.
#[derive(Debug, Default)]
pub(crate) struct OpenQueries {
    deadlines_ms: BTreeMap<i64, u64>,
    by_deadline: BTreeSet<(u64, i64)>,
}

impl OpenQueries {
    pub(crate) fn len(&self) -> usize {
        self.deadlines_ms.len()
    }

    pub(crate) fn contains(&self, id: i64) -> bool {
        self.deadlines_ms.contains_key(&id)
    }

    pub(crate) fn insert(&mut self, id: i64, deadline_ms: u64) {
        self.deadlines_ms.insert(id, deadline_ms);
        self.by_deadline.insert((deadline_ms, id));
    }

    /// Forgets the query; false if none with this id waits.
    pub(crate) fn remove(&mut self, id: i64) -> bool {
        let Some(deadline_ms) = self.deadlines_ms.remove(&id) else { return false };
        self.by_deadline.remove(&(deadline_ms, id));
        true
    }

    pub(crate) fn next_deadline_ms(&self) -> Option<u64> {
        self.by_deadline.first().map(|(deadline_ms, _)| *deadline_ms)
    }

    /// Takes one query whose deadline has passed at `now_ms`.
    pub(crate) fn pop_expired(&mut self, now_ms: u64) -> Option<i64> {
        let (deadline_ms, id) = *self.by_deadline.first()?;
        if deadline_ms > now_ms {
            return None;
        }
        self.remove(id);
        Some(id)
    }

    /// Takes any query, by ascending id.
    pub(crate) fn pop_any(&mut self) -> Option<i64> {
        let id = *self.deadlines_ms.first_key_value()?.0;
        self.remove(id);
        Some(id)
    }
}
