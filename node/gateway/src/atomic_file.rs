//! Files that are replaced at once.

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

/// Replaces a file at once: a crash leaves the old or the new one, and the new one is on the disk,
/// under its name, when this returns. Only the owner may read it.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let beside = path.with_extension("new");
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    drop(file);
    fs::rename(&beside, path)?;
    match path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        // The name is part of the folder.
        Some(folder) => fs::File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}
