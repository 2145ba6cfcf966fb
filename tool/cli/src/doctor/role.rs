//! The settings of each role, as far as the doctor looks at them.

use anyhow::Result;
use clap::ValueEnum;
use cocoon_host::chain::ChainConfig;
use cocoon_host::config::Layers;
use cocoon_host::evidence::EvidenceConfig;
use cocoon_keymgr::KeyManagerConfig;
use cocoon_proxy::ProxyConfig;
use cocoon_worker::WorkerConfig;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::mistake;
use crate::roles::GatewayNode;

/// What a machine can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Role {
    /// The client's node.
    Gateway,
    /// Between clients and workers.
    Proxy,
    /// In front of a model server.
    Worker,
    /// Hands out keys of end-to-end encryption.
    KeyManager,
}

impl Role {
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Proxy => "proxy",
            Self::Worker => "worker",
            Self::KeyManager => "key manager",
        }
    }
}

/// What of a role's settings concerns the machine around it.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) role: Role,
    /// Where they come from.
    pub(crate) file: String,
    /// What the node itself says of them.
    pub(crate) check: Result<(), String>,
    pub(crate) ports: Vec<(&'static str, SocketAddr)>,
    /// Model server, key manager.
    pub(crate) servers: Vec<(&'static str, String)>,
    pub(crate) data_dir: PathBuf,
    pub(crate) evidence: EvidenceConfig,
    pub(crate) model_path: Option<PathBuf>,
    pub(crate) network_file: PathBuf,
    pub(crate) chain: ChainConfig,
    pub(crate) root: String,
    /// Who can take everything out of the node's wallet; empty where there is none.
    pub(crate) owner: String,
    pub(crate) is_test: bool,
}

impl Settings {
    /// Reads a role's settings: defaults, file, environment.
    pub(crate) fn read(role: Role, file: Option<&Path>) -> Result<Self> {
        let from = file.map_or_else(
            || "defaults and environment; name a file with --config".to_owned(),
            |file| file.display().to_string(),
        );
        Ok(match role {
            Role::Gateway => Self::gateway(layered("COCOON_GATEWAY_", file)?, from),
            Role::Proxy => Self::proxy(layered("COCOON_PROXY_", file)?, from),
            Role::Worker => Self::worker(layered("COCOON_WORKER_", file)?, from),
            Role::KeyManager => Self::key_manager(layered("COCOON_KEY_MANAGER_", file)?, from),
        })
    }

    fn gateway(node: GatewayNode, file: String) -> Self {
        let of_network = node.network.check().map(drop).map_err(|fault| fault.to_string());
        let check = of_network.and_then(|()| node.http.check().map_err(|fault| fault.to_string()));
        let network = node.network;
        Self {
            role: Role::Gateway,
            file,
            check,
            ports: vec![("http", node.http.listen)],
            servers: Vec::new(),
            data_dir: network.data_dir,
            evidence: network.evidence,
            model_path: None,
            network_file: network.network_file,
            chain: network.chain,
            root: network.root,
            owner: network.owner,
            is_test: network.is_test,
        }
    }

    fn proxy(config: ProxyConfig, file: String) -> Self {
        let check = config.check().map(drop).map_err(|fault| fault.to_string());
        let mut ports =
            vec![("workers", config.listen_workers), ("clients", config.listen_clients)];
        ports.extend(config.http.map(|address| ("http", address)));
        let manager = config.key_manager.map(|at| ("key manager", at.address.to_string()));
        Self {
            role: Role::Proxy,
            file,
            check,
            ports,
            servers: manager.into_iter().collect(),
            data_dir: config.data_dir,
            evidence: config.evidence,
            model_path: None,
            network_file: config.network_file,
            chain: config.chain,
            root: config.root,
            owner: config.owner,
            is_test: config.is_test,
        }
    }

    fn worker(config: WorkerConfig, file: String) -> Self {
        let check = config.check().map(drop).map_err(|fault| fault.to_string());
        let mut servers = vec![("model server", config.forward_to)];
        servers.extend(config.key_manager.map(|at| ("key manager", at.address.to_string())));
        let named = !config.model_path.as_os_str().is_empty();
        Self {
            role: Role::Worker,
            file,
            check,
            ports: config.http.map(|address| ("http", address)).into_iter().collect(),
            servers,
            data_dir: config.data_dir,
            evidence: config.evidence,
            model_path: named.then_some(config.model_path),
            network_file: config.network_file,
            chain: config.chain,
            root: config.root,
            owner: config.owner,
            is_test: config.is_test,
        }
    }

    fn key_manager(config: KeyManagerConfig, file: String) -> Self {
        let check = config.check().map_err(|fault| fault.to_string());
        let mut ports = vec![("peers", config.listen)];
        ports.extend(config.http.map(|address| ("http", address)));
        Self {
            role: Role::KeyManager,
            file,
            check,
            ports,
            servers: Vec::new(),
            data_dir: config.data_dir,
            evidence: config.evidence,
            model_path: None,
            network_file: config.network_file,
            chain: config.chain,
            root: config.root,
            owner: String::new(),
            is_test: config.is_test,
        }
    }
}

fn layered<T>(prefix: &str, file: Option<&Path>) -> Result<T>
where
    T: Default + Serialize + DeserializeOwned,
{
    let mut layers = Layers::defaults(&T::default()).map_err(mistake)?;
    if let Some(file) = file {
        layers = layers.file(file).map_err(mistake)?;
    }
    let layers = layers.environment(prefix, std::env::vars()).map_err(mistake)?;
    layers.build().map_err(mistake)
}
