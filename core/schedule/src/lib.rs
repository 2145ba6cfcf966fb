//! Which worker serves a request, and who waits for one.
//!
//! A [`Scheduler`] holds one pool of worker connections per model. It answers three questions and
//! nothing else: *who* serves this request, *who waits* when nobody is free, and *how good* each
//! worker has proved to be.
//!
//! ```text
//!             submit ──► Assigned(worker)      a free worker, the least expected wait
//!                   ├──► Queued(position)      all good workers are busy: wait in a fair line
//!                   └──► Refused(reason)       no worker can ever serve it as things stand
//!  finish, join, enable, tick ──► events: Assigned{ticket, worker} | Expired{ticket}
//! ```
//!
//! # Rules
//!
//! * A candidate is enabled, not cooling down, has a free slot, costs no more than the request's
//!   cap and can take keys when the request needs them (protocol notes 3.6). Of a request that
//!   names workers only those are candidates.
//! * Among candidates the one with the least expected wait is taken: the measured time of a
//!   request of standard size, scaled by how much busier the worker is now than when it was
//!   measured, made worse by its share of failures. Ties go to the one that has rested longest.
//!   The reference sends everything to its first connection instead (protocol notes 3.6).
//! * Waiting is fair between clients (round robin), in order within a client, bounded per model
//!   and per client, and ends at the request's deadline.
//! * A worker that fails several times in a row, or claims more tokens than the request could
//!   cost, cools down for a while that doubles with each repetition.
//!
//! Choosing takes logarithmic time in the number of workers: candidates sit in a balanced tree
//! ordered by price whose nodes know the best worker below them.
//!
//! # Invariants
//!
//! 1. No waiting request is eligible for a worker that is free (tested after every step).
//! 2. A worker never runs more requests than its limit.
//! 3. Every ticket given to [`Scheduler::submit`] is in exactly one of: refused, waiting, running,
//!    expired, finished, cancelled, or handed back by [`Scheduler::leave`].
//!
//! No clock and no randomness: time comes in as `now_ms`, so equal inputs give equal choices.
//!
//! ```
//! use cocoon_schedule::{Job, Limits, Offer, Placement, Scheduler, ClientId, Ticket, WorkerId};
//!
//! let mut pool = Scheduler::new(Limits::default());
//! let offer = Offer { model: "qwen3", coefficient: 1000, running_max: 1, keys: true, account: 1 };
//! pool.join(WorkerId(1), offer, 0)?;
//! pool.enable(WorkerId(1), true, 0);
//! let job = |n| Job {
//!     ticket: Ticket(n), client: ClientId(7), model: "qwen3", coefficient_max: 4000,
//!     keys: false, among: &[], deadline_ms: 5_000, first: false,
//! };
//! let first = Placement::Assigned { worker: WorkerId(1), coefficient: 1000 };
//! assert_eq!(pool.submit(job(1), 0), first);
//! assert_eq!(pool.submit(job(2), 0), Placement::Queued { position: 0 });
//! # Ok::<(), cocoon_schedule::JoinFault>(())
//! ```

mod fault;
mod line;
mod pace;
mod pool;
mod scheduler;
mod tree;

pub use fault::{JoinFault, Refusal};
pub use pace::Outcome;
pub use pool::{Job, ModelOffers, Offer, WorkerOffer};
pub use scheduler::{Event, Limits, Placement, Scheduler, Tally};

/// Names one worker connection. Chosen by the caller, never reused while the connection lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkerId(pub u64);

/// Names who is served fairly against others: one client account, however many connections it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientId(pub u64);

/// Names one request. Chosen by the caller, never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);
