//! Hashes a model file and keeps hold of exactly the file that was hashed.

use std::fs::{File, Metadata};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use sha2::Digest;

use crate::fault::EngineFault;
use crate::preset::Sha256;

const CHUNK_BYTES: usize = 1 << 20;

/// A model file that was read to its end.
///
/// The open handle is kept, so that what is loaded is what was hashed even if the name
/// points to another file by then (see [`VerifiedFile::load_path`]).
#[derive(Debug)]
pub(crate) struct VerifiedFile {
    file: File,
    path: PathBuf,
    sha256: Sha256,
}

impl VerifiedFile {
    /// Hashes the file at `path`, and compares with `expected` where one is given.
    ///
    /// The file is hashed at every start. A remembered verdict keyed by size, time and
    /// inode would not notice a write that restores the time, and hashing costs less than
    /// half a second for each gigabyte on a processor with SHA instructions.
    ///
    /// `progress` is told the bytes done and the bytes of the file, once a mebibyte; it
    /// answers `false` to give up, which ends in an interrupted [`EngineFault::ModelFile`].
    ///
    /// # Errors
    /// [`EngineFault::ModelFile`] if the file cannot be read (correct the path or the
    /// rights), [`EngineFault::WrongDigest`] if it is another file (get it again),
    /// [`EngineFault::ModelFileChanged`] if something writes to it.
    pub(crate) fn open(
        path: &Path,
        expected: Option<Sha256>,
        mut progress: impl FnMut(u64, u64) -> bool,
    ) -> Result<Self, EngineFault> {
        let unreadable =
            |source: io::Error| EngineFault::ModelFile { path: path.to_owned(), source };
        let mut file = File::open(path).map_err(unreadable)?;
        let before = file.metadata().map_err(unreadable)?;
        if !before.is_file() {
            return Err(unreadable(io::Error::other("it is not a regular file")));
        }
        let (sha256, read_bytes) =
            digest_of(&mut file, |done| progress(done, before.len())).map_err(unreadable)?;
        let after = file.metadata().map_err(unreadable)?;
        if read_bytes != before.len() || changed(&before, &after) {
            return Err(EngineFault::ModelFileChanged { path: path.to_owned() });
        }
        if let Some(expected) = expected.filter(|expected| *expected != sha256) {
            return Err(EngineFault::WrongDigest {
                path: path.to_owned(),
                expected,
                found: sha256,
            });
        }
        file.seek(SeekFrom::Start(0)).map_err(unreadable)?;
        Ok(Self { file, path: path.to_owned(), sha256 })
    }

    /// The hash of the file.
    #[must_use]
    pub(crate) const fn sha256(&self) -> Sha256 {
        self.sha256
    }

    /// The path that the operator gave.
    #[must_use]
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// A path that leads to the hashed file itself while `self` lives.
    ///
    /// On Linux it goes through the open handle, so that replacing the file under its name
    /// between hashing and loading changes nothing. Elsewhere it is the plain path.
    #[must_use]
    pub(crate) fn load_path(&self) -> PathBuf {
        #[cfg(target_os = "linux")]
        {
            use std::os::fd::AsRawFd;
            let through_handle = PathBuf::from(format!("/proc/self/fd/{}", self.file.as_raw_fd()));
            if through_handle.exists() {
                return through_handle;
            }
        }
        let _ = &self.file;
        self.path.clone()
    }
}

/// Hashes a reader to its end: the digest and the bytes read.
///
/// # Errors
/// What the reader says, or `Interrupted` when `progress` answers `false`.
pub(crate) fn digest_of(
    reader: &mut impl Read,
    mut progress: impl FnMut(u64) -> bool,
) -> io::Result<(Sha256, u64)> {
    let mut hasher = sha2::Sha256::new();
    let mut chunk = vec![0_u8; CHUNK_BYTES];
    let mut done_bytes = 0_u64;
    loop {
        let count = match reader.read(&mut chunk) {
            Ok(0) => break,
            Ok(count) => count,
            Err(fault) if fault.kind() == io::ErrorKind::Interrupted => continue,
            Err(fault) => return Err(fault),
        };
        hasher.update(chunk.get(..count).unwrap_or_default());
        done_bytes = done_bytes.saturating_add(u64::try_from(count).unwrap_or(u64::MAX));
        if !progress(done_bytes) {
            return Err(io::Error::new(io::ErrorKind::Interrupted, "hashing was given up"));
        }
    }
    Ok((Sha256::new(hasher.finalize().into()), done_bytes))
}

fn changed(before: &Metadata, after: &Metadata) -> bool {
    before.len() != after.len() || before.modified().ok() != after.modified().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::fs;

    /// FIPS 180-4's example "abc".
    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn a_right_file_is_opened_and_progress_ends_at_its_size() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("abc");
        fs::write(&path, "abc").unwrap();
        let mut last = (0, 0);
        let file = VerifiedFile::open(&path, Some(ABC.parse().unwrap()), |done, total| {
            last = (done, total);
            true
        })
        .unwrap();
        assert_eq!(last, (3, 3));
        assert_eq!(file.sha256().to_string(), ABC);
        fs::remove_file(&path).unwrap();
        fs::write(&path, "abd").unwrap();
        #[cfg(target_os = "linux")]
        assert_eq!(fs::read(file.load_path()).unwrap(), b"abc", "the replaced file is not seen");
    }

    #[test]
    fn a_wrong_file_is_refused_with_both_hashes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("abd");
        fs::write(&path, "abd").unwrap();
        let fault = VerifiedFile::open(&path, Some(ABC.parse().unwrap()), |_, _| true).unwrap_err();
        assert!(matches!(fault, EngineFault::WrongDigest { .. }), "{fault}");
        assert!(fault.to_string().contains(ABC), "{fault}");
    }

    #[test]
    fn missing_files_directories_and_giving_up_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let missing = VerifiedFile::open(&dir.path().join("no"), None, |_, _| true).unwrap_err();
        assert!(missing.to_string().contains("no"), "{missing}");
        assert!(VerifiedFile::open(dir.path(), None, |_, _| true).is_err());
        let path = dir.path().join("abc");
        fs::write(&path, "abc").unwrap();
        let given_up = VerifiedFile::open(&path, None, |_, _| false).unwrap_err();
        assert!(given_up.to_string().contains("given up"), "{given_up}");
    }

    proptest! {
        #[test]
        fn hashing_in_chunks_is_hashing_at_once(
            bytes in proptest::collection::vec(any::<u8>(), 0..4096),
        ) {
            let (digest, count) = digest_of(&mut bytes.as_slice(), |_| true).unwrap();
            let at_once: [u8; 32] = sha2::Sha256::digest(&bytes).into();
            prop_assert_eq!(digest.as_bytes(), &at_once);
            prop_assert_eq!(count, bytes.len() as u64);
        }
    }
}
