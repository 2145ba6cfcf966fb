//! Orders to standard wallets of versions 3, 4 and 5.

use cocoon_units::{Address, PublicKey};
use ed25519_dalek::{Signer as _, SigningKey};

use crate::Fault;
use crate::address::{StateInit, WORKCHAIN, derive};
use crate::cell::{Cell, Reader, Writer};
use crate::code::Code;

/// Wallet id of versions 3 and 4 in the basic workchain: 698983191.
pub const WALLET_ID_V3_V4: u32 = 698_983_191;

/// Operation of a signed external order of version 5: `sign`.
const V5_SIGNED_EXTERNAL: u32 = 0x7369_676e;
/// An action of version 5: send a message.
const ACTION_SEND: u32 = 0x0ec3_c86d;
/// Most messages of versions 3 and 4.
const MAX_MESSAGES: usize = 4;
/// Most messages of version 5.
const MAX_MESSAGES_V5: usize = 255;

const WHAT: &str = "wallet order";

/// A wallet as common wallet software deploys it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WalletVersion {
    /// Version 3, revision 2.
    V3R2,
    /// Version 4, revision 2.
    V4R2,
    /// Version 5, revision 1.
    V5R1,
}

impl WalletVersion {
    /// Most messages in one order.
    #[must_use]
    pub fn max_messages(self) -> usize {
        match self {
            Self::V3R2 | Self::V4R2 => MAX_MESSAGES,
            Self::V5R1 => MAX_MESSAGES_V5,
        }
    }
}

/// The wallet id of version 5: the network's id mixed with workchain, version and number.
///
/// `network` is -239 for mainnet and -3 for testnet; subwallet 0 in the basic workchain.
#[must_use]
pub fn wallet_id_v5(network: i32) -> u32 {
    // Bit 31 marks the client form; workchain 0, version 0 and subwallet 0 fill the rest.
    (network ^ i32::MIN).cast_unsigned()
}

/// A standard wallet; its code comes from outside.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StandardWallet {
    /// Version.
    pub version: WalletVersion,
    /// [`WALLET_ID_V3_V4`] or [`wallet_id_v5`].
    pub wallet_id: u32,
    /// The key that signs orders.
    pub public_key: PublicKey,
}

impl StandardWallet {
    /// The data cell the wallet is deployed with.
    ///
    /// # Errors
    /// None in practice; the fields always fit.
    pub fn initial_data(&self) -> Result<Cell, Fault> {
        let writer = Writer::new("standard wallet");
        let writer = match self.version {
            WalletVersion::V5R1 => writer.bit(true),
            WalletVersion::V3R2 | WalletVersion::V4R2 => writer,
        };
        let writer = writer.u32(0).u32(self.wallet_id).public_key(&self.public_key);
        match self.version {
            WalletVersion::V3R2 => writer,
            WalletVersion::V4R2 | WalletVersion::V5R1 => writer.bit(false),
        }
        .build()
    }

    /// Reads the sequence number from the data of a deployed wallet.
    ///
    /// # Errors
    /// A [`Fault`] when the cell is not the data of this wallet: another version, id or key.
    pub fn read_seqno(&self, data: &Cell) -> Result<u32, Fault> {
        const WHAT: &str = "standard wallet";
        let mut reader = Reader::new(WHAT, data)?;
        if self.version == WalletVersion::V5R1 {
            reader.bit()?;
        }
        let (seqno, wallet_id) = (reader.u32()?, reader.u32()?);
        if wallet_id != self.wallet_id || reader.public_key()? != self.public_key {
            let found = u64::from(wallet_id);
            return Err(Fault::Range { what: WHAT, field: "wallet id or key", found });
        }
        Ok(seqno)
    }

    /// The wallet's address.
    ///
    /// # Errors
    /// None in practice; the fields always fit.
    pub fn address(&self, code: &Code) -> Result<Address, Fault> {
        let address = derive(code.id(), crate::cell::CellId::of(&self.initial_data()?))?;
        debug_assert_eq!(address.workchain, WORKCHAIN);
        Ok(address)
    }

    /// What the wallet is deployed with.
    ///
    /// # Errors
    /// [`Fault::CodeIsHashOnly`] when the code cell is missing.
    pub fn state_init(&self, code: &Code) -> Result<StateInit, Fault> {
        Ok(StateInit { code: code.require_cell("wallet")?, data: self.initial_data()? })
    }
}

/// An order to a standard wallet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StandardOrder {
    /// After this time the order is void, Unix seconds.
    pub valid_until_s: u32,
    /// The wallet's sequence number.
    pub seqno: u32,
    /// Send mode and message cell.
    pub messages: Vec<(u8, Cell)>,
}

impl StandardOrder {
    /// The cell whose hash is signed.
    ///
    /// # Errors
    /// [`Fault::TooManyMessages`] above the version's limit.
    pub fn unsigned(&self, wallet: &StandardWallet) -> Result<Cell, Fault> {
        let limit = wallet.version.max_messages();
        if self.messages.len() > limit {
            return Err(Fault::TooManyMessages { found: self.messages.len(), limit });
        }
        if wallet.version == WalletVersion::V5R1 {
            return self.unsigned_v5(wallet.wallet_id);
        }
        let writer =
            Writer::new(WHAT).u32(wallet.wallet_id).u32(self.valid_until_s).u32(self.seqno);
        // Version 4 names the operation: 0 = send.
        let writer = if wallet.version == WalletVersion::V4R2 { writer.u8(0) } else { writer };
        self.messages
            .iter()
            .fold(writer, |writer, (mode, message)| writer.u8(*mode).reference(message.clone()))
            .build()
    }

    fn unsigned_v5(&self, wallet_id: u32) -> Result<Cell, Fault> {
        let empty = Writer::new(WHAT).build()?;
        let actions = self.messages.iter().try_fold(empty, |previous, (mode, message)| {
            // The wallet refuses an external order whose errors would not be ignored.
            Writer::new(WHAT)
                .u32(ACTION_SEND)
                .u8(mode | super::MODE_IGNORE_ERRORS)
                .reference(previous)
                .reference(message.clone())
                .build()
        })?;
        Writer::new(WHAT)
            .u32(V5_SIGNED_EXTERNAL)
            .u32(wallet_id)
            .u32(self.valid_until_s)
            .u32(self.seqno)
            .maybe_reference(Some(actions))
            .bit(false)
            .build()
    }

    /// The signed body of the external message.
    ///
    /// # Errors
    /// [`Fault::TooManyMessages`] above the version's limit.
    pub fn sign(&self, wallet: &StandardWallet, key: &SigningKey) -> Result<Cell, Fault> {
        let unsigned = self.unsigned(wallet)?;
        let signature = key.sign(unsigned.repr_hash().as_slice()).to_bytes();
        let writer = Writer::new(WHAT);
        match wallet.version {
            WalletVersion::V5R1 => writer.contents(&unsigned).bytes(&signature),
            WalletVersion::V3R2 | WalletVersion::V4R2 => {
                writer.bytes(&signature).contents(&unsigned)
            }
        }
        .build()
    }
}
