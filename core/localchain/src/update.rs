//! The difference of two trees of cells as a Merkle update.

use std::collections::{BTreeMap, HashSet};

use tycho_types::cell::{DynCell, HashBytes, Lazy, LazyExotic};
use tycho_types::error::Error;
use tycho_types::merkle::MerkleUpdate;

/// What one side still has to look at, deepest cells first.
type Frontier<'a> = BTreeMap<(u16, HashBytes), &'a DynCell>;

/// Builds the update that turns `old` into `new`, with only what changed in full.
///
/// Both trees are walked from the deepest cells down. A cell can only lie below deeper ones, so
/// when both frontiers hold the same cell it is shared and its subtree needs no look: the cost
/// follows what changed, not the size of the state.
pub(crate) fn merkle_update(
    old: &DynCell,
    new: &DynCell,
) -> Result<LazyExotic<MerkleUpdate>, Error> {
    let mut known = HashSet::new();
    let mut left = Frontier::new();
    let mut right = Frontier::new();
    put(&mut left, old);
    put(&mut right, new);
    loop {
        let at_left = left.last_key_value().map(|(key, _)| *key);
        let at_right = right.last_key_value().map(|(key, _)| *key);
        if at_left.is_some() && at_left == at_right {
            left.pop_last();
            right.pop_last();
            known.extend(at_left.map(|(_, hash)| hash));
        } else if at_left > at_right {
            let Some(((_, hash), cell)) = left.pop_last() else { break };
            known.insert(hash);
            cell.references().for_each(|child| put(&mut left, child));
        } else {
            let Some((_, cell)) = right.pop_last() else { break };
            cell.references().for_each(|child| put(&mut right, child));
        }
    }
    let update = MerkleUpdate::create(old, new, known).build()?;
    Lazy::new(&update)
}

fn put<'a>(frontier: &mut Frontier<'a>, cell: &'a DynCell) {
    frontier.insert((cell.repr_depth(), *cell.repr_hash()), cell);
}
