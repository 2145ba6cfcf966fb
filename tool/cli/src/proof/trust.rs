//! What this side trusts and compares with: its own files, never what a gateway says.

use anyhow::{Context as _, Result};
use cocoon_attest::{Digest32, Policy};
use cocoon_gateway::GatewayConfig;
use cocoon_host::chain::read_root;
use cocoon_host::config::Layers;
use cocoon_host::evidence::{EvidenceConfig, simulated_policy};
use cocoon_host::network;
use cocoon_proof::{Asker, RootView, TRUST_LIMIT, Trust};
use cocoon_units::Address;
use std::path::{Path, PathBuf};

use super::block_on;
use super::options::{Chain, TrustOptions};
use crate::mistake;
use crate::roles::GatewayNode;

/// Longest policy file that is read, bytes.
const POLICY_LEN_MAX: u64 = 1 << 20;
/// Gateway that is asked when none is named.
const GATEWAY: &str = "http://127.0.0.1:10000";

/// What the user's own files say.
pub(crate) struct Own {
    trust: Trust,
    gateway: Option<String>,
    /// How that gateway changes bodies.
    pub(crate) http: GatewayConfig,
    at_ms: Option<u64>,
}

impl Own {
    pub(crate) fn read(options: &TrustOptions) -> Result<Self> {
        let config = match (options.chain, &options.gateway_config) {
            (Some(Chain::Local), _) => {
                let dir = match &options.data_dir {
                    Some(dir) => dir.clone(),
                    None => crate::up::default_data_dir()?,
                };
                let path = dir.join("config/gateway.toml");
                if !path.exists() {
                    return Err(mistake(format_args!(
                        "{} is not there: start the local network with cocoon up, or name its \
                         --data-dir",
                        path.display()
                    )));
                }
                Some(path)
            }
            (None, path) => path.clone(),
        };
        let mut own = match config {
            Some(path) => Self::of_gateway(&path)?,
            None => Self {
                trust: Trust::default(),
                gateway: None,
                http: GatewayConfig::default(),
                at_ms: None,
            },
        };
        if let Some(path) = &options.trust {
            let bytes = read_file(path, TRUST_LIMIT as u64)?;
            own.trust = Trust::read(&bytes)
                .map_err(|fault| mistake(format_args!("{}: {fault}", path.display())))?;
        }
        if let Some(path) = &options.policy {
            let text = read_file(path, POLICY_LEN_MAX)?;
            own.trust.policy = serde_json::from_slice(&text)
                .map_err(|fault| mistake(format_args!("{}: {fault}", path.display())))?;
            own.trust.policy.check().map_err(mistake)?;
        }
        own.at_ms = options.at.map(|at| at.0);
        Ok(own)
    }

    /// Registry, root contract and roots of a gateway's own configuration.
    fn of_gateway(path: &Path) -> Result<Self> {
        let layers = Layers::defaults(&GatewayNode::default()).map_err(mistake)?;
        let node: GatewayNode = layers.file(path).map_err(mistake)?.build().map_err(mistake)?;
        let contract = Address::parse(&node.network.root).map_err(mistake)?;
        let root = match node.network.chain.open().map_err(mistake)? {
            // The registry is read from the chain, as the gateway itself reads it.
            Some(chain) => {
                let is_test = node.network.is_test;
                block_on(async {
                    read_root(chain.as_ref(), contract, is_test).await.map_err(mistake)
                })?
            }
            None => network::load_pseudo(&node.network.network_file).map_err(mistake)?,
        };
        let policy = match &node.network.evidence {
            EvidenceConfig::Simulated { roots, .. } => simulated_policy(roots)
                .map_err(|fault| anyhow::anyhow!("the simulated platform: {fault}"))?,
            EvidenceConfig::Hardware(hardware) => hardware.policy().map_err(mistake)?,
            _ => Policy::tee(),
        };
        let view = RootView {
            contract: Digest32::from(contract.hash),
            network_id: network::network_id(node.network.is_testnet),
            version: root.version,
            proxy_images: root.proxy_hashes.iter().map(|hash| Digest32::from(hash.0)).collect(),
            worker_images: root.worker_hashes.iter().map(|hash| Digest32::from(hash.0)).collect(),
            models: root.model_hashes.iter().map(|hash| Digest32::from(hash.0)).collect(),
        };
        let gateway = format!("http://{}", node.http.listen);
        let trust = Trust::new(policy, Some(view));
        Ok(Self { trust, gateway: Some(gateway), http: node.http, at_ms: None })
    }

    /// The gateway to ask.
    pub(crate) fn gateway(&self, named: Option<&String>) -> String {
        let gateway = named.or(self.gateway.as_ref()).map_or(GATEWAY, String::as_str);
        gateway.trim_end_matches('/').to_owned()
    }

    /// The rules and the registry, for the record.
    pub(crate) const fn trust(&self) -> &Trust {
        &self.trust
    }

    /// Whoever judges now, by the nonce it has just drawn.
    pub(crate) fn now(&self, nonce: Digest32, now_ms: u64) -> Asker {
        self.trust.now(nonce, now_ms, self.at_ms)
    }

    /// Whoever judges something saved, at its own date unless another is named.
    pub(crate) fn later(&self, nonce: Option<Digest32>, made_ms: u64) -> Asker {
        self.trust.later(nonce, made_ms, self.at_ms)
    }
}

/// Reads a file of at most `limit` bytes.
pub(crate) fn read_file(path: &PathBuf, limit: u64) -> Result<Vec<u8>> {
    let fault = |fault: std::io::Error| mistake(format_args!("{}: {fault}", path.display()));
    let len = std::fs::metadata(path).map_err(fault)?.len();
    if len > limit {
        return Err(mistake(format_args!("{}: {len} bytes, the limit is {limit}", path.display())));
    }
    std::fs::read(path).map_err(fault)
}

/// Writes a file.
pub(crate) fn write_file(path: &PathBuf, bytes: &[u8]) -> Result<()> {
    std::fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))
}
