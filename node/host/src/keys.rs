//! Keys that a node keeps in files of its data directory.

use cocoon_units::Secret;
use std::fs::OpenOptions;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use thiserror::Error;
use zeroize::Zeroize as _;

/// A key file that cannot be used.
#[derive(Debug, Error)]
pub enum KeyFault {
    /// Environment: the file cannot be read or made.
    #[error("key file {path}: {source}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// Configuration: not a key. Restore the file from a backup; a new key means a new identity.
    #[error("key file {path} does not hold 32 bytes in hex")]
    Malformed {
        /// Which file.
        path: PathBuf,
    },
}

/// Reads the 32-byte key in `path`, or makes a random one there, readable by its owner only.
///
/// # Errors
/// [`KeyFault`]: the node must not start with another key than the one it had.
pub fn load_or_make(path: &Path) -> Result<Secret<[u8; 32]>, KeyFault> {
    let io = |source| KeyFault::Io { path: path.to_owned(), source };
    let mut text = String::new();
    match std::fs::File::open(path) {
        Ok(file) => {
            file.take(1024).read_to_string(&mut text).map_err(io)?;
        }
        Err(fault) if fault.kind() == std::io::ErrorKind::NotFound => return make(path),
        Err(fault) => return Err(io(fault)),
    }
    let mut key = [0; 32];
    let read = hex::decode_to_slice(text.trim(), &mut key);
    text.zeroize();
    read.map_err(|_| KeyFault::Malformed { path: path.to_owned() })?;
    Ok(Secret::new(key))
}

/// Reads the 32-byte key in `path`.
///
/// # Errors
/// [`KeyFault`]: it is not there, or no key.
pub fn load(path: &Path) -> Result<Secret<[u8; 32]>, KeyFault> {
    match std::fs::metadata(path) {
        Ok(_) => load_or_make(path),
        Err(source) => Err(KeyFault::Io { path: path.to_owned(), source }),
    }
}

/// A random key that is kept nowhere.
#[must_use]
pub fn fresh() -> Secret<[u8; 32]> {
    Secret::new(crate::clock::random())
}

fn make(path: &Path) -> Result<Secret<[u8; 32]>, KeyFault> {
    let io = |source| KeyFault::Io { path: path.to_owned(), source };
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir).map_err(io)?;
    }
    let key: [u8; 32] = crate::clock::random();
    let fresh = path.with_extension("new");
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(&fresh)
        .map_err(io)?;
    let mut text = hex::encode(key);
    let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
    text.zeroize();
    written.map_err(io)?;
    std::fs::rename(&fresh, path).map_err(io)?;
    Ok(Secret::new(key))
}
