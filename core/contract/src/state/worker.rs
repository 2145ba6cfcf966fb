//! What a worker contract stores.

use cocoon_units::{Address, PublicKey, Tokens};

use super::Phase;
use crate::Fault;
use crate::cell::{Cell, CellId, Reader, Writer};

const WHAT: &str = "worker contract";

/// What a worker contract stores besides its parameters (protocol notes 2.5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerState {
    /// Whom the earnings belong to.
    pub owner: Address,
    /// The proxy contract that pays.
    pub proxy: Address,
    /// The proxy's key.
    pub public_key: PublicKey,
    /// Normal or closed.
    pub phase: Phase,
    /// Tokens paid out since the contract was deployed.
    pub tokens: Tokens,
}

impl WorkerState {
    /// The state a worker contract is deployed with.
    #[must_use]
    pub fn initial(owner: Address, proxy: Address, public_key: PublicKey) -> Self {
        Self { owner, proxy, public_key, phase: Phase::Normal, tokens: Tokens(0) }
    }

    /// Reads the data cell; the parameters cell comes along.
    ///
    /// # Errors
    /// A [`Fault`] when the cell is not a worker contract's data: ignore the account.
    pub fn parse(cell: &Cell) -> Result<(Self, Cell), Fault> {
        let mut reader = Reader::new(WHAT, cell)?;
        let state = Self {
            owner: reader.address()?,
            proxy: reader.address()?,
            public_key: reader.public_key()?,
            phase: Phase::read(WHAT, &mut reader)?,
            tokens: reader.tokens()?,
        };
        let params = reader.reference()?;
        reader.end()?;
        Ok((state, params))
    }

    /// Builds the data cell.
    ///
    /// # Errors
    /// [`Fault::Build`] when `params` is too deep.
    pub fn cell(&self, params: Cell) -> Result<Cell, Fault> {
        self.fields().reference(params).build()
    }

    /// The identity of the data cell.
    ///
    /// # Errors
    /// None in practice; the fields always fit.
    pub fn id(&self, params: CellId) -> Result<CellId, Fault> {
        self.fields().identify(&[params])
    }

    fn fields(&self) -> Writer {
        Writer::new(WHAT)
            .address(&self.owner)
            .address(&self.proxy)
            .public_key(&self.public_key)
            .uint(u64::from(self.phase.code()), 2)
            .tokens(self.tokens)
    }
}
