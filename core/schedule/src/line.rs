//! The line in front of one model: fair between clients, in order within a client.

use std::collections::{HashMap, VecDeque};

use crate::{ClientId, Ticket, WorkerId};

/// What a waiting request asks for.
#[derive(Clone, Debug)]
pub(crate) struct Wish {
    pub(crate) ticket: Ticket,
    pub(crate) coefficient_max: u32,
    pub(crate) keys: bool,
    /// The only workers that it may go to; empty allows all.
    pub(crate) among: Box<[WorkerId]>,
}

impl Wish {
    /// Whether this worker, of this price and ability, may serve it.
    pub(crate) fn accepts(&self, worker: WorkerId, coefficient: u32, keys: bool) -> bool {
        let named = self.among.is_empty() || self.among.contains(&worker);
        named && coefficient <= self.coefficient_max && (keys || !self.keys)
    }
}

/// Requests that wait for a worker of one model.
#[derive(Default)]
pub(crate) struct Line {
    /// Clients with something waiting; the front one is served next.
    ring: VecDeque<ClientId>,
    wishes: HashMap<ClientId, VecDeque<Wish>>,
    len: usize,
}

impl Line {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn len_of(&self, client: ClientId) -> usize {
        self.wishes.get(&client).map_or(0, VecDeque::len)
    }

    /// Puts a request at the end of its client's line, or first of all when it was let down by a
    /// worker that died under it.
    pub(crate) fn push(&mut self, client: ClientId, wish: Wish, first: bool) {
        let waiting = self.wishes.entry(client).or_default();
        if first {
            waiting.push_front(wish);
            self.ring.retain(|other| *other != client);
            self.ring.push_front(client);
        } else {
            if waiting.is_empty() {
                self.ring.push_back(client);
            }
            waiting.push_back(wish);
        }
        self.len += 1;
    }

    /// Takes the next request that this worker, of this price and ability, may serve.
    ///
    /// Clients are asked in turn; within a client the oldest suitable request goes first, so one
    /// request with a low cap does not hold up those behind it.
    pub(crate) fn pop(&mut self, worker: WorkerId, coefficient: u32, keys: bool) -> Option<Ticket> {
        for turn in 0..self.ring.len() {
            let client = *self.ring.get(turn)?;
            let waiting = self.wishes.get_mut(&client)?;
            let Some(at) = waiting.iter().position(|wish| wish.accepts(worker, coefficient, keys))
            else {
                continue;
            };
            let wish = waiting.remove(at)?;
            let empty = waiting.is_empty();
            self.ring.remove(turn);
            if empty {
                self.wishes.remove(&client);
            } else {
                self.ring.push_back(client);
            }
            self.len -= 1;
            return Some(wish.ticket);
        }
        None
    }

    /// Takes one request out of the line; says whether it stood there.
    pub(crate) fn remove(&mut self, client: ClientId, ticket: Ticket) -> bool {
        let Some(waiting) = self.wishes.get_mut(&client) else {
            return false;
        };
        let Some(at) = waiting.iter().position(|wish| wish.ticket == ticket) else {
            return false;
        };
        waiting.remove(at);
        if waiting.is_empty() {
            self.wishes.remove(&client);
            self.ring.retain(|other| *other != client);
        }
        self.len -= 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(ticket: u64, cap: u32) -> Wish {
        Wish { ticket: Ticket(ticket), coefficient_max: cap, keys: false, among: Box::default() }
    }

    fn drain(line: &mut Line, coefficient: u32) -> Vec<u64> {
        std::iter::from_fn(|| line.pop(WorkerId(1), coefficient, true))
            .map(|ticket| ticket.0)
            .collect()
    }

    #[test]
    fn clients_take_turns() {
        let mut line = Line::default();
        for ticket in [11, 12, 13] {
            line.push(ClientId(1), wish(ticket, 10), false);
        }
        line.push(ClientId(2), wish(21, 10), false);
        line.push(ClientId(3), wish(31, 10), false);
        assert_eq!(drain(&mut line, 10), [11, 21, 31, 12, 13]);
        assert_eq!(line.len(), 0);
    }

    #[test]
    fn a_low_cap_waits_without_blocking_others() {
        let mut line = Line::default();
        line.push(ClientId(1), wish(1, 5), false);
        line.push(ClientId(1), wish(2, 10), false);
        assert_eq!(drain(&mut line, 10), [2]);
        assert_eq!(drain(&mut line, 5), [1]);
    }

    #[test]
    fn a_request_let_down_goes_first() {
        let mut line = Line::default();
        line.push(ClientId(1), wish(1, 10), false);
        line.push(ClientId(2), wish(2, 10), false);
        line.push(ClientId(2), wish(9, 10), true);
        assert_eq!(drain(&mut line, 10), [9, 1, 2]);
    }

    #[test]
    fn a_request_for_named_workers_waits_for_one_of_them() {
        let mut line = Line::default();
        line.push(ClientId(1), Wish { among: [WorkerId(2)].into(), ..wish(1, 9) }, false);
        line.push(ClientId(1), wish(2, 9), false);
        assert_eq!(line.pop(WorkerId(1), 0, true), Some(Ticket(2)));
        assert_eq!(line.pop(WorkerId(1), 0, true), None);
        assert_eq!(line.pop(WorkerId(2), 0, true), Some(Ticket(1)));
    }

    #[test]
    fn keys_are_respected_and_removal_forgets_the_client() {
        let mut line = Line::default();
        line.push(ClientId(1), Wish { keys: true, ..wish(1, 9) }, false);
        assert_eq!(line.pop(WorkerId(1), 0, false), None);
        assert!(line.remove(ClientId(1), Ticket(1)));
        assert!(!line.remove(ClientId(1), Ticket(1)));
        assert_eq!(
            (line.len(), line.len_of(ClientId(1)), line.pop(WorkerId(1), 0, true)),
            (0, 0, None)
        );
    }
}
