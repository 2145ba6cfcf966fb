//! What a client does next: its proxies, its requests, its money.
//!
//! - [`ProxySession`]: one connection to a proxy: handshake, authorisation, requests and their
//!   answers, payments (protocol notes, wire 3.2, 3.4, 3.5, 3.9);
//! - [`Channels`](cocoon_channel::Channels): per proxy contract, what the client spent by its own
//!   count, the proxy's word, and the best payment it holds.
//!
//! No hands: the caller brings time, random ids and bytes, sends what comes back, and keeps the
//! records of the channels in its journal.

#![forbid(unsafe_code)]

mod answer;
mod fault;
mod identity;
mod session;

pub use answer::{AnswerEvent, Charge, ModelWorkers, WorkerLoad};
pub use fault::{Fault, Refused};
pub use identity::{Identity, VERSION_MAX, VERSION_MIN};
pub use session::{Ask, Incoming, ProxySession, ReportQuestion, Turn, WorkerReceipt};
