//! What the machine wants done: records first, then effects in order.

use bytes::{Bytes, BytesMut};
use cocoon_ledger::{AccountId, Record};
use cocoon_units::{Address, Tokens};
use cocoon_wire::tl::Boxed;

/// Names a connection; chosen by the hand that accepted it, never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(pub u64);

/// The time of an input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Steady milliseconds, for deadlines; never falls.
    pub ms: u64,
    /// Microseconds since 1970-01-01 UTC, for time stamps shown to peers; may step.
    pub unix_us: u64,
}

impl Now {
    /// Unix seconds with fraction, the wire's form.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "exact to the microsecond until the year 2255")]
    pub fn unix_seconds(self) -> f64 {
        self.unix_us as f64 / 1e6
    }
}

/// One effect. Effects are performed in order, except that those that wait for the journal may be
/// overtaken by those that do not.
#[derive(Debug)]
pub struct Effect {
    /// Hold it back until every record handed out so far is durable.
    pub after_durable: bool,
    /// What to do.
    pub act: Act,
}

/// What to do.
#[derive(Debug)]
pub enum Act {
    /// Send a one-way message.
    Send {
        /// To whom.
        conn: ConnId,
        /// One boxed object.
        data: Bytes,
    },
    /// Answer a query of the peer.
    Answer {
        /// To whom.
        conn: ConnId,
        /// The peer's id of the query.
        query: i64,
        /// One boxed object.
        data: Bytes,
    },
    /// Fail a query of the peer.
    AnswerError {
        /// To whom.
        conn: ConnId,
        /// The peer's id of the query.
        query: i64,
        /// Code of protocol notes 1.7.
        code: i32,
        /// What went wrong.
        text: String,
    },
    /// Ask the peer; the answer comes back through [`Proxy::answered`](crate::Proxy::answered)
    /// or [`Proxy::query_failed`](crate::Proxy::query_failed).
    Ask {
        /// Whom.
        conn: ConnId,
        /// Our id of the query.
        query: i64,
        /// One boxed object.
        data: Bytes,
        /// Time for the answer.
        timeout_ms: u64,
    },
    /// Close a connection after what was sent before.
    Close {
        /// Which.
        conn: ConnId,
        /// Why, for the log.
        why: String,
    },
    /// Send a message to the chain.
    Chain(ChainOrder),
    /// Tell the log.
    Note(Note),
    /// The answer to an operator's command.
    Admin {
        /// The command's number.
        command: u64,
        /// Plain words; `Err` when it was not done.
        result: Result<String, String>,
    },
}

impl Act {
    /// The connection it is for, if for one: when that is gone, nobody misses it.
    #[must_use]
    pub fn conn(&self) -> Option<ConnId> {
        match self {
            Self::Send { conn, .. }
            | Self::Answer { conn, .. }
            | Self::AnswerError { conn, .. }
            | Self::Ask { conn, .. }
            | Self::Close { conn, .. } => Some(*conn),
            Self::Chain(_) | Self::Note(_) | Self::Admin { .. } => None,
        }
    }
}

/// A message for the chain (protocol notes, chain 3.5, 3.6). The hand builds the transaction,
/// sends it from the node's wallet and reports through [`ChainFact`](crate::ChainFact)s.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChainOrder {
    /// Record a state commit on the proxy contract.
    SaveState {
        /// Number of the commit.
        seqno: u32,
        /// This process's session.
        session: [u8; 32],
    },
    /// Charge a client.
    Charge {
        /// Whom.
        client: AccountId,
        /// Its contract.
        contract: Address,
        /// Cumulative tokens the body is signed for.
        tokens: Tokens,
        /// Bag of cells of the signed body.
        body: Bytes,
    },
    /// Give a closing client the rest of its money back.
    GrantRefund {
        /// Whom.
        client: AccountId,
        /// Its contract.
        contract: Address,
        /// Cumulative tokens the body is signed for.
        tokens: Tokens,
        /// Bag of cells of the signed body.
        body: Bytes,
    },
    /// Pay a worker.
    Payout {
        /// Whom.
        worker: AccountId,
        /// Its contract.
        contract: Address,
        /// Cumulative tokens the body is signed for.
        tokens: Tokens,
        /// Bag of cells of the signed body.
        body: Bytes,
    },
    /// The parameters of the network changed: close the old contract, client by client and worker
    /// by worker (protocol notes, chain 3.10). See [`WindDown`](crate::WindDown).
    WindDown {
        /// `params_version` of the old instance.
        epoch: u32,
        /// The old proxy contract.
        contract: Address,
        /// Final totals of clients.
        clients: Vec<(AccountId, Tokens)>,
        /// Final totals of workers.
        workers: Vec<(AccountId, Tokens)>,
    },
}

/// Something the log should say. No field ever holds a prompt, an answer or a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// A peer broke the protocol.
    PeerFault {
        /// Who.
        conn: ConnId,
        /// How.
        text: String,
    },
    /// A client may send requests now.
    ClientReady {
        /// Which connection.
        conn: ConnId,
        /// Who.
        client: AccountId,
        /// Protocol version.
        version: i32,
    },
    /// A worker may get requests now.
    WorkerReady {
        /// Which connection.
        conn: ConnId,
        /// Who.
        worker: AccountId,
        /// Full model name.
        model: String,
        /// Protocol version.
        version: i32,
    },
    /// Requests lost their worker; so many are tried again, so many failed.
    WorkerLost {
        /// Which connection.
        conn: ConnId,
        /// Given to another worker or put in line.
        retried: usize,
        /// Ended with an error.
        failed: usize,
    },
    /// A worker claimed more than a request could cost; the books took less.
    ClaimCapped {
        /// Who.
        worker: AccountId,
        /// What it claimed.
        claimed: i64,
        /// What was booked.
        booked: Tokens,
    },
    /// A state commit is confirmed.
    Committed {
        /// Its number.
        seqno: u32,
    },
    /// The books refused a fact; it was not taken in.
    BooksRefused {
        /// In the books' words.
        text: String,
    },
    /// The node must stop serving: it is not the only one with its key, or its books are old.
    Stopped {
        /// Why, and what to do.
        text: String,
    },
}

/// Collects what one input, or several, want done. Kept and cleared by the hand, so that its
/// memory is used again.
#[derive(Debug, Default)]
pub struct Outbox {
    /// Records to journal, in order, before the effects that wait for them.
    pub records: Vec<Record>,
    /// Effects, in order.
    pub effects: Vec<Effect>,
    scratch: BytesMut,
}

/// Memory is taken from the system in pieces of this size and shared by many messages.
const PIECE_BYTES: usize = 64 * 1024;

impl Outbox {
    /// An empty outbox.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Encodes an object once, into shared memory.
    pub fn encode<'tl, T: Boxed<'tl>>(&mut self, object: &T) -> Bytes {
        let size = object.boxed_size();
        if self.scratch.capacity() < size {
            self.scratch.reserve(size.max(PIECE_BYTES));
        }
        object.write_boxed(&mut self.scratch);
        self.scratch.split().freeze()
    }

    pub(crate) fn act(&mut self, act: Act) {
        self.effects.push(Effect { after_durable: false, act });
    }

    pub(crate) fn act_when_durable(&mut self, act: Act) {
        self.effects.push(Effect { after_durable: true, act });
    }

    pub(crate) fn send<'tl, T: Boxed<'tl>>(&mut self, conn: ConnId, object: &T) {
        let data = self.encode(object);
        self.act(Act::Send { conn, data });
    }

    pub(crate) fn send_when_durable<'tl, T: Boxed<'tl>>(&mut self, conn: ConnId, object: &T) {
        let data = self.encode(object);
        self.act_when_durable(Act::Send { conn, data });
    }

    pub(crate) fn answer<'tl, T: Boxed<'tl>>(&mut self, conn: ConnId, query: i64, object: &T) {
        let data = self.encode(object);
        self.act(Act::Answer { conn, query, data });
    }

    pub(crate) fn answer_error(&mut self, conn: ConnId, query: i64, code: i32, text: String) {
        self.act(Act::AnswerError { conn, query, code, text });
    }

    pub(crate) fn close(&mut self, conn: ConnId, why: impl Into<String>) {
        self.act(Act::Close { conn, why: why.into() });
    }

    pub(crate) fn note(&mut self, note: Note) {
        self.act(Act::Note(note));
    }
}
