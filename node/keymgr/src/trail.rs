//! The audit trail's file.

use cocoon_role_keymgr::{AuditChain, AuditEntry, AuditFault};
use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Longest line of a trail, bytes: 64 public keys and names.
const LINE_BYTES_MAX: u64 = 16 << 10;

/// A trail that cannot be gone on with.
#[derive(Debug, Error)]
pub enum TrailFault {
    /// Environment: the file cannot be read or written.
    #[error("audit trail {path}: {source}", path = .path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Somebody changed it. Keep the file as it is, and begin another by moving it away.
    #[error("audit trail {path}: {source}", path = .path.display())]
    Broken {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        source: AuditFault,
    },
}

/// A trail that is added to, or was read.
#[derive(Debug)]
pub struct Trail {
    path: PathBuf,
    file: File,
    chain: AuditChain,
}

impl Trail {
    /// Follows the trail at `path` to its end, or begins one. A last line that was cut by a crash
    /// is dropped: what it told had not happened yet.
    ///
    /// # Errors
    /// [`TrailFault`]: the node must not start.
    pub fn open(path: &Path) -> Result<Self, TrailFault> {
        let io = |source| TrailFault::Io { path: path.to_owned(), source };
        let mut options = OpenOptions::new();
        options.create(true).read(true).append(true).mode(0o600);
        let file = options.open(path).map_err(io)?;
        let (chain, whole) = follow(path, &file)?;
        file.set_len(whole).map_err(io)?;
        Ok(Self { path: path.to_owned(), file, chain })
    }

    /// Reads a trail to its end without changing it.
    ///
    /// # Errors
    /// [`TrailFault`]: it cannot be read, or is not what was written.
    pub fn check(path: &Path) -> Result<AuditChain, TrailFault> {
        let io = |source| TrailFault::Io { path: path.to_owned(), source };
        let file = File::open(path).map_err(io)?;
        Ok(follow(path, &file)?.0)
    }

    /// Adds lines, and returns when they are on disk.
    ///
    /// # Errors
    /// [`TrailFault::Io`]: hand out nothing more.
    pub fn add(&mut self, entries: &[AuditEntry]) -> Result<(), TrailFault> {
        let mut text = String::new();
        for entry in entries {
            text.push_str(&self.chain.line(entry));
            text.push('\n');
        }
        let written = self.file.write_all(text.as_bytes()).and_then(|()| self.file.sync_data());
        written.map_err(|source| TrailFault::Io { path: self.path.clone(), source })
    }

    /// Where it ends.
    #[must_use]
    pub const fn chain(&self) -> &AuditChain {
        &self.chain
    }
}

/// Follows every whole line; gives the bytes that they have.
fn follow(path: &Path, file: &File) -> Result<(AuditChain, u64), TrailFault> {
    let io = |source| TrailFault::Io { path: path.to_owned(), source };
    let mut reader = BufReader::new(file);
    let (mut chain, mut whole) = (AuditChain::default(), 0);
    let mut line = Vec::new();
    loop {
        line.clear();
        let count =
            reader.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line).map_err(io)?;
        let Some((b'\n', text)) = line.split_last() else {
            return Ok((chain, whole));
        };
        let followed = chain.follow(&String::from_utf8_lossy(text));
        followed.map_err(|source| TrailFault::Broken { path: path.to_owned(), source })?;
        whole += count as u64;
    }
}
