//! Files encrypted at rest: XChaCha20-Poly1305, frame by frame.
//!
//! A file is a row of frames, each `length u32 LE ‖ nonce 24 ‖ ciphertext`, bound to the file's
//! name and the frame's place. A frame that a crash cut short at the end is ignored and later
//! overwritten; any other damage is told.

use std::fs::{self, OpenOptions};
use std::io::{self, BufReader, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use rand::RngCore as _;

/// Bytes of a frame's length and of its nonce.
const LENGTH_BYTES: usize = 4;
const NONCE_BYTES: usize = 24;

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
    /// For files that are small: a large one is read through [`Vault::frames`].
    pub(crate) fn read(self: &Arc<Self>, name: &str) -> Result<Vec<Vec<u8>>, VaultFault> {
        let Some(mut file) = self.frames(name)? else { return Ok(Vec::new()) };
        let mut frames = Vec::new();
        while let Some(frame) = file.next()? {
            frames.push(frame);
        }
        Ok(frames)
    }

    /// Writes a file of one frame, at once.
    pub(crate) fn replace(&self, name: &str, content: &[u8]) -> Result<(), VaultFault> {
        let path = self.folder.join(name);
        let frame = self.seal(name, 0, content)?;
        crate::atomic_file::replace(&path, &frame)
            .map_err(|reason| VaultFault::File { path, reason })
    }

    /// Opens a file to be read frame by frame; `None` when there is none. It can be read to its end
    /// even when it is removed meanwhile.
    pub(crate) fn frames(self: &Arc<Self>, name: &str) -> Result<Option<Frames>, VaultFault> {
        let path = self.folder.join(name);
        let opened = fs::File::open(&path).and_then(|file| {
            let left = file.metadata()?.len();
            Ok((BufReader::new(file), left))
        });
        let (file, left) = match opened {
            Ok(opened) => opened,
            Err(reason) if reason.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(reason) => return Err(VaultFault::File { path, reason }),
        };
        let vault = self.clone();
        Ok(Some(Frames { vault, name: name.to_owned(), file, left, next: 0, passed: 0 }))
    }

    /// Opens a file to add frames behind its last whole one; hands out those it has.
    pub(crate) fn append(
        self: &Arc<Vault>,
        name: &str,
        mut seen: impl FnMut(Vec<u8>),
    ) -> Result<Appender, VaultFault> {
        let (mut next, mut file_bytes, mut content_bytes) = (0, 0, 0);
        if let Some(mut frames) = self.frames(name)? {
            while let Some(frame) = frames.next()? {
                content_bytes += frame.len() as u64;
                seen(frame);
            }
            (next, file_bytes) = (frames.next, frames.passed);
        }
        let path = self.folder.join(name);
        let open = || -> io::Result<fs::File> {
            let mut options = OpenOptions::new();
            options.create(true).truncate(false).write(true);
            #[cfg(unix)]
            std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
            let mut file = options.open(&path)?;
            file.set_len(file_bytes)?;
            file.seek(io::SeekFrom::End(0))?;
            if file_bytes == 0 {
                // The name is part of the folder.
                fs::File::open(&self.folder)?.sync_all()?;
            }
            Ok(file)
        };
        let file = open().map_err(|reason| VaultFault::File { path: path.clone(), reason })?;
        let (vault, name) = (self.clone(), name.to_owned());
        Ok(Appender { vault, name, file, next, file_bytes, content_bytes, is_torn: false })
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

    fn seal(&self, name: &str, place: u64, content: &[u8]) -> Result<Vec<u8>, VaultFault> {
        let mut nonce = [0; NONCE_BYTES];
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
        let (nonce, sealed) = frame.split_at_checked(NONCE_BYTES).unwrap_or_default();
        let opened = (nonce.len() == NONCE_BYTES).then(|| {
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
    /// Bytes of the whole frames.
    file_bytes: u64,
    content_bytes: u64,
    /// Something of a frame may stand behind the whole ones.
    is_torn: bool,
}

impl Appender {
    /// Adds a frame. It is on the disk when this returns; after a fault the file is as before, and
    /// the frame may be pushed again.
    pub(crate) fn push(&mut self, content: &[u8]) -> Result<(), VaultFault> {
        let before = (self.next, self.file_bytes, self.content_bytes);
        let pushed = self.write(content).and_then(|()| self.sync());
        if pushed.is_err() {
            (self.next, self.file_bytes, self.content_bytes) = before;
            self.is_torn = true;
        }
        pushed
    }

    /// Adds a frame, on the disk after [`Appender::sync`].
    pub(crate) fn write(&mut self, content: &[u8]) -> Result<(), VaultFault> {
        let frame = self.vault.seal(&self.name, self.next, content)?;
        self.put(&frame).map_err(|reason| self.fault(reason))?;
        self.next += 1;
        self.file_bytes += frame.len() as u64;
        self.content_bytes += content.len() as u64;
        Ok(())
    }

    /// Writes behind the whole frames, over what is left of a torn one.
    fn put(&mut self, frame: &[u8]) -> io::Result<()> {
        if self.is_torn {
            self.file.set_len(self.file_bytes)?;
            self.file.seek(io::SeekFrom::End(0))?;
        }
        self.is_torn = true;
        self.file.write_all(frame)?;
        self.is_torn = false;
        Ok(())
    }

    /// Brings all frames to the disk.
    pub(crate) fn sync(&mut self) -> Result<(), VaultFault> {
        self.file.sync_data().map_err(|reason| self.fault(reason))
    }

    /// Bytes of all frames' contents.
    pub(crate) fn content_bytes(&self) -> u64 {
        self.content_bytes
    }

    fn fault(&self, reason: io::Error) -> VaultFault {
        VaultFault::File { path: self.vault.folder.join(&self.name), reason }
    }
}

/// A file that is read frame by frame.
pub(crate) struct Frames {
    vault: Arc<Vault>,
    name: String,
    file: BufReader<fs::File>,
    /// Bytes of the file behind the frames that were read.
    left: u64,
    /// The next frame's place.
    next: u64,
    /// Bytes of the file up to there.
    passed: u64,
}

impl Frames {
    /// The next whole frame's content; `None` at the end, and before a frame that a crash cut short.
    pub(crate) fn next(&mut self) -> Result<Option<Vec<u8>>, VaultFault> {
        let read = self.sealed().map_err(|reason| VaultFault::File {
            path: self.vault.folder.join(&self.name),
            reason,
        });
        let Some(sealed) = read? else { return Ok(None) };
        let content = self.vault.unseal(&self.name, self.next, &sealed)?;
        self.next += 1;
        self.passed += (sealed.len() + LENGTH_BYTES) as u64;
        Ok(Some(content))
    }

    /// The contents of the next frames, together at least so many bytes where there are; `None` at the
    /// end.
    pub(crate) fn next_bytes(&mut self, at_least: usize) -> Result<Option<Vec<u8>>, VaultFault> {
        let Some(mut bytes) = self.next()? else { return Ok(None) };
        while bytes.len() < at_least {
            let Some(more) = self.next()? else { break };
            bytes.extend_from_slice(&more);
        }
        Ok(Some(bytes))
    }

    /// Nonce and ciphertext of the next frame, if it is whole.
    fn sealed(&mut self) -> io::Result<Option<Vec<u8>>> {
        if self.left < LENGTH_BYTES as u64 {
            return Ok(None);
        }
        let mut length = [0; LENGTH_BYTES];
        self.file.read_exact(&mut length)?;
        self.left -= LENGTH_BYTES as u64;
        let length = u32::from_le_bytes(length) as usize;
        let bytes = length.saturating_add(NONCE_BYTES);
        if length > FRAME_BYTES || bytes as u64 > self.left {
            self.left = 0;
            return Ok(None);
        }
        let mut sealed = vec![0; bytes];
        self.file.read_exact(&mut sealed)?;
        self.left -= bytes as u64;
        Ok(Some(sealed))
    }
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
    fn a_file_is_read_piece_by_piece() {
        let folder = tempfile::tempdir().unwrap();
        let vault = Vault::open(folder.path(), None).unwrap();
        assert!(vault.frames("in").unwrap().is_none());
        let mut file = vault.append("in", |_| {}).unwrap();
        for piece in ["ab", "", "cde", "f"] {
            file.write(piece.as_bytes()).unwrap();
        }
        file.sync().unwrap();
        assert_eq!(file.content_bytes(), 6);
        assert_eq!(vault.append("in", |_| {}).unwrap().content_bytes(), 6);
        let mut frames = vault.frames("in").unwrap().unwrap();
        vault.remove("in").unwrap();
        assert_eq!(frames.next_bytes(3).unwrap().unwrap(), b"abcde");
        assert_eq!(frames.next_bytes(3).unwrap().unwrap(), b"f");
        assert!(frames.next_bytes(3).unwrap().is_none() && frames.next().unwrap().is_none());
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
