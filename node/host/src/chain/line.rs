//! The line to the chain: the chain itself, and since when it has been silent.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use cocoon_chain::{Account, Answer, Chain, ChainFault, Head, TransactionRecord, Trust};
use cocoon_units::Address;
use futures_util::future::BoxFuture;

/// How long a head that does not move is believed to be the head.
const STANDS_STILL: Duration = Duration::from_secs(60);

/// A chain whose answers are watched: when it went silent, and what it said last.
pub struct ChainLine {
    chain: Arc<dyn Chain>,
    health: Mutex<Health>,
}

struct Health {
    /// When it last answered, or the line was opened.
    answered: Instant,
    /// When its head last moved.
    moved: Instant,
    head: Option<Head>,
    fault: Option<String>,
}

/// What a status page says of the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LineStatus {
    /// Which chain, through which servers.
    pub name: String,
    /// How far its answers can be believed.
    pub trust: Trust,
    /// The last block known.
    pub head: Option<Head>,
    /// For how long it has been away; `None` while it answers and moves.
    pub away: Option<Duration>,
    /// What went wrong last, while it is away.
    pub fault: Option<String>,
}

impl ChainLine {
    /// Watches a chain.
    #[must_use]
    pub fn new(chain: Arc<dyn Chain>) -> Self {
        let now = Instant::now();
        let health = Health { answered: now, moved: now, head: None, fault: None };
        Self { chain, health: Mutex::new(health) }
    }

    /// For how long the chain has not answered, or stood still; zero while all is well.
    #[must_use]
    pub fn away(&self) -> Duration {
        let health = self.lock();
        let still = health.moved.elapsed();
        let still = if still > STANDS_STILL { still } else { Duration::ZERO };
        match &health.fault {
            Some(_) => health.answered.elapsed().max(still),
            None => still,
        }
    }

    /// The line, to look at.
    #[must_use]
    pub fn status(&self) -> LineStatus {
        let away = self.away();
        let health = self.lock();
        LineStatus {
            name: self.chain.name(),
            trust: self.chain.trust(),
            head: health.head,
            away: (away > Duration::ZERO).then_some(away),
            fault: health.fault.clone(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes an answer or its absence. A refusal is an answer.
    fn note<T>(&self, answer: Result<T, ChainFault>) -> Result<T, ChainFault> {
        let mut health = self.lock();
        match &answer {
            Err(fault) if fault.is_transient() => {
                if health.fault.is_none() {
                    tracing::warn!(chain = self.chain.name(), %fault, "the chain is away");
                }
                health.fault = Some(fault.to_string());
            }
            _ => {
                if health.fault.take().is_some() {
                    let away_s = health.answered.elapsed().as_secs();
                    tracing::info!(chain = self.chain.name(), away_s, "the chain is back");
                }
                health.answered = Instant::now();
            }
        }
        answer
    }

    fn note_head(&self, head: Head) {
        let mut health = self.lock();
        if health.head.is_none_or(|known| known.seqno < head.seqno) {
            health.head = Some(head);
            health.moved = Instant::now();
        }
    }
}

impl Chain for ChainLine {
    fn name(&self) -> String {
        self.chain.name()
    }

    fn trust(&self) -> Trust {
        self.chain.trust()
    }

    fn head(&self) -> Answer<'_, Head> {
        Box::pin(async move {
            let head = self.note(self.chain.head().await)?;
            self.note_head(head);
            Ok(head)
        })
    }

    fn account(&self, address: Address, at: Option<u32>) -> Answer<'_, Account> {
        Box::pin(async move {
            let account = self.note(self.chain.account(address, at).await)?;
            self.note_head(account.head);
            Ok(account)
        })
    }

    fn transactions_since(
        &self,
        address: Address,
        after_lt: u64,
        limit: usize,
    ) -> Answer<'_, Vec<TransactionRecord>> {
        Box::pin(
            async move { self.note(self.chain.transactions_since(address, after_lt, limit).await) },
        )
    }

    fn recent_transactions(
        &self,
        address: Address,
        limit: usize,
    ) -> Answer<'_, Vec<TransactionRecord>> {
        Box::pin(async move { self.note(self.chain.recent_transactions(address, limit).await) })
    }

    fn shard_account(&self, address: Address) -> Answer<'_, Option<cocoon_chain::ShardAccount>> {
        Box::pin(async move { self.note(self.chain.shard_account(address).await) })
    }

    fn send(&self, message: Vec<u8>) -> Answer<'_, [u8; 32]> {
        Box::pin(async move { self.note(self.chain.send(message).await) })
    }

    fn run_getter<'a>(
        &'a self,
        address: Address,
        method: &'a str,
        stack: &'a [cocoon_chain::StackEntry],
    ) -> Answer<'a, cocoon_chain::GetterOutput> {
        Box::pin(async move { self.note(self.chain.run_getter(address, method, stack).await) })
    }

    fn moved_beyond(&self, seqno: u32) -> BoxFuture<'_, ()> {
        self.chain.moved_beyond(seqno)
    }
}
