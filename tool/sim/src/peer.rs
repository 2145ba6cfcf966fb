//! What clients and workers have in common: own books, and a journal of them.

use std::collections::{BTreeMap, VecDeque};

use cocoon_channel::{ChannelRecord, Channels};
use cocoon_contract::payment::PaymentKind;
use cocoon_units::{Address, Tokens};

use crate::mutant::Mutant;
use crate::plan::NodeId;
use crate::world::World;

/// Totals of one channel: own count, signed, durable, max.
pub(crate) type Totals = [u64; 4];

/// A peer's books, and what the simulator knows about them.
pub(crate) struct PeerBooks {
    kind: PaymentKind,
    pub(crate) channels: Channels,
    /// Totals that are on disk.
    floor: BTreeMap<Address, Totals>,
    /// Totals at the time of each write that is not durable.
    unsynced: VecDeque<(u64, BTreeMap<Address, Totals>)>,
    /// What the own count must be: everything that was counted, less what a crash took.
    pub(crate) expected: BTreeMap<Address, u64>,
}

impl PeerBooks {
    pub(crate) fn new(kind: PaymentKind) -> Self {
        Self {
            kind,
            channels: Channels::new(kind),
            floor: BTreeMap::new(),
            unsynced: VecDeque::new(),
            expected: BTreeMap::new(),
        }
    }

    pub(crate) fn totals(&self) -> BTreeMap<Address, Totals> {
        let totals = |books: &cocoon_ledger::OwnBooks| {
            [books.own(), books.signed(), books.durable(), books.max()].map(|tokens| tokens.0)
        };
        self.channels.channels().map(|(proxy, c)| (*proxy, totals(&c.books))).collect()
    }
}

impl World {
    pub(crate) fn peer_books(&mut self, node: NodeId) -> Option<&mut PeerBooks> {
        match node {
            NodeId::Client(c) => self.clients.get_mut(usize::from(c)).map(|node| &mut node.books),
            NodeId::Worker(w) => self.workers.get_mut(usize::from(w)).map(|node| &mut node.books),
            _ => None,
        }
    }

    /// Writes a peer's records, and checks that nothing it was told ever falls.
    pub(crate) fn peer_writes(&mut self, node: NodeId, records: &[ChannelRecord]) {
        if records.is_empty() {
            return;
        }
        let mutant = self.mutant;
        let forgotten = |record: &ChannelRecord| match mutant {
            Some(Mutant::ClientForgets) => matches!(record, ChannelRecord::Finished { .. }),
            Some(Mutant::WorkerForgets) => matches!(record, ChannelRecord::Stated { .. }),
            _ => false,
        };
        let kept: Vec<Vec<u8>> =
            records.iter().filter(|record| !forgotten(record)).map(ChannelRecord::encode).collect();
        let Some(base) = self.base(node) else { return };
        let ticket = base.disk.append(&kept);
        let Some(books) = self.peer_books(node) else { return };
        for record in records {
            let proxy = |hash: &[u8; 32]| Address::new(0, *hash);
            match record {
                ChannelRecord::Finished { proxy: hash, tokens } => {
                    *books.expected.entry(proxy(hash)).or_default() += tokens;
                }
                ChannelRecord::WrittenOff { proxy: hash, total } => {
                    let own = books.expected.entry(proxy(hash)).or_default();
                    *own = (*own).min(*total);
                }
                ChannelRecord::Pinned { .. } | ChannelRecord::Stated { .. } => {}
            }
        }
        let totals = books.totals();
        books.unsynced.push_back((ticket, totals));
        self.sync_soon(node);
    }

    pub(crate) fn peer_synced(&mut self, node: NodeId, ticket: u64) {
        let Some(books) = self.peer_books(node) else { return };
        while books.unsynced.front().is_some_and(|(at, _)| *at <= ticket) {
            if let Some((_, totals)) = books.unsynced.pop_front() {
                books.floor = totals;
            }
        }
    }

    pub(crate) fn peer_died(&mut self, node: NodeId, survived: Option<u64>) {
        if let Some(ticket) = survived {
            self.peer_synced(node, ticket);
        }
        if let Some(books) = self.peer_books(node) {
            books.unsynced.clear();
        }
        match node {
            NodeId::Client(c) => self.client_died(c),
            NodeId::Worker(w) => self.worker_died(w),
            _ => {}
        }
    }

    /// Reads a peer's journal back and compares it with what was on disk.
    pub(crate) fn peer_recovers(&mut self, node: NodeId) {
        let Some(base) = self.base(node) else { return };
        let records = base.disk.recover(false);
        let Some(books) = self.peer_books(node) else { return };
        let mut channels = Channels::new(books.kind);
        for record in records.iter().filter_map(|bytes| ChannelRecord::decode(bytes)) {
            channels.apply(&record);
        }
        books.channels = channels;
        let (found, floor) = (books.totals(), books.floor.clone());
        for (proxy, known) in &floor {
            let now = found.get(proxy).copied().unwrap_or_default();
            if now.iter().zip(known).any(|(now, known)| now < known) {
                let text = format!("{node} had {known:?} on disk, recovered {now:?}");
                return self.fail("recovery of a peer's books", text);
            }
        }
        books.expected = found.iter().map(|(proxy, totals)| (*proxy, totals[0])).collect();
        books.floor = found;
        let mut snapshot = vec![b"sim".to_vec()];
        snapshot.extend(books.channels.snapshot().iter().map(ChannelRecord::encode));
        let Some(base) = self.base(node) else { return };
        let ticket = base.disk.snapshot(&snapshot);
        base.disk.synced(ticket);
    }

    /// Replaces a peer's journal by a snapshot.
    pub(crate) fn snapshot_peer(&mut self, node: NodeId) {
        if !self.is_up(node) {
            return;
        }
        let Some(books) = self.peer_books(node) else { return };
        let records: Vec<Vec<u8>> =
            books.channels.snapshot().iter().map(ChannelRecord::encode).collect();
        let totals = books.totals();
        let Some(base) = self.base(node) else { return };
        let ticket = base.disk.snapshot(&records);
        if let Some(books) = self.peer_books(node) {
            books.unsynced.push_back((ticket, totals));
        }
        self.sync_soon(node);
    }

    /// Own count of a channel by the simulator's reckoning against the peer's own.
    pub(crate) fn check_own_count(&mut self, node: NodeId) {
        let Some(books) = self.peer_books(node) else { return };
        for (proxy, totals) in books.totals() {
            let expected = books.expected.get(&proxy).copied().unwrap_or(0);
            if expected != totals[0] {
                let text = format!("{node} counts {} itself, {expected} were used", totals[0]);
                return self.fail("own count", text);
            }
        }
    }

    /// Books a request by the peer's own count.
    pub(crate) fn peer_finished(&mut self, node: NodeId, proxy: Address, tokens: Tokens) {
        let Some(books) = self.peer_books(node) else { return };
        let record = books.channels.finished(proxy, tokens);
        self.peer_writes(node, record.as_slice());
    }
}
