//! Two ways to one chain: a second one is used while the first is away, and says so.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cocoon_localchain::{GetterOutput, StackEntry};
use cocoon_units::Address;
use futures_util::future::BoxFuture;
use tycho_types::models::ShardAccount;

use crate::account::{Account, Head};
use crate::chain::{Answer, Chain, Trust};
use crate::{ChainFault, TransactionRecord};

/// Asks `first`; when it cannot be reached, or proves nothing, asks `second`. [`Chain::trust`]
/// tells where the last answer came from, so that a node that decides on money can refuse to
/// decide on belief.
pub struct Fallback {
    first: Arc<dyn Chain>,
    second: Arc<dyn Chain>,
    is_second: AtomicBool,
}

impl Fallback {
    /// `first` is preferred always.
    #[must_use]
    pub fn new(first: Arc<dyn Chain>, second: Arc<dyn Chain>) -> Self {
        Self { first, second, is_second: AtomicBool::new(false) }
    }

    /// Whether the last answer came from the second way.
    #[must_use]
    pub fn is_second(&self) -> bool {
        self.is_second.load(Ordering::Relaxed)
    }

    async fn ask<'a, T>(
        &'a self,
        question: impl Fn(&'a dyn Chain) -> Answer<'a, T>,
    ) -> Result<T, ChainFault> {
        let first = question(self.first.as_ref()).await;
        let Err(fault) = &first else {
            return self.came_from(false, first);
        };
        if !fault.is_transient() {
            return self.came_from(false, first);
        }
        match question(self.second.as_ref()).await {
            // The first way's fault says more: it is the one to repair.
            Err(second) if second.is_transient() => first,
            second => self.came_from(true, second),
        }
    }

    fn came_from<T>(
        &self,
        is_second: bool,
        answer: Result<T, ChainFault>,
    ) -> Result<T, ChainFault> {
        if self.is_second.swap(is_second, Ordering::Relaxed) != is_second {
            let name = if is_second { self.second.name() } else { self.first.name() };
            tracing::warn!(name, "the chain is read another way now");
        }
        answer
    }
}

impl Chain for Fallback {
    fn name(&self) -> String {
        format!("{}, else {}", self.first.name(), self.second.name())
    }

    fn trust(&self) -> Trust {
        if self.is_second() { self.second.trust() } else { self.first.trust() }
    }

    fn head(&self) -> Answer<'_, Head> {
        Box::pin(self.ask(|chain| chain.head()))
    }

    fn account(&self, address: Address, at: Option<u32>) -> Answer<'_, Account> {
        Box::pin(self.ask(move |chain| chain.account(address, at)))
    }

    fn transactions_since(
        &self,
        address: Address,
        after_lt: u64,
        limit: usize,
    ) -> Answer<'_, Vec<TransactionRecord>> {
        Box::pin(self.ask(move |chain| chain.transactions_since(address, after_lt, limit)))
    }

    fn recent_transactions(
        &self,
        address: Address,
        limit: usize,
    ) -> Answer<'_, Vec<TransactionRecord>> {
        Box::pin(self.ask(move |chain| chain.recent_transactions(address, limit)))
    }

    fn shard_account(&self, address: Address) -> Answer<'_, Option<ShardAccount>> {
        Box::pin(self.ask(move |chain| chain.shard_account(address)))
    }

    fn send(&self, message: Vec<u8>) -> Answer<'_, [u8; 32]> {
        Box::pin(self.ask(move |chain| chain.send(message.clone())))
    }

    fn run_getter<'a>(
        &'a self,
        address: Address,
        method: &'a str,
        stack: &'a [StackEntry],
    ) -> Answer<'a, GetterOutput> {
        Box::pin(self.ask(move |chain| chain.run_getter(address, method, stack)))
    }

    fn moved_beyond(&self, seqno: u32) -> BoxFuture<'_, ()> {
        if self.is_second() {
            self.second.moved_beyond(seqno)
        } else {
            self.first.moved_beyond(seqno)
        }
    }
}
