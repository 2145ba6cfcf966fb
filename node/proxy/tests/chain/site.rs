//! A proxy in a directory of its own, on the town's chain.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cocoon_contract::address::{self, ProxyIdentity};
use cocoon_host::chain::{ChainConfig, ChainKind, node_wallet};
use cocoon_host::evidence::EvidenceConfig;
use cocoon_host::peers::{Presence, Transport};
use cocoon_host::{ChannelRole, Stop, Subject};
use cocoon_link::Route;
use cocoon_proxy::{ProxyConfig, Running, start};
use cocoon_purse::Wallet;
use cocoon_units::{Address, Nanoton, PublicKey, Secret};
use ed25519_dalek::SigningKey;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::peer::{Peer, client_of};
use crate::town::{CLIENT_SECRET, TON, Town};

const PROXY_SEED: [u8; 32] = [1; 32];
const WALLET_SEED: [u8; 32] = [3; 32];

/// A proxy's configuration and directory.
pub(crate) struct Site {
    pub(crate) config: ProxyConfig,
    /// What peers show.
    pub(crate) peers: EvidenceConfig,
    presence_stop: Stop,
    /// Version of the registry that clients ask for at least.
    pub(crate) version: i32,
    owner: Address,
    dir: Arc<TempDir>,
}

/// A running proxy.
pub(crate) struct Node {
    running: Running,
    stop: Stop,
}

/// What a page said.
pub(crate) struct Page {
    pub(crate) code: u16,
    pub(crate) body: String,
}

impl Site {
    /// A site whose wallet has coins.
    pub(crate) fn on(town: &Town) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let chain = ChainConfig {
            kind: ChainKind::Local,
            url: format!("http://{}", town.serving.http),
            poll_ms: 20,
            ..ChainConfig::default()
        };
        let config = ProxyConfig {
            owner: town.proxy_owner.to_string(),
            listen_workers: any,
            listen_clients: any,
            http: Some(any),
            transport: Transport::Plain,
            work_bits: 4,
            chain,
            charge_at: Nanoton(TON / 5),
            payout_at: Nanoton(TON / 5),
            root: town.root.to_string(),
            is_test: true,
            check_worker_images: false,
            data_dir: dir.path().join("data"),
            drain_s: 10,
            proxy_key: Some(Secret::new(PROXY_SEED)),
            wallet_key: Some(Secret::new(WALLET_SEED)),
            ..ProxyConfig::default()
        };
        let owner = town.proxy_owner;
        let presence_stop = Stop::new();
        let (peers, dir) = (EvidenceConfig::None, Arc::new(dir));
        let site = Self { config, peers, presence_stop, version: 0, owner, dir };
        town.give(site.wallet().address(), Nanoton(20 * TON));
        site
    }

    /// The same site, for a second start.
    pub(crate) fn again(&self) -> Self {
        Self {
            config: self.config.clone(),
            peers: self.peers.clone(),
            presence_stop: Stop::new(),
            version: self.version,
            owner: self.owner,
            dir: Arc::clone(&self.dir),
        }
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn wallet(&self) -> Wallet {
        node_wallet(self.owner, &Secret::new(WALLET_SEED)).unwrap()
    }

    pub(crate) fn public_key() -> PublicKey {
        PublicKey(SigningKey::from_bytes(&PROXY_SEED).verifying_key().to_bytes())
    }

    /// The proxy contract under the root's present parameters.
    pub(crate) async fn contract(&self, town: &Town) -> Address {
        let root = town.root_state().await;
        let identity =
            ProxyIdentity { owner: self.owner, public_key: Self::public_key(), root: town.root };
        address::proxy(&identity, &root.network).unwrap()
    }

    pub(crate) async fn start(&self) -> Node {
        let stop = Stop::new();
        let running = start(self.config.clone(), stop.clone()).await.expect("starts");
        Node { running, stop }
    }

    /// The way of a peer to the proxy; where evidence is shown, of a worker.
    pub(crate) fn route(&self) -> Route {
        let root = Address::parse(&self.config.root).unwrap();
        let subject = Subject::new(ChannelRole::Worker, self.config.is_testnet, root, [30; 32]);
        let presence = Presence::start(&Secret::new([8; 32]), &self.peers, &self.presence_stop)
            .and_then(|presence| presence.speaking_for(subject))
            .unwrap();
        presence.route(&self.config.transport, 8)
    }
}

impl Node {
    pub(crate) fn workers(&self) -> SocketAddr {
        self.running.workers
    }

    pub(crate) fn clients(&self) -> SocketAddr {
        self.running.clients
    }

    pub(crate) async fn stop(self) {
        self.stop.now();
        self.running.ended().await.expect("ends well");
    }

    /// Waits until peers are served.
    pub(crate) async fn ready(&self) {
        while self.page("/ready").await.code != 200 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The town's client, once the proxy has seen its contract.
    pub(crate) async fn client(&self, site: &Site, town: &Town) -> Peer {
        loop {
            let owner = town.client.address();
            if let Some(peer) = client_of(self, site, owner, CLIENT_SECRET).await {
                return peer;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub(crate) async fn status(&self) -> serde_json::Value {
        serde_json::from_str(&self.page("/jsonstats").await.body).unwrap()
    }

    pub(crate) async fn params_version(&self) -> u64 {
        self.status().await["smartcontract"]["params_version"].as_u64().unwrap()
    }

    pub(crate) async fn old_contracts(&self) -> usize {
        self.status().await["old_instances"].as_array().unwrap().len()
    }

    pub(crate) async fn page(&self, path: &str) -> Page {
        self.http("GET", path).await
    }

    pub(crate) async fn post(&self, path: &str) -> Page {
        self.http("POST", path).await
    }

    async fn http(&self, method: &str, path: &str) -> Page {
        let mut tcp = TcpStream::connect(self.running.http.unwrap()).await.unwrap();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: proxy\r\nContent-Length: 0\r\n\
             Connection: close\r\n\r\n"
        );
        tcp.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        tcp.read_to_string(&mut text).await.unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let code = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap();
        Page { code, body: body.to_owned() }
    }
}
