//! Bags of cells, read within limits.

use tycho_types::boc::Boc;
use tycho_types::boc::de::{BocHeader, Options};
use tycho_types::cell::{Cell, CellFamily as _};

use crate::Fault;

/// How much a bag of cells may hold before it is refused unread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most bytes of the bag.
    pub bytes: usize,
    /// Most distinct cells.
    pub cells: usize,
    /// Greatest depth of the root cell.
    pub depth: u16,
}

impl Limits {
    /// For a signed payment or another single message from a peer.
    pub const MESSAGE: Self = Self { bytes: 4096, cells: 32, depth: 16 };
    /// For the data of one contract, including the codes in its parameters.
    pub const STATE: Self = Self { bytes: 1 << 20, cells: 16_384, depth: 512 };
    /// For the root contract with its registry.
    pub const ROOT: Self = Self { bytes: 8 << 20, cells: 131_072, depth: 768 };
}

/// Reads a bag with exactly one root.
///
/// Every published form of the bag is read; cells of exotic types are refused, so that a
/// digest always covers the whole tree.
///
/// # Errors
/// [`Fault::Boc`] when the bytes are not such a bag or exceed `limits`.
pub fn decode(bytes: &[u8], limits: Limits) -> Result<Cell, Fault> {
    let refuse = |reason: String| Fault::Boc { reason };
    if bytes.len() > limits.bytes {
        return Err(refuse(format!("{} bytes, at most {}", bytes.len(), limits.bytes)));
    }
    let header = BocHeader::decode(bytes, &Options::exact(1)).map_err(|e| refuse(e.to_string()))?;
    if header.cells().len() > limits.cells {
        return Err(refuse(format!("{} cells, at most {}", header.cells().len(), limits.cells)));
    }
    // Bit 3 of the first descriptor byte marks an exotic cell (TON whitepaper, TVM 3.1.4).
    if header.cells().iter().any(|raw| raw.first().is_some_and(|d1| d1 & 0b1000 != 0)) {
        return Err(refuse("it holds an exotic cell".to_owned()));
    }
    let cells = header.finalize(Cell::empty_context()).map_err(|e| refuse(e.to_string()))?;
    let root = header
        .roots()
        .first()
        .and_then(|index| cells.get(*index))
        .ok_or_else(|| refuse("it has no root".to_owned()))?;
    if root.repr_depth() > limits.depth {
        return Err(refuse(format!("depth {}, at most {}", root.repr_depth(), limits.depth)));
    }
    Ok(root)
}

/// Writes a cell and all below it as a bag with one root.
#[must_use]
pub fn encode(cell: &Cell) -> Vec<u8> {
    Boc::encode(cell)
}
