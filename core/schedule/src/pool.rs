//! What is offered and asked for one model.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::line::Line;
use crate::tree::{PriceTree, Score};
use crate::{ClientId, Ticket, WorkerId};

/// What a worker connection brings (protocol notes 3.3).
#[derive(Clone, Copy, Debug)]
pub struct Offer<'a> {
    /// Model key for clients: the part of the full name before `@`.
    pub model: &'a str,
    /// Price: 1000 means 1.0.
    pub coefficient: u32,
    /// Requests this connection may run at once, at least 1.
    pub running_max: u32,
    /// Whether requests that carry keys may go there (protocol version 3 and above).
    pub keys: bool,
    /// Whose worker it is: what was learned about speed and honesty outlives the connection.
    pub account: u64,
}

/// One request that wants a worker.
#[derive(Clone, Copy, Debug)]
pub struct Job<'a> {
    /// Name of the request, never reused.
    pub ticket: Ticket,
    /// Who shares a turn in the line.
    pub client: ClientId,
    /// Model key.
    pub model: &'a str,
    /// The client's price cap; 1000 means 1.0.
    pub coefficient_max: u32,
    /// Whether the worker must be able to take keys.
    pub keys: bool,
    /// The only workers that it may go to; empty allows all.
    pub among: &'a [WorkerId],
    /// When waiting ends.
    pub deadline_ms: u64,
    /// A request whose worker died under it: it goes before all others.
    pub first: bool,
}

/// One worker connection as clients may see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkerOffer {
    /// The connection.
    pub worker: WorkerId,
    /// Price: 1000 means 1.0.
    pub coefficient: u32,
    /// Requests running now.
    pub running: u32,
    /// Requests that may run at once.
    pub running_max: u32,
    /// Whether it takes requests (the worker's own word; cooling down does not show here).
    pub enabled: bool,
    /// Whether it is left out for a while because of failures or lies.
    pub cooling: bool,
    /// Share of failures among recent requests, in thousandths.
    pub failed_milli: u64,
}

/// All connections of one model, cheapest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelOffers {
    /// Model key.
    pub model: Arc<str>,
    /// Connections, cheapest first, then by id; empty when all have left.
    pub workers: Vec<WorkerOffer>,
    /// Requests waiting for this model.
    pub waiting: usize,
}

/// Everything about one model.
pub(crate) struct Pool {
    pub(crate) name: Arc<str>,
    /// All connections by price, disabled ones too.
    pub(crate) members: BTreeSet<(u32, WorkerId)>,
    /// Connections that take requests, busy or not, by price.
    enabled: Ranks<BTreeSet<(u32, WorkerId)>>,
    /// Connections that can take a request now.
    free: Ranks<PriceTree>,
    /// Requests that the connections that take some may run at once.
    pub(crate) slots: u64,
    /// Nobody may wait before this: a request was refused for want of room not long ago.
    pub(crate) full_until_ms: u64,
    pub(crate) line: Line,
}

/// One set for everybody and one for those that can take keys.
#[derive(Default)]
struct Ranks<T> {
    all: T,
    keyed: T,
}

impl<T> Ranks<T> {
    fn of(&self, keys: bool) -> &T {
        if keys { &self.keyed } else { &self.all }
    }

    fn each(&mut self, keyed: bool, mut act: impl FnMut(&mut T)) {
        act(&mut self.all);
        if keyed {
            act(&mut self.keyed);
        }
    }
}

impl Pool {
    pub(crate) fn new(name: &str) -> Self {
        Self {
            name: Arc::from(name),
            members: BTreeSet::new(),
            enabled: Ranks::default(),
            free: Ranks::default(),
            slots: 0,
            full_until_ms: 0,
            line: Line::default(),
        }
    }

    /// Nobody offers it and nobody waits for it.
    pub(crate) fn is_unused(&self) -> bool {
        self.members.is_empty() && self.line.len() == 0
    }

    pub(crate) fn set_enabled(&mut self, at: (u32, WorkerId), keyed: bool, enabled: bool) {
        self.enabled.each(keyed, |set| {
            if enabled {
                set.insert(at);
            } else {
                set.remove(&at);
            }
        });
    }

    pub(crate) fn add_free(&mut self, at: (u32, WorkerId), keyed: bool, score: Score) {
        self.free.each(keyed, |tree| tree.insert(at.0, at.1, score));
    }

    pub(crate) fn remove_free(&mut self, at: (u32, WorkerId), keyed: bool) {
        self.free.each(keyed, |tree| {
            tree.remove(at.0, at.1);
        });
    }

    /// The free worker with the least expected wait within the cap.
    pub(crate) fn best(&self, keys: bool, coefficient_max: u32) -> Option<WorkerId> {
        self.free.of(keys).best_up_to(coefficient_max)
    }

    /// Coefficient of the cheapest connection that takes requests, busy or not.
    pub(crate) fn cheapest(&self, keys: bool) -> Option<u32> {
        self.enabled.of(keys).first().map(|(coefficient, _)| *coefficient)
    }
}
