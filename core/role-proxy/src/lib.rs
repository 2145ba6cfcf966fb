//! What a proxy does next: its clients, its workers, its books.
//!
//! [`Proxy`] is a machine without hands. Sockets, disk, clock, random numbers and the chain are
//! its caller's; the machine gets facts and returns what has to be done:
//!
//! ```text
//!  opened, message, query, closed ─┐                ┌─► records  → journal
//!  durable(n), tick                ├──►  Proxy  ────┤
//!  root_changed, chain, command   ─┘     (Outbox)   └─► effects  → sockets, chain, log
//! ```
//!
//! A request walks: `client` (dialects in) → `admission` (protocol notes 3.6: balance, version,
//! state, price, reservation) → [`cocoon_schedule`] (a worker, or the line) → worker → `forward`
//! (`answer` in, `dialect` out) → the books → payments to both sides.
//!
//! # Invariants
//!
//! 1. No effect that a record justifies leaves before the record is durable: the last message of
//!    an answer, payments, statements of balances and chain messages carry
//!    [`Effect::after_durable`].
//! 2. Totals told to a peer never fall, over restarts too.
//! 3. A payment is signed only for what a confirmed commit covers, and the confirmation is on disk.
//! 4. Every admitted request ends exactly once: by its last message, by an error, or unheard when
//!    its client has left; with it ends its reservation.
//! 5. An answer counts only over the connection its request was given to.
//! 6. Nothing a peer sends can panic the machine or make it grow without a limit: see
//!    [`Settings`].
//! 7. Equal inputs give equal outputs.
//!
//! # Where it differs from the reference on purpose
//!
//! * Requests wait for a free worker instead of failing; the worker with the least expected wait
//!   is chosen; a worker that dies before its first byte is replaced unnoticed.
//! * A worker's death in mid-answer is told at once, not at the timeout.
//! * The reservation covers the price multipliers, and no charge exceeds it.
//! * A worker that claims balances nobody can have is refused; it aborts the reference.
//! * A client that leaves, or cancels, stops the work where the worker understands
//!   (`cocoon.cancelQuery`), and pays for what was made.
//! * What peers are told of the books is on disk already: `db_tokens` equals `max_tokens`.

#![forbid(unsafe_code)]

mod admission;
mod answer;
mod client;
mod commit;
mod dialect;
mod draw;
mod fault;
mod forward;
mod instance;
mod listing;
mod notices;
mod operate;
mod outbox;
mod proxy;
mod report;
mod request;
mod settings;
mod standing;
mod status;
mod winding;
mod worker;

pub use commit::ChainFact;
pub use fault::{StartFault, code};
pub use notices::{ContractTransaction, query_id};
pub use operate::Command;
pub use outbox::{Act, ChainOrder, ConnId, Effect, Note, Now, Outbox};
pub use proxy::{Proxy, Side};
pub use settings::{ChainMode, Identity, Settings};
pub use status::{ClientLine, Counts, Status, WorkerConnectionLine, WorkerLine};
pub use winding::{OldSight, WindDown, WindStep};
