//! Code cells: our own compiled contracts, and codes known by hash and depth.

use crate::cell::{Cell, CellId};
use crate::{Fault, boc};

/// The code of one contract: the cell, or only what an address needs of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Code {
    id: CellId,
    cell: Option<Cell>,
}

impl Code {
    /// A code known by representation hash and depth. Enough for every address, not for a
    /// deployment.
    #[must_use]
    pub fn from_id(id: CellId) -> Self {
        Self { id, cell: None }
    }

    /// Hash and depth.
    #[must_use]
    pub fn id(&self) -> CellId {
        self.id
    }

    /// The cell, when it is at hand.
    #[must_use]
    pub fn cell(&self) -> Option<&Cell> {
        self.cell.as_ref()
    }

    /// The cell, for a deployment.
    ///
    /// # Errors
    /// [`Fault::CodeIsHashOnly`]: load the code from the chain first.
    pub fn require_cell(&self, role: &'static str) -> Result<Cell, Fault> {
        self.cell.clone().ok_or(Fault::CodeIsHashOnly { role, hash: self.id.hash })
    }
}

impl From<Cell> for Code {
    fn from(cell: Cell) -> Self {
        Self { id: CellId::of(&cell), cell: Some(cell) }
    }
}

/// The codes of the three working contracts, as the root's parameters hold them.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Codes {
    /// Proxy contract.
    pub proxy: Option<Code>,
    /// Worker contract.
    pub worker: Option<Code>,
    /// Client contract.
    pub client: Option<Code>,
}

impl Codes {
    /// Our own contracts.
    ///
    /// # Errors
    /// [`Fault::Boc`] when an embedded file is damaged: a bug of the build.
    pub fn ours() -> Result<Self, Fault> {
        Ok(Self {
            proxy: Some(proxy()?.into()),
            worker: Some(worker()?.into()),
            client: Some(client()?.into()),
        })
    }

    /// The proxy code.
    ///
    /// # Errors
    /// [`Fault::NoCode`] when the parameters hold none.
    pub fn require_proxy(&self) -> Result<&Code, Fault> {
        self.proxy.as_ref().ok_or(Fault::NoCode { role: "proxy" })
    }

    /// The worker code.
    ///
    /// # Errors
    /// [`Fault::NoCode`] when the parameters hold none.
    pub fn require_worker(&self) -> Result<&Code, Fault> {
        self.worker.as_ref().ok_or(Fault::NoCode { role: "worker" })
    }

    /// The client code.
    ///
    /// # Errors
    /// [`Fault::NoCode`] when the parameters hold none.
    pub fn require_client(&self) -> Result<&Code, Fault> {
        self.client.as_ref().ok_or(Fault::NoCode { role: "client" })
    }
}

macro_rules! embedded {
    ($($(#[$doc:meta])* $name:ident = $file:literal;)*) => {$(
        $(#[$doc])*
        ///
        /// # Errors
        /// [`Fault::Boc`] when the embedded file is damaged: a bug of the build.
        pub fn $name() -> Result<Cell, Fault> {
            boc::decode(
                include_bytes!(concat!("../../../contracts/compiled/", $file)),
                boc::Limits::STATE,
            )
        }
    )*};
}

embedded! {
    /// Our compiled root contract.
    root = "root.boc";
    /// Our compiled proxy contract.
    proxy = "proxy.boc";
    /// Our compiled client contract.
    client = "client.boc";
    /// Our compiled worker contract.
    worker = "worker.boc";
    /// Our compiled Cocoon wallet.
    wallet = "wallet.boc";
    /// Our compiled timelock.
    timelock = "timelock.boc";
}
