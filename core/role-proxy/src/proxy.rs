//! The machine: what goes in, and where it is sent.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use cocoon_contract::root::RootState;
use cocoon_ledger::{AccountId, Books, Record};
use cocoon_schedule::{Scheduler, Ticket};
use cocoon_units::{ImageHash, PublicKey, RequestId, Tokens};
use cocoon_wire::tl::SecretKey;

use crate::client::ClientConn;
use crate::draw::Draw;
use crate::fault::{Refusal, StartFault, code};
use crate::instance::{Instance, Party};
use crate::outbox::{ConnId, Note, Now, Outbox};
use crate::report::Reports;
use crate::request::Request;
use crate::settings::{Identity, Settings};
use crate::standing::Standing;
use crate::status::Counts;
use crate::worker::WorkerConn;

/// Which port a connection came in through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The clients' port.
    Clients,
    /// The workers' port.
    Workers,
}

/// A proxy: its clients, its workers, its books.
///
/// Every method is one input; what has to be done is left in the [`Outbox`]. The hand appends the
/// outbox's records to the journal, performs the effects (holding back those that wait), and
/// reports with [`Proxy::durable`]. Nothing here blocks, reads a clock or draws a number.
// house: the fields are the rooms of one machine; each has its own type and file.
pub struct Proxy {
    pub(crate) identity: Identity,
    pub(crate) settings: Settings,
    pub(crate) instance: Instance,
    pub(crate) books: Books,
    pub(crate) parties: Parties,
    pub(crate) clients: HashMap<ConnId, ClientConn>,
    pub(crate) workers: HashMap<ConnId, WorkerConn>,
    /// Connections whose handshake must end in time.
    pub(crate) handshakes: BTreeSet<(u64, ConnId)>,
    pub(crate) desk: Desk,
    pub(crate) pool: Scheduler,
    pub(crate) ink: Ink,
    pub(crate) standing: Standing,
    pub(crate) counts: Counts,
    /// Private keys of end-to-end encryption by their public halves.
    pub(crate) keys: BTreeMap<PublicKey, SecretKey>,
    pub(crate) draw: Draw,
    pub(crate) reports: Reports,
}

/// What is known of accounts beside the books.
#[derive(Default)]
pub(crate) struct Parties {
    pub(crate) clients: BTreeMap<AccountId, Party>,
    pub(crate) workers: BTreeMap<AccountId, Party>,
}

/// Requests that wait or run.
#[derive(Default)]
pub(crate) struct Desk {
    pub(crate) requests: HashMap<Ticket, Request>,
    pub(crate) deadlines: BTreeSet<(u64, Ticket)>,
}

impl Desk {
    /// The name of a request for the scheduler: the first half of its random id.
    pub(crate) fn ticket(id: &RequestId) -> Ticket {
        let [a, b, c, d, e, f, g, h, ..] = id.0;
        Ticket(u64::from_le_bytes([a, b, c, d, e, f, g, h]))
    }

    pub(crate) fn insert(&mut self, ticket: Ticket, request: Request) {
        self.deadlines.insert((request.deadline_ms, ticket));
        self.requests.insert(ticket, request);
    }

    pub(crate) fn remove(&mut self, ticket: Ticket) -> Option<Request> {
        let request = self.requests.remove(&ticket)?;
        self.deadlines.remove(&(request.deadline_ms, ticket));
        Some(request)
    }
}

/// What happens when a record is durable.
pub(crate) enum Mark {
    /// Two totals are on disk.
    Finished { client: (AccountId, Tokens), worker: (AccountId, Tokens) },
    /// A commit may be confirmed.
    CommitStarted { seqno: u32 },
    /// Payments may be signed for what the commit covers.
    CommitConfirmed { seqno: u32 },
}

/// Records handed out and not known to be durable.
#[derive(Default)]
pub(crate) struct Ink {
    pub(crate) written: u64,
    /// Of them, known to be durable.
    durable: u64,
    /// Statements of money that wait for the disk, by connection: up to which record.
    statements: HashMap<ConnId, VecDeque<u64>>,
    pub(crate) marks: VecDeque<(u64, Mark)>,
    /// Tokens finished since the last commit started.
    pub(crate) at_risk: u64,
    /// When the next commit is due, once something is at risk.
    pub(crate) commit_due_ms: Option<u64>,
    /// The number of this process's sessions on chain.
    pub(crate) session: [u8; 32],
    /// Commits of earlier processes that this one saw confirmed: they may be seen again.
    pub(crate) confirmed: VecDeque<(u32, [u8; 32])>,
}

/// Commits remembered as confirmed; more than ever are on their way together.
const CONFIRMED_MAX: usize = 64;
/// Statements of money that may wait for the disk per connection: a peer asks every 10 to 20 s and
/// waits 60 s (protocol notes, wire 3.4).
const STATEMENTS_MAX: usize = 8;

impl Ink {
    /// Whether one more statement for this connection may wait for the disk, which may stand
    /// still for long; counts it.
    fn may_state(&mut self, conn: ConnId) -> bool {
        let waiting = self.statements.entry(conn).or_default();
        while waiting.front().is_some_and(|upto| *upto <= self.durable) {
            waiting.pop_front();
        }
        let has_room = waiting.len() < STATEMENTS_MAX;
        if has_room && self.written > self.durable {
            waiting.push_back(self.written);
        }
        has_room
    }

    /// Remembers the commits that the confirmation of this one settles.
    pub(crate) fn remember_confirmed(&mut self, books: &Books, seqno: u32) {
        let settled = books.pending_commits().filter(|(at, _)| *at <= seqno);
        self.confirmed.extend(settled.map(|(at, session)| (at, *session)));
        let surplus = self.confirmed.len().saturating_sub(CONFIRMED_MAX);
        self.confirmed.drain(..surplus);
    }
}

impl Proxy {
    /// Opens the books from what the journal holds; a new proxy has none.
    ///
    /// The hand then starts the journal with [`Proxy::snapshot`] as its first records and calls
    /// [`Proxy::begin`]. `seed` is 32 fresh random bytes.
    ///
    /// # Errors
    /// [`StartFault`]: the process must not serve.
    pub fn open(
        identity: Identity,
        settings: Settings,
        root: Arc<RootState>,
        history: impl IntoIterator<Item = Record>,
        seed: [u8; 32],
    ) -> Result<Self, StartFault> {
        let theirs = root.network.params.is_test;
        if identity.is_test != theirs {
            return Err(StartFault::TestMode { ours: identity.is_test, theirs });
        }
        let instance = Instance::new(&identity, root)?;
        let mut books = Books::new();
        for record in history {
            books.apply(&record).map_err(StartFault::Replay)?;
        }
        books.made_durable();
        let pool = Scheduler::new(settings.pool);
        let mut draw = Draw::new(seed);
        let ink = Ink { session: draw.bytes(), ..Ink::default() };
        let mut proxy = Self {
            identity,
            settings,
            instance,
            books,
            parties: Parties::default(),
            clients: HashMap::new(),
            workers: HashMap::new(),
            handshakes: BTreeSet::new(),
            desk: Desk::default(),
            pool,
            ink,
            standing: Standing::starting(),
            counts: Counts::default(),
            keys: BTreeMap::new(),
            draw,
            reports: Reports::default(),
        };
        proxy.open_books()?;
        proxy.restore_parties()?;
        Ok(proxy)
    }

    /// The books as records, for the start of a journal segment. Never empty.
    #[must_use]
    pub fn snapshot(&self) -> Vec<Record> {
        self.books.snapshot()
    }

    /// Starts to work: commits this session, then serves.
    pub fn begin(&mut self, now: Now, out: &mut Outbox) {
        self.start_commit(now, out);
    }

    /// A connection came in. `image` is what the peer's evidence proved, if anything.
    pub fn opened(
        &mut self,
        conn: ConnId,
        side: Side,
        image: Option<ImageHash>,
        now: Now,
        out: &mut Outbox,
    ) {
        if self.clients.len() + self.workers.len() >= self.settings.connections_max {
            out.close(conn, "as many connections as allowed are open");
            return;
        }
        if let Some(why) = self.standing.turns_away() {
            out.close(conn, why);
            return;
        }
        match side {
            Side::Clients => {
                self.clients.insert(conn, ClientConn::new(now));
            }
            Side::Workers => {
                self.workers.insert(conn, WorkerConn::new(image, now));
            }
        }
        let deadline_ms = now.ms.saturating_add(self.settings.handshake_max_ms);
        self.set_handshake_deadline(conn, Some(deadline_ms));
    }

    /// A one-way message came. Bytes that are no object close the connection.
    pub fn message(&mut self, conn: ConnId, data: &Bytes, now: Now, out: &mut Outbox) {
        let result = if self.workers.contains_key(&conn) {
            self.worker_message(conn, data, now, out)
        } else if self.clients.contains_key(&conn) {
            self.client_message(conn, data, now, out)
        } else {
            return;
        };
        if let Err(refusal) = result {
            self.drop_peer(conn, refusal.text, now, out);
        }
    }

    /// A query came; it is answered, now or later, or failed.
    pub fn query(&mut self, conn: ConnId, query: i64, data: &[u8], now: Now, out: &mut Outbox) {
        let result = if self.workers.contains_key(&conn) {
            self.worker_query(conn, query, data, now, out)
        } else if self.clients.contains_key(&conn) {
            self.client_query(conn, query, data, now, out)
        } else {
            return;
        };
        if let Err(Refusal { code, text, close }) = result {
            out.answer_error(conn, query, code, text.clone());
            if close {
                self.drop_peer(conn, text, now, out);
            }
        }
    }

    /// A connection is gone.
    pub fn closed(&mut self, conn: ConnId, now: Now, out: &mut Outbox) {
        self.forget_reports(conn, out);
        self.ink.statements.remove(&conn);
        if let Some(client) = self.clients.remove(&conn) {
            self.set_deadline_of(conn, client.handshake_ms, None);
            self.client_left(client, now, out);
        } else if let Some(worker) = self.workers.remove(&conn) {
            self.set_deadline_of(conn, worker.handshake_ms, None);
            self.worker_left(conn, worker, now, out);
        }
    }

    /// The first `records` records handed out since [`Proxy::begin`] are on disk.
    ///
    /// Call it before letting go the effects that waited for them.
    pub fn durable(&mut self, records: u64, now: Now, out: &mut Outbox) {
        self.ink.durable = self.ink.durable.max(records);
        while self.ink.marks.front().is_some_and(|(at, _)| *at <= records) {
            let Some((_, mark)) = self.ink.marks.pop_front() else { break };
            match mark {
                Mark::Finished { client, worker } => self.books.request_durable(client, worker),
                Mark::CommitStarted { seqno } => self.commit_written(seqno, out),
                Mark::CommitConfirmed { seqno } => self.commit_settled(seqno, now, out),
            }
        }
    }

    /// Lets time pass. Call it when [`Proxy::next_tick_ms`] says so, and at least every second.
    pub fn tick(&mut self, now: Now, out: &mut Outbox) {
        while let Some(&(deadline_ms, ticket)) = self.desk.deadlines.first() {
            if deadline_ms > now.ms {
                break;
            }
            // The deadline goes with its request; should it have none, it goes alone.
            if self.desk.requests.contains_key(&ticket) {
                self.timed_out(ticket, now, out);
            } else {
                self.desk.deadlines.pop_first();
            }
        }
        self.pool.tick(now.ms);
        self.follow_pool(now, out);
        while let Some(&(deadline_ms, conn)) = self.handshakes.first() {
            if deadline_ms > now.ms {
                break;
            }
            self.handshakes.pop_first();
            self.drop_peer(conn, "handshake took too long".into(), now, out);
        }
        if self.ink.commit_due_ms.is_some_and(|due| due <= now.ms) {
            self.start_commit(now, out);
        }
    }

    /// When [`Proxy::tick`] has something to do.
    #[must_use]
    pub fn next_tick_ms(&self) -> Option<u64> {
        let request = self.desk.deadlines.first().map(|(at, _)| *at);
        let handshake = self.handshakes.first().map(|(at, _)| *at);
        let pool = self.pool.next_tick_ms();
        [request, handshake, pool, self.ink.commit_due_ms].into_iter().flatten().min()
    }

    /// The books, to look at.
    #[must_use]
    pub fn books(&self) -> &Books {
        &self.books
    }

    /// Whether nothing runs, waits or is on its way to the disk.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.desk.requests.is_empty() && self.ink.marks.is_empty()
    }

    /// Applies a record and hands it out.
    pub(crate) fn book(&mut self, record: Record, out: &mut Outbox) -> Result<(), ()> {
        if let Err(fault) = self.books.apply(&record) {
            out.note(Note::BooksRefused { text: fault.to_string() });
            return Err(());
        }
        self.hand_out(record, out);
        Ok(())
    }

    /// Hands out a record that the books have applied.
    pub(crate) fn hand_out(&mut self, record: Record, out: &mut Outbox) {
        self.ink.written += 1;
        out.records.push(record);
    }

    pub(crate) fn mark(&mut self, mark: Mark) {
        self.ink.marks.push_back((self.ink.written, mark));
    }

    /// Ends a connection from our side, with everything that hangs on it.
    pub(crate) fn drop_peer(&mut self, conn: ConnId, why: String, now: Now, out: &mut Outbox) {
        if !self.clients.contains_key(&conn) && !self.workers.contains_key(&conn) {
            return;
        }
        self.counts.peers_dropped += 1;
        out.note(Note::PeerFault { conn, text: why.clone() });
        out.close(conn, why);
        self.closed(conn, now, out);
    }

    /// Sets or clears the time by which a connection's handshake must be over.
    pub(crate) fn set_handshake_deadline(&mut self, conn: ConnId, deadline_ms: Option<u64>) {
        let slot = match (self.clients.get_mut(&conn), self.workers.get_mut(&conn)) {
            (Some(client), _) => &mut client.handshake_ms,
            (None, Some(worker)) => &mut worker.handshake_ms,
            (None, None) => return,
        };
        let before = std::mem::replace(slot, deadline_ms);
        self.set_deadline_of(conn, before, deadline_ms);
    }

    fn set_deadline_of(&mut self, conn: ConnId, before: Option<u64>, after: Option<u64>) {
        if let Some(before) = before {
            self.handshakes.remove(&(before, conn));
        }
        if let Some(after) = after {
            self.handshakes.insert((after, conn));
        }
    }

    /// Refuses a peer that asks for its money's state again and again while the disk stands still.
    pub(crate) fn check_statements(&mut self, conn: ConnId) -> Result<(), Refusal> {
        if self.ink.may_state(conn) {
            return Ok(());
        }
        let text = format!("{STATEMENTS_MAX} statements for you wait for the proxy's disk already");
        Err(Refusal::open(code::NOT_READY, text))
    }

    pub(crate) fn not_ready(&self) -> Option<Refusal> {
        self.standing.refuses().map(|text| Refusal::closing(code::NOT_READY, text))
    }
}
