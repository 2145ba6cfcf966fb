//! Which chain is meant, and the way to it.

use anyhow::{Context as _, Result, bail};
use cocoon_chain::{Chain, ChainFault, GlobalConfig, LiteServers, Network, Toncenter};
use cocoon_units::Secret;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::arguments::ChainChoice;
use crate::http_get::Http;
use crate::mistake;

/// Where `cocoon chain` listens when nothing else is said.
const LOCAL_URL: &str = "http://127.0.0.1:8081";
/// File in a local chain's directory that says where it listens.
pub(crate) const SERVING_FILE: &str = "serving.json";
/// Key for a server that speaks toncenter's API, when it asks for one.
const KEY_VARIABLE: &str = "TONCENTER_API_KEY";

/// Which network's coins they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Coins {
    /// A chain of one's own: make-believe.
    Local,
    /// TON's test network: worth nothing.
    Testnet,
    /// Real ones.
    Mainnet,
}

/// A chain to talk to.
pub(crate) struct Access {
    pub(crate) chain: Arc<dyn Chain>,
    pub(crate) coins: Coins,
    /// The HTTP interface of a local chain, with faucet and switches.
    pub(crate) local_url: Option<String>,
}

impl Access {
    pub(crate) fn open(choice: &ChainChoice) -> Result<Self> {
        match choice.chain.as_str() {
            "local" => Self::over_http(&local_url()),
            "mainnet" => Self::preset(Network::Mainnet, Coins::Mainnet),
            "testnet" => Self::preset(Network::Testnet, Coins::Testnet),
            url if url.starts_with("http://") || url.starts_with("https://") => {
                Self::over_http(url)
            }
            path => Self::from_path(Path::new(path)),
        }
    }

    fn preset(network: Network, coins: Coins) -> Result<Self> {
        let config = GlobalConfig::preset(network)?;
        Ok(Self { chain: Arc::new(LiteServers::new(&config)), coins, local_url: None })
    }

    fn over_http(url: &str) -> Result<Self> {
        let base = url.trim_end_matches('/');
        let (_, rest) = base.split_once("://").unwrap_or_default();
        let host = rest.split('/').next().unwrap_or_default();
        let is_local = ["127.", "localhost", "[::1]"].iter().any(|local| host.starts_with(local));
        let endpoint =
            if rest.contains('/') { base.to_owned() } else { format!("{base}/api/v2/jsonRPC") };
        let mut server = Toncenter::new(&endpoint).map_err(mistake)?;
        if let Ok(key) = std::env::var(KEY_VARIABLE) {
            server = server.with_api_key(Secret::new(key));
        }
        let coins = match is_local {
            true => Coins::Local,
            false if host.contains("testnet") => Coins::Testnet,
            false => Coins::Mainnet,
        };
        let local_url = is_local.then(|| format!("http://{host}"));
        Ok(Self { chain: Arc::new(server), coins, local_url })
    }

    fn from_path(path: &Path) -> Result<Self> {
        if path.is_dir() {
            let url = serving(path)
                .or_else(|| serving(&path.join("node/chain")))
                .ok_or_else(|| mistake(format_args!("no chain runs in {}", path.display())))?;
            return Self::over_http(&url);
        }
        let text = std::fs::read_to_string(path).map_err(|fault| {
            mistake(format_args!(
                "--chain {}: {fault}; give local, mainnet, testnet, a URL, a directory or a \
                 configuration file",
                path.display()
            ))
        })?;
        let config = GlobalConfig::parse(&text)
            .map_err(|fault| mistake(format_args!("{}: {fault}", path.display())))?;
        let is = |network| {
            GlobalConfig::preset(network).is_ok_and(|known| known.zero_state == config.zero_state)
        };
        let coins = match () {
            () if is(Network::Mainnet) => Coins::Mainnet,
            () if is(Network::Testnet) => Coins::Testnet,
            () => Coins::Local,
        };
        Ok(Self { chain: Arc::new(LiteServers::new(&config)), coins, local_url: None })
    }

    /// Asks a local chain's own interface, which no real network has.
    pub(crate) async fn local(&self, path: &str) -> Result<Value> {
        let Some(base) = &self.local_url else {
            return Err(mistake("only a local chain can do this: --chain local, or its URL"));
        };
        let (status, body) = Http::new()
            .get(&format!("{base}{path}"), Duration::from_secs(10))
            .await
            .map_err(|fault| mistake(format_args!("{fault:#}. Start a chain: cocoon chain")))?;
        let answer: Value = serde_json::from_slice(&body).context("the chain's answer")?;
        if answer["ok"] == true {
            return Ok(answer["result"].clone());
        }
        let reason = answer["error"].as_str().unwrap_or("no reason given");
        match status {
            422 => Err(mistake(reason)),
            _ => bail!("{base}{path}: {reason}"),
        }
    }
}

/// Turns the chain's faults into sentences for whoever typed the command.
pub(crate) fn explain(fault: ChainFault) -> anyhow::Error {
    if let ChainFault::Unreachable { server, .. } = &fault
        && server.contains("127.0.0.1")
    {
        return mistake(format_args!("{fault}. Start a chain: cocoon chain, or cocoon up"));
    }
    anyhow::Error::new(fault)
}

/// Where the chain of a directory listens, if it said so.
fn serving(directory: &Path) -> Option<String> {
    let text = std::fs::read_to_string(directory.join(SERVING_FILE)).ok()?;
    let value: Value = serde_json::from_str(&text).ok()?;
    value["http"].as_str().map(str::to_owned)
}

/// The chain of `cocoon up` when one runs, else where `cocoon chain` listens.
fn local_url() -> String {
    let up = data_home().map(|home| home.join("up/node/chain"));
    up.and_then(|directory| serving(&directory)).unwrap_or_else(|| LOCAL_URL.to_owned())
}

/// Where this program keeps what belongs to the person who runs it.
pub(crate) fn data_home() -> Option<PathBuf> {
    let base = match std::env::var_os("XDG_DATA_HOME").filter(|directory| !directory.is_empty()) {
        Some(directory) => PathBuf::from(directory),
        None => PathBuf::from(std::env::var_os("HOME")?).join(".local/share"),
    };
    Some(base.join("cocoon"))
}
