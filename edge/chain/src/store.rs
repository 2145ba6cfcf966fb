//! A local chain on disk: a snapshot, and a log of the inputs after it.
//!
//! ```text
//!   lock                 held while a process uses the directory
//!   chain-<n>.snapshot   the machine after n inputs were forgotten; written aside, then renamed
//!   chain-<n>.log        records after it: length u32, CRC-32C u32, input
//! ```
//!
//! A record is handed to the system before its input is answered, so it survives the end of this
//! process; a power cut may cost the last seconds of a local chain, and the torn end of the log
//! is cut off.

use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use cocoon_localchain::{Genesis, Input, LocalChain};

use crate::NodeFault;

/// A new snapshot is due after so many bytes of log.
const LOG_BYTES_MAX: u64 = 8 << 20;
/// Largest record: the largest external message and its tag, with room.
const RECORD_BYTES_MAX: usize = 1 << 20;

/// The directory of one chain, open.
pub(crate) struct Store {
    directory: PathBuf,
    generation: u64,
    log: File,
    log_bytes: u64,
    _lock: File,
}

impl Store {
    /// Opens a chain: the newest usable snapshot with the log after it, or a new chain when the
    /// directory holds none.
    pub(crate) fn open(
        directory: &Path,
        genesis: &Genesis,
    ) -> Result<(Self, LocalChain), NodeFault> {
        fs::create_dir_all(directory).map_err(at("cannot create", directory))?;
        let lock = lock(directory)?;
        let generations = generations(directory)?;
        let mut reason = None;
        for &generation in generations.iter().rev() {
            match load(directory, generation) {
                Ok(chain) => return Self::resume(directory, generation, chain, lock),
                Err(fault) => reason = reason.or(Some(fault.to_string())),
            }
        }
        if let Some(reason) = reason {
            return Err(NodeFault::Damaged { path: directory.to_owned(), reason });
        }
        let chain = LocalChain::new(genesis)?;
        let store = Self::begin(directory, 1, &chain, lock)?;
        Ok((store, chain))
    }

    /// Writes an input down. Call before the input is answered.
    pub(crate) fn append(&mut self, input: &Input) -> Result<(), NodeFault> {
        let bytes = input.to_bytes();
        let mut record = Vec::with_capacity(bytes.len().saturating_add(8));
        record.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
        record.extend_from_slice(&crc32c::crc32c(&bytes).to_be_bytes());
        record.extend_from_slice(&bytes);
        self.log.write_all(&record).map_err(at("cannot write", &self.directory))?;
        self.log_bytes = self.log_bytes.saturating_add(record.len() as u64);
        Ok(())
    }

    /// Whether the log has grown so long that a snapshot is due.
    pub(crate) fn is_snapshot_due(&self) -> bool {
        self.log_bytes > LOG_BYTES_MAX
    }

    /// Writes a snapshot and begins a new log; the old pair is removed after the new one is safe.
    pub(crate) fn snapshot(&mut self, chain: &LocalChain) -> Result<(), NodeFault> {
        let generation = self.generation.saturating_add(1);
        self.log = write_generation(&self.directory, generation, chain)?;
        self.log_bytes = 0;
        let old = std::mem::replace(&mut self.generation, generation);
        for path in [snapshot_path(&self.directory, old), log_path(&self.directory, old)] {
            fs::remove_file(&path).map_err(at("cannot remove", &path))?;
        }
        Ok(())
    }

    fn begin(
        directory: &Path,
        generation: u64,
        chain: &LocalChain,
        lock: File,
    ) -> Result<Self, NodeFault> {
        let log = write_generation(directory, generation, chain)?;
        let directory = directory.to_owned();
        Ok(Self { directory, generation, log, log_bytes: 0, _lock: lock })
    }

    fn resume(
        directory: &Path,
        generation: u64,
        mut chain: LocalChain,
        lock: File,
    ) -> Result<(Self, LocalChain), NodeFault> {
        let path = log_path(directory, generation);
        let kept = replay(&path, &mut chain)?;
        let log = OpenOptions::new()
            .append(true)
            .create(true)
            .open(&path)
            .map_err(at("cannot open", &path))?;
        log.set_len(kept).map_err(at("cannot cut", &path))?;
        let directory = directory.to_owned();
        Ok((Self { directory, generation, log, log_bytes: kept, _lock: lock }, chain))
    }
}

fn lock(directory: &Path) -> Result<File, NodeFault> {
    let path = directory.join("lock");
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(at("cannot open", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => Err(NodeFault::InUse(directory.to_owned())),
        Err(fs::TryLockError::Error(source)) => {
            Err(NodeFault::File { doing: "cannot lock", path, source })
        }
    }
}

fn generations(directory: &Path) -> Result<Vec<u64>, NodeFault> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).map_err(at("cannot list", directory))? {
        let name = entry.map_err(at("cannot list", directory))?.file_name();
        let number: Option<u64> = name
            .to_str()
            .and_then(|name| name.strip_prefix("chain-")?.strip_suffix(".snapshot"))
            .and_then(|number| number.parse().ok());
        found.extend(number);
    }
    found.sort_unstable();
    Ok(found)
}

fn load(directory: &Path, generation: u64) -> Result<LocalChain, NodeFault> {
    let path = snapshot_path(directory, generation);
    let bytes = fs::read(&path).map_err(at("cannot read", &path))?;
    Ok(LocalChain::restore(&bytes)?)
}

/// Applies the log up to its first damaged record; returns how many bytes were good.
fn replay(path: &Path, chain: &mut LocalChain) -> Result<u64, NodeFault> {
    let mut bytes = Vec::new();
    match File::open(path) {
        Ok(mut file) => file.read_to_end(&mut bytes).map_err(at("cannot read", path))?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => 0,
        Err(error) => return Err(at("cannot open", path)(error)),
    };
    let mut rest = bytes.as_slice();
    while let Some((input, after)) = record(rest) {
        // What was refused once is refused again; a fault ends the replay like damage.
        if chain.apply(&input).is_err() {
            break;
        }
        rest = after;
    }
    Ok(bytes.len().saturating_sub(rest.len()) as u64)
}

fn record(bytes: &[u8]) -> Option<(Input, &[u8])> {
    let (len, rest) = bytes.split_first_chunk::<4>()?;
    let (crc, rest) = rest.split_first_chunk::<4>()?;
    let len = usize::try_from(u32::from_be_bytes(*len)).ok()?;
    let (body, rest) = rest.split_at_checked(len)?;
    if len > RECORD_BYTES_MAX || crc32c::crc32c(body) != u32::from_be_bytes(*crc) {
        return None;
    }
    Some((Input::from_bytes(body).ok()?, rest))
}

fn write_generation(
    directory: &Path,
    generation: u64,
    chain: &LocalChain,
) -> Result<File, NodeFault> {
    let log_at = log_path(directory, generation);
    let log = File::create(&log_at).map_err(at("cannot create", &log_at))?;
    let path = snapshot_path(directory, generation);
    let aside = path.with_extension("new");
    let mut file = File::create(&aside).map_err(at("cannot create", &aside))?;
    file.write_all(&chain.snapshot()?).map_err(at("cannot write", &aside))?;
    file.sync_all().map_err(at("cannot sync", &aside))?;
    fs::rename(&aside, &path).map_err(at("cannot rename to", &path))?;
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(at("cannot sync", directory))?;
    Ok(log)
}

fn snapshot_path(directory: &Path, generation: u64) -> PathBuf {
    directory.join(format!("chain-{generation}.snapshot"))
}

fn log_path(directory: &Path, generation: u64) -> PathBuf {
    directory.join(format!("chain-{generation}.log"))
}

fn at(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> NodeFault {
    move |source| NodeFault::File { doing, path: path.to_owned(), source }
}
