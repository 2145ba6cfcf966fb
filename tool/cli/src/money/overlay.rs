//! A chain with changes that were only rehearsed: what a dry run of several steps looks at.

use cocoon_chain::{
    Account, Answer, Chain, GetterOutput, Head, ShardAccount, StackEntry, TransactionRecord, Trust,
};
use cocoon_units::Address;
use futures_util::future::BoxFuture;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// The chain below, except for the accounts that rehearsals changed. Nothing is ever sent.
pub(crate) struct Overlay {
    below: Arc<dyn Chain>,
    changed: Mutex<BTreeMap<Address, (ShardAccount, Head)>>,
}

impl Overlay {
    pub(crate) fn new(below: Arc<dyn Chain>) -> Self {
        Self { below, changed: Mutex::default() }
    }

    /// Keeps what a rehearsal led to.
    pub(crate) fn keep(&self, states: Vec<(Address, ShardAccount)>, head: Head) {
        let mut changed = self.changed.lock().unwrap_or_else(PoisonError::into_inner);
        changed.extend(states.into_iter().map(|(address, state)| (address, (state, head))));
    }

    fn find(&self, address: Address) -> Option<(ShardAccount, Head)> {
        self.changed.lock().unwrap_or_else(PoisonError::into_inner).get(&address).cloned()
    }
}

impl Chain for Overlay {
    fn name(&self) -> String {
        format!("{}, rehearsed", self.below.name())
    }

    fn trust(&self) -> Trust {
        self.below.trust()
    }

    fn head(&self) -> Answer<'_, Head> {
        self.below.head()
    }

    fn account(&self, address: Address, at: Option<u32>) -> Answer<'_, Account> {
        match self.find(address).filter(|_| at.is_none()) {
            Some((state, head)) => Box::pin(async move {
                Account::from_shard(address, &state, head).map_err(|fault| {
                    cocoon_chain::ChainFault::Refused {
                        server: "the rehearsal".to_owned(),
                        reason: fault.to_string(),
                    }
                })
            }),
            None => self.below.account(address, at),
        }
    }

    fn transactions_since(
        &self,
        address: Address,
        after_lt: u64,
        limit: usize,
    ) -> Answer<'_, Vec<TransactionRecord>> {
        self.below.transactions_since(address, after_lt, limit)
    }

    fn recent_transactions(
        &self,
        address: Address,
        limit: usize,
    ) -> Answer<'_, Vec<TransactionRecord>> {
        self.below.recent_transactions(address, limit)
    }

    fn shard_account(&self, address: Address) -> Answer<'_, Option<ShardAccount>> {
        match self.find(address) {
            Some((state, _)) => Box::pin(async move { Ok(Some(state)) }),
            None => self.below.shard_account(address),
        }
    }

    fn send(&self, _message: Vec<u8>) -> Answer<'_, [u8; 32]> {
        Box::pin(async {
            Err(cocoon_chain::ChainFault::Refused {
                server: "the rehearsal".to_owned(),
                reason: "nothing is sent in a dry run".to_owned(),
            })
        })
    }

    fn run_getter<'a>(
        &'a self,
        address: Address,
        method: &'a str,
        stack: &'a [StackEntry],
    ) -> Answer<'a, GetterOutput> {
        self.below.run_getter(address, method, stack)
    }

    fn moved_beyond(&self, seqno: u32) -> BoxFuture<'_, ()> {
        self.below.moved_beyond(seqno)
    }
}
