//! Batches: many requests in a file, run in the background, answered in a file.
//!
//! OpenAI's `/v1/files` and `/v1/batches`, local to this gateway. Files are encrypted at rest,
//! batches go on after a restart, and their requests give way to those of people who wait.
//! A request that ran while the gateway was ended runs again: at most [`BatchConfig::parallel`]
//! requests are paid twice by a crash.

mod book;
pub mod fuzz;
mod lines;
mod pages;
mod runner;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use book::Book;

use crate::vault::{Vault, VaultFault};

pub(crate) use pages::BatchCall;

/// Where batches are kept, and their limits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BatchConfig {
    /// Folder of the encrypted files; made when it is missing.
    pub folder: PathBuf,
    /// File of the 32-byte key; made when it is missing. Absent: `key` in the folder, which
    /// protects copies of single files, not of the whole folder.
    #[serde(default)]
    pub key_file: Option<PathBuf>,
    /// Requests of batches that run at once.
    #[serde(default = "parallel")]
    pub parallel: usize,
    /// Files and batches kept together; more are refused until some are deleted.
    #[serde(default = "kept_max")]
    pub kept_max: usize,
}

impl BatchConfig {
    /// Batches in this folder, with default limits.
    pub fn in_folder(folder: PathBuf) -> BatchConfig {
        BatchConfig { folder, key_file: None, parallel: parallel(), kept_max: kept_max() }
    }
}

fn parallel() -> usize {
    4
}

fn kept_max() -> usize {
    1000
}

/// All batches of a gateway.
#[derive(Debug)]
pub(crate) struct Batches {
    config: BatchConfig,
    vault: Arc<Vault>,
    book: Mutex<Book>,
    /// Wakes the runner.
    work: Notify,
}

impl Batches {
    /// Opens the folder and reads what is there.
    pub(crate) fn open(config: &BatchConfig) -> Result<Batches, VaultFault> {
        let vault = Vault::open(&config.folder, config.key_file.as_deref())?;
        let book = match vault.read(BOOK)?.into_iter().next() {
            Some(text) => serde_json::from_slice(&text).map_err(|fault| VaultFault::Damaged {
                name: BOOK.to_owned(),
                reason: fault.to_string(),
            })?,
            None => Book::default(),
        };
        Ok(Batches { config: config.clone(), vault, book: Mutex::new(book), work: Notify::new() })
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the book and writes it down.
    fn change<T>(&self, change: impl FnOnce(&mut Book) -> T) -> Result<T, VaultFault> {
        let mut book = self.book();
        // What cannot be written down has not happened.
        let mut changed = book.clone();
        let result = change(&mut changed);
        let text = serde_json::to_vec(&changed).unwrap_or_default();
        // Under the lock, so that an older book never replaces a newer one.
        self.vault.replace(BOOK, &text)?;
        *book = changed;
        Ok(result)
    }
}

/// Name of the file that lists all others.
const BOOK: &str = "book";
