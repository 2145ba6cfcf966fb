//! One request from its admission to its end.

use bytes::Bytes;
use cocoon_ledger::AccountId;
use cocoon_schedule::WorkerId;
use cocoon_units::{Coefficient, PublicKey, RequestId, Tokens};
use cocoon_wire::tl::SecretKey;

use crate::dialect::Listener;
use crate::outbox::{ConnId, Now};

/// What a client asked for, dialects removed.
pub(crate) struct Wanted<'tl> {
    pub(crate) model: std::borrow::Cow<'tl, str>,
    pub(crate) query: Bytes,
    pub(crate) coefficient_max: Coefficient,
    pub(crate) max_tokens: i32,
    pub(crate) timeout_s: f64,
    pub(crate) id: RequestId,
    pub(crate) config_version_min: i32,
    pub(crate) debug: bool,
    pub(crate) public_key: PublicKey,
    /// The only workers that it may go to; empty allows all.
    pub(crate) only: Box<[WorkerId]>,
}

/// The worker a request was given to.
#[derive(Clone, Copy)]
pub(crate) struct Assigned {
    pub(crate) conn: ConnId,
    pub(crate) account: AccountId,
    pub(crate) coefficient: Coefficient,
    pub(crate) at: Now,
}

/// A request that waits or runs.
// house: one life cycle, told whole.
pub(crate) struct Request {
    /// Our id: the books' and the workers'.
    pub(crate) id: RequestId,
    /// Who listens; `None` when the client has left.
    pub(crate) listener: Option<Listener>,
    pub(crate) client: AccountId,
    pub(crate) model: String,
    pub(crate) coefficient_max: Coefficient,
    /// The request's bytes, kept until the first byte of an answer so that another worker can
    /// take over.
    pub(crate) query: Option<Bytes>,
    /// The private key the request is encrypted to.
    pub(crate) key: Option<SecretKey>,
    pub(crate) debug: bool,
    /// The only workers that it may go to; empty allows all.
    pub(crate) only: Box<[WorkerId]>,
    pub(crate) reserved: Tokens,
    pub(crate) started: Now,
    pub(crate) deadline_ms: u64,
    pub(crate) timeout_s: f64,
    pub(crate) worker: Option<Assigned>,
    /// When the head came.
    pub(crate) begun: Option<Now>,
    /// Status of the model server's answer, 0 before the head.
    pub(crate) http_status: i32,
    /// Bytes of answer passed on.
    pub(crate) bytes_out: u64,
    pub(crate) attempts: u8,
    /// A cancellation was passed on to the worker.
    pub(crate) cancelled: bool,
    /// A receipt was passed on; there is one at most.
    pub(crate) receipted: bool,
}

impl Request {
    /// Seconds the worker gets: 0.95 of what is left (protocol notes 3.7). Without waiting that
    /// is 0.95 of the client's number, to the last bit.
    #[allow(clippy::cast_precision_loss, reason = "bounded to a day in milliseconds")]
    pub(crate) fn worker_timeout_s(&self, now: Now) -> f64 {
        let waited_ms = now.ms.saturating_sub(self.started.ms);
        let left = self.timeout_s - waited_ms as f64 / 1_000.0;
        0.95 * left.max(0.0)
    }

    /// Whether it may be given to another worker.
    pub(crate) fn can_move(&self, retries_max: u8, now: Now) -> bool {
        let fresh = self.begun.is_none() && self.query.is_some() && !self.cancelled;
        fresh
            && self.listener.is_some()
            && self.attempts <= retries_max
            && now.ms < self.deadline_ms
    }
}
