//! Effects that wait for the disk.

use std::collections::VecDeque;

use cocoon_role_proxy::{Act, ConnId};

/// So many effects may wait before those are looked for that nobody needs any more.
const SWEEP_MIN: usize = 1_024;

/// Journal tickets not durable yet, and what waits for them.
#[derive(Default)]
pub(crate) struct Hold {
    /// Ticket, and how many records were written up to it.
    tickets: VecDeque<(u64, u64)>,
    waiting: VecDeque<(u64, Act)>,
    written: u64,
    /// What waited after the last look for effects that nobody needs any more.
    swept: usize,
}

impl Hold {
    /// Records went to the journal under this ticket.
    pub(crate) fn written(&mut self, ticket: u64, records: usize) {
        self.written += records as u64;
        self.tickets.push_back((ticket, self.written));
    }

    /// Gives the effect back when nothing is on its way to the disk; keeps it otherwise, at most
    /// until its connection is gone. `is_here` says whether a connection still is.
    pub(crate) fn pass(&mut self, act: Act, is_here: impl Fn(ConnId) -> bool) -> Option<Act> {
        let Some((ticket, _)) = self.tickets.back() else { return Some(act) };
        if self.waiting.is_empty() {
            self.swept = 0;
        }
        self.waiting.push_back((*ticket, act));
        // The disk may stand still for hours while peers come and go.
        if self.waiting.len() >= SWEEP_MIN.max(2 * self.swept) {
            self.waiting.retain(|(_, act)| act.conn().is_none_or(&is_here));
            self.swept = self.waiting.len();
        }
        None
    }

    /// A ticket is durable: how many records are on disk in all.
    pub(crate) fn durable(&mut self, ticket: u64) -> u64 {
        let mut records = self.written;
        while let Some(&(first, written)) = self.tickets.front() {
            if first > ticket {
                break;
            }
            records = written;
            self.tickets.pop_front();
        }
        records
    }

    /// The next effect whose ticket is durable.
    pub(crate) fn next(&mut self, ticket: u64) -> Option<Act> {
        let (at, _) = self.waiting.front()?;
        if *at > ticket {
            return None;
        }
        self.waiting.pop_front().map(|(_, act)| act)
    }

    /// How many effects wait.
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether nothing is on its way to the disk.
    pub(crate) fn is_empty(&self) -> bool {
        self.tickets.is_empty() && self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(conn: u64) -> Act {
        Act::Close { conn: ConnId(conn), why: String::new() }
    }

    fn here(_: ConnId) -> bool {
        true
    }

    fn conn(act: Option<Act>) -> Option<u64> {
        match act {
            Some(Act::Close { conn, .. }) => Some(conn.0),
            _ => None,
        }
    }

    #[test]
    fn effects_wait_for_the_last_ticket_before_them() {
        let mut hold = Hold::default();
        assert_eq!(conn(hold.pass(close(1), here)), Some(1));
        hold.written(1, 3);
        assert_eq!(conn(hold.pass(close(2), here)), None);
        hold.written(2, 1);
        assert_eq!(conn(hold.pass(close(3), here)), None);
        assert_eq!(hold.durable(1), 3);
        assert_eq!((conn(hold.next(1)), conn(hold.next(1))), (Some(2), None));
        assert_eq!(hold.durable(2), 4);
        assert_eq!((conn(hold.next(2)), hold.is_empty()), (Some(3), true));
        assert_eq!(conn(hold.pass(close(4), here)), Some(4));
    }

    #[test]
    fn one_commit_may_cover_several_tickets() {
        let mut hold = Hold::default();
        hold.written(1, 1);
        hold.pass(close(1), here);
        hold.written(2, 1);
        hold.pass(close(2), here);
        assert_eq!(hold.durable(2), 2);
        assert_eq!((conn(hold.next(2)), conn(hold.next(2))), (Some(1), Some(2)));
        assert_eq!(hold.len(), 0);
    }

    #[test]
    fn what_is_for_peers_that_are_gone_does_not_pile_up_while_the_disk_stands_still() {
        let mut hold = Hold::default();
        hold.written(1, 1);
        let note = || Act::Admin { command: 1, result: Ok(String::new()) };
        hold.pass(note(), here);
        for number in 1..=100_000 {
            // Each is gone when the next one comes, but for the first.
            hold.pass(close(number), |conn| conn.0 == number || conn.0 == 1);
        }
        assert!(hold.len() <= SWEEP_MIN, "{} are held", hold.len());
        hold.durable(1);
        assert!(matches!(hold.next(1), Some(Act::Admin { .. })), "for no peer: kept");
        assert_eq!(conn(hold.next(1)), Some(1), "still here: kept, in order");
    }
}
