//! The client's money on a chain of its own, over real sockets: opened, used, moved with the
//! parameters, and taken back from a proxy that is gone for good.

#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

mod away;
mod images;
mod operator;
mod program;
mod proxy;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use cocoon_chain::{Account, NodeConfig, ServeConfig, Serving};
use cocoon_client::{ClientConfig, Network};
use cocoon_contract::address::{self, ProxyIdentity, StateInit};
use cocoon_contract::code::{self, Codes};
use cocoon_contract::message::{
    Body, ClientPayload, ProxyAction, ProxyRequest, RootAction, RootRequest,
};
use cocoon_contract::params::Params;
use cocoon_contract::payment::{PaymentKind, SignedPayment};
use cocoon_contract::root::{ProxyEndpoint, RegisteredProxy, RootState};
use cocoon_contract::state::{ClientState, Phase};
use cocoon_contract::wallet::Outgoing;
use cocoon_gateway::Upstream as _;
use cocoon_host::chain::{ChainConfig, ChainKind, PurseHand, Reports, node_wallet, open_purse};
use cocoon_host::peers::Transport;
use cocoon_host::{Stop, keys};
use cocoon_purse::{Label, Order, Settings};
use cocoon_units::{Address, Multiplier, Nanoton, PublicKey, Secret, Tokens};
use ed25519_dalek::SigningKey;
use proxy::Proxy;

const TON: u64 = 1_000_000_000;
const PRICE: u64 = 20;
const DEADLINE: Duration = Duration::from_secs(90);
const OWNER: Address = Address::new(0, [0x33; 32]);

fn params() -> Params {
    Params {
        struct_version: 3,
        params_version: 1,
        unique_id: 17,
        is_test: true,
        price_per_token: Nanoton(PRICE),
        worker_fee_per_token: Nanoton(19),
        prompt_multiplier: Multiplier::ONE,
        cached_multiplier: Multiplier::ONE,
        completion_multiplier: Multiplier::ONE,
        reasoning_multiplier: Multiplier::ONE,
        proxy_delay_s: 7_200,
        client_delay_s: 3_600,
        min_proxy_stake: Nanoton(TON),
        min_client_stake: Nanoton(3 * TON),
    }
}

/// A chain with an operator, a root and a proxy contract with its stake.
struct Site {
    serving: Serving,
    operator: PurseHand,
    reports: Reports,
    label: u64,
    root: Address,
    state: RootState,
    identity: ProxyIdentity,
    proxy_key: SigningKey,
    wallet: Address,
    config: ClientConfig,
}

impl Site {
    async fn new(dir: &Path, proxy: SocketAddr, stop: &Stop) -> Self {
        let serving = serve(dir, own()).await;
        let url = format!("http://{}", serving.http);
        let chain =
            ChainConfig { kind: ChainKind::Local, url, poll_ms: 20, ..ChainConfig::default() };
        let poll = Duration::from_millis(20);
        let wallet = node_wallet(Address::new(0, [0x44; 32]), &Secret::new([3; 32])).unwrap();
        let purse = open_purse(wallet, Settings::default(), &dir.join("operator")).unwrap();
        let line = chain.open().unwrap().unwrap();
        let (operator, reports) =
            PurseHand::start(line, purse, dir.join("operator"), poll, stop.clone());
        let endpoint = ProxyEndpoint::parse(&format!("{proxy} {proxy}")).unwrap();
        let state = RootState {
            owner: operator.address(),
            version: 1,
            proxy_hashes: Default::default(),
            registered_proxies: [(1, RegisteredProxy::new(&endpoint))].into(),
            last_proxy_seqno: 1,
            worker_hashes: Default::default(),
            model_hashes: Default::default(),
            network: address::Network { params: params(), codes: Codes::ours().unwrap() },
            key_manager: None,
        };
        let init = StateInit { code: code::root().unwrap(), data: state.cell().unwrap() };
        let root = init.address();
        let proxy_key = SigningKey::from_bytes(&[0x77; 32]);
        let identity = ProxyIdentity {
            owner: operator.address(),
            public_key: PublicKey(proxy_key.verifying_key().to_bytes()),
            root,
        };
        let data_dir = dir.join("data");
        let key = keys::load_or_make(&data_dir.join("wallet.key")).unwrap();
        let wallet = node_wallet(OWNER, &key).unwrap().address();
        let config = ClientConfig {
            owner: OWNER.to_string(),
            transport: Transport::Plain,
            chain,
            root: root.to_string(),
            is_test: true,
            check_proxy_images: false,
            root_notice_s: 0,
            data_dir,
            ..ClientConfig::default()
        };
        let mut site = Self {
            serving,
            operator,
            reports,
            label: 0,
            root,
            state,
            identity,
            proxy_key,
            wallet,
            config,
        };
        site.fund(site.operator.address(), 1_000);
        site.send(Outgoing::deploy(init, Nanoton(TON))).await;
        site.open_proxy().await;
        site
    }

    fn fund(&self, to: Address, ton: u64) {
        self.serving.node.faucet(to, Nanoton(ton * TON)).unwrap().unwrap();
    }

    async fn send(&mut self, message: Outgoing) {
        self.label += 1;
        let label = Label(self.label);
        self.operator.order(Order { label, message });
        loop {
            let report = self.reports.recv().await.expect("a report");
            if report.label == label && report.outcome.is_final() {
                assert!(report.outcome.is_success(), "{:?}", report.outcome);
                return;
            }
        }
    }

    /// The proxy contract of the parameters as they are now, with its stake.
    async fn open_proxy(&mut self) {
        let init = address::proxy_init(&self.identity, &self.state.network).unwrap();
        let contract = init.address();
        self.send(Outgoing::deploy(init, Nanoton(TON))).await;
        let action = ProxyAction::IncreaseStake { amount: Nanoton(TON) };
        let excess = self.operator.address();
        let body = ProxyRequest { query_id: 1, action, excess }.cell().unwrap();
        self.send(Outgoing::to_contract(contract, Nanoton(2 * TON), body)).await;
    }

    /// The proxy charges a client contract by itself.
    async fn charge(&mut self, contract: Address, tokens: u64) {
        let (kind, excess) = (PaymentKind::ClientCharge, self.operator.address());
        let tokens = Tokens(tokens);
        let charge =
            SignedPayment::sign(kind, 3, tokens, contract, excess, &self.proxy_key).unwrap();
        let body = charge.cell().unwrap();
        self.send(Outgoing::to_contract(contract, Nanoton(TON / 2), body)).await;
    }

    async fn root_acts(&mut self, action: RootAction) {
        let body = Body::Root(RootRequest { query_id: 7, action }).cell().unwrap();
        self.send(Outgoing::to_contract(self.root, Nanoton(TON / 10), body)).await;
    }

    async fn change_price(&mut self) {
        let (price_per_token, worker_fee_per_token) = (Nanoton(40), Nanoton(39));
        self.root_acts(RootAction::ChangePrice { price_per_token, worker_fee_per_token }).await;
        let data = self.account(self.root).await.data.unwrap();
        self.state = RootState::parse(&data).unwrap();
    }

    fn proxy(&self) -> Address {
        address::proxy(&self.identity, &self.state.network).unwrap()
    }

    fn client(&self) -> Address {
        self.client_of(&self.state.network)
    }

    fn client_of(&self, network: &address::Network) -> Address {
        let constants = cocoon_contract::state::ClientConst {
            owner: self.wallet,
            proxy: address::proxy(&self.identity, network).unwrap(),
            public_key: self.identity.public_key,
        };
        address::client(&constants, network).unwrap()
    }

    async fn account(&self, address: Address) -> Account {
        let chain = self.config.chain.open().unwrap().unwrap();
        chain.account(address, None).await.unwrap()
    }

    async fn state_of(&self, contract: Address) -> ClientState {
        ClientState::parse(&self.account(contract).await.data.unwrap()).unwrap().0
    }

    /// Lets time go by while nothing is on its way: a message that waits would become void.
    async fn skip(&self, network: &Network) {
        let page = page(network).await;
        let waits = |contract: &serde_json::Value| contract["on_its_way"].is_null();
        if page["contracts"].as_array().is_some_and(|contracts| contracts.iter().all(waits)) {
            self.serving.node.advance(200_000).unwrap();
        }
    }

    /// Bodies of all messages that came to an account, with their values.
    async fn arrived(&self, at: Address) -> Vec<(Option<Address>, u64, Body)> {
        let chain = self.config.chain.open().unwrap().unwrap();
        let all = chain.transactions_since(at, 0, 1_000).await.unwrap();
        let messages = all.into_iter().filter_map(|transaction| transaction.in_msg);
        messages
            .filter_map(|message| {
                let body = Body::parse(&message.body).ok()?;
                Some((message.source, message.value.0, body))
            })
            .collect()
    }

    async fn is_registered(&self, expected: u64) -> bool {
        let bodies = self.arrived(self.proxy()).await;
        bodies.iter().any(|(_, _, body)| {
            matches!(body, Body::ClientNotice(notice)
                if matches!(notice.payload, Some(ClientPayload::Register { nonce }) if nonce == expected))
        })
    }

    /// What a proxy contract paid back to the client's wallet.
    async fn paid_back(&self, by: Address) -> u64 {
        let arrived = self.arrived(self.wallet).await;
        let paid = arrived
            .iter()
            .filter(|(source, _, body)| *source == Some(by) && matches!(body, Body::Payout { .. }));
        paid.map(|(_, value, _)| value).sum()
    }
}

/// An address that stays this test's while nobody listens there: of the whole net of loopback
/// addresses this process uses one of its own.
fn own() -> SocketAddr {
    let [_, high, middle, low] = std::process::id().to_be_bytes();
    let address = Ipv4Addr::new(127, high | 64, middle, low);
    std::net::TcpListener::bind((address, 0)).unwrap().local_addr().unwrap()
}

/// The chain that is kept in `dir`.
async fn serve(dir: &Path, http: SocketAddr) -> Serving {
    let directory = Some(dir.join("chain"));
    let node = NodeConfig { directory, beat_ms: 20, ..NodeConfig::in_memory([5; 32]) };
    Serving::start(&ServeConfig { node, http, lite: None }).await.unwrap()
}

async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(DEADLINE, waiting).await.unwrap_or_else(|_| panic!("{what}: too late"));
}

/// Starts again as soon as the node before has let go of the journal.
async fn start_again(config: &ClientConfig, stop: &Stop) -> Network {
    let mut started = None;
    until("the journal is free", async || {
        started = Network::open(config, stop).await.ok().flatten();
        started.is_some()
    })
    .await;
    started.unwrap()
}

async fn page(network: &Network) -> serde_json::Value {
    let sections = network.status().await.sections;
    let money = sections.iter().find(|(name, _)| name == "money").unwrap();
    serde_json::from_str(&money.1).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn money_goes_to_the_proxy_and_all_that_is_unspent_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let stop = Stop::new();
    let mut proxy = Proxy::new().await;
    let mut site = Site::new(dir.path(), proxy.address, &stop).await;
    let network = Network::open(&site.config, &stop).await.unwrap().unwrap();

    // Met, but the wallet is empty: the node says what is missing and where to.
    let (identity, old) = (site.identity.clone(), site.state.network.clone());
    let met = proxy.meet(&identity, &old, site.wallet, 7).await;
    until("the wallet's lack is told", async || {
        page(&network).await["contracts"][0]["doing"]
            .as_str()
            .is_some_and(|doing| doing.contains("the wallet has 0 TON and needs"))
    })
    .await;
    site.fund(site.wallet, 100);
    until("registration", async || site.is_registered(7).await).await;
    proxy.let_in(&met, 0).await;
    let contract = site.client();
    let opened = site.state_of(contract).await;
    assert_eq!((opened.balance.0, opened.phase), (3 * TON, Phase::Normal));
    until("the page", async || page(&network).await["contracts"][0]["balance_nanoton"] == 3 * TON)
        .await;

    // The proxy charges 0.2 TON; then the network's price changes, and everybody moves.
    site.charge(contract, 10_000_000).await;
    let (old_proxy, left) = (site.proxy(), 3 * TON - 10_000_000 * PRICE);
    assert_eq!(site.state_of(contract).await.balance.0, left);
    site.change_price().await;
    site.open_proxy().await;
    let (identity, new) = (site.identity.clone(), site.state.network.clone());
    let met = proxy.meet(&identity, &new, site.wallet, 8).await;
    until("registration at the new contract", async || site.is_registered(8).await).await;
    proxy.let_in(&met, 0).await;
    let moved = site.client();
    assert_ne!(moved, contract);
    assert_eq!(site.state_of(moved).await.balance.0, 3 * TON);

    // The old proxy contract grants nothing; half the delays' difference, then the client's delay.
    until("the old contract closes", async || {
        site.skip(&network).await;
        site.state_of(contract).await.phase != Phase::Normal
    })
    .await;
    until("the old contract is paid back", async || {
        site.skip(&network).await;
        site.paid_back(old_proxy).await == left
    })
    .await;

    // The proxy is gone for good. The next start is told to leave; it goes on from the journal.
    network.close().await;
    proxy.gone(&met).await;
    stop.now();
    drop((network, proxy));
    let stop = Stop::new();
    let config = ClientConfig { leave: true, ..site.config.clone() };
    let network = start_again(&config, &stop).await;
    until("everything is back", async || {
        site.skip(&network).await;
        site.paid_back(site.proxy()).await == 3 * TON
    })
    .await;
    until("the page says so", async || {
        let doing = page(&network).await.to_string();
        doing.contains("closed, everything came back")
    })
    .await;
    let state = site.state_of(moved).await;
    assert_eq!((state.phase, state.balance.0, state.tokens_used.0), (Phase::Closed, 0, 0));
    let wallet = site.account(site.wallet).await.balance.0;
    let spent = 100 * TON - 10_000_000 * PRICE - wallet;
    // Two contracts opened, registered and closed: fees, and what closed accounts keep.
    assert!(spent < TON / 4, "{spent}");
    network.close().await;
    stop.now();
}
