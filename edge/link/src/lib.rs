//! Connections between nodes over TCP: dial, accept, frames, back-pressure.
//!
//! ```text
//!   Listener ─┐ gate ─ work, TLS │ router's word ─┐
//!             ├───────────────────────────────────┼─▶ one task per connection:
//!   Dialer ───┘ TCP │ SOCKS ─ work, TLS ──────────┘   socket + cocoon_session::Connection
//!                                                       ▲ commands        │ events
//!                                            LinkHandle │ (bounded,       ▼ (bounded)
//!                                                       │  never blocks)  LinkEvent
//!                                                       └──── node loop ◀─┘ recv_many
//! ```
//!
//! A node makes one [`Links`] with the sending end of one bounded channel, [`Listener`]s and
//! [`Dialer`]s on it, and takes [`LinkEvent`]s from the receiving end. Everything it sends
//! goes through a [`LinkHandle`], which refuses instead of waiting.
//!
//! Memory is bounded whatever peers do: reading stops while the node loop is behind; each
//! peer's queue is bounded in commands and bytes; frames, queries and output are bounded by
//! the session; connections and handshakes are bounded per port and address; everything that
//! waits for a peer has a deadline.

mod attesting;
mod backoff;
mod counters;
mod dialer;
mod event;
mod fault;
mod gate;
mod guard;
mod handle;
mod links;
mod listener;
mod open;
mod settings;
mod stream;
mod task;

pub use cocoon_attest::PeerVerdicts;
pub use cocoon_ratls::{PeerIdentity, Voucher};
pub use cocoon_session::{Fault as SessionFault, Limits};
pub use counters::{CounterValues, Counters};
pub use dialer::{Dialer, KeptLink};
pub use event::{ConnId, Event, LinkEvent, Opaque, Opened, Origin, Tag};
pub use fault::{OpenFault, SendFault};
pub use gate::{Gate, Pass, Turned};
pub use guard::{Facing, Guard, Judgement, Later};
pub use handle::LinkHandle;
pub use links::Links;
pub use listener::Listener;
pub use open::{Entry, Route};
pub use settings::{BackoffSettings, LinkSettings, PortLimits};
