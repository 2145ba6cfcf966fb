//! Reading the journal at start.

use crate::fault::Fault;
use crate::frame::{FORMAT, HeaderFault, JournalKey, decode_segment};
use crate::segment::generation_of;
use std::path::Path;

/// What was found on disk.
#[derive(Debug, Default)]
pub struct Recovered {
    /// Records in order; empty for a new node.
    pub records: Vec<Vec<u8>>,
    /// Generation of the segment they came from; the next one is written with one more.
    pub generation: u64,
    /// What an operator should know, in plain words: a torn last write that was dropped, a
    /// repair. Nothing that was ever reported durable is lost by a torn write.
    pub notices: Vec<String>,
}

/// Reads the newest segment of `dir`. With `repair`, a damaged segment is cut at its last good
/// record and the damaged file is kept beside it as `.damaged`.
///
/// # Errors
/// [`Fault`]: nothing on disk was changed; the node must not start.
pub fn recover(dir: &Path, key: &JournalKey, repair: bool) -> Result<Recovered, Fault> {
    let Some(generation) = newest(dir)? else {
        return Ok(Recovered::default());
    };
    let path = dir.join(crate::segment::file_name(generation));
    let bytes = std::fs::read(&path).map_err(Fault::io("read", &path))?;
    let decoded = decode_segment(key, &bytes).map_err(|fault| match fault {
        HeaderFault::Foreign => Fault::WrongKey { path: path.clone() },
        HeaderFault::Format(found) => Fault::Format { path: path.clone(), found, known: FORMAT },
    })?;
    // A segment is published with its snapshot, so one without any record has lost its key.
    if decoded.records.is_empty() {
        return Err(Fault::WrongKey { path });
    }
    let records = decoded.records.len() as u64;
    let mut notices = Vec::new();
    if decoded.damaged {
        if !repair {
            return Err(Fault::Damaged { path, offset: decoded.good_len, records });
        }
        let kept = path.with_extension("log.damaged");
        std::fs::copy(&path, &kept).map_err(Fault::io("copy", &path))?;
        notices.push(format!(
            "repaired: {} is cut at byte {} after {records} records, the damaged file is kept as {}",
            path.display(),
            decoded.good_len,
            kept.display()
        ));
    } else if decoded.torn {
        notices.push(format!(
            "{} ends in an unfinished write at byte {}: dropped, it was never confirmed",
            path.display(),
            decoded.good_len
        ));
    }
    Ok(Recovered { records: decoded.records, generation, notices })
}

/// Reads a journal that no process writes, to look at it. Changes nothing on disk.
///
/// # Errors
/// [`Fault::InUse`] while a process writes it; [`Fault::Missing`] where none ever did; otherwise
/// as [`recover`].
pub fn read(dir: &Path, key: &JournalKey) -> Result<Recovered, Fault> {
    let _held = crate::writer::hold_to_read(dir)?;
    let recovered = recover(dir, key, false)?;
    if recovered.records.is_empty() {
        return Err(Fault::Missing { path: dir.to_owned() });
    }
    Ok(recovered)
}

fn newest(dir: &Path) -> Result<Option<u64>, Fault> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(fault) if fault.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(fault) => return Err(Fault::io("read", dir)(fault)),
    };
    let mut newest = None;
    for entry in entries {
        let entry = entry.map_err(Fault::io("read", dir))?;
        newest = newest.max(entry.file_name().to_str().and_then(generation_of));
    }
    Ok(newest)
}
