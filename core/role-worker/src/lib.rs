//! What a worker does next: its proxies, its running queries, its earnings.
//!
//! Life cycles, each one machine without hands:
//!
//! - [`ProxySession`]: one connection to a proxy, from the first query of the handshake to the
//!   last payment (protocol notes, wire 3.3, 3.9);
//! - [`Run`]: one query of a proxy, from its bytes to the final part of the answer (3.7, 3.8, 4.6);
//! - [`AnswerSeal`]: the answer of an encrypted query (4.8);
//! - [`Channels`](cocoon_channel::Channels): per proxy contract, what the worker earned by its own
//!   count and the best payment it holds.
//!
//! The caller brings time and bytes, sends what the machines give back, and keeps the records of
//! the channels in its journal.

#![forbid(unsafe_code)]

mod answer;
mod fault;
mod identity;
mod run;
mod seal;
mod session;

pub use answer::AnswerWriter;
pub use fault::{Fault, Reject};
pub use identity::{Identity, OwnKeys, VERSION_MAX, VERSION_MIN};
pub use run::{BackendRequest, Run};
pub use seal::AnswerSeal;
pub use session::{Incoming, ProxySession, Turn};
