//! A segment file open for writing.

use crate::fault::Fault;
use crate::frame::{HEADER_LEN, Header, JournalKey, Sealer};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Files grow by this much at a time. Writes into space that is on disk already need no metadata
/// update, which makes their `fdatasync` many times cheaper.
const EXTENT_LEN: u64 = 1 << 20;

/// A segment that this process writes.
pub(crate) struct Segment {
    file: File,
    path: PathBuf,
    sealer: Sealer,
    sequence: u64,
    offset: u64,
    allocated: u64,
    sealed: Vec<u8>,
}

impl Segment {
    /// Creates the file under a temporary name; [`publish`](Self::publish) gives it its own.
    pub(crate) fn create(dir: &Path, key: &JournalKey, header: &Header) -> Result<Self, Fault> {
        let path = dir.join(format!("{}.new", file_name(header.generation)));
        let file = OpenOptions::new()
            .create(true)
            .truncate(true)
            .read(true)
            .write(true)
            .mode(0o600)
            .open(&path)
            .map_err(Fault::io("create", &path))?;
        let mut segment = Self {
            file,
            path,
            sealer: Sealer::new(key, header),
            sequence: 0,
            offset: 0,
            allocated: 0,
            sealed: Vec::new(),
        };
        segment.extend_to(HEADER_LEN as u64)?;
        segment
            .file
            .write_all_at(&header.encode(), 0)
            .map_err(Fault::io("write", &segment.path))?;
        segment.offset = HEADER_LEN as u64;
        Ok(segment)
    }

    /// Makes the segment the current one: synced, renamed, directory synced.
    pub(crate) fn publish(&mut self, dir: &Path, generation: u64) -> Result<(), Fault> {
        self.file.sync_all().map_err(Fault::io("sync", &self.path))?;
        let path = dir.join(file_name(generation));
        std::fs::rename(&self.path, &path).map_err(Fault::io("rename", &self.path))?;
        self.path = path;
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(Fault::io("sync", dir))
    }

    /// Writes one frame and makes it durable.
    pub(crate) fn append(&mut self, plain: &[u8]) -> Result<(), Fault> {
        self.sealed.clear();
        self.sealer.seal(self.sequence, plain, &mut self.sealed);
        let end = self.offset + self.sealed.len() as u64;
        self.extend_to(end)?;
        self.file
            .write_all_at(&self.sealed, self.offset)
            .map_err(Fault::io("write", &self.path))?;
        self.file.sync_data().map_err(Fault::io("sync", &self.path))?;
        self.offset = end;
        self.sequence += 1;
        Ok(())
    }

    /// Bytes used.
    pub(crate) const fn len(&self) -> u64 {
        self.offset
    }

    /// Allocates zeros up to `end` and one extent more; nothing else is touched when it fails, so
    /// a full disk shows here, before a frame is written.
    fn extend_to(&mut self, end: u64) -> Result<(), Fault> {
        if end <= self.allocated {
            return Ok(());
        }
        let target = end.div_ceil(EXTENT_LEN).saturating_add(1) * EXTENT_LEN;
        let zeros = vec![0; usize::try_from(EXTENT_LEN).unwrap_or(1 << 20)];
        while self.allocated < target {
            self.file
                .write_all_at(&zeros, self.allocated)
                .map_err(Fault::io("extend", &self.path))?;
            self.allocated += EXTENT_LEN;
        }
        self.file.sync_all().map_err(Fault::io("sync", &self.path))
    }
}

pub(crate) fn file_name(generation: u64) -> String {
    format!("journal-{generation:010}.log")
}

/// Generation of a segment's file name, if it is one.
pub(crate) fn generation_of(name: &str) -> Option<u64> {
    name.strip_prefix("journal-")?.strip_suffix(".log")?.parse().ok()
}
