//! What a key manager does next (protocol notes, wire 3.10, 4.8, 5.2).
//!
//! Users encrypt requests to a key that the network registers; its private half goes to attested
//! proxies and workers alone. Two machines without hands:
//!
//! - [`KeyManager`]: draws keys, lets them expire, hands them to peers whose image the registry
//!   lists, and says each time for the [`AuditChain`] what it did;
//! - [`KeyPoll`]: the other side, which asks again and again and keeps what it got.
//!
//! A key is handed out only after its record is durable: a key manager that forgot a key would
//! leave users with requests that nobody can open.

#![forbid(unsafe_code)]

mod audit;
pub mod fuzz;
mod manager;
mod poll;
mod record;

pub use audit::{AuditChain, AuditEntry, AuditEvent, AuditFault};
pub use manager::{
    Act, Asker, ConnId, KEYS_MAX, KeyLine, KeyManager, KeyPeer, KeyRegistry, KeySettings,
};
pub use poll::{HeldKeys, KeyPoll, PollAct};
pub use record::{KeyRecord, RecordFault};
