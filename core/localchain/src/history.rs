//! What is remembered: blocks with their states, and transactions by account.

use std::collections::{HashMap, VecDeque};

use tycho_types::cell::{HashBytes, Lazy};
use tycho_types::models::{BlockId, ShardIdent, Transaction};

use crate::block::SealedBlock;

/// One beat of the chain: the shard's block and the masterchain block that refers to it. Both
/// carry the same sequence number.
#[derive(Clone, Debug)]
pub struct Sealed {
    /// Block of workchain 0.
    pub shard: SealedBlock,
    /// Block of the masterchain.
    pub master: SealedBlock,
    /// Account and logical time of each transaction in the shard's block, in order of execution.
    pub transactions: Vec<(HashBytes, u64)>,
    /// External messages dropped by this block because their contract did not accept them.
    pub skipped: u32,
    /// Internal messages that the executor could not take: they stay in the queue.
    pub undeliverable: u32,
}

impl Sealed {
    /// Sequence number of both blocks.
    #[must_use]
    pub fn seqno(&self) -> u32 {
        self.master.id.seqno
    }
}

/// A transaction as it is remembered.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The account, on workchain 0.
    pub account: HashBytes,
    /// Logical time.
    pub lt: u64,
    /// Hash of the transaction's cell.
    pub hash: HashBytes,
    /// Sequence number of the block it is in.
    pub block_seqno: u32,
    /// The transaction.
    pub transaction: Lazy<Transaction>,
}

/// Blocks and transactions, both limited: the oldest go first.
#[derive(Clone, Debug)]
pub(crate) struct History {
    kept_blocks: usize,
    kept_transactions: usize,
    zero: (SealedBlock, SealedBlock),
    /// The first beat, kept for ever: its masterchain block is the key block of every proof.
    first: Option<Sealed>,
    blocks: VecDeque<Sealed>,
    /// Transactions in `blocks`, counted.
    in_blocks: usize,
    accounts: HashMap<HashBytes, VecDeque<Entry>>,
    order: VecDeque<(HashBytes, u64)>,
}

impl History {
    pub(crate) fn new(
        zero: (SealedBlock, SealedBlock),
        kept_blocks: u32,
        kept_transactions: u32,
    ) -> Self {
        Self {
            kept_blocks: usize::try_from(kept_blocks).unwrap_or(usize::MAX).max(1),
            kept_transactions: usize::try_from(kept_transactions).unwrap_or(usize::MAX),
            zero,
            first: None,
            blocks: VecDeque::new(),
            in_blocks: 0,
            accounts: HashMap::new(),
            order: VecDeque::new(),
        }
    }

    pub(crate) fn push_block(&mut self, sealed: Sealed) {
        if sealed.seqno() == 1 {
            self.first = Some(sealed.clone());
        }
        self.in_blocks = self.in_blocks.saturating_add(self.weight(&sealed));
        self.blocks.push_back(sealed);
        // Full blocks are large: they are limited by what is in them besides.
        while self.blocks.len() > self.kept_blocks
            || (self.in_blocks > self.kept_transactions && self.blocks.len() > 1)
        {
            self.pop_block();
        }
    }

    fn pop_block(&mut self) {
        if let Some(sealed) = self.blocks.pop_front() {
            self.in_blocks = self.in_blocks.saturating_sub(self.weight(&sealed));
        }
    }

    /// Transactions of a block, as far as they can be kept: a restored chain knows no others.
    fn weight(&self, sealed: &Sealed) -> usize {
        sealed.transactions.len().min(self.kept_transactions)
    }

    /// Drops the first beat from among the others when there is a gap after it.
    pub(crate) fn forget_blocks(&mut self) {
        let has_gap = |blocks: &VecDeque<Sealed>| {
            let second = blocks.get(1).map_or(2, Sealed::seqno);
            blocks.front().is_some_and(|front| front.seqno() == 1) && second > 2
        };
        if has_gap(&self.blocks) {
            self.pop_block();
        }
    }

    pub(crate) fn push_transaction(&mut self, entry: Entry) {
        self.order.push_back((entry.account, entry.lt));
        self.accounts.entry(entry.account).or_default().push_back(entry);
        while self.order.len() > self.kept_transactions {
            let Some((account, _)) = self.order.pop_front() else { return };
            if let Some(entries) = self.accounts.get_mut(&account) {
                entries.pop_front();
                if entries.is_empty() {
                    self.accounts.remove(&account);
                }
            }
        }
    }

    pub(crate) fn zero(&self) -> &(SealedBlock, SealedBlock) {
        &self.zero
    }

    /// All kept beats, the first one before the others.
    pub(crate) fn blocks(&self) -> impl Iterator<Item = &Sealed> {
        let is_apart = self.blocks.front().is_some_and(|front| front.seqno() > 1);
        self.first.iter().filter(move |_| is_apart).chain(&self.blocks)
    }

    pub(crate) fn last(&self) -> Option<&Sealed> {
        self.blocks.back()
    }

    pub(crate) fn sealed(&self, seqno: u32) -> Option<&Sealed> {
        if seqno == 1 {
            return self.first.as_ref();
        }
        let first = self.blocks.front()?.seqno();
        self.blocks.get(usize::try_from(seqno.checked_sub(first)?).ok()?)
    }

    pub(crate) fn block(&self, shard: ShardIdent, seqno: u32) -> Option<&SealedBlock> {
        let (zero_shard, zero_master) = &self.zero;
        match (shard, seqno) {
            (ShardIdent::MASTERCHAIN, 0) => Some(zero_master),
            (ShardIdent::BASECHAIN, 0) => Some(zero_shard),
            (ShardIdent::MASTERCHAIN, _) => self.sealed(seqno).map(|sealed| &sealed.master),
            (ShardIdent::BASECHAIN, _) => self.sealed(seqno).map(|sealed| &sealed.shard),
            _ => None,
        }
    }

    pub(crate) fn block_by_id(&self, id: &BlockId) -> Option<&SealedBlock> {
        self.block(id.shard, id.seqno).filter(|block| block.id == *id)
    }

    /// The first kept block for which `is_late_enough` holds.
    pub(crate) fn first_sealed(&self, is_late_enough: impl Fn(&Sealed) -> bool) -> Option<&Sealed> {
        let index = self.blocks.partition_point(|sealed| !is_late_enough(sealed));
        self.blocks.get(index)
    }

    /// Newest first, at or before `lt`.
    pub(crate) fn transactions(&self, account: HashBytes, lt: u64) -> impl Iterator<Item = &Entry> {
        let entries = self.accounts.get(&account);
        let end = entries.map_or(0, |entries| entries.partition_point(|entry| entry.lt <= lt));
        entries.into_iter().flat_map(move |entries| entries.range(..end).rev())
    }

    pub(crate) fn in_order(&self) -> impl Iterator<Item = &Entry> {
        self.order.iter().filter_map(|(account, lt)| {
            let entries = self.accounts.get(account)?;
            entries.binary_search_by_key(lt, |entry| entry.lt).ok().and_then(|at| entries.get(at))
        })
    }
}
