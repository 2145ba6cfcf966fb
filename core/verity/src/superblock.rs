//! The superblock in front of a hash tree (cryptsetup, "DMVerity", version 1).

use crate::fault::TreeFault;
use crate::shape::BLOCK_BYTES;

/// Bytes of the superblock; the rest of its block is zero.
pub const SUPERBLOCK_BYTES: usize = 512;
/// Longest salt, bytes.
const SALT_BYTES_MAX: usize = 256;

/// Salt of the trees of models (protocol notes, wire 6.3): 17 bytes, exactly so.
pub const MODEL_SALT: [u8; 17] = [
    0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x10, 0x1a, 0x1b, 0x1c, 0x1d, 0x1e,
    0x1f,
];
/// Name of the trees of models (protocol notes, wire 6.3). It is not part of the root.
pub const MODEL_UUID: [u8; 16] = [
    0x64, 0x5a, 0xc3, 0x1f, 0x76, 0x10, 0x42, 0xe1, 0x84, 0x34, 0x9d, 0x73, 0x36, 0x99, 0xea, 0xc0,
];

/// What is hashed before each block, at most 256 bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Salt(Vec<u8>);

impl Salt {
    /// Takes at most 256 bytes.
    ///
    /// # Errors
    /// [`TreeFault::Superblock`]: it is longer.
    pub fn new(bytes: &[u8]) -> Result<Self, TreeFault> {
        if bytes.len() > SALT_BYTES_MAX {
            return Err(TreeFault::Superblock { what: "its salt is longer than 256 bytes" });
        }
        Ok(Self(bytes.to_vec()))
    }

    /// The salt of models.
    #[must_use]
    pub fn of_models() -> Self {
        Self(MODEL_SALT.to_vec())
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// The superblock: SHA-256, blocks of 4096 bytes on both sides, hash type 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Superblock {
    /// Name of the tree; any 16 bytes.
    pub uuid: [u8; 16],
    /// Blocks of data.
    pub data_blocks: u64,
    /// The salt.
    pub salt: Salt,
}

impl Superblock {
    /// The superblock of a model's tree.
    #[must_use]
    pub fn of_model(data_blocks: u64) -> Self {
        Self { uuid: MODEL_UUID, data_blocks, salt: Salt::of_models() }
    }

    /// Writes its whole block.
    #[must_use]
    pub fn encode(&self) -> [u8; BLOCK_BYTES] {
        let mut bytes = [0; BLOCK_BYTES];
        let mut at = 0;
        let mut put = |field: &[u8], width: usize| {
            if let Some(place) = bytes.get_mut(at..at + field.len()) {
                place.copy_from_slice(field);
            }
            at += width;
        };
        put(b"verity\0\0", 8);
        put(&1u32.to_le_bytes(), 4);
        put(&1u32.to_le_bytes(), 4);
        put(&self.uuid, 16);
        put(b"sha256", 32);
        put(&(BLOCK_BYTES as u32).to_le_bytes(), 4);
        put(&(BLOCK_BYTES as u32).to_le_bytes(), 4);
        put(&self.data_blocks.to_le_bytes(), 8);
        put(&(self.salt.0.len() as u16).to_le_bytes(), 8);
        put(&self.salt.0, SALT_BYTES_MAX);
        bytes
    }

    /// Reads a superblock from the first [`SUPERBLOCK_BYTES`] of a hash file.
    ///
    /// # Errors
    /// [`TreeFault::Superblock`] for another version, algorithm or block size: the file is no
    /// tree of a model.
    pub fn decode(bytes: &[u8]) -> Result<Self, TreeFault> {
        let wrong = |what| Err(TreeFault::Superblock { what });
        let Some(bytes) = bytes.first_chunk::<SUPERBLOCK_BYTES>() else {
            return wrong("it is cut short");
        };
        let u32_at = |at: usize| match bytes.get(at..at + 4) {
            Some([a, b, c, d]) => u32::from_le_bytes([*a, *b, *c, *d]),
            _ => 0,
        };
        if !bytes.starts_with(b"verity\0\0") {
            return wrong("there is none");
        }
        if (u32_at(8), u32_at(12)) != (1, 1) {
            return wrong("it is not of version 1 and hash type 1");
        }
        if bytes.get(32..64) != Some(&padded::<32>(b"sha256")[..]) {
            return wrong("its algorithm is not sha256");
        }
        if (u32_at(64), u32_at(68)) != (BLOCK_BYTES as u32, BLOCK_BYTES as u32) {
            return wrong("its blocks are not of 4096 bytes");
        }
        let data_blocks = u64::from(u32_at(72)) | u64::from(u32_at(76)) << 32;
        let salt_bytes = (u32_at(80) & 0xffff) as usize;
        let Some(salt) = bytes.get(88..88 + SALT_BYTES_MAX).and_then(|all| all.get(..salt_bytes))
        else {
            return wrong("its salt is longer than 256 bytes");
        };
        let uuid = bytes.get(16..).and_then(|rest| rest.first_chunk()).copied();
        Ok(Self { uuid: uuid.unwrap_or_default(), data_blocks, salt: Salt(salt.to_vec()) })
    }
}

fn padded<const N: usize>(text: &[u8]) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.iter_mut().zip(text).for_each(|(to, from)| *to = *from);
    bytes
}
