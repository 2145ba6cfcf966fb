//! A chain behind lite servers that need not be believed.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cocoon_localchain::{GetterOutput, StackEntry, method_id, run_getter};
use cocoon_units::{Address, UnixSeconds};
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::time::Instant;
use tycho_types::boc::Boc;
use tycho_types::cell::HashBytes;
use tycho_types::models::{BlockId, BlockchainConfigParams, ShardAccount, ShardIdent, StdAddr};

use super::check::{self, ProofFault, ProvenAccount, Trusted};
use super::global::{GlobalConfig, LiteServer};
use super::link::{Link, LinkFault};
use super::wire::{
    AccountId, AccountState, BlockHeader, ConfigInfo, GetBlockProof, LookupBlock, MasterchainInfo,
    PartialBlockProof, Query, SendMsgStatus, TransactionList,
};
use crate::account::{Account, Head};
use crate::chain::{Answer, Chain, Trust};
use crate::{ChainFault, TransactionRecord};

/// When a server has not answered for so long, the next one is asked besides.
const HEDGE: Duration = Duration::from_millis(400);
/// How long one question may take in all.
const QUESTION_TIMEOUT: Duration = Duration::from_secs(15);
/// When every server was dropped, those dropped longer ago than this get another chance: a block
/// of a form unknown to this version must not part a node from the chain for ever.
const PARDON: Duration = Duration::from_secs(30);
/// A server that could not be reached is left alone for so long.
const PAUSE: Duration = Duration::from_secs(2);
/// Transactions asked for at once, as many as servers give.
const PAGE: u32 = 16;
/// Most transactions walked back over in one call.
const WALK_MAX: usize = 10_000;
/// Most rounds of block proofs from the configured block to the head.
const PROOF_ROUNDS_MAX: usize = 4_096;
/// Error of lite servers for what they do not have (yet).
const NOT_READY: i32 = 651;

/// A TON network read through lite servers, every answer proven from the configured block on.
///
/// Several servers are used: one that does not answer within 0.4 s is hedged by the next; one
/// whose answer does not prove is dropped for good and named in the log.
pub struct LiteServers {
    servers: Vec<Arc<Server>>,
    zero_state: BlockId,
    trusted: Mutex<Trusted>,
    config: Mutex<Option<(BlockId, BlockchainConfigParams)>>,
}

struct Server {
    at: LiteServer,
    link: tokio::sync::Mutex<LinkState>,
    health: Mutex<Health>,
}

#[derive(Default)]
struct LinkState {
    link: Option<Arc<Link>>,
    pause_until: Option<Instant>,
}

#[derive(Clone, Default)]
struct Health {
    /// Why and when it was dropped.
    lie: Option<(String, Instant)>,
    /// When it last failed to answer.
    failed_at: Option<Instant>,
}

/// Why one server did not do.
#[derive(Debug, thiserror::Error)]
enum ServerFault {
    #[error(transparent)]
    Link(#[from] LinkFault),
    #[error(transparent)]
    Proof(#[from] ProofFault),
    #[error("{0}")]
    Behind(&'static str),
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Server {
    fn name(&self) -> String {
        format!("lite server {}", self.at.address)
    }

    async fn link(&self) -> Result<Arc<Link>, LinkFault> {
        let mut state = self.link.lock().await;
        if let Some(link) = state.link.as_ref().filter(|link| link.is_alive()) {
            return Ok(link.clone());
        }
        if state.pause_until.is_some_and(|until| Instant::now() < until) {
            return Err(LinkFault::Gone("it could not be reached a moment ago".to_owned()));
        }
        match Link::open(self.at.address, &self.at.key).await {
            Ok(link) => {
                let link = Arc::new(link);
                *state = LinkState { link: Some(link.clone()), pause_until: None };
                Ok(link)
            }
            Err(fault) => {
                *state = LinkState { link: None, pause_until: Some(Instant::now() + PAUSE) };
                Err(fault)
            }
        }
    }

    async fn ask<T>(&self, query: Query) -> Result<T, ServerFault>
    where
        T: for<'a> tl_proto::TlRead<'a, Repr = tl_proto::Boxed>,
    {
        Ok(self.link().await?.ask(&query).await?)
    }

    /// Books how a question ended and turns the fault into the caller's.
    fn judge(&self, fault: &ServerFault) -> ChainFault {
        let server = self.name();
        match fault {
            ServerFault::Proof(proof) => {
                let reason = proof.to_string();
                tracing::error!(server, reason, "dropped: its answer does not prove");
                lock(&self.health).lie = Some((reason.clone(), Instant::now()));
                ChainFault::Unverifiable { server, reason }
            }
            ServerFault::Link(LinkFault::Refused { code, message }) if *code != NOT_READY => {
                ChainFault::Refused { server, reason: message.clone() }
            }
            other => {
                lock(&self.health).failed_at = Some(Instant::now());
                ChainFault::Unreachable { server, reason: other.to_string() }
            }
        }
    }
}

impl LiteServers {
    /// A network by its configuration file. Nothing is asked yet.
    #[must_use]
    pub fn new(config: &GlobalConfig) -> Self {
        let servers = config.servers.iter().map(|at| {
            Arc::new(Server {
                at: *at,
                link: tokio::sync::Mutex::default(),
                health: Mutex::default(),
            })
        });
        Self {
            servers: servers.collect(),
            zero_state: config.zero_state,
            trusted: Mutex::new(Trusted { key: config.init_block, last: config.init_block }),
            config: Mutex::new(None),
        }
    }

    /// The servers that were dropped, with the reason: for status pages.
    #[must_use]
    pub fn dropped(&self) -> Vec<(std::net::SocketAddr, String)> {
        let lie = |server: &Arc<Server>| {
            lock(&server.health).lie.clone().map(|(lie, _)| (server.at.address, lie))
        };
        self.servers.iter().filter_map(lie).collect()
    }

    /// The servers in the order to ask them: those that failed lately last, dropped ones never.
    fn ranked(&self) -> Vec<Arc<Server>> {
        let health = |server: &Arc<Server>| lock(&server.health).clone();
        if self.servers.iter().all(|server| health(server).lie.is_some()) {
            self.pardon();
        }
        let mut ranked: Vec<_> = self
            .servers
            .iter()
            .map(|server| (health(server), server.clone()))
            .filter(|(health, _)| health.lie.is_none())
            .map(|(health, server)| (health.failed_at, server))
            .collect();
        ranked.sort_by_key(|(failed_at, _)| *failed_at);
        ranked.into_iter().map(|(_, server)| server).collect()
    }

    fn pardon(&self) {
        for server in &self.servers {
            let mut health = lock(&server.health);
            if health.lie.as_ref().is_some_and(|(_, at)| at.elapsed() > PARDON) {
                tracing::warn!(server = server.name(), "all were dropped: asked again");
                health.lie = None;
            }
        }
    }

    /// Puts a question to one server after the other, without waiting long for each, until one
    /// gives an answer that proves. When none does, a refusal says more than silence.
    async fn question<T, F>(&self, ask: impl Fn(Arc<Server>) -> F) -> Result<T, ChainFault>
    where
        F: Future<Output = Result<T, ServerFault>>,
    {
        let mut last_fault = ChainFault::Unreachable {
            server: "the set of lite servers".to_owned(),
            reason: "every one was dropped for lying".to_owned(),
        };
        let mut servers = self.ranked().into_iter();
        let mut running = FuturesUnordered::new();
        let deadline = Instant::now() + QUESTION_TIMEOUT;
        loop {
            if let Some(server) = servers.next() {
                let asked = ask(server.clone());
                running.push(async move { (server, asked.await) });
            }
            let more = servers.len() > 0;
            let patience = if more { Instant::now() + HEDGE } else { deadline };
            let next = tokio::time::timeout_at(patience.min(deadline), running.next()).await;
            match next {
                Ok(Some((_, Ok(answer)))) => return Ok(answer),
                // One that refuses may just want to hide something: the others are asked too.
                Ok(Some((server, Err(fault)))) => {
                    let judged = server.judge(&fault);
                    if !matches!(last_fault, ChainFault::Refused { .. }) {
                        last_fault = judged;
                    }
                }
                Ok(None) if !more => return Err(last_fault),
                Ok(None) => {}
                Err(_) if Instant::now() >= deadline => {
                    return Err(ChainFault::Unreachable {
                        server: "the set of lite servers".to_owned(),
                        reason: "no answer in time".to_owned(),
                    });
                }
                // Silent so far: the next one is asked besides.
                Err(_) => {}
            }
        }
    }

    /// The newest masterchain block that `server` knows, proven. Never older than one proven
    /// before: what was seen once is not unseen.
    async fn prove_head(&self, server: &Server) -> Result<BlockId, ServerFault> {
        let info: MasterchainInfo = server.ask(Query::GetMasterchainInfo).await?;
        let zero = &self.zero_state;
        if (info.init.root_hash, info.init.file_hash) != (zero.root_hash.0, zero.file_hash.0) {
            return Err(ServerFault::Proof(ProofFault::Wrong("it serves another network")));
        }
        let head = info.last.to_block_id().ok_or(ProofFault::Wrong("a head of no shard"))?;
        let trusted = *lock(&self.trusted);
        if head == trusted.last {
            return Ok(head);
        }
        if head.seqno < trusted.last.seqno {
            return Err(ServerFault::Behind("it is behind the newest block seen"));
        }
        let proven = self.prove_block(server, trusted.key, head).await?;
        let mut trusted = lock(&self.trusted);
        if proven.last.seqno > trusted.last.seqno {
            trusted.last = proven.last;
        }
        if proven.key.seqno > trusted.key.seqno {
            trusted.key = proven.key;
        }
        Ok(head)
    }

    /// Proves `target` from the trusted block `from`, however many rounds it takes.
    async fn prove_block(
        &self,
        server: &Server,
        from: BlockId,
        target: BlockId,
    ) -> Result<Trusted, ServerFault> {
        let mut reached = Trusted { key: lock(&self.trusted).key, last: from };
        for _ in 0..PROOF_ROUNDS_MAX {
            if reached.last == target {
                return Ok(reached);
            }
            let query = Query::GetBlockProof(GetBlockProof {
                known: reached.last.into(),
                target: Some(target.into()),
            });
            let proof: PartialBlockProof = server.ask(query).await?;
            let next = check::check_block_proof(&proof, reached.last, reached.key)?;
            if next.last == reached.last {
                break;
            }
            reached = next;
        }
        Err(ServerFault::Proof(ProofFault::Wrong("the chain of proofs leads nowhere")))
    }

    /// The proven block with number `at`, or the head.
    async fn prove_at(&self, server: &Server, at: Option<u32>) -> Result<BlockId, ServerFault> {
        let head = self.prove_head(server).await?;
        let Some(seqno) = at.filter(|seqno| *seqno != head.seqno) else {
            return Ok(head);
        };
        let lookup = LookupBlock {
            mode: 1,
            workchain: -1,
            shard: ShardIdent::PREFIX_FULL,
            seqno,
            lt: None,
            utime: None,
        };
        let found: BlockHeader = server.ask(Query::LookupBlock(lookup)).await?;
        let block = found.id.to_block_id().ok_or(ProofFault::Wrong("a block of no shard"))?;
        if block.seqno != seqno || !block.shard.is_masterchain() {
            return Err(ServerFault::Proof(ProofFault::Wrong("another block was looked up")));
        }
        self.prove_block(server, head, block).await?;
        Ok(block)
    }

    async fn prove_account(
        &self,
        server: &Server,
        address: Address,
        at: Option<u32>,
    ) -> Result<(BlockId, ProvenAccount), ServerFault> {
        let block = self.prove_at(server, at).await?;
        let account = AccountId { workchain: i32::from(address.workchain), id: address.hash };
        let query = Query::GetAccountState { id: block.into(), account };
        let answer: AccountState = server.ask(query).await?;
        let address = StdAddr::new(address.workchain, HashBytes(address.hash));
        Ok((block, check::check_account(&answer, &block, &address)?))
    }

    async fn read_account(
        &self,
        server: &Server,
        address: Address,
        at: Option<u32>,
    ) -> Result<Account, ServerFault> {
        let (block, proven) = self.prove_account(server, address, at).await?;
        let time = UnixSeconds(u64::from(proven.gen_utime));
        let head = Head { seqno: block.seqno, time };
        match &proven.state {
            None => Ok(Account::absent(address, head)),
            Some(state) => Account::from_shard(address, state, head)
                .map_err(|error| ProofFault::Cells("an account", error).into()),
        }
    }

    async fn read_head(&self, server: &Server) -> Result<Head, ServerFault> {
        let head = self.prove_head(server).await?;
        let query = Query::GetBlockHeader { id: head.into(), mode: 0 };
        let header: BlockHeader = server.ask(query).await?;
        let header = check::check_header(&header.header_proof, &head)?;
        Ok(Head { seqno: head.seqno, time: UnixSeconds(u64::from(header.gen_utime)) })
    }

    async fn read_transactions(
        &self,
        server: &Server,
        address: Address,
        after_lt: u64,
        limit: usize,
    ) -> Result<Vec<TransactionRecord>, ServerFault> {
        let (_, proven) = self.prove_account(server, address, None).await?;
        let Some(state) = proven.state else {
            return Ok(Vec::new());
        };
        let account = AccountId { workchain: i32::from(address.workchain), id: address.hash };
        let mut next = (state.last_trans_lt, state.last_trans_hash);
        let mut walked = Vec::new();
        while next.0 > after_lt && walked.len() < limit.min(WALK_MAX) {
            let (lt, hash) = (next.0, next.1.0);
            let query = Query::GetTransactions { count: PAGE, account, lt, hash };
            let page: TransactionList = server.ask(query).await?;
            let (cells, after) =
                check::check_transactions(&page.transactions, &HashBytes(address.hash), next)?;
            next = after;
            for cell in cells {
                let record = TransactionRecord::from_cell(cell, address.workchain)
                    .map_err(|error| ProofFault::Cells("a transaction", error))?;
                walked.push(record);
            }
        }
        walked.retain(|record| record.id.lt > after_lt);
        walked.reverse();
        Ok(walked)
    }

    /// The configuration, which changes with key blocks only.
    async fn prove_config(
        &self,
        server: &Server,
        block: BlockId,
    ) -> Result<BlockchainConfigParams, ServerFault> {
        let key = lock(&self.trusted).key;
        if let Some((at, config)) = lock(&self.config).as_ref()
            && *at == key
        {
            return Ok(config.clone());
        }
        let query = Query::GetConfigAll { mode: 0, id: block.into() };
        let info: ConfigInfo = server.ask(query).await?;
        let config = check::check_config(&info.state_proof, &info.config_proof, &block)?;
        *lock(&self.config) = Some((key, config.clone()));
        Ok(config)
    }

    async fn run(
        &self,
        server: &Server,
        address: Address,
        method: &str,
        stack: &[StackEntry],
    ) -> Result<Option<GetterOutput>, ServerFault> {
        let (block, proven) = self.prove_account(server, address, None).await?;
        let Some(state) = proven.state else {
            return Ok(None);
        };
        let account =
            state.load_account().map_err(|error| ProofFault::Cells("an account", error))?;
        let Some(account) = account else {
            return Ok(None);
        };
        let config = self.prove_config(server, block).await?;
        Ok(run_getter(&config, &account, proven.gen_utime, method_id(method), stack))
    }

    /// Hands a message to every server: one that hides it must not be enough.
    async fn broadcast(&self, message: Vec<u8>) -> Result<[u8; 32], ChainFault> {
        let hash = Boc::decode(&message).map(|cell| cell.repr_hash().0);
        let hash = hash.map_err(|error| ChainFault::Refused {
            server: "this client".to_owned(),
            reason: format!("not a bag of cells: {error}"),
        })?;
        let mut running: FuturesUnordered<_> = self
            .ranked()
            .into_iter()
            .map(|server| {
                let query = Query::SendMessage { body: message.clone() };
                async move {
                    let sent = tokio::time::timeout(QUESTION_TIMEOUT, server.ask(query)).await;
                    let late = LinkFault::Gone("no answer in time".to_owned());
                    let sent: Result<SendMsgStatus, _> = sent.unwrap_or(Err(late.into()));
                    (server, sent)
                }
            })
            .collect();
        let mut fault = None;
        let mut taken = false;
        let mut enough = Instant::now() + QUESTION_TIMEOUT;
        while let Ok(Some((server, sent))) = tokio::time::timeout_at(enough, running.next()).await {
            match sent {
                // Once one has it, the others get a moment more.
                Ok(_) => {
                    taken = true;
                    enough = enough.min(Instant::now() + HEDGE);
                }
                Err(reason) => {
                    let judged = server.judge(&reason);
                    if !matches!(fault, Some(ChainFault::Refused { .. })) {
                        fault = Some(judged);
                    }
                }
            }
        }
        if taken {
            return Ok(hash);
        }
        Err(fault.unwrap_or_else(|| ChainFault::Unreachable {
            server: "the set of lite servers".to_owned(),
            reason: "none took the message".to_owned(),
        }))
    }
}

impl Chain for LiteServers {
    fn name(&self) -> String {
        format!("{} lite servers, {} dropped", self.servers.len(), self.dropped().len())
    }

    fn trust(&self) -> Trust {
        Trust::Proven
    }

    fn head(&self) -> Answer<'_, Head> {
        Box::pin(async move {
            self.question(|server| async move { self.read_head(&server).await }).await
        })
    }

    fn account(&self, address: Address, at: Option<u32>) -> Answer<'_, Account> {
        Box::pin(async move {
            self.question(|server| async move { self.read_account(&server, address, at).await })
                .await
        })
    }

    fn transactions_since(
        &self,
        address: Address,
        after_lt: u64,
        limit: usize,
    ) -> Answer<'_, Vec<TransactionRecord>> {
        Box::pin(async move {
            let ask = |server: Arc<Server>| async move {
                self.read_transactions(&server, address, after_lt, WALK_MAX).await
            };
            let mut found = self.question(ask).await?;
            let oldest = found.first().and_then(|record| record.previous);
            if oldest.is_some_and(|oldest| oldest.lt > after_lt) {
                return Err(ChainFault::Forgotten { account: address.to_raw(), after_lt });
            }
            found.truncate(limit);
            Ok(found)
        })
    }

    fn recent_transactions(
        &self,
        address: Address,
        limit: usize,
    ) -> Answer<'_, Vec<TransactionRecord>> {
        Box::pin(async move {
            let ask = |server: Arc<Server>| async move {
                self.read_transactions(&server, address, 0, limit).await
            };
            let mut found = self.question(ask).await?;
            found.reverse();
            found.truncate(limit);
            Ok(found)
        })
    }

    fn shard_account(&self, address: Address) -> Answer<'_, Option<ShardAccount>> {
        Box::pin(async move {
            let ask = |server: Arc<Server>| async move {
                Ok(self.prove_account(&server, address, None).await?.1.state)
            };
            self.question(ask).await
        })
    }

    fn send(&self, message: Vec<u8>) -> Answer<'_, [u8; 32]> {
        Box::pin(self.broadcast(message))
    }

    fn run_getter<'a>(
        &'a self,
        address: Address,
        method: &'a str,
        stack: &'a [StackEntry],
    ) -> Answer<'a, GetterOutput> {
        Box::pin(async move {
            let ask = |server: Arc<Server>| async move {
                self.run(&server, address, method, stack).await
            };
            self.question(ask).await?.ok_or_else(|| ChainFault::Refused {
                server: self.name(),
                reason: format!("{} has no code to run {method} on", address.to_raw()),
            })
        })
    }

    fn moved_beyond(&self, _seqno: u32) -> BoxFuture<'_, ()> {
        Box::pin(std::future::pending())
    }
}
