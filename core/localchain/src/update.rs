//! The difference of two trees of cells as a Merkle update.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};

use tycho_types::cell::{DynCell, HashBytes, Lazy, LazyExotic};
use tycho_types::error::Error;
use tycho_types::merkle::MerkleUpdate;

/// Builds the update that turns `old` into `new`, with only what changed in full.
///
/// Both trees are walked from the deepest cells down. A cell can only lie below deeper ones, so
/// when both walks come upon the same cell it is shared and its subtree needs no look: the cost
/// follows what changed, not the size of the state.
pub(crate) fn merkle_update(
    old: &DynCell,
    new: &DynCell,
) -> Result<LazyExotic<MerkleUpdate>, Error> {
    let mut known = HashSet::<HashBytes, CellHash>::default();
    let mut left = Walk::from(old);
    let mut right = Walk::from(new);
    for depth in (0..=usize::from(old.repr_depth().max(new.repr_depth()))).rev() {
        let (mine, theirs) = (left.take(depth), right.take(depth));
        for (hash, &cell) in &mine {
            known.insert(*hash);
            if !theirs.contains_key(hash) {
                left.put_children(cell);
            }
        }
        for (hash, &cell) in &theirs {
            if !mine.contains_key(hash) {
                right.put_children(cell);
            }
        }
    }
    let update = MerkleUpdate::create(old, new, known).build()?;
    Lazy::new(&update)
}

type Level<'a> = HashMap<HashBytes, &'a DynCell, CellHash>;

/// What one side still has to look at, by depth.
struct Walk<'a>(Vec<Level<'a>>);

impl<'a> Walk<'a> {
    fn from(root: &'a DynCell) -> Self {
        let mut walk = Self(Vec::new());
        walk.put(root);
        walk
    }

    fn put(&mut self, cell: &'a DynCell) {
        let depth = usize::from(cell.repr_depth());
        if self.0.len() <= depth {
            self.0.resize_with(depth + 1, Level::default);
        }
        if let Some(level) = self.0.get_mut(depth) {
            level.insert(*cell.repr_hash(), cell);
        }
    }

    fn put_children(&mut self, cell: &'a DynCell) {
        cell.references().for_each(|child| self.put(child));
    }

    fn take(&mut self, depth: usize) -> Level<'a> {
        self.0.get_mut(depth).map(std::mem::take).unwrap_or_default()
    }
}

/// Hashes of cells are hashed already: their first bytes do.
pub(crate) type CellHash = BuildHasherDefault<FirstBytes>;

#[derive(Default)]
pub(crate) struct FirstBytes(u64);

impl Hasher for FirstBytes {
    fn write(&mut self, bytes: &[u8]) {
        let mut first = [0; 8];
        first.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
        self.0 ^= u64::from_le_bytes(first);
    }

    // The length that slices write before their bytes tells nothing here.
    fn write_usize(&mut self, _: usize) {}

    fn finish(&self) -> u64 {
        self.0
    }
}
