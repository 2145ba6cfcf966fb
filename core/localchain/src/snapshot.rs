//! The whole machine as bytes, and back.

use std::collections::VecDeque;

use cocoon_units::Nanoton;
use tycho_types::boc::Boc;
use tycho_types::cell::{Cell, CellBuilder, CellFamily as _, CellSlice, HashBytes, Lazy, Store};
use tycho_types::dict::Dict;
use tycho_types::error::Error;
use tycho_types::models::{BlockId, ShardIdent};

use crate::Fault;
use crate::arrival::Waiting;
use crate::block::{SealedBlock, index_accounts, master_books, shard_books};
use crate::chain::{Coins, LocalChain};
use crate::genesis::{Genesis, Limits};
use crate::history::{Entry, History, Sealed};
use crate::input::{Reader, Trouble};

/// First bytes of a snapshot.
const MAGIC: [u8; 4] = *b"CLC1";

impl LocalChain {
    /// The whole state as bytes: [`LocalChain::restore`] of them is a chain that behaves the
    /// same for ever.
    ///
    /// # Errors
    /// [`Fault::Snapshot`] when cells cannot be built, which is a bug.
    pub fn snapshot(&self) -> Result<Vec<u8>, Fault> {
        let mut bytes = MAGIC.to_vec();
        write_genesis(&self.genesis, &mut bytes);
        bytes.extend_from_slice(&self.last_ms.to_be_bytes());
        self.trouble.write(&mut bytes);
        for amount in [self.coins.minted, self.coins.burned, self.coins.stranded] {
            bytes.extend_from_slice(&amount.to_be_bytes());
        }
        let cells = self.to_cells().map_err(|error| Fault::Snapshot(error.to_string()))?;
        bytes.extend_from_slice(&Boc::encode(&cells));
        Ok(bytes)
    }

    /// Rebuilds the machine from [`LocalChain::snapshot`]'s bytes.
    ///
    /// # Errors
    /// [`Fault::Snapshot`] when the bytes are damaged or of another version: restore an older
    /// snapshot or begin a new chain.
    pub fn restore(bytes: &[u8]) -> Result<Self, Fault> {
        let mut reader = Reader(bytes);
        if reader.take::<4>()? != MAGIC {
            return Err(Fault::Snapshot("does not begin like a snapshot of this version".into()));
        }
        let genesis = read_genesis(&mut reader)?;
        let last_ms = reader.u64()?;
        let trouble = Trouble::read(&mut reader)?;
        let coins = Coins {
            minted: reader.u128()?,
            burned: reader.u128()?,
            stranded: reader.u128()?,
            ..Coins::default()
        };
        let root = Boc::decode(reader.0).map_err(|error| Fault::Snapshot(error.to_string()))?;
        let (history, waiting) = read_cells(&root, &genesis.limits)
            .map_err(|error| Fault::Snapshot(error.to_string()))?;
        let Some(last) = history.last() else {
            return Err(Fault::Snapshot("holds no block".to_owned()));
        };
        let (shard, master) = (last.shard.clone(), last.master.clone());
        let books = |error: Error| Fault::Snapshot(format!("state of the last block: {error}"));
        let shard_books = shard_books(&shard.state).map_err(books)?;
        Ok(Self {
            network: genesis.network()?,
            accounts: index_accounts(&shard_books.accounts).map_err(books)?,
            master_books: master_books(&master.state).map_err(books)?,
            shard_books,
            genesis,
            shard,
            master,
            waiting,
            history,
            trouble,
            coins,
            last_ms,
        })
    }

    fn to_cells(&self) -> Result<Cell, Error> {
        let mut blocks = Dict::<u32, Cell>::new();
        let (zero_shard, zero_master) = self.history.zero();
        blocks.set(0, beat_cell(zero_shard, zero_master, (0, 0))?)?;
        for sealed in self.history.blocks() {
            let dropped = (sealed.skipped, sealed.undeliverable);
            blocks.set(sealed.seqno(), beat_cell(&sealed.shard, &sealed.master, dropped)?)?;
        }
        let mut transactions = Dict::<u64, Cell>::new();
        for (number, entry) in self.history.in_order().enumerate() {
            let mut builder = CellBuilder::new();
            builder.store_u256(&entry.account)?;
            builder.store_u32(entry.block_seqno)?;
            builder.store_reference(entry.transaction.inner().clone())?;
            transactions.set(number as u64, builder.build()?)?;
        }
        let mut waiting = Dict::<u64, Cell>::new();
        for (number, (account, message)) in self.waiting.externals.iter().enumerate() {
            let mut builder = CellBuilder::new();
            builder.store_u256(account)?;
            builder.store_reference(message.clone())?;
            waiting.set(number as u64, builder.build()?)?;
        }
        let mut faucet = Dict::<u64, Cell>::new();
        for (number, (account, amount)) in self.waiting.faucet.iter().enumerate() {
            let mut builder = CellBuilder::new();
            builder.store_u256(account)?;
            builder.store_u64(amount.0)?;
            faucet.set(number as u64, builder.build()?)?;
        }
        let mut builder = CellBuilder::new();
        blocks.store_into(&mut builder, Cell::empty_context())?;
        for dict in [transactions, waiting, faucet] {
            dict.store_into(&mut builder, Cell::empty_context())?;
        }
        builder.build()
    }
}

fn beat_cell(
    shard: &SealedBlock,
    master: &SealedBlock,
    (skipped, undeliverable): (u32, u32),
) -> Result<Cell, Error> {
    let mut builder = CellBuilder::new();
    builder.store_u32(skipped)?;
    builder.store_u32(undeliverable)?;
    builder.store_reference(block_cell(shard)?)?;
    builder.store_reference(block_cell(master)?)?;
    builder.build()
}

fn block_cell(block: &SealedBlock) -> Result<Cell, Error> {
    let mut builder = CellBuilder::new();
    builder.store_u32(block.id.seqno)?;
    builder.store_u256(&block.id.file_hash)?;
    builder.store_u64(block.start_lt)?;
    builder.store_u64(block.end_lt)?;
    builder.store_u32(block.gen_utime)?;
    builder.store_reference(block.root.clone())?;
    builder.store_reference(block.state.clone())?;
    builder.build()
}

fn read_block(slice: &mut CellSlice<'_>, shard: ShardIdent) -> Result<SealedBlock, Error> {
    let cell = slice.load_reference_cloned()?;
    let mut slice = cell.as_slice()?;
    let seqno = slice.load_u32()?;
    let file_hash = slice.load_u256()?;
    let (start_lt, end_lt) = (slice.load_u64()?, slice.load_u64()?);
    let gen_utime = slice.load_u32()?;
    let root = slice.load_reference_cloned()?;
    let state = slice.load_reference_cloned()?;
    let id = BlockId { shard, seqno, root_hash: *root.repr_hash(), file_hash };
    Ok(SealedBlock { id, root, state, start_lt, end_lt, gen_utime })
}

type Read = (History, Waiting);

fn read_cells(root: &Cell, limits: &Limits) -> Result<Read, Error> {
    let mut slice = root.as_slice()?;
    let blocks = Dict::<u32, Cell>::from_raw(load_maybe(&mut slice)?);
    let mut beats = VecDeque::new();
    for entry in blocks.iter() {
        let (_, cell) = entry?;
        let mut slice = cell.as_slice()?;
        let (skipped, undeliverable) = (slice.load_u32()?, slice.load_u32()?);
        let shard = read_block(&mut slice, ShardIdent::BASECHAIN)?;
        let master = read_block(&mut slice, ShardIdent::MASTERCHAIN)?;
        let transactions = Vec::new();
        beats.push_back(Sealed { shard, master, transactions, skipped, undeliverable });
    }
    let zero = beats.pop_front().ok_or(Error::InvalidData)?;
    let apart = beats.get(1).is_some_and(|second| second.seqno() > 2);
    let apart = if apart { beats.pop_front() } else { None };
    check_sequence(&zero, apart.as_ref(), &beats)?;

    let mut entries = Vec::new();
    for entry in Dict::<u64, Cell>::from_raw(load_maybe(&mut slice)?).iter() {
        let (_, cell) = entry?;
        entries.push(read_transaction(&cell)?);
    }
    let first = beats.front().map_or(0, Sealed::seqno);
    for entry in &entries {
        let at = entry.block_seqno.checked_sub(first).and_then(|at| usize::try_from(at).ok());
        if let Some(sealed) = at.and_then(|at| beats.get_mut(at)) {
            sealed.transactions.push((entry.account, entry.lt));
        }
    }
    let mut history =
        History::new((zero.shard, zero.master), limits.kept_blocks, limits.kept_transactions);
    apart.into_iter().chain(beats).for_each(|sealed| history.push_block(sealed));
    history.forget_blocks();
    entries.into_iter().for_each(|entry| history.push_transaction(entry));
    let waiting = read_waiting(&mut slice)?;
    Ok((history, waiting))
}

/// Numbers must follow each other, or look-ups by number would lie.
fn check_sequence(
    zero: &Sealed,
    apart: Option<&Sealed>,
    beats: &VecDeque<Sealed>,
) -> Result<(), Error> {
    let first = beats.front().map_or(1, Sealed::seqno);
    let expected = (first..).zip(beats);
    let in_order = |(seqno, sealed): (u32, &Sealed)| {
        sealed.master.id.seqno == seqno && sealed.shard.id.seqno == seqno
    };
    let is_first = |sealed: &Sealed| sealed.master.id.seqno == 1 && sealed.shard.id.seqno == 1;
    if zero.seqno() != 0
        || !apart.is_none_or(is_first)
        || first == 0
        || !expected.into_iter().all(in_order)
    {
        return Err(Error::InvalidData);
    }
    Ok(())
}

fn read_transaction(cell: &Cell) -> Result<Entry, Error> {
    let mut slice = cell.as_slice()?;
    let account = slice.load_u256()?;
    let block_seqno = slice.load_u32()?;
    let transaction = Lazy::from_raw(slice.load_reference_cloned()?)?;
    let lt = Lazy::<tycho_types::models::Transaction>::load(&transaction)?.lt;
    let hash = *transaction.repr_hash();
    Ok(Entry { account, lt, hash, block_seqno, transaction })
}

fn read_waiting(slice: &mut CellSlice<'_>) -> Result<Waiting, Error> {
    let mut waiting = Waiting::default();
    for entry in Dict::<u64, Cell>::from_raw(load_maybe(slice)?).iter() {
        let (_, cell) = entry?;
        let mut slice = cell.as_slice()?;
        let account = slice.load_u256()?;
        let message = slice.load_reference_cloned()?;
        waiting.hashes.insert(*message.repr_hash());
        waiting.externals.push_back((account, message));
    }
    for entry in Dict::<u64, Cell>::from_raw(load_maybe(slice)?).iter() {
        let (_, cell) = entry?;
        let mut slice = cell.as_slice()?;
        let account: HashBytes = slice.load_u256()?;
        waiting.faucet.push_back((account, Nanoton(slice.load_u64()?)));
    }
    Ok(waiting)
}

fn load_maybe(slice: &mut CellSlice<'_>) -> Result<Option<Cell>, Error> {
    if slice.load_bit()? { slice.load_reference_cloned().map(Some) } else { Ok(None) }
}

fn write_genesis(genesis: &Genesis, bytes: &mut Vec<u8>) {
    bytes.extend_from_slice(&genesis.seed);
    bytes.extend_from_slice(&genesis.now_ms.to_be_bytes());
    bytes.extend_from_slice(&genesis.global_id.to_be_bytes());
    let limits = &genesis.limits;
    for limit in [
        limits.waiting_messages,
        limits.block_transactions,
        limits.kept_blocks,
        limits.kept_transactions,
    ] {
        bytes.extend_from_slice(&limit.to_be_bytes());
    }
    bytes.extend_from_slice(&limits.faucet_nanoton.to_be_bytes());
    let config = genesis.config.as_deref().unwrap_or_default();
    bytes.extend_from_slice(&u32::try_from(config.len()).unwrap_or(u32::MAX).to_be_bytes());
    bytes.extend_from_slice(config);
}

fn read_genesis(reader: &mut Reader<'_>) -> Result<Genesis, Fault> {
    Ok(Genesis {
        seed: reader.take()?,
        now_ms: reader.u64()?,
        global_id: i32::from_be_bytes(reader.take()?),
        limits: Limits {
            waiting_messages: reader.u32()?,
            block_transactions: reader.u32()?,
            kept_blocks: reader.u32()?,
            kept_transactions: reader.u32()?,
            faucet_nanoton: reader.u64()?,
        },
        config: {
            let len = usize::try_from(reader.u32()?).unwrap_or(usize::MAX);
            let config = reader.slice(len)?;
            (!config.is_empty()).then(|| config.to_vec())
        },
    })
}
