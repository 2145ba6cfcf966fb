//! The life of a client's and a worker's contract on chain.
//!
//! [`ClientLife`] and [`WorkerLife`] each look at what the chain shows, what the proxy has signed
//! and what the owner wishes, and say the one next thing: a message to send with its cost, or
//! what is waited for (protocol notes, chain 3.5, 3.9, 3.10). Nothing is remembered that the chain
//! does not say, but for the message that is on its way; so whoever is interrupted starts again
//! with a look at the chain and goes on.
//!
//! ```text
//!   accounts on chain ──┐
//!   signed totals ──────┼──► plan ──► Next::Send(order)   journal it, then send it
//!   clock, wishes ──────┘        └──► Next::Wait(..)      look again later
//!                                └──► Next::Done(..)      nothing is left to do
//! ```
//!
//! [`RootGate`] decides when a new state of the root is believed: a change of prices, codes or
//! owner has to stand for everybody to see before money follows it.
//!
//! # Rules
//! - One message of a contract is on its way at a time; the next one needs its effect on chain, or
//!   the wallet's word that it will have none.
//! - A deposit needs a proxy contract that is there, is in use, and has the stake that is asked
//!   for.
//! - A proxy that counts more than was seen gets no further deposit and no help with a charge.
//! - Coins leave only to the contract itself; unused value and refunds return to the owner.

#![forbid(unsafe_code)]

mod client;
mod flight;
#[doc(hidden)]
pub mod fuzz;
mod gate;
mod log;
mod next;
mod policy;
mod record;
mod seen;
mod wish;
mod worker;

pub use client::{ClientLife, ClientSite, ClientView, Held};
pub use flight::{Flight, RETRY_LEAST_S};
pub use gate::{Guard, RootGate, Ruling};
pub use log::{SettleLog, SiteLog};
pub use next::{Done, Next, Order, Step, Wait};
pub use policy::{ClientPolicy, WorkerPolicy, cost};
pub use record::{Before, SettleRecord, Side, SiteRecord};
pub use seen::Seen;
pub use wish::Wish;
pub use worker::{WorkerLife, WorkerSite, WorkerView};
