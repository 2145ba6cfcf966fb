//! A journal on a disk that may lose what was not synced, and tear the last write.

use std::collections::VecDeque;

use crate::chance::Chance;

/// Bytes before the payload of a frame: length and checksum.
const FRAME_HEAD: usize = 8;

/// One node's journal: a file of frames, each a group of records.
///
/// As the real one it never reports a frame before it is durable, reports in order, and replaces
/// the file by a snapshot without a moment in which neither is there.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    /// What survives every crash.
    durable: Vec<u8>,
    /// Written and not durable, oldest first.
    queue: VecDeque<Write>,
    next_ticket: u64,
    /// What was durable some time ago: an old copy somebody may put back.
    old_copy: Vec<u8>,
}

#[derive(Clone, Debug)]
struct Write {
    ticket: u64,
    frame: Vec<u8>,
    /// A snapshot takes the place of everything before it.
    replaces: bool,
}

impl Disk {
    /// Queues records; the ticket comes back from [`Disk::synced`].
    pub fn append(&mut self, records: &[Vec<u8>]) -> u64 {
        self.push(records, false)
    }

    /// Queues a snapshot that replaces everything before it.
    pub fn snapshot(&mut self, records: &[Vec<u8>]) -> u64 {
        self.push(records, true)
    }

    fn push(&mut self, records: &[Vec<u8>], replaces: bool) -> u64 {
        self.next_ticket += 1;
        self.queue.push_back(Write { ticket: self.next_ticket, frame: frame(records), replaces });
        self.next_ticket
    }

    /// Whether a sync has something to do.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Ticket of the newest write; a sync that starts now covers it.
    #[must_use]
    pub const fn newest(&self) -> u64 {
        self.next_ticket
    }

    /// A sync of everything up to a ticket has ended.
    pub fn synced(&mut self, ticket: u64) {
        while self.queue.front().is_some_and(|write| write.ticket <= ticket) {
            let Some(write) = self.queue.pop_front() else { break };
            if write.replaces {
                self.old_copy = std::mem::take(&mut self.durable);
            }
            self.durable.extend_from_slice(&write.frame);
        }
    }

    /// The power goes: whole writes that were under way survive by chance, then one of them may
    /// be torn anywhere. Returns the ticket of the last write that survived whole, if any did.
    pub fn crash(&mut self, chance: &mut Chance) -> Option<u64> {
        let mut survived = None;
        while let Some(write) = self.queue.pop_front() {
            if chance.percent(30) {
                if write.replaces {
                    self.durable.clear();
                }
                self.durable.extend_from_slice(&write.frame);
                survived = Some(write.ticket);
                continue;
            }
            if !write.replaces {
                let torn = chance.index(write.frame.len());
                self.durable.extend_from_slice(write.frame.get(..torn).unwrap_or_default());
                if let Some(last) = self.durable.last_mut()
                    && torn > 0
                    && chance.percent(50)
                {
                    *last ^= 0x5a;
                }
            }
            break;
        }
        self.queue.clear();
        survived
    }

    /// Loses the newest durable bytes, as no disk may.
    pub fn lose(&mut self, bytes: usize) {
        let kept = self.durable.len().saturating_sub(bytes);
        self.durable.truncate(kept);
    }

    /// Puts an older state of the file back.
    pub fn restore_old_copy(&mut self) {
        if !self.old_copy.is_empty() {
            self.durable = self.old_copy.clone();
        }
    }

    /// Reads the records of every whole frame and cuts the torn rest off.
    pub fn recover(&mut self, drop_last: bool) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        let mut rest = self.durable.as_slice();
        while let Some((payload, after)) = whole_frame(rest) {
            frames.push(payload.to_vec());
            rest = after;
        }
        let torn = rest.len();
        self.durable.truncate(self.durable.len() - torn);
        if drop_last && frames.len() > 1 {
            frames.pop();
        }
        frames.iter().flat_map(|payload| records_of(payload)).collect()
    }

    /// Bytes that recovery reads.
    #[must_use]
    pub fn len(&self) -> usize {
        self.durable.len()
    }

    /// Whether nothing was ever made durable.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.durable.is_empty()
    }
}

fn frame(records: &[Vec<u8>]) -> Vec<u8> {
    let mut payload = Vec::new();
    for record in records {
        payload.extend_from_slice(&(record.len() as u32).to_le_bytes());
        payload.extend_from_slice(record);
    }
    let mut frame = Vec::with_capacity(payload.len() + FRAME_HEAD);
    frame.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    frame.extend_from_slice(&crc32fast::hash(&payload).to_le_bytes());
    frame.extend_from_slice(&payload);
    frame
}

fn whole_frame(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (checksum, rest) = rest.split_first_chunk::<4>()?;
    let (payload, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    (crc32fast::hash(payload) == u32::from_le_bytes(*checksum)).then_some((payload, rest))
}

fn records_of(mut payload: &[u8]) -> Vec<Vec<u8>> {
    let mut records = Vec::new();
    while let Some((length, rest)) = payload.split_first_chunk::<4>() {
        let Some((record, rest)) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)
        else {
            break;
        };
        records.push(record.to_vec());
        payload = rest;
    }
    records
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_synced_survives_and_the_rest_is_a_prefix() {
        for seed in 0..200 {
            let mut chance = Chance::of(seed, "disk", 0);
            let mut disk = Disk::default();
            let record = |n: u8| vec![n; 1 + usize::from(n)];
            for n in 0..5 {
                disk.append(&[record(n)]);
            }
            disk.synced(3);
            disk.crash(&mut chance);
            let found = disk.recover(false);
            assert!(found.len() >= 3, "durable frames were lost");
            for (n, bytes) in (0u8..).zip(&found) {
                assert_eq!(*bytes, record(n));
            }
        }
    }
}
