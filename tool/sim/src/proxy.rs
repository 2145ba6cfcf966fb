//! A proxy's process: the real machine, and a hand that does what the real hand does.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use cocoon_contract::root::RootState;
use cocoon_ledger::{Books, Record};
use cocoon_role_proxy::{
    Act, ChainMode, ChainOrder, Command, ConnId, Identity, Note, Now, Outbox, Proxy, Settings, Side,
};
use cocoon_session::{Encoded, Event as Heard};
use cocoon_units::{Address, Nanoton};
use ed25519_dalek::SigningKey;

use crate::chance::Chance;
use crate::contracts::{Purse, wallet_address};
use crate::hold::Hold;
use crate::mutant::Mutant;
use crate::net::PROXY;
use crate::node::Base;
use crate::plan::{NodeId, Point};
use crate::world::World;

/// A proxy.
pub(crate) struct ProxyNode {
    pub(crate) base: Base,
    pub(crate) machine: Option<Box<Proxy>>,
    out: Outbox,
    hold: Hold,
    pub(crate) root: Arc<RootState>,
    /// What the disk must hold: the machine's records up to the last sync.
    pub(crate) shadow: Books,
    /// Records written and not known to be durable, by ticket.
    unsynced: VecDeque<(u64, Vec<Record>)>,
    /// Orders on their way to the chain; forgotten by a crash.
    pub(crate) orders: BTreeMap<u64, ChainOrder>,
    /// Every message that carried a payment to a peer, for a proxy that sends old ones again.
    pub(crate) said: BTreeMap<u64, Vec<bytes::Bytes>>,
}

/// Who a proxy is.
pub(crate) fn identity(p: u8) -> Identity {
    Identity {
        owner: Address::new(0, [1; 32]),
        root: Address::new(0, [0; 32]),
        wallet: wallet_address(Purse::Proxy(p)),
        key: SigningKey::from_bytes(&[0x10 + p; 32]),
        is_test: true,
        is_testnet: false,
    }
}

fn settings(real_chain: bool) -> Settings {
    let mut pool = Settings::default().pool;
    // Few slots and many requests at once: here they wait, which is where things can go wrong.
    pool.waiting_per_slot_milli = u32::MAX;
    Settings {
        pool,
        chain: if real_chain { ChainMode::Real } else { ChainMode::Pseudo },
        check_hashes: false,
        payout_min: Nanoton(1_000_000_000),
        ..Settings::default()
    }
}

impl ProxyNode {
    pub(crate) fn new(root: Arc<RootState>) -> Self {
        Self {
            base: Base::default(),
            machine: None,
            out: Outbox::new(),
            hold: Hold::default(),
            root,
            shadow: Books::new(),
            unsynced: VecDeque::new(),
            orders: BTreeMap::new(),
            said: BTreeMap::new(),
        }
    }

    /// `params_version` that the process works with.
    pub(crate) fn epoch(&self) -> u32 {
        self.root.network.params.params_version
    }
}

fn encode(records: &[Record]) -> Vec<Vec<u8>> {
    let encode = |record: &Record| {
        let mut bytes = Vec::new();
        record.encode(&mut bytes);
        bytes
    };
    records.iter().map(encode).collect()
}

impl World {
    fn proxy_now(&mut self, p: u8) -> Now {
        let unix_us = self.wall_ms(NodeId::Proxy(p)).saturating_mul(1_000);
        Now { ms: self.now_ms, unix_us }
    }

    /// Starts the process from what its disk holds.
    pub(crate) fn start_proxy(&mut self, p: u8) {
        let root = Arc::clone(&self.root);
        let Some(node) = self.proxies.get_mut(usize::from(p)) else { return };
        if self.mutant == Some(Mutant::OldJournal) && node.base.life > 0 {
            node.base.disk.restore_old_copy();
        }
        let bytes = node.base.disk.recover(self.mutant == Some(Mutant::RecoveryDropsFrame));
        let history: Result<Vec<Record>, _> =
            bytes.iter().map(|bytes| Record::decode(bytes)).collect();
        let history = match history {
            Ok(history) => history,
            Err(fault) => return self.fail("recovery", format!("proxy {p}: {fault}")),
        };
        node.root = root;
        let life = if self.mutant == Some(Mutant::SameSeed) { 0 } else { node.base.life };
        let seed = Chance::of(self.plan.seed, "process", u64::from(p) * 1_000 + life).bytes();
        self.check_recovery(p, &history);
        let Some(node) = self.proxies.get_mut(usize::from(p)) else { return };
        let settings = settings(self.plan.real_chain);
        let opened = Proxy::open(identity(p), settings, Arc::clone(&node.root), history, seed);
        let machine = match opened {
            Ok(machine) => machine,
            Err(fault) => return self.fail("recovery", format!("proxy {p}: {fault}")),
        };
        let snapshot = machine.snapshot();
        // As the real journal: the process starts when its snapshot is durable.
        let ticket = node.base.disk.snapshot(&encode(&snapshot));
        node.base.disk.synced(ticket);
        let mut shadow = Books::new();
        for record in &snapshot {
            let _ = shadow.apply(record);
        }
        shadow.made_durable();
        node.shadow = shadow;
        node.machine = Some(Box::new(machine));
        (node.out, node.hold) = (Outbox::new(), Hold::default());
        node.base.up = true;
        self.note(NodeId::Proxy(p), "starts", life, snapshot.len() as u64);
        let now = self.proxy_now(p);
        self.with_machine(p, |machine, out| machine.begin(now, out));
        self.proxy_reads_chain(p);
        self.tick_soon(NodeId::Proxy(p));
    }

    /// Gives the machine an input, then does what it wants done.
    pub(crate) fn with_machine(&mut self, p: u8, input: impl FnOnce(&mut Proxy, &mut Outbox)) {
        if self.dies_at(NodeId::Proxy(p), Point::Input) {
            return;
        }
        let Some(node) = self.proxies.get_mut(usize::from(p)) else { return };
        let Some(machine) = node.machine.as_mut() else { return };
        input(machine, &mut node.out);
        if let Err(broken) = machine.books().check() {
            let text = format!("proxy {p}: {broken}");
            return self.fail("rules of the books", text);
        }
        self.perform(p);
    }

    /// Records first, then effects in order.
    fn perform(&mut self, p: u8) {
        loop {
            let Some(node) = self.proxies.get_mut(usize::from(p)) else { return };
            if node.machine.is_none() || node.out.records.is_empty() && node.out.effects.is_empty()
            {
                return;
            }
            if !node.out.records.is_empty() {
                self.write_records(p);
                if self.dies_at(NodeId::Proxy(p), Point::Written) {
                    return;
                }
            }
            let Some(node) = self.proxies.get_mut(usize::from(p)) else { return };
            for effect in std::mem::take(&mut node.out.effects) {
                if self.dies_at(NodeId::Proxy(p), Point::Effect) {
                    return;
                }
                let waits = effect.after_durable && !self.lets_go(&effect.act);
                let Some(node) = self.proxies.get_mut(usize::from(p)) else { return };
                let act = if waits { node.hold.pass(effect.act) } else { Some(effect.act) };
                if let Some(act) = act {
                    self.act(p, act);
                }
            }
        }
    }

    /// Planted faults that let effects go before their records are durable.
    fn lets_go(&self, act: &Act) -> bool {
        match self.mutant {
            Some(Mutant::EffectsDoNotWait) => true,
            Some(Mutant::StatementsDoNotWait) => matches!(act, Act::Answer { .. }),
            _ => false,
        }
    }

    fn write_records(&mut self, p: u8) {
        let Some(node) = self.proxies.get_mut(usize::from(p)) else { return };
        let records = std::mem::take(&mut node.out.records);
        let mut bytes = encode(&records);
        match self.mutant {
            Some(Mutant::FinishTwice) => {
                let twice = records.iter().filter(|r| matches!(r, Record::Finished { .. }));
                bytes.extend(encode(&twice.cloned().collect::<Vec<_>>()));
            }
            Some(mutant) => {
                let kept = records.iter().filter(|record| !forgotten(mutant, record));
                bytes = encode(&kept.cloned().collect::<Vec<_>>());
            }
            None => {}
        }
        let ticket = node.base.disk.append(&bytes);
        node.hold.written(ticket, records.len());
        let epoch = node.machine.as_ref().and_then(|machine| machine.books().epoch());
        node.unsynced.push_back((ticket, records.clone()));
        for record in &records {
            self.truth_written(p, epoch.unwrap_or(0), record);
        }
        if self.mutant == Some(Mutant::DurableWhenWritten) {
            let Some(node) = self.proxies.get_mut(usize::from(p)) else { return };
            let count = node.hold.durable(ticket);
            let now = self.proxy_now(p);
            let Some(node) = self.proxies.get_mut(usize::from(p)) else { return };
            if let Some(machine) = &mut node.machine {
                machine.durable(count, now, &mut node.out);
            }
        }
        self.sync_soon(NodeId::Proxy(p));
    }

    /// The disk has everything up to this ticket.
    pub(crate) fn proxy_synced(&mut self, p: u8, ticket: u64) {
        let now = self.proxy_now(p);
        let Some(node) = self.proxies.get_mut(usize::from(p)) else { return };
        let Some(machine) = node.machine.as_mut() else { return };
        machine.set_stalled(false);
        let records = node.hold.durable(ticket);
        machine.durable(records, now, &mut node.out);
        let mut released: VecDeque<Act> = VecDeque::new();
        while let Some(act) = node.hold.next(ticket) {
            if self.mutant == Some(Mutant::HeldBackwards) {
                released.push_front(act);
            } else {
                released.push_back(act);
            }
        }
        for act in released {
            if self.dies_at(NodeId::Proxy(p), Point::Released) {
                return;
            }
            self.act(p, act);
        }
        self.perform(p);
        self.check_live_books(p);
    }

    /// The disk is full, or takes writes again.
    pub(crate) fn proxy_stalls(&mut self, p: u8, stalled: bool) {
        let node = self.proxies.get_mut(usize::from(p));
        if let Some(machine) = node.and_then(|node| node.machine.as_mut()) {
            machine.set_stalled(stalled);
            self.note(NodeId::Proxy(p), "stalls", u64::from(stalled), 0);
        }
    }

    /// Takes what is durable now into the books of the truth.
    pub(crate) fn proxy_records_durable(&mut self, p: u8, ticket: u64) {
        let Some(node) = self.proxies.get_mut(usize::from(p)) else { return };
        let mut durable = Vec::new();
        while node.unsynced.front().is_some_and(|(at, _)| *at <= ticket) {
            if let Some((_, records)) = node.unsynced.pop_front() {
                durable.extend(records);
            }
        }
        for record in durable {
            let Some(node) = self.proxies.get_mut(usize::from(p)) else { return };
            if let Err(fault) = node.shadow.apply(&record) {
                let text = format!("proxy {p}: {fault}");
                return self.fail("replay of the journal", text);
            }
            let epoch = node.shadow.epoch().unwrap_or(0);
            self.truth_durable(p, epoch, &record);
        }
        if let Some(node) = self.proxies.get_mut(usize::from(p)) {
            node.shadow.made_durable();
        }
    }

    pub(crate) fn proxy_died(&mut self, p: u8, survived: Option<u64>) {
        if let Some(ticket) = survived {
            self.proxy_records_durable(p, ticket);
        }
        let Some(node) = self.proxies.get_mut(usize::from(p)) else { return };
        node.unsynced.clear();
        node.machine = None;
        node.orders.clear();
        (node.out, node.hold) = (Outbox::new(), Hold::default());
    }

    pub(crate) fn proxy_hears(&mut self, p: u8, id: u64, event: Heard) {
        let now = self.proxy_now(p);
        let Some(peer) = self.links.get(&id).map(|link| link.peer) else {
            if matches!(event, Heard::Closed(_)) && self.mutant != Some(Mutant::CloseUntold) {
                self.with_machine(p, |machine, out| machine.closed(ConnId(id), now, out));
            }
            return;
        };
        let conn = ConnId(id);
        match event {
            Heard::Ready { .. } => {
                let side = match peer {
                    NodeId::Worker(_) => Side::Workers,
                    _ => Side::Clients,
                };
                self.with_machine(p, |machine, out| machine.opened(conn, side, None, now, out));
            }
            Heard::Message(data) => {
                let conn = self.conn_of_answer(p, conn, &data);
                self.with_machine(p, |machine, out| machine.message(conn, &data, now, out));
            }
            Heard::Query { id, data } => {
                self.with_machine(p, |machine, out| machine.query(conn, id, &data, now, out));
            }
            Heard::Answer { id, data } => {
                self.with_machine(p, |machine, out| machine.answered(conn, id, &data, now, out));
            }
            Heard::QueryFailed { id, code, message } => {
                self.with_machine(p, |machine, out| {
                    machine.query_failed(conn, id, code, &message, out);
                });
            }
            Heard::Closed(_) if self.mutant == Some(Mutant::CloseUntold) => {}
            Heard::Closed(_) => {
                self.with_machine(p, |machine, out| machine.closed(conn, now, out));
            }
        }
    }

    pub(crate) fn tick_proxy(&mut self, p: u8) {
        let now = self.proxy_now(p);
        if self.mutant != Some(Mutant::NoTicks) {
            self.with_machine(p, |machine, out| machine.tick(now, out));
        }
        self.resend_orders(p);
    }

    /// Replaces the journal by a snapshot. What waits in the outbox must be written before.
    pub(crate) fn snapshot_proxy(&mut self, p: u8) {
        if self.mutant == Some(Mutant::SnapshotTooEarly) {
            let now = self.proxy_now(p);
            self.snapshot_before_writing(p, now);
            return;
        }
        let Some(node) = self.proxies.get_mut(usize::from(p)) else { return };
        let Some(machine) = &node.machine else { return };
        let mut records = machine.snapshot();
        if self.mutant == Some(Mutant::SnapshotLosesLine) {
            records.pop();
        }
        node.base.disk.snapshot(&encode(&records));
        self.sync_soon(NodeId::Proxy(p));
    }

    fn snapshot_before_writing(&mut self, p: u8, now: Now) {
        let Some(node) = self.proxies.get_mut(usize::from(p)) else { return };
        let Some(machine) = node.machine.as_mut() else { return };
        machine.command(0, Command::Commit, now, &mut node.out);
        let records = encode(&machine.snapshot());
        node.base.disk.snapshot(&records);
        self.perform(p);
    }

    /// Does one thing.
    fn act(&mut self, p: u8, act: Act) {
        let now_ms = self.now_ms;
        let act = self.resign(p, act);
        self.judge(p, &act);
        let act = self.spoil(p, act);
        match act {
            Act::Send { conn, data } => self.send(conn.0, PROXY, &data),
            Act::Answer { conn, query, data } => {
                self.on_link(conn, |link| link.answer(query, &Encoded(&data), now_ms).is_ok());
            }
            Act::AnswerError { conn, query, code, text } => {
                self.on_link(conn, |link| link.answer_error(query, code, &text, now_ms).is_ok());
            }
            Act::Ask { conn, query, data, timeout_ms } => {
                self.on_link(conn, |link| {
                    link.query(query, &Encoded(&data), timeout_ms, now_ms).is_ok()
                });
            }
            Act::Close { .. } if self.mutant == Some(Mutant::CloseIgnored) => {}
            Act::Close { conn, .. } => {
                let id = conn.0;
                self.note(NodeId::Proxy(p), "closes", id, 0);
                if let Some(link) = self.links.get_mut(&id)
                    && link.ends[PROXY].open
                {
                    link.ends[PROXY].conn.close();
                    self.pump(id, PROXY);
                    self.shut(id, PROXY);
                }
            }
            Act::Chain(order) => self.order(p, order),
            Act::Note(note) => self.proxy_notes(p, &note),
            Act::Admin { .. } => {}
        }
    }

    fn on_link(
        &mut self,
        conn: ConnId,
        send: impl FnOnce(&mut cocoon_session::Connection) -> bool,
    ) {
        if let Some(link) = self.links.get_mut(&conn.0)
            && link.ends[PROXY].open
        {
            send(&mut link.ends[PROXY].conn);
            self.pump(conn.0, PROXY);
        }
    }

    fn proxy_notes(&mut self, p: u8, note: &Note) {
        let node = NodeId::Proxy(p);
        match note {
            Note::PeerFault { conn, text } => {
                let link = self.links.get(&conn.0);
                let honest = link.is_some_and(|link| !link.spoilt && !self.plan.lies(link.peer));
                let late = text.contains("handshake took too long");
                let listed = text.contains("no longer lists");
                if honest && !late && !listed && !self.is_known_refusal(text) {
                    let text = format!("proxy {p}, connection {}: {text}", conn.0);
                    self.fail("an honest peer was thrown out", text);
                }
                self.note(node, "throws out", conn.0, 0);
            }
            Note::Stopped { text } => {
                let text = format!("proxy {p}: {text}");
                self.fail("the proxy stopped serving", text);
            }
            Note::BooksRefused { text } => {
                let text = format!("proxy {p}: {text}");
                self.fail("the books refused", text);
            }
            Note::Committed { seqno } => self.note(node, "committed", u64::from(*seqno), 0),
            Note::ClientReady { conn, .. } => self.note(node, "client ready", conn.0, 0),
            Note::WorkerReady { conn, .. } => self.note(node, "worker ready", conn.0, 0),
            Note::WorkerLost { conn, .. } => self.note(node, "worker lost", conn.0, 0),
            Note::ClaimCapped { booked, .. } => self.note(node, "claim capped", booked.0, 0),
        }
    }

    /// Refusals of a handshake that are part of ordinary life.
    fn is_known_refusal(&self, text: &str) -> bool {
        const KNOWN: [&str; 7] = [
            "proxy is starting",
            "proxy is disabled",
            "not participating",
            "active config version is too low",
            "client is closing",
            "proxy is shutting down",
            "cannot write its journal",
        ];
        KNOWN.iter().any(|known| text.contains(known))
    }
}

fn forgotten(mutant: Mutant, record: &Record) -> bool {
    match mutant {
        Mutant::FinishForgotten => matches!(record, Record::Finished { .. }),
        Mutant::AccountForgotten => {
            matches!(record, Record::ClientSeen { .. } | Record::WorkerSeen { .. })
        }
        Mutant::ConfirmForgotten => matches!(record, Record::CommitConfirmed { .. }),
        _ => false,
    }
}
