//! Following one account: every transaction once, in order, then the state it led to.

use std::sync::Arc;
use std::time::Duration;

use cocoon_units::Address;

use crate::account::Account;
use crate::{Chain, ChainFault, TransactionRecord};

/// Most transactions fetched at once.
const PAGE: usize = 64;
/// Most transactions handed over in one step; the rest follows in the next.
const STEP_MAX: usize = 1024;

/// What happened to the account since the last step.
#[derive(Clone, Debug)]
pub struct Step {
    /// The transactions, oldest first, aborted ones too.
    pub transactions: Vec<TransactionRecord>,
    /// The state, never older than the last of `transactions`. When more than one step's worth
    /// happened, it may be newer.
    pub account: Account,
}

/// Follows one account (protocol notes 6.1): the first state is the starting point, history
/// before it is not replayed; from then on every transaction is seen once.
pub struct Follower {
    chain: Arc<dyn Chain>,
    address: Address,
    last_lt: Option<u64>,
    poll: Duration,
}

impl Follower {
    /// Follows `address` from now on, looking at least every `poll`.
    #[must_use]
    pub fn from_now(chain: Arc<dyn Chain>, address: Address, poll: Duration) -> Self {
        Self { chain, address, last_lt: None, poll }
    }

    /// Follows `address` from the transaction after `last_lt` on.
    #[must_use]
    pub fn from_lt(chain: Arc<dyn Chain>, address: Address, last_lt: u64, poll: Duration) -> Self {
        Self { chain, address, last_lt: Some(last_lt), poll }
    }

    /// Looks once: what happened since the last step, possibly nothing.
    ///
    /// # Errors
    /// As the chain's; a failed step changes nothing, so it can be repeated.
    pub async fn look(&mut self) -> Result<Step, ChainFault> {
        let account = self.chain.account(self.address, None).await?;
        let newest_lt = account.last.map_or(0, |last| last.lt);
        let Some(mut after_lt) = self.last_lt else {
            self.last_lt = Some(newest_lt);
            return Ok(Step { transactions: Vec::new(), account });
        };
        let mut transactions = Vec::new();
        while after_lt < newest_lt && transactions.len() < STEP_MAX {
            let page = self.chain.transactions_since(self.address, after_lt, PAGE).await?;
            let Some(last) = page.last() else { break };
            after_lt = last.id.lt;
            transactions.extend(page);
        }
        self.last_lt = Some(after_lt);
        // The fetch may have seen more than the state did: fetch the state again then.
        let account = if after_lt > newest_lt {
            self.chain.account(self.address, None).await?
        } else {
            account
        };
        Ok(Step { transactions, account })
    }

    /// Waits until something happened. The first call returns at once with the state.
    ///
    /// # Errors
    /// As the chain's; call again after a while.
    pub async fn next(&mut self) -> Result<Step, ChainFault> {
        let is_first = self.last_lt.is_none();
        loop {
            let step = self.look().await?;
            if is_first || !step.transactions.is_empty() {
                return Ok(step);
            }
            let moved = self.chain.moved_beyond(step.account.head.seqno);
            let _either = tokio::time::timeout(self.poll, moved).await;
        }
    }
}
