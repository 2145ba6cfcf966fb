//! The client's money on chain: a task that looks at the accounts, asks `cocoon-settle` what is
//! next, writes that down and hands it to the wallet.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use cocoon_chain::{Chain as _, ChainFault};
use cocoon_contract::cell::Hash;
use cocoon_contract::payment::SignedPayment;
use cocoon_contract::state::{ClientState, ProxyState};
use cocoon_host::chain::{ChainLine, PurseHand, Reports, RootWatch, see_client, see_proxy};
use cocoon_host::{Stop, clock};
use cocoon_purse::{Label, Order, Outcome, Report};
use cocoon_settle::{
    Before, ClientLife, ClientPolicy, ClientSite, ClientView, Done, Held, Next, Seen, SettleLog,
    SettleRecord, Side, Wait, Wish,
};
use cocoon_units::{Address, Nanoton, PublicKey, Tokens};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::contract_view::{ContractView, WalletView, WishEnd, end_of, held};
use crate::network::Shared;
use crate::operator::Demand;

/// Most contracts looked after at a time: proxies are met by name only, so a hostile registry
/// cannot make this grow.
const LIVES_MAX: usize = 256;
/// Messages without effect after which an operator's wish is given up.
const FAILURES_MAX: u32 = 3;
/// How long after the start the wallet's first look may take.
const FIRST_LOOK: Duration = Duration::from_secs(10);

/// What sessions tell the task, and what it tells the status pages. Part of the node's state.
#[derive(Debug, Default)]
pub(crate) struct Desk {
    /// What proxies want to see registered, by our contract.
    pub(crate) nonces: HashMap<Address, u64>,
    /// What the journal says.
    pub(crate) log: SettleLog,
    /// For the status pages; null without a chain.
    pub(crate) picture: Value,
    /// The contracts, as last looked at.
    pub(crate) contracts: Vec<ContractView>,
    /// The wallet; none without a chain.
    pub(crate) wallet: Option<WalletView>,
    /// What operators ask; nobody takes it where there is no chain.
    pub(crate) demands: Vec<Demand>,
    /// Whether somebody takes them.
    pub(crate) is_open: bool,
    /// The chain is away for so long that nothing new is sent.
    pub(crate) away: Option<Duration>,
}

impl Desk {
    /// A session's long authorisation waits for the chain.
    pub(crate) fn register(&mut self, contract: Address, nonce: u64) {
        if self.nonces.len() < LIVES_MAX || self.nonces.contains_key(&contract) {
            self.nonces.insert(contract, nonce);
        }
    }
}

/// What a round needs of the node's state.
pub(crate) struct Told {
    nonces: HashMap<Address, u64>,
    channels: Vec<Met>,
    connected: HashSet<Address>,
}

/// A channel, as the node's state has it.
struct Met {
    proxy: Address,
    proxy_key: PublicKey,
    own: Address,
    payment: Option<Vec<u8>>,
    counted: Tokens,
    own_count: Tokens,
}

/// One contract.
pub(crate) struct Kept {
    pub(crate) life: ClientLife,
    pub(crate) own: Seen<ClientState>,
    proxy: Seen<ProxyState>,
    said: String,
    heard_s: u64,
    outdated_since_s: Option<u64>,
    pub(crate) is_leaving: bool,
    /// What the operator wishes besides its use, and what became of the wish before.
    pub(crate) wish: Option<Wish>,
    outcome: Option<WishEnd>,
    pub(crate) is_done: bool,
}

/// What every look needs.
#[derive(Clone, Copy)]
struct Moment {
    now_s: u64,
    wallet: Nanoton,
    secret_hash: Hash,
}

/// What the task is made of.
pub(crate) struct Parts {
    pub(crate) shared: Arc<Shared>,
    pub(crate) line: Arc<ChainLine>,
    pub(crate) purse: PurseHand,
    pub(crate) reports: Reports,
    pub(crate) root: RootWatch,
    pub(crate) policy: ClientPolicy,
    /// Everything is taken back and closed.
    pub(crate) leave: bool,
    pub(crate) secret_hash: Hash,
    pub(crate) durable: watch::Receiver<u64>,
    pub(crate) poll: Duration,
    /// After so long without the chain nothing new is sent.
    pub(crate) away_max: Duration,
    /// Orders that the wallet of an earlier run still has on their way.
    pub(crate) known: HashSet<u64>,
}

/// The task.
pub(crate) struct Funds {
    pub(crate) parts: Parts,
    pub(crate) lives: BTreeMap<Address, Kept>,
    now_s: u64,
}

impl Funds {
    /// Looks after the contracts until `stop`.
    pub(crate) async fn run(parts: Parts, stop: Stop) {
        let mut funds = Self { parts, lives: BTreeMap::new(), now_s: 0 };
        funds.resume();
        let shared = Arc::clone(&funds.parts.shared);
        tokio::select! {
            // At any point: a death is no worse, and the journal may end before its last record.
            () = stop.asked() => {}
            () = funds.look_after(&shared) => {}
        }
        let mut state = shared.lock();
        state.funds.is_open = false;
        // Whoever waits for an answer learns that none comes.
        state.funds.demands.clear();
        shared.looked.send_modify(|looks| *looks += 1);
    }

    async fn look_after(&mut self, shared: &Shared) {
        let began = tokio::time::Instant::now();
        loop {
            match self.round().await {
                Ok(true) => self.answer(Ok(())).await,
                // Whoever asks waits for the wallet's first look as well.
                Ok(false) if began.elapsed() < FIRST_LOOK => self.publish(),
                Ok(false) => self.answer(Err("the wallet cannot be read: try again later")).await,
                Err(fault) => {
                    // Whoever serves goes on; only what needs the chain waits.
                    tracing::debug!(%fault, "the chain is away; money waits");
                    self.answer(Err("the chain is away: try again later")).await;
                }
            }
            let (poll, purse) = (self.parts.poll, self.parts.purse.clone());
            let is_unknown = purse.status().balance.is_none();
            tokio::select! {
                Some(report) = self.parts.reports.recv() => self.reported(&report),
                true = purse.wait_for(|status| status.balance.is_some()), if is_unknown => {}
                () = shared.money.notified() => {}
                () = tokio::time::sleep(poll) => {}
            }
        }
    }

    /// Takes up what an earlier run left. Orders that its wallet no longer knows never left it,
    /// or have arrived already; the chain shows which.
    fn resume(&mut self) {
        let log = self.parts.shared.lock().funds.log.clone();
        for site in log.sites().filter(|log| log.site.side == Side::Client) {
            let Ok(read) = ClientSite::from_record(&site.site) else { continue };
            let contract = read.contract;
            let mut life = ClientLife::new(read, self.parts.policy.clone());
            if let Some(sent) = &site.sent {
                life.apply(sent);
                if life.flight().is_some_and(|flight| !self.parts.known.contains(&flight.label)) {
                    life.arrived(0);
                }
            }
            let wish = site.wish;
            self.lives.insert(contract, Kept { wish, ..Kept::new(life, site.is_leaving) });
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

    /// Looks at everything and does what is next; whether everything was seen.
    async fn round(&mut self) -> Result<bool, ChainFault> {
        self.now_s = self.parts.line.head().await?.time.0;
        self.look_at_root().await?;
        let told = self.told();
        self.open(&told).await;
        if self.parts.purse.status().balance.is_none() {
            // What can be paid is not known yet: no reason to give a wish up.
            return Ok(false);
        }
        let contracts: Vec<Address> = self.lives.keys().copied().collect();
        for contract in contracts {
            self.look(contract, &told).await?;
        }
        Ok(true)
    }

    pub(crate) fn told(&self) -> Told {
        let state = self.parts.shared.lock();
        let channel = |(proxy, channel): (&Address, &cocoon_channel::Channel)| Met {
            proxy: *proxy,
            proxy_key: channel.proxy_key,
            own: channel.own_contract,
            payment: channel.payment.clone(),
            counted: channel.books.max(),
            own_count: channel.books.own(),
        };
        Told {
            nonces: state.funds.nonces.clone(),
            channels: state.channels.channels().map(channel).collect(),
            connected: state.proxies.values().filter_map(|proxy| proxy.session.proxy()).collect(),
        }
    }

    /// Takes up contracts that sessions met for the first time.
    async fn open(&mut self, told: &Told) {
        let root = self.parts.root.followed().clone();
        let owner = self.parts.purse.address();
        for met in &told.channels {
            let site = || ClientSite::at(owner, met.proxy, met.proxy_key, &root.network).ok();
            if let Some(kept) = self.lives.get_mut(&met.own) {
                // A site read from the journal may have to be deployed yet.
                if kept.life.site().init.is_none() {
                    kept.life.deploys_with(site().and_then(|site| site.init));
                }
                continue;
            }
            if self.lives.len() >= LIVES_MAX || !told.connected.contains(&met.proxy) {
                continue;
            }
            // A channel of other parameters was opened, and ended, by an earlier run.
            let Some(site) = site().filter(|site| site.contract == met.own) else { continue };
            let counted_before = met.counted.saturating_sub(met.own_count);
            let site = ClientSite { counted_before, ..site };
            let Ok(record) = site.record(self.now_s) else { continue };
            self.journal(&[record]).await;
            let life = ClientLife::new(site, self.parts.policy.clone());
            self.lives.insert(met.own, Kept { heard_s: self.now_s, ..Kept::new(life, false) });
        }
    }

    /// Looks at one contract and does what is next.
    async fn look(&mut self, contract: Address, told: &Told) -> Result<(), ChainFault> {
        let Some(kept) = self.lives.get_mut(&contract) else { return Ok(()) };
        let proxy = kept.life.site().proxy;
        kept.own = see_client(self.parts.line.as_ref(), contract).await?;
        kept.proxy = see_proxy(self.parts.line.as_ref(), proxy).await?;
        if told.connected.contains(&proxy) || kept.heard_s == 0 {
            kept.heard_s = self.now_s;
        }
        if self.parts.root.followed().network.params != kept.life.site().params {
            kept.outdated_since_s.get_or_insert(self.now_s);
        }
        let met = told.met(proxy);
        let payment = met.and_then(Met::payment);
        let wish = match kept.is_leaving || self.parts.leave {
            true => Wish::Leave,
            false => kept.wish.unwrap_or_default(),
        };
        let moment = self.moment();
        let Some(kept) = self.lives.get_mut(&contract) else { return Ok(()) };
        let view = ClientView {
            heard_s: Some(kept.heard_s),
            outdated_since_s: kept.outdated_since_s,
            nonce: told.nonces.get(&contract).copied(),
            ..view(moment, (&kept.own, &kept.proxy), met, payment.as_ref(), wish)
        };
        let next = kept.life.plan(&view);
        let said = next.to_string();
        if said != kept.said {
            tracing::info!(contract = %contract.to_raw(), "{said}");
            kept.said = said;
        }
        kept.is_done = matches!(next, Next::Done(_));
        let over = end_of(wish, &next, ended(&next));
        if let Some(end) = over.filter(|_| wish != Wish::Leave && kept.wish.is_some()) {
            tracing::info!(contract = %contract.to_raw(), "the operator's wish to {end}");
            kept.outcome = Some(end);
            kept.wish = None;
            let record = SettleRecord::Wished { contract: contract.hash, wish: None };
            self.journal(&[record]).await;
            return Ok(());
        }
        match next {
            Next::Send(order) => {
                let mut records = vec![kept.life.sent(&order, &view)];
                if wish == Wish::Leave && !kept.is_leaving {
                    kept.is_leaving = true;
                    records.insert(0, SettleRecord::Leaving { contract: contract.hash });
                }
                self.journal(&records).await;
                let (label, message) = (Label(order.label), order.message);
                self.parts.purse.order(Order { label, message });
            }
            Next::Wait(_) => {}
            Next::Done(done) => self.done(contract, done).await,
        }
        Ok(())
    }

    /// A life is over.
    async fn done(&mut self, contract: Address, done: Done) {
        let Some(kept) = self.lives.get(&contract) else { return };
        // A contract of these parameters stays closed for ever; it is shown until the next start.
        if kept.outdated_since_s.is_some() || done == Done::NeverOpened {
            self.journal(&[SettleRecord::Ended { contract: contract.hash }]).await;
            self.lives.remove(&contract);
            let mut state = self.parts.shared.lock();
            state.funds.nonces.remove(&contract);
        }
    }

    /// Looks at the root contract and moves the node when its state is believed.
    async fn look_at_root(&mut self) -> Result<(), ChainFault> {
        let news = self.parts.root.look(self.now_s).await?;
        if let Some(record) = news.record {
            self.journal(&[record]).await;
        }
        if let Some(root) = news.believed {
            self.parts.shared.adopt(&root);
        }
        Ok(())
    }

    fn moment(&self) -> Moment {
        Moment {
            now_s: self.now_s,
            wallet: self.parts.purse.status().balance.unwrap_or_default(),
            secret_hash: self.parts.secret_hash,
        }
    }

    /// What would come next for a contract, had the operator this wish and were nothing on its way.
    pub(crate) fn next_with(&self, kept: &Kept, told: &Told, wish: Wish) -> Next {
        let site = kept.life.site().clone();
        let met = told.met(site.proxy);
        let payment = met.and_then(Met::payment);
        let seen = (&kept.own, &kept.proxy);
        let view = view(self.moment(), seen, met, payment.as_ref(), wish);
        ClientLife::new(site, self.parts.policy.clone()).plan(&view)
    }

    /// What was ever paid in to a contract and not taken back.
    pub(crate) fn paid_in(kept: &Kept) -> Nanoton {
        Before::client(&kept.own, kept.life.site().params.price_per_token).paid_in
    }

    /// Writes records and waits until they are on disk: nothing leaves before.
    pub(crate) async fn journal(&mut self, records: &[SettleRecord]) {
        let Some(ticket) = self.parts.shared.write_down(records) else {
            // The journal is gone and the node ends.
            return std::future::pending().await;
        };
        let is_gone = self.parts.durable.wait_for(|written| *written >= ticket).await.is_err();
        if is_gone {
            std::future::pending::<()>().await;
        }
    }

    pub(crate) fn publish(&self) {
        let line = self.parts.line.status();
        let away = line.away.filter(|away| *away > self.parts.away_max);
        let purse = self.parts.purse.status();
        let views: Vec<ContractView> =
            self.lives.iter().map(|(own, kept)| kept.view(*own)).collect();
        let contracts: Vec<Value> = views.iter().map(ContractView::page).collect();
        let wallet = WalletView {
            address: purse.wallet,
            balance: purse.balance,
            lacks: purse.lacking.map(|lacking| lacking.to_string()),
        };
        let picture = json!({
            "chain": line.name,
            "chain_away_s": line.away.map(|away| away.as_secs()),
            "chain_fault": line.fault,
            "chain_time_s": self.now_s,
            "wallet": purse.wallet.to_raw(),
            "wallet_nanoton": purse.balance.map(|balance| balance.0),
            "wallet_lacks": purse.lacking.map(|lacking| lacking.to_string()),
            "root_version": self.parts.root.followed().version,
            "root_change_waits": self.parts.root.held(),
            "takes_nothing_new": away.is_some(),
            "contracts": contracts,
        });
        let mut state = self.parts.shared.lock();
        state.funds.picture = picture;
        state.funds.contracts = views;
        state.funds.wallet = Some(wallet);
        if state.funds.away.is_some() != away.is_some() {
            match away {
                Some(away) => tracing::error!(
                    away_s = away.as_secs(),
                    "the chain is away for too long: no new requests are sent"
                ),
                None => tracing::info!("the chain is back: requests are sent again"),
            }
        }
        state.funds.away = away;
        drop(state);
        self.parts.shared.looked.send_modify(|looks| *looks += 1);
    }
}

impl Told {
    fn met(&self, proxy: Address) -> Option<&Met> {
        self.channels.iter().find(|met| met.proxy == proxy)
    }
}

impl Met {
    fn payment(&self) -> Option<SignedPayment> {
        self.payment.as_deref().and_then(|bytes| SignedPayment::from_boc(bytes).ok())
    }
}

fn view<'a>(
    moment: Moment,
    (own, proxy): (&'a Seen<ClientState>, &'a Seen<ProxyState>),
    met: Option<&Met>,
    payment: Option<&'a SignedPayment>,
    wish: Wish,
) -> ClientView<'a> {
    ClientView {
        now_s: moment.now_s,
        query_id: u64::from_le_bytes(clock::random()),
        own,
        proxy,
        wallet: moment.wallet,
        held: Held {
            payment,
            counted: met.map_or(Tokens::ZERO, |met| met.counted),
            own: met.map_or(Tokens::ZERO, |met| met.own_count),
        },
        wish,
        outdated_since_s: None,
        heard_s: None,
        secret_hash: Some(moment.secret_hash),
        nonce: None,
    }
}

/// What became of an operator's wish, once nothing is left to do for it, or only a person can.
pub(crate) fn ended(next: &Next) -> Option<String> {
    match next {
        Next::Send(_) | Next::Wait(Wait::Chain | Wait::Effect { .. }) => None,
        Next::Wait(Wait::Retry { failures, .. }) if *failures < FAILURES_MAX => None,
        Next::Wait(wait) => Some(wait.to_string()),
        Next::Done(done) => Some(done.to_string()),
    }
}

impl Kept {
    fn new(life: ClientLife, is_leaving: bool) -> Self {
        Self {
            life,
            own: Seen::Unknown,
            proxy: Seen::Unknown,
            said: String::new(),
            heard_s: 0,
            outdated_since_s: None,
            is_leaving,
            wish: None,
            outcome: None,
            is_done: false,
        }
    }

    fn view(&self, own: Address) -> ContractView {
        let (standing, on_chain) = held(&self.own);
        ContractView {
            contract: own,
            proxy: self.life.site().proxy,
            standing,
            on_chain,
            paid_in: Funds::paid_in(self),
            proxy_stake: self.proxy.state().map(|proxy| proxy.stake),
            is_leaving: self.is_leaving,
            wished: self.wish,
            last_wish: self.outcome.clone(),
            on_its_way: self.life.flight().map(|flight| flight.step),
            doing: self.said.clone(),
            is_done: self.is_done,
        }
    }
}
