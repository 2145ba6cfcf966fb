//! What is ordered, and what becomes of it.

use cocoon_contract::cell::Hash;
use cocoon_contract::wallet::Outgoing;

/// Names an order to whoever gave it. Two orders with one label are one order while the first is
/// waiting or on its way: choose it from the purpose (or use the message's random query id).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Label(pub u64);

/// A message that the wallet shall send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// Under which name to report.
    pub label: Label,
    /// What to send. Fees come from the value, except for one nanoton (protocol notes 5.1).
    pub message: Outgoing,
}

/// What became of an order. Reports can come again after a restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Which order.
    pub label: Label,
    /// What became of it.
    pub outcome: Outcome,
}

/// What became of an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The wallet sent the message; [`Outcome::Arrived`] or [`Outcome::Unknown`] follows.
    Sent {
        /// Logical time of the wallet's transaction.
        lt: u64,
        /// Hash of the message's cell, as its receiver's transaction shows it.
        message: Hash,
    },
    /// The receiver's transaction is there. Not yet success: the contract may have refused.
    Arrived {
        /// Logical time of the receiver's transaction.
        lt: u64,
        /// The contract's exit code; `None` when no code ran (a plain account, or a message too
        /// small to pay for gas, as all messages of one nanoton are).
        exit_code: Option<i32>,
        /// Whether the transaction had no effect.
        is_aborted: bool,
    },
    /// The message did not leave the wallet and never will under this label: order it again if it
    /// is still wanted.
    NotSent {
        /// Why.
        reason: String,
    },
    /// What became of the message cannot be found out: look at the receiver before ordering
    /// anything again.
    Unknown {
        /// Why.
        reason: String,
    },
}

impl Outcome {
    /// Whether the receiver's code ran and ended well.
    #[must_use]
    pub fn is_success(&self) -> bool {
        matches!(self, Self::Arrived { exit_code: Some(0 | 1), is_aborted: false, .. })
    }

    /// Whether nothing more will be reported for this order.
    #[must_use]
    pub fn is_final(&self) -> bool {
        !matches!(self, Self::Sent { .. })
    }
}
