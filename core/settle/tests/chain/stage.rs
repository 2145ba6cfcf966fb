//! One proxy, one client, one worker on the local chain, each with a wallet, and a time that the
//! test decides.

use cocoon_contract::address::{self, Network, ProxyIdentity, StateInit};
use cocoon_contract::boc;
use cocoon_contract::cell::Cell;
use cocoon_contract::code::{self, Code, Codes};
use cocoon_contract::message::{Body, ProxyAction, ProxyRequest};
use cocoon_contract::params::Params;
use cocoon_contract::payment::{CloseKind, PaymentKind, SignedClose, SignedPayment};
use cocoon_contract::state::{ClientState, ProxyState, WorkerState};
use cocoon_contract::wallet::{CocoonOrder, Layout, Outgoing, external};
use cocoon_localchain::{Genesis, LocalChain};
use cocoon_settle::{
    ClientLife, ClientPolicy, ClientSite, ClientView, Done, Held, Next, Seen, SettleRecord, Wait,
    Wish, WorkerLife, WorkerPolicy, WorkerSite, WorkerView,
};
use cocoon_units::{Address, Multiplier, Nanoton, PublicKey, Tokens};
use ed25519_dalek::SigningKey;
use tycho_types::cell::{CellBuilder, CellSlice};
use tycho_types::models::{AccountState, IntAddr, MsgInfo, OwnedMessage};

pub(crate) const TON: u64 = 1_000_000_000;
pub(crate) const PRICE: u64 = 20;
pub(crate) const FEE: u64 = 19;
pub(crate) const DAY_S: u64 = 86_400;
const BEGIN_S: u64 = 1_760_000_000;
/// What the faucet gives each wallet.
pub(crate) const FUNDS: u64 = 1_000 * TON;

pub(crate) struct Wallet {
    key: SigningKey,
    init: StateInit,
    pub(crate) address: Address,
    seqno: u32,
}

impl Wallet {
    fn new(seed: u8) -> Self {
        let key = SigningKey::from_bytes(&[seed; 32]);
        let public = PublicKey(key.verifying_key().to_bytes());
        let owner = Address::new(0, [seed; 32]);
        let code = Code::from(code::wallet().unwrap());
        let init = address::wallet_init(owner, public, &code).unwrap();
        Self { key, address: init.address(), init, seqno: 0 }
    }
}

pub(crate) struct Stage {
    pub(crate) chain: LocalChain,
    pub(crate) proxy_key: SigningKey,
    pub(crate) identity: ProxyIdentity,
    pub(crate) network: Network,
    pub(crate) proxy: Address,
    pub(crate) client: Wallet,
    pub(crate) worker: Wallet,
    pub(crate) operator: Wallet,
    pub(crate) worker_owner: Address,
    query_id: u64,
}

pub(crate) fn params() -> Params {
    Params {
        struct_version: 3,
        params_version: 1,
        unique_id: 17,
        is_test: true,
        price_per_token: Nanoton(PRICE),
        worker_fee_per_token: Nanoton(FEE),
        prompt_multiplier: Multiplier(10_000),
        cached_multiplier: Multiplier(1_000),
        completion_multiplier: Multiplier(80_000),
        reasoning_multiplier: Multiplier(80_000),
        proxy_delay_s: 172_800,
        client_delay_s: 86_400,
        min_proxy_stake: Nanoton(5 * TON),
        min_client_stake: Nanoton(15 * TON),
    }
}

impl Stage {
    /// Wallets with coins, and a proxy contract with this stake.
    pub(crate) fn new(stake: u64) -> Self {
        let mut genesis = Genesis::new([1; 32], BEGIN_S * 1000);
        genesis.limits.kept_blocks = 16;
        let chain = LocalChain::new(&genesis).unwrap();
        let proxy_key = SigningKey::from_bytes(&[0x77; 32]);
        let network = Network { params: params(), codes: Codes::ours().unwrap() };
        let operator = Wallet::new(0x0a);
        let identity = ProxyIdentity {
            owner: operator.address,
            public_key: PublicKey(proxy_key.verifying_key().to_bytes()),
            root: Address::new(0, [0xa7; 32]),
        };
        let init = address::proxy_init(&identity, &network).unwrap();
        let mut stage = Self {
            chain,
            proxy_key,
            proxy: init.address(),
            identity,
            network,
            client: Wallet::new(0x0c),
            worker: Wallet::new(0x0d),
            operator,
            worker_owner: Address::new(0, [0xd0; 32]),
            query_id: 0,
        };
        for wallet in [stage.client.address, stage.worker.address, stage.operator.address] {
            stage.chain.mint(wallet, Nanoton(FUNDS)).unwrap();
        }
        stage.beat();
        stage.operator_sends(Outgoing::deploy(init, Nanoton(TON / 2)));
        if stake > 0 {
            stage.operator_asks(ProxyAction::IncreaseStake { amount: Nanoton(stake) }, stake);
        }
        stage
    }

    pub(crate) fn now_s(&self) -> u64 {
        self.chain.last_ms() / 1000
    }

    /// Lets time go by without a block in between.
    pub(crate) fn wait(&mut self, seconds: u64) {
        let now_ms = self.chain.last_ms() + seconds * 1000;
        self.chain.tick(now_ms).unwrap();
    }

    /// Blocks until no message is on its way.
    pub(crate) fn beat(&mut self) {
        loop {
            let now_ms = self.chain.last_ms() + 400;
            self.chain.tick(now_ms).unwrap();
            if self.chain.waiting() == (0, 0, 0) {
                return;
            }
        }
    }

    pub(crate) fn next_query(&mut self) -> u64 {
        self.query_id += 1;
        self.query_id
    }

    fn submit(&mut self, who: fn(&mut Self) -> &mut Wallet, message: Outgoing) {
        let valid_until_s = u32::try_from(self.now_s() + 300).unwrap();
        let wallet = who(self);
        let order = CocoonOrder::new(wallet.seqno, valid_until_s, &[message]).unwrap();
        let body = order.sign(&wallet.key).unwrap();
        let init = (wallet.seqno == 0).then_some(&wallet.init);
        let cell = external(&wallet.address, init, &body, Layout::References).unwrap();
        wallet.seqno += 1;
        self.chain.submit(&boc::encode(&cell)).unwrap();
        self.beat();
    }

    pub(crate) fn operator_sends(&mut self, message: Outgoing) {
        self.submit(|stage| &mut stage.operator, message);
    }

    pub(crate) fn client_sends(&mut self, message: Outgoing) {
        self.submit(|stage| &mut stage.client, message);
    }

    pub(crate) fn worker_sends(&mut self, message: Outgoing) {
        self.submit(|stage| &mut stage.worker, message);
    }

    pub(crate) fn operator_asks(&mut self, action: ProxyAction, amount: u64) {
        let query_id = self.next_query();
        let excess = self.operator.address;
        let body = ProxyRequest { query_id, action, excess }.cell().unwrap();
        self.operator_sends(Outgoing::to_contract(self.proxy, Nanoton(amount + TON / 2), body));
    }

    pub(crate) fn sign(&mut self, kind: PaymentKind, to: Address, tokens: u64) -> SignedPayment {
        let (query_id, excess) = (self.next_query(), self.operator.address);
        let tokens = Tokens(tokens);
        SignedPayment::sign(kind, query_id, tokens, to, excess, &self.proxy_key).unwrap()
    }

    /// The proxy submits a payment by itself.
    pub(crate) fn proxy_submits(&mut self, kind: PaymentKind, to: Address, tokens: u64) {
        let body = self.sign(kind, to, tokens).cell().unwrap();
        self.operator_sends(Outgoing::to_contract(to, Nanoton(TON / 2), body));
    }

    pub(crate) fn proxy_closes(&mut self, kind: CloseKind) {
        let (query_id, excess) = (self.next_query(), self.operator.address);
        let close = SignedClose::sign(kind, query_id, self.proxy, excess, &self.proxy_key).unwrap();
        let body = Body::Close(close).cell().unwrap();
        self.operator_sends(Outgoing::to_contract(self.proxy, Nanoton(TON / 2), body));
    }

    fn read(&self, address: Address) -> (Option<Cell>, Nanoton, u64) {
        let Some(shard) = self.chain.account(address) else { return (None, Nanoton::ZERO, 0) };
        let Some(account) = shard.load_account().unwrap() else {
            return (None, Nanoton::ZERO, shard.last_trans_lt);
        };
        let balance = u64::try_from(account.balance.tokens.into_inner()).unwrap();
        let data = match account.state {
            AccountState::Active(init) => init.data,
            _ => None,
        };
        (data, Nanoton(balance), shard.last_trans_lt)
    }

    pub(crate) fn balance(&self, address: Address) -> u64 {
        self.read(address).1.0
    }

    /// What the proxy contract ever paid to this account, from the messages that arrived there.
    pub(crate) fn paid_to(&self, address: Address) -> u64 {
        let arrived = self.chain.transactions(address, u64::MAX).filter_map(|entry| {
            let message = entry.transaction.load().unwrap().in_msg?;
            let message = message.parse::<OwnedMessage>().unwrap();
            let MsgInfo::Int(info) = message.info else { return None };
            let IntAddr::Std(source) = info.src else { return None };
            let body = CellBuilder::build_from(CellSlice::apply(&message.body).unwrap()).unwrap();
            let is_payout = matches!(Body::parse(&body), Ok(Body::Payout { .. }));
            (is_payout && source.address.0 == self.proxy.hash)
                .then(|| u64::try_from(info.value.tokens.into_inner()).unwrap())
        });
        arrived.sum()
    }

    pub(crate) fn seen_proxy(&self) -> Seen<ProxyState> {
        let (data, balance, lt) = self.read(self.proxy);
        Seen::proxy(data.as_ref(), balance, lt)
    }

    pub(crate) fn seen_client(&self, contract: Address) -> Seen<ClientState> {
        let (data, balance, lt) = self.read(contract);
        Seen::client(data.as_ref(), balance, lt)
    }

    pub(crate) fn seen_worker(&self, contract: Address) -> Seen<WorkerState> {
        let (data, balance, lt) = self.read(contract);
        Seen::worker(data.as_ref(), balance, lt)
    }
}

/// A client on the stage, with its wishes.
pub(crate) struct Client {
    pub(crate) life: ClientLife,
    pub(crate) policy: ClientPolicy,
    pub(crate) wish: Wish,
    pub(crate) payment: Option<SignedPayment>,
    pub(crate) counted: u64,
    pub(crate) own: u64,
    pub(crate) nonce: Option<u64>,
    pub(crate) secret: Option<cocoon_contract::cell::Hash>,
    pub(crate) outdated_since_s: Option<u64>,
    pub(crate) heard_s: Option<u64>,
    /// What was journaled.
    pub(crate) journal: Vec<SettleRecord>,
    /// Steps taken, as text.
    pub(crate) steps: Vec<String>,
    /// What was deposited.
    pub(crate) deposited: u64,
    /// What the steps were said to cost.
    pub(crate) stated_fees: u64,
}

impl Client {
    pub(crate) fn new(stage: &Stage, policy: ClientPolicy) -> Self {
        let owner = stage.client.address;
        let site = ClientSite::derive(owner, &stage.identity, &stage.network).unwrap();
        let journal = vec![site.record(stage.now_s()).unwrap()];
        Self {
            life: ClientLife::new(site, policy.clone()),
            policy,
            wish: Wish::Use,
            payment: None,
            counted: 0,
            own: 0,
            nonce: None,
            secret: None,
            outdated_since_s: None,
            heard_s: None,
            journal,
            steps: Vec::new(),
            deposited: 0,
            stated_fees: 0,
        }
    }

    pub(crate) fn contract(&self) -> Address {
        self.life.site().contract
    }

    pub(crate) fn state(&self, stage: &Stage) -> ClientState {
        stage.seen_client(self.contract()).state().unwrap().clone()
    }

    /// A new process: nothing but the journal, and what the chain says. `init` comes from the
    /// network's parameters as long as they are the contract's.
    pub(crate) fn restart(&mut self, stage: &Stage) {
        let site = match self.journal.first().map(|record| record.encode()) {
            Some(bytes) => match SettleRecord::decode(&bytes).unwrap() {
                SettleRecord::Opened(site) => ClientSite::from_record(&site).unwrap(),
                other => panic!("{other:?}"),
            },
            None => panic!("a journal begins with its site"),
        };
        let derived =
            ClientSite::derive(stage.client.address, &stage.identity, &stage.network).unwrap();
        let init = derived.init.filter(|_| derived.contract == site.contract);
        self.life = ClientLife::new(ClientSite { init, ..site }, self.policy.clone());
        for record in &self.journal {
            let record = SettleRecord::decode(&record.encode()).unwrap();
            self.life.apply(&record);
        }
    }

    /// One look; sends what is to be sent.
    pub(crate) fn look(&mut self, stage: &mut Stage) -> Next {
        let (own, proxy) = (stage.seen_client(self.contract()), stage.seen_proxy());
        let view = ClientView {
            now_s: stage.now_s(),
            query_id: stage.next_query(),
            own: &own,
            proxy: &proxy,
            wallet: Nanoton(stage.balance(stage.client.address)),
            held: Held {
                payment: self.payment.as_ref(),
                counted: Tokens(self.counted),
                own: Tokens(self.own),
            },
            wish: self.wish,
            outdated_since_s: self.outdated_since_s,
            heard_s: self.heard_s,
            secret_hash: self.secret,
            nonce: self.nonce,
        };
        let next = self.life.plan(&view);
        if let Next::Send(order) = &next {
            assert!(!order.to_string().contains("  "), "{order}");
            self.journal.push(self.life.sent(order, &view));
            assert_eq!(self.life.flight().map(|flight| flight.label), Some(order.label));
            self.steps.push(order.step.to_string());
            self.deposited += order.moved.0;
            self.stated_fees += order.fees.0;
            let before = stage.chain.coins().fees;
            stage.client_sends(order.message.clone());
            self.life.arrived(stage.now_s());
            let cost = stage.chain.coins().fees - before;
            assert!(cost <= u128::from(order.fees.0), "{} costs {cost}", order.step);
        }
        next
    }

    /// Looks until it waits or is done.
    pub(crate) fn settle(&mut self, stage: &mut Stage) -> Next {
        for _ in 0..20 {
            match self.look(stage) {
                Next::Send(_) => {}
                next => return next,
            }
        }
        panic!("sends without end: {:?}", self.steps)
    }

    /// Looks and lets time go by until it is over.
    pub(crate) fn finish(&mut self, stage: &mut Stage) -> Done {
        for _ in 0..60 {
            match self.settle(stage) {
                Next::Done(done) => return done,
                Next::Wait(Wait::Delay { until_s, .. } | Wait::Grant { until_s }) => {
                    stage.wait(until_s.saturating_sub(stage.now_s()) + 1);
                }
                Next::Wait(wait) => {
                    assert_ne!(wait, Wait::Nothing);
                    stage.wait(60);
                }
                Next::Send(_) => unreachable!(),
            }
        }
        panic!("no end: {:?}", self.steps)
    }
}

/// A worker on the stage.
pub(crate) struct Worker {
    pub(crate) life: WorkerLife,
    pub(crate) payment: Option<SignedPayment>,
    pub(crate) payment_s: u64,
    pub(crate) leaving: bool,
    pub(crate) collect: bool,
    pub(crate) steps: Vec<String>,
}

impl Worker {
    pub(crate) fn new(stage: &Stage) -> Self {
        let site = WorkerSite::derive(stage.worker_owner, &stage.identity, &stage.network).unwrap();
        let life = WorkerLife::new(site, WorkerPolicy::default());
        let (leaving, collect) = (false, false);
        Self { life, payment: None, payment_s: 0, leaving, collect, steps: Vec::new() }
    }

    pub(crate) fn contract(&self) -> Address {
        self.life.site().contract
    }

    pub(crate) fn signed(&mut self, stage: &mut Stage, tokens: u64) {
        self.payment = Some(stage.sign(PaymentKind::WorkerPayout, self.contract(), tokens));
        self.payment_s = stage.now_s();
    }

    pub(crate) fn settle(&mut self, stage: &mut Stage) -> Next {
        for _ in 0..20 {
            let (own, proxy) = (stage.seen_worker(self.contract()), stage.seen_proxy());
            let view = WorkerView {
                now_s: stage.now_s(),
                query_id: stage.next_query(),
                own: &own,
                proxy: &proxy,
                wallet: Nanoton(stage.balance(stage.worker.address)),
                wallet_address: stage.worker.address,
                payment: self.payment.as_ref(),
                payment_s: self.payment_s,
                collect: self.collect,
                leaving: self.leaving,
            };
            let next = self.life.plan(&view);
            let Next::Send(order) = &next else { return next };
            let record = self.life.sent(order, &view);
            assert_eq!(SettleRecord::decode(&record.encode()), Some(record));
            self.steps.push(order.step.to_string());
            stage.worker_sends(order.message.clone());
            self.life.arrived(stage.now_s());
        }
        panic!("sends without end: {:?}", self.steps)
    }
}
