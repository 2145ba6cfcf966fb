//! Blocks and states in the form that TON gives them (block.tlb).

use tycho_types::boc::Boc;
use tycho_types::boc::ser::BocHeader;
use tycho_types::cell::{Cell, CellBuilder, HashBytes, Lazy};
use tycho_types::dict::AugDict;
use tycho_types::models::{
    AccountBlock, AccountBlocks, Block, BlockExtra, BlockId, BlockInfo, BlockRef,
    CurrencyCollection, DepthBalanceInfo, GlobalVersion, HashUpdate, InMsgDescr, KeyBlockRef,
    KeyMaxLt, McBlockExtra, McStateExtra, OutMsgDescr, ShardAccount, ShardAccounts,
    ShardDescription, ShardFeeCreated, ShardFees, ShardHashes, ShardIdent, ShardStateUnsplit,
    ValidatorInfo, ValueFlow,
};
use tycho_types::num::Tokens;

use crate::Fault;
use crate::collate::{Collation, Touched};
use crate::fault::Doing as _;
use crate::genesis::{CATCHAIN_SEQNO, Network};
use crate::queue::Queue;
use crate::update::{CellHash, merkle_update};

/// A sealed block (or the state before the first one) and the state after it.
#[derive(Clone, Debug)]
pub struct SealedBlock {
    /// Identity: shard, number, hash of the root cell, SHA-256 of the bag of cells.
    pub id: BlockId,
    /// The block; of the state before the first block, that state.
    pub root: Cell,
    /// Root of the shard's state after the block.
    pub state: Cell,
    /// Logical time at which the block starts.
    pub start_lt: u64,
    /// Logical time after the last thing in the block.
    pub end_lt: u64,
    /// Time of the block, seconds since 1970.
    pub gen_utime: u32,
}

impl SealedBlock {
    /// The block as a bag of cells: the bytes whose SHA-256 the identity names.
    #[must_use]
    pub fn to_boc(&self) -> Vec<u8> {
        Boc::encode(&self.root)
    }

    pub(crate) fn block_ref(&self) -> BlockRef {
        BlockRef {
            end_lt: self.end_lt,
            seqno: self.id.seqno,
            root_hash: self.id.root_hash,
            file_hash: self.id.file_hash,
        }
    }
}

/// What a block says about its place in time.
#[derive(Clone, Copy)]
pub(crate) struct Moment {
    pub(crate) seqno: u32,
    pub(crate) gen_utime: u32,
    pub(crate) start_lt: u64,
    pub(crate) rand_seed: HashBytes,
}

/// The shard's part of the chain's state.
#[derive(Clone)]
pub(crate) struct ShardBooks {
    pub(crate) accounts: ShardAccounts,
    pub(crate) queue: Queue,
    /// Coins collected since the beginning, in nanoton.
    pub(crate) fees: CurrencyCollection,
}

/// Turns a finished collation into a block. The books move on; nothing else changes.
pub(crate) fn seal_shard(
    network: &Network,
    books: &mut ShardBooks,
    previous: &SealedBlock,
    master: &SealedBlock,
    moment: Moment,
    collation: Collation<'_>,
) -> Result<(SealedBlock, CurrencyCollection), Fault> {
    let before = books.accounts.root_extra().balance.clone();
    let transactions = collation.in_msgs.len();
    for transit in &collation.dequeued {
        books.queue.remove(transit).doing("taking a message from the queue")?;
    }
    for transit in collation.queued {
        books.queue.insert(transit).doing("queueing a message")?;
    }
    let in_msgs: Vec<_> = collation.in_msgs.into_iter().map(|(k, (e, v))| (k, e, v)).collect();
    let in_msgs = InMsgDescr::try_from_sorted_slice(&in_msgs).doing("describing imports")?;
    let out_msgs: Vec<_> = collation.out_msgs.into_iter().map(|(k, (e, v))| (k, e, v)).collect();
    let out_msgs = OutMsgDescr::try_from_sorted_slice(&out_msgs).doing("describing exports")?;
    let account_blocks = account_blocks(&collation.touched)?;
    apply_accounts(&mut books.accounts, &collation.touched)?;

    let imported = in_msgs.root_extra();
    let mut collected = account_blocks.root_extra().clone();
    collected.try_add_assign_tokens(imported.fees_collected).doing("adding import fees")?;
    books.fees.try_add_assign(&collected).doing("adding fees")?;
    let flow = ValueFlow {
        from_prev_block: before,
        to_next_block: books.accounts.root_extra().balance.clone(),
        imported: imported.value_imported.clone(),
        exported: out_msgs.root_extra().clone(),
        fees_collected: collected.clone(),
        burned: collation.burned.into(),
        ..ValueFlow::default()
    };
    check_flow(&flow, moment.seqno)?;

    let end_lt = collation.end_lt.saturating_add(1);
    let state = shard_state(network, books, moment, end_lt, master)?;
    let info = BlockInfo {
        shard: ShardIdent::BASECHAIN,
        master_ref: Some(Lazy::new(&master.block_ref()).doing("naming the masterchain block")?),
        ..block_info(network, moment, end_lt, previous, master.id.seqno)
    };
    let extra = BlockExtra {
        in_msg_description: Lazy::new(&in_msgs).doing("storing imports")?,
        out_msg_description: Lazy::new(&out_msgs).doing("storing exports")?,
        account_blocks: Lazy::new(&account_blocks).doing("storing transactions")?,
        rand_seed: moment.rand_seed,
        created_by: HashBytes::ZERO,
        custom: None,
    };
    let block = seal(network, info, &flow, extra, &previous.state, state, transactions)?;
    Ok((block, collected))
}

fn check_flow(flow: &ValueFlow, seqno: u32) -> Result<(), Fault> {
    if flow.validate().doing("checking the value flow")? {
        return Ok(());
    }
    Err(Fault::Balance { seqno, detail: format!("{flow:?}") })
}

fn account_blocks(
    touched: &std::collections::BTreeMap<HashBytes, Touched>,
) -> Result<AccountBlocks, Fault> {
    let mut entries = Vec::with_capacity(touched.len());
    for (account, touched) in touched {
        let transactions = AugDict::try_from_sorted_slice(&touched.transactions)
            .doing("collecting an account's transactions")?;
        let fees: CurrencyCollection = AugDict::root_extra(&transactions).clone();
        let state_update = Lazy::new(&HashUpdate {
            old: touched.hash_before,
            new: *touched.state.account.repr_hash(),
        });
        let block = AccountBlock {
            account: *account,
            transactions,
            state_update: state_update.doing("storing an account's hashes")?,
        };
        entries.push((*account, fees, block));
    }
    AugDict::try_from_sorted_slice(&entries).doing("collecting transactions")
}

fn apply_accounts(
    accounts: &mut ShardAccounts,
    touched: &std::collections::BTreeMap<HashBytes, Touched>,
) -> Result<(), Fault> {
    let changes = touched.iter().map(|(account, touched)| {
        let extra = DepthBalanceInfo { split_depth: 0, balance: touched.balance.clone() };
        (*account, touched.exists.then(|| (extra, touched.state.clone())))
    });
    accounts.modify_with_sorted_iter(changes).doing("writing accounts")?;
    Ok(())
}

fn shard_state(
    network: &Network,
    books: &ShardBooks,
    moment: Moment,
    end_lt: u64,
    master: &SealedBlock,
) -> Result<Cell, Fault> {
    let state = ShardStateUnsplit {
        global_id: network.parsed.global_id,
        shard_ident: ShardIdent::BASECHAIN,
        seqno: moment.seqno,
        gen_utime: moment.gen_utime,
        gen_lt: end_lt,
        min_ref_mc_seqno: master.id.seqno,
        out_msg_queue_info: books.queue.to_cell().doing("storing the queue")?,
        accounts: Lazy::new(&books.accounts).doing("storing accounts")?,
        total_balance: books.accounts.root_extra().balance.clone(),
        total_validator_fees: books.fees.clone(),
        master_ref: Some(master.block_ref()),
        ..ShardStateUnsplit::default()
    };
    CellBuilder::build_from(&state).doing("storing the shard's state")
}

fn block_info(
    network: &Network,
    moment: Moment,
    end_lt: u64,
    previous: &SealedBlock,
    min_ref_mc_seqno: u32,
) -> BlockInfo {
    let mut info = BlockInfo {
        seqno: moment.seqno,
        gen_utime: moment.gen_utime,
        start_lt: moment.start_lt,
        end_lt,
        gen_validator_list_hash_short: network.validators_hash_short,
        gen_catchain_seqno: CATCHAIN_SEQNO,
        min_ref_mc_seqno,
        // The first masterchain block is the only key block.
        prev_key_block_seqno: u32::from(min_ref_mc_seqno > 0),
        ..BlockInfo::default()
    };
    info.set_gen_software(Some(GlobalVersion {
        version: network.parsed.global.version,
        capabilities: network.parsed.global.capabilities,
    }));
    info.set_prev_ref_single(&previous.block_ref());
    info
}

fn seal(
    network: &Network,
    info: BlockInfo,
    flow: &ValueFlow,
    extra: BlockExtra,
    before: &Cell,
    state: Cell,
    transactions: usize,
) -> Result<SealedBlock, Fault> {
    let block = Block {
        global_id: network.parsed.global_id,
        value_flow: Lazy::new(flow).doing("storing the value flow")?,
        state_update: merkle_update(before.as_ref(), state.as_ref()).doing("diffing states")?,
        out_msg_queue_updates: None,
        extra: Lazy::new(&extra).doing("storing the block's content")?,
        info: Lazy::new(&info).doing("storing the block's header")?,
    };
    let root = CellBuilder::build_from(&block).doing("storing a block")?;
    Ok(SealedBlock {
        id: BlockId {
            shard: info.shard,
            seqno: info.seqno,
            root_hash: *root.repr_hash(),
            file_hash: file_hash(&root, transactions),
        },
        root,
        state,
        start_lt: info.start_lt,
        end_lt: info.end_lt,
        gen_utime: info.gen_utime,
    })
}

/// The masterchain's part of the chain's state.
#[derive(Clone)]
pub(crate) struct MasterBooks {
    pub(crate) previous: AugDict<u32, KeyMaxLt, KeyBlockRef>,
    pub(crate) last_key_block: Option<BlockRef>,
    pub(crate) shards: ShardHashes,
    pub(crate) fees: CurrencyCollection,
    pub(crate) global_balance: CurrencyCollection,
}

/// What the shard's block hands to the masterchain.
pub(crate) struct ShardReport<'a> {
    pub(crate) block: &'a SealedBlock,
    pub(crate) fees: CurrencyCollection,
    pub(crate) minted: CurrencyCollection,
    pub(crate) burned: Tokens,
}

/// Seals the masterchain block that refers to a shard block.
pub(crate) fn seal_master(
    network: &Network,
    books: &mut MasterBooks,
    previous: &SealedBlock,
    moment: Moment,
    report: &ShardReport<'_>,
) -> Result<SealedBlock, Fault> {
    let is_key_block = moment.seqno == 1;
    let end_lt = moment.start_lt.max(report.block.end_lt).saturating_add(4);
    remember(books, previous)?;
    let (shards, fees) = describe_shard(report, moment)?;
    books.shards = shards.clone();
    books.fees.try_add_assign(&report.fees).doing("adding fees")?;
    books.global_balance.try_add_assign(&report.minted).doing("adding minted coins")?;
    books.global_balance.try_sub_assign_tokens(report.burned).doing("taking burned coins")?;

    let flow = ValueFlow {
        fees_imported: report.fees.clone(),
        fees_collected: report.fees.clone(),
        minted: report.minted.clone(),
        exported: report.minted.clone(),
        ..ValueFlow::default()
    };
    check_flow(&flow, moment.seqno)?;
    let custom = McBlockExtra {
        shards,
        fees,
        config: is_key_block.then(|| network.published.clone()),
        ..McBlockExtra::default()
    };
    let extra = BlockExtra {
        rand_seed: moment.rand_seed,
        custom: Some(Lazy::new(&custom).doing("storing the masterchain's content")?),
        ..BlockExtra::default()
    };
    let info = BlockInfo {
        key_block: is_key_block,
        ..block_info(network, moment, end_lt, previous, moment.seqno.saturating_sub(1))
    };
    let state = master_state(network, books, moment, end_lt)?;
    seal(network, info, &flow, extra, &previous.state, state, 0)
}

/// Cells that a transaction brings into a block, about; only memory is reserved by it.
const CELLS_PER_TRANSACTION: usize = 24;

/// SHA-256 of the block as a bag of cells.
fn file_hash(root: &Cell, transactions: usize) -> HashBytes {
    let cells = transactions.saturating_mul(CELLS_PER_TRANSACTION).saturating_add(64);
    let header = BocHeader::<CellHash>::with_capacity_and_root(cells, root.as_ref());
    let mut bytes = Vec::new();
    header.encode(&mut bytes);
    Boc::file_hash(&bytes)
}

/// Enters the block before this one into the list of all masterchain blocks.
fn remember(books: &mut MasterBooks, previous: &SealedBlock) -> Result<(), Fault> {
    let is_key_block = previous.id.seqno <= 1;
    let block_ref = previous.block_ref();
    if previous.id.seqno == 1 {
        books.last_key_block = Some(block_ref.clone());
    }
    let extra = KeyMaxLt { has_key_block: is_key_block, max_end_lt: block_ref.end_lt };
    books
        .previous
        .set(previous.id.seqno, extra, KeyBlockRef { is_key_block, block_ref })
        .doing("remembering a masterchain block")?;
    Ok(())
}

fn describe_shard(
    report: &ShardReport<'_>,
    moment: Moment,
) -> Result<(ShardHashes, ShardFees), Fault> {
    let block = report.block;
    let description = ShardDescription {
        seqno: block.id.seqno,
        reg_mc_seqno: moment.seqno,
        start_lt: block.start_lt,
        end_lt: block.end_lt,
        root_hash: block.id.root_hash,
        file_hash: block.id.file_hash,
        before_split: false,
        before_merge: false,
        want_split: false,
        want_merge: false,
        nx_cc_updated: false,
        next_catchain_seqno: CATCHAIN_SEQNO,
        next_validator_shard: ShardIdent::PREFIX_FULL,
        min_ref_mc_seqno: moment.seqno.saturating_sub(1),
        gen_utime: block.gen_utime,
        split_merge_at: None,
        fees_collected: report.fees.clone(),
        funds_created: CurrencyCollection::ZERO,
    };
    let shards = ShardHashes::from_shards([(&ShardIdent::BASECHAIN, &description)])
        .doing("describing the shard")?;
    let created = ShardFeeCreated { fees: report.fees.clone(), create: CurrencyCollection::ZERO };
    let mut fees = ShardFees::new();
    fees.set(tycho_types::models::ShardIdentFull::from(ShardIdent::BASECHAIN), &created, &created)
        .doing("entering the shard's fees")?;
    Ok((shards, fees))
}

fn master_state(
    network: &Network,
    books: &MasterBooks,
    moment: Moment,
    end_lt: u64,
) -> Result<Cell, Fault> {
    let custom = McStateExtra {
        shards: books.shards.clone(),
        config: network.published.clone(),
        validator_info: ValidatorInfo {
            validator_list_hash_short: network.validators_hash_short,
            catchain_seqno: CATCHAIN_SEQNO,
            nx_cc_updated: false,
        },
        prev_blocks: books.previous.clone(),
        after_key_block: moment.seqno <= 1,
        last_key_block: books.last_key_block.clone(),
        block_create_stats: None,
        global_balance: books.global_balance.clone(),
    };
    let state = ShardStateUnsplit {
        global_id: network.parsed.global_id,
        shard_ident: ShardIdent::MASTERCHAIN,
        seqno: moment.seqno,
        gen_utime: moment.gen_utime,
        gen_lt: end_lt,
        min_ref_mc_seqno: moment.seqno.saturating_sub(1),
        out_msg_queue_info: Queue::default().to_cell().doing("storing an empty queue")?,
        total_validator_fees: books.fees.clone(),
        custom: Some(Lazy::new(&custom).doing("storing the masterchain's state")?),
        ..ShardStateUnsplit::default()
    };
    CellBuilder::build_from(&state).doing("storing the masterchain's state")
}

/// The states before the first blocks: no account, no coin.
pub(crate) fn zero_states(
    network: &Network,
    gen_utime: u32,
) -> Result<(SealedBlock, SealedBlock, ShardBooks, MasterBooks), Fault> {
    let moment = Moment { seqno: 0, gen_utime, start_lt: 0, rand_seed: HashBytes::ZERO };
    let shard_books = ShardBooks {
        accounts: ShardAccounts::new(),
        queue: Queue::default(),
        fees: CurrencyCollection::ZERO,
    };
    let master_books = MasterBooks {
        previous: AugDict::new(),
        last_key_block: None,
        shards: ShardHashes::default(),
        fees: CurrencyCollection::ZERO,
        global_balance: CurrencyCollection::ZERO,
    };
    let master_root = master_state(network, &master_books, moment, 0)?;
    let master = zero_block(ShardIdent::MASTERCHAIN, master_root, gen_utime);
    let shard_root = shard_zero_state(network, gen_utime)?;
    let shard = zero_block(ShardIdent::BASECHAIN, shard_root, gen_utime);
    Ok((shard, master, shard_books, master_books))
}

fn shard_zero_state(network: &Network, gen_utime: u32) -> Result<Cell, Fault> {
    let state = ShardStateUnsplit {
        global_id: network.parsed.global_id,
        shard_ident: ShardIdent::BASECHAIN,
        gen_utime,
        out_msg_queue_info: Queue::default().to_cell().doing("storing an empty queue")?,
        ..ShardStateUnsplit::default()
    };
    CellBuilder::build_from(&state).doing("storing the shard's first state")
}

fn zero_block(shard: ShardIdent, root: Cell, gen_utime: u32) -> SealedBlock {
    SealedBlock {
        id: BlockId {
            shard,
            seqno: 0,
            root_hash: *root.repr_hash(),
            file_hash: Boc::file_hash(Boc::encode(&root)),
        },
        state: root.clone(),
        root,
        start_lt: 0,
        end_lt: 0,
        gen_utime,
    }
}

/// Reads a shard's books back from its state.
pub(crate) fn shard_books(state: &Cell) -> Result<ShardBooks, tycho_types::error::Error> {
    let state = state.parse::<ShardStateUnsplit>()?;
    Ok(ShardBooks {
        accounts: state.load_accounts()?,
        queue: Queue::from_cell(&state.out_msg_queue_info)?,
        fees: state.total_validator_fees,
    })
}

/// Reads the masterchain's books back from its state.
pub(crate) fn master_books(state: &Cell) -> Result<MasterBooks, tycho_types::error::Error> {
    let state = state.parse::<ShardStateUnsplit>()?;
    let custom = state.load_custom()?.ok_or(tycho_types::error::Error::InvalidData)?;
    Ok(MasterBooks {
        previous: custom.prev_blocks,
        last_key_block: custom.last_key_block,
        shards: custom.shards,
        fees: state.total_validator_fees,
        global_balance: custom.global_balance,
    })
}

/// The accounts of a shard, for look-up by hash.
pub(crate) fn index_accounts(
    accounts: &ShardAccounts,
) -> Result<std::collections::HashMap<HashBytes, ShardAccount>, tycho_types::error::Error> {
    accounts.iter().map(|entry| entry.map(|(key, _, account)| (key, account))).collect()
}
