//! The chain, its root, and who owns what.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use cocoon_chain::{Account, NodeConfig, ServeConfig, Serving};
use cocoon_contract::address::{self, Network, ProxyIdentity, StateInit};
use cocoon_contract::code::{self, Codes};
use cocoon_contract::message::{Body, ProxyAction, ProxyRequest, RootAction, RootRequest};
use cocoon_contract::params::Params;
use cocoon_contract::root::{ProxyEndpoint, RegisteredProxy, RootState};
use cocoon_contract::state::{ClientConst, ClientState, WorkerState};
use cocoon_contract::wallet::Outgoing;
use cocoon_host::chain::{ChainConfig, ChainKind, PurseHand, Reports, node_wallet, open_purse};
use cocoon_host::{Stop, keys};
use cocoon_purse::{Label, Order, Settings};
use cocoon_units::{Address, Multiplier, Nanoton, PublicKey, Secret};
use ed25519_dalek::SigningKey;

use super::nodes::{Nodes, page};

pub(crate) const TON: u64 = 1_000_000_000;
/// Price of a token and the worker's part of it, before and after the change.
pub(crate) const PRICES: [u64; 2] = [40_000, 60_000];
pub(crate) const FEES: [u64; 2] = [38_000, 55_000];
pub(crate) const CLIENT_STAKE: u64 = 20 * TON;
const PROXY_STAKE: u64 = 5 * TON;
/// What the faucet gives each wallet.
pub(crate) const FUNDS: u64 = 500 * TON;
const PATIENCE: Duration = Duration::from_secs(60);

/// Whom payouts go to: plain accounts that nobody spends from.
pub(crate) const WORKER_OWNER: Address = Address::new(0, [0xd0; 32]);
const CLIENT_OWNER: Address = Address::new(0, [0xc0; 32]);
const PROXY_OWNER: Address = Address::new(0, [0xb0; 32]);

pub(crate) struct Site {
    pub(crate) serving: Serving,
    pub(crate) dir: PathBuf,
    pub(crate) root: Address,
    pub(crate) state: RootState,
    pub(crate) identity: ProxyIdentity,
    /// Ports of the proxy for workers and for clients.
    pub(crate) ports: [SocketAddr; 2],
    /// Wallets by name, each with what the faucet gave.
    pub(crate) wallets: Vec<(&'static str, Address, u64)>,
    chain: ChainConfig,
    operator: PurseHand,
    reports: Reports,
    label: u64,
    _stop: Stop,
}

fn params() -> Params {
    Params {
        struct_version: 3,
        params_version: 1,
        unique_id: 17,
        is_test: true,
        price_per_token: Nanoton(PRICES[0]),
        worker_fee_per_token: Nanoton(FEES[0]),
        prompt_multiplier: Multiplier::ONE,
        cached_multiplier: Multiplier::ONE,
        completion_multiplier: Multiplier::ONE,
        reasoning_multiplier: Multiplier::ONE,
        proxy_delay_s: 7_200,
        client_delay_s: 3_600,
        min_proxy_stake: Nanoton(PROXY_STAKE),
        min_client_stake: Nanoton(CLIENT_STAKE),
    }
}

pub(crate) fn free_port() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// The wallet of a node whose key lies, or will lie, in this data directory.
fn wallet_of(owner: Address, data_dir: &Path) -> Result<Address> {
    let key = keys::load_or_make(&data_dir.join("wallet.key"))?;
    Ok(node_wallet(owner, &key)?.address())
}

impl Site {
    pub(crate) async fn new(dir: &Path) -> Result<Self> {
        let any = "127.0.0.1:0".parse()?;
        let node = NodeConfig { beat_ms: 50, ..NodeConfig::in_memory([7; 32]) };
        let serving = Serving::start(&ServeConfig { node, http: any, lite: None }).await?;
        let url = format!("http://{}", serving.http);
        let chain =
            ChainConfig { kind: ChainKind::Local, url, poll_ms: 50, ..ChainConfig::default() };
        let stop = Stop::new();
        let wallet = node_wallet(Address::new(0, [0xa0; 32]), &Secret::new([3; 32]))?;
        let file = dir.join("operator");
        let purse = open_purse(wallet, Settings::default(), &file)?;
        let line = chain.open()?.context("a chain")?;
        let poll = Duration::from_millis(50);
        let (operator, reports) = PurseHand::start(line, purse, file, poll, stop.clone());
        let ports = [free_port()?, free_port()?];
        let endpoint = ProxyEndpoint::parse(&format!("{} {}", ports[0], ports[1]))?;
        let state = RootState {
            owner: operator.address(),
            version: 1,
            proxy_hashes: Default::default(),
            registered_proxies: [(1, RegisteredProxy::new(&endpoint))].into(),
            last_proxy_seqno: 1,
            worker_hashes: Default::default(),
            model_hashes: Default::default(),
            network: Network { params: params(), codes: Codes::ours()? },
            key_manager: None,
        };
        let init = StateInit { code: code::root()?, data: state.cell()? };
        let root = init.address();
        let proxy_key = keys::load_or_make(&dir.join("proxy/proxy.key"))?;
        let proxy_key = SigningKey::from_bytes(proxy_key.expose());
        let identity = ProxyIdentity {
            owner: PROXY_OWNER,
            public_key: PublicKey(proxy_key.verifying_key().to_bytes()),
            root,
        };
        let wallets = vec![
            ("operator", operator.address(), FUNDS),
            ("proxy", wallet_of(PROXY_OWNER, &dir.join("proxy"))?, FUNDS),
            ("worker", wallet_of(WORKER_OWNER, &dir.join("worker"))?, FUNDS),
            ("client", wallet_of(CLIENT_OWNER, &dir.join("gateway"))?, FUNDS),
        ];
        for (_, wallet, funds) in &wallets {
            serving.node.faucet(*wallet, Nanoton(*funds))??;
        }
        let mut site = Self {
            serving,
            dir: dir.to_owned(),
            root,
            state,
            identity,
            ports,
            wallets,
            chain,
            operator,
            reports,
            label: 0,
            _stop: stop,
        };
        site.send(Outgoing::deploy(init, Nanoton(TON))).await?;
        Ok(site)
    }

    pub(crate) fn owners() -> [Address; 3] {
        [PROXY_OWNER, WORKER_OWNER, CLIENT_OWNER]
    }

    async fn send(&mut self, message: Outgoing) -> Result<()> {
        self.label += 1;
        let label = Label(self.label);
        self.operator.order(Order { label, message });
        loop {
            let report = self.reports.recv().await.context("the operator's wallet ended")?;
            if report.label == label && report.outcome.is_final() {
                anyhow::ensure!(report.outcome.is_success(), "{:?}", report.outcome);
                return Ok(());
            }
        }
    }

    /// Puts the stake into the proxy contract, once the proxy has put that on chain.
    pub(crate) async fn stake(&mut self, _epoch: usize) -> Result<()> {
        let contract = self.proxy();
        self.until("the proxy contract", async |site| site.seen(contract).await).await?;
        let action = ProxyAction::IncreaseStake { amount: Nanoton(PROXY_STAKE) };
        let excess = self.operator.address();
        let body = ProxyRequest { query_id: 1, action, excess }.cell()?;
        self.send(Outgoing::to_contract(contract, Nanoton(PROXY_STAKE + TON), body)).await
    }

    pub(crate) async fn change_price(&mut self) -> Result<()> {
        let action = RootAction::ChangePrice {
            price_per_token: Nanoton(PRICES[1]),
            worker_fee_per_token: Nanoton(FEES[1]),
        };
        let body = Body::Root(RootRequest { query_id: 2, action }).cell()?;
        self.send(Outgoing::to_contract(self.root, Nanoton(TON / 10), body)).await?;
        let data = self.account(self.root).await?.data.context("the root contract")?;
        self.state = RootState::parse(&data)?;
        Ok(())
    }

    /// The contracts of the parameters as they are now.
    pub(crate) fn proxy(&self) -> Address {
        address::proxy(&self.identity, &self.state.network).unwrap()
    }

    pub(crate) fn client(&self) -> Address {
        let owner = self.wallet("client");
        let (proxy, public_key) = (self.proxy(), self.identity.public_key);
        let constants = ClientConst { owner, proxy, public_key };
        address::client(&constants, &self.state.network).unwrap()
    }

    pub(crate) fn worker(&self) -> Address {
        let key = self.identity.public_key;
        address::worker(WORKER_OWNER, self.proxy(), key, &self.state.network).unwrap()
    }

    pub(crate) fn wallet(&self, name: &str) -> Address {
        self.wallets.iter().find(|wallet| wallet.0 == name).unwrap().1
    }

    pub(crate) async fn account(&self, address: Address) -> Result<Account> {
        let chain = self.chain.open()?.context("a chain")?;
        Ok(chain.account(address, None).await?)
    }

    pub(crate) async fn seen(&self, address: Address) -> bool {
        self.account(address).await.is_ok_and(|account| account.data.is_some())
    }

    pub(crate) async fn client_state(&self, contract: Address) -> Option<ClientState> {
        ClientState::parse(&self.account(contract).await.ok()?.data?).ok().map(|read| read.0)
    }

    pub(crate) async fn worker_state(&self, contract: Address) -> Option<WorkerState> {
        WorkerState::parse(&self.account(contract).await.ok()?.data?).ok().map(|read| read.0)
    }

    /// Lets seconds go by on the chain.
    pub(crate) fn later(&self, seconds: u64) {
        self.serving.node.advance(seconds * 1000).unwrap();
    }

    /// Lets time go by while no message of the client is on its way: it would become void.
    pub(crate) async fn skip(&self, nodes: &Nodes) {
        let Ok(page) = page(nodes.gateway).await else { return };
        let mut contracts = page["money"]["contracts"].as_array().into_iter().flatten();
        if contracts.all(|contract| contract["on_its_way"].is_null()) {
            self.later(100);
        }
    }

    /// Waits for something on chain.
    pub(crate) async fn until(
        &self,
        what: &str,
        mut is_so: impl AsyncFnMut(&Self) -> bool,
    ) -> Result<()> {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while !is_so(self).await {
            if tokio::time::Instant::now() > deadline {
                bail!(
                    "{what}: not within {} s; logs in {}",
                    PATIENCE.as_secs(),
                    self.dir.display()
                );
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// Waits until no message is on its way on the chain.
    pub(crate) async fn quiet(&self) -> Result<()> {
        self.until("a quiet chain", async |site| {
            site.serving.node.read(|chain| chain.waiting() == (0, 0, 0))
        })
        .await
    }

    pub(crate) fn chain(&self) -> &ChainConfig {
        &self.chain
    }

    pub(crate) fn owner_of(name: &str) -> Address {
        match name {
            "proxy" => PROXY_OWNER,
            "worker" => WORKER_OWNER,
            _ => CLIENT_OWNER,
        }
    }
}
