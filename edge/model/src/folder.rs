//! A model's folder: what is in it, and whether that is still so.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{File, Metadata};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cocoon_verity::{Archive, ArchiveFault, Kind, Member};

use crate::fault::ModelFault;

/// Folders within folders; models have one or two.
const DEPTH_MAX: usize = 32;
/// Most entries that are looked at.
const ENTRIES_MAX: usize = 100_000;
/// What download tools leave in a model's folder; no part of the model (protocol notes, wire 6.3).
const LEFT_OUT: &str = ".cache";
/// Longer than any file system's step of time that models lie on.
const TIME_STEP: Duration = Duration::from_millis(25);
/// Rights of the folder around a model that is one file.
const FOLDER_MODE: u32 = 0o755;

/// What the file system says of one entry; changes when the entry does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    device: u64,
    inode: u64,
    mode: u32,
    size: u64,
    modified_ns: i128,
    status_ns: i128,
}

impl Stamp {
    pub(crate) fn of(metadata: &Metadata) -> Self {
        let time = |s: i64, ns: i64| i128::from(s) * 1_000_000_000 + i128::from(ns);
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            mode: metadata.mode(),
            size: metadata.len(),
            modified_ns: time(metadata.mtime(), metadata.mtime_nsec()),
            status_ns: time(metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// What the file system says of a whole model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fingerprint(BTreeMap<PathBuf, Stamp>);

impl Fingerprint {
    /// How long to wait until a later write gets a later time: file systems count time in steps
    /// of some milliseconds, so a write just after ours could leave no trace.
    pub(crate) fn too_fresh(&self, now: SystemTime) -> Option<Duration> {
        let now_ns = now.duration_since(UNIX_EPOCH).ok()?.as_nanos() as i128;
        let newest_ns = self.0.values().map(|stamp| stamp.status_ns).max()?;
        let step_ns = TIME_STEP.as_nanos() as i128;
        // A time ahead of the clock cannot be waited for.
        (newest_ns <= now_ns && now_ns - newest_ns < step_ns).then_some(TIME_STEP)
    }
}

/// A model's folder, or its only file, as it was found.
#[derive(Clone, Debug)]
pub struct Model {
    top: PathBuf,
    archive: Archive,
    fingerprint: Fingerprint,
    single: bool,
}

struct Walk {
    members: Vec<Member>,
    stamps: BTreeMap<PathBuf, Stamp>,
}

impl Model {
    /// Looks at a model's folder, or at the one file that a model is. A file becomes the archive
    /// of a folder that holds only it.
    ///
    /// # Errors
    /// [`ModelFault`]: something in it cannot be part of a model.
    pub fn open(path: &Path) -> Result<Self, ModelFault> {
        let metadata = std::fs::metadata(path).map_err(ModelFault::io(path))?;
        let mut walk = Walk { members: Vec::new(), stamps: BTreeMap::new() };
        let single = metadata.is_file();
        if single {
            let name = path.file_name().unwrap_or_default().as_bytes().to_vec();
            let kind = Kind::Folder;
            walk.members.push(Member { path: Vec::new(), kind, mode: FOLDER_MODE });
            walk.file(path, vec![name], &metadata);
        } else {
            walk.folder(path, &mut Vec::new(), &metadata)?;
        }
        let archive = Archive::new(walk.members)?;
        let fingerprint = Fingerprint(walk.stamps);
        Ok(Self { top: path.to_owned(), archive, fingerprint, single })
    }

    /// What the file system says of it.
    #[must_use]
    pub const fn fingerprint(&self) -> &Fingerprint {
        &self.fingerprint
    }

    /// Its archive's plan.
    #[must_use]
    pub const fn archive(&self) -> &Archive {
        &self.archive
    }

    /// Where it lies.
    pub(crate) fn top(&self) -> &Path {
        &self.top
    }

    /// Opens a member for reading; it must still be what was found.
    pub(crate) fn open_member(&self, member: &Member) -> Result<(PathBuf, File), ModelFault> {
        let mut path = self.top.clone();
        if !self.single {
            path.extend(member.path.iter().map(|part| OsStr::from_bytes(part)));
        }
        let file = File::open(&path).map_err(ModelFault::io(&path))?;
        self.still(&path, &file)?;
        Ok((path, file))
    }

    /// Compares an open file with what was found under its name.
    pub(crate) fn still(&self, path: &Path, file: &File) -> Result<(), ModelFault> {
        let now = Stamp::of(&file.metadata().map_err(ModelFault::io(path))?);
        match self.fingerprint.0.get(path) {
            Some(stamp) if *stamp == now => Ok(()),
            _ => Err(ModelFault::Changed { path: path.to_owned() }),
        }
    }
}

impl Walk {
    fn file(&mut self, path: &Path, parts: Vec<Vec<u8>>, metadata: &Metadata) {
        let mode = metadata.permissions().mode();
        let kind = Kind::File { size: metadata.len() };
        self.members.push(Member { path: parts, kind, mode });
        self.stamps.insert(path.to_owned(), Stamp::of(metadata));
    }

    fn folder(
        &mut self,
        path: &Path,
        parts: &mut Vec<Vec<u8>>,
        metadata: &Metadata,
    ) -> Result<(), ModelFault> {
        let mode = metadata.permissions().mode();
        self.members.push(Member { path: parts.clone(), kind: Kind::Folder, mode });
        self.stamps.insert(path.to_owned(), Stamp::of(metadata));
        let mut entries = Vec::new();
        for entry in std::fs::read_dir(path).map_err(ModelFault::io(path))? {
            entries.push(entry.map_err(ModelFault::io(path))?.file_name());
            if entries.len() + self.members.len() > ENTRIES_MAX {
                return Err(ArchiveFault::TooMany { limit: ENTRIES_MAX }.into());
            }
        }
        entries.sort_by(|one, other| one.as_bytes().cmp(other.as_bytes()));
        for name in entries {
            if parts.is_empty() && name == LEFT_OUT {
                continue;
            }
            let below = path.join(&name);
            let metadata = std::fs::symlink_metadata(&below).map_err(ModelFault::io(&below))?;
            parts.push(name.as_bytes().to_vec());
            if metadata.is_file() {
                self.file(&below, parts.clone(), &metadata);
            } else if metadata.is_dir() && parts.len() <= DEPTH_MAX {
                self.folder(&below, parts, &metadata)?;
            } else {
                let what = if metadata.is_symlink() {
                    "a symbolic link"
                } else if metadata.is_dir() {
                    "a folder too deep"
                } else {
                    "no plain file"
                };
                return Err(ModelFault::NotPlain { path: below, what });
            }
            parts.pop();
        }
        Ok(())
    }
}
