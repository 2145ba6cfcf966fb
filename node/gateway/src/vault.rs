//! Files encrypted at rest: XChaCha20-Poly1305, frame by frame.
//!
//! A file is a row of frames, each `length u32 LE ‖ nonce 24 ‖ ciphertext`, bound to the file's
//! name and the frame's place. A frame that a crash cut short at the end is ignored and later
//! overwritten; any other damage is told.

use std::fs::{self, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use rand::RngCore as _;

/// Bytes before a frame's ciphertext.
const HEAD_BYTES: usize = 4 + 24;

/// Largest frame, bytes.
const FRAME_BYTES: usize = 64 * 1024 * 1024;

/// Why a folder of encrypted files cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum VaultFault {
    /// The folder or a file cannot be read or written: check path, permissions and space.
    #[error("cannot use {path}, where the gateway keeps data: {reason}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        reason: io::Error,
    },
    /// A file was changed, or the key is another one.
    #[error("the file {name:?} of the gateway's data is damaged or its key is wrong: {reason}")]
    Damaged {
        /// The file's name in the folder.
        name: String,
        /// What does not fit.
        reason: String,
    },
}

/// A folder of encrypted files.
pub(crate) struct Vault {
    folder: PathBuf,
    cipher: XChaCha20Poly1305,
}

impl std::fmt::Debug for Vault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Vault").field("folder", &self.folder).finish_non_exhaustive()
    }
}

impl Vault {
    /// Opens a folder; makes it and its key when they are missing.
    pub(crate) fn open(folder: &Path, key_file: Option<&Path>) -> Result<Arc<Vault>, VaultFault> {
        let key_path = key_file.map_or_else(|| folder.join("key"), Path::to_path_buf);
        let fault = |path: &Path| {
            let path = path.to_path_buf();
            move |reason| VaultFault::File { path, reason }
        };
        fs::create_dir_all(folder).map_err(fault(folder))?;
        let key = match fs::read(&key_path) {
            Ok(key) => key,
            Err(reason) if reason.kind() == io::ErrorKind::NotFound => {
                let mut key = vec![0; 32];
                rand::rngs::OsRng.fill_bytes(&mut key);
                crate::atomic_file::replace(&key_path, &key).map_err(fault(&key_path))?;
                key
            }
            Err(reason) => return Err(fault(&key_path)(reason)),
        };
        let cipher = XChaCha20Poly1305::new_from_slice(&key).map_err(|_| VaultFault::Damaged {
            name: "key".to_owned(),
            reason: format!("it has {} bytes instead of 32", key.len()),
        })?;
        Ok(Arc::new(Vault { folder: folder.to_path_buf(), cipher }))
    }

    /// All whole frames of a file; none when there is no file.
    pub(crate) fn read(&self, name: &str) -> Result<Vec<Vec<u8>>, VaultFault> {
        let mut frames = Vec::new();
        self.scan(name, |frame| frames.push(frame))?;
        Ok(frames)
    }

    /// Writes a file of one frame, at once.
    pub(crate) fn replace(&self, name: &str, content: &[u8]) -> Result<(), VaultFault> {
        let path = self.folder.join(name);
        let frame = self.seal(name, 0, content)?;
        crate::atomic_file::replace(&path, &frame)
            .map_err(|reason| VaultFault::File { path, reason })
    }

    /// Opens a file to add frames behind its last whole one; hands out those it has.
    pub(crate) fn append(
        self: &Arc<Vault>,
        name: &str,
        seen: impl FnMut(Vec<u8>),
    ) -> Result<Appender, VaultFault> {
        let (frames, bytes) = self.scan(name, seen)?;
        let path = self.folder.join(name);
        let open = || -> io::Result<fs::File> {
            let mut file =
                OpenOptions::new().create(true).truncate(false).write(true).open(&path)?;
            file.set_len(bytes)?;
            file.seek(io::SeekFrom::End(0))?;
            Ok(file)
        };
        let file = open().map_err(|reason| VaultFault::File { path: path.clone(), reason })?;
        Ok(Appender { vault: self.clone(), name: name.to_owned(), file, next: frames })
    }

    /// Names of the whole files that begin so, in no order.
    pub(crate) fn names(&self, prefix: &str) -> Result<Vec<String>, VaultFault> {
        let fault = |reason| VaultFault::File { path: self.folder.clone(), reason };
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.folder).map_err(fault)? {
            let name = entry.map_err(fault)?.file_name();
            // What a crash left of a file that was being replaced has a suffix.
            let name = name.to_str().filter(|name| name.starts_with(prefix) && !name.contains('.'));
            names.extend(name.map(str::to_owned));
        }
        Ok(names)
    }

    /// Length of a file's content; 0 when it cannot be read.
    pub(crate) fn content_bytes(&self, name: &str) -> u64 {
        let mut bytes = 0;
        let counted = self.scan(name, |frame| bytes += frame.len() as u64);
        counted.map_or(0, |_| bytes)
    }

    /// Removes a file; one that is not there is removed already.
    pub(crate) fn remove(&self, name: &str) -> Result<(), VaultFault> {
        let path = self.folder.join(name);
        match fs::remove_file(&path) {
            Err(reason) if reason.kind() != io::ErrorKind::NotFound => {
                Err(VaultFault::File { path, reason })
            }
            _ => Ok(()),
        }
    }

    /// Hands out the whole frames; returns their number and bytes.
    fn scan(&self, name: &str, mut seen: impl FnMut(Vec<u8>)) -> Result<(u64, u64), VaultFault> {
        let path = self.folder.join(name);
        let mut bytes = Vec::new();
        match fs::File::open(&path).and_then(|mut file| file.read_to_end(&mut bytes)) {
            Ok(_) => {}
            Err(reason) if reason.kind() == io::ErrorKind::NotFound => return Ok((0, 0)),
            Err(reason) => return Err(VaultFault::File { path, reason }),
        }
        let (mut frames, mut rest) = (0, bytes.as_slice());
        while let Some((frame, behind)) = split_frame(rest) {
            seen(self.unseal(name, frames, frame)?);
            frames += 1;
            rest = behind;
        }
        Ok((frames, (bytes.len() - rest.len()) as u64))
    }

    fn seal(&self, name: &str, place: u64, content: &[u8]) -> Result<Vec<u8>, VaultFault> {
        let mut nonce = [0; 24];
        rand::rngs::OsRng.fill_bytes(&mut nonce);
        let aad = bound_to(name, place);
        let payload = Payload { msg: content, aad: &aad };
        let sealed = self.cipher.encrypt(XNonce::from_slice(&nonce), payload);
        let too_long = || VaultFault::Damaged {
            name: name.to_owned(),
            reason: format!("a frame of {} bytes is too long", content.len()),
        };
        let sealed = sealed.map_err(|_| too_long())?;
        let length = u32::try_from(sealed.len()).map_err(|_| too_long())?;
        if sealed.len() > FRAME_BYTES {
            return Err(too_long());
        }
        Ok([&length.to_le_bytes()[..], &nonce, &sealed].concat())
    }

    fn unseal(&self, name: &str, place: u64, frame: &[u8]) -> Result<Vec<u8>, VaultFault> {
        let aad = bound_to(name, place);
        let (nonce, sealed) = frame.split_at_checked(24).unwrap_or_default();
        let opened = (nonce.len() == 24).then(|| {
            let payload = Payload { msg: sealed, aad: &aad };
            self.cipher.decrypt(XNonce::from_slice(nonce), payload).ok()
        });
        opened.flatten().ok_or_else(|| VaultFault::Damaged {
            name: name.to_owned(),
            reason: format!("frame {place} does not open"),
        })
    }
}

/// A file that frames are added to.
pub(crate) struct Appender {
    vault: Arc<Vault>,
    name: String,
    file: fs::File,
    next: u64,
}

impl Appender {
    /// Adds a frame. It is on the disk when this returns.
    pub(crate) fn push(&mut self, content: &[u8]) -> Result<(), VaultFault> {
        let frame = self.vault.seal(&self.name, self.next, content)?;
        let write = |file: &mut fs::File| file.write_all(&frame).and_then(|()| file.sync_data());
        write(&mut self.file).map_err(|reason| VaultFault::File {
            path: self.vault.folder.join(&self.name),
            reason,
        })?;
        self.next += 1;
        Ok(())
    }
}

/// Nonce and ciphertext of the first frame, and what follows; `None` when it is not whole.
fn split_frame(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let length = u32::from_le_bytes(*length) as usize;
    if length > FRAME_BYTES {
        return None;
    }
    rest.split_at_checked(length + HEAD_BYTES - 4)
}

fn bound_to(name: &str, place: u64) -> Vec<u8> {
    [name.as_bytes(), &place.to_le_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_back_and_nothing_is_readable() {
        let folder = tempfile::tempdir().unwrap();
        let vault = Vault::open(folder.path(), None).unwrap();
        let mut file = vault.append("out", |_| panic!("empty")).unwrap();
        file.push(b"a secret").unwrap();
        file.push(b"another").unwrap();
        let path = folder.path().join("out");
        let bytes = fs::read(&path).unwrap();
        assert!(!bytes.windows(6).any(|text| text == b"secret"));
        // A crash within the third frame.
        fs::write(&path, [&bytes[..], &[200, 0, 0, 0, 1, 2]].concat()).unwrap();
        let again = Vault::open(folder.path(), None).unwrap();
        let mut seen = Vec::new();
        let mut file = again.append("out", |frame| seen.push(frame)).unwrap();
        file.push(b"third").unwrap();
        assert_eq!(seen, [&b"a secret"[..], b"another"]);
        assert_eq!(again.read("out").unwrap().len(), 3);
        again.replace("book", b"whole").unwrap();
        assert_eq!(again.read("book").unwrap(), [b"whole"]);
    }

    #[test]
    fn damage_and_exchange_are_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let vault = Vault::open(folder.path(), None).unwrap();
        vault.replace("a", b"x").unwrap();
        fs::copy(folder.path().join("a"), folder.path().join("b")).unwrap();
        assert!(matches!(vault.read("b"), Err(VaultFault::Damaged { .. })));
        let path = folder.path().join("a");
        let mut bytes = fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&path, bytes).unwrap();
        assert!(matches!(vault.read("a"), Err(VaultFault::Damaged { .. })));
        vault.remove("a").unwrap();
        vault.remove("a").unwrap();
        assert!(vault.read("a").unwrap().is_empty());
        fs::write(folder.path().join("key"), b"short").unwrap();
        assert!(matches!(Vault::open(folder.path(), None), Err(VaultFault::Damaged { .. })));
    }
}
