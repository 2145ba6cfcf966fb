//! The hash tree itself: built block by block, and checked block by block.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest as _, Sha256};

use crate::Block;
use crate::fault::TreeFault;
use crate::shape::{BLOCK_BYTES, Shape};
use crate::superblock::Salt;

/// The root of a hash tree: names every byte below it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Root(pub [u8; 32]);

impl fmt::Display for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Root({self})")
    }
}

impl FromStr for Root {
    type Err = TreeFault;

    /// Reads 64 hex digits.
    fn from_str(text: &str) -> Result<Self, TreeFault> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes)
            .map_err(|_| TreeFault::Superblock { what: "a root is 64 hex digits" })?;
        Ok(Self(bytes))
    }
}

/// A level that fills up.
struct Level {
    block: Box<Block>,
    /// Hashes in `block`.
    filled: usize,
    /// Blocks of this level that were written.
    written: u64,
}

/// Builds the tree while the data goes by. Keeps one block for each level.
pub struct TreeBuilder {
    shape: Shape,
    /// SHA-256 that has taken the salt.
    salted: Sha256,
    levels: Vec<Level>,
    taken: u64,
    last: [u8; 32],
}

impl fmt::Debug for TreeBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TreeBuilder")
            .field("shape", &self.shape)
            .field("taken", &self.taken)
            .finish()
    }
}

impl TreeBuilder {
    /// A tree of this shape.
    #[must_use]
    pub fn new(shape: Shape, salt: &Salt) -> Self {
        let level = |_| Level { block: Box::new([0; BLOCK_BYTES]), filled: 0, written: 0 };
        let levels = (0..shape.levels()).map(level).collect();
        let salted = Sha256::new().chain_update(salt.as_bytes());
        Self { shape, salted, levels, taken: 0, last: [0; 32] }
    }

    /// Takes the next block of data. `write` gets each hash block that is full, with the byte at
    /// which it stands in the file of the tree.
    ///
    /// # Errors
    /// [`TreeFault::Length`]: more blocks came than the shape has.
    pub fn push(
        &mut self,
        data: &Block,
        write: &mut impl FnMut(u64, &Block),
    ) -> Result<(), TreeFault> {
        let expected = self.shape.data_blocks();
        self.taken += 1;
        if self.taken > expected {
            return Err(TreeFault::Length { expected, found: self.taken });
        }
        let hash = self.hash(data);
        self.put(0, hash, write);
        Ok(())
    }

    /// The data is over: gives the root.
    ///
    /// # Errors
    /// [`TreeFault::Length`]: fewer blocks came than the shape has.
    pub fn finish(mut self, write: &mut impl FnMut(u64, &Block)) -> Result<Root, TreeFault> {
        let expected = self.shape.data_blocks();
        if self.taken != expected {
            return Err(TreeFault::Length { expected, found: self.taken });
        }
        for level in 0..self.levels.len() {
            if self.levels.get(level).is_some_and(|level| level.filled > 0) {
                self.flush(level, write);
            }
        }
        Ok(Root(self.last))
    }

    fn hash(&self, block: &Block) -> [u8; 32] {
        self.salted.clone().chain_update(block).finalize().into()
    }

    /// Puts a hash into a level; the hash of what lies above all levels is the root.
    fn put(&mut self, level: usize, hash: [u8; 32], write: &mut impl FnMut(u64, &Block)) {
        let Some(into) = self.levels.get_mut(level) else {
            self.last = hash;
            return;
        };
        let at = into.filled * 32;
        if let Some(place) = into.block.get_mut(at..at + 32) {
            place.copy_from_slice(&hash);
        }
        into.filled += 1;
        if into.filled * 32 == BLOCK_BYTES {
            self.flush(level, write);
        }
    }

    fn flush(&mut self, level: usize, write: &mut impl FnMut(u64, &Block)) {
        let Some(full) = self.levels.get_mut(level) else { return };
        let number = full.written;
        full.written += 1;
        full.filled = 0;
        let block = std::mem::replace(&mut full.block, Box::new([0; BLOCK_BYTES]));
        write(self.shape.offset(level, number), &block);
        let hash = self.hash(&block);
        self.put(level + 1, hash, write);
    }
}

/// Checks one block of data against the root, through the hash blocks above it, as the kernel
/// does when it reads. No node calls it: a worker hashes the whole of its model and watches the files,
/// and where blocks are read through dm-verity the kernel checks them. It is the other witness of
/// [`TreeBuilder`] in the laws, and for programs that read single blocks. `fetch` gets level and number
/// of a hash block and gives its bytes.
///
/// # Errors
/// [`TreeFault::Mismatch`]: do not use the block. What `fetch` says.
pub fn check_block<F: From<TreeFault>>(
    shape: &Shape,
    salt: &Salt,
    root: &Root,
    (number, data): (u64, &Block),
    fetch: &mut impl FnMut(usize, u64) -> Result<Block, F>,
) -> Result<(), F> {
    if number >= shape.data_blocks() {
        return Err(TreeFault::Mismatch { level: 0, block: number }.into());
    }
    let salted = Sha256::new().chain_update(salt.as_bytes());
    let hash_of =
        |block: &Block| -> [u8; 32] { salted.clone().chain_update(block).finalize().into() };
    let (mut hash, mut number) = (hash_of(data), number);
    for level in 0..shape.levels() {
        let (above, at) = Shape::place(number);
        let block = fetch(level, above)?;
        if block.get(at..at + 32) != Some(&hash[..]) {
            return Err(TreeFault::Mismatch { level, block: number }.into());
        }
        (hash, number) = (hash_of(&block), above);
    }
    if hash == root.0 {
        Ok(())
    } else {
        Err(TreeFault::Mismatch { level: shape.levels(), block: 0 }.into())
    }
}
