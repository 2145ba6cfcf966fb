//! The worker's money on chain: a task that looks at the accounts, asks `cocoon-settle` what is
//! next, has that written down and hands it to the node's wallet.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use cocoon_chain::{Chain, ChainFault};
use cocoon_contract::payment::SignedPayment;
use cocoon_contract::root::RootState;
use cocoon_contract::state::{ProxyState, WorkerState};
use cocoon_host::chain::{
    ChainLine, PurseHand, Reports, RootRules, RootWatch, node_wallet, open_purse, see_proxy,
    see_worker,
};
use cocoon_host::{Stop, clock, keys};
use cocoon_purse::{Label, Order, Outcome, Report, Settings};
use cocoon_settle::{
    Next, Seen, SettleLog, SettleRecord, Side, WorkerLife, WorkerPolicy, WorkerSite, WorkerView,
};
use cocoon_units::{Address, PublicKey, Secret, Tokens};
use serde_json::{Value, json};
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::{oneshot, watch};

use crate::config::{Checked, WorkerConfig};
use crate::node::WorkerFault;
use crate::state::Told;

/// Most contracts looked after at a time.
const LIVES_MAX: usize = 256;
/// Seconds for which payments may still come for a contract that is used no more.
const LATE_S: u64 = 86_400;

/// What the loop shows the task.
#[derive(Clone, Debug, Default)]
pub(crate) struct Standing {
    /// The channels.
    pub(crate) channels: Vec<Earned>,
    /// How often the operator asked to collect now, and at which proxy the last time; at all of
    /// them where it is not said.
    pub(crate) collects: (u64, Option<Address>),
}

/// What a proxy has signed.
#[derive(Clone, Debug)]
pub(crate) struct Earned {
    pub(crate) proxy: Address,
    pub(crate) proxy_key: PublicKey,
    pub(crate) contract: Address,
    pub(crate) payment: Option<Vec<u8>>,
}

/// A chain, its root and the wallet, ready.
pub(crate) struct Ground {
    line: Arc<ChainLine>,
    purse: PurseHand,
    reports: Reports,
    known: HashSet<u64>,
    root: RootWatch,
    poll: Duration,
    away_max: Duration,
}

impl Ground {
    /// Waits for the chain, unless the journal knows a root to go on with. `None` when there is no
    /// chain, or when the node was asked to stop meanwhile. Fills in the wallet's address.
    pub(crate) async fn find(
        config: &WorkerConfig,
        checked: &mut Checked,
        log: &SettleLog,
        stop: &Stop,
    ) -> Result<Option<Self>, WorkerFault> {
        let Some(chain) = config.chain.open()? else { return Ok(None) };
        let line = Arc::new(ChainLine::new(chain));
        let key = match &config.wallet_key {
            Some(key) => Secret::new(*key.expose()),
            None => keys::load_or_make(&config.data_dir.join("wallet.key"))?,
        };
        let file = config.data_dir.join("purse");
        let wallet = node_wallet(checked.owner, &key)?;
        let purse = open_purse(wallet, Settings::default(), &file)?;
        checked.wallet = purse.address();
        let known = purse.labels().map(|label| label.0).collect();
        let poll = config.chain.poll();
        let rules = RootRules {
            root: checked.root,
            is_test: config.is_test,
            notice_s: config.root_notice_s,
        };
        let root = RootWatch::begin(Arc::clone(&line), rules, poll, log, stop).await?;
        let Some(root) = root else { return Ok(None) };
        let chain: Arc<dyn Chain> = Arc::clone(&line) as _;
        let (purse, reports) = PurseHand::start(chain, purse, file, poll, stop.clone());
        let wallet = purse.address().to_raw();
        tracing::info!(chain = line.status().name, wallet, "the wallet of this worker");
        let away_max = config.chain.away_max();
        Ok(Some(Self { line, purse, reports, known, root, poll, away_max }))
    }

    /// The root contract's state that is believed.
    pub(crate) fn root(&self) -> RootState {
        self.root.followed().clone()
    }

    /// Looks after the contracts until `stop`.
    pub(crate) fn look_after(
        self,
        (owner, policy): (Address, WorkerPolicy),
        log: &SettleLog,
        standing: watch::Receiver<Standing>,
        tell: UnboundedSender<Told>,
        stop: Stop,
    ) {
        let mut funds = Funds {
            ground: self,
            owner,
            policy,
            standing,
            tell,
            lives: BTreeMap::new(),
            now_s: 0,
            collected: 0,
            is_away: false,
        };
        funds.resume(log);
        tokio::spawn(funds.run(stop));
    }
}

/// One contract.
struct Kept {
    life: WorkerLife,
    own: Seen<WorkerState>,
    proxy: Seen<ProxyState>,
    said: String,
    /// The best total, and since when it is that.
    signed: (Tokens, u64),
    collect: bool,
    outdated_since_s: Option<u64>,
}

struct Funds {
    ground: Ground,
    owner: Address,
    policy: WorkerPolicy,
    standing: watch::Receiver<Standing>,
    tell: UnboundedSender<Told>,
    lives: BTreeMap<Address, Kept>,
    now_s: u64,
    collected: u64,
    /// The chain is away for so long that no new work is taken.
    is_away: bool,
}

impl Funds {
    async fn run(mut self, stop: Stop) {
        loop {
            if let Err(fault) = self.round().await {
                // Whoever works goes on; only payouts wait.
                tracing::debug!(%fault, "the chain is away; payouts wait");
            }
            self.watch_line();
            // The loop may have ended first.
            let _ = self.tell.send(Told::Money(self.page()));
            tokio::select! {
                () = stop.asked() => return,
                Some(report) = self.ground.reports.recv() => self.reported(&report),
                () = tokio::time::sleep(self.ground.poll) => {}
            }
        }
    }

    /// Without the chain for too long nothing new is earned: it could be that nobody pays for it.
    fn watch_line(&mut self) {
        let away = self.ground.line.away();
        let is_away = away > self.ground.away_max;
        if std::mem::replace(&mut self.is_away, is_away) == is_away {
            return;
        }
        match is_away {
            true => tracing::error!(
                away_s = away.as_secs(),
                "the chain is away for too long: no new queries are taken"
            ),
            false => tracing::info!("the chain is back: queries are taken again"),
        }
        let _ = self.tell.send(Told::ChainAway(is_away));
    }

    /// Takes up what an earlier run left. Orders that its wallet no longer knows never left it, or
    /// have arrived already; the chain shows which.
    fn resume(&mut self, log: &SettleLog) {
        for site in log.sites().filter(|log| log.site.side == Side::Worker) {
            let Ok(read) = WorkerSite::from_record(&site.site) else { continue };
            let contract = read.contract;
            let mut life = WorkerLife::new(read, self.policy.clone());
            if let Some(sent) = &site.sent {
                life.apply(sent);
                if life.flight().is_some_and(|flight| !self.ground.known.contains(&flight.label)) {
                    life.arrived(0);
                }
            }
            self.lives.insert(contract, Kept::new(life));
        }
    }

    /// The wallet's word on an order.
    fn reported(&mut self, report: &Report) {
        let is_it = |kept: &&mut Kept| {
            kept.life.flight().is_some_and(|flight| flight.label == report.label.0)
        };
        let Some(kept) = self.lives.values_mut().find(is_it) else { return };
        match &report.outcome {
            Outcome::Sent { .. } => {}
            outcome if outcome.is_success() => kept.life.arrived(self.now_s),
            Outcome::Unknown { .. } => kept.life.arrived(self.now_s),
            outcome => {
                let contract = kept.life.site().contract.to_raw();
                tracing::warn!(contract, ?outcome, "a message to our contract had no effect");
                kept.life.failed(self.now_s);
            }
        }
    }

    async fn round(&mut self) -> Result<(), ChainFault> {
        self.now_s = self.ground.line.head().await?.time.0;
        let standing = self.standing.borrow_and_update().clone();
        self.look_at_root().await?;
        let (collects, proxy) = standing.collects;
        if std::mem::replace(&mut self.collected, collects) != collects {
            let is_meant =
                |kept: &&mut Kept| proxy.is_none_or(|proxy| kept.life.site().proxy == proxy);
            self.lives.values_mut().filter(is_meant).for_each(|kept| kept.collect = true);
        }
        self.open(&standing).await;
        if self.ground.purse.status().balance.is_none() {
            // What can be paid is not known yet.
            return Ok(());
        }
        let contracts: Vec<Address> = self.lives.keys().copied().collect();
        for contract in contracts {
            let earned = standing.channels.iter().find(|earned| earned.contract == contract);
            self.look(contract, earned).await?;
        }
        Ok(())
    }

    /// Looks at the root contract and moves the node when its state is believed.
    async fn look_at_root(&mut self) -> Result<(), ChainFault> {
        let news = self.ground.root.look(self.now_s).await?;
        if let Some(record) = news.record {
            self.journal(record).await;
        }
        if let Some(root) = news.believed {
            let _ = self.tell.send(Told::Root(Arc::new(root)));
        }
        Ok(())
    }

    /// Takes up contracts at proxies that were met for the first time.
    async fn open(&mut self, standing: &Standing) {
        let root = self.ground.root();
        for earned in &standing.channels {
            let Some(kept) = self.lives.get_mut(&earned.contract) else {
                if self.lives.len() < LIVES_MAX {
                    self.open_one(earned, &root).await;
                }
                continue;
            };
            if kept.life.site().init.is_none() {
                let site = self.site(earned, &root);
                if let (Some(site), Some(kept)) = (site, self.lives.get_mut(&earned.contract)) {
                    kept.life.deploys_with(site.init);
                }
            }
        }
    }

    async fn open_one(&mut self, earned: &Earned, root: &RootState) {
        // A channel of other parameters was opened, and ended, by an earlier run.
        let Some(site) = self.site(earned, root) else { return };
        let Ok(record) = site.record(self.now_s) else { return };
        self.journal(record).await;
        self.lives.insert(earned.contract, Kept::new(WorkerLife::new(site, self.policy.clone())));
    }

    fn site(&self, earned: &Earned, root: &RootState) -> Option<WorkerSite> {
        WorkerSite::at(self.owner, earned.proxy, earned.proxy_key, &root.network)
            .ok()
            .filter(|site| site.contract == earned.contract)
    }

    async fn look(&mut self, contract: Address, earned: Option<&Earned>) -> Result<(), ChainFault> {
        let Some(kept) = self.lives.get_mut(&contract) else { return Ok(()) };
        let line = self.ground.line.as_ref();
        kept.own = see_worker(line, contract).await?;
        kept.proxy = see_proxy(line, kept.life.site().proxy).await?;
        let payment = earned
            .and_then(|earned| earned.payment.as_deref())
            .and_then(|bytes| SignedPayment::from_boc(bytes).ok());
        let signed = payment.as_ref().map_or(Tokens::ZERO, SignedPayment::tokens);
        if signed != kept.signed.0 || kept.signed.1 == 0 {
            kept.signed = (signed, self.now_s);
        }
        let leaving = kept.life.site().params != self.ground.root.followed().network.params;
        if leaving {
            kept.outdated_since_s.get_or_insert(self.now_s);
        }
        let view = WorkerView {
            now_s: self.now_s,
            query_id: u64::from_le_bytes(clock::random()),
            own: &kept.own,
            proxy: &kept.proxy,
            wallet: self.ground.purse.status().balance.unwrap_or_default(),
            wallet_address: self.ground.purse.address(),
            payment: payment.as_ref(),
            payment_s: kept.signed.1,
            collect: kept.collect,
            leaving,
        };
        let next = kept.life.plan(&view);
        let said = next.to_string();
        if said != kept.said {
            tracing::info!(contract = %contract.to_raw(), "{said}");
            kept.said = said;
        }
        match next {
            Next::Send(order) => {
                let record = kept.life.sent(&order, &view);
                self.journal(record).await;
                let (label, message) = (Label(order.label), order.message);
                self.ground.purse.order(Order { label, message });
            }
            Next::Wait(cocoon_settle::Wait::Nothing) => kept.collect = false,
            Next::Wait(_) => {}
            Next::Done(_) => {
                kept.collect = false;
                let since_s = kept.outdated_since_s.filter(|_| leaving);
                if since_s.is_some_and(|since_s| self.now_s >= since_s + LATE_S) {
                    self.journal(SettleRecord::Ended { contract: contract.hash }).await;
                    self.lives.remove(&contract);
                }
            }
        }
        Ok(())
    }

    /// Has a record written and waits until it is on disk: nothing leaves before.
    async fn journal(&self, record: SettleRecord) {
        let (written, done) = oneshot::channel();
        let _ = self.tell.send(Told::WriteDown { record, written });
        if done.await.is_err() {
            // The loop has ended, and the node with it.
            std::future::pending::<()>().await;
        }
    }

    fn page(&self) -> Value {
        let line = self.ground.line.status();
        let purse = self.ground.purse.status();
        let contracts: Vec<Value> = self.lives.iter().map(|(own, kept)| kept.page(*own)).collect();
        json!({
            "chain": line.name,
            "chain_away_s": line.away.map(|away| away.as_secs()),
            "chain_fault": line.fault,
            "chain_time_s": self.now_s,
            "wallet": purse.wallet.to_raw(),
            "wallet_nanoton": purse.balance.map(|balance| balance.0),
            "wallet_lacks": purse.lacking.map(|lacking| lacking.to_string()),
            "owner": self.owner.to_raw(),
            "root_version": self.ground.root.followed().version,
            "root_change_waits": self.ground.root.held(),
            "takes_nothing_new": self.is_away,
            "contracts": contracts,
        })
    }
}

impl Kept {
    fn new(life: WorkerLife) -> Self {
        Self {
            life,
            own: Seen::Unknown,
            proxy: Seen::Unknown,
            said: String::new(),
            signed: (Tokens::ZERO, 0),
            collect: false,
            outdated_since_s: None,
        }
    }

    fn page(&self, own: Address) -> Value {
        let state = self.own.state();
        let phase = match (&self.own, state) {
            (_, Some(state)) => ["normal", "closing", "closed"][usize::from(state.phase.code())],
            (Seen::Absent { .. }, _) => "absent",
            (Seen::Broken { .. }, _) => "broken",
            _ => "unknown",
        };
        let fee = self.life.site().params.worker_fee_per_token;
        let paid = state.map_or(Tokens::ZERO, |state| state.tokens);
        json!({
            "sc_address": own.to_raw(),
            "proxy_sc_address": self.life.site().proxy.to_raw(),
            "state": phase,
            "tokens_paid_out": paid.0,
            "tokens_signed": self.signed.0.0,
            "owed_nanoton": fee.saturating_mul(self.signed.0.saturating_sub(paid)).0,
            "collecting": self.collect,
            "on_its_way": self.life.flight().map(|flight| flight.step.to_string()),
            "doing": self.said,
        })
    }
}
