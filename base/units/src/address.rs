//! Addresses of accounts on TON and their text forms (TEP-2).

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};

use crate::AddressFault;

/// Tag of a bounceable address.
const TAG_BOUNCEABLE: u8 = 0x11;
/// Tag of a non-bounceable address.
const TAG_NON_BOUNCEABLE: u8 = 0x51;
/// Bit of an address meant for a test network.
const TAG_TEST: u8 = 0x80;

/// An account: workchain and 256-bit hash.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    /// Workchain: 0 for users' accounts, -1 for the masterchain.
    pub workchain: i8,
    /// Hash of the account's initial state.
    pub hash: [u8; 32],
}

/// How an address text was or is to be written; it says nothing about the account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AddressForm {
    /// `EQ…` (bounceable) or `UQ…` (not).
    pub bounceable: bool,
    /// Whether the test-network bit is set.
    pub testnet: bool,
    /// URL-safe alphabet (`-`, `_`) or the standard one (`+`, `/`).
    pub url_safe: bool,
}

impl AddressForm {
    /// `EQ…`, URL-safe: the form of contracts.
    pub const BOUNCEABLE: Self = Self { bounceable: true, testnet: false, url_safe: true };
    /// `UQ…`, URL-safe: the form of wallets, and the key form of a proxy's books.
    pub const NON_BOUNCEABLE: Self = Self { bounceable: false, testnet: false, url_safe: true };

    /// The same form with the test-network bit set or cleared.
    #[must_use]
    pub const fn on_testnet(self, testnet: bool) -> Self {
        Self { testnet, ..self }
    }
}

impl Address {
    /// An address of the basic workchain.
    #[must_use]
    pub const fn new(workchain: i8, hash: [u8; 32]) -> Self {
        Self { workchain, hash }
    }

    /// Reads any text form: raw `0:<64 hex>` or 48 characters in either base64 alphabet.
    ///
    /// # Errors
    /// [`AddressFault`] says what is wrong with the text.
    pub fn parse(text: &str) -> Result<Self, AddressFault> {
        Self::parse_with_form(text).map(|(address, _)| address)
    }

    /// Reads any text form and tells how it was written; a raw form has no [`AddressForm`].
    ///
    /// # Errors
    /// [`AddressFault`] says what is wrong with the text.
    pub fn parse_with_form(text: &str) -> Result<(Self, Option<AddressForm>), AddressFault> {
        if let Some((workchain, hash)) = text.split_once(':') {
            let workchain = workchain.parse::<i8>().map_err(|_| AddressFault::Workchain)?;
            if hash.len() != 64 {
                return Err(AddressFault::Length { length: text.len() });
            }
            let mut bytes = [0; 32];
            hex::decode_to_slice(hash, &mut bytes).map_err(|_| AddressFault::Alphabet)?;
            return Ok((Self::new(workchain, bytes), None));
        }
        parse_friendly(text).map(|(address, form)| (address, Some(form)))
    }

    /// Writes the 48-character form.
    #[must_use]
    pub fn to_friendly(self, form: AddressForm) -> String {
        let mut bytes = [0u8; 36];
        let tag = if form.bounceable { TAG_BOUNCEABLE } else { TAG_NON_BOUNCEABLE };
        bytes[0] = if form.testnet { tag | TAG_TEST } else { tag };
        bytes[1] = self.workchain.cast_unsigned();
        bytes[2..34].copy_from_slice(&self.hash);
        let crc = crc16(&bytes[..34]);
        bytes[34..].copy_from_slice(&crc.to_be_bytes());
        if form.url_safe { URL_SAFE.encode(bytes) } else { STANDARD.encode(bytes) }
    }

    /// Writes the raw form `workchain:<64 lower-case hex>`.
    #[must_use]
    pub fn to_raw(self) -> String {
        format!("{}:{}", self.workchain, hex::encode(self.hash))
    }
}

/// Reads the 48-character form.
fn parse_friendly(text: &str) -> Result<(Address, AddressForm), AddressFault> {
    if text.len() != 48 {
        return Err(AddressFault::Length { length: text.len() });
    }
    let url_safe = !text.contains(['+', '/']);
    let mut bytes = [0u8; 36];
    let alphabet = if url_safe { &URL_SAFE } else { &STANDARD };
    let length =
        alphabet.decode_slice_unchecked(text, &mut bytes).map_err(|_| AddressFault::Alphabet)?;
    if length != bytes.len() {
        return Err(AddressFault::Alphabet);
    }
    let found = u16::from_be_bytes([bytes[34], bytes[35]]);
    let computed = crc16(&bytes[..34]);
    if found != computed {
        return Err(AddressFault::Checksum { found, computed });
    }
    let bounceable = match bytes[0] & !TAG_TEST {
        TAG_BOUNCEABLE => true,
        TAG_NON_BOUNCEABLE => false,
        _ => return Err(AddressFault::Tag { tag: bytes[0] }),
    };
    let mut hash = [0; 32];
    hash.copy_from_slice(&bytes[2..34]);
    let form = AddressForm { bounceable, testnet: bytes[0] & TAG_TEST != 0, url_safe };
    Ok((Address::new(bytes[1].cast_signed(), hash), form))
}

/// CRC-16/XMODEM: polynomial 0x1021, initial value 0.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0u16, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc, _| {
            if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 }
        })
    })
}

impl fmt::Display for Address {
    /// Writes the bounceable, URL-safe form.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_friendly(AddressForm::BOUNCEABLE))
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({})", self.to_raw())
    }
}

impl FromStr for Address {
    type Err = AddressFault;

    fn from_str(text: &str) -> Result<Self, AddressFault> {
        Self::parse(text)
    }
}
