//! The proxy's configuration, and how the reference's own file becomes one.

use std::net::SocketAddr;
use std::path::PathBuf;

use cocoon_host::chain::ChainConfig;
use cocoon_host::config::{ConfigFault, address, local_port, required, required_network};
use cocoon_host::evidence::EvidenceConfig;
use cocoon_host::key_feed::KeyManagerAt;
use cocoon_host::peers::Transport;
use cocoon_units::{Address, Nanoton, Secret};
use cocoon_wire::config::ProxyRunner;
use serde::{Deserialize, Serialize};

/// The proxy's settings.
// house: a list of settings.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ProxyConfig {
    /// TON address that the proxy's earnings and stake belong to.
    pub owner: String,
    /// Address of the node's wallet contract in a network without a chain; empty uses the owner.
    /// On a chain the wallet follows from the owner and `wallet.key`.
    pub wallet: String,
    /// Where workers come in.
    pub listen_workers: SocketAddr,
    /// Where clients come in.
    pub listen_clients: SocketAddr,
    /// How peers come in: directly, through a reverse router on this machine, or plain.
    pub transport: Transport,
    /// Which evidence this node shows and demands.
    pub evidence: EvidenceConfig,
    /// File with the owner's endorsement of this machine (`cocoon endorsement sign`), read anew for
    /// each peer; empty shows none.
    pub endorsement_file: PathBuf,
    /// Addresses at which peers reach this proxy, `ip:port`. A peer that was led here from another
    /// one is refused. Empty does not check, for proxies behind a translator of addresses.
    pub public_addresses: Vec<String>,
    /// Proof of work demanded of every peer that comes directly, bits.
    pub work_bits: u8,
    /// Registry of a network without a chain; empty on a chain.
    pub network_file: PathBuf,
    /// Which chain the proxy settles on.
    pub chain: ChainConfig,
    /// A client is charged on chain when it owes this much (or half its stake), nanoTON.
    pub charge_at: Nanoton,
    /// A worker is paid on chain when it is owed this much, nanoTON.
    pub payout_at: Nanoton,
    /// What the proxy has earned is sent to its owner when it is this much, nanoTON; 0 never.
    pub withdraw_at: Nanoton,
    /// The stake of a contract is filled up to this from the node's wallet, nanoTON; 0 leaves it
    /// to the operator. Clients may ask for the network's least stake before they pay in.
    pub stake: Nanoton,
    /// The root contract's address.
    pub root: String,
    /// Test mode; peers must agree.
    pub is_test: bool,
    /// TON's test network.
    pub is_testnet: bool,
    /// Whether a worker's image and model must be in the registry; always on outside test mode.
    pub check_worker_images: bool,
    /// Keys, journal.
    pub data_dir: PathBuf,
    /// Whether a damaged journal is cut at its last good record at start.
    pub repair_journal: bool,
    /// Where to serve status and admin pages; none serves nothing.
    pub http: Option<SocketAddr>,
    /// Word that admin pages ask for (`?access_hash=`); empty asks for none.
    pub http_access_hash: String,
    /// Longest time a request waits for a free worker, milliseconds.
    pub queue_wait_ms: u64,
    /// Requests that may wait for each slot of the workers, in thousandths, eight at least; further
    /// ones are refused at once, and for two seconds after that nobody waits.
    pub waiting_per_slot_milli: u32,
    /// With traffic, a state commit is made at least this often, milliseconds.
    pub commit_every_ms: u64,
    /// A state commit is made as soon as this much is not covered by one, nanoTON.
    pub commit_at_risk: Nanoton,
    /// Journal length from which a snapshot replaces it, bytes; twice the last snapshot where that is
    /// more: well under a second of replay.
    pub journal_bytes_max: u64,
    /// Seconds that running requests get to end when the node is asked to stop.
    pub drain_s: u64,
    /// Who hands out the keys of end-to-end encryption; nobody when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_manager: Option<KeyManagerAt>,
    /// The proxy key, when it does not stand in the data directory.
    #[serde(skip)]
    pub proxy_key: Option<Secret<[u8; 32]>>,
    /// The wallet key, when it does not stand in the data directory.
    #[serde(skip)]
    pub wallet_key: Option<Secret<[u8; 32]>>,
}

impl Default for ProxyConfig {
    fn default() -> Self {
        Self {
            owner: String::new(),
            wallet: String::new(),
            listen_workers: SocketAddr::from(([0, 0, 0, 0], 11_001)),
            listen_clients: SocketAddr::from(([0, 0, 0, 0], 11_002)),
            transport: Transport::Direct,
            evidence: EvidenceConfig::None,
            endorsement_file: PathBuf::new(),
            public_addresses: Vec::new(),
            work_bits: 20,
            network_file: PathBuf::new(),
            chain: ChainConfig::default(),
            charge_at: Nanoton(1_000_000_000),
            payout_at: Nanoton(10_000_000_000),
            withdraw_at: Nanoton(10_000_000_000),
            stake: Nanoton::ZERO,
            root: String::new(),
            is_test: false,
            is_testnet: false,
            check_worker_images: true,
            data_dir: PathBuf::from("cocoon-proxy"),
            repair_journal: false,
            http: Some(SocketAddr::from(([127, 0, 0, 1], 11_000))),
            http_access_hash: String::new(),
            queue_wait_ms: 30_000,
            waiting_per_slot_milli: 500,
            commit_every_ms: 60_000,
            commit_at_risk: Nanoton(100_000_000),
            journal_bytes_max: 32 << 20,
            drain_s: 30,
            key_manager: None,
            proxy_key: None,
            wallet_key: None,
        }
    }
}

/// The members that had to be read.
#[derive(Clone, Debug)]
pub struct Checked {
    /// Whom the proxy belongs to.
    pub owner: Address,
    /// The node's wallet.
    pub wallet: Address,
    /// The root contract.
    pub root: Address,
}

impl ProxyConfig {
    /// Reads the reference's own configuration: inner ports on loopback, a reverse router in
    /// front of them.
    ///
    /// # Errors
    /// [`ConfigFault`]: a member that cannot be used.
    pub fn from_reference(file: &ProxyRunner<'_>) -> Result<Self, ConfigFault> {
        let text = |text: &cocoon_wire::tl::Text<'_>| text.sanitized().into_owned();
        let port = |member, value| {
            local_port(member, value)?.ok_or_else(|| ConfigFault::Member {
                member,
                reason: "write the port that the reverse router connects to".into(),
            })
        };
        let workers = port("workers_rpc_port", file.workers_rpc_port)?;
        let seed = file.machine_specific_private_key.expose();
        let wallet_seed = file.node_wallet_key.expose();
        Ok(Self {
            owner: text(&file.owner_address),
            listen_workers: workers,
            listen_clients: port("client_rpc_port", file.client_rpc_port)?,
            // The address is of no use to the accepting side.
            transport: Transport::Router(workers),
            root: text(&file.root_contract_address),
            chain: ChainConfig::default()
                .from_reference(&text(&file.ton_config_filename), file.is_testnet),
            is_test: file.is_test,
            is_testnet: file.is_testnet,
            check_worker_images: file.check_worker_hashes || !file.is_test,
            data_dir: PathBuf::from(text(&file.db_path)),
            http: local_port("http_port", file.http_port)?,
            http_access_hash: String::from_utf8_lossy(file.http_access_hash.expose()).into_owned(),
            proxy_key: (*seed != [0; 32]).then(|| Secret::new(*seed)),
            wallet_key: (*wallet_seed != [0; 32]).then(|| Secret::new(*wallet_seed)),
            ..Self::default()
        })
    }

    /// How to come to the key manager: behind a router the proxy's own ports say nothing about the
    /// way out, so it dials itself.
    pub(crate) fn key_transport(&self) -> Transport {
        match self.transport {
            Transport::Plain => Transport::Plain,
            Transport::Direct | Transport::Router(_) => Transport::Direct,
        }
    }

    /// Checks what can be checked without starting anything.
    ///
    /// # Errors
    /// [`ConfigFault`] names the member and what to write.
    pub fn check(&self) -> Result<Checked, ConfigFault> {
        let member =
            |member, reason: &str| Err(ConfigFault::Member { member, reason: reason.to_owned() });
        self.chain.check()?;
        let [chain, root] = required_network(self.chain.is_real(), &self.network_file, &self.root);
        required(&[("owner", &self.owner, "TON address that the proxy earns for"), chain, root])?;
        if self.chain.is_real() && !self.network_file.as_os_str().is_empty() {
            return member("network_file", "leave it out: the registry is on the chain");
        }
        if self.chain.is_real() && !self.wallet.is_empty() {
            let reason = "leave it out: on a chain the wallet follows from owner and wallet.key";
            return member("wallet", reason);
        }
        if self.work_bits > 28 {
            return member("work_bits", "peers of the reference do at most 28 bits");
        }
        let inner = [self.listen_workers, self.listen_clients];
        if self.transport != Transport::Direct && inner.iter().any(|a| !a.ip().is_loopback()) {
            let reason = "without TLS of its own the proxy listens on loopback addresses only";
            return member("listen_workers, listen_clients", reason);
        }
        if !self.is_test && !self.check_worker_images {
            return member("check_worker_images", "can be switched off in test mode only");
        }
        if let Some(at) = &self.key_manager {
            at.image(self.is_test)?;
        }
        let owner = address("owner", &self.owner)?;
        let wallet = if self.wallet.is_empty() { owner } else { address("wallet", &self.wallet)? };
        Ok(Checked { owner, wallet, root: address("root", &self.root)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cocoon_host::config::Layers;

    #[test]
    fn toml_and_back() {
        let config = ProxyConfig { is_test: true, work_bits: 8, ..ProxyConfig::default() };
        let layers = Layers::defaults(&config).unwrap();
        let again: ProxyConfig = layers.build().unwrap();
        assert_eq!((again.is_test, again.work_bits), (true, 8));
        assert_eq!(again.listen_clients, config.listen_clients);
    }

    #[test]
    fn the_references_file_becomes_ours() {
        let json = r#"{"@type":"proxyRunner.config","is_test":true,"workers_rpc_port":11101,
            "client_rpc_port":"11102","http_port":11000,
            "owner_address":"UQAuz15H1ZHrZ_psVrAra7HealMIVeFq0wguqlmFno1f3B-m",
            "root_contract_address":"EQCns7bYSp0igFvS1wpb5wsZjCKCV19MD5AVzI4EyxsnU73k",
            "machine_specific_private_key":"AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=",
            "db_path":"/tmp/db","check_worker_hashes":false}"#;
        let file: ProxyRunner<'static> = cocoon_wire::config_json::read(json).unwrap();
        let config = ProxyConfig::from_reference(&file).unwrap();
        assert_eq!(config.listen_workers, SocketAddr::from(([127, 0, 0, 1], 11_101)));
        assert_eq!(config.listen_clients, SocketAddr::from(([127, 0, 0, 1], 11_102)));
        assert_eq!(config.http, Some(SocketAddr::from(([127, 0, 0, 1], 11_000))));
        assert_eq!(config.proxy_key.as_ref().map(|key| *key.expose()), Some([1; 32]));
        assert!(!config.check_worker_images);
        // Such a proxy lives on mainnet: its registry is there, not in a file.
        assert!(config.chain.is_real());
        assert_eq!(config.check().unwrap().owner.to_raw().len(), 66);
    }

    #[test]
    fn what_cannot_work_is_said() {
        let fault = |config: ProxyConfig| config.check().unwrap_err().to_string();
        let unset = fault(ProxyConfig::default());
        assert!(
            unset.starts_with("not set yet: owner") && unset.contains("network_file"),
            "{unset}"
        );
        let base = ProxyConfig {
            owner: "me".to_owned(),
            root: "there".to_owned(),
            network_file: "net.json".into(),
            ..ProxyConfig::default()
        };
        let plain = ProxyConfig { transport: Transport::Plain, ..base.clone() };
        assert!(fault(plain).contains("loopback"));
        let lax = ProxyConfig { check_worker_images: false, ..base.clone() };
        assert!(fault(lax).contains("test mode"));
        assert!(fault(base).starts_with("owner"));
    }
}
