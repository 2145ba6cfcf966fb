//! An account as nodes see it.

use cocoon_units::{Address, Nanoton, UnixSeconds};
use tycho_types::cell::Cell;
use tycho_types::error::Error;
use tycho_types::models::{AccountState, ShardAccount, StateInit};

use crate::ChainFault;

/// Whether an account exists and has code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccountStatus {
    /// Nothing is known of it: no coin ever came in, or all went out.
    Absent,
    /// Has coins, but no code yet.
    Uninit,
    /// Has code and data.
    Active,
    /// Lost its code and data because it could not pay for storing them.
    Frozen,
}

/// A block as far as nodes care: its number on the masterchain and its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Sequence number of the masterchain block.
    pub seqno: u32,
    /// Time of the block.
    pub time: UnixSeconds,
}

/// Names a transaction: logical time and hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransactionId {
    /// Logical time, unique within the account.
    pub lt: u64,
    /// Hash of the transaction's cell.
    pub hash: [u8; 32],
}

/// The state of an account after some block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Which account.
    pub address: Address,
    /// Whether it exists and has code.
    pub status: AccountStatus,
    /// Its coins; amounts above 2^64 nanoton count as the largest that fits.
    pub balance: Nanoton,
    /// Its code.
    pub code: Option<Cell>,
    /// Its data.
    pub data: Option<Cell>,
    /// Its last transaction.
    pub last: Option<TransactionId>,
    /// The block in which this was its state.
    pub head: Head,
}

impl Account {
    /// An account nobody ever heard of.
    #[must_use]
    pub fn absent(address: Address, head: Head) -> Self {
        Self {
            address,
            status: AccountStatus::Absent,
            balance: Nanoton::ZERO,
            code: None,
            data: None,
            last: None,
            head,
        }
    }

    /// Reads the account out of a shard's state.
    ///
    /// # Errors
    /// When the cells are no account: whoever gave them is broken or lies.
    pub fn from_shard(address: Address, state: &ShardAccount, head: Head) -> Result<Self, Error> {
        let mut result = Self::absent(address, head);
        if state.last_trans_lt != 0 {
            let (lt, hash) = (state.last_trans_lt, state.last_trans_hash.0);
            result.last = Some(TransactionId { lt, hash });
        }
        let Some(account) = state.load_account()? else {
            return Ok(result);
        };
        result.balance = nanoton(account.balance.tokens);
        match account.state {
            AccountState::Uninit => result.status = AccountStatus::Uninit,
            AccountState::Frozen(_) => result.status = AccountStatus::Frozen,
            AccountState::Active(init) => {
                result.status = AccountStatus::Active;
                result.code = init.code;
                result.data = init.data;
            }
        }
        Ok(result)
    }

    /// The record in the shard as far as the parts tell; `None` when the account does not exist.
    pub(crate) fn assume_shard(self, server: &str) -> Result<Option<ShardAccount>, ChainFault> {
        let refuse = |reason: String| ChainFault::Refused { server: server.to_owned(), reason };
        let state = match self.status {
            AccountStatus::Absent => return Ok(None),
            AccountStatus::Uninit => AccountState::Uninit,
            AccountStatus::Active => {
                let (code, data) = (self.code, self.data);
                AccountState::Active(StateInit { code, data, ..StateInit::default() })
            }
            AccountStatus::Frozen => return Err(refuse("the account is frozen".to_owned())),
        };
        let balance = u128::from(self.balance.0);
        let last_lt = self.last.map_or(0, |last| last.lt);
        cocoon_localchain::assume_account(self.address, balance, state, last_lt, self.head.time)
            .map(Some)
            .map_err(|fault| refuse(fault.to_string()))
    }
}

/// Amounts above 2^64 nanoton count as the largest that fits.
pub(crate) fn nanoton(tokens: tycho_types::num::Tokens) -> Nanoton {
    u64::try_from(tokens.into_inner()).map_or(Nanoton::MAX, Nanoton)
}
