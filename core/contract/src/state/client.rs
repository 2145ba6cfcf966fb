//! What a client contract stores.

use cocoon_units::{Address, Nanoton, PublicKey, Tokens};

use super::Phase;
use crate::Fault;
use crate::cell::{Cell, CellId, Hash, Reader, Writer};

const WHAT: &str = "client contract";
const WHAT_CONST: &str = "client contract: constants";

/// The part of a client contract that never changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientConst {
    /// The client's wallet.
    pub owner: Address,
    /// The proxy contract that holds the money.
    pub proxy: Address,
    /// The proxy's key.
    pub public_key: PublicKey,
}

impl ClientConst {
    fn fields(&self) -> Writer {
        Writer::new(WHAT_CONST)
            .address(&self.owner)
            .address(&self.proxy)
            .public_key(&self.public_key)
    }

    fn parse(cell: &Cell) -> Result<Self, Fault> {
        let mut reader = Reader::new(WHAT_CONST, cell)?;
        let constants = Self {
            owner: reader.address()?,
            proxy: reader.address()?,
            public_key: reader.public_key()?,
        };
        reader.end()?;
        Ok(constants)
    }
}

/// What a client contract stores besides its parameters (protocol notes 2.6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientState {
    /// Where it is in its life.
    pub phase: Phase,
    /// What the client still has in the proxy contract.
    pub balance: Nanoton,
    /// How much of it stays behind at a withdrawal, and bounds what is used between charges.
    pub stake: Nanoton,
    /// Tokens charged since the contract was deployed.
    pub tokens_used: Tokens,
    /// When a refund may be forced, Unix seconds; 0 = not asked for.
    pub unlock_s: u32,
    /// SHA-256 of the client's secret.
    pub secret_hash: Hash,
    /// The part that never changes.
    pub constants: ClientConst,
}

impl ClientState {
    /// The state a client contract is deployed with; its stake is the network's least one.
    #[must_use]
    pub fn initial(constants: ClientConst, min_client_stake: Nanoton) -> Self {
        Self {
            phase: Phase::Normal,
            balance: Nanoton(0),
            stake: min_client_stake,
            tokens_used: Tokens(0),
            unlock_s: 0,
            secret_hash: Hash::default(),
            constants,
        }
    }

    /// Reads the data cell; the parameters cell comes along.
    ///
    /// # Errors
    /// A [`Fault`] when the cell is not a client contract's data: ignore the account.
    pub fn parse(cell: &Cell) -> Result<(Self, Cell), Fault> {
        let mut reader = Reader::new(WHAT, cell)?;
        let phase = Phase::read(WHAT, &mut reader)?;
        let balance = reader.coins()?;
        let stake = reader.coins()?;
        let tokens_used = reader.tokens()?;
        let unlock_s = reader.u32()?;
        let secret_hash = reader.hash()?;
        let constants = ClientConst::parse(&reader.reference()?)?;
        let params = reader.reference()?;
        reader.end()?;
        let state = Self { phase, balance, stake, tokens_used, unlock_s, secret_hash, constants };
        Ok((state, params))
    }

    /// Builds the data cell.
    ///
    /// # Errors
    /// [`Fault::Build`] when `params` is too deep.
    pub fn cell(&self, params: Cell) -> Result<Cell, Fault> {
        let constants = self.constants.fields().build()?;
        self.fields().reference(constants).reference(params).build()
    }

    /// The identity of the data cell.
    ///
    /// # Errors
    /// None in practice; the fields always fit.
    pub fn id(&self, params: CellId) -> Result<CellId, Fault> {
        let constants = self.constants.fields().identify(&[])?;
        self.fields().identify(&[constants, params])
    }

    fn fields(&self) -> Writer {
        Writer::new(WHAT)
            .uint(u64::from(self.phase.code()), 2)
            .coins(self.balance)
            .coins(self.stake)
            .tokens(self.tokens_used)
            .u32(self.unlock_s)
            .hash(&self.secret_hash)
    }
}
