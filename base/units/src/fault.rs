//! What can be wrong with a value that came from a user, a peer or a configuration.
//!
//! All of these are faults of the giver of the text; nothing here is caused by the
//! environment. The caller reports the message to the giver and drops the value.

use thiserror::Error;

/// An amount of TON that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum AmountFault {
    /// Neither digits nor digits with one decimal point; ask for a form such as `1.5 TON`.
    #[error("amount is not a decimal number; write it like \"1.5 TON\" or \"1500000000 nanoton\"")]
    NotANumber,
    /// More than nine digits behind the point; a nanoton cannot be divided.
    #[error("amount has more than 9 decimal places; a nanoton is the smallest unit")]
    TooFine,
    /// More than [`u64::MAX`] nanotons.
    #[error("amount is above 18446744073.709551615 TON")]
    TooLarge,
}

/// An address text that cannot be read (TEP-2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum AddressFault {
    /// Neither 48 base64 characters nor `workchain:64 hex digits`.
    #[error(
        "address has {length} characters; expected 48 base64 characters or \"0:<64 hex digits>\""
    )]
    Length {
        /// Characters found.
        length: usize,
    },
    /// A character outside the alphabet.
    #[error("address contains a character outside its alphabet; copy it again")]
    Alphabet,
    /// The CRC16 does not match: the text was mistyped or cut.
    #[error("address checksum is {found:04x}, computed {computed:04x}; the text was mistyped")]
    Checksum {
        /// Checksum in the text.
        found: u16,
        /// Checksum of the 34 bytes before it.
        computed: u16,
    },
    /// The first byte is none of the four known tags.
    #[error(
        "address tag {tag:#04x} is unknown; expected 0x11 or 0x51, with 0x80 for a test network"
    )]
    Tag {
        /// Tag byte found.
        tag: u8,
    },
    /// The workchain is not a number of 8 bits.
    #[error("workchain is not a number from -128 to 127")]
    Workchain,
}

/// An identifier text that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum IdFault {
    /// Not 32 bytes in hex (64 digits) or standard or URL-safe base64 (43 or 44 characters).
    #[error("{what} is not 32 bytes in hex or base64")]
    NotThirtyTwoBytes {
        /// Which identifier was read.
        what: &'static str,
    },
    /// An empty model name.
    #[error("model name is empty; write name@commit:hash")]
    EmptyModel,
    /// A model name of more than 1024 bytes.
    #[error("model name has {length} bytes; at most 1024 are accepted")]
    LongModel {
        /// Bytes found.
        length: usize,
    },
    /// A role that is none of client, proxy, worker, key-manager.
    #[error("role is unknown; expected client, proxy, worker or key-manager")]
    Role,
}

/// A price value outside its range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PriceFault {
    /// A coefficient outside 0..=999 999 999 thousandths (protocol notes 3.3).
    #[error("coefficient {value} is outside 0..=999999999 thousandths")]
    Coefficient {
        /// Value found.
        value: i64,
    },
    /// A negative multiplier.
    #[error("price multiplier {value} is negative")]
    Multiplier {
        /// Value found.
        value: i64,
    },
    /// The worker's fee is above the price, so the proxy's part would be negative.
    #[error("worker fee {fee} is above the price {price} per token")]
    FeeAbovePrice {
        /// Fee per token in nanotons.
        fee: u64,
        /// Price per token in nanotons.
        price: u64,
    },
}
