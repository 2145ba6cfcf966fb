//! A local chain with a root contract, a client and a worker who have wallets.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use cocoon_chain::{Chain, NodeConfig, ServeConfig, Serving};
use cocoon_contract::address::{self, Network, StateInit};
use cocoon_contract::cell::Hash;
use cocoon_contract::code::{self, Codes};
use cocoon_contract::message::{Body, ClientAction, ClientRequest, RootAction, RootRequest};
use cocoon_contract::params::Params;
use cocoon_contract::root::RootState;
use cocoon_contract::state::{ClientConst, ClientState, ProxyState, WorkerState};
use cocoon_contract::wallet::Outgoing;
use cocoon_host::Stop;
use cocoon_host::chain::{PurseHand, Reports, node_wallet, open_purse, read_root};
use cocoon_purse::{Label, Order, Settings, Wallet};
use cocoon_units::{Address, Multiplier, Nanoton, Secret};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use tokio::sync::Mutex;

use crate::site::Site;

pub(crate) const TON: u64 = 1_000_000_000;
/// Nanoton of one token: a request costs 0.044 TON.
pub(crate) const PRICE: u64 = 1_000_000;
pub(crate) const WORKER_FEE: u64 = 950_000;
pub(crate) const CLIENT_SECRET: &[u8] = b"a secret of a client";
/// SHA-256 of it.
fn secret_hash() -> Hash {
    Hash(Sha256::digest(CLIENT_SECRET).into())
}
/// Blocks within which everything must happen that is waited for: 80 s where nothing else runs.
const BLOCKS_MAX: usize = 4_000;
const BEAT_MS: u64 = 20;
const POLL: Duration = Duration::from_millis(20);

/// Coins, contracts and people.
pub(crate) struct Town {
    pub(crate) serving: Serving,
    pub(crate) root: Address,
    pub(crate) client: PurseHand,
    pub(crate) proxy_owner: Address,
    pub(crate) worker_owner: Address,
    treasury: PurseHand,
    treasury_reports: Mutex<Reports>,
    client_reports: Mutex<Reports>,
    dir: TempDir,
    stop: Ends,
}

/// Ends everybody's purses with the town.
struct Ends(Stop);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.now();
    }
}

impl Town {
    /// A chain with a root contract on it.
    pub(crate) async fn found() -> Self {
        let any = "127.0.0.1:0".parse().unwrap();
        let node = NodeConfig { beat_ms: BEAT_MS, ..NodeConfig::in_memory([5; 32]) };
        let serving = Serving::start(&ServeConfig { node, http: any, lite: None }).await.unwrap();
        let (dir, stop) = (tempfile::tempdir().unwrap(), Stop::new());
        let person = |number: u8| {
            let wallet =
                node_wallet(Address::new(0, [number; 32]), &Secret::new([number; 32])).unwrap();
            serving.node.faucet(wallet.address(), Nanoton(100 * TON)).unwrap().unwrap();
            purse(&serving, wallet, &dir, &number.to_string(), &stop)
        };
        let (treasury, mut treasury_reports) = person(40);
        let (client, client_reports) = person(20);
        let data = root_state(treasury.address()).cell().unwrap();
        let init = StateInit { code: code::root().unwrap(), data };
        let root = init.address();
        settled(&treasury, &mut treasury_reports, Outgoing::deploy(init, Nanoton(TON))).await;
        Self {
            root,
            client,
            proxy_owner: Address::new(0, [1; 32]),
            worker_owner: Address::new(0, [30; 32]),
            treasury,
            treasury_reports: Mutex::new(treasury_reports),
            client_reports: Mutex::new(client_reports),
            dir,
            stop: Ends(stop),
            serving,
        }
    }

    pub(crate) fn give(&self, to: Address, amount: Nanoton) {
        self.serving.node.faucet(to, amount).unwrap().unwrap();
    }

    /// A purse of any wallet.
    pub(crate) fn purse_of(&self, wallet: Wallet, name: &str) -> (PurseHand, Reports) {
        purse(&self.serving, wallet, &self.dir, name, &self.stop.0)
    }

    pub(crate) async fn root_state(&self) -> RootState {
        read_root(&self.serving.node, self.root, true).await.unwrap()
    }

    pub(crate) async fn root_acts(&self, action: RootAction) {
        let body = Body::Root(RootRequest { query_id: 1, action }).cell().unwrap();
        let message = Outgoing::to_contract(self.root, Nanoton(TON / 10), body);
        settled(&self.treasury, &mut *self.treasury_reports.lock().await, message).await;
    }

    fn client_const(&self, proxy: Address) -> ClientConst {
        ClientConst { owner: self.client.address(), proxy, public_key: Site::public_key() }
    }

    /// The client deploys its contract and tops it up; its balance then.
    pub(crate) async fn client_pays_in(&self, site: &Site, amount: Nanoton) -> Nanoton {
        let network = self.root_state().await.network;
        let constants = self.client_const(site.contract(self).await);
        let init = address::client_init(&constants, &network).unwrap();
        let deploy = Outgoing::deploy(init, Nanoton(TON / 2));
        settled(&self.client, &mut *self.client_reports.lock().await, deploy).await;
        let action = ClientAction::ChangeSecretHashAndTopUp { amount, secret_hash: secret_hash() };
        self.client_sends(site, action, amount.saturating_add(Nanoton(TON / 2))).await;
        self.client_state(site).await.unwrap().balance
    }

    pub(crate) async fn client_asks(&self, site: &Site, action: ClientAction) {
        self.client_sends(site, action, Nanoton(TON / 2)).await;
    }

    async fn client_sends(&self, site: &Site, action: ClientAction, value: Nanoton) {
        let constants = self.client_const(site.contract(self).await);
        let network = self.root_state().await.network;
        let contract = address::client(&constants, &network).unwrap();
        let request = ClientRequest { query_id: 5, action, excess: self.client.address() };
        let body = Body::Client(request).cell().unwrap();
        let message = Outgoing::to_contract(contract, value, body);
        settled(&self.client, &mut *self.client_reports.lock().await, message).await;
    }

    /// The worker's contract is deployed, by anybody's wallet.
    pub(crate) async fn worker_moves_in(&self, site: &Site) {
        let network = self.root_state().await.network;
        let proxy = site.contract(self).await;
        let init = address::worker_init(self.worker_owner, proxy, Site::public_key(), &network);
        let deploy = Outgoing::deploy(init.unwrap(), Nanoton(TON / 2));
        settled(&self.treasury, &mut *self.treasury_reports.lock().await, deploy).await;
    }

    pub(crate) async fn client_state(&self, site: &Site) -> Option<ClientState> {
        self.client_state_at(site, site.contract(self).await).await
    }

    /// The client's contract with the proxy contract `proxy`.
    pub(crate) async fn client_state_at(
        &self,
        _site: &Site,
        proxy: Address,
    ) -> Option<ClientState> {
        let mut network = self.root_state().await.network;
        // Contracts of before a change of the price follow from the parameters of then.
        if let Some(before) = self.params_of(proxy).await {
            network.params = before;
        }
        let contract = address::client(&self.client_const(proxy), &network).unwrap();
        let account = self.serving.node.account(contract, None).await.unwrap();
        Some(ClientState::parse(&account.data?).unwrap().0)
    }

    pub(crate) async fn worker_state(&self, site: &Site) -> Option<WorkerState> {
        let network = self.root_state().await.network;
        let proxy = site.contract(self).await;
        let contract =
            address::worker(self.worker_owner, proxy, Site::public_key(), &network).unwrap();
        let account = self.serving.node.account(contract, None).await.unwrap();
        Some(WorkerState::parse(&account.data?).unwrap().0)
    }

    pub(crate) async fn proxy_state(&self, proxy: Address) -> Option<ProxyState> {
        let account = self.serving.node.account(proxy, None).await.unwrap();
        Some(ProxyState::parse(&account.data?).unwrap().0)
    }

    async fn params_of(&self, proxy: Address) -> Option<Params> {
        let account = self.serving.node.account(proxy, None).await.unwrap();
        let (_, params) = ProxyState::parse(&account.data?).unwrap();
        Some(Params::parse(&params).unwrap().0)
    }

    /// What a proxy contract has paid out in all, by receiver.
    pub(crate) async fn payouts(&self, proxy: Address) -> BTreeMap<Address, u64> {
        let mut sums = BTreeMap::new();
        let all = self.serving.node.transactions_since(proxy, 0, usize::MAX).await.unwrap();
        for message in all.iter().flat_map(|transaction| &transaction.out_msgs) {
            if let Ok(Body::Payout { .. }) = Body::parse(&message.body) {
                *sums.entry(message.destination.unwrap()).or_default() += message.value.0;
            }
        }
        sums
    }

    /// State commits on a proxy contract.
    pub(crate) async fn commits(&self, proxy: Address) -> usize {
        let all = self.serving.node.transactions_since(proxy, 0, usize::MAX).await.unwrap();
        let bodies = all.iter().filter_map(|transaction| transaction.in_msg.as_ref());
        bodies
            .filter(|message| matches!(Body::parse(&message.body), Ok(Body::SaveState(_))))
            .count()
    }

    /// Lets so many blocks pass.
    pub(crate) async fn blocks(&self, count: u32) {
        let from = self.serving.node.head().await.unwrap().seqno;
        self.serving.node.moved_beyond(from + count).await;
    }

    /// Waits until something is so. Patience is counted in blocks: a busy machine makes them
    /// slowly, as it does everything else.
    pub(crate) async fn until(&self, what: &str, is_so: impl AsyncFn() -> bool) {
        for _ in 0..BLOCKS_MAX {
            if is_so().await {
                return;
            }
            self.blocks(1).await;
        }
        panic!("waited in vain for {what}");
    }
}

fn purse(
    serving: &Serving,
    wallet: Wallet,
    dir: &TempDir,
    name: &str,
    stop: &Stop,
) -> (PurseHand, Reports) {
    let file = dir.path().join(name);
    let purse = open_purse(wallet, Settings::default(), &file).unwrap();
    let chain: Arc<dyn Chain> = Arc::new(serving.node.clone());
    PurseHand::start(chain, purse, file, POLL, stop.clone())
}

/// Sends a message and waits until its receiver has taken it well, or as well as a message can
/// be taken that is too small to run.
pub(crate) async fn settled(hand: &PurseHand, reports: &mut Reports, message: Outgoing) {
    let label = Label(u64::from_be_bytes(cocoon_host::clock::random()));
    let is_small = message.value <= Nanoton(1);
    hand.order(Order { label, message });
    loop {
        let report = reports.recv().await.unwrap();
        if report.label == label && report.outcome.is_final() {
            assert!(is_small || report.outcome.is_success(), "{report:?}");
            return;
        }
    }
}

fn root_state(owner: Address) -> RootState {
    let params = Params {
        struct_version: 3,
        params_version: 1,
        unique_id: 17,
        is_test: true,
        price_per_token: Nanoton(PRICE),
        worker_fee_per_token: Nanoton(WORKER_FEE),
        prompt_multiplier: Multiplier::ONE,
        cached_multiplier: Multiplier::ONE,
        completion_multiplier: Multiplier::ONE,
        reasoning_multiplier: Multiplier::ONE,
        proxy_delay_s: 2,
        client_delay_s: 1,
        min_proxy_stake: Nanoton(0),
        // More than the longest test spends: no request waits for a charge.
        min_client_stake: Nanoton(6 * TON),
    };
    RootState {
        owner,
        version: 0,
        proxy_hashes: Default::default(),
        registered_proxies: Default::default(),
        last_proxy_seqno: 0,
        worker_hashes: Default::default(),
        model_hashes: Default::default(),
        network: Network { params, codes: Codes::ours().unwrap() },
        key_manager: None,
    }
}
