//! A local chain on disk: a snapshot, and a log of the inputs after it.
//!
//! ```text
//!   lock                 held while a process uses the directory
//!   chain-<n>.snapshot   "CLF1", CRC-32C u32, the machine; written aside, then renamed
//!   chain-<n>.log        records after it: length u32, CRC-32C u32, input
//!   *.damaged            what was set aside by a repair
//! ```
//!
//! A record is handed to the system before its input is answered, so it survives the end of this
//! process; a power cut may cost the last seconds of a local chain. The torn end of a log is cut off:
//! it is the trace of a write that was never answered. Damage with a good record behind it is no torn
//! write: it is refused, because going on would forget blocks that somebody saw, until a repair is
//! asked for.

use std::fs::{self, File, OpenOptions};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use cocoon_localchain::{Genesis, Input, LocalChain};

use crate::NodeFault;

/// A new snapshot is due after so many bytes of log.
const LOG_BYTES_MAX: u64 = 8 << 20;
/// Largest record: the largest external message and its tag, with room.
const RECORD_BYTES_MAX: usize = 1 << 20;
/// First bytes of a snapshot's file; one without them is of an earlier version and has no checksum.
const MAGIC: [u8; 4] = *b"CLF1";

/// The directory of one chain, open.
pub(crate) struct Store {
    directory: PathBuf,
    generation: u64,
    log: File,
    /// Bytes of whole records.
    log_bytes: u64,
    /// A record whose input was applied but could not be written; nothing is applied before it is.
    owed: Vec<u8>,
    _lock: File,
}

impl Store {
    /// Opens a chain: the newest snapshot with the log after it, or a new chain when the directory
    /// holds none. With `repair`, damage costs what lies behind it instead of being refused, and
    /// damaged files are kept beside.
    pub(crate) fn open(
        directory: &Path,
        genesis: &Genesis,
        repair: bool,
    ) -> Result<(Self, LocalChain), NodeFault> {
        fs::create_dir_all(directory).map_err(at("cannot create", directory))?;
        let lock = lock(directory)?;
        let generations = generations(directory)?;
        for (place, &generation) in generations.iter().enumerate().rev() {
            match load(directory, generation) {
                Ok(chain) => {
                    let opened = Self::resume(directory, generation, chain, lock, repair)?;
                    for &old in generations.iter().take(place) {
                        // What a process left that ended between a snapshot and its tidying.
                        let _ = fs::remove_file(snapshot_path(directory, old));
                        let _ = fs::remove_file(log_path(directory, old));
                    }
                    return Ok(opened);
                }
                Err(fault) if repair && place > 0 => {
                    tracing::warn!(%fault, "repaired: the local chain goes back to an older snapshot");
                    set_aside(&snapshot_path(directory, generation))?;
                    let log = log_path(directory, generation);
                    if log.exists() {
                        set_aside(&log)?;
                    }
                }
                Err(fault) => {
                    let older = place > 0;
                    return Err(damaged(snapshot_path(directory, generation), &fault, older));
                }
            }
        }
        let chain = LocalChain::new(genesis)?;
        let store = Self::begin(directory, 1, &chain, lock)?;
        Ok((store, chain))
    }

    /// Writes an input down. Call before the input is answered.
    ///
    /// # Errors
    /// [`NodeFault::File`]: do not answer, and apply nothing before [`Store::settle`] succeeds.
    pub(crate) fn append(&mut self, input: &Input) -> Result<(), NodeFault> {
        let bytes = input.to_bytes();
        let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        self.owed.extend_from_slice(&len.to_be_bytes());
        self.owed.extend_from_slice(&crc32c::crc32c(&bytes).to_be_bytes());
        self.owed.extend_from_slice(&bytes);
        self.settle()
    }

    /// Writes what could not be written before, if there is any.
    ///
    /// # Errors
    /// [`NodeFault::File`]: still not.
    pub(crate) fn settle(&mut self) -> Result<(), NodeFault> {
        if self.owed.is_empty() {
            return Ok(());
        }
        // Over whatever a failed write left behind the last whole record.
        self.log
            .seek(SeekFrom::Start(self.log_bytes))
            .and_then(|_| self.log.write_all(&self.owed))
            .map_err(at("cannot write", &log_path(&self.directory, self.generation)))?;
        self.log_bytes = self.log_bytes.saturating_add(self.owed.len() as u64);
        self.owed.clear();
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
        Ok(Self { directory, generation, log, log_bytes: 0, owed: Vec::new(), _lock: lock })
    }

    fn resume(
        directory: &Path,
        generation: u64,
        mut chain: LocalChain,
        lock: File,
        repair: bool,
    ) -> Result<(Self, LocalChain), NodeFault> {
        let path = log_path(directory, generation);
        let bytes = read_log(&path)?;
        let found = replay(&bytes, &mut chain);
        if let Some(damage) = found.damage {
            let (bytes, records, reason) = (found.bytes, found.records, damage.reason);
            if damage.is_torn_end {
                let path = path.display();
                tracing::warn!(%path, byte = bytes, records, reason, "the torn end of the log is cut off");
            } else if repair {
                let kept = aside(&path);
                fs::copy(&path, &kept).map_err(at("cannot keep a copy as", &kept))?;
                let (path, kept) = (path.display(), kept.display());
                tracing::warn!(%path, byte = bytes, records, reason, %kept, "repaired: the log is cut at the damage");
            } else {
                return Err(NodeFault::DamagedLog { path, byte: bytes, records, reason });
            }
        }
        let log = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(at("cannot open", &path))?;
        log.set_len(found.bytes).map_err(at("cannot cut", &path))?;
        let (directory, log_bytes) = (directory.to_owned(), found.bytes);
        Ok((Self { directory, generation, log, log_bytes, owed: Vec::new(), _lock: lock }, chain))
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
    let Some(rest) = bytes.strip_prefix(&MAGIC) else {
        return Ok(LocalChain::restore(&bytes)?);
    };
    match rest.split_first_chunk::<4>() {
        Some((crc, body)) if crc32c::crc32c(body) == u32::from_be_bytes(*crc) => {
            Ok(LocalChain::restore(body)?)
        }
        _ => {
            let reason = format!("the checksum over its {} bytes is another one", bytes.len());
            Err(NodeFault::Machine(cocoon_localchain::Fault::Snapshot(reason)))
        }
    }
}

fn damaged(path: PathBuf, fault: &NodeFault, has_older: bool) -> NodeFault {
    let mut reason = fault.to_string();
    if let Some(source) = std::error::Error::source(fault) {
        reason = format!("{reason}: {source}");
    }
    let way_on = if has_older {
        "start with repair to go back to the older snapshot beside it"
    } else {
        "restore a copy of the directory, or move it away to begin a new chain"
    };
    NodeFault::Damaged { path, reason, way_on }
}

fn read_log(path: &Path) -> Result<Vec<u8>, NodeFault> {
    match fs::read(path) {
        Ok(bytes) => Ok(bytes),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(at("cannot read", path)(error)),
    }
}

/// How far a log could be replayed.
struct Replayed {
    bytes: u64,
    records: u64,
    damage: Option<Damage>,
}

struct Damage {
    /// Nothing whole follows: a write was cut short.
    is_torn_end: bool,
    reason: String,
}

/// Applies the log up to its first damaged record.
fn replay(bytes: &[u8], chain: &mut LocalChain) -> Replayed {
    let (mut rest, mut records) = (bytes, 0_u64);
    let mut damage = None;
    while !rest.is_empty() && damage.is_none() {
        match record(rest) {
            // What was refused once is refused again.
            Ok((input, after)) => match chain.apply(&input) {
                Ok(_) => (rest, records) = (after, records.saturating_add(1)),
                Err(fault) => {
                    damage = Some(Damage { is_torn_end: false, reason: fault.to_string() });
                }
            },
            Err(reason) => {
                let is_torn_end = !holds_record(rest.get(1..).unwrap_or_default());
                damage = Some(Damage { is_torn_end, reason: reason.to_owned() });
            }
        }
    }
    let bytes = bytes.len().saturating_sub(rest.len()) as u64;
    Replayed { bytes, records, damage }
}

/// Whether a whole record begins anywhere in these bytes: then what lies before it is not the end.
fn holds_record(bytes: &[u8]) -> bool {
    (0..bytes.len()).any(|from| bytes.get(from..).is_some_and(|tail| record(tail).is_ok()))
}

/// The first record and what follows it, or what is wrong with it.
fn record(bytes: &[u8]) -> Result<(Input, &[u8]), &'static str> {
    let short = "the log ends within the record";
    let (len, rest) = bytes.split_first_chunk::<4>().ok_or(short)?;
    let (crc, rest) = rest.split_first_chunk::<4>().ok_or(short)?;
    let len = usize::try_from(u32::from_be_bytes(*len)).unwrap_or(usize::MAX);
    if len > RECORD_BYTES_MAX {
        return Err("the record claims to be longer than any is");
    }
    let (body, rest) = rest.split_at_checked(len).ok_or(short)?;
    if crc32c::crc32c(body) != u32::from_be_bytes(*crc) {
        return Err("the record's checksum is another one");
    }
    let input = Input::from_bytes(body).map_err(|_| "the record is of no kind that is known")?;
    Ok((input, rest))
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
    let machine = chain.snapshot()?;
    let head = [MAGIC, crc32c::crc32c(&machine).to_be_bytes()].concat();
    file.write_all(&head)
        .and_then(|()| file.write_all(&machine))
        .map_err(at("cannot write", &aside))?;
    file.sync_all().map_err(at("cannot sync", &aside))?;
    fs::rename(&aside, &path).map_err(at("cannot rename to", &path))?;
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(at("cannot sync", directory))?;
    Ok(log)
}

/// Where a damaged file is kept.
fn aside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".damaged");
    PathBuf::from(name)
}

fn set_aside(path: &Path) -> Result<(), NodeFault> {
    fs::rename(path, aside(path)).map_err(at("cannot set aside", path))
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    const BEGIN_MS: u64 = 1_760_000_000_000;

    #[test]
    fn what_had_no_room_is_written_before_anything_else() {
        let directory = tempfile::tempdir().unwrap();
        let genesis = Genesis::new([5; 32], BEGIN_MS);
        let (mut store, mut chain) = Store::open(directory.path(), &genesis, false).unwrap();
        let path = log_path(directory.path(), 1);
        let mut strikes = |store: &mut Store, after_ms| {
            let input = Input::Tick { now_ms: BEGIN_MS + after_ms };
            store.settle()?;
            chain.apply(&input).unwrap().unwrap();
            store.append(&input).map(|()| chain.snapshot().unwrap())
        };
        let first = strikes(&mut store, 400).unwrap();
        // A file that takes nothing, and half a record that it took before that showed.
        let writable = std::mem::replace(&mut store.log, File::open(&path).unwrap());
        assert!(matches!(strikes(&mut store, 800), Err(NodeFault::File { .. })));
        let mut torn = OpenOptions::new().append(true).open(&path).unwrap();
        torn.write_all(store.owed.get(..7).unwrap()).unwrap();
        for _ in 0..3 {
            assert!(matches!(strikes(&mut store, 1_200), Err(NodeFault::File { .. })));
        }
        store.log = writable;
        let last = strikes(&mut store, 1_200).unwrap();
        drop(store);
        let (_, again) = Store::open(directory.path(), &genesis, false).unwrap();
        assert_eq!(again.snapshot().unwrap(), last);
        let first = LocalChain::restore(&first).unwrap().master_head().id.seqno;
        assert_eq!(again.master_head().id.seqno, first + 2, "one ahead of the disk, never two");
    }
}
