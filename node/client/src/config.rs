//! The client's configuration, and how the reference's own file becomes one.

use cocoon_host::chain::{ChainConfig, ROOT_NOTICE_S};
use cocoon_host::config::{ConfigFault, address, count, required, required_network};
use cocoon_host::evidence::EvidenceConfig;
use cocoon_host::peers::Transport;
use cocoon_settle::ClientPolicy;
use cocoon_units::{Address, Secret};
use cocoon_wire::config::ClientRunner;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The client's settings towards the network. See `docs/gateway.md` for each with examples.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClientConfig {
    /// Address of the client's wallet contract, the owner of its client contracts.
    pub wallet: String,
    /// File with the secret of the short authorisation; none when missing.
    pub secret_file: Option<PathBuf>,
    /// That secret, when it does not stand in a file of its own.
    #[serde(skip)]
    pub secret: Option<Secret<Vec<u8>>>,
    /// Proxies to connect to at the same time.
    pub proxy_connections: u32,
    /// How to come to them.
    pub transport: Transport,
    /// Which evidence this node shows and demands.
    pub evidence: EvidenceConfig,
    /// Highest proof of work done for a proxy, bits.
    pub work_bits_max: u8,
    /// Registry of a network without a chain.
    pub network_file: PathBuf,
    /// The chain; without one the registry is `network_file` and money is not real.
    pub chain: ChainConfig,
    /// On a chain: who can take everything out of the node's wallet.
    pub owner: String,
    /// The wallet's key, when it does not stand in `wallet.key` of the data directory.
    #[serde(skip)]
    pub wallet_key: Option<Secret<[u8; 32]>>,
    /// On a chain: when money is moved.
    pub money: ClientPolicy,
    /// On a chain: take everything back from all proxies and close, instead of using them.
    pub leave: bool,
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
    /// Journal length from which a snapshot replaces it, bytes; twice the last snapshot where that is
    /// more.
    pub journal_bytes_max: u64,
    /// Receipts of answers that are kept, the newest; 0 keeps none.
    pub receipts_max: u32,
    /// How long a worker's verdict counts for requests that demand some, seconds.
    pub verdict_life_s: u32,
    /// Longest wait for a proxy, milliseconds, when none is connected as a request comes.
    pub proxy_wait_ms: u64,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            wallet: String::new(),
            secret_file: None,
            secret: None,
            proxy_connections: 1,
            transport: Transport::Direct,
            evidence: EvidenceConfig::None,
            work_bits_max: 28,
            network_file: PathBuf::new(),
            chain: ChainConfig::for_peers(),
            owner: String::new(),
            wallet_key: None,
            money: ClientPolicy::default(),
            leave: false,
            root_notice_s: ROOT_NOTICE_S,
            root: String::new(),
            is_test: false,
            is_testnet: false,
            check_proxy_images: true,
            data_dir: PathBuf::from("cocoon-client"),
            journal_bytes_max: 64 << 20,
            receipts_max: 10_000,
            verdict_life_s: 300,
            proxy_wait_ms: 3_000,
        }
    }
}

/// The members that had to be read.
#[derive(Clone, Debug)]
pub struct Checked {
    /// The client's wallet, or on a chain the owner that it is derived from.
    pub wallet: Address,
    /// The root contract.
    pub root: Address,
    /// The secret, empty for none.
    pub secret: Secret<Vec<u8>>,
}

impl ClientConfig {
    /// Reads the reference's own configuration. The wallet's address is not in it: it is derived
    /// from key and owner by whoever knows the wallet's code.
    ///
    /// # Errors
    /// [`ConfigFault`]: a member that cannot be used.
    pub fn from_reference(file: &ClientRunner<'_>, wallet: Address) -> Result<Self, ConfigFault> {
        let text = |text: &cocoon_wire::tl::Text<'_>| text.sanitized().into_owned();
        let secret = &file.secret_string;
        Ok(Self {
            secret: (!secret.expose().is_empty()).then(|| secret.clone()),
            wallet: wallet.to_raw(),
            proxy_connections: count("proxy_connections", file.proxy_connections)?.max(1),
            transport: Transport::from_reference(&text(&file.connect_to_proxy_via))?,
            root: text(&file.root_contract_address),
            chain: ChainConfig::for_peers()
                .from_reference(&text(&file.ton_config_filename), file.is_testnet),
            is_test: file.is_test,
            is_testnet: file.is_testnet,
            check_proxy_images: file.check_proxy_hashes || !file.is_test,
            ..Self::default()
        })
    }

    /// Checks what can be checked without starting anything.
    ///
    /// # Errors
    /// [`ConfigFault`] names the member and what to write.
    pub fn check(&self) -> Result<Checked, ConfigFault> {
        if self.proxy_connections == 0 {
            let reason = "must be at least 1".to_owned();
            return Err(ConfigFault::Member { member: "proxy_connections", reason });
        }
        self.chain.check()?;
        let [chain, root] = required_network(self.chain.is_real(), &self.network_file, &self.root);
        let payer = match self.chain.is_real() || self.network_file.as_os_str().is_empty() {
            true => ("owner", self.owner.as_str(), "TON address that unused coins go back to"),
            false => ("wallet", self.wallet.as_str(), "address of the client's wallet contract"),
        };
        required(&[payer, chain, root])?;
        let secret = match (&self.secret, &self.secret_file) {
            (Some(secret), _) => secret.clone(),
            (None, None) => Secret::default(),
            (None, Some(path)) => {
                let read = std::fs::read(path).map_err(|source| ConfigFault::File {
                    path: path.display().to_string(),
                    reason: source.to_string(),
                })?;
                Secret::new(read)
            }
        };
        Ok(Checked {
            wallet: match self.chain.is_real() {
                true => address("owner", &self.owner)?,
                false => address("wallet", &self.wallet)?,
            },
            root: address("root", &self.root)?,
            secret,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cocoon_host::chain::ChainKind;

    #[test]
    fn the_references_secret_is_kept_and_never_printed() {
        let json = r#"{"@type":"clientRunner.config","is_test":true,"secret_string":"our word",
            "root_contract_address":"EQCns7bYSp0igFvS1wpb5wsZjCKCV19MD5AVzI4EyxsnU73k"}"#;
        let file: ClientRunner<'static> = cocoon_wire::config_json::read(json).unwrap();
        let wallet = Address::new(0, [7; 32]);
        let mut config = ClientConfig::from_reference(&file, wallet).unwrap();
        assert_eq!(config.chain.kind, ChainKind::Mainnet);
        config.chain = ChainConfig::default();
        config.network_file = "net.json".into();
        assert_eq!(config.check().unwrap().secret.expose(), b"our word");
        assert!(!format!("{config:?}").contains("our word"));
        config.secret = None;
        assert!(config.check().unwrap().secret.expose().is_empty());
    }
}
