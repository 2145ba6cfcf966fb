//! The one interface to a chain, whichever it is.

use cocoon_localchain::{GetterOutput, StackEntry};
use cocoon_units::Address;
use futures_util::future::BoxFuture;
use tycho_types::models::ShardAccount;

use crate::account::{Account, Head};
use crate::{ChainFault, TransactionRecord};

/// How far answers can be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// The chain runs in this process.
    Own,
    /// Every answer is proven from a block that was configured (or followed from it).
    Proven,
    /// The server is believed. Fine for show; a node that decides on money says so in its status.
    Believed,
}

/// What a call gives: boxed, so that nodes hold an `Arc<dyn Chain>` and need not be generic over
/// the chain. A call costs a network round trip or more; one allocation is nothing beside it.
pub type Answer<'a, T> = BoxFuture<'a, Result<T, ChainFault>>;

/// A TON network, to read and to write.
pub trait Chain: Send + Sync {
    /// Names the chain and its servers, for logs and status pages.
    fn name(&self) -> String;

    /// How far answers can be believed.
    fn trust(&self) -> Trust;

    /// The last masterchain block known.
    fn head(&self) -> Answer<'_, Head>;

    /// The state of an account: now, or after masterchain block `at`.
    fn account(&self, address: Address, at: Option<u32>) -> Answer<'_, Account>;

    /// Transactions of an account after logical time `after_lt` (exclusive), oldest first,
    /// aborted ones too; at most `limit` (the oldest ones, so that calling again goes on).
    ///
    /// [`ChainFault::Forgotten`] when the history does not reach back so far.
    fn transactions_since(
        &self,
        address: Address,
        after_lt: u64,
        limit: usize,
    ) -> Answer<'_, Vec<TransactionRecord>>;

    /// The last transactions of an account, newest first, at most `limit`. Fewer come when the
    /// history ends or is no longer kept.
    fn recent_transactions(
        &self,
        address: Address,
        limit: usize,
    ) -> Answer<'_, Vec<TransactionRecord>> {
        Box::pin(async move {
            let mut found = self.transactions_since(address, 0, usize::MAX).await?;
            found.reverse();
            found.truncate(limit);
            Ok(found)
        })
    }

    /// The account's whole record in its shard, with what it owes for storage; `None` when it
    /// does not exist. This is what a message is rehearsed on. A server that gives only the parts
    /// of it leaves the rest assumed ([`cocoon_localchain::assume_account`]): storage fees may
    /// then be missing.
    fn shard_account(&self, address: Address) -> Answer<'_, Option<ShardAccount>> {
        Box::pin(async move { self.account(address, None).await?.assume_shard(&self.name()) })
    }

    /// Sends an external message (a bag of cells); returns the hash of its cell. An answer means
    /// that the network took the message, not that it was processed: look for its transaction.
    fn send(&self, message: Vec<u8>) -> Answer<'_, [u8; 32]>;

    /// Runs a get-method in the account's current state. A contract without code refuses.
    fn run_getter<'a>(
        &'a self,
        address: Address,
        method: &'a str,
        stack: &'a [StackEntry],
    ) -> Answer<'a, GetterOutput>;

    /// Completes when the head has moved beyond `seqno`; never when the chain cannot tell. Callers
    /// bound the wait by their polling interval.
    fn moved_beyond(&self, seqno: u32) -> BoxFuture<'_, ()>;
}
