//! The bytes of a segment: header, sealed frames, and reading them back. Pure.

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{ChaCha20Poly1305, Nonce};
use cocoon_units::Secret;
use hkdf::Hkdf;
use sha2::Sha256;

pub(crate) const FORMAT: u32 = 1;
const MAGIC: &[u8; 8] = b"COCOONJ\n";
pub(crate) const HEADER_LEN: usize = 8 + 4 + 8 + 16 + 4;
const FRAME_HEAD_LEN: usize = 4 + 8 + 4;
const TAG_LEN: usize = 16;
/// Largest plaintext of a frame, bytes.
pub(crate) const PLAIN_LEN_MAX: usize = 4 << 20;

/// The node's journal key: 32 bytes from the sealed-key provider.
pub struct JournalKey(Secret<[u8; 32]>);

impl JournalKey {
    /// Wraps the key.
    #[must_use]
    pub const fn new(key: Secret<[u8; 32]>) -> Self {
        Self(key)
    }
}

/// Header of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) generation: u64,
    pub(crate) salt: [u8; 16],
}

impl Header {
    pub(crate) fn encode(&self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..12].copy_from_slice(&FORMAT.to_le_bytes());
        bytes[12..20].copy_from_slice(&self.generation.to_le_bytes());
        bytes[20..36].copy_from_slice(&self.salt);
        let crc = crc32c::crc32c(&bytes[..36]);
        bytes[36..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Result<Self, HeaderFault> {
        let bytes: &[u8; HEADER_LEN] =
            bytes.get(..HEADER_LEN).and_then(|b| b.try_into().ok()).ok_or(HeaderFault::Foreign)?;
        let crc = u32::from_le_bytes([bytes[36], bytes[37], bytes[38], bytes[39]]);
        if &bytes[..8] != MAGIC || crc != crc32c::crc32c(&bytes[..36]) {
            return Err(HeaderFault::Foreign);
        }
        let format = u32::from_le_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]);
        if format != FORMAT {
            return Err(HeaderFault::Format(format));
        }
        let mut generation = [0; 8];
        generation.copy_from_slice(&bytes[12..20]);
        let mut salt = [0; 16];
        salt.copy_from_slice(&bytes[20..36]);
        Ok(Self { generation: u64::from_le_bytes(generation), salt })
    }
}

/// Why a header cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderFault {
    /// Not a segment, or altered.
    Foreign,
    /// Another format.
    Format(u32),
}

/// Seals and opens the frames of one segment.
pub(crate) struct Sealer {
    cipher: ChaCha20Poly1305,
    generation: u64,
}

impl Sealer {
    pub(crate) fn new(key: &JournalKey, header: &Header) -> Self {
        let mut derived = [0; 32];
        // 32 bytes is a valid HKDF-SHA256 output length, so expand cannot fail.
        let expanded = Hkdf::<Sha256>::new(Some(&header.salt), key.0.expose())
            .expand(b"cocoon.journal.segment.v1", &mut derived);
        debug_assert!(expanded.is_ok());
        Self { cipher: ChaCha20Poly1305::new(&derived.into()), generation: header.generation }
    }

    /// Appends a sealed frame to `out`. `plain` is at most [`PLAIN_LEN_MAX`].
    pub(crate) fn seal(&self, sequence: u64, plain: &[u8], out: &mut Vec<u8>) {
        let aad = self.generation.to_le_bytes();
        let Ok(cipher) = self.cipher.encrypt(&nonce(sequence), Payload { msg: plain, aad: &aad })
        else {
            // Only a plaintext beyond 256 GiB fails; callers cap it at PLAIN_LEN_MAX.
            return;
        };
        let start = out.len();
        out.extend_from_slice(&u32::try_from(cipher.len()).unwrap_or(u32::MAX).to_le_bytes());
        out.extend_from_slice(&sequence.to_le_bytes());
        let crc = crc32c::crc32c_append(crc32c::crc32c(&out[start..]), &cipher);
        out.extend_from_slice(&crc.to_le_bytes());
        out.extend_from_slice(&cipher);
    }

    /// Opens the frame at the start of `bytes`: its plaintext and its whole length.
    fn open(&self, sequence: u64, bytes: &[u8]) -> Option<(Vec<u8>, usize)> {
        let head = bytes.get(..FRAME_HEAD_LEN)?;
        let len = u32::from_le_bytes(head[..4].try_into().ok()?) as usize;
        if !(TAG_LEN..=PLAIN_LEN_MAX + TAG_LEN).contains(&len) {
            return None;
        }
        let cipher = bytes.get(FRAME_HEAD_LEN..FRAME_HEAD_LEN + len)?;
        let crc = u32::from_le_bytes(head[12..16].try_into().ok()?);
        let found = u64::from_le_bytes(head[4..12].try_into().ok()?);
        if found != sequence || crc != crc32c::crc32c_append(crc32c::crc32c(&head[..12]), cipher) {
            return None;
        }
        let aad = self.generation.to_le_bytes();
        let plain =
            self.cipher.decrypt(&nonce(sequence), Payload { msg: cipher, aad: &aad }).ok()?;
        Some((plain, FRAME_HEAD_LEN + len))
    }
}

/// Adds a record to the plaintext of a frame.
pub(crate) fn push_record(plain: &mut Vec<u8>, record: &[u8]) {
    plain.extend_from_slice(&u32::try_from(record.len()).unwrap_or(u32::MAX).to_le_bytes());
    plain.extend_from_slice(record);
}

/// What a segment holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Decoded {
    /// Its generation.
    pub generation: u64,
    /// Good records in order, snapshot first.
    pub records: Vec<Vec<u8>>,
    /// Bytes used by good frames, header included.
    pub good_len: u64,
    /// Whether anything but zeros follows the good frames: an unfinished write.
    pub torn: bool,
    /// Whether a good frame stands behind a bad one: damage, not an unfinished write.
    pub damaged: bool,
}

/// Reads a whole segment. Never panics, whatever the bytes.
///
/// # Errors
/// [`HeaderFault`]: not a segment of this key or version; nothing can be read.
pub fn decode_segment(key: &JournalKey, bytes: &[u8]) -> Result<Decoded, HeaderFault> {
    let header = Header::decode(bytes)?;
    let sealer = Sealer::new(key, &header);
    let mut decoded = Decoded { generation: header.generation, ..Decoded::default() };
    let mut offset = HEADER_LEN;
    let mut sequence = 0;
    while let Some((plain, len)) = sealer.open(sequence, &bytes[offset..]) {
        split_records(&plain, &mut decoded.records);
        offset += len;
        sequence += 1;
    }
    decoded.good_len = offset as u64;
    let rest = &bytes[offset..];
    decoded.torn = rest.iter().any(|byte| *byte != 0);
    decoded.damaged = decoded.torn && has_frame_behind(&sealer, sequence, rest);
    Ok(decoded)
}

/// Looks for a good frame with one of the next sequence numbers behind a bad one. The sequence
/// number in the frame head makes a candidate cheap to rule out.
fn has_frame_behind(sealer: &Sealer, sequence: u64, rest: &[u8]) -> bool {
    (1..rest.len().saturating_sub(FRAME_HEAD_LEN)).any(|at| {
        let Some(head) = rest[at..].get(4..12) else {
            return false;
        };
        let found = head.try_into().map_or(0, u64::from_le_bytes);
        (sequence..sequence + 1024).contains(&found) && sealer.open(found, &rest[at..]).is_some()
    })
}

fn split_records(mut plain: &[u8], records: &mut Vec<Vec<u8>>) {
    while let Some((head, rest)) = plain.split_first_chunk::<4>() {
        let Some((record, rest)) = rest.split_at_checked(u32::from_le_bytes(*head) as usize) else {
            return;
        };
        records.push(record.to_vec());
        plain = rest;
    }
}

fn nonce(sequence: u64) -> Nonce {
    let mut bytes = [0; 12];
    bytes[..8].copy_from_slice(&sequence.to_le_bytes());
    Nonce::from(bytes)
}
