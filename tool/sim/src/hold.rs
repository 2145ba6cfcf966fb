//! Effects that wait for the disk, as the proxy's real hand holds them.

use std::collections::VecDeque;

use cocoon_role_proxy::Act;

/// Journal tickets not durable yet, and what waits for them.
#[derive(Default)]
pub(crate) struct Hold {
    tickets: VecDeque<(u64, u64)>,
    waiting: VecDeque<(u64, Act)>,
    written: u64,
    done: u64,
}

impl Hold {
    pub(crate) fn written(&mut self, ticket: u64, records: usize) {
        self.written += records as u64;
        self.tickets.push_back((ticket, self.written));
    }

    /// Gives the effect back when nothing is on its way to the disk; keeps it otherwise.
    pub(crate) fn pass(&mut self, act: Act) -> Option<Act> {
        match self.tickets.back() {
            None => Some(act),
            Some((ticket, _)) => {
                self.waiting.push_back((*ticket, act));
                None
            }
        }
    }

    /// A ticket is durable: how many records are on disk in all.
    pub(crate) fn durable(&mut self, ticket: u64) -> u64 {
        while let Some(&(first, written)) = self.tickets.front() {
            if first > ticket {
                break;
            }
            self.done = written;
            self.tickets.pop_front();
        }
        self.done
    }

    /// The next effect whose ticket is durable.
    pub(crate) fn next(&mut self, ticket: u64) -> Option<Act> {
        let (at, _) = self.waiting.front()?;
        if *at > ticket {
            return None;
        }
        self.waiting.pop_front().map(|(_, act)| act)
    }
}
