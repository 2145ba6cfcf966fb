//! Which contract a wallet is, and orders to it.

use cocoon_contract::address::{StateInit, derive};
use cocoon_contract::cell::{Cell, CellId, Hash};
use cocoon_contract::code::Code;
use cocoon_contract::state::WalletState;
use cocoon_contract::wallet::{
    CocoonOrder, Layout, MAX_COCOON_MESSAGES, MODE_ALL, MODE_IGNORE_ERRORS, MODE_PAY_FEES,
    Outgoing, StandardOrder, StandardWallet, WALLET_ID_V3_V4, WalletVersion, external,
    wallet_id_v5,
};
use cocoon_units::{Address, Nanoton, PublicKey};
use ed25519_dalek::SigningKey;

use crate::OrderFault;

/// Network number of TON itself, as wallets of version 5 know it.
pub(crate) const MAINNET_ID: i32 = -239;

/// The contract of a wallet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WalletKind {
    /// Standard wallet, version 3 revision 2.
    V3R2,
    /// Standard wallet, version 4 revision 2: the one most software offers.
    V4R2,
    /// Standard wallet, version 5 revision 1. Its address depends on the network.
    V5R1 {
        /// -239 for TON, -3 for its test network.
        network_id: i32,
    },
    /// The wallet of Cocoon nodes: an owner can always pull everything out.
    Cocoon {
        /// Who can.
        owner: Address,
        /// Identity of its code.
        code: CellId,
    },
}

/// A wallet: contract and key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Wallet {
    /// The contract.
    pub kind: WalletKind,
    /// The key that signs orders.
    pub public_key: PublicKey,
}

/// What a wallet is told to do, before it is signed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Order {
    /// The wallet's sequence number.
    pub seqno: u32,
    /// After this time the order is void, Unix seconds.
    pub valid_until_s: u32,
    /// What is sent.
    pub messages: Vec<Outgoing>,
    /// One message that carries the whole balance instead of its value.
    pub is_all: bool,
}

/// Hash and depth of the standard wallets' codes (protocol notes 9).
const CODE_V3R2: (&str, u16) =
    ("84dafa449f98a6987789ba232358072bc0f76dc4524002a5d0918b9a75d2d599", 0);
const CODE_V4R2: (&str, u16) =
    ("feb5ff6820e2ff0d9483e7e0d62c817d846789fb4ae580c878866d959dabd5c0", 7);
const CODE_V5R1: (&str, u16) =
    ("20834b7b72b112147e1b2fb457b84e74d1a30f04f737d4f62a668e9552d2b72f", 6);

/// Least balance with which a Cocoon wallet takes an order (protocol notes 5.1).
const COCOON_FLOOR: Nanoton = Nanoton(2_000_000_000);

impl WalletKind {
    /// The name that people type.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::V3R2 => "v3r2",
            Self::V4R2 => "v4r2",
            Self::V5R1 { .. } => "v5r1",
            Self::Cocoon { .. } => "cocoon",
        }
    }

    /// Identity of the contract's code.
    #[must_use]
    pub fn code_id(&self) -> CellId {
        let known = |(hash, depth): (&str, u16)| {
            let mut bytes = [0; 32];
            // The constants above are 64 digits each; a test derives known addresses from them.
            let _ = hex::decode_to_slice(hash, &mut bytes);
            CellId { hash: Hash(bytes), depth }
        };
        match self {
            Self::V3R2 => known(CODE_V3R2),
            Self::V4R2 => known(CODE_V4R2),
            Self::V5R1 { .. } => known(CODE_V5R1),
            Self::Cocoon { code, .. } => *code,
        }
    }

    /// Least balance below which the contract takes no order.
    #[must_use]
    pub fn floor(&self) -> Nanoton {
        if matches!(self, Self::Cocoon { .. }) { COCOON_FLOOR } else { Nanoton::ZERO }
    }

    /// Most messages in one order.
    #[must_use]
    pub fn max_messages(&self) -> usize {
        self.version().map_or(MAX_COCOON_MESSAGES, WalletVersion::max_messages)
    }

    fn version(&self) -> Option<WalletVersion> {
        match self {
            Self::V3R2 => Some(WalletVersion::V3R2),
            Self::V4R2 => Some(WalletVersion::V4R2),
            Self::V5R1 { .. } => Some(WalletVersion::V5R1),
            Self::Cocoon { .. } => None,
        }
    }
}

impl Wallet {
    /// The wallet's account.
    ///
    /// # Errors
    /// None in practice; the fields always fit.
    pub fn address(&self) -> Result<Address, OrderFault> {
        Ok(derive(self.kind.code_id(), CellId::of(&self.initial_data()?))?)
    }

    /// What the account is deployed with by its first order; `code` must be the kind's code.
    ///
    /// # Errors
    /// None in practice; the fields always fit.
    pub fn state_init(&self, code: Cell) -> Result<StateInit, OrderFault> {
        Ok(StateInit { code, data: self.initial_data()? })
    }

    /// The code, where it is ours; other codes come from the chain or a file, by their hash.
    #[must_use]
    pub fn own_code(&self) -> Option<Cell> {
        let ours = cocoon_contract::code::wallet().ok()?;
        (CellId::of(&ours) == self.kind.code_id()).then_some(ours)
    }

    /// The sequence number that the account's data holds.
    ///
    /// # Errors
    /// [`OrderFault::Data`] when the account is another contract.
    pub fn seqno(&self, data: &Cell) -> Result<u32, OrderFault> {
        let fault = || OrderFault::Data { kind: self.kind.name() };
        let mut slice = data.as_slice().map_err(|_| fault())?;
        match self.kind {
            WalletKind::Cocoon { .. } => {
                return WalletState::parse(data).map(|state| state.seqno).map_err(|_| fault());
            }
            WalletKind::V5R1 { .. } => {
                slice.load_bit().map_err(|_| fault())?;
            }
            WalletKind::V3R2 | WalletKind::V4R2 => {}
        }
        slice.load_u32().map_err(|_| fault())
    }

    /// The external message that carries the signed order to the chain.
    ///
    /// `state_init` goes along with the first order of a wallet.
    ///
    /// # Errors
    /// [`OrderFault::Contract`] for too many messages.
    pub fn sign(
        &self,
        order: &Order,
        state_init: Option<&StateInit>,
        key: &SigningKey,
    ) -> Result<Cell, OrderFault> {
        let body = self.body(order, key)?;
        let layout = match self.kind {
            WalletKind::Cocoon { .. } => Layout::References,
            _ => Layout::Compact,
        };
        Ok(external(&self.address()?, state_init, &body, layout)?)
    }

    fn body(&self, order: &Order, key: &SigningKey) -> Result<Cell, OrderFault> {
        let (seqno, valid_until_s) = (order.seqno, order.valid_until_s);
        let Some(standard) = self.standard() else {
            let messages = cells(order, Layout::References)?;
            return Ok(CocoonOrder { subwallet: 0, valid_until_s, seqno, messages }.sign(key)?);
        };
        let messages = cells(order, Layout::Compact)?;
        Ok(StandardOrder { valid_until_s, seqno, messages }.sign(&standard, key)?)
    }

    fn standard(&self) -> Option<StandardWallet> {
        let wallet_id = match self.kind {
            WalletKind::V5R1 { network_id } => wallet_id_v5(network_id),
            _ => WALLET_ID_V3_V4,
        };
        let version = self.kind.version()?;
        Some(StandardWallet { version, wallet_id, public_key: self.public_key })
    }

    fn initial_data(&self) -> Result<Cell, OrderFault> {
        match (self.standard(), self.kind) {
            (None, WalletKind::Cocoon { owner, .. }) => {
                Ok(WalletState::initial(owner, self.public_key).cell()?)
            }
            (Some(standard), _) => Ok(standard.initial_data()?),
            (None, _) => Err(OrderFault::Data { kind: self.kind.name() }),
        }
    }

    /// The wallet of Cocoon nodes with our code, owned by `owner`.
    ///
    /// # Errors
    /// [`OrderFault::Contract`] when the embedded code is damaged: a bug of the build.
    pub fn cocoon(owner: Address, public_key: PublicKey) -> Result<Self, OrderFault> {
        let code = Code::from(cocoon_contract::code::wallet()?).id();
        Ok(Self { kind: WalletKind::Cocoon { owner, code }, public_key })
    }
}

/// Fees are paid from the wallet, so that exactly the value arrives; a message that cannot be
/// paid is skipped instead of being tried again and again.
fn cells(order: &Order, layout: Layout) -> Result<Vec<(u8, Cell)>, OrderFault> {
    let mode = if order.is_all { MODE_ALL } else { MODE_PAY_FEES } | MODE_IGNORE_ERRORS;
    order.messages.iter().map(|message| Ok((mode, message.cell(layout)?))).collect()
}
