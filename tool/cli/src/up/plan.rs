//! What is started where: directories, ports, keys, configuration files.

use anyhow::{Context as _, Result};
use cocoon_client::ClientConfig;
use cocoon_contract::boc;
use cocoon_contract::code::Codes;
use cocoon_gateway::GatewayConfig;
use cocoon_gateway::batches::BatchConfig;
use cocoon_host::chain::{ChainConfig, ChainKind, node_wallet};
use cocoon_host::evidence::{EvidenceConfig, simulated_image_hash};
use cocoon_host::keys;
use cocoon_proxy::ProxyConfig;
use cocoon_units::{Address, AddressForm, ModelName, Nanoton, PublicKey};
use cocoon_worker::WorkerConfig;
use rand::Rng as _;
use serde_json::json;
use std::fs::{File, OpenOptions, TryLockError};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use super::child::Recipe;
use super::found::Wanted;
use super::model::{Model, Source};
use crate::arguments::UpOptions;
use crate::mistake;
use crate::roles::GatewayNode;

/// Marks a directory as ours, so that `--fresh` removes nothing else.
const MARK: &str = "cocoon-up.txt";
/// Proof of work that the local proxy asks for, bits: the protocol's step, without its price.
const LOCAL_WORK_BITS: u8 = 4;
/// Names of the simulated images.
const PROXY_IMAGE: &str = "cocoon-proxy";
const WORKER_IMAGE: &str = "cocoon-worker";
const GATEWAY_IMAGE: &str = "cocoon-gateway";
/// What is owed is settled on the local chain from so much on.
const SETTLE_AT: Nanoton = Nanoton(1_000_000);
/// Queries that one worker runs at once.
const WORKER_QUERIES: u32 = 1000;

/// The directory of a network, held by this process.
pub(crate) struct Home {
    dir: PathBuf,
    _lock: File,
}

/// One node to start.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) recipe: Recipe,
    pub(crate) what: String,
    pub(crate) ready_url: String,
}

/// The network to start.
pub(crate) struct Plan {
    pub(crate) data_dir: PathBuf,
    pub(crate) gateway_port: u16,
    chain_port: u16,
    engine_port: u16,
    for_workers: u16,
    for_clients: u16,
    proxy_http: u16,
    worker_http: Vec<u16>,
}

/// What the network's money stands on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ground {
    /// A registry file; nothing is settled.
    Pseudo,
    /// The local chain, with the root contract at this address.
    Chain(Address),
}

impl Home {
    /// Opens or makes the directory; forgets what is in it when `fresh`.
    pub(crate) fn open(dir: &Path, fresh: bool) -> Result<Self> {
        let mark = dir.join(MARK);
        let used = dir.read_dir().is_ok_and(|mut entries| entries.next().is_some());
        if used && !mark.exists() {
            return Err(mistake(format_args!(
                "{} holds something else: choose another --data-dir",
                dir.display()
            )));
        }
        std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let lock = hold(dir)?;
        if fresh && used {
            for part in ["config", "keys", "log", "node", "network.json"] {
                remove(&dir.join(part))?;
            }
        }
        std::fs::write(&mark, "The local network of `cocoon up`. Remove with --fresh.\n")
            .with_context(|| format!("cannot write {}", mark.display()))?;
        for part in ["config", "log", "node"] {
            let path = dir.join(part);
            std::fs::create_dir_all(&path)
                .with_context(|| format!("cannot make {}", path.display()))?;
        }
        Ok(Self { dir: dir.to_owned(), _lock: lock })
    }
}

impl Plan {
    /// Chooses ports.
    pub(crate) fn make(options: &UpOptions, home: &Home) -> Result<Self> {
        let gateway = TcpListener::bind(("127.0.0.1", options.port)).map_err(|fault| {
            mistake(format_args!(
                "port {} cannot be used ({fault}): choose another with --port",
                options.port
            ))
        })?;
        let gateway_port = gateway.local_addr()?.port();
        let ports = free_ports(5 + usize::from(options.workers))?;
        drop(gateway);
        let [chain_port, engine_port, for_workers, for_clients, proxy_http, worker_http @ ..] =
            ports.as_slice()
        else {
            anyhow::bail!("no free ports");
        };
        Ok(Self {
            data_dir: home.dir.clone(),
            gateway_port,
            chain_port: *chain_port,
            engine_port: *engine_port,
            for_workers: *for_workers,
            for_clients: *for_clients,
            proxy_http: *proxy_http,
            worker_http: worker_http.to_vec(),
        })
    }

    /// Writes all configuration files.
    pub(crate) fn write_all(&self, price: u32, model: &Model, ground: Ground) -> Result<()> {
        if ground == Ground::Pseudo {
            self.write_network(price, model)?;
        }
        self.write_proxy(ground)?;
        for number in 1..=self.worker_http.len() {
            self.write_worker(number, model, ground)?;
        }
        self.write_gateway(model, ground)
    }

    /// The registry on the chain, as this start wants it.
    pub(crate) fn wanted(&self, price: u32, model: &Model) -> Result<Wanted> {
        let hash = |image: &str| {
            simulated_image_hash(&self.roots(), image)
                .map(cocoon_contract::cell::Hash)
                .map_err(|fault| anyhow::anyhow!("the simulated platform: {fault}"))
        };
        let model = ModelName::new(model.full_name()).map_err(mistake)?.hash();
        Ok(Wanted {
            price_per_token: Nanoton(price.into()),
            worker_fee_per_token: Nanoton(worker_fee(price).into()),
            proxy_image: hash(PROXY_IMAGE)?,
            worker_image: hash(WORKER_IMAGE)?,
            model: cocoon_contract::cell::Hash(model),
            endpoint: self.endpoint(),
        })
    }

    fn endpoint(&self) -> String {
        format!("127.0.0.1:{} 127.0.0.1:{}", self.for_workers, self.for_clients)
    }

    /// How nodes reach the local chain.
    pub(crate) fn chain_config(&self) -> ChainConfig {
        let url = self.chain();
        ChainConfig { kind: ChainKind::Local, url, poll_ms: 50, ..ChainConfig::default() }
    }

    /// The wallets of all nodes.
    pub(crate) fn wallets(&self) -> Result<Vec<Address>> {
        let mut nodes = vec![
            ("proxy".to_owned(), "proxy-owner".to_owned()),
            ("gateway".into(), "client-owner".into()),
        ];
        for number in 1..=self.worker_http.len() {
            nodes.push((format!("worker-{number}"), format!("worker-{number}-owner")));
        }
        let wallet = |(node, owner): (String, String)| {
            let key = self.data_dir.join("node").join(node).join("wallet.key");
            let key = keys::load_or_make(&key)?;
            Ok(node_wallet(self.address(&owner)?, &key)?.address())
        };
        nodes.into_iter().map(wallet).collect()
    }

    /// The file of a key.
    pub(crate) fn key(&self, name: &str) -> PathBuf {
        self.data_dir.join(format!("keys/{name}.key"))
    }

    /// The nodes in the order they are started and ended: gateway, workers, proxy, engine.
    pub(crate) fn nodes(&self, model: &Model) -> Vec<Node> {
        let mut nodes = vec![self.node(
            "gateway",
            "gateway",
            &format!("OpenAI API on 127.0.0.1:{}", self.gateway_port),
            self.gateway_port,
        )];
        for (index, port) in self.worker_http.iter().enumerate() {
            let name = format!("worker-{}", index + 1);
            nodes.push(self.node(&name, "worker", &format!("serves {}", model.name), *port));
        }
        nodes.push(self.node("proxy", "proxy", "between clients and workers", self.proxy_http));
        if let Source::Embedded { file, sha256, threads } = &model.source {
            let mut arguments: Vec<String> = vec![
                "engine".into(),
                "--listen".into(),
                format!("127.0.0.1:{}", self.engine_port),
                "--model".into(),
                model.name.clone(),
                "--model-file".into(),
                file.display().to_string(),
            ];
            let mut option = |name: &str, value: Option<String>| {
                arguments.extend(value.into_iter().flat_map(|value| [name.to_owned(), value]));
            };
            option("--sha256", sha256.clone());
            option("--threads", threads.map(|threads| threads.to_string()));
            nodes.push(Node {
                recipe: Recipe {
                    name: "engine".into(),
                    arguments,
                    log: self.data_dir.join("log/engine.log"),
                },
                what: "model server".into(),
                ready_url: format!("http://127.0.0.1:{}/health", self.engine_port),
            });
        }
        nodes
    }

    /// The local chain.
    pub(crate) fn chain_node(&self) -> Node {
        Node {
            recipe: Recipe {
                name: "chain".into(),
                arguments: vec![
                    "chain".into(),
                    "--http".into(),
                    format!("127.0.0.1:{}", self.chain_port),
                    "--data-dir".into(),
                    self.data_dir.join("node/chain").display().to_string(),
                ],
                log: self.data_dir.join("log/chain.log"),
            },
            what: "local TON chain".into(),
            ready_url: format!("{}/api/v2/getMasterchainInfo", self.chain()),
        }
    }

    /// Where the local chain answers.
    pub(crate) fn chain(&self) -> String {
        format!("http://127.0.0.1:{}", self.chain_port)
    }

    /// Status page of the proxy.
    pub(crate) fn proxy_status(&self) -> String {
        format!("http://127.0.0.1:{}/jsonstats", self.proxy_http)
    }

    /// Status pages of the workers.
    pub(crate) fn worker_status(&self) -> Vec<String> {
        let page = |port: &u16| format!("http://127.0.0.1:{port}/jsonstats");
        self.worker_http.iter().map(page).collect()
    }

    fn node(&self, name: &str, role: &str, what: &str, port: u16) -> Node {
        let config = self.data_dir.join(format!("config/{name}.toml"));
        Node {
            recipe: Recipe {
                name: name.to_owned(),
                arguments: vec![role.to_owned(), "--config".into(), config.display().to_string()],
                log: self.data_dir.join(format!("log/{name}.log")),
            },
            what: what.to_owned(),
            ready_url: format!("http://127.0.0.1:{port}/ready"),
        }
    }

    fn write_network(&self, price: u32, model: &Model) -> Result<()> {
        let codes = Codes::ours().context("the built-in contracts cannot be read")?;
        let hex = |code: Option<&cocoon_contract::code::Code>| {
            code.and_then(|code| code.cell()).map(|cell| hex::encode(boc::encode(cell)))
        };
        let model_hash = ModelName::new(model.full_name()).map_err(mistake)?.hash();
        let network = json!({
            "@type": "rootConfig.pseudo",
            "proxy_hashes": [self.image_hash(PROXY_IMAGE)?],
            "worker_hashes": [self.image_hash(WORKER_IMAGE)?],
            "model_hashes": [PublicKey(model_hash).to_base64()],
            "root_owner_address": self.text(self.address("root")?),
            "registered_proxies": [{
                "@type": "rootConfig.registeredProxy",
                "seqno": 1,
                "address": self.endpoint(),
            }],
            "last_proxy_seqno": 1,
            "version": 1,
            "params_version": 1,
            "price_per_token": price,
            "worker_fee_per_token": worker_fee(price),
            "proxy_sc_code": hex(codes.proxy.as_ref()),
            "worker_sc_code": hex(codes.worker.as_ref()),
            "client_sc_code": hex(codes.client.as_ref()),
        });
        self.write("network.json", &serde_json::to_string_pretty(&network)?)
    }

    fn write_proxy(&self, ground: Ground) -> Result<()> {
        let defaults = match ground {
            Ground::Pseudo => ProxyConfig::default(),
            // Coins cost nothing here: everything is settled while one watches.
            Ground::Chain(_) => ProxyConfig {
                commit_every_ms: 2_000,
                charge_at: SETTLE_AT,
                payout_at: SETTLE_AT,
                withdraw_at: SETTLE_AT,
                stake: Nanoton::TON,
                ..ProxyConfig::default()
            },
        };
        self.write_config(
            "proxy",
            &ProxyConfig {
                owner: self.text(self.address("proxy-owner")?),
                listen_workers: local(self.for_workers),
                listen_clients: local(self.for_clients),
                work_bits: LOCAL_WORK_BITS,
                evidence: self.evidence(PROXY_IMAGE, 1),
                network_file: self.network_file(ground),
                chain: self.chain_of(ground),
                root: self.root_of(ground)?,
                is_test: true,
                data_dir: self.data_dir.join("node/proxy"),
                http: Some(local(self.proxy_http)),
                drain_s: 2,
                ..defaults
            },
        )
    }

    fn write_worker(&self, number: usize, model: &Model, ground: Ground) -> Result<()> {
        let name = format!("worker-{number}");
        let forward_to = match &model.source {
            Source::Embedded { .. } => format!("http://127.0.0.1:{}", self.engine_port),
            Source::Server { url } => url.clone(),
        };
        let model_path = match &model.source {
            Source::Embedded { file, .. } => file.clone(),
            Source::Server { .. } => PathBuf::new(),
        };
        self.write_config(
            &name,
            &WorkerConfig {
                owner: self.text(self.address(&format!("{name}-owner"))?),
                model: model.full_name(),
                model_path,
                max_active_requests: WORKER_QUERIES,
                forward_to,
                network_file: self.network_file(ground),
                chain: self.chain_of(ground),
                root: self.root_of(ground)?,
                // The registry is the user's own.
                root_notice_s: 0,
                is_test: true,
                evidence: self.evidence(WORKER_IMAGE, 100 + number as u64),
                data_dir: self.data_dir.join("node").join(&name),
                http: self.worker_http.get(number - 1).map(|port| local(*port)),
                drain_s: 2,
                ..WorkerConfig::default()
            },
        )
    }

    fn write_gateway(&self, model: &Model, ground: Ground) -> Result<()> {
        let mut http = GatewayConfig { listen: local(self.gateway_port), ..Default::default() };
        http.limits.drain_ms = 2_000;
        http.batches = Some(BatchConfig::in_folder(self.data_dir.join("node/gateway/batches")));
        if let Some(facts) = &model.facts {
            http.models.insert(model.name.clone(), facts.clone());
        }
        let network = ClientConfig {
            wallet: match ground {
                Ground::Pseudo => self.address("client-wallet")?.to_raw(),
                Ground::Chain(_) => String::new(),
            },
            owner: self.text(self.address("client-owner")?),
            chain: self.chain_of(ground),
            network_file: self.network_file(ground),
            root: self.root_of(ground)?,
            root_notice_s: 0,
            is_test: true,
            evidence: self.evidence(GATEWAY_IMAGE, 2),
            data_dir: self.data_dir.join("node/gateway"),
            ..ClientConfig::default()
        };
        self.write_config("gateway", &GatewayNode { http, network })
    }

    /// File of the development roots, shared by all local networks of this user: they name nobody
    /// and no money, and take seconds to draw.
    fn roots(&self) -> PathBuf {
        let cache = std::env::var_os("XDG_CACHE_HOME").filter(|dir| !dir.is_empty());
        let cache = cache
            .map(PathBuf::from)
            .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")));
        cache.unwrap_or_else(|| self.data_dir.clone()).join("cocoon").join("simulated-roots")
    }

    fn evidence(&self, image: &str, machine: u64) -> EvidenceConfig {
        EvidenceConfig::Simulated {
            roots: self.roots(),
            image: image.to_owned(),
            machine,
            gpu: image == WORKER_IMAGE,
            snp: false,
            misbehave: None,
            dangerous_unchecked_peers: false,
        }
    }

    /// A simulated image's hash as the registry writes it.
    fn image_hash(&self, image: &str) -> Result<String> {
        let hash = simulated_image_hash(&self.roots(), image)
            .map_err(|fault| anyhow::anyhow!("the simulated platform: {fault}"))?;
        Ok(PublicKey(hash).to_base64())
    }

    /// An address of this network that stands for a wallet, from a key of its own.
    pub(crate) fn address(&self, name: &str) -> Result<Address> {
        let seed = keys::load_or_make(&self.key(name))?;
        let key = ed25519_dalek::SigningKey::from_bytes(seed.expose());
        Ok(Address::new(0, key.verifying_key().to_bytes()))
    }

    fn text(&self, address: Address) -> String {
        address.to_friendly(AddressForm::NON_BOUNCEABLE)
    }

    fn network_file(&self, ground: Ground) -> PathBuf {
        match ground {
            Ground::Pseudo => self.data_dir.join("network.json"),
            Ground::Chain(_) => PathBuf::new(),
        }
    }

    fn chain_of(&self, ground: Ground) -> ChainConfig {
        match ground {
            Ground::Pseudo => ChainConfig::default(),
            Ground::Chain(_) => self.chain_config(),
        }
    }

    fn root_of(&self, ground: Ground) -> Result<String> {
        Ok(self.text(match ground {
            Ground::Pseudo => self.address("root")?,
            Ground::Chain(root) => root,
        }))
    }

    fn write_config<T: serde::Serialize>(&self, name: &str, config: &T) -> Result<()> {
        let text = toml::to_string_pretty(config).context("configuration")?;
        self.write(&format!("config/{name}.toml"), &text)
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        let path = self.data_dir.join(name);
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    }
}

/// 95 % for the worker, as the live network is said to pay.
fn worker_fee(price: u32) -> u32 {
    u32::try_from(u64::from(price) * 95 / 100).unwrap_or(price)
}

/// Only one process may run a network from a directory.
fn hold(dir: &Path) -> Result<File> {
    let path = dir.join("lock");
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .with_context(|| format!("cannot open {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(mistake(format_args!(
            "a network runs from {} already: choose another --data-dir",
            dir.display()
        ))),
        Err(TryLockError::Error(fault)) => {
            Err(fault).with_context(|| format!("cannot lock {}", path.display()))
        }
    }
}

fn remove(path: &Path) -> Result<()> {
    let removed =
        if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
    match removed {
        Err(fault) if fault.kind() != std::io::ErrorKind::NotFound => {
            Err(fault).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Where free ports are looked for: below those that systems give to outgoing connections (Linux
/// from 32,768, others from 49,152), one of which could take a port before its node has it.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// Ports that nobody uses now. They are free again when this returns, so one may be taken before
/// its node starts; the node then says so and is started again.
fn free_ports(count: usize) -> Result<Vec<u16>> {
    let mut held = Vec::with_capacity(count);
    let first = rand::thread_rng().gen_range(PORTS);
    for port in (first..PORTS.end).chain(PORTS.start..first) {
        if held.len() == count {
            break;
        }
        held.extend(TcpListener::bind(local(port)).map(|listener| (port, listener)));
    }
    anyhow::ensure!(held.len() == count, "no free ports on 127.0.0.1 in {PORTS:?}");
    Ok(held.into_iter().map(|(port, _)| port).collect())
}

fn local(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}
