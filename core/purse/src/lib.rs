//! A node's own wallet: what it sends next, once each, and what became of it.
//!
//! [`Purse`] is a machine without hands. It takes [`Order`]s (an internal message and a label),
//! sees the wallet's account and its transactions, and returns what to do:
//!
//! ```text
//!  order ──────────────► queue ─► batch ─► signed external message ─┐   Keep, Send,
//!  observed(account, ───►         (one at a time, at one seqno)     ├─► Report, Note
//!           transactions)                                           │
//!  looked(destination) ─────────► arrivals ─────────────────────────┘
//! ```
//!
//! # Laws
//!
//! 1. An order leaves the wallet at most once. All signatures of a batch carry one sequence
//!    number, and the contract takes each number once; a batch is signed anew only at its own
//!    number, or after a transaction of somebody else is seen at that number.
//! 2. [`Act::Keep`] stands before the [`Act::Send`] it allows: a machine that dies knows after its
//!    restart which orders may be on their way.
//! 3. An order that the wallet cannot pay is not sent: it waits, and [`Lacking`] says what to do.
//! 4. Every order that was taken gets a report that it left the wallet or that it did not, and
//!    after it left, one that it arrived.
//! 5. Nothing that the chain shows can panic the machine or make it grow beyond [`Settings`].

#![forbid(unsafe_code)]

mod batch;
mod fault;
mod kept;
mod order;
mod purse;
mod seen;
mod wallet;

pub use fault::{OrderFault, PurseFault};
pub use kept::decode_kept;
pub use order::{Label, Order, Outcome, Report};
pub use purse::{Act, Lacking, Note, Purse, Settings, Status};
pub use seen::{Delivery, Lookout, Passed, Sent, Sighting, WalletStanding};
pub use wallet::Wallet;
