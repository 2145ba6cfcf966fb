//! A contract's account as the chain shows it.

use cocoon_contract::cell::Cell;
use cocoon_contract::state::{ClientState, ProxyState, WorkerState};
use cocoon_units::Nanoton;

/// What is known of an account that should hold a contract with the state `T`.
///
/// An address is the hash of code and first data, so an account with code at a derived address is
/// the contract it was derived for; its code never changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Seen<T> {
    /// Nobody has looked yet, or the chain does not answer.
    #[default]
    Unknown,
    /// No contract is there; coins may be.
    Absent {
        /// Coins on the account.
        balance: Nanoton,
    },
    /// The contract is there.
    Here {
        /// What it stores.
        state: T,
        /// Coins on the account.
        balance: Nanoton,
        /// Logical time of its last transaction.
        last_lt: u64,
    },
    /// Something else is there: it ran out of coins and was frozen, or its data is unreadable.
    Broken {
        /// What is wrong.
        reason: String,
    },
}

impl<T> Seen<T> {
    /// The contract's state, when it is there.
    #[must_use]
    pub const fn state(&self) -> Option<&T> {
        match self {
            Self::Here { state, .. } => Some(state),
            _ => None,
        }
    }

    /// Coins on the account, as far as known.
    #[must_use]
    pub const fn balance(&self) -> Nanoton {
        match self {
            Self::Absent { balance } | Self::Here { balance, .. } => *balance,
            Self::Unknown | Self::Broken { .. } => Nanoton::ZERO,
        }
    }

    fn read(
        data: Option<&Cell>,
        (balance, last_lt): (Nanoton, u64),
        parse: impl FnOnce(&Cell) -> Result<T, cocoon_contract::Fault>,
    ) -> Self {
        let Some(data) = data else { return Self::Absent { balance } };
        match parse(data) {
            Ok(state) => Self::Here { state, balance, last_lt },
            Err(fault) => Self::Broken { reason: fault.to_string() },
        }
    }

    /// An account that lost its contract because it could not pay for its storage.
    #[must_use]
    pub fn frozen() -> Self {
        Self::Broken { reason: "the account is frozen: its coins ran out".to_owned() }
    }
}

impl Seen<ClientState> {
    /// Reads a client contract's account: its data when it has code, coins, last logical time.
    #[must_use]
    pub fn client(data: Option<&Cell>, balance: Nanoton, last_lt: u64) -> Self {
        Self::read(data, (balance, last_lt), |cell| ClientState::parse(cell).map(|read| read.0))
    }
}

impl Seen<WorkerState> {
    /// Reads a worker contract's account.
    #[must_use]
    pub fn worker(data: Option<&Cell>, balance: Nanoton, last_lt: u64) -> Self {
        Self::read(data, (balance, last_lt), |cell| WorkerState::parse(cell).map(|read| read.0))
    }
}

impl Seen<ProxyState> {
    /// Reads a proxy contract's account.
    #[must_use]
    pub fn proxy(data: Option<&Cell>, balance: Nanoton, last_lt: u64) -> Self {
        Self::read(data, (balance, last_lt), |cell| ProxyState::parse(cell).map(|read| read.0))
    }
}
