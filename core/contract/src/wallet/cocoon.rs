//! Orders to a Cocoon wallet.

use ed25519_dalek::{Signer as _, SigningKey};

use super::{Layout, Outgoing};
use crate::Fault;
use crate::cell::{Cell, Reader, Writer};

/// Most messages in one order of a Cocoon wallet.
pub const MAX_MESSAGES: usize = 4;

const WHAT: &str = "wallet order";

/// An order to a Cocoon wallet: up to four messages under one signature.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CocoonOrder {
    /// 0 in this network.
    pub subwallet: u32,
    /// After this time the order is void, Unix seconds.
    pub valid_until_s: u32,
    /// The wallet's sequence number.
    pub seqno: u32,
    /// Send mode and message cell.
    pub messages: Vec<(u8, Cell)>,
}

impl CocoonOrder {
    /// An order with the layout and modes of Cocoon nodes.
    ///
    /// # Errors
    /// [`Fault::TooManyMessages`] above [`MAX_MESSAGES`]; [`Fault::Build`] when one does not fit.
    pub fn new(seqno: u32, valid_until_s: u32, messages: &[Outgoing]) -> Result<Self, Fault> {
        let messages = messages
            .iter()
            .map(|message| Ok((message.mode(), message.cell(Layout::References)?)))
            .collect::<Result<_, Fault>>()?;
        Ok(Self { subwallet: 0, valid_until_s, seqno, messages })
    }

    /// The cell whose hash is signed.
    ///
    /// # Errors
    /// [`Fault::TooManyMessages`] above [`MAX_MESSAGES`].
    pub fn unsigned(&self) -> Result<Cell, Fault> {
        if self.messages.len() > MAX_MESSAGES {
            return Err(Fault::TooManyMessages { found: self.messages.len(), limit: MAX_MESSAGES });
        }
        self.messages
            .iter()
            .fold(
                Writer::new(WHAT).u32(self.subwallet).u32(self.valid_until_s).u32(self.seqno),
                |writer, (mode, message)| writer.u8(*mode).reference(message.clone()),
            )
            .build()
    }

    /// The signed body of the external message.
    ///
    /// # Errors
    /// [`Fault::TooManyMessages`] above [`MAX_MESSAGES`].
    pub fn sign(&self, key: &SigningKey) -> Result<Cell, Fault> {
        let unsigned = self.unsigned()?;
        let signature = key.sign(unsigned.repr_hash().as_slice()).to_bytes();
        Writer::new(WHAT).bytes(&signature).contents(&unsigned).build()
    }

    /// Reads a signed body; returns the order and its signature, which is not checked.
    ///
    /// # Errors
    /// A [`Fault`] when the cell is not such a body.
    pub fn parse(body: &Cell) -> Result<(Self, [u8; 64]), Fault> {
        let mut reader = Reader::new(WHAT, body)?;
        let signature = reader.bytes()?;
        let mut order = Self {
            subwallet: reader.u32()?,
            valid_until_s: reader.u32()?,
            seqno: reader.u32()?,
            messages: Vec::new(),
        };
        // At most four references exist, so this ends.
        while reader.remaining_bits() > 0 {
            order.messages.push((reader.u8()?, reader.reference()?));
        }
        reader.end()?;
        Ok((order, signature))
    }
}
