//! A model's bytes on disk: hashed, packed, checked, watched.
//!
//! [`Model`] is a folder, or one file, read in the order of its archive
//! ([`cocoon_verity::Archive`]); [`Model::root`] hashes it, [`Model::pack`] writes image and hash
//! tree, [`check`] compares with a name's root and gives a [`CheckedModel`], which later says
//! whether something was changed. [`check_image`] does the same for a packed image.
//!
//! Calls block for as long as reading takes: run them off the threads that serve connections.

mod fault;
mod folder;
mod image;
mod stream;

pub use cocoon_verity::Root;
pub use fault::ModelFault;
pub use folder::{Fingerprint, Model};
pub use image::{Packed, check_image};

use cocoon_units::ModelName;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Is told the bytes done and the bytes in all, about once a mebibyte; `false` gives up.
pub type Progress<'a> = &'a mut dyn FnMut(u64, u64) -> bool;

/// A model whose bytes had the root that was expected.
#[derive(Clone, Debug)]
pub struct CheckedModel {
    path: PathBuf,
    root: Root,
    fingerprint: Fingerprint,
}

impl CheckedModel {
    /// The root that was found.
    #[must_use]
    pub const fn root(&self) -> Root {
        self.root
    }

    /// Where the model lies.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether no file was replaced, written, added or removed since the check, by what the
    /// file system says: number of the file, length, times of content and of status. The last of
    /// them cannot be set back by a program, only by a clock that is set back.
    ///
    /// # Errors
    /// [`ModelFault`]: it cannot be read any more, so it is not what it was.
    pub fn is_unchanged(&self) -> Result<bool, ModelFault> {
        Ok(Model::open(&self.path)?.fingerprint() == &self.fingerprint)
    }
}

/// Reads a model to its end and compares with the root it should have.
///
/// # Errors
/// [`ModelFault::WrongRoot`]: these are other bytes; do not serve them under this name. Any other:
/// the model cannot be read, or was changed meanwhile.
pub fn check(
    path: &Path,
    expected: Root,
    progress: Progress<'_>,
) -> Result<CheckedModel, ModelFault> {
    let mut model = Model::open(path)?;
    if let Some(pause) = model.fingerprint().too_fresh(SystemTime::now()) {
        std::thread::sleep(pause);
        model = Model::open(path)?;
    }
    let found = model.root(progress)?;
    if found != expected {
        return Err(ModelFault::WrongRoot { path: path.to_owned(), expected, found });
    }
    Ok(CheckedModel {
        path: path.to_owned(),
        root: found,
        fingerprint: model.fingerprint().clone(),
    })
}

/// The root that a full name promises; nothing when it promises none.
#[must_use]
pub fn promised_root(name: &ModelName) -> Option<Root> {
    name.root().and_then(|text| text.parse().ok())
}
