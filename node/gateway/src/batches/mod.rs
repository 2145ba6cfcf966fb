//! Batches: many requests in a file, run in the background, answered in a file.
//!
//! OpenAI's `/v1/files` and `/v1/batches`, local to this gateway. Files are encrypted at rest,
//! batches go on after a restart, and their requests give way to those of people who wait.
//! A request that ran while the gateway was ended runs again: at most [`BatchConfig::parallel`]
//! requests are paid twice by a crash.

mod book;
mod content;
pub mod fuzz;
mod lines;
mod pages;
mod room;
mod runner;
mod upload;

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, Semaphore};

use book::{BatchRecord, Book};
use room::Room;

use crate::vault::{Vault, VaultFault};

pub(crate) use content::FileContent;
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
    /// Requests of batches that run at once. API keys with batches share them.
    #[serde(default = "parallel")]
    pub parallel: usize,
    /// Files and batches kept together; more are refused until some are deleted. A batch counts three
    /// times until it has ended, for the files that it will leave.
    #[serde(default = "kept_max")]
    pub kept_max: usize,
    /// Those of one API key, so that no key takes the room of all others; 0 for no limit.
    #[serde(default = "kept_per_key_max")]
    pub kept_per_key_max: usize,
    /// Bytes of all files kept together. Results count once they are whole.
    #[serde(default = "kept_bytes")]
    pub kept_bytes: u64,
    /// Those of one API key; 0 for no limit.
    #[serde(default = "kept_per_key_bytes")]
    pub kept_per_key_bytes: u64,
    /// Largest file that is taken, bytes.
    #[serde(default = "file_bytes")]
    pub file_bytes: u64,
}

impl BatchConfig {
    /// Batches in this folder, with default limits.
    pub fn in_folder(folder: PathBuf) -> BatchConfig {
        BatchConfig {
            folder,
            key_file: None,
            parallel: parallel(),
            kept_max: kept_max(),
            kept_per_key_max: kept_per_key_max(),
            kept_bytes: kept_bytes(),
            kept_per_key_bytes: kept_per_key_bytes(),
            file_bytes: file_bytes(),
        }
    }
}

fn parallel() -> usize {
    4
}

fn kept_max() -> usize {
    1000
}

fn kept_per_key_max() -> usize {
    250
}

fn kept_bytes() -> u64 {
    40 << 30
}

fn kept_per_key_bytes() -> u64 {
    10 << 30
}

/// OpenAI's limit for the input of a batch.
fn file_bytes() -> u64 {
    200 << 20
}

/// All batches of a gateway.
#[derive(Debug)]
pub(crate) struct Batches {
    config: BatchConfig,
    vault: Arc<Vault>,
    /// Locked for moments only: whoever reads never waits for the disk.
    book: Mutex<Book>,
    /// Whose turn it is to change the book. Held while it is written down, so that an older book never
    /// replaces a newer one.
    turn: Mutex<()>,
    /// Files that are coming in, by owner.
    coming: Mutex<HashMap<String, Room>>,
    /// Wakes the runner.
    work: Notify,
    /// Requests that may run at once, in the order in which they are asked for.
    places: Semaphore,
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
        let batches = Batches {
            config: config.clone(),
            vault,
            book: Mutex::new(book),
            turn: Mutex::default(),
            coming: Mutex::default(),
            work: Notify::new(),
            places: Semaphore::new(config.parallel.clamp(1, Semaphore::MAX_PERMITS)),
        };
        batches.sweep()?;
        Ok(batches)
    }

    /// Removes what a crash left of files that were coming in.
    fn sweep(&self) -> Result<(), VaultFault> {
        let book = self.book();
        let results = book.batches.values().flat_map(BatchRecord::result_names);
        let known: HashSet<String> = book.files.keys().cloned().chain(results).collect();
        drop(book);
        let names = self.vault.names(FILE_PREFIX)?;
        names.iter().filter(|name| !known.contains(*name)).try_for_each(|name| {
            tracing::info!(name, "removing a file that nobody knows");
            self.vault.remove(name)
        })
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the book and writes it down. Waits for the disk: not for the threads of connections.
    fn change<T>(&self, change: impl FnOnce(&mut Book) -> T) -> Result<T, VaultFault> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        // What cannot be written down has not happened.
        let mut changed = self.book().clone();
        let result = change(&mut changed);
        let text = serde_json::to_vec(&changed).unwrap_or_default();
        self.vault.replace(BOOK, &text)?;
        *self.book() = changed;
        Ok(result)
    }

    /// Changes what need not outlive a crash. Waits for the disk as [`Batches::change`].
    fn note<T>(&self, change: impl FnOnce(&mut Book) -> T) -> T {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut self.book())
    }
}

/// Work with the disk, which the threads of connections must not wait for.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, VaultFault> + Send + 'static,
) -> Result<T, VaultFault> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|fault| {
        Err(VaultFault::Damaged { name: BOOK.to_owned(), reason: fault.to_string() })
    })
}

/// How the names of files begin, those of results too.
const FILE_PREFIX: &str = "file-";

/// Name of the file that lists all others.
const BOOK: &str = "book";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_who_reads_waits_for_the_disk() {
        let folder = tempfile::tempdir().unwrap();
        let batches = Batches::open(&BatchConfig::in_folder(folder.path().to_owned())).unwrap();
        let is_free = batches.change(|_| batches.book.try_lock().is_ok()).unwrap();
        assert!(is_free, "the book is read while it is written down");
    }

    #[test]
    fn what_is_not_written_down_has_not_happened() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("batches");
        let batches = Batches::open(&BatchConfig::in_folder(inner.clone())).unwrap();
        std::fs::remove_dir_all(inner).unwrap();
        assert!(batches.change(|book| book.serial = 7).is_err());
        assert_eq!(batches.book().serial, 0);
    }

    #[test]
    fn what_a_crash_left_of_an_upload_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let config = BatchConfig::in_folder(folder.path().to_owned());
        let batches = Batches::open(&config).unwrap();
        for name in ["file-left", "file-known"] {
            batches.vault.replace(name, b"x").unwrap();
        }
        let known =
            r#"{"id":"file-known","owner":"","name":"","purpose":"batch","bytes":1,"created_s":0}"#;
        let known = serde_json::from_str(known).unwrap();
        batches.change(|book| book.files.insert("file-known".to_owned(), known)).unwrap();
        drop(batches);
        let batches = Batches::open(&config).unwrap();
        assert_eq!(batches.vault.names(FILE_PREFIX).unwrap(), ["file-known"]);
    }
}
