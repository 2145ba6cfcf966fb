//! One account: a client's or a worker's line in the books.

use cocoon_units::{Nanoton, Tokens};
use serde::{Deserialize, Serialize};

/// Names an account. The books do not know what it stands for; callers use the hash part of the
/// owner's address (client: the client's wallet; worker: the worker's owner).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct AccountId(pub [u8; 32]);

impl std::fmt::Debug for AccountId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "account:")?;
        self.0[..4].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// State of a client's contract as last seen (protocol notes, chain 2.6 and 3.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClientStatus {
    /// Contract not seen yet: nothing may be spent.
    Unknown,
    /// Contract works: requests are admitted.
    Normal,
    /// The client asked for its money back: running requests end, new ones are refused.
    Closing,
    /// Contract is closed for good.
    Closed,
}

/// The three cumulative counters of an account.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Highest total ever counted.
    pub(crate) max: u64,
    /// Total that is on disk.
    pub(crate) durable: u64,
    /// Total that a confirmed state commit covers; payments are signed for it.
    pub(crate) committed: u64,
}

impl Account {
    /// Highest total ever counted.
    #[must_use]
    pub const fn max(&self) -> Tokens {
        Tokens(self.max)
    }

    /// Total that is durable; never above [`max`](Self::max).
    #[must_use]
    pub const fn durable(&self) -> Tokens {
        Tokens(self.durable)
    }

    /// Total covered by a confirmed commit; never above [`durable`](Self::durable).
    #[must_use]
    pub const fn committed(&self) -> Tokens {
        Tokens(self.committed)
    }
}

/// What the books know of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientAccount {
    /// The counters.
    pub(crate) counters: Account,
    pub(crate) status: ClientStatus,
    pub(crate) balance: u64,
    pub(crate) stake: u64,
    pub(crate) charged: u64,
    pub(crate) reserved: u64,
}

impl ClientAccount {
    /// The three counters.
    #[must_use]
    pub const fn counters(&self) -> &Account {
        &self.counters
    }

    /// Contract's state as last seen.
    #[must_use]
    pub const fn status(&self) -> ClientStatus {
        self.status
    }

    /// Contract's balance as last seen.
    #[must_use]
    pub const fn balance(&self) -> Nanoton {
        Nanoton(self.balance)
    }

    /// Contract's stake as last seen.
    #[must_use]
    pub const fn stake(&self) -> Nanoton {
        Nanoton(self.stake)
    }

    /// Tokens already charged on chain.
    #[must_use]
    pub const fn charged(&self) -> Tokens {
        Tokens(self.charged)
    }

    /// Tokens held by open reservations.
    #[must_use]
    pub const fn reserved(&self) -> Tokens {
        Tokens(self.reserved)
    }

    /// Tokens that the deposit covers in all, `payed` of protocol notes chain 3.4.
    #[must_use]
    pub fn payed(&self, price: Nanoton) -> Tokens {
        Tokens(tokens_for(self.balance, price).saturating_add(self.charged))
    }

    /// Tokens that may still be promised: the smaller of deposit and stake allowance, less what is
    /// used and reserved (protocol notes, chain 3.4). Zero when overdrawn.
    #[must_use]
    pub fn available(&self, price: Nanoton) -> Tokens {
        let allowance = tokens_for(self.stake, price).saturating_add(self.charged);
        let ceiling = self.payed(price).0.min(allowance);
        Tokens(ceiling.saturating_sub(self.reserved).saturating_sub(self.counters.max))
    }
}

/// What the books know of a worker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WorkerAccount {
    pub(crate) counters: Account,
    pub(crate) paid_out: u64,
}

impl WorkerAccount {
    /// The three counters.
    #[must_use]
    pub const fn counters(&self) -> &Account {
        &self.counters
    }

    /// Tokens paid out on chain.
    #[must_use]
    pub const fn paid_out(&self) -> Tokens {
        Tokens(self.paid_out)
    }
}

/// Tokens that an amount buys. A price of zero buys 10^12 (protocol notes, chain 3.4).
fn tokens_for(amount: u64, price: Nanoton) -> u64 {
    amount.checked_div(price.0).unwrap_or(1_000_000_000_000)
}
