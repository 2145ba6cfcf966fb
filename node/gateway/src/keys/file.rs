//! The file of API keys.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rand::RngCore as _;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::atomic_file;

/// Every key begins with this, so that a leaked one is recognised.
const PREFIX: &str = "sk-cocoon-";

/// Why the file of keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeysFault {
    /// The file cannot be read or written: check path and permissions.
    #[error("cannot use the file of API keys {path}: {reason}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        reason: io::Error,
    },
    /// The file is not what this program writes: restore it from a copy.
    #[error("the file of API keys {path} is damaged: {reason}", path = path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where and why.
        reason: String,
    },
    /// No key has this id.
    #[error("there is no API key with the id {id:?}")]
    Unknown {
        /// The id asked for.
        id: String,
    },
}

/// What a key may do. Nothing set: everything.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KeyLimits {
    /// Models that may be asked for; empty for all.
    pub models: Vec<String>,
    /// What all requests together may cost, nanoton. Requests that run when it is reached still
    /// end, so it may be passed by what they cost.
    pub budget_nanoton: Option<u64>,
    /// Requests per minute; as many may come at once after a pause.
    pub requests_per_minute: Option<u32>,
    /// Unix seconds after which the key is refused.
    pub expires_s: Option<u64>,
}

/// One key as the file holds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyRecord {
    /// Public name of the key, for lists and logs.
    pub id: String,
    /// Whose it is, in the operator's words.
    pub name: String,
    /// SHA-256 of the whole key, hex.
    pub sha256: String,
    /// Unix seconds when it was made.
    pub created_s: u64,
    /// Unix seconds when it was revoked.
    #[serde(default)]
    pub revoked_s: Option<u64>,
    /// What it may do.
    #[serde(default)]
    pub limits: KeyLimits,
}

/// The file of keys, for those who make and revoke them.
///
/// It is held with a lock beside it from [`KeyFile::open`] on, so that two commands at once do not
/// lose each other's changes.
#[derive(Debug)]
pub struct KeyFile {
    path: PathBuf,
    content: Content,
    _lock: Option<fs::File>,
}

/// What a key has used since it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct KeyTotals {
    /// Requests that ended.
    pub requests: u64,
    /// Their cost, nanoton.
    pub cost_nanoton: u64,
    /// Prompt tokens, unadjusted.
    pub prompt_tokens: u64,
    /// Completion tokens, unadjusted.
    pub completion_tokens: u64,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    version: u32,
    keys: Vec<KeyRecord>,
}

/// The only layout so far.
const VERSION: u32 = 1;

impl KeyFile {
    /// Reads the file to change it; one that does not exist is an empty one. Waits while another
    /// command changes it.
    ///
    /// # Errors
    /// [`KeysFault`]: nothing was changed.
    pub fn open(path: &Path) -> Result<KeyFile, KeysFault> {
        let fault = |reason| KeysFault::File { path: path.to_path_buf(), reason };
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            fs::create_dir_all(folder).map_err(fault)?;
        }
        let lock = fs::File::create(path.with_extension("lock")).map_err(fault)?;
        lock.lock().map_err(fault)?;
        Ok(KeyFile { _lock: Some(lock), ..KeyFile::read(path)? })
    }

    /// Reads the file only to look at it.
    ///
    /// # Errors
    /// [`KeysFault`].
    pub fn read(path: &Path) -> Result<KeyFile, KeysFault> {
        let damaged = |reason: String| KeysFault::Damaged { path: path.to_path_buf(), reason };
        let content = match fs::read(path) {
            Ok(bytes) => serde_json::from_slice::<Content>(&bytes)
                .map_err(|fault| damaged(fault.to_string()))?,
            Err(reason) if reason.kind() == io::ErrorKind::NotFound => {
                Content { version: VERSION, keys: Vec::new() }
            }
            Err(reason) => return Err(KeysFault::File { path: path.to_path_buf(), reason }),
        };
        if content.version != VERSION {
            return Err(damaged(format!("version {} is not known", content.version)));
        }
        Ok(KeyFile { path: path.to_path_buf(), content, _lock: None })
    }

    /// What each key has used, by id, as the gateway last wrote it down: seconds ago, while it
    /// runs.
    ///
    /// # Errors
    /// [`KeysFault`].
    pub fn usage(path: &Path) -> Result<BTreeMap<String, KeyTotals>, KeysFault> {
        let path = usage_path(path);
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map_err(|fault| KeysFault::Damaged { path, reason: fault.to_string() }),
            Err(reason) if reason.kind() == io::ErrorKind::NotFound => Ok(BTreeMap::new()),
            Err(reason) => Err(KeysFault::File { path, reason }),
        }
    }

    /// Changes what a key may do. A running gateway keeps to it within seconds.
    ///
    /// # Errors
    /// [`KeysFault`]; [`KeysFault::Unknown`] is the caller's mistake.
    pub fn limit(
        &mut self,
        id: &str,
        change: impl FnOnce(&mut KeyLimits),
    ) -> Result<KeyRecord, KeysFault> {
        let record = self.content.keys.iter_mut().find(|record| record.id == id);
        let record = record.ok_or_else(|| KeysFault::Unknown { id: id.to_owned() })?;
        change(&mut record.limits);
        let record = record.clone();
        self.write()?;
        Ok(record)
    }

    /// Makes a key. The text returned is the key itself: it is shown once and kept nowhere.
    pub fn create(
        &mut self,
        name: &str,
        limits: KeyLimits,
        now_s: u64,
    ) -> Result<(String, KeyRecord), KeysFault> {
        let mut secret = [0u8; 32];
        rand::rngs::OsRng.fill_bytes(&mut secret);
        let key = format!("{PREFIX}{}", hex(&secret));
        let mut id = [0u8; 6];
        rand::rngs::OsRng.fill_bytes(&mut id);
        let record = KeyRecord {
            id: format!("key_{}", hex(&id)),
            name: name.to_owned(),
            sha256: hex(&digest(&key)),
            created_s: now_s,
            revoked_s: None,
            limits,
        };
        self.content.keys.push(record.clone());
        self.write()?;
        Ok((key, record))
    }

    /// All keys, revoked ones too, oldest first.
    pub fn list(&self) -> &[KeyRecord] {
        &self.content.keys
    }

    /// Revokes a key. A running gateway refuses it within seconds.
    pub fn revoke(&mut self, id: &str, now_s: u64) -> Result<(), KeysFault> {
        let record = self.content.keys.iter_mut().find(|record| record.id == id);
        let record = record.ok_or_else(|| KeysFault::Unknown { id: id.to_owned() })?;
        record.revoked_s.get_or_insert(now_s);
        self.write()
    }

    fn write(&self) -> Result<(), KeysFault> {
        let text = serde_json::to_vec_pretty(&self.content).map_err(io::Error::other);
        text.and_then(|text| atomic_file::replace(&self.path, &text))
            .map_err(|reason| KeysFault::File { path: self.path.clone(), reason })
    }
}

/// Where the gateway writes what the keys of a file have used.
pub(super) fn usage_path(path: &Path) -> PathBuf {
    path.with_extension("usage.json")
}

/// SHA-256 of a key.
pub(super) fn digest(key: &str) -> [u8; 32] {
    Sha256::digest(key.as_bytes()).into()
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
