//! Messages between accounts that wait for the next block, ordered by logical time.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use tycho_types::cell::{
    Cell, CellBuilder, CellContext, CellDataBuilder, CellFamily as _, CellSlice, HashBytes, Lazy,
    Load, Store,
};
use tycho_types::dict::{AugDict, AugDictExtra, DictKey, LoadDictKey, StoreDictKey};
use tycho_types::error::Error;
use tycho_types::models::{
    CurrencyCollection, EnqueuedMsg, IntAddr, IntMsgInfo, IntermediateAddr, MsgEnvelope, MsgInfo,
    OwnedMessage, Transaction,
};
use tycho_types::num::Tokens;

/// An internal message on its way, with what blocks say about it.
#[derive(Clone)]
pub(crate) struct Transit {
    /// Logical time of creation: the order of delivery, ties broken by `hash`.
    pub(crate) created_lt: u64,
    /// Hash of the message cell.
    pub(crate) hash: HashBytes,
    /// The message.
    pub(crate) cell: Cell,
    /// Destination account on workchain 0.
    pub(crate) account: HashBytes,
    /// Coins that travel.
    pub(crate) value: CurrencyCollection,
    /// Forwarding fee that the importing block collects.
    pub(crate) fwd_fee: Tokens,
    /// The transaction that created it, when that is in the block being built.
    pub(crate) origin: Option<Lazy<Transaction>>,
}

impl Transit {
    /// The message and where it goes; `None` when the destination is no account on workchain 0.
    pub(crate) fn from_info(
        cell: Cell,
        info: IntMsgInfo,
        origin: Option<Lazy<Transaction>>,
    ) -> Option<Self> {
        let IntAddr::Std(address) = &info.dst else {
            return None;
        };
        (address.workchain == 0 && address.anycast.is_none()).then(|| Self {
            created_lt: info.created_lt,
            hash: *cell.repr_hash(),
            account: address.address,
            value: info.value,
            fwd_fee: info.fwd_fee,
            cell,
            origin,
        })
    }

    pub(crate) fn envelope(&self) -> Result<Lazy<MsgEnvelope>, Error> {
        envelope(&self.cell, self.fwd_fee)
    }

    fn key(&self) -> QueueKey {
        let prefix: &[u8; 8] = self.account.first_chunk();
        QueueKey { workchain: 0, prefix: u64::from_be_bytes(*prefix), hash: self.hash }
    }
}

/// Wraps a message as blocks of one workchain with one shard do.
pub(crate) fn envelope(message: &Cell, fwd_fee: Tokens) -> Result<Lazy<MsgEnvelope>, Error> {
    Lazy::new(&MsgEnvelope {
        cur_addr: IntermediateAddr::FULL_DEST_SAME_WORKCHAIN,
        next_addr: IntermediateAddr::FULL_DEST_SAME_WORKCHAIN,
        fwd_fee_remaining: fwd_fee,
        message: Lazy::from_raw(message.clone())?,
    })
}

impl PartialEq for Transit {
    fn eq(&self, other: &Self) -> bool {
        self.order() == other.order()
    }
}

impl Eq for Transit {}

impl PartialOrd for Transit {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// Turned round, so that a heap gives the earliest message first.
impl Ord for Transit {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.order().cmp(&other.order())
    }
}

impl Transit {
    fn order(&self) -> Reverse<(u64, HashBytes)> {
        Reverse((self.created_lt, self.hash))
    }
}

/// The outbound queue of the shard: what no block had room for yet.
#[derive(Clone, Default)]
pub(crate) struct Queue {
    by_lt: BTreeMap<(u64, HashBytes), Transit>,
    dict: QueueDict,
}

impl Queue {
    pub(crate) fn len(&self) -> usize {
        self.by_lt.len()
    }

    /// Coins that wait, with the fees that the importing block will collect.
    pub(crate) fn value_nanoton(&self) -> u128 {
        let of = |transit: &Transit| {
            transit.value.tokens.into_inner().saturating_add(transit.fwd_fee.into_inner())
        };
        self.by_lt.values().map(of).sum()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Transit> {
        self.by_lt.values()
    }

    pub(crate) fn insert(&mut self, mut transit: Transit) -> Result<(), Error> {
        transit.origin = None;
        let message =
            EnqueuedMsg { enqueued_lt: transit.created_lt, out_msg_envelope: transit.envelope()? };
        self.dict.set(transit.key(), MinLt(transit.created_lt), message)?;
        self.by_lt.insert((transit.created_lt, transit.hash), transit);
        Ok(())
    }

    pub(crate) fn remove(&mut self, transit: &Transit) -> Result<(), Error> {
        self.dict.remove(transit.key())?;
        self.by_lt.remove(&(transit.created_lt, transit.hash));
        Ok(())
    }

    /// The queue as it stands in a shard's state: queue, no processed marks, no extra.
    pub(crate) fn to_cell(&self) -> Result<Cell, Error> {
        let mut builder = CellBuilder::new();
        self.dict.store_into(&mut builder, Cell::empty_context())?;
        builder.store_zeros(2)?;
        builder.build()
    }

    pub(crate) fn from_cell(cell: &Cell) -> Result<Self, Error> {
        let mut slice = cell.as_slice()?;
        let dict = QueueDict::load_from(&mut slice)?;
        let mut by_lt = BTreeMap::new();
        for entry in dict.iter() {
            let (_, _, message) = entry?;
            let envelope = message.out_msg_envelope.load()?;
            let cell = envelope.message.into_inner();
            let MsgInfo::Int(info) = cell.parse::<OwnedMessage>()?.info else {
                return Err(Error::InvalidData);
            };
            let transit = Transit::from_info(cell, info, None).ok_or(Error::InvalidData)?;
            by_lt.insert((transit.created_lt, transit.hash), transit);
        }
        Ok(Self { by_lt, dict })
    }
}

type QueueDict = AugDict<QueueKey, MinLt, EnqueuedMsg>;

/// Next hop and message: 352 bits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct QueueKey {
    workchain: i32,
    prefix: u64,
    hash: HashBytes,
}

impl DictKey for QueueKey {
    const BITS: u16 = 32 + 64 + 256;
}

impl StoreDictKey for QueueKey {
    fn store_into_data(&self, data: &mut CellDataBuilder) -> Result<(), Error> {
        data.store_u32(self.workchain.cast_unsigned())?;
        data.store_u64(self.prefix)?;
        data.store_u256(&self.hash)
    }
}

impl LoadDictKey for QueueKey {
    fn load_from_data(data: &CellDataBuilder) -> Option<Self> {
        let (workchain, rest) = data.raw_data().split_first_chunk::<4>()?;
        let (prefix, rest) = rest.split_first_chunk::<8>()?;
        Some(Self {
            workchain: i32::from_be_bytes(*workchain),
            prefix: u64::from_be_bytes(*prefix),
            hash: HashBytes(*rest.first_chunk::<32>()?),
        })
    }
}

/// The earliest logical time in a part of the queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct MinLt(u64);

impl Store for MinLt {
    fn store_into(&self, builder: &mut CellBuilder, _: &dyn CellContext) -> Result<(), Error> {
        builder.store_u64(self.0)
    }
}

impl<'a> Load<'a> for MinLt {
    fn load_from(slice: &mut CellSlice<'a>) -> Result<Self, Error> {
        slice.load_u64().map(Self)
    }
}

impl AugDictExtra for MinLt {
    fn comp_add(
        left: &mut CellSlice<'_>,
        right: &mut CellSlice<'_>,
        builder: &mut CellBuilder,
        _: &dyn CellContext,
    ) -> Result<(), Error> {
        builder.store_u64(left.load_u64()?.min(right.load_u64()?))
    }
}
