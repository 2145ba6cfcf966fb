//! A wallet of any kind: its address, its state, its signature.

use std::fmt;

use cocoon_contract::address::{self, StateInit};
use cocoon_contract::cell::{Cell, Hash};
use cocoon_contract::code::Code;
use cocoon_contract::state::WalletState;
use cocoon_contract::wallet::{
    CocoonOrder, Layout, MAX_COCOON_MESSAGES, MODE_IGNORE_ERRORS, Outgoing, StandardOrder,
    StandardWallet, WalletVersion, external,
};
use cocoon_contract::{Fault, boc};
use cocoon_units::{Address, Nanoton, PublicKey};
use ed25519_dalek::SigningKey;

/// Below this a Cocoon wallet takes no orders (protocol notes 5.1).
const COCOON_FLOOR: Nanoton = Nanoton(2_000_000_000);
/// A standard wallet needs no floor of its own.
const STANDARD_FLOOR: Nanoton = Nanoton(10_000_000);
/// Messages of one batch, whatever the wallet allows: the external message stays small.
const BATCH_MAX: usize = 16;

#[derive(Clone)]
enum Kind {
    Cocoon { owner: Address },
    Standard(StandardWallet),
}

/// A wallet and the key that signs its orders.
#[derive(Clone)]
pub struct Wallet {
    kind: Kind,
    address: Address,
    state_init: Option<StateInit>,
    key: SigningKey,
}

impl fmt::Debug for Wallet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "wallet {}", self.address.to_raw())
    }
}

/// What the wallet's data says.
pub(crate) struct Inside {
    pub(crate) seqno: u32,
    pub(crate) is_blocked: bool,
}

/// A signed external message.
pub(crate) struct Signed {
    pub(crate) boc: Vec<u8>,
    /// Hash of the body, by which its transaction is found.
    pub(crate) body: Hash,
}

impl Wallet {
    /// A Cocoon wallet of `owner` (protocol notes 2.7). Without the code cell it cannot deploy
    /// itself.
    ///
    /// # Errors
    /// None in practice; the fields always fit.
    pub fn cocoon(owner: Address, key: SigningKey, code: &Code) -> Result<Self, Fault> {
        let public_key = PublicKey(key.verifying_key().to_bytes());
        let address = address::wallet(owner, public_key, code)?;
        let state_init = address::wallet_init(owner, public_key, code).ok();
        Ok(Self { kind: Kind::Cocoon { owner }, address, state_init, key })
    }

    /// A standard wallet. Without the code cell it cannot deploy itself.
    ///
    /// # Errors
    /// None in practice; the fields always fit.
    pub fn standard(
        version: WalletVersion,
        wallet_id: u32,
        key: SigningKey,
        code: &Code,
    ) -> Result<Self, Fault> {
        let public_key = PublicKey(key.verifying_key().to_bytes());
        let wallet = StandardWallet { version, wallet_id, public_key };
        let address = wallet.address(code)?;
        let state_init = wallet.state_init(code).ok();
        Ok(Self { kind: Kind::Standard(wallet), address, state_init, key })
    }

    /// Where the wallet lives.
    #[must_use]
    pub fn address(&self) -> Address {
        self.address
    }

    /// Most messages in one batch.
    #[must_use]
    pub fn messages_max(&self) -> usize {
        match &self.kind {
            Kind::Cocoon { .. } => MAX_COCOON_MESSAGES,
            Kind::Standard(wallet) => wallet.version.max_messages().min(BATCH_MAX),
        }
    }

    /// What must be on the account for any order.
    #[must_use]
    pub fn floor(&self) -> Nanoton {
        match &self.kind {
            Kind::Cocoon { .. } => COCOON_FLOOR,
            Kind::Standard(_) => STANDARD_FLOOR,
        }
    }

    /// Whether the wallet can be deployed by a batch without messages.
    pub(crate) fn deploys_alone(&self) -> bool {
        matches!(self.kind, Kind::Cocoon { .. }) && self.can_deploy()
    }

    pub(crate) fn can_deploy(&self) -> bool {
        self.state_init.is_some()
    }

    /// Reads the account's data; `None` when it is not this wallet's.
    pub(crate) fn read(&self, data: &Cell) -> Option<Inside> {
        match &self.kind {
            Kind::Cocoon { owner } => {
                let state = WalletState::parse(data).ok()?;
                let is_ours = state.owner == *owner
                    && state.public_key.0 == self.key.verifying_key().to_bytes();
                let inside = Inside { seqno: state.seqno, is_blocked: state.is_blocked };
                is_ours.then_some(inside)
            }
            Kind::Standard(wallet) => {
                let seqno = wallet.read_seqno(data).ok()?;
                Some(Inside { seqno, is_blocked: false })
            }
        }
    }

    /// Signs the messages as one order. Messages that cannot be paid are skipped by the contract
    /// instead of failing the order, so that the number is used up whatever happens.
    pub(crate) fn sign<'a>(
        &self,
        seqno: u32,
        valid_until_s: u32,
        messages: impl Iterator<Item = &'a Outgoing>,
    ) -> Result<Signed, Fault> {
        let layout = match &self.kind {
            Kind::Cocoon { .. } => Layout::References,
            Kind::Standard(_) => Layout::Compact,
        };
        let messages = messages
            .map(|message| Ok((message.mode() | MODE_IGNORE_ERRORS, message.cell(layout)?)))
            .collect::<Result<_, Fault>>()?;
        let body = match &self.kind {
            Kind::Cocoon { .. } => {
                CocoonOrder { subwallet: 0, valid_until_s, seqno, messages }.sign(&self.key)?
            }
            Kind::Standard(wallet) => {
                StandardOrder { valid_until_s, seqno, messages }.sign(wallet, &self.key)?
            }
        };
        let init = self.state_init.as_ref().filter(|_| seqno == 0);
        let message = external(&self.address, init, &body, layout)?;
        Ok(Signed { boc: boc::encode(&message), body: Hash(*body.repr_hash().as_array()) })
    }
}
