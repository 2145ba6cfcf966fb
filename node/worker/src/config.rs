//! The worker's configuration, and how the reference's own file becomes one.

use cocoon_host::chain::{ChainConfig, ROOT_NOTICE_S};
use cocoon_host::config::{ConfigFault, address, count, local_port, required, required_network};
use cocoon_host::evidence::EvidenceConfig;
use cocoon_host::key_feed::KeyManagerAt;
use cocoon_host::peers::Transport;
use cocoon_settle::WorkerPolicy;
use cocoon_units::{Address, Coefficient, ModelName, Secret};
use cocoon_wire::config::WorkerRunner;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::PathBuf;

/// The worker's settings. See `docs/worker.md` for each with examples.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WorkerConfig {
    /// TON address that earnings are paid to.
    pub owner: String,
    /// Address of the node's wallet contract; empty uses the owner.
    pub wallet: String,
    /// Full model name, `name@commit:hash`; clients ask for `name`.
    pub model: String,
    /// The model's folder, its only file, or nothing. A name with a root (64 hex digits behind
    /// `@commit:`) promises bytes: they are hashed here before the name is announced.
    pub model_path: PathBuf,
    /// Price factor in thousandths, 1000 = 1.0.
    pub coefficient: u32,
    /// Most queries at once.
    pub max_active_requests: u32,
    /// The model server: `http://host:port`.
    pub forward_to: String,
    /// Proxies to connect to at the same time.
    pub proxy_connections: u32,
    /// How to come to them.
    pub transport: Transport,
    /// Which evidence this node shows and demands.
    pub evidence: EvidenceConfig,
    /// File with the owner's endorsement of this machine (`cocoon endorsement sign`), read anew for
    /// each peer; empty shows none.
    pub endorsement_file: PathBuf,
    /// Highest proof of work done for a proxy, bits.
    pub work_bits_max: u8,
    /// Registry of a network without a chain.
    pub network_file: PathBuf,
    /// The chain; without one the registry is `network_file` and money is not real.
    pub chain: ChainConfig,
    /// The wallet's key, when it does not stand in `wallet.key` of the data directory.
    #[serde(skip)]
    pub wallet_key: Option<Secret<[u8; 32]>>,
    /// On a chain: when earnings are collected.
    pub money: WorkerPolicy,
    /// On a chain: seconds for which a change of prices, codes or lists in the root contract must
    /// have stood, there or in a timelock that owns it, before this node follows it. Revocations
    /// are followed at once. 0 follows everything at once.
    pub root_notice_s: u64,
    /// The root contract's address.
    pub root: String,
    /// Test mode; peers must agree.
    pub is_test: bool,
    /// TON's test network.
    pub is_testnet: bool,
    /// Whether a proxy's image must be in the registry; always on outside test mode.
    pub check_proxy_images: bool,
    /// Keys, journal.
    pub data_dir: PathBuf,
    /// Where to serve status and admin pages; none serves nothing.
    pub http: Option<SocketAddr>,
    /// Word that admin pages ask for (`?access_hash=`); empty asks for none.
    pub http_access_hash: String,
    /// Where keys of end-to-end encryption come from, besides proxies; none asks nobody.
    pub key_manager: Option<KeyManagerAt>,
    /// Program that makes the model server serve another model, run with the full name as its only
    /// argument when a proxy's operator asks for it; empty refuses.
    pub change_model_script: PathBuf,
    /// Journal length from which a snapshot replaces it, bytes; twice the last snapshot where that is
    /// more.
    pub journal_bytes_max: u64,
    /// Seconds that running queries get to end when the node is asked to stop.
    pub drain_s: u64,
}

impl Default for WorkerConfig {
    fn default() -> Self {
        Self {
            owner: String::new(),
            wallet: String::new(),
            model: String::new(),
            model_path: PathBuf::new(),
            coefficient: 1000,
            max_active_requests: 60,
            forward_to: "http://127.0.0.1:8000".into(),
            proxy_connections: 1,
            transport: Transport::Direct,
            evidence: EvidenceConfig::None,
            endorsement_file: PathBuf::new(),
            work_bits_max: 28,
            network_file: PathBuf::new(),
            chain: ChainConfig::for_peers(),
            wallet_key: None,
            money: WorkerPolicy::default(),
            root_notice_s: ROOT_NOTICE_S,
            root: String::new(),
            is_test: false,
            is_testnet: false,
            check_proxy_images: true,
            data_dir: PathBuf::from("cocoon-worker"),
            http: Some(SocketAddr::from(([127, 0, 0, 1], 12_000))),
            http_access_hash: String::new(),
            key_manager: None,
            change_model_script: PathBuf::new(),
            journal_bytes_max: 64 << 20,
            drain_s: 30,
        }
    }
}

impl WorkerConfig {
    /// Reads the reference's own configuration.
    ///
    /// # Errors
    /// [`ConfigFault`]: a member that cannot be used.
    pub fn from_reference(file: &WorkerRunner<'_>) -> Result<Self, ConfigFault> {
        let text = |text: &cocoon_wire::tl::Text<'_>| text.sanitized().into_owned();
        let transport = Transport::from_reference(&text(&file.connect_to_proxy_via))?;
        let wallet_seed = file.node_wallet_key.expose();
        Ok(Self {
            owner: text(&file.owner_address),
            model: text(&file.model_name),
            coefficient: count("coefficient", file.coefficient)?,
            max_active_requests: match count("max_active_requests", file.max_active_requests)? {
                0 => 200,
                number => number,
            },
            forward_to: text(&file.forward_requests_to),
            proxy_connections: count("proxy_connections", file.proxy_connections)?.max(1),
            transport,
            root: text(&file.root_contract_address),
            chain: ChainConfig::for_peers()
                .from_reference(&text(&file.ton_config_filename), file.is_testnet),
            wallet_key: (*wallet_seed != [0; 32]).then(|| Secret::new(*wallet_seed)),
            is_test: file.is_test,
            is_testnet: file.is_testnet,
            check_proxy_images: file.check_proxy_hashes || !file.is_test,
            http: local_port("http_port", file.http_port)?,
            http_access_hash: String::from_utf8_lossy(file.http_access_hash.expose()).into_owned(),
            change_model_script: PathBuf::from(text(&file.change_model_script)),
            ..Self::default()
        })
    }

    fn required(&self) -> Result<(), ConfigFault> {
        let [chain, root] = required_network(self.chain.is_real(), &self.network_file, &self.root);
        let owner = ("owner", self.owner.as_str(), "TON address that earnings are paid to");
        let model = ("model", self.model.as_str(), "name of the model that forward_to serves");
        required(&[owner, model, chain, root])
    }

    /// Checks what can be checked without starting anything.
    ///
    /// # Errors
    /// [`ConfigFault`] names the member and what to write.
    pub fn check(&self) -> Result<Checked, ConfigFault> {
        let member = |member, reason: String| ConfigFault::Member { member, reason };
        self.required()?;
        let owner = address("owner", &self.owner)?;
        let wallet = if self.wallet.is_empty() { owner } else { address("wallet", &self.wallet)? };
        if self.max_active_requests == 0 || self.proxy_connections == 0 {
            let reason = "must be at least 1".to_owned();
            return Err(member("max_active_requests, proxy_connections", reason));
        }
        self.chain.check()?;
        if let Some(at) = &self.key_manager {
            at.image(self.is_test)?;
        }
        let model = ModelName::new(self.model.clone())
            .map_err(|fault| member("model", fault.to_string()))?;
        if cocoon_model::promised_root(&model).is_some() && self.model_path.as_os_str().is_empty() {
            let reason = "the model's name promises bytes by its root, so write here where they \
                          lie: the folder, or the file";
            return Err(member("model_path", reason.to_owned()));
        }
        Ok(Checked {
            owner,
            wallet,
            root: address("root", &self.root)?,
            model,
            coefficient: Coefficient::new(self.coefficient.into())
                .map_err(|fault| member("coefficient", fault.to_string()))?,
        })
    }
}

/// The members that had to be read.
#[derive(Clone, Debug)]
pub struct Checked {
    /// Whom earnings are paid to.
    pub owner: Address,
    /// The node's wallet.
    pub wallet: Address,
    /// The root contract.
    pub root: Address,
    /// The model.
    pub model: ModelName,
    /// The price factor.
    pub coefficient: Coefficient,
}
