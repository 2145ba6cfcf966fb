//! What a life says: the next message, what it waits for, or that it is over.

use cocoon_contract::wallet::Outgoing;
use cocoon_units::{Address, Nanoton, Tokens};
use serde::{Deserialize, Serialize};
use std::fmt;

/// A step on chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Step {
    /// The contract is put on chain.
    Deploy,
    /// The client's balance grows.
    Deposit {
        /// By this much.
        amount: Nanoton,
        /// The secret's hash is changed along with it.
        with_secret: bool,
    },
    /// The secret's hash is changed.
    Secret,
    /// The proxy is shown its number.
    Register {
        /// The number.
        nonce: u64,
    },
    /// The proxy's signed total is charged.
    Charge {
        /// The total.
        tokens: Tokens,
    },
    /// What exceeds the stake comes back.
    Withdraw,
    /// Everything is asked back: the delay begins.
    AskRefund,
    /// The delay is over: everything is taken back, or what an earlier refund fell short of.
    ForceRefund,
    /// The proxy's signed total is paid out.
    Payout {
        /// The total.
        tokens: Tokens,
    },
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Deploy => f.write_str("put the contract on chain"),
            Self::Deposit { amount, with_secret: false } => write!(f, "deposit {amount}"),
            Self::Deposit { amount, with_secret: true } => {
                write!(f, "deposit {amount} and store the secret's hash")
            }
            Self::Secret => f.write_str("store the secret's hash"),
            Self::Register { .. } => f.write_str("show the proxy who we are"),
            Self::Charge { tokens } => {
                write!(f, "submit the proxy's signed total of {} tokens", tokens.0)
            }
            Self::Withdraw => f.write_str("take back what exceeds the stake"),
            Self::AskRefund => f.write_str("ask for everything back"),
            Self::ForceRefund => f.write_str("take everything back without the proxy"),
            Self::Payout { tokens } => {
                write!(f, "collect the proxy's signed total of {} tokens", tokens.0)
            }
        }
    }
}

/// A message to send from the owner's wallet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// What it does.
    pub step: Step,
    /// Names the order to the wallet; one label is sent once.
    pub label: u64,
    /// The message; its value holds everything that leaves the wallet.
    pub message: Outgoing,
    /// Part of the value that becomes a deposit.
    pub moved: Nanoton,
    /// Part of the value that stays on the contract until it is closed.
    pub stays: Nanoton,
    /// Upper estimate of the fees; the rest of the value comes back within seconds.
    pub fees: Nanoton,
    /// What the step brings back from the contract: to the wallet, or to the owner of a worker.
    pub returns: Nanoton,
    /// Why it is done now.
    pub why: String,
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.message.value;
        write!(f, "{}: {}. Sends {value}", self.step, self.why)?;
        let spent = self.moved.saturating_add(self.stays).saturating_add(self.fees);
        let back = value.saturating_sub(spent);
        if back > Nanoton::ZERO {
            write!(f, ", of which about {back} come back at once")?;
        }
        write!(f, "; fees are at most about {}", self.fees)?;
        if self.stays > Nanoton::ZERO {
            write!(f, "; {} stay on the contract until it is closed", self.stays)?;
        }
        if self.returns > Nanoton::ZERO {
            write!(f, "; {} come back from the contract", self.returns)?;
        }
        f.write_str(".")
    }
}

/// What is waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wait {
    /// The chain has not shown the accounts yet.
    Chain,
    /// A message is on its way.
    Effect {
        /// What it does.
        step: Step,
    },
    /// A message had no effect; the next attempt comes later.
    Retry {
        /// When, Unix seconds.
        at_s: u64,
        /// Attempts without effect.
        failures: u32,
    },
    /// The wallet has too little.
    Funds {
        /// The wallet.
        wallet: Address,
        /// What it has.
        has: Nanoton,
        /// What it needs.
        needs: Nanoton,
    },
    /// The proxy contract is not on chain yet.
    ProxyAbsent,
    /// The proxy contract is closing or closed: it gets no deposit.
    ProxyLeaves,
    /// The proxy's stake is too small for a deposit.
    ProxyStake {
        /// What it has.
        has: Nanoton,
        /// What is asked for.
        needs: Nanoton,
    },
    /// The proxy counts more than was seen: it gets no more money.
    Dispute {
        /// Its count.
        counted: Tokens,
        /// Ours.
        own: Tokens,
    },
    /// The proxy may give everything back by itself until then, for free.
    Grant {
        /// Unix seconds.
        until_s: u64,
    },
    /// The delay of a refund runs.
    Delay {
        /// Its end, Unix seconds.
        until_s: u64,
        /// What comes back then.
        amount: Nanoton,
    },
    /// A refund fell short of this much: the proxy contract does not have it now.
    Short {
        /// What is owed.
        amount: Nanoton,
        /// Next attempt, Unix seconds.
        at_s: u64,
    },
    /// Nothing has to be done now.
    Nothing,
    /// The account cannot be used.
    Broken {
        /// What is wrong with it.
        reason: String,
    },
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Chain => f.write_str("waits for the chain to show the accounts"),
            Self::Effect { step } => write!(f, "on its way to the chain: {step}"),
            Self::Retry { at_s, failures } => {
                write!(f, "{failures} messages had no effect; tries again at {at_s}")
            }
            Self::Funds { wallet, has, needs } => {
                let missing = needs.saturating_sub(*has);
                let wallet = wallet.to_friendly(cocoon_units::AddressForm::NON_BOUNCEABLE);
                write!(f, "the wallet has {has} and needs {needs}: send {missing} to {wallet}")
            }
            Self::ProxyAbsent => f.write_str("waits for the proxy contract to come on chain"),
            Self::ProxyLeaves => f.write_str("the proxy contract is closing: no deposit"),
            Self::ProxyStake { has, needs } => {
                write!(f, "the proxy's stake is {has}, asked for are {needs}: no deposit")
            }
            Self::Dispute { counted, own } => {
                let (counted, own) = (counted.0, own.0);
                write!(f, "the proxy counts {counted} tokens, we saw {own}: no more deposits")
            }
            Self::Grant { until_s } => {
                write!(f, "the proxy may give everything back by itself until {until_s}")
            }
            Self::Delay { until_s, amount } => {
                write!(f, "{amount} come back after {until_s}, or earlier by the proxy's hand")
            }
            Self::Short { amount, at_s } => {
                write!(f, "{amount} are still owed; asks the proxy contract again at {at_s}")
            }
            Self::Nothing => f.write_str("nothing to do"),
            Self::Broken { reason } => write!(f, "the account cannot be used: {reason}"),
        }
    }
}

/// How a life ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    /// The contract never came on chain and is not wanted.
    NeverOpened,
    /// What was wished for stands on chain.
    AsWished,
    /// The contract is closed and holds nothing of ours.
    Closed,
    /// What is left is not worth the fees of taking it.
    NotWorthIt {
        /// What is left.
        left: Nanoton,
    },
}

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NeverOpened => f.write_str("never opened"),
            Self::AsWished => f.write_str("done"),
            Self::Closed => f.write_str("closed, everything came back"),
            Self::NotWorthIt { left } => write!(f, "{left} are left, not worth their fees"),
        }
    }
}

/// The next thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Journal the order ([`crate::SettleRecord::Sent`]), tell the life
    /// ([`crate::ClientLife::sent`], [`crate::WorkerLife::sent`]), then send it.
    Send(Box<Order>),
    /// Look again when the chain moved, or when time went by.
    Wait(Wait),
    /// Nothing is left to do, unless wishes change.
    Done(Done),
}

impl fmt::Display for Next {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Send(order) => order.fmt(f),
            Self::Wait(wait) => wait.fmt(f),
            Self::Done(done) => done.fmt(f),
        }
    }
}
