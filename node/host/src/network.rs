//! The network a node belongs to, from a file: the registry of a network without a chain
//! (protocol notes, chain 2.9 and 10), in the reference's own JSON.

use cocoon_contract::cell::Hash;
use cocoon_contract::pseudo::PseudoRoot;
use cocoon_contract::root::RootState;
use cocoon_units::{Address, Nanoton};
use cocoon_wire::{config_json, root_config};
use std::path::Path;

use crate::config::ConfigFault;

/// Largest file that is read, bytes: codes of three contracts and a large registry fit.
const FILE_LEN_MAX: u64 = 16 << 20;

/// The number by which statements name the network: TON's global id of the chain.
#[must_use]
pub const fn network_id(is_testnet: bool) -> i32 {
    if is_testnet { -3 } else { -239 }
}

/// Reads a `rootConfig.pseudo` file of either line.
///
/// # Errors
/// [`ConfigFault::File`]: correct the file; the text names the member.
pub fn load_pseudo(path: &Path) -> Result<RootState, ConfigFault> {
    let fault = |reason: String| ConfigFault::File { path: path.display().to_string(), reason };
    let length = std::fs::metadata(path).map_err(|source| fault(source.to_string()))?.len();
    if length > FILE_LEN_MAX {
        return Err(fault(format!("{length} bytes, the limit is {FILE_LEN_MAX}")));
    }
    let text = std::fs::read_to_string(path).map_err(|source| fault(source.to_string()))?;
    read_pseudo(&text).map_err(fault)
}

/// Reads the text of such a file; the fault names the member.
pub(crate) fn read_pseudo(text: &str) -> Result<RootState, String> {
    let file: root_config::Pseudo<'static> =
        config_json::read(text).map_err(|source| source.to_string())?;
    let number = |value: i32, name: &str| {
        u32::try_from(value).map_err(|_| format!("{name} is {value}, it cannot be negative"))
    };
    let price = number(file.price_per_token, "price_per_token")?;
    let fee = number(file.worker_fee_per_token, "worker_fee_per_token")?;
    let mut registered_proxies = std::collections::BTreeMap::new();
    for proxy in &file.registered_proxies {
        let seqno = number(proxy.seqno, "registered_proxies.seqno")?;
        registered_proxies.insert(seqno, proxy.address.sanitized().into_owned());
    }
    let root = PseudoRoot {
        proxy_hashes: file.proxy_hashes.iter().map(|hash| Hash(hash.0)).collect(),
        worker_hashes: file.worker_hashes.iter().map(|hash| Hash(hash.0)).collect(),
        model_hashes: file.model_hashes.iter().map(|hash| Hash(*hash)).collect(),
        model_types: file.model_types.iter().map(|text| text.sanitized().into_owned()).collect(),
        registered_proxies,
        last_proxy_seqno: number(file.last_proxy_seqno, "last_proxy_seqno")?,
        version: number(file.version, "version")?,
        params_version: number(file.params_version, "params_version")?,
        price_per_token: Nanoton(price.into()),
        worker_fee_per_token: Nanoton(fee.into()),
        proxy_code_hex: file.proxy_sc_code.sanitized().into_owned(),
        worker_code_hex: file.worker_sc_code.sanitized().into_owned(),
        client_code_hex: file.client_sc_code.sanitized().into_owned(),
        owner: Address::parse(&file.root_owner_address.sanitized())
            .map_err(|source| format!("root_owner_address: {source}"))?,
    };
    root.root_state().map_err(|source| source.to_string())
}
