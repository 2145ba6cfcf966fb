//! Checking what lite servers claim. No I/O: bytes and what is known already go in, proven facts
//! come out.
//!
//! ```text
//!   trusted key block ──signatures──► masterchain block ──► its state
//!                                        │                   ├─ shards ──► shard block ──► account
//!                                        └─ list of blocks   └─ configuration
//! ```
//!
//! Only what a fact needs is read, cell by cell, because everything else in a proof is pruned.

use tycho_types::boc::{Boc, de};
use tycho_types::cell::{Cell, CellFamily as _, CellSlice, HashBytes, Lazy, Load};
use tycho_types::dict::AugDict;
use tycho_types::error::Error;
use tycho_types::merkle::{MerkleProof, MerkleUpdate};
use tycho_types::models::{
    Block, BlockId, BlockchainConfig, BlockchainConfigParams, DepthBalanceInfo, KeyBlockRef,
    KeyMaxLt, ShardAccount, ShardDescription, ShardFees, ShardHashes, ShardIdent, StdAddr,
    Transaction, ValidatorInfo,
};
use tycho_types::prelude::Dict;

use super::wire::{AccountState, BlockIdExt, BlockLink, PartialBlockProof, SignatureSet};

/// Why an answer proves nothing: the server lies or is broken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProofFault {
    /// The cells of a proof cannot be read.
    #[error("{0} cannot be read: {1}")]
    Cells(&'static str, #[source] Error),
    /// The bytes are no bag of cells.
    #[error("{0} is no bag of cells: {1}")]
    Bag(&'static str, #[source] de::Error),
    /// A claim does not follow from its proof.
    #[error("{0}")]
    Wrong(&'static str),
}

type Checked<T> = Result<T, ProofFault>;

/// Most roots in a bag from a server: transactions come in pages of 16.
const ROOTS_MAX: usize = 32;
/// Magic of a block (`block#11ef55aa`).
const BLOCK: u32 = 0x11ef_55aa;
/// Magic of a block's header (`block_info#9bc7a987`).
const BLOCK_INFO: u32 = 0x9bc7_a987;
/// Magic of a block's content (`block_extra#4a33f6fd`).
const BLOCK_EXTRA: u32 = 0x4a33_f6fd;
/// Magic of a shard's state (`shard_state#9023afe2`).
const SHARD_STATE: u32 = 0x9023_afe2;
/// Magic of the masterchain's part of a state (`masterchain_state_extra#cc26`).
const MC_STATE_EXTRA: u16 = 0xcc26;
/// Magic of the masterchain's part of a block (`masterchain_block_extra#cca5`).
const MC_BLOCK_EXTRA: u16 = 0xcca5;

fn cells(what: &'static str) -> impl FnOnce(Error) -> ProofFault {
    move |error| ProofFault::Cells(what, error)
}

fn wrong<T>(what: &'static str) -> Checked<T> {
    Err(ProofFault::Wrong(what))
}

fn require(holds: bool, what: &'static str) -> Checked<()> {
    if holds { Ok(()) } else { wrong(what) }
}

/// All roots of a bag.
pub(crate) fn roots(bytes: &[u8]) -> Checked<Vec<Cell>> {
    let options = de::Options { min_roots: Some(1), max_roots: Some(ROOTS_MAX) };
    let bag = |error| ProofFault::Bag("the proof", error);
    let header = de::BocHeader::decode(bytes, &options).map_err(bag)?;
    let all = header.finalize(Cell::empty_context()).map_err(bag)?;
    let found: Option<Vec<_>> = header.roots().iter().map(|root| all.get(*root)).collect();
    found.ok_or(ProofFault::Wrong("a root is missing"))
}

/// Opens a Merkle proof of the tree with root hash `hash`.
fn open(proof: &Cell, hash: &HashBytes) -> Checked<Cell> {
    let proof = proof.parse_exotic::<MerkleProof>().map_err(cells("a Merkle proof"))?;
    require(proof.hash == *hash, "the proof is of something else")?;
    Ok(Cell::virtualize(proof.cell))
}

fn one(bytes: &[u8]) -> Checked<Cell> {
    Boc::decode(bytes).map_err(|error| ProofFault::Bag("the proof", error))
}

fn two(bytes: &[u8]) -> Checked<(Cell, Cell)> {
    match roots(bytes)?.as_slice() {
        [first, second] => Ok((first.clone(), second.clone())),
        _ => wrong("the proof has not two roots"),
    }
}

/// A block's header and the hash of the state after it, as far as proofs need them.
pub(crate) struct Header {
    pub(crate) is_key_block: bool,
    pub(crate) gen_utime: u32,
    validators_hash_short: u32,
    catchain_seqno: u32,
    state_hash: HashBytes,
    root: Cell,
}

/// Opens a proof of the header of block `id`.
fn header(proof: &Cell, id: &BlockId) -> Checked<Header> {
    let root = open(proof, &id.root_hash)?;
    let (header, shard, seqno) = read_header(&root).map_err(cells("a block's header"))?;
    require(shard == id.shard && seqno == id.seqno, "the header is of another block")?;
    Ok(header)
}

/// Reads a block by hand: the library's models refuse blocks with pruned parts.
fn read_header(root: &Cell) -> Result<(Header, ShardIdent, u32), Error> {
    let mut block = root.as_slice()?;
    if block.load_u32()? != BLOCK {
        return Err(Error::InvalidTag);
    }
    let info = block.load_reference_cloned()?;
    block.skip_first(0, 1)?;
    let update = block.load_reference_cloned()?;
    let state_hash = update.parse_exotic::<MerkleUpdate>()?.new_hash;
    let mut info = info.as_slice()?;
    if info.load_u32()? != BLOCK_INFO {
        return Err(Error::InvalidTag);
    }
    info.skip_first(32, 0)?;
    // not_master, after_merge, before_split, after_split, want_split, want_merge, key_block,
    // vert_seqno_incr; then a byte of flags.
    let is_key_block = info.load_u16()? >> 8 & 0b10 != 0;
    let seqno = info.load_u32()?;
    info.skip_first(32, 0)?;
    let shard = ShardIdent::load_from(&mut info)?;
    let gen_utime = info.load_u32()?;
    info.skip_first(64 + 64, 0)?;
    let validators_hash_short = info.load_u32()?;
    let catchain_seqno = info.load_u32()?;
    let root = root.clone();
    let header =
        Header { is_key_block, gen_utime, validators_hash_short, catchain_seqno, state_hash, root };
    Ok((header, shard, seqno))
}

/// Checks a header by itself.
pub(crate) fn check_header(proof: &[u8], id: &BlockId) -> Checked<Header> {
    header(&one(proof)?, id)
}

/// The last block proven, and the key block that later ones are proven from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Trusted {
    pub(crate) key: BlockId,
    pub(crate) last: BlockId,
}

/// Follows a chain of proofs from `known`. Returns the block reached, and the newest key block
/// on the way that lies after `key`.
pub(crate) fn check_block_proof(
    proof: &PartialBlockProof,
    known: BlockId,
    key: BlockId,
) -> Checked<Trusted> {
    let mut trusted = Trusted { key, last: known };
    for step in &proof.steps {
        let (from, to) = match step {
            BlockLink::Forward { from, to, .. } | BlockLink::Back { from, to, .. } => (from, to),
        };
        let from = block_id(*from)?;
        let to = block_id(*to)?;
        require(from == trusted.last, "a step does not begin where the last one ended")?;
        let masterchain = from.shard.is_masterchain() && to.shard.is_masterchain();
        require(masterchain, "a step leaves the masterchain")?;
        let is_key_block = match step {
            BlockLink::Forward { dest_proof, config_proof, signatures, .. } => {
                check_forward(&from, &to, dest_proof, config_proof, signatures)?
            }
            BlockLink::Back { dest_proof, proof, state_proof, .. } => {
                check_back(&from, &to, proof, state_proof)?;
                to.seqno > 0 && check_header(dest_proof, &to)?.is_key_block
            }
        };
        trusted.last = to;
        if is_key_block && to.seqno > trusted.key.seqno {
            trusted.key = to;
        }
    }
    Ok(trusted)
}

/// The key block `from` names validators; two thirds of them signed `to`.
fn check_forward(
    from: &BlockId,
    to: &BlockId,
    dest_proof: &[u8],
    config_proof: &[u8],
    signatures: &SignatureSet,
) -> Checked<bool> {
    require(to.seqno > from.seqno, "a step forward goes back")?;
    let destination = header(&one(dest_proof)?, to)?;
    let source = header(&one(config_proof)?, from)?;
    require(source.is_key_block, "a step forward does not begin at a key block")?;
    let params = block_config(&source.root).map_err(cells("a key block's configuration"))?;
    let broken = cells("the validators");
    let set = params.get_current_validator_set().map_err(broken)?;
    let catchain = params.get_catchain_config().map_err(cells("the catchain parameters"))?;
    let session = destination.catchain_seqno;
    let subset = set.compute_mc_subset(session, catchain.shuffle_mc_validators);
    let (validators, hash_short) = subset.ok_or(ProofFault::Wrong("there are no validators"))?;
    require(
        hash_short == destination.validators_hash_short
            && hash_short == signatures.validator_set_hash
            && session == signatures.catchain_seqno,
        "the block was made by other validators",
    )?;
    check_signatures(&validators, signatures, to)?;
    Ok(destination.is_key_block)
}

fn check_signatures(
    validators: &[tycho_types::models::ValidatorDescription],
    signatures: &SignatureSet,
    block: &BlockId,
) -> Checked<()> {
    let data = Block::build_data_for_sign(block);
    let mut left: std::collections::HashMap<[u8; 32], _> = validators
        .iter()
        .map(|validator| (super::channel::hash_of_key(&validator.public_key.0), validator))
        .collect();
    let mut weight = 0_u128;
    for signature in &signatures.signatures {
        // Each counts once, however often it signs.
        let validator = left.remove(&signature.node_id_short);
        let validator = validator.ok_or(ProofFault::Wrong("a stranger or a signature twice"))?;
        let bytes: [u8; 64] = signature
            .signature
            .as_slice()
            .try_into()
            .map_err(|_| ProofFault::Wrong("a signature of odd length"))?;
        let signature = tycho_types::models::Signature(bytes);
        require(validator.verify_signature(&data, &signature), "a signature is wrong")?;
        weight = weight.saturating_add(u128::from(validator.weight));
    }
    let total: u128 = validators.iter().map(|validator| u128::from(validator.weight)).sum();
    require(weight.saturating_mul(3) > total.saturating_mul(2), "too few validators signed")
}

/// The state after `from` lists `to` among the earlier blocks.
fn check_back(from: &BlockId, to: &BlockId, proof: &[u8], state_proof: &[u8]) -> Checked<()> {
    require(to.seqno < from.seqno, "a step back goes forward")?;
    let source = header(&one(proof)?, from)?;
    let state = open(&one(state_proof)?, &source.state_hash)?;
    let listed = earlier_block(&state, to.seqno).map_err(cells("the earlier blocks"))?;
    require(listed == Some(*to), "the earlier block is another one")
}

fn earlier_block(state: &Cell, seqno: u32) -> Result<Option<BlockId>, Error> {
    let extra = masterchain_extra(state)?;
    let mut slice = extra.as_slice()?;
    slice.skip_first(16, 0)?;
    ShardHashes::load_from(&mut slice)?;
    BlockchainConfig::load_from(&mut slice)?;
    let rest = slice.load_reference_cloned()?;
    let mut slice = rest.as_slice()?;
    slice.skip_first(16, 0)?;
    ValidatorInfo::load_from(&mut slice)?;
    let blocks = AugDict::<u32, KeyMaxLt, KeyBlockRef>::load_from(&mut slice)?;
    let found = blocks.get(seqno)?;
    Ok(found.map(|(_, block)| block.block_ref.as_block_id(ShardIdent::MASTERCHAIN)))
}

fn block_id(id: BlockIdExt) -> Checked<BlockId> {
    id.to_block_id().ok_or(ProofFault::Wrong("a block of no shard"))
}

fn block_config(block: &Cell) -> Result<BlockchainConfigParams, Error> {
    let extra = block.reference_cloned(3).ok_or(Error::CellUnderflow)?;
    let mut slice = extra.as_slice()?;
    if slice.load_u32()? != BLOCK_EXTRA {
        return Err(Error::InvalidTag);
    }
    // Messages in and out, transactions; seed and creator.
    slice.skip_first(256 + 256, 3)?;
    let custom = Option::<Cell>::load_from(&mut slice)?.ok_or(Error::InvalidData)?;
    let mut slice = custom.as_slice()?;
    if slice.load_u16()? != MC_BLOCK_EXTRA || !slice.load_bit()? {
        return Err(Error::InvalidTag);
    }
    ShardHashes::load_from(&mut slice)?;
    ShardFees::load_from(&mut slice)?;
    slice.skip_first(0, 1)?;
    Ok(BlockchainConfig::load_from(&mut slice)?.params)
}

/// The masterchain's part of a state.
fn masterchain_extra(state: &Cell) -> Result<Cell, Error> {
    let mut slice = state.as_slice()?;
    if slice.load_u32()? != SHARD_STATE {
        return Err(Error::InvalidTag);
    }
    // Queue, accounts and totals come before it; a state without it has three references.
    slice.skip_first(0, 3)?;
    let extra = slice.load_reference_cloned()?;
    let mut slice = extra.as_slice()?;
    if slice.load_u16()? != MC_STATE_EXTRA {
        return Err(Error::InvalidTag);
    }
    Ok(extra)
}

/// The shard block that a masterchain block's state names for an account.
fn shard_of(state: &Cell, address: &StdAddr) -> Result<BlockId, Error> {
    let extra = masterchain_extra(state)?;
    let mut slice = extra.as_slice()?;
    slice.skip_first(16, 0)?;
    let shards = Dict::<i32, Cell>::load_from(&mut slice)?;
    let workchain = i32::from(address.workchain);
    let mut node = shards.get(workchain)?.ok_or(Error::InvalidData)?;
    let mut shard = ShardIdent::new_full(workchain);
    let mut bits =
        address.address.0.iter().flat_map(|byte| (0..8).rev().map(move |i| byte >> i & 1));
    loop {
        let mut slice: CellSlice<'_> = node.as_slice()?;
        if !slice.load_bit()? {
            let description = ShardDescription::load_from(&mut slice)?;
            return Ok(description.as_block_id(shard));
        }
        let (left, right) = shard.split().ok_or(Error::InvalidData)?;
        let is_right = bits.next().ok_or(Error::InvalidData)? == 1;
        shard = if is_right { right } else { left };
        let child = node.reference_cloned(u8::from(is_right));
        node = child.ok_or(Error::CellUnderflow)?;
    }
}

/// An account as a masterchain block proves it.
#[derive(Clone, Debug)]
pub(crate) struct ProvenAccount {
    /// `None` when it is proven that the account does not exist.
    pub(crate) state: Option<ShardAccount>,
    /// Time of the shard's block.
    pub(crate) gen_utime: u32,
}

/// Checks an account against the proven masterchain block `master`.
pub(crate) fn check_account(
    answer: &AccountState,
    master: &BlockId,
    address: &StdAddr,
) -> Checked<ProvenAccount> {
    require(block_id(answer.id)? == *master, "the answer is about another block")?;
    let shard = if address.is_masterchain() {
        *master
    } else {
        let (block, state) = two(&answer.shard_proof)?;
        let block = header(&block, master)?;
        let state = open(&state, &block.state_hash)?;
        shard_of(&state, address).map_err(cells("the shards"))?
    };
    require(block_id(answer.shardblk)? == shard, "the shard's block is another one")?;
    let (block, state) = two(&answer.proof)?;
    let block = header(&block, &shard)?;
    let state = open(&state, &block.state_hash)?;
    let found = look_up(&state, address).map_err(cells("the accounts"))?;
    let gen_utime = block.gen_utime;
    let Some(found) = found else {
        require(answer.state.is_empty(), "an account is given that does not exist")?;
        return Ok(ProvenAccount { state: None, gen_utime });
    };
    let account = one(&answer.state)?;
    let is_same = account.repr_hash() == found.account.hash(0);
    require(is_same, "the account is not the one in the state")?;
    let state = ShardAccount {
        account: Lazy::from_raw(account).map_err(cells("an account"))?,
        last_trans_hash: found.last_trans_hash,
        last_trans_lt: found.last_trans_lt,
    };
    Ok(ProvenAccount { state: Some(state), gen_utime })
}

/// A shard's entry of an account, whose own cells are pruned.
#[derive(Load)]
struct PrunedAccount {
    account: Cell,
    last_trans_hash: HashBytes,
    last_trans_lt: u64,
}

fn look_up(state: &Cell, address: &StdAddr) -> Result<Option<PrunedAccount>, Error> {
    let mut slice = state.as_slice()?;
    if slice.load_u32()? != SHARD_STATE {
        return Err(Error::InvalidTag);
    }
    slice.skip_first(0, 1)?;
    let accounts = slice.load_reference_cloned()?;
    let accounts = AugDict::<HashBytes, DepthBalanceInfo, PrunedAccount>::load_from(
        &mut accounts.as_slice()?,
    )?;
    Ok(accounts.get(address.address)?.map(|(_, account)| account))
}

/// Checks the configuration in the state of the proven masterchain block `master`.
pub(crate) fn check_config(
    state_proof: &[u8],
    config_proof: &[u8],
    master: &BlockId,
) -> Checked<BlockchainConfigParams> {
    let block = header(&one(state_proof)?, master)?;
    let state = open(&one(config_proof)?, &block.state_hash)?;
    let read = || {
        let extra = masterchain_extra(&state)?;
        let mut slice = extra.as_slice()?;
        slice.skip_first(16, 0)?;
        ShardHashes::load_from(&mut slice)?;
        Ok(BlockchainConfig::load_from(&mut slice)?.params)
    };
    read().map_err(cells("the configuration"))
}

/// Checks a page of transactions, newest first: the first one is `newest`, each names the next.
/// Returns their cells and the name of the one after the last.
pub(crate) fn check_transactions(
    bytes: &[u8],
    account: &HashBytes,
    newest: (u64, HashBytes),
) -> Checked<(Vec<Cell>, (u64, HashBytes))> {
    let roots = roots(bytes)?;
    let (mut lt, mut hash) = newest;
    for root in &roots {
        require(root.repr_hash() == &hash, "a transaction is not the one named")?;
        let transaction = root.parse::<Transaction>().map_err(cells("a transaction"))?;
        require(transaction.lt == lt, "a transaction has another logical time")?;
        require(transaction.account == *account, "a transaction of another account")?;
        (lt, hash) = (transaction.prev_trans_lt, transaction.prev_trans_hash);
    }
    Ok((roots, (lt, hash)))
}
