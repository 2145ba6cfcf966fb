//! What can go wrong in the books, by whose fault.

use crate::account::{AccountId, ClientStatus};
use cocoon_units::{RequestId, Tokens};
use thiserror::Error;

/// Why a reservation is refused. The request must not run; the books are unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// The books never heard of this client: it must authorise first.
    #[error("unknown client")]
    UnknownClient,
    /// The client's contract does not admit requests now.
    #[error("client contract is {0:?}")]
    NotNormal(ClientStatus),
    /// The client must top up, wait for running requests, or let a charge settle.
    #[error("balance is too low: {needed:?} needed, {available:?} available")]
    TooLow {
        /// What the request needs in the worst case.
        needed: Tokens,
        /// What is there.
        available: Tokens,
    },
    /// The same request is running already.
    #[error("request is reserved already")]
    Duplicate,
}

/// A record that does not fit the books. On replay: the journal is damaged or not ours, stop and
/// keep the file. At run time: a bug of the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Fault {
    /// The request has no open reservation.
    #[error("no open reservation for this request")]
    NotReserved(RequestId),
    /// No such client.
    #[error("no client {0:?}")]
    NoClient(AccountId),
    /// No such worker.
    #[error("no worker {0:?}")]
    NoWorker(AccountId),
    /// A cumulative total would fall.
    #[error("total of {account:?} would fall from {from} to {to}")]
    Falling {
        /// Whose.
        account: AccountId,
        /// Known total.
        from: u64,
        /// Total offered.
        to: u64,
    },
    /// The chain shows more tokens than these books ever counted: the books are older than the
    /// chain. Stop serving this account and say so to the operator.
    #[error("chain shows {chain} tokens for {account:?}, the books only {books}")]
    BehindChain {
        /// Whose.
        account: AccountId,
        /// Total on chain.
        chain: u64,
        /// Total in the books.
        books: u64,
    },
    /// A commit that was never started, or that is out of order.
    #[error("commit {0} is unknown")]
    UnknownCommit(u32),
    /// A total would exceed 2^64 tokens.
    #[error("total of {0:?} overflows")]
    Overflow(AccountId),
    /// The record belongs to books that are not open, or opens them twice.
    #[error("record belongs to epoch {found}, the books are at {open:?}")]
    Epoch {
        /// Epoch of the books, none before the first record.
        open: Option<u32>,
        /// Epoch of the record.
        found: u32,
    },
}

/// An invariant of `docs/books.md` that does not hold: a bug of ours. Stop, keep the journal.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Broken {
    /// B1: what clients spent is not what workers earned.
    #[error("clients spent {spent}, workers earned {earned}")]
    Conservation {
        /// Sum over clients.
        spent: u128,
        /// Sum over workers.
        earned: u128,
    },
    /// B2: counters of an account are out of order.
    #[error("counters of {0:?} are not max >= durable >= committed")]
    Counters(AccountId),
    /// B3: a client's reserved total is not the sum of its open reservations.
    #[error("reserved total of {account:?} is {total}, reservations sum to {sum}")]
    Reserved {
        /// Whose.
        account: AccountId,
        /// The running total.
        total: u64,
        /// The sum.
        sum: u64,
    },
    /// B4: more was charged or paid on chain than was ever made durable.
    #[error("chain total of {account:?} is {chain}, durable only {durable}")]
    AheadOfDisk {
        /// Whose.
        account: AccountId,
        /// Total on chain.
        chain: u64,
        /// Total on disk.
        durable: u64,
    },
}
