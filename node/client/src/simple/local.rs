//! The network of `cocoon up`, from another program on the same machine.

use cocoon_host::config::ConfigFault;
use cocoon_units::Address;
use serde::Deserialize;
use std::path::Path;

use crate::config::ClientConfig;

#[derive(Deserialize)]
struct GatewayFile {
    network: ClientConfig,
}

impl ClientConfig {
    /// A client of the network that `cocoon up` runs from this directory (its `--data-dir`), with
    /// a wallet, keys and books of its own beside those of the network's gateway.
    ///
    /// # Errors
    /// [`ConfigFault`]: there is no such network, or its configuration cannot be read.
    pub fn of_local_network(up: impl AsRef<Path>) -> Result<ClientConfig, ConfigFault> {
        let up = up.as_ref();
        let path = up.join("config/gateway.toml");
        let fault = |reason: String| ConfigFault::File { path: path.display().to_string(), reason };
        let text = std::fs::read_to_string(&path).map_err(|source| fault(source.to_string()))?;
        // Only the side towards the network; the HTTP side is the gateway's own matter.
        let table: toml::Table =
            toml::from_str(&text).map_err(|source| fault(source.to_string()))?;
        let file: GatewayFile =
            toml::Value::Table(table).try_into().map_err(|source| fault(source.to_string()))?;
        let mut config = file.network;
        let dir = up.join("node/program");
        let seed = cocoon_host::keys::load_or_make(&dir.join("wallet.key"))
            .map_err(|source| fault(source.to_string()))?;
        let key = ed25519_dalek::SigningKey::from_bytes(seed.expose());
        let own = Address::new(0, key.verifying_key().to_bytes()).to_raw();
        if config.chain.is_real() {
            // The chain's coins are make-believe, and so is who may take them out of the wallet.
            config.owner = own;
        } else {
            config.wallet = own;
        }
        config.data_dir = dir;
        Ok(config)
    }
}
