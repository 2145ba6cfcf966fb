//! The node's own wallet and the file of what it has on its way.

use std::path::{Path, PathBuf};

use cocoon_contract::code;
use cocoon_purse::{Purse, PurseFault, Settings, Wallet};
use cocoon_units::{Address, Secret};
use ed25519_dalek::SigningKey;
use thiserror::Error;

/// Largest file that is read, bytes.
const FILE_LEN_MAX: u64 = 4 << 20;

/// Why a node's wallet cannot be used.
#[derive(Debug, Error)]
pub enum WalletFault {
    /// Us: the built-in wallet code is damaged.
    #[error(transparent)]
    Contract(#[from] cocoon_contract::Fault),
    /// Environment: the file of what is on its way cannot be read.
    #[error("{path}: {reason}")]
    File {
        /// Which file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// What is in the file cannot be used.
    #[error("{path}: {fault}")]
    Kept {
        /// Which file.
        path: PathBuf,
        /// Why not, and what to do.
        fault: PurseFault,
    },
}

/// The Cocoon wallet of a node: `owner` can take everything out, `key` signs its orders.
///
/// # Errors
/// [`WalletFault::Contract`]: a bug of the build.
pub fn node_wallet(owner: Address, key: &Secret<[u8; 32]>) -> Result<Wallet, WalletFault> {
    let code = code::wallet()?.into();
    Ok(Wallet::cocoon(owner, SigningKey::from_bytes(key.expose()), &code)?)
}

/// Opens the purse of a wallet with what stands in `file`, if it exists.
///
/// # Errors
/// [`WalletFault`]: the node must not spend.
pub fn open_purse(wallet: Wallet, settings: Settings, file: &Path) -> Result<Purse, WalletFault> {
    let path = || file.to_owned();
    let kept = match std::fs::metadata(file) {
        Err(fault) if fault.kind() == std::io::ErrorKind::NotFound => None,
        Err(fault) => return Err(WalletFault::File { path: path(), reason: fault.to_string() }),
        Ok(meta) if meta.len() > FILE_LEN_MAX => {
            let reason = format!("{} bytes, the limit is {FILE_LEN_MAX}", meta.len());
            return Err(WalletFault::File { path: path(), reason });
        }
        Ok(_) => Some(
            std::fs::read(file)
                .map_err(|fault| WalletFault::File { path: path(), reason: fault.to_string() })?,
        ),
    };
    Purse::open(wallet, settings, kept.as_deref())
        .map_err(|fault| WalletFault::Kept { path: path(), fault })
}
