//! A network without a chain: its root configuration comes from a file (protocol notes 2.9, 10).

use std::collections::{BTreeMap, BTreeSet};

use cocoon_units::{Address, Multiplier, Nanoton};
use sha2::{Digest as _, Sha256};

use crate::address::Network;
use crate::cell::{Cell, Hash, Writer};
use crate::code::{Code, Codes};
use crate::params::Params;
use crate::root::{ProxyEndpoint, RegisteredProxy, RootState};
use crate::{Fault, boc};

/// The fields of a pseudo root configuration. Reading the file is the caller's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PseudoRoot {
    /// Image hashes a proxy may run.
    pub proxy_hashes: BTreeSet<Hash>,
    /// Image hashes a worker may run.
    pub worker_hashes: BTreeSet<Hash>,
    /// Model hashes, taken as they are.
    pub model_hashes: BTreeSet<Hash>,
    /// Model names; the part before `@` is hashed and allowed too.
    pub model_types: Vec<String>,
    /// Proxies by number: `ip:port` or `ip:port ip:port`. A bad entry fails the whole load.
    pub registered_proxies: BTreeMap<u32, String>,
    /// The number given last.
    pub last_proxy_seqno: u32,
    /// Version of the registry.
    pub version: u32,
    /// Version of the parameters.
    pub params_version: u32,
    /// Price of one adjusted token.
    pub price_per_token: Nanoton,
    /// The worker's part.
    pub worker_fee_per_token: Nanoton,
    /// Code of the proxy contract: hex of a bag of cells, empty = an empty cell.
    pub proxy_code_hex: String,
    /// Code of the worker contract.
    pub worker_code_hex: String,
    /// Code of the client contract.
    pub client_code_hex: String,
    /// Owner of the root.
    pub owner: Address,
}

impl PseudoRoot {
    /// The parameters such a network always has, with these prices and version.
    #[must_use]
    pub fn params(
        params_version: u32,
        price_per_token: Nanoton,
        worker_fee_per_token: Nanoton,
    ) -> Params {
        Params {
            struct_version: 1,
            params_version,
            unique_id: 13,
            is_test: true,
            price_per_token,
            worker_fee_per_token,
            prompt_multiplier: Multiplier::ONE,
            cached_multiplier: Multiplier::ONE,
            completion_multiplier: Multiplier::ONE,
            reasoning_multiplier: Multiplier::ONE,
            proxy_delay_s: 600,
            client_delay_s: 300,
            min_proxy_stake: Nanoton::TON,
            min_client_stake: Nanoton::TON,
        }
    }

    /// The state a root contract with this configuration would have.
    ///
    /// # Errors
    /// [`Fault::Endpoint`] or [`Fault::Boc`]: correct the file.
    pub fn root_state(&self) -> Result<RootState, Fault> {
        let codes = Codes {
            proxy: Some(read_code(&self.proxy_code_hex)?),
            worker: Some(read_code(&self.worker_code_hex)?),
            client: Some(read_code(&self.client_code_hex)?),
        };
        let params =
            Self::params(self.params_version, self.price_per_token, self.worker_fee_per_token);
        let mut model_hashes = self.model_hashes.clone();
        for name in &self.model_types {
            let base = name.split('@').next().unwrap_or(name);
            model_hashes.insert(Hash(Sha256::digest(base.as_bytes()).into()));
        }
        let registered_proxies = self
            .registered_proxies
            .iter()
            .map(|(seqno, text)| Ok((*seqno, RegisteredProxy::new(&ProxyEndpoint::parse(text)?))))
            .collect::<Result<_, Fault>>()?;
        Ok(RootState {
            owner: self.owner,
            version: self.version,
            proxy_hashes: self.proxy_hashes.clone(),
            registered_proxies,
            last_proxy_seqno: self.last_proxy_seqno,
            worker_hashes: self.worker_hashes.clone(),
            model_hashes,
            network: Network { params, codes },
            key_manager: None,
        })
    }
}

fn read_code(hex_text: &str) -> Result<Code, Fault> {
    let cell: Cell = if hex_text.is_empty() {
        Writer::new("empty code").build()?
    } else {
        let bytes = hex::decode(hex_text)
            .map_err(|_| Fault::Boc { reason: "the code is not hex".to_owned() })?;
        boc::decode(&bytes, boc::Limits::STATE)?
    };
    Ok(cell.into())
}
