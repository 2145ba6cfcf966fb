//! Cells: their identity, and strict reading and writing of the field types the contracts use.

use std::fmt;

use cocoon_units::{Address, Nanoton, PublicKey, Tokens};
use sha2::{Digest, Sha256};
pub use tycho_types::cell::Cell;
use tycho_types::cell::{CellBuilder, CellSlice, HashBytes};
use tycho_types::error::Error;

use crate::Fault;

/// A 256-bit hash, printed as hex.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Hash(pub [u8; 32]);

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// All that a parent's hash takes from a cell: its representation hash and its depth.
///
/// An address can be derived from these two alone, without the code itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct CellId {
    /// Representation hash.
    pub hash: Hash,
    /// 0 without references, else 1 + the greatest depth below.
    pub depth: u16,
}

impl CellId {
    /// The identity of a cell at hand.
    #[must_use]
    pub fn of(cell: &Cell) -> Self {
        Self { hash: Hash(*cell.repr_hash().as_array()), depth: cell.repr_depth() }
    }

    /// The identity of the ordinary cell with these bits and references
    /// (TVM 3.1.4: `d1 d2 data depths hashes`).
    fn compose(builder: &CellBuilder, refs: &[Self]) -> Self {
        let data = builder.as_data_slice();
        let bits = data.size_bits();
        let mut buffer = [0u8; 128];
        // 128 bytes hold the 1023 bits any cell has, so the read cannot fall short.
        let raw = data.get_raw(0, &mut buffer, bits).map(|raw| &*raw).unwrap_or_default();
        let mut raw = raw.to_vec();
        let rest = bits % 8;
        if rest != 0
            && let Some(last) = raw.last_mut()
        {
            *last = (*last & (0xffu8 << (8 - rest))) | (0x80 >> rest);
        }
        let mut sha = Sha256::new();
        #[expect(
            clippy::cast_possible_truncation,
            reason = "at most 4 references, 255 half bytes"
        )]
        sha.update([refs.len() as u8, (bits / 8 + bits.div_ceil(8)) as u8]);
        sha.update(&raw);
        refs.iter().for_each(|id| sha.update(id.depth.to_be_bytes()));
        refs.iter().for_each(|id| sha.update(id.hash.0));
        let depth = refs.iter().map(|id| id.depth.saturating_add(1)).max().unwrap_or(0);
        Self { hash: Hash(sha.finalize().into()), depth }
    }
}

/// Reads one structure from a cell, field by field; the first problem ends it.
pub(crate) struct Reader<'a> {
    what: &'static str,
    slice: CellSlice<'a>,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(what: &'static str, cell: &'a Cell) -> Result<Self, Fault> {
        let slice = cell.as_slice().map_err(|reason| Fault::Layout { what, reason })?;
        Ok(Self { what, slice })
    }

    pub(crate) fn of_slice(what: &'static str, slice: CellSlice<'a>) -> Self {
        Self { what, slice }
    }

    fn wrap<T>(&self, value: Result<T, Error>) -> Result<T, Fault> {
        value.map_err(|reason| Fault::Layout { what: self.what, reason })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.slice.size_bits() == 0 && self.slice.size_refs() == 0
    }

    pub(crate) fn remaining_bits(&self) -> u16 {
        self.slice.size_bits()
    }

    pub(crate) fn bit(&mut self) -> Result<bool, Fault> {
        let value = self.slice.load_bit();
        self.wrap(value)
    }

    /// An unsigned number of at most 64 bits.
    pub(crate) fn uint(&mut self, bits: u16) -> Result<u64, Fault> {
        let value = self.slice.load_uint(bits);
        self.wrap(value)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Fault> {
        let value = self.slice.load_u8();
        self.wrap(value)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Fault> {
        let value = self.slice.load_u32();
        self.wrap(value)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Fault> {
        let value = self.slice.load_u64();
        self.wrap(value)
    }

    pub(crate) fn hash(&mut self) -> Result<Hash, Fault> {
        let value = self.slice.load_u256();
        Ok(Hash(self.wrap(value)?.0))
    }

    pub(crate) fn public_key(&mut self) -> Result<PublicKey, Fault> {
        Ok(PublicKey(self.hash()?.0))
    }

    /// A token count; more than fits into a signed number means nothing.
    pub(crate) fn tokens(&mut self) -> Result<Tokens, Fault> {
        let tokens = Tokens(self.u64()?);
        if tokens > Tokens::MAX {
            return Err(Fault::Range { what: self.what, field: "tokens", found: tokens.0 });
        }
        Ok(tokens)
    }

    /// `Coins` of at most 8 bytes; the whole supply of TON needs fewer.
    pub(crate) fn coins(&mut self) -> Result<Nanoton, Fault> {
        let bytes = self.uint(4)?;
        if bytes > 8 {
            return Err(Fault::Range { what: self.what, field: "coins: length", found: bytes });
        }
        let mut value = 0u64;
        for _ in 0..bytes {
            value = (value << 8) | u64::from(self.u8()?);
        }
        Ok(Nanoton(value))
    }

    /// `addr_std` without anycast.
    pub(crate) fn address(&mut self) -> Result<Address, Fault> {
        if self.uint(3)? != 0b100 {
            return Err(Fault::AddressForm { what: self.what });
        }
        #[expect(clippy::cast_possible_wrap, reason = "the workchain is a signed byte")]
        let workchain = self.u8()? as i8;
        Ok(Address { workchain, hash: self.hash()?.0 })
    }

    pub(crate) fn bytes<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let mut out = [0u8; N];
        for byte in &mut out {
            *byte = self.u8()?;
        }
        Ok(out)
    }

    /// `bytes` bytes, at most 127.
    pub(crate) fn text(&mut self, bytes: u64) -> Result<Vec<u8>, Fault> {
        (0..bytes.min(127)).map(|_| self.u8()).collect()
    }

    pub(crate) fn reference(&mut self) -> Result<Cell, Fault> {
        let value = self.slice.load_reference_cloned();
        self.wrap(value)
    }

    pub(crate) fn maybe_reference(&mut self) -> Result<Option<Cell>, Fault> {
        if self.bit()? { self.reference().map(Some) } else { Ok(None) }
    }

    pub(crate) fn end(self) -> Result<(), Fault> {
        let (bits, refs) = (self.slice.size_bits(), self.slice.size_refs());
        if bits == 0 && refs == 0 {
            return Ok(());
        }
        Err(Fault::Leftover { what: self.what, bits, refs })
    }
}

/// Writes one structure into a cell; a field that does not fit is reported at the end.
pub(crate) struct Writer {
    what: &'static str,
    builder: CellBuilder,
    fault: Option<Error>,
}

impl Writer {
    pub(crate) fn new(what: &'static str) -> Self {
        Self { what, builder: CellBuilder::new(), fault: None }
    }

    /// A body: operation and query id.
    pub(crate) fn body(what: &'static str, op: u32, query_id: u64) -> Self {
        Self::new(what).u32(op).u64(query_id)
    }

    fn with(mut self, store: impl FnOnce(&mut CellBuilder) -> Result<(), Error>) -> Self {
        if self.fault.is_none() {
            self.fault = store(&mut self.builder).err();
        }
        self
    }

    pub(crate) fn bit(self, value: bool) -> Self {
        self.with(|b| b.store_bit(value))
    }

    pub(crate) fn uint(self, value: u64, bits: u16) -> Self {
        self.with(|b| b.store_uint(value, bits))
    }

    pub(crate) fn zeros(self, bits: u16) -> Self {
        self.with(|b| b.store_zeros(bits))
    }

    pub(crate) fn u8(self, value: u8) -> Self {
        self.with(|b| b.store_u8(value))
    }

    pub(crate) fn u32(self, value: u32) -> Self {
        self.with(|b| b.store_u32(value))
    }

    pub(crate) fn u64(self, value: u64) -> Self {
        self.with(|b| b.store_u64(value))
    }

    pub(crate) fn hash(self, value: &Hash) -> Self {
        self.with(|b| b.store_u256(&HashBytes(value.0)))
    }

    pub(crate) fn public_key(self, value: &PublicKey) -> Self {
        self.hash(&Hash(value.0))
    }

    pub(crate) fn tokens(self, value: Tokens) -> Self {
        self.u64(value.0)
    }

    pub(crate) fn bytes(self, value: &[u8]) -> Self {
        value.iter().fold(self, |writer, byte| writer.u8(*byte))
    }

    pub(crate) fn coins(self, value: Nanoton) -> Self {
        let bits = u64::BITS - value.0.leading_zeros();
        let bytes = bits.div_ceil(8);
        let writer = self.uint(u64::from(bytes), 4);
        // At most 8 bytes, so the width fits.
        #[expect(clippy::cast_possible_truncation, reason = "at most 64 bits")]
        let width = (bytes * 8) as u16;
        if width == 0 { writer } else { writer.uint(value.0, width) }
    }

    pub(crate) fn address(self, value: &Address) -> Self {
        #[expect(clippy::cast_sign_loss, reason = "the workchain is a signed byte")]
        let workchain = value.workchain as u8;
        self.uint(0b100, 3).u8(workchain).hash(&Hash(value.hash))
    }

    pub(crate) fn reference(self, cell: Cell) -> Self {
        self.with(|b| b.store_reference(cell))
    }

    pub(crate) fn maybe_reference(self, cell: Option<Cell>) -> Self {
        match cell {
            Some(cell) => self.bit(true).reference(cell),
            None => self.bit(false),
        }
    }

    /// The bits and references of another cell.
    pub(crate) fn contents(self, cell: &Cell) -> Self {
        self.with(|b| b.store_slice(cell.as_slice()?))
    }

    pub(crate) fn free_bits(&self) -> u16 {
        1023 - self.builder.size_bits()
    }

    pub(crate) fn build(self) -> Result<Cell, Fault> {
        let what = self.what;
        match self.fault {
            Some(reason) => Err(Fault::Build { what, reason }),
            None => self.builder.build().map_err(|reason| Fault::Build { what, reason }),
        }
    }

    /// The identity of the cell with the bits written so far and these references.
    pub(crate) fn identify(self, refs: &[CellId]) -> Result<CellId, Fault> {
        match self.fault {
            Some(reason) => Err(Fault::Build { what: self.what, reason }),
            None => Ok(CellId::compose(&self.builder, refs)),
        }
    }
}
