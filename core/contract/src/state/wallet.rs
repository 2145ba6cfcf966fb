//! What a Cocoon wallet stores.

use cocoon_units::{Address, PublicKey};

use crate::Fault;
use crate::cell::{Cell, CellId, Reader, Writer};

const WHAT: &str = "wallet";

/// What a Cocoon wallet stores (protocol notes 2.7).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WalletState {
    /// The sequence number the next order must carry.
    pub seqno: u32,
    /// Always 0 in this network.
    pub subwallet: u32,
    /// The key that signs orders.
    pub public_key: PublicKey,
    /// Blocked by its owner: no order is accepted.
    pub is_blocked: bool,
    /// Who can pull everything out.
    pub owner: Address,
}

impl WalletState {
    /// The state a wallet is deployed with.
    #[must_use]
    pub fn initial(owner: Address, public_key: PublicKey) -> Self {
        Self { seqno: 0, subwallet: 0, public_key, is_blocked: false, owner }
    }

    /// Reads the data cell.
    ///
    /// # Errors
    /// A [`Fault`] when the cell is not a Cocoon wallet's data.
    pub fn parse(cell: &Cell) -> Result<Self, Fault> {
        let mut reader = Reader::new(WHAT, cell)?;
        let state = Self {
            seqno: reader.u32()?,
            subwallet: reader.u32()?,
            public_key: reader.public_key()?,
            is_blocked: reader.u32()? & 1 != 0,
            owner: reader.address()?,
        };
        reader.end()?;
        Ok(state)
    }

    /// Builds the data cell.
    ///
    /// # Errors
    /// None in practice; the fields always fit.
    pub fn cell(&self) -> Result<Cell, Fault> {
        self.fields().build()
    }

    /// The identity of the data cell.
    ///
    /// # Errors
    /// None in practice; the fields always fit.
    pub fn id(&self) -> Result<CellId, Fault> {
        self.fields().identify(&[])
    }

    fn fields(&self) -> Writer {
        Writer::new(WHAT)
            .u32(self.seqno)
            .u32(self.subwallet)
            .public_key(&self.public_key)
            .u32(u32::from(self.is_blocked))
            .address(&self.owner)
    }
}
