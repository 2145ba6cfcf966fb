//! The local chain as a running thing: the machine, its clock, its directory.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cocoon_localchain::{
    Genesis, GetterOutput, Input, LocalChain, Outcome, Refusal, StackEntry, Trouble, method_id,
};
use cocoon_units::{Address, Nanoton, UnixSeconds};
use futures_util::future::BoxFuture;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tycho_types::models::ShardAccount;

use crate::account::{Account, Head};
use crate::chain::{Answer, Chain, Trust};
use crate::store::Store;
use crate::{ChainFault, NodeFault, TransactionRecord};

/// Time between two blocks on TON's current network, milliseconds.
pub const BEAT_MS: u64 = 400;

/// How a local chain runs.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// What a new chain is born with; one that exists in `directory` keeps its own.
    pub genesis: Genesis,
    /// Where it is kept; `None` keeps it in memory only.
    pub directory: Option<PathBuf>,
    /// Time between two blocks, milliseconds; 0 means that blocks come only by hand
    /// ([`LocalNode::tick`], [`LocalNode::advance`]).
    pub beat_ms: u64,
    /// Goes on from the last good record of a damaged directory, which forgets what lies behind it.
    /// Damaged files are kept beside, with `.damaged` behind their names.
    pub repair: bool,
}

impl NodeConfig {
    /// A chain in memory with a block every 0.4 s, born now.
    #[must_use]
    pub fn in_memory(seed: [u8; 32]) -> Self {
        Self {
            genesis: Genesis::new(seed, wall_clock_ms()),
            directory: None,
            beat_ms: BEAT_MS,
            repair: false,
        }
    }
}

/// A handle to a running local chain; clones share it. The block clock stops when the last
/// handle is dropped.
#[derive(Clone)]
pub struct LocalNode {
    shared: Arc<Shared>,
    _clock: Arc<Clock>,
}

struct Shared {
    machine: Mutex<Machine>,
    head: watch::Sender<u32>,
}

struct Machine {
    chain: LocalChain,
    store: Option<Store>,
}

/// Ends the clock's task with the last handle.
struct Clock(Option<JoinHandle<()>>);

impl Drop for Clock {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}

impl LocalNode {
    /// Opens or begins a chain and starts its clock. Must be called within a tokio runtime when
    /// `beat_ms` is not 0.
    ///
    /// # Errors
    /// [`NodeFault`]: directory in use, unreadable or damaged; configuration unusable.
    pub fn open(config: &NodeConfig) -> Result<Self, NodeFault> {
        let (store, chain) = match &config.directory {
            Some(directory) => {
                let (store, chain) = Store::open(directory, &config.genesis, config.repair)?;
                (Some(store), chain)
            }
            None => (None, LocalChain::new(&config.genesis)?),
        };
        let (head, _) = watch::channel(chain.master_head().id.seqno);
        let shared = Arc::new(Shared { machine: Mutex::new(Machine { chain, store }), head });
        let clock = (config.beat_ms > 0).then(|| {
            let weak = Arc::downgrade(&shared);
            tokio::spawn(beat(weak, Duration::from_millis(config.beat_ms)))
        });
        Ok(Self { shared, _clock: Arc::new(Clock(clock)) })
    }

    /// Reads the machine. The chain stands still meanwhile: keep it short.
    pub fn read<T>(&self, question: impl FnOnce(&LocalChain) -> T) -> T {
        question(&self.shared.lock().chain)
    }

    /// Applies one input and writes it down.
    ///
    /// # Errors
    /// [`NodeFault::File`] when it could not be written down: nothing more is applied until it can
    /// be, and it may have been applied. Another [`NodeFault`] when the machine failed: stop the
    /// chain. A refusal is `Ok(Err(_))`.
    pub fn apply(&self, input: &Input) -> Result<Result<Outcome, Refusal>, NodeFault> {
        self.shared.apply(input)
    }

    /// Takes an external message; see [`LocalChain::submit`].
    ///
    /// # Errors
    /// As [`LocalNode::apply`].
    pub fn submit(&self, boc: Vec<u8>) -> Result<Result<[u8; 32], Refusal>, NodeFault> {
        let outcome = self.apply(&Input::External(boc))?;
        Ok(outcome.map(|outcome| match outcome {
            Outcome::Taken(hash) => hash.0,
            _ => [0; 32],
        }))
    }

    /// Orders coins from the faucet; see [`LocalChain::mint`].
    ///
    /// # Errors
    /// As [`LocalNode::apply`].
    pub fn faucet(&self, to: Address, amount: Nanoton) -> Result<Result<(), Refusal>, NodeFault> {
        Ok(self.apply(&Input::Faucet { to, amount })?.map(|_| ()))
    }

    /// Switches failures on or off.
    ///
    /// # Errors
    /// As [`LocalNode::apply`].
    pub fn set_trouble(&self, trouble: Trouble) -> Result<(), NodeFault> {
        self.apply(&Input::Trouble(trouble)).map(|_| ())
    }

    /// Lets the clock strike at `now_ms` (never earlier than before). Returns the number of the
    /// block, or `None` when trouble forbids one.
    ///
    /// # Errors
    /// As [`LocalNode::apply`].
    pub fn tick(&self, now_ms: u64) -> Result<Option<u32>, NodeFault> {
        let outcome = self.apply(&Input::Tick { now_ms })?;
        Ok(match outcome {
            Ok(Outcome::Sealed(sealed)) => Some(sealed.seqno()),
            _ => None,
        })
    }

    /// Lets the clock strike `by_ms` after the last block.
    ///
    /// # Errors
    /// As [`LocalNode::apply`].
    pub fn advance(&self, by_ms: u64) -> Result<Option<u32>, NodeFault> {
        let now_ms = self.read(LocalChain::last_ms).saturating_add(by_ms);
        self.tick(now_ms)
    }

    /// Writes a snapshot now; does nothing for a chain in memory.
    ///
    /// # Errors
    /// [`NodeFault::File`].
    pub fn save(&self) -> Result<(), NodeFault> {
        let Machine { chain, store } = &mut *self.shared.lock();
        store.as_mut().map_or(Ok(()), |store| store.snapshot(chain))
    }

    fn refused(refusal: &Refusal) -> ChainFault {
        ChainFault::Refused { server: LOCAL.to_owned(), reason: refusal.to_string() }
    }

    fn broken(fault: &NodeFault) -> ChainFault {
        ChainFault::Unreachable { server: LOCAL.to_owned(), reason: fault.to_string() }
    }

    pub(crate) fn read_account(
        &self,
        address: Address,
        at: Option<u32>,
    ) -> Result<Account, ChainFault> {
        self.read(|chain| {
            let head = head(chain);
            let unknown = |reason: String| ChainFault::Refused { server: LOCAL.into(), reason };
            let bad = |error: tycho_types::error::Error| unknown(error.to_string());
            let Some(seqno) = at else {
                let Some(state) = chain.account(address) else {
                    return Ok(Account::absent(address, head));
                };
                return Account::from_shard(address, state, head).map_err(bad);
            };
            let Some(sealed) = chain.sealed(seqno) else {
                return Err(unknown(format!("block {seqno} is not kept")));
            };
            let time = UnixSeconds(u64::from(sealed.master.gen_utime));
            let head = Head { seqno, time };
            let state = sealed
                .shard
                .state
                .parse::<tycho_types::models::ShardStateUnsplit>()
                .and_then(|state| state.load_accounts())
                .and_then(|accounts| accounts.get(tycho_types::cell::HashBytes(address.hash)))
                .map_err(bad)?;
            match state {
                Some((_, state)) if address.workchain == 0 => {
                    Account::from_shard(address, &state, head).map_err(bad)
                }
                _ => Ok(Account::absent(address, head)),
            }
        })
    }

    fn read_transactions(
        &self,
        address: Address,
        after_lt: u64,
        limit: usize,
    ) -> Result<Vec<TransactionRecord>, ChainFault> {
        let cells: Vec<_> = self.read(|chain| {
            chain
                .transactions(address, u64::MAX)
                .take_while(|entry| entry.lt > after_lt)
                .map(|entry| entry.transaction.inner().clone())
                .collect()
        });
        let mut records = Vec::with_capacity(cells.len().min(limit));
        for (number, cell) in cells.into_iter().rev().take(limit).enumerate() {
            let record =
                TransactionRecord::from_cell(cell, address.workchain).map_err(|error| {
                    ChainFault::Refused { server: LOCAL.to_owned(), reason: error.to_string() }
                })?;
            if number == 0 && record.previous.is_some_and(|previous| previous.lt > after_lt) {
                return Err(ChainFault::Forgotten { account: address.to_raw(), after_lt });
            }
            records.push(record);
        }
        Ok(records)
    }
}

/// How the chain in this process is called in faults.
const LOCAL: &str = "the local chain";

impl Shared {
    /// A panic elsewhere while the machine was locked cannot have left it half changed: every
    /// change is made on copies and swapped in.
    fn lock(&self) -> MutexGuard<'_, Machine> {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn apply(&self, input: &Input) -> Result<Result<Outcome, Refusal>, NodeFault> {
        let Machine { chain, store } = &mut *self.lock();
        if let Some(store) = store {
            // While the disk is full the chain is one input ahead of it, never two.
            store.settle()?;
        }
        let outcome = chain.apply(input)?;
        // What changed nothing need not be written down.
        let is_change = !matches!(outcome, Err(_) | Ok(Outcome::Idle));
        if let (true, Some(store)) = (is_change, store) {
            store.append(input)?;
            if store.is_snapshot_due() {
                // The log holds everything: it only grows until there is room for a snapshot.
                if let Err(fault) = store.snapshot(chain) {
                    tracing::warn!(error = &fault as &dyn std::error::Error, "no snapshot");
                }
            }
        }
        if let Ok(Outcome::Sealed(sealed)) = &outcome {
            self.head.send_replace(sealed.seqno());
        }
        Ok(outcome)
    }
}

async fn beat(shared: std::sync::Weak<Shared>, period: Duration) {
    let mut interval = tokio::time::interval(period);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    // A chain whose clock was made to jump goes on from there.
    let mut ahead_ms = 0_u64;
    let mut waits = false;
    loop {
        interval.tick().await;
        let Some(shared) = shared.upgrade() else { return };
        let last_ms = shared.lock().chain.last_ms();
        let wall_ms = wall_clock_ms();
        ahead_ms = ahead_ms.max(last_ms.saturating_sub(wall_ms));
        let now_ms = wall_ms.saturating_add(ahead_ms).max(last_ms);
        let struck = shared.apply(&Input::Tick { now_ms });
        let error = struck.as_ref().err().map(|fault| fault as &dyn std::error::Error);
        match &struck {
            Ok(_) => waits = false,
            // A disk that is full has room again some day.
            Err(NodeFault::File { .. }) if waits => {}
            Err(NodeFault::File { .. }) => {
                tracing::error!(error, "the local chain stands still until it can write");
                waits = true;
            }
            Err(_) => {
                tracing::error!(error, "the local chain stops");
                return;
            }
        }
    }
}

pub(crate) fn head(chain: &LocalChain) -> Head {
    let master = chain.master_head();
    Head { seqno: master.id.seqno, time: UnixSeconds(u64::from(master.gen_utime)) }
}

fn wall_clock_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

impl Chain for LocalNode {
    fn name(&self) -> String {
        "local (in this process)".to_owned()
    }

    fn trust(&self) -> Trust {
        Trust::Own
    }

    fn head(&self) -> Answer<'_, Head> {
        let head = self.read(head);
        Box::pin(async move { Ok(head) })
    }

    fn account(&self, address: Address, at: Option<u32>) -> Answer<'_, Account> {
        Box::pin(async move { self.read_account(address, at) })
    }

    fn transactions_since(
        &self,
        address: Address,
        after_lt: u64,
        limit: usize,
    ) -> Answer<'_, Vec<TransactionRecord>> {
        Box::pin(async move { self.read_transactions(address, after_lt, limit) })
    }

    fn recent_transactions(
        &self,
        address: Address,
        limit: usize,
    ) -> Answer<'_, Vec<TransactionRecord>> {
        Box::pin(async move {
            let cells: Vec<_> = self.read(|chain| {
                let entries = chain.transactions(address, u64::MAX).take(limit);
                entries.map(|entry| entry.transaction.inner().clone()).collect()
            });
            let read = |cell| TransactionRecord::from_cell(cell, address.workchain);
            cells.into_iter().map(read).collect::<Result<_, _>>().map_err(|error| {
                ChainFault::Refused { server: LOCAL.to_owned(), reason: error.to_string() }
            })
        })
    }

    fn shard_account(&self, address: Address) -> Answer<'_, Option<ShardAccount>> {
        let state = self.read(|chain| chain.account(address).cloned());
        Box::pin(async move { Ok(state) })
    }

    fn send(&self, message: Vec<u8>) -> Answer<'_, [u8; 32]> {
        Box::pin(async move {
            let taken = self.submit(message).map_err(|fault| Self::broken(&fault))?;
            taken.map_err(|refusal| Self::refused(&refusal))
        })
    }

    fn run_getter<'a>(
        &'a self,
        address: Address,
        method: &'a str,
        stack: &'a [StackEntry],
    ) -> Answer<'a, GetterOutput> {
        Box::pin(async move {
            let output = self.read(|chain| chain.run_getter(address, method_id(method), stack));
            output.ok_or_else(|| ChainFault::Refused {
                server: LOCAL.to_owned(),
                reason: format!("{} has no code to run {method} on", address.to_raw()),
            })
        })
    }

    fn moved_beyond(&self, seqno: u32) -> BoxFuture<'_, ()> {
        let mut head = self.shared.head.subscribe();
        Box::pin(async move {
            // The sender lives as long as this handle.
            let _ended = head.wait_for(|head| *head > seqno).await;
        })
    }
}
