//! What a proxy contract stores.

use cocoon_units::{Address, Nanoton, PublicKey};

use super::Phase;
use crate::Fault;
use crate::cell::{Cell, CellId, Reader, Writer};

const WHAT: &str = "proxy contract";

/// What a proxy contract stores besides its parameters (protocol notes 2.4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyState {
    /// Whom the proxy's earnings and stake belong to.
    pub owner: Address,
    /// Public half of the proxy's key, which signs payments.
    pub public_key: PublicKey,
    /// The root contract.
    pub root: Address,
    /// Where it is in its life.
    pub phase: Phase,
    /// Earned and not yet withdrawn by the owner.
    pub balance: Nanoton,
    /// The owner's stake, which covers forced refunds.
    pub stake: Nanoton,
    /// When the close may complete, Unix seconds; 0 = not closing.
    pub unlock_s: u32,
}

impl ProxyState {
    /// The state a proxy contract is deployed with.
    #[must_use]
    pub fn initial(owner: Address, public_key: PublicKey, root: Address) -> Self {
        let zero = Nanoton(0);
        Self {
            owner,
            public_key,
            root,
            phase: Phase::Normal,
            balance: zero,
            stake: zero,
            unlock_s: 0,
        }
    }

    /// Reads the data cell; the parameters cell comes along.
    ///
    /// # Errors
    /// A [`Fault`] when the cell is not a proxy contract's data: ignore the account.
    pub fn parse(cell: &Cell) -> Result<(Self, Cell), Fault> {
        let mut reader = Reader::new(WHAT, cell)?;
        let state = Self {
            owner: reader.address()?,
            public_key: reader.public_key()?,
            root: reader.address()?,
            phase: Phase::read(WHAT, &mut reader)?,
            balance: reader.coins()?,
            stake: reader.coins()?,
            unlock_s: reader.u32()?,
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
            .public_key(&self.public_key)
            .address(&self.root)
            .uint(u64::from(self.phase.code()), 2)
            .coins(self.balance)
            .coins(self.stake)
            .u32(self.unlock_s)
    }
}
