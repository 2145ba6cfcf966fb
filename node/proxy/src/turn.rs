//! The loop: inputs to the machine, records to the journal, effects to the links.

mod chain;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cocoon_contract::root::RootState;
use cocoon_host::key_feed::KeyFeed;
use cocoon_host::peers::Presence;
use cocoon_host::{Books, BooksEvent, Stop};
use cocoon_link::{Event, LinkEvent, LinkHandle, Links, Opened, Origin, SendFault, Tag};
use cocoon_role_proxy::{Act, ConnId, Note, Now, Outbox, Proxy, Side};
use cocoon_units::ImageHash;
use tokio::sync::{mpsc, oneshot};

use crate::chain::ChainSide;
use crate::desk::{Question, Whole};
use crate::fault::RunFault;
use crate::hold::Hold;
use crate::rates::Rates;

/// The port of workers.
pub(crate) const WORKERS: Tag = Tag(1);
/// The port of clients.
pub(crate) const CLIENTS: Tag = Tag(2);
/// Events taken in one turn; their records share one write.
const EVENTS_PER_TURN: usize = 256;
/// Longest pause between two ticks.
const TICK: Duration = Duration::from_secs(1);
/// Ticks between two checks of every rule of the books.
const CHECK_EVERY_TICKS: u64 = 600;
/// Longest wait, once nothing runs, for clients that were told of the end to hang up.
const GOODBYE_MAX: Duration = Duration::from_secs(1);
/// Longest pause between two looks while draining.
const DRAIN_LOOK: Duration = Duration::from_millis(50);

/// The node's state: the machine and its hands.
// house: one field per hand.
pub(crate) struct Turn {
    pub(crate) machine: Proxy,
    pub(crate) books: Books,
    pub(crate) links: Links,
    pub(crate) root: Arc<RootState>,
    chain: Option<ChainSide>,
    peers: HashMap<ConnId, LinkHandle>,
    pub(crate) keys: KeyFeed,
    /// Judges those who come; nothing before the ports are open.
    pub(crate) presence: Option<Presence>,
    hold: Hold,
    out: Outbox,
    rates: Rates,
    ticks: u64,
    ticked_ms: u64,
    commands: HashMap<u64, oneshot::Sender<Result<String, String>>>,
    next_command: u64,
    started: Instant,
    unix_start_us: u64,
    journal_bytes_max: u64,
}

/// The end, once it was asked for.
struct Draining {
    began: Instant,
    /// After this what still runs is cut off.
    most: Duration,
}

impl Turn {
    /// `journal_bytes_max`: see [`Books::wants_snapshot`].
    pub(crate) fn new(
        machine: Proxy,
        books: Books,
        links: Links,
        root: Arc<RootState>,
        chain: Option<ChainSide>,
        journal_bytes_max: u64,
    ) -> Self {
        Self {
            machine,
            books,
            links,
            root,
            chain,
            peers: HashMap::new(),
            keys: KeyFeed::default(),
            presence: None,
            hold: Hold::default(),
            out: Outbox::new(),
            rates: Rates::default(),
            ticks: 0,
            ticked_ms: 0,
            commands: HashMap::new(),
            next_command: 0,
            started: Instant::now(),
            unix_start_us: unix_us(),
            journal_bytes_max,
        }
    }

    /// Commits this session. Without a chain that takes two writes to disk, and peers can be
    /// served when this returns; with one, peers are told to wait until the commit is seen there.
    ///
    /// # Errors
    /// [`RunFault`]: the journal cannot be written.
    pub(crate) async fn begin(
        &mut self,
        disk: &mut mpsc::UnboundedReceiver<BooksEvent>,
    ) -> Result<(), RunFault> {
        let now = self.now();
        self.machine.begin(now, &mut self.out);
        self.perform()?;
        if self.chain.is_some() {
            self.follow_contract();
            return Ok(());
        }
        while !self.machine.is_serving() {
            let event = disk.recv().await;
            self.journal_event(event)?;
            self.perform()?;
        }
        Ok(())
    }

    /// Runs until the node is asked to stop and what ran has ended, or `drain` is over.
    ///
    /// # Errors
    /// [`RunFault`]: the journal or the books are gone; the process must end.
    pub(crate) async fn run(
        &mut self,
        mut events: mpsc::Receiver<LinkEvent>,
        mut disk: mpsc::UnboundedReceiver<BooksEvent>,
        mut questions: mpsc::Receiver<Question>,
        stop: Stop,
        drain: Duration,
    ) -> Result<(), RunFault> {
        let mut batch = Vec::with_capacity(EVENTS_PER_TURN);
        let mut end: Option<Draining> = None;
        loop {
            let wake = self.next_wake().min(if end.is_some() { DRAIN_LOOK } else { TICK });
            tokio::select! {
                taken = events.recv_many(&mut batch, EVENTS_PER_TURN) => {
                    if taken == 0 {
                        return Ok(());
                    }
                    for event in batch.drain(..) {
                        self.link_event(event);
                    }
                }
                event = disk.recv() => self.journal_event(event)?,
                Some(question) = questions.recv() => self.question(question),
                heard = chain::next(&mut self.chain) => self.heard(heard),
                held = self.keys.changed() => {
                    let keys = held.iter().map(|(public, (private, _))| (*public, private.clone()));
                    self.machine.set_keys(keys);
                }
                () = tokio::time::sleep(wake) => self.tick()?,
                () = stop.asked(), if end.is_none() => {
                    tracing::info!("draining");
                    self.machine.drain(&mut self.out);
                    end = Some(Draining { began: Instant::now(), most: drain });
                }
            }
            self.perform()?;
            // Under load the pause above never ends by itself.
            if self.is_due() {
                self.tick()?;
                self.perform()?;
            }
            if end.as_ref().is_some_and(|end| self.is_over(end)) {
                return Ok(());
            }
        }
    }

    fn is_over(&self, end: &Draining) -> bool {
        let idle = self.machine.is_idle() && self.hold.is_empty();
        let took = end.began.elapsed();
        if !idle && took >= end.most {
            tracing::warn!(held = self.hold.len(), "drain time is over, ending what runs");
            return true;
        }
        idle && (took >= GOODBYE_MAX || !self.machine.awaits_goodbye())
    }

    fn is_due(&self) -> bool {
        let now_ms = self.now().ms;
        let due = self.machine.next_tick_ms().is_some_and(|at_ms| at_ms <= now_ms);
        due || now_ms.saturating_sub(self.ticked_ms) >= 1_000
    }

    fn next_wake(&self) -> Duration {
        let now_ms = self.now().ms;
        self.machine.next_tick_ms().map_or(TICK, |at_ms| {
            // Never a busy loop, whatever the machine says.
            Duration::from_millis(at_ms.saturating_sub(now_ms).max(1)).min(TICK)
        })
    }

    fn now(&self) -> Now {
        let elapsed = self.started.elapsed();
        let elapsed_us = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
        Now {
            ms: elapsed_us / 1_000,
            // Steady between starts, so that no answer ends before it began.
            unix_us: self.unix_start_us.saturating_add(elapsed_us),
        }
    }

    fn link_event(&mut self, LinkEvent { conn, event }: LinkEvent) {
        let (now, conn) = (self.now(), ConnId(conn.0));
        let out = &mut self.out;
        match event {
            Event::Opened(opened) => self.opened(conn, opened, now),
            Event::Attested(verdicts) => {
                tracing::debug!(conn = conn.0, fresh = verdicts.is_fresh(), "peer attested");
            }
            Event::Message(data) => self.machine.message(conn, &data.0, now, out),
            Event::Query { id, data } => self.machine.query(conn, id, &data, now, out),
            Event::Answer { id, data } => self.machine.answered(conn, id, &data, now, out),
            Event::QueryFailed { id, code, message } => {
                self.machine.query_failed(conn, id, code, &message, out);
            }
            Event::Closed(fault) => {
                tracing::debug!(conn = conn.0, %fault, "connection closed");
                self.peers.remove(&conn);
                self.machine.closed(conn, now, out);
            }
            Event::DialFailed { .. } => {}
        }
    }

    fn opened(&mut self, conn: ConnId, opened: Opened, now: Now) {
        let side = match opened.origin {
            Origin::Accepted(WORKERS) => Side::Workers,
            _ => Side::Clients,
        };
        tracing::debug!(conn = conn.0, remote = %opened.remote, ?side, "connection opened");
        let image = opened.identity.image_hash.map(ImageHash);
        self.peers.insert(conn, opened.link);
        self.machine.opened(conn, side, image, now, &mut self.out);
    }

    fn journal_event(&mut self, event: Option<BooksEvent>) -> Result<(), RunFault> {
        match event {
            Some(BooksEvent::Durable(ticket)) => {
                self.machine.set_stalled(false);
                let records = self.hold.durable(ticket);
                let now = self.now();
                self.machine.durable(records, now, &mut self.out);
                while let Some(act) = self.hold.next(ticket) {
                    self.act(act);
                }
                Ok(())
            }
            Some(BooksEvent::Stalled(fault)) => {
                tracing::error!(%fault, "the journal cannot be written; nothing new is admitted");
                self.machine.set_stalled(true);
                Ok(())
            }
            Some(BooksEvent::Failed(fault)) => Err(fault.into()),
            None => Err(cocoon_journal::Fault::Stopped.into()),
        }
    }

    fn tick(&mut self) -> Result<(), RunFault> {
        let now = self.now();
        self.machine.tick(now, &mut self.out);
        self.chain_tick();
        self.rates.advance(self.machine.counts(), now.ms);
        self.ticked_ms = now.ms;
        self.ticks += 1;
        if self.ticks.is_multiple_of(CHECK_EVERY_TICKS) {
            self.machine.books().check()?;
        }
        if self.books.wants_snapshot(self.journal_bytes_max) {
            // The snapshot holds what the outbox's records say: they must stand before it.
            self.perform()?;
            self.books.snapshot(encode(&self.machine.snapshot()))?;
        }
        Ok(())
    }

    fn question(&mut self, question: Question) {
        let now = self.now();
        match question {
            Question::Status(reply) => {
                self.rates.advance(self.machine.counts(), now.ms);
                let whole = Whole {
                    status: self.machine.status(now),
                    rates: self.rates,
                    links: self.links.counters(),
                    held: self.hold.len(),
                    journal_bytes: self.books.segment_len(),
                    root: Arc::clone(&self.root),
                    chain: self.chain.as_ref().map(ChainSide::whole),
                    uptime_ms: now.ms,
                };
                // A page that was closed meanwhile no longer listens.
                let _ = reply.send(Box::new(whole));
            }
            Question::Command(command, reply) => {
                self.next_command += 1;
                self.commands.insert(self.next_command, reply);
                self.machine.command(self.next_command, command, now, &mut self.out);
            }
            Question::Chain(command, reply) => self.chain_command(command, reply),
        }
    }

    /// Does what the outbox says: records first, then effects in order.
    fn perform(&mut self) -> Result<(), RunFault> {
        // Closing a stuck peer may leave more to do.
        while !self.out.records.is_empty() || !self.out.effects.is_empty() {
            if !self.out.records.is_empty() {
                let records = encode(&self.out.records);
                let count = records.len();
                let ticket = self.books.append(records)?;
                self.hold.written(ticket, count);
                self.out.records.clear();
            }
            let mut effects = std::mem::take(&mut self.out.effects);
            for effect in effects.drain(..) {
                let act = if effect.after_durable {
                    self.hold.pass(effect.act, |conn| self.peers.contains_key(&conn))
                } else {
                    Some(effect.act)
                };
                if let Some(act) = act {
                    self.act(act);
                }
            }
            if self.out.effects.is_empty() {
                // The memory is used again.
                self.out.effects = effects;
            }
        }
        Ok(())
    }

    fn act(&mut self, act: Act) {
        match act {
            Act::Send { conn, data } => self.with_link(conn, |link| link.message(data)),
            Act::Answer { conn, query, data } => {
                self.with_link(conn, |link| link.answer(query, data));
            }
            Act::AnswerError { conn, query, code, text } => {
                self.with_link(conn, |link| link.answer_error(query, code, text));
            }
            Act::Ask { conn, query, data, timeout_ms } => {
                let timeout = Duration::from_millis(timeout_ms);
                self.with_link(conn, |link| link.query(query, data, timeout));
            }
            Act::Close { conn, why } => {
                if let Some(link) = self.peers.remove(&conn) {
                    tracing::debug!(conn = conn.0, %why, "closing");
                    link.close();
                }
            }
            Act::Chain(order) => self.chain_order(order),
            Act::Note(note) => log(&note),
            Act::Admin { command, result } => {
                if let Some(reply) = self.commands.remove(&command) {
                    let _ = reply.send(result);
                }
            }
        }
    }

    /// Sends over a link. A peer that is stuck is closed: its `Closed` event tells the machine.
    fn with_link(&mut self, conn: ConnId, send: impl FnOnce(&LinkHandle) -> Result<(), SendFault>) {
        let Some(link) = self.peers.get(&conn) else { return };
        match send(link) {
            Ok(()) | Err(SendFault::Closed) => {}
            Err(fault) => {
                tracing::warn!(conn = conn.0, %fault, "closing a peer that cannot be served");
                link.close();
            }
        }
    }
}

pub(crate) fn encode(records: &[cocoon_ledger::Record]) -> Vec<Vec<u8>> {
    let encode = |record: &cocoon_ledger::Record| {
        let mut bytes = Vec::with_capacity(128);
        record.encode(&mut bytes);
        bytes
    };
    records.iter().map(encode).collect()
}

fn log(note: &Note) {
    match note {
        Note::PeerFault { conn, text } => tracing::info!(conn = conn.0, %text, "peer"),
        Note::ClientReady { conn, client, version } => {
            tracing::info!(conn = conn.0, ?client, version, "client ready");
        }
        Note::WorkerReady { conn, worker, model, version } => {
            tracing::info!(conn = conn.0, ?worker, %model, version, "worker ready");
        }
        Note::WorkerLost { conn, retried, failed } => {
            tracing::warn!(conn = conn.0, retried, failed, "worker lost with requests running");
        }
        Note::ClaimCapped { worker, claimed, booked } => {
            tracing::warn!(?worker, claimed, %booked, "worker claimed more than was reserved");
        }
        Note::Committed { seqno } => tracing::debug!(seqno, "state committed"),
        Note::BooksRefused { text } => tracing::warn!(%text, "the books refused a fact"),
        Note::Stopped { text } => tracing::error!(%text, "stopped serving"),
    }
}

fn unix_us() -> u64 {
    cocoon_host::clock::now_ms().saturating_mul(1_000)
}
