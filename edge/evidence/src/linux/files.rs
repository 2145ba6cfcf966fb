//! The few file operations that a report needs, behind a trait for tests.

use std::io;
use std::path::Path;
use std::sync::Arc;

/// File operations of the kernel's report interface.
pub trait TsmFiles: Send + Sync {
    /// Makes a report entry.
    ///
    /// # Errors
    /// What the kernel said.
    fn create(&self, entry: &Path) -> io::Result<()>;

    /// Writes an attribute at once.
    ///
    /// # Errors
    /// What the kernel said.
    fn write(&self, attribute: &Path, bytes: &[u8]) -> io::Result<()>;

    /// Reads an attribute whole.
    ///
    /// # Errors
    /// What the kernel said.
    fn read(&self, attribute: &Path) -> io::Result<Vec<u8>>;

    /// Removes a report entry.
    ///
    /// # Errors
    /// What the kernel said.
    fn remove(&self, entry: &Path) -> io::Result<()>;
}

/// The kernel's own files.
#[derive(Clone, Copy, Debug, Default)]
pub struct KernelFiles;

impl TsmFiles for KernelFiles {
    fn create(&self, entry: &Path) -> io::Result<()> {
        std::fs::create_dir(entry)
    }

    fn write(&self, attribute: &Path, bytes: &[u8]) -> io::Result<()> {
        std::fs::write(attribute, bytes)
    }

    fn read(&self, attribute: &Path) -> io::Result<Vec<u8>> {
        std::fs::read(attribute)
    }

    fn remove(&self, entry: &Path) -> io::Result<()> {
        std::fs::remove_dir(entry)
    }
}

impl<F: TsmFiles> TsmFiles for Arc<F> {
    fn create(&self, entry: &Path) -> io::Result<()> {
        F::create(self, entry)
    }

    fn write(&self, attribute: &Path, bytes: &[u8]) -> io::Result<()> {
        F::write(self, attribute, bytes)
    }

    fn read(&self, attribute: &Path) -> io::Result<Vec<u8>> {
        F::read(self, attribute)
    }

    fn remove(&self, entry: &Path) -> io::Result<()> {
        F::remove(self, entry)
    }
}
