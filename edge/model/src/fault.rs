//! Why a model cannot be hashed, packed or served.

use std::path::PathBuf;

use cocoon_verity::{ArchiveFault, Root, TreeFault};
use thiserror::Error;

/// Why a model cannot be hashed, packed or served.
#[derive(Debug, Error)]
pub enum ModelFault {
    /// Environment: a file cannot be read or written.
    #[error("{path}: {source}", path = .path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// User: something in the folder that is neither a file nor a folder.
    #[error(
        "{path} is {what}; a model's folder holds files and folders only (cp -rL makes a copy that does)",
        path = .path.display()
    )]
    NotPlain {
        /// Which.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// Somebody wrote to the model while it was read. Stop that, then try again.
    #[error("{path} was changed while it was read", path = .path.display())]
    Changed {
        /// Which.
        path: PathBuf,
    },
    /// User: the folder cannot be an archive.
    #[error(transparent)]
    Archive(#[from] ArchiveFault),
    /// User: an image or a tree that is none.
    #[error("{path}: {source}", path = .path.display())]
    Tree {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        source: TreeFault,
    },
    /// These are other bytes than the name promises.
    #[error(
        "{path} has the root {found}, not {expected}: it is another model, or it was changed",
        path = .path.display()
    )]
    WrongRoot {
        /// Which.
        path: PathBuf,
        /// What it should have.
        expected: Root,
        /// What it has.
        found: Root,
    },
    /// The caller gave up.
    #[error("given up")]
    GivenUp,
}

impl ModelFault {
    /// Wraps what the system said about `path`.
    pub(crate) fn io(path: &std::path::Path) -> impl Fn(std::io::Error) -> Self + '_ {
        |source| Self::Io { path: path.to_owned(), source }
    }

    /// Wraps what is wrong with a tree at `path`.
    pub(crate) fn tree(path: &std::path::Path) -> impl Fn(TreeFault) -> Self + '_ {
        |source| Self::Tree { path: path.to_owned(), source }
    }
}
