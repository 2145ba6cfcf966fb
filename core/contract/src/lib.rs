//! Messages, states and addresses of the contracts on TON, and the payments a proxy signs.
//!
//! The crate reads and writes cells and decides nothing: no chain access, no clock, no random
//! numbers. Layouts follow the live third generation of the contracts (protocol notes 1 to 5);
//! our own contracts, embedded in [`code`], keep them.
//!
//! - [`root::RootState`], [`params::Params`], [`state`]: what accounts store;
//! - [`address`]: where contracts live;
//! - [`message::Body`]: every message body;
//! - [`payment::SignedPayment`]: what a proxy owes a worker and takes from a client;
//! - [`wallet`]: external messages of the Cocoon wallet and of standard wallets;
//! - [`timelock`]: the owner of a root whose changes wait;
//! - [`root_change`]: what changed between two states of a root.

mod fault;

pub mod address;
pub mod boc;
pub mod cell;
pub mod code;
#[doc(hidden)]
pub mod fuzz;
pub mod message;
pub mod op;
pub mod params;
pub mod payment;
pub mod pseudo;
pub mod root;
pub mod root_change;
pub mod state;
pub mod timelock;
pub mod wallet;

pub use fault::Fault;
