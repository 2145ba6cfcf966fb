//! Taking fields from the front of bytes. Reading accepts exactly what writing makes.

use thiserror::Error;

use crate::fault::BadEvidence;

/// Bytes that are not what they should be. They came from outside: refuse them.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("{0}")]
pub struct Malformed(pub &'static str);

impl Malformed {
    /// Says which piece of evidence it was.
    pub(crate) fn of(self, what: &'static str) -> BadEvidence {
        BadEvidence::Malformed { what, detail: self.0.to_owned() }
    }
}

/// Takes fields from the front.
#[derive(Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Starts at the first byte.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Takes so many bytes.
    ///
    /// # Errors
    /// There are fewer.
    pub fn take(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let (head, rest) = self.rest.split_at_checked(len).ok_or(Malformed("it ends early"))?;
        self.rest = rest;
        Ok(head)
    }

    /// Takes an array.
    ///
    /// # Errors
    /// There are fewer bytes.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        self.take(N)?.try_into().map_err(|_| Malformed("it ends early"))
    }

    /// Takes a byte.
    ///
    /// # Errors
    /// There is none.
    pub fn byte(&mut self) -> Result<u8, Malformed> {
        let [byte] = self.array()?;
        Ok(byte)
    }

    /// Takes a big-endian number of two bytes.
    ///
    /// # Errors
    /// There are fewer bytes.
    pub fn u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_be_bytes)
    }

    /// Takes a big-endian number of four bytes.
    ///
    /// # Errors
    /// There are fewer bytes.
    pub fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_be_bytes)
    }

    /// Takes a string behind its length of two bytes, big endian.
    ///
    /// # Errors
    /// It ends early.
    pub fn counted(&mut self) -> Result<&'a [u8], Malformed> {
        let len = usize::from(self.u16()?);
        self.take(len)
    }

    /// Takes a big-endian number of eight bytes.
    ///
    /// # Errors
    /// There are fewer bytes.
    pub fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_be_bytes)
    }

    /// Takes a little-endian number of two bytes.
    ///
    /// # Errors
    /// There are fewer bytes.
    pub fn u16_le(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_le_bytes)
    }

    /// Takes a little-endian number of four bytes.
    ///
    /// # Errors
    /// There are fewer bytes.
    pub fn u32_le(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_le_bytes)
    }

    /// Takes a little-endian number of eight bytes.
    ///
    /// # Errors
    /// There are fewer bytes.
    pub fn u64_le(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_le_bytes)
    }

    /// Takes a text with a length of two bytes, at most `limit` bytes long, without control
    /// characters: it is shown to people.
    ///
    /// # Errors
    /// It ends early, is too long or no such text.
    pub fn text(&mut self, limit: usize) -> Result<String, Malformed> {
        let len = usize::from(u16::from_be_bytes(self.array()?));
        if len > limit {
            return Err(Malformed("a text in it is too long"));
        }
        let text = std::str::from_utf8(self.take(len)?)
            .map_err(|_| Malformed("a text in it is no UTF-8"))?;
        if text.chars().any(char::is_control) {
            return Err(Malformed("a text in it holds control characters"));
        }
        Ok(text.to_owned())
    }

    /// Returns what was not taken.
    #[must_use]
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Checks that nothing is left.
    ///
    /// # Errors
    /// Bytes follow.
    pub fn finish(self) -> Result<(), Malformed> {
        if self.rest.is_empty() { Ok(()) } else { Err(Malformed("bytes follow it")) }
    }
}
