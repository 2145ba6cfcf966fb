//! Which chain a node lives on.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use cocoon_chain::{Chain, GlobalConfig, LiteServers, Network, Toncenter, Trust};
use serde::{Deserialize, Serialize};

use crate::config::ConfigFault;

/// Largest global configuration that is read, bytes.
const FILE_LEN_MAX: u64 = 16 << 20;

/// The kind of chain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChainKind {
    /// No chain: the registry is a file, money is not real.
    #[default]
    None,
    /// `cocoon chain` on this machine: coins of a faucet.
    Local,
    /// TON, through lite servers whose answers are proven.
    Mainnet,
    /// TON's test network, likewise.
    Testnet,
    /// Another network, likewise, from its global configuration.
    LiteServers,
    /// A server of the toncenter v2 API, which is believed.
    Toncenter,
}

/// Which chain a node lives on, and how long it goes on without it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ChainConfig {
    /// The kind of chain.
    pub kind: ChainKind,
    /// Address of the server's HTTP interface (`local`, `toncenter`): `http://host:port` or
    /// with the path of its JSON-RPC interface.
    pub url: String,
    /// Global configuration file in the form published for TON. Needed for `lite-servers`; in
    /// place of the built-in one for `mainnet` and `testnet`; in place of `url` for `local`.
    pub global_config: PathBuf,
    /// Longest time between two looks at the chain, milliseconds; 0 chooses by kind: 200 on a
    /// local chain, 2,000 otherwise.
    pub poll_ms: u64,
    /// After so long without the chain, seconds, a node takes no new obligations: what it signs,
    /// promises or earns could no longer be brought to the chain in time. What runs goes on. By
    /// default ten minutes for a proxy, six hours for a client or worker ([`Self::for_peers`]).
    pub away_max_s: u64,
}

impl Default for ChainConfig {
    fn default() -> Self {
        Self {
            kind: ChainKind::None,
            url: String::new(),
            global_config: PathBuf::new(),
            poll_ms: 0,
            away_max_s: 600,
        }
    }
}

impl ChainConfig {
    /// The defaults of a client or worker. What they may lose while the chain is away is that a
    /// proxy closes unseen; that takes it two days with the live network's parameters, and a client
    /// needs one of them to get its money back (protocol notes, chain 3.10).
    #[must_use]
    pub fn for_peers() -> Self {
        Self { away_max_s: 21_600, ..Self::default() }
    }

    /// What a configuration of the C++ node says: its global configuration file, or, when it names
    /// none, the built-in one of its network (protocol notes, wire 5, `ton_config_filename`).
    #[must_use]
    pub fn from_reference(self, file: &str, is_testnet: bool) -> Self {
        let kind = match (file.is_empty(), is_testnet) {
            (false, _) => ChainKind::LiteServers,
            (true, true) => ChainKind::Testnet,
            (true, false) => ChainKind::Mainnet,
        };
        Self { kind, global_config: PathBuf::from(file), ..self }
    }

    /// Whether there is a chain.
    #[must_use]
    pub fn is_real(&self) -> bool {
        self.kind != ChainKind::None
    }

    /// Time between two looks.
    #[must_use]
    pub fn poll(&self) -> Duration {
        Duration::from_millis(match (self.poll_ms, self.kind) {
            (0, ChainKind::Local) => 200,
            (0, _) => 2_000,
            (poll_ms, _) => poll_ms,
        })
    }

    /// Time without the chain after which no new obligations are taken.
    #[must_use]
    pub fn away_max(&self) -> Duration {
        Duration::from_secs(self.away_max_s)
    }

    /// Checks what can be checked without asking anybody.
    ///
    /// # Errors
    /// [`ConfigFault::Member`] says what to write.
    pub fn check(&self) -> Result<(), ConfigFault> {
        let fault =
            |member, reason: &str| Err(ConfigFault::Member { member, reason: reason.to_owned() });
        let has_file = !self.global_config.as_os_str().is_empty();
        match self.kind {
            ChainKind::Local if self.url.is_empty() && !has_file => {
                fault("chain.url", "write where `cocoon chain` answers, http://127.0.0.1:8081")
            }
            ChainKind::Toncenter if self.url.is_empty() => {
                fault("chain.url", "write the server's address, https://host/api/v2/jsonRPC")
            }
            ChainKind::LiteServers if !has_file => {
                fault("chain.global_config", "write the path of the network's configuration file")
            }
            _ if self.away_max_s == 0 => fault("chain.away_max_s", "write at least one second"),
            _ => Ok(()),
        }
    }

    /// Opens the chain; `None` when there is none. Nothing is asked yet.
    ///
    /// # Errors
    /// [`ConfigFault`]: a member or file that cannot be used.
    pub fn open(&self) -> Result<Option<Arc<dyn Chain>>, ConfigFault> {
        self.check()?;
        let has_file = !self.global_config.as_os_str().is_empty();
        let chain: Arc<dyn Chain> = match self.kind {
            ChainKind::None => return Ok(None),
            ChainKind::Mainnet if !has_file => preset(Network::Mainnet)?,
            ChainKind::Testnet if !has_file => preset(Network::Testnet)?,
            ChainKind::Local if !has_file => self.toncenter()?,
            ChainKind::Toncenter => {
                let chain = self.toncenter()?;
                tracing::warn!(
                    server = self.url,
                    "the chain is read from a server that is believed: it can lie about money"
                );
                chain
            }
            ChainKind::Local | ChainKind::Mainnet | ChainKind::Testnet | ChainKind::LiteServers => {
                Arc::new(LiteServers::new(&self.global()?))
            }
        };
        Ok(Some(chain))
    }

    fn toncenter(&self) -> Result<Arc<dyn Chain>, ConfigFault> {
        let bare = self.url.trim_end_matches('/');
        let after_scheme = bare.split_once("://").map_or(bare, |(_, rest)| rest);
        let endpoint = match after_scheme.contains('/') {
            true => bare.to_owned(),
            false => format!("{bare}/api/v2/jsonRPC"),
        };
        let chain = Toncenter::new(&endpoint).map_err(|fault| ConfigFault::Member {
            member: "chain.url",
            reason: fault.to_string(),
        })?;
        Ok(Arc::new(chain))
    }

    fn global(&self) -> Result<GlobalConfig, ConfigFault> {
        let path = &self.global_config;
        let fault = |reason: String| ConfigFault::File { path: path.display().to_string(), reason };
        let length = std::fs::metadata(path).map_err(|source| fault(source.to_string()))?.len();
        if length > FILE_LEN_MAX {
            return Err(fault(format!("{length} bytes, the limit is {FILE_LEN_MAX}")));
        }
        let text = std::fs::read_to_string(path).map_err(|source| fault(source.to_string()))?;
        GlobalConfig::parse(&text).map_err(|source| fault(source.to_string()))
    }
}

/// What a person should know of the money on this chain, in one sentence.
#[must_use]
pub fn money_note(kind: ChainKind, trust: Option<Trust>) -> &'static str {
    match (kind, trust) {
        (ChainKind::None, _) => "no chain: balances are make-believe",
        (ChainKind::Local, _) => "local chain: coins of a faucet, worth nothing",
        (ChainKind::Testnet, _) => "TON's test network: coins worth nothing",
        (_, Some(Trust::Believed)) => "real TON, read from a server that is believed",
        _ => "real TON",
    }
}

fn preset(network: Network) -> Result<Arc<dyn Chain>, ConfigFault> {
    let global = GlobalConfig::preset(network)
        .map_err(|fault| ConfigFault::Whole { reason: fault.to_string() })?;
    Ok(Arc::new(LiteServers::new(&global)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_say_what_they_need() {
        let config = |kind| ChainConfig { kind, ..ChainConfig::default() };
        assert!(config(ChainKind::None).open().unwrap().is_none());
        for kind in [ChainKind::Local, ChainKind::Toncenter, ChainKind::LiteServers] {
            let fault = config(kind).open().err().unwrap().to_string();
            assert!(fault.starts_with("chain."), "{fault}");
        }
        for kind in [ChainKind::Mainnet, ChainKind::Testnet] {
            assert_eq!(config(kind).open().unwrap().unwrap().trust(), Trust::Proven);
        }
        let local = ChainConfig { url: "http://127.0.0.1:1".into(), ..config(ChainKind::Local) };
        assert!(local.open().unwrap().unwrap().name().contains("127.0.0.1:1"));
    }

    #[test]
    fn it_is_written_in_toml() {
        let config: ChainConfig = toml::from_str("kind = \"lite-servers\"\nurl = \"x\"").unwrap();
        assert_eq!(config.kind, ChainKind::LiteServers);
        assert!(toml::from_str::<ChainConfig>("kind = \"moon\"").is_err());
    }
}
