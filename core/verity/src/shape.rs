//! Where the levels of a hash tree lie.
//!
//! Source: Linux, `Documentation/admin-guide/device-mapper/verity.rst`; cryptsetup's
//! "DMVerity" format page. The first hash block stands behind the superblock's block; the level
//! next to the root comes first, the one over the data last.

use crate::fault::TreeFault;

/// Bytes of a block, of data and of hashes.
pub const BLOCK_BYTES: usize = 4096;
/// Hashes in one block.
const HASHES_PER_BLOCK: u64 = 128;
/// Most levels: 128^9 blocks of 4096 bytes pass what 64 bits count.
const LEVELS_MAX: usize = 9;

/// The levels of the tree over a number of blocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape {
    data_blocks: u64,
    /// Hash blocks of each level, the one over the data first.
    levels: Vec<u64>,
}

impl Shape {
    /// The tree over `data_blocks` blocks.
    ///
    /// # Errors
    /// [`TreeFault::Blocks`] for none, or for more than 2^51 (the bytes would not be counted).
    pub fn new(data_blocks: u64) -> Result<Self, TreeFault> {
        if data_blocks == 0 || data_blocks > 1 << 51 {
            return Err(TreeFault::Blocks { blocks: data_blocks });
        }
        let mut levels = Vec::with_capacity(LEVELS_MAX);
        let mut below = data_blocks;
        while below > 1 {
            below = below.div_ceil(HASHES_PER_BLOCK);
            levels.push(below);
        }
        Ok(Self { data_blocks, levels })
    }

    /// Blocks of data.
    #[must_use]
    pub const fn data_blocks(&self) -> u64 {
        self.data_blocks
    }

    /// Levels of hash blocks; none over a single block of data.
    #[must_use]
    pub fn levels(&self) -> usize {
        self.levels.len()
    }

    /// Hash blocks of `level`, 0 being the one over the data.
    #[must_use]
    pub fn blocks_of(&self, level: usize) -> u64 {
        self.levels.get(level).copied().unwrap_or(0)
    }

    /// Byte at which a hash block stands in a file that begins with the superblock.
    #[must_use]
    pub fn offset(&self, level: usize, block: u64) -> u64 {
        let above: u64 = self.levels.iter().skip(level + 1).sum();
        (1 + above + block) * BLOCK_BYTES as u64
    }

    /// Bytes of a file with superblock and tree.
    #[must_use]
    pub fn file_bytes(&self) -> u64 {
        (1 + self.levels.iter().sum::<u64>()) * BLOCK_BYTES as u64
    }

    /// In which hash block of the level above, and where in it, the hash of `block` stands.
    pub(crate) const fn place(block: u64) -> (u64, usize) {
        (block / HASHES_PER_BLOCK, (block % HASHES_PER_BLOCK) as usize * 32)
    }
}
