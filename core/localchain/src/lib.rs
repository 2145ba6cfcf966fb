//! A small TON as a machine: accounts, messages, blocks, the real TVM.
//!
//! # What it is
//!
//! One shard of workchain 0, the masterchain and one validator. Messages run through
//! `tycho-executor` with mainnet's fees and limits; what comes out are transactions, blocks and
//! states in the form TON gives them, so that proofs made from them check like the real ones.
//!
//! ```text
//!   external message ─┐                       ┌─► shard block ──► masterchain block, signed
//!   faucet order ─────┼─► waiting ─► tick ────┤
//!   queued message ───┘            (now_ms)   └─► accounts, transactions, queue
//! ```
//!
//! # What it is not
//!
//! It reads no clock, no file and no socket: time comes with [`LocalChain::tick`], randomness
//! with the seed of [`Genesis`]. Equal inputs make chains that are equal to the bit, so a log of
//! [`Input`]s (each has a byte form) after a [`LocalChain::snapshot`] is all that a hand has to
//! keep.
//!
//! # Limits, on purpose
//!
//! - Accounts live on workchain 0. Coins sent elsewhere are lost to the sender and counted as
//!   [`Coins::stranded`].
//! - The virtual machine knows TON's global version 12; later versions' differences are listed in
//!   the decisions of the project.
//! - Libraries of the masterchain, splits and merges of shards, elections and changes of the
//!   configuration do not happen here.
//! - Everything kept has a limit ([`Limits`]).

mod arrival;
mod block;
mod chain;
mod collate;
mod fault;
mod genesis;
mod getter;
mod history;
mod input;
mod proof;
mod queue;
mod rehearsal;
mod snapshot;
mod update;

pub use block::SealedBlock;
pub use chain::{Coins, LocalChain, Outcome, Trial};
pub use fault::{Fault, Refusal};
pub use genesis::{Genesis, Limits};
pub use getter::{GetterOutput, StackEntry, decode_stack, encode_stack, method_id, run_getter};
pub use history::{Entry, Sealed};
pub use input::{Input, Trouble};
pub use proof::{bag_of, prove, prove_header, prove_whole, read_header};
pub use rehearsal::{Act, Played, Rehearsal, assume_account};
