//! The key manager's configuration, and how the reference's own file becomes one.

use cocoon_host::chain::ChainConfig;
use cocoon_host::config::{ConfigFault, address, count, local_port, required, required_network};
use cocoon_host::evidence::EvidenceConfig;
use cocoon_host::peers::Transport;
use cocoon_units::Address;
use cocoon_wire::config::KeyStorageRunner;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::PathBuf;

/// The key manager's settings. See `docs/keys.md` for each with examples.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KeyManagerConfig {
    /// Where proxies and workers come in.
    pub listen: SocketAddr,
    /// What stands before that port.
    pub transport: Transport,
    /// Which evidence this node shows and demands; its machine seals the journal.
    pub evidence: EvidenceConfig,
    /// Addresses at which peers reach this node, `ip:port`. A peer that was led here from another
    /// one is refused. Empty does not check, for nodes behind a translator of addresses.
    pub public_addresses: Vec<String>,
    /// Bits of work demanded of peers.
    pub work_bits: u8,
    /// Registry of a network without a chain: whose images may have keys.
    pub network_file: PathBuf,
    /// The chain; without one the registry is `network_file`.
    pub chain: ChainConfig,
    /// The root contract's address. Without a chain fresh evidence names it, and only that.
    pub root: String,
    /// Test mode.
    pub is_test: bool,
    /// TON's test network.
    pub is_testnet: bool,
    /// Whether peers' images must be in the registry; always on outside test mode.
    pub check_images: bool,
    /// Dangerous: whoever took key and certificate out of a machine that the registry lists gets keys.
    /// Hands them to peers that show the evidence of their certificates alone, as nodes of the
    /// reference do; one that showed fresh evidence before has to again.
    pub certificates_suffice: bool,
    /// Adds the key that everybody knows; test mode only.
    pub add_test_key: bool,
    /// Seconds that a key holds.
    pub life_s: u64,
    /// Seconds between two new keys.
    pub rotate_every_s: u64,
    /// Keys, journal, audit trail.
    pub data_dir: PathBuf,
    /// Where to serve status pages; none serves nothing.
    pub http: Option<SocketAddr>,
}

impl Default for KeyManagerConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([0, 0, 0, 0], 13_001)),
            transport: Transport::Direct,
            evidence: EvidenceConfig::None,
            public_addresses: Vec::new(),
            work_bits: 20,
            network_file: PathBuf::new(),
            chain: ChainConfig::default(),
            root: String::new(),
            is_test: false,
            is_testnet: false,
            check_images: true,
            certificates_suffice: false,
            add_test_key: false,
            life_s: 86_400,
            rotate_every_s: 3_600,
            data_dir: PathBuf::from("cocoon-key-manager"),
            http: Some(SocketAddr::from(([127, 0, 0, 1], 13_000))),
        }
    }
}

impl KeyManagerConfig {
    /// Reads the reference's own configuration. Its port stands behind a router.
    ///
    /// # Errors
    /// [`ConfigFault`]: a member that cannot be used.
    pub fn from_reference(file: &KeyStorageRunner<'_>) -> Result<Self, ConfigFault> {
        let listen = local_port("rpc_port", file.rpc_port)?.ok_or_else(|| {
            let port = count("rpc_port", file.rpc_port).unwrap_or_default();
            ConfigFault::Member { member: "rpc_port", reason: format!("{port} is no port") }
        })?;
        Ok(Self {
            listen,
            // The address is of no use to the accepting side.
            transport: Transport::Router(listen),
            is_test: file.is_test,
            check_images: file.check_hashes || !file.is_test,
            add_test_key: file.add_default_key,
            data_dir: PathBuf::from(file.db_path.sanitized().into_owned()),
            http: local_port("http_port", file.http_port)?,
            ..Self::default()
        })
    }

    /// Whether this node states over its connections who it is: it has evidence, and TLS of its own.
    pub(crate) fn speaks(&self) -> bool {
        self.transport == Transport::Direct && self.evidence != EvidenceConfig::None
    }

    pub(crate) fn root_address(&self) -> Result<Address, ConfigFault> {
        address("root", &self.root)
    }

    /// Checks what can be checked without starting anything.
    ///
    /// # Errors
    /// [`ConfigFault`] names the member and what to write.
    pub fn check(&self) -> Result<(), ConfigFault> {
        let fault =
            |member, reason: &str| Err(ConfigFault::Member { member, reason: reason.to_owned() });
        self.chain.check()?;
        let [chain, root] = required_network(self.chain.is_real(), &self.network_file, &self.root);
        if self.chain.is_real() || self.speaks() {
            required(&[chain, root])?;
            self.root_address()?;
        } else {
            required(&[chain])?;
        }
        if !self.is_test && (!self.check_images || self.add_test_key) {
            let reason = "check_images off and add_test_key are possible in test mode only";
            return fault("is_test", reason);
        }
        if self.rotate_every_s < 60 || self.life_s <= self.rotate_every_s {
            let reason = "rotate_every_s is at least 60, and life_s longer than it";
            return fault("life_s, rotate_every_s", reason);
        }
        if self.life_s / self.rotate_every_s > 30 {
            let reason = "at most 30 keys may hold at once: rotate less often, or shorten life_s";
            return fault("life_s, rotate_every_s", reason);
        }
        if self.transport != Transport::Direct && !self.listen.ip().is_loopback() {
            let reason = "without TLS of its own the key manager listens on loopback only";
            return fault("listen", reason);
        }
        Ok(())
    }
}
