//! Proofs: parts of blocks and states from which their hashes can still be computed.

use tycho_types::boc::ser::BocHeader;
use tycho_types::cell::{Cell, CellBuilder, UsageTree, UsageTreeMode};
use tycho_types::error::Error;
use tycho_types::merkle::{FilterAction, MerkleFilter, MerkleProof};
use tycho_types::models::Block;
use tycho_types::prelude::HashBytes;

use crate::Fault;
use crate::block::SealedBlock;
use crate::fault::Doing as _;

/// Proves what `visit` reads of `root`: the cells it looks into stay, all others are pruned.
///
/// # Errors
/// [`Fault::Cells`] when `visit` fails or cells cannot be built.
pub fn prove<T>(
    root: &Cell,
    visit: impl FnOnce(Cell) -> Result<T, Error>,
) -> Result<(Cell, T), Fault> {
    let usage = UsageTree::new(UsageTreeMode::OnDataAccess);
    let found = visit(usage.track(root)).doing("reading what is to be proven")?;
    let proof = MerkleProof::create(root.as_ref(), usage).build();
    let proof = proof.and_then(CellBuilder::build_from).doing("building a proof")?;
    Ok((proof, found))
}

/// Proves a block's header and the hash of the state after it.
///
/// # Errors
/// As [`prove`].
pub fn prove_header(block: &SealedBlock) -> Result<Cell, Fault> {
    let visit = |root: Cell| read_header(&root);
    prove(&block.root, visit).map(|(proof, ())| proof)
}

/// Looks at what every proof of a block must show: header and state update.
///
/// # Errors
/// When the cells are no block.
pub fn read_header(root: &Cell) -> Result<(), Error> {
    let block = root.parse::<Block>()?;
    let info = block.load_info()?;
    info.load_prev_ref()?;
    info.load_master_ref()?;
    block.load_state_update()?;
    Ok(())
}

/// The whole tree as a proof, nothing pruned.
///
/// # Errors
/// As [`prove`].
pub fn prove_whole(root: &Cell) -> Result<Cell, Fault> {
    struct Everything;
    impl MerkleFilter for Everything {
        fn check(&self, _: &HashBytes) -> FilterAction {
            FilterAction::IncludeSubtree
        }
    }
    let proof = MerkleProof::create(root.as_ref(), Everything).build();
    proof.and_then(CellBuilder::build_from).doing("building a proof")
}

/// Several trees of cells in one bag, in order.
#[must_use]
pub fn bag_of(roots: &[Cell]) -> Vec<u8> {
    let mut header: BocHeader<'_> = BocHeader::with_capacity(roots.len());
    for root in roots {
        header.add_root(root.as_ref());
    }
    let mut bytes = Vec::new();
    header.encode(&mut bytes);
    bytes
}
