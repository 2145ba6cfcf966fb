//! What can go wrong on disk.

use std::path::PathBuf;
use thiserror::Error;

/// A journal that cannot be used. None of these loses what is on disk.
#[derive(Debug, Error)]
pub enum Fault {
    /// Environment: a file operation failed. Mend the disk or the permissions and start again.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// Environment or attack: a frame that is followed by good ones does not verify. Keep a copy;
    /// start with repair to cut the journal there, which loses the records behind it.
    #[error(
        "{path} is damaged at byte {offset} (after record {records}) though later frames are good: \
         keep a copy of the file, then start with repair to go on from the last good record"
    )]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// Where.
        offset: u64,
        /// Good records before it.
        records: u64,
    },
    /// Configuration: the file was written with another key, or its header was altered.
    #[error("{path} was not written with this node's key, or its header was altered")]
    WrongKey {
        /// Which file.
        path: PathBuf,
    },
    /// Configuration: written by a newer version of the program.
    #[error("{path} has journal format {found}, this version knows up to {known}")]
    Format {
        /// Which file.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The newest known one.
        known: u32,
    },
    /// Configuration: another process holds the directory.
    #[error("{path} is in use by another process")]
    InUse {
        /// The lock file.
        path: PathBuf,
    },
    /// Configuration: there is no journal here.
    #[error("{path} holds no journal")]
    Missing {
        /// Where one was looked for.
        path: PathBuf,
    },
    /// Us: a record is larger than a frame may be.
    #[error("record of {len} bytes is over the limit of {limit}")]
    TooLarge {
        /// Its size.
        len: usize,
        /// The limit.
        limit: usize,
    },
    /// The writer has stopped after an earlier fault; the node must stop too.
    #[error("journal writer has stopped")]
    Stopped,
}

impl Fault {
    pub(crate) fn io(
        action: &'static str,
        path: &std::path::Path,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }
}
