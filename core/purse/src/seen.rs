//! What the hand saw on chain, as far as a purse cares.

use cocoon_contract::cell::{Cell, Hash};
use cocoon_units::{Address, Nanoton};

use crate::order::Label;

/// Whether the wallet's account exists and has code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WalletStanding {
    /// Not deployed, with or without coins.
    Uninit,
    /// Deployed.
    Active,
    /// Lost its code because it could not pay for storage.
    Frozen,
}

/// The wallet's account after some block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// Whether it is deployed.
    pub standing: WalletStanding,
    /// Its coins.
    pub balance: Nanoton,
    /// Its data, when it is deployed.
    pub data: Option<Cell>,
    /// Logical time of its last transaction; 0 when there is none.
    pub last_lt: u64,
    /// Time of the block, Unix seconds.
    pub time_s: u64,
}

/// A transaction of the wallet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passed {
    /// Logical time.
    pub lt: u64,
    /// Hash of the body of the external message that caused it; `None` for an internal message.
    pub external_body: Option<Hash>,
    /// Whether it had no effect but fees.
    pub is_aborted: bool,
    /// The contract's exit code, when code ran.
    pub exit_code: Option<i32>,
    /// What it sent, in order.
    pub sent: Vec<Sent>,
}

/// A message that the wallet sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Hash of the message's cell.
    pub message: Hash,
    /// To whom.
    pub to: Address,
    /// Hash of its body.
    pub body: Hash,
}

/// A receiver whose transactions the hand shall look through for a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lookout {
    /// Which order it is about.
    pub label: Label,
    /// The receiver.
    pub account: Address,
    /// Look after this logical time.
    pub after_lt: u64,
    /// Hash of the message's cell.
    pub message: Hash,
}

/// What the hand found out about a message at its receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// The receiver's transaction.
    Found {
        /// Logical time.
        lt: u64,
        /// The contract's exit code, when code ran.
        exit_code: Option<i32>,
        /// Whether it had no effect.
        is_aborted: bool,
    },
    /// Not there in the transactions up to this one.
    NotUpTo {
        /// Logical time of the last transaction that was looked at.
        lt: u64,
    },
    /// The receiver's history no longer reaches back so far.
    Forgotten,
}
