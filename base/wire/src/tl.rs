//! The TL coding: reader, writer rules and the basic types (protocol notes 1.5).
//!
//! Reading borrows: [`Blob`] and [`Text`] point into the bytes that were read. Writing goes
//! straight into the caller's buffer, sizes are computed beforehand, so a nested object is
//! written behind its length prefix without a copy.

use std::borrow::Cow;
use std::fmt;

use bytes::BufMut;
use cocoon_units::{ImageHash, PublicKey, RequestId, Secret};

use crate::TlFault;

/// Id of the constructor of `true`.
const BOOL_TRUE: u32 = 0x9972_75b5;
/// Id of the constructor of `false`.
const BOOL_FALSE: u32 = 0xbc79_9737;

/// A value with a bare encoding: fields only. Enumerations carry their constructor id,
/// since a boxed type always does.
pub trait Tl<'tl>: Sized {
    /// Reads the value.
    ///
    /// # Errors
    /// [`TlFault`] when the bytes are no such value; the peer is guilty.
    fn read(reader: &mut Reader<'tl>) -> Result<Self, TlFault>;

    /// Bytes that [`Tl::write`] appends.
    fn size(&self) -> usize;

    /// Appends the value. `out` must be able to grow (`Vec<u8>`, `BytesMut`).
    fn write<B: BufMut>(&self, out: &mut B);
}

/// A value with a boxed encoding: constructor id, then fields. Functions are such values.
pub trait Boxed<'tl>: Sized {
    /// Reads id and fields.
    ///
    /// # Errors
    /// [`TlFault`] when the bytes are no such value; the peer is guilty.
    fn read_boxed(reader: &mut Reader<'tl>) -> Result<Self, TlFault>;

    /// Bytes that [`Boxed::write_boxed`] appends.
    fn boxed_size(&self) -> usize;

    /// Appends id and fields. `out` must be able to grow (`Vec<u8>`, `BytesMut`).
    fn write_boxed<B: BufMut>(&self, out: &mut B);
}

/// A single constructor or function of the schema.
pub trait Constructor {
    /// Constructor id, the CRC-32 of the declaration or the explicit id.
    const ID: u32;
    /// Name in the schema.
    const NAME: &'static str;
}

/// Reads exactly one boxed object.
///
/// # Errors
/// [`TlFault`] when the bytes are no such object or when bytes follow it.
pub fn decode<'tl, T: Boxed<'tl>>(bytes: &'tl [u8]) -> Result<T, TlFault> {
    let mut reader = Reader::new(bytes);
    let value = T::read_boxed(&mut reader)?;
    reader.finish()?;
    Ok(value)
}

/// Writes one boxed object into a new buffer of the exact size.
pub fn encode<'tl, T: Boxed<'tl>>(value: &T) -> Vec<u8> {
    let mut out = Vec::with_capacity(value.boxed_size());
    value.write_boxed(&mut out);
    out
}

/// The constructor id at the start of an object, for logs and dispatch.
#[must_use]
pub fn constructor_id(bytes: &[u8]) -> Option<u32> {
    bytes.first_chunk().map(|id| u32::from_le_bytes(*id))
}

/// A place in bytes that are being read.
#[derive(Clone)]
pub struct Reader<'tl> {
    bytes: &'tl [u8],
    offset: usize,
}

impl<'tl> Reader<'tl> {
    /// Starts at the first byte.
    #[must_use]
    pub const fn new(bytes: &'tl [u8]) -> Self {
        Self { bytes, offset: 0 }
    }

    /// Bytes read so far.
    #[must_use]
    pub const fn offset(&self) -> usize {
        self.offset
    }

    /// Bytes not read yet.
    #[must_use]
    pub fn remaining(&self) -> &'tl [u8] {
        self.bytes.get(self.offset..).unwrap_or_default()
    }

    /// Takes the next `count` bytes.
    ///
    /// # Errors
    /// [`TlFault::Truncated`] when there are fewer.
    pub fn take(&mut self, count: usize) -> Result<&'tl [u8], TlFault> {
        let rest = self.remaining();
        let taken = rest.get(..count).ok_or(TlFault::Truncated {
            offset: self.offset,
            needed: count,
            left: rest.len(),
        })?;
        self.offset += count;
        Ok(taken)
    }

    /// Takes the next `N` bytes as an array.
    ///
    /// # Errors
    /// [`TlFault::Truncated`] when there are fewer.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], TlFault> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    /// Reads an unsigned 32-bit number.
    ///
    /// # Errors
    /// [`TlFault::Truncated`].
    pub fn u32(&mut self) -> Result<u32, TlFault> {
        self.array().map(u32::from_le_bytes)
    }

    /// Reads a `flags` word.
    ///
    /// # Errors
    /// [`TlFault::Truncated`], or [`TlFault::NegativeFlags`] with bit 31.
    pub fn flags(&mut self) -> Result<u32, TlFault> {
        let offset = self.offset;
        let flags = self.u32()?;
        if flags & (1 << 31) != 0 {
            return Err(TlFault::NegativeFlags { offset, flags });
        }
        Ok(flags)
    }

    /// Reads the content of a `string` or `bytes` and skips its padding, which is not checked.
    ///
    /// A length in a longer form than needed is accepted, as the reference does.
    ///
    /// # Errors
    /// [`TlFault::Truncated`] when prefix, content or padding are cut.
    pub fn bytes(&mut self) -> Result<&'tl [u8], TlFault> {
        let start = self.offset;
        let [first] = self.array()?;
        let length = match first {
            0xff => {
                let mut wide = [0; 8];
                wide[..7].copy_from_slice(self.take(7)?);
                usize::try_from(u64::from_le_bytes(wide)).unwrap_or(usize::MAX)
            }
            0xfe => {
                let [a, b, c] = self.array()?;
                u32::from_le_bytes([a, b, c, 0]) as usize
            }
            short => usize::from(short),
        };
        let content = self.take(length)?;
        let padding = (self.offset - start).wrapping_neg() % 4;
        self.take(padding)?;
        Ok(content)
    }

    /// Checks that nothing is left.
    ///
    /// # Errors
    /// [`TlFault::TrailingBytes`].
    pub fn finish(&self) -> Result<(), TlFault> {
        match self.remaining().len() {
            0 => Ok(()),
            left => Err(TlFault::TrailingBytes { offset: self.offset, left }),
        }
    }
}

/// Bytes that a `string` or `bytes` of `length` bytes takes, prefix and padding included.
#[must_use]
pub const fn bytes_size(length: usize) -> usize {
    let prefix = prefix_size(length);
    (prefix + length).next_multiple_of(4)
}

/// Bytes of the length prefix.
const fn prefix_size(length: usize) -> usize {
    if length < 254 {
        1
    } else if length < 1 << 24 {
        4
    } else {
        8
    }
}

/// Appends the length prefix of a `string` or `bytes`.
#[allow(clippy::cast_possible_truncation, reason = "the branch fixes the range")]
fn write_prefix<B: BufMut>(out: &mut B, length: usize) {
    match prefix_size(length) {
        1 => out.put_u8(length as u8),
        4 => out.put_u32_le((length as u32) << 8 | 0xfe),
        _ => out.put_u64_le((length as u64) << 8 | 0xff),
    }
}

/// Appends a `string` or `bytes`.
pub fn write_bytes<B: BufMut>(out: &mut B, content: &[u8]) {
    write_prefix(out, content.len());
    out.put_slice(content);
    out.put_bytes(0, bytes_size(content.len()) - prefix_size(content.len()) - content.len());
}

/// Appends a boxed object as the content of a `bytes` field, without a copy in between.
pub fn write_nested<'tl, B: BufMut, T: Boxed<'tl>>(out: &mut B, object: &T) {
    write_nested_with(out, object.boxed_size(), |out| object.write_boxed(out));
}

/// Appends a `bytes` field whose content `fill` appends; it must be `length` bytes.
pub(crate) fn write_nested_with<B: BufMut>(out: &mut B, length: usize, fill: impl FnOnce(&mut B)) {
    write_prefix(out, length);
    fill(out);
    out.put_bytes(0, bytes_size(length) - prefix_size(length) - length);
}

macro_rules! tl_number {
    ($($name:ty, $put:ident;)*) => {$(
        impl<'tl> Tl<'tl> for $name {
            fn read(reader: &mut Reader<'tl>) -> Result<Self, TlFault> {
                reader.array().map(Self::from_le_bytes)
            }

            fn size(&self) -> usize {
                size_of::<Self>()
            }

            fn write<B: BufMut>(&self, out: &mut B) {
                out.$put(*self);
            }
        }
    )*};
}

tl_number! { i32, put_i32_le; i64, put_i64_le; f64, put_f64_le; }

impl<'tl> Tl<'tl> for bool {
    fn read(reader: &mut Reader<'tl>) -> Result<Self, TlFault> {
        let offset = reader.offset();
        match reader.u32()? {
            BOOL_TRUE => Ok(true),
            BOOL_FALSE => Ok(false),
            id => Err(TlFault::UnknownConstructor { offset, id }),
        }
    }

    fn size(&self) -> usize {
        4
    }

    fn write<B: BufMut>(&self, out: &mut B) {
        out.put_u32_le(if *self { BOOL_TRUE } else { BOOL_FALSE });
    }
}

impl<'tl, const N: usize> Tl<'tl> for [u8; N] {
    fn read(reader: &mut Reader<'tl>) -> Result<Self, TlFault> {
        reader.array()
    }

    fn size(&self) -> usize {
        N
    }

    fn write<B: BufMut>(&self, out: &mut B) {
        out.put_slice(self);
    }
}

macro_rules! tl_int256 {
    ($($name:ty),*) => {$(
        impl<'tl> Tl<'tl> for $name {
            fn read(reader: &mut Reader<'tl>) -> Result<Self, TlFault> {
                reader.array().map(Self)
            }

            fn size(&self) -> usize {
                32
            }

            fn write<B: BufMut>(&self, out: &mut B) {
                out.put_slice(&self.0);
            }
        }
    )*};
}

tl_int256!(RequestId, PublicKey, ImageHash);

/// A private key or seed on the wire: never printed, wiped when dropped.
pub type SecretKey = Secret<[u8; 32]>;

impl<'tl> Tl<'tl> for SecretKey {
    fn read(reader: &mut Reader<'tl>) -> Result<Self, TlFault> {
        reader.array().map(Self::new)
    }

    fn size(&self) -> usize {
        32
    }

    fn write<B: BufMut>(&self, out: &mut B) {
        out.put_slice(self.expose());
    }
}

/// A secret `string`, such as a password in a configuration: never printed, wiped when dropped.
pub type SecretText = Secret<Vec<u8>>;

impl<'tl> Tl<'tl> for SecretText {
    fn read(reader: &mut Reader<'tl>) -> Result<Self, TlFault> {
        reader.bytes().map(|content| Self::new(content.to_vec()))
    }

    fn size(&self) -> usize {
        bytes_size(self.expose().len())
    }

    fn write<B: BufMut>(&self, out: &mut B) {
        write_bytes(out, self.expose());
    }
}

impl<'tl, T: Tl<'tl>> Tl<'tl> for Vec<T> {
    fn read(reader: &mut Reader<'tl>) -> Result<Self, TlFault> {
        let offset = reader.offset();
        let count = reader.u32()?;
        let left = reader.remaining().len();
        if count as usize > left {
            return Err(TlFault::VectorTooLong { offset, count, left });
        }
        // Every element of the schema takes at least 4 bytes, so the memory for elements
        // stays in proportion to the bytes that are really there.
        let mut elements = Self::with_capacity((count as usize).min(left / 4));
        for _ in 0..count {
            elements.push(T::read(reader)?);
        }
        Ok(elements)
    }

    fn size(&self) -> usize {
        4 + self.iter().map(Tl::size).sum::<usize>()
    }

    fn write<B: BufMut>(&self, out: &mut B) {
        out.put_u32_le(u32::try_from(self.len()).unwrap_or(u32::MAX));
        for element in self {
            element.write(out);
        }
    }
}

/// Content of a `bytes` field, borrowed. Its `Debug` shows only the length, because prompts,
/// answers and secrets travel in such fields.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Blob<'tl>(pub &'tl [u8]);

impl fmt::Debug for Blob<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Blob({} bytes)", self.0.len())
    }
}

impl<'tl> From<&'tl [u8]> for Blob<'tl> {
    fn from(content: &'tl [u8]) -> Self {
        Self(content)
    }
}

impl<'tl> Tl<'tl> for Blob<'tl> {
    fn read(reader: &mut Reader<'tl>) -> Result<Self, TlFault> {
        reader.bytes().map(Self)
    }

    fn size(&self) -> usize {
        bytes_size(self.0.len())
    }

    fn write<B: BufMut>(&self, out: &mut B) {
        write_bytes(out, self.0);
    }
}

/// Content of a `string` field: borrowed when read from the wire, owned when made by us.
///
/// The bytes are kept as they came, so that an object encodes to what was read. Use
/// [`Text::sanitized`] before showing or comparing a peer's text.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Text<'tl>(Cow<'tl, [u8]>);

impl<'tl> Text<'tl> {
    /// The bytes as they came.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The text by the receiver's rule: cut before the first invalid UTF-8 sequence, and
    /// each NUL becomes a blank.
    #[must_use]
    pub fn sanitized(&self) -> Cow<'_, str> {
        sanitize(&self.0)
    }

    /// The same text without a borrow.
    #[must_use]
    pub fn into_owned(self) -> Text<'static> {
        Text(Cow::Owned(self.0.into_owned()))
    }

    /// Whether there are no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Applies the rule for received `string` fields: cut before the first invalid UTF-8
/// sequence, NUL becomes a blank (protocol notes 1.5).
#[must_use]
pub fn sanitize(bytes: &[u8]) -> Cow<'_, str> {
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(fault) => bytes
            .get(..fault.valid_up_to())
            .and_then(|valid| std::str::from_utf8(valid).ok())
            .unwrap_or_default(),
    };
    if text.contains('\0') { Cow::Owned(text.replace('\0', " ")) } else { Cow::Borrowed(text) }
}

impl fmt::Debug for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.sanitized(), f)
    }
}

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sanitized())
    }
}

impl<'tl> From<&'tl str> for Text<'tl> {
    fn from(text: &'tl str) -> Self {
        Self(Cow::Borrowed(text.as_bytes()))
    }
}

impl From<String> for Text<'_> {
    fn from(text: String) -> Self {
        Self(Cow::Owned(text.into_bytes()))
    }
}

impl<'tl> From<&'tl [u8]> for Text<'tl> {
    fn from(bytes: &'tl [u8]) -> Self {
        Self(Cow::Borrowed(bytes))
    }
}

impl<'tl> Tl<'tl> for Text<'tl> {
    fn read(reader: &mut Reader<'tl>) -> Result<Self, TlFault> {
        reader.bytes().map(|bytes| Self(Cow::Borrowed(bytes)))
    }

    fn size(&self) -> usize {
        bytes_size(self.0.len())
    }

    fn write<B: BufMut>(&self, out: &mut B) {
        write_bytes(out, &self.0);
    }
}

/// Bits of a `flags` word that the schema gives no meaning to.
///
/// They are read, kept and written again; the reference ignores them. Bits 16..=30 of the
/// `params` objects announce our own additions, see [`crate::cocoon`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Extensions(pub u32);

impl Extensions {
    /// No additions.
    pub const NONE: Self = Self(0);

    /// Whether every bit of `bits` is set.
    #[must_use]
    pub const fn contains(self, bits: Self) -> bool {
        self.0 & bits.0 == bits.0
    }

    /// Both sets together.
    #[must_use]
    pub const fn with(self, bits: Self) -> Self {
        Self(self.0 | bits.0)
    }

    /// What both sides announced.
    #[must_use]
    pub const fn common(self, peer: Self) -> Self {
        Self(self.0 & peer.0)
    }
}
