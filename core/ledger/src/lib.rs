//! The books: who may spend how much, who has spent what, and what a proxy may sign.
//!
//! A pure machine: no clock, no key, no address format, no chain. It speaks of accounts
//! ([`AccountId`]), [`Tokens`](cocoon_units::Tokens) and cumulative totals. The caller turns every
//! change into a [`Record`], makes it durable, and only then lets the effect out that the record
//! justifies.
//!
//! ```text
//!   reserve ──► open reservation ──► finish (Record::Finished) ──► max grows
//!                       └──────────► release                        │ durable()
//!                                                                   ▼
//!                        signable  ◄── commit confirmed ◄── durable ◄┘
//! ```
//!
//! Three cumulative counters per account, all in adjusted tokens (protocol notes, chain 3.3):
//! `max >= durable >= committed`. A payment is signed for `committed` only, a charge that the
//! proxy posts itself for `durable` at most.
//!
//! The invariants stand in `docs/books.md`; [`Books::check`] asserts all of them, tests and the
//! simulator call it after every step.

#![forbid(unsafe_code)]

mod account;
mod books;
mod fault;
mod old;
mod own;
mod record;

pub use account::{Account, AccountId, ClientAccount, ClientStatus, WorkerAccount};
pub use books::{Books, Reservation, Totals};
pub use fault::{Broken, Fault, Refusal};
pub use old::OldBooks;
pub use own::{Difference, OwnBooks, Statement};
pub use record::{FORMAT_VERSION, Record, RecordFault};
