//! What a lite server answers: questions to the local chain, with proofs.

use cocoon_localchain::{
    GetterOutput, LocalChain, SealedBlock, bag_of, prove, prove_header, prove_whole, read_header,
};
use cocoon_units::Address;
use tycho_types::boc::Boc;
use tycho_types::cell::{Cell, CellBuilder, CellFamily as _, HashBytes, Store as _};
use tycho_types::error::Error;
use tycho_types::models::{Block, BlockId, ShardAccount, ShardIdent, ShardStateUnsplit};

use super::smc_stack;
use super::wire::{
    AccountId, AccountState, AllShardsInfo, BlockData, BlockHeader, BlockIdExt, BlockLink,
    BlockState, BlockTransactions, BlockTransactionsExt, ConfigInfo, CurrentTime, ErrorAnswer,
    GetBlockProof, LibraryResult, ListTransactions, LookupBlock, MasterchainInfo,
    MasterchainInfoExt, PartialBlockProof, Query, RunMethodResult, SendMsgStatus, ShardBlockLink,
    ShardBlockProof, ShardInfo, ShortId, Signature, SignatureSet, TransactionInfo, TransactionList,
    Version, ZeroStateId,
};
use crate::node::LocalNode;

/// Version that lite servers of this interface announce.
const SERVER_VERSION: u32 = 0x101;
/// Capabilities that go with it: block proofs, masterchain info ext, run method.
const SERVER_CAPABILITIES: u64 = 7;
/// Most transactions of an account in one answer, as on TON.
const TRANSACTIONS_MAX: u32 = 16;
/// Most transactions of a block in one answer, as on TON.
const BLOCK_TRANSACTIONS_MAX: u32 = 256;
/// Error of TON's lite servers for what is not there.
const NOT_READY: i32 = 651;
/// Error for a message or method that was not accepted.
const PROTO_VIOLATION: i32 = 621;

type Answer<T> = Result<T, ErrorAnswer>;

/// An error as the peer sees it.
pub(crate) fn error(code: i32, reason: impl std::fmt::Display) -> ErrorAnswer {
    ErrorAnswer { code, message: reason.to_string().into_bytes() }
}

fn not_found() -> ErrorAnswer {
    error(NOT_READY, "block is not in db")
}

fn broken(fault: impl std::fmt::Display) -> ErrorAnswer {
    error(PROTO_VIOLATION, fault)
}

/// Answers a query with its TL bytes.
pub(crate) fn answer(node: &LocalNode, query: Query) -> Vec<u8> {
    let answer = match query {
        Query::SendMessage { body } => send_message(node, body).map(tl_proto::serialize),
        other => node.read(|chain| read(chain, other)),
    };
    answer.unwrap_or_else(tl_proto::serialize)
}

fn send_message(node: &LocalNode, body: Vec<u8>) -> Answer<SendMsgStatus> {
    let taken = node.submit(body).map_err(broken)?;
    taken.map_err(|refusal| {
        error(0, format!("cannot apply external message to current state : {refusal}"))
    })?;
    Ok(SendMsgStatus { status: 1 })
}

fn read(chain: &LocalChain, query: Query) -> Answer<Vec<u8>> {
    use tl_proto::serialize;
    Ok(match query {
        Query::GetMasterchainInfo => serialize(masterchain_info(chain)),
        Query::GetMasterchainInfoExt { mode } => serialize(masterchain_info_ext(chain, mode)),
        Query::GetTime => serialize(CurrentTime { now: chain.shard_head().gen_utime }),
        Query::GetVersion => serialize(version(chain)),
        Query::GetBlock { id } => serialize(block(chain, id)?),
        Query::GetState { id } => serialize(state(chain, id)?),
        Query::GetBlockHeader { id, mode } => serialize(header(find(chain, id)?, mode)?),
        Query::LookupBlock(lookup) => serialize(lookup_block(chain, lookup)?),
        Query::GetAccountState { id, account } => serialize(account_state(chain, id, account)?),
        Query::RunSmcMethod { mode, id, account, method_id, params } => {
            serialize(run_method(chain, mode, id, account, method_id, &params)?)
        }
        Query::GetShardInfo { id, .. } => serialize(shard_info(chain, id)?),
        Query::GetAllShardsInfo { id } => serialize(all_shards(chain, id)?),
        Query::GetOneTransaction { id, account, lt } => {
            serialize(one_transaction(chain, id, account, lt)?)
        }
        Query::GetTransactions { count, account, lt, hash } => {
            serialize(transactions(chain, count, account, lt, hash)?)
        }
        Query::ListBlockTransactions(list) => serialize(list_transactions(chain, list)?),
        Query::ListBlockTransactionsExt(list) => serialize(list_transactions_ext(chain, list)?),
        Query::GetBlockProof(proof) => serialize(block_proof(chain, proof)?),
        Query::GetConfigAll { mode, id } => serialize(config(chain, mode, id)?),
        Query::GetConfigParams { mode, id, .. } => serialize(config(chain, mode, id)?),
        Query::GetShardBlockProof { id } => serialize(shard_block_proof(chain, id)?),
        Query::GetLibraries { .. } => serialize(LibraryResult { result: Vec::new() }),
        Query::SendMessage { .. } => return Err(broken("not a question")),
    })
}

fn zero_id(chain: &LocalChain) -> ZeroStateId {
    let (_, zero) = chain.zero_states();
    let (root_hash, file_hash) = (zero.id.root_hash.0, zero.id.file_hash.0);
    ZeroStateId { workchain: -1, root_hash, file_hash }
}

fn masterchain_info(chain: &LocalChain) -> MasterchainInfo {
    let master = chain.master_head();
    MasterchainInfo {
        last: master.id.into(),
        state_root_hash: master.state.repr_hash().0,
        init: zero_id(chain),
    }
}

fn masterchain_info_ext(chain: &LocalChain, mode: u32) -> MasterchainInfoExt {
    let master = chain.master_head();
    MasterchainInfoExt {
        mode,
        version: SERVER_VERSION,
        capabilities: SERVER_CAPABILITIES,
        last: master.id.into(),
        last_utime: master.gen_utime,
        now: master.gen_utime,
        state_root_hash: master.state.repr_hash().0,
        init: zero_id(chain),
    }
}

fn version(chain: &LocalChain) -> Version {
    let now = chain.shard_head().gen_utime;
    Version { mode: 0, version: SERVER_VERSION, capabilities: SERVER_CAPABILITIES, now }
}

fn find(chain: &LocalChain, id: BlockIdExt) -> Answer<&SealedBlock> {
    let id = id.to_block_id().ok_or_else(|| broken("the shard is none"))?;
    chain.block_by_id(&id).ok_or_else(not_found)
}

/// A masterchain block and the shard block it refers to.
fn find_beat(chain: &LocalChain, id: BlockIdExt) -> Answer<(&SealedBlock, &SealedBlock)> {
    let master = find(chain, id)?;
    if !master.id.shard.is_masterchain() {
        return Err(broken("the reference block must be one of the masterchain"));
    }
    let shard = chain.block(ShardIdent::BASECHAIN, master.id.seqno).ok_or_else(not_found)?;
    Ok((master, shard))
}

fn block(chain: &LocalChain, id: BlockIdExt) -> Answer<BlockData> {
    let block = find(chain, id)?;
    Ok(BlockData { id, data: block.to_boc() })
}

/// Only the first states: others are large, and proofs of their parts are to be had.
fn state(chain: &LocalChain, id: BlockIdExt) -> Answer<BlockState> {
    let block = find(chain, id)?;
    if id.seqno != 0 {
        return Err(error(PROTO_VIOLATION, "only states before the first block are given whole"));
    }
    let (root_hash, file_hash) = (block.id.root_hash.0, block.id.file_hash.0);
    Ok(BlockState { id, root_hash, file_hash, data: Boc::encode(&block.state) })
}

fn header(block: &SealedBlock, mode: u32) -> Answer<BlockHeader> {
    let proof = prove_header(block).map_err(broken)?;
    Ok(BlockHeader { id: block.id.into(), mode, header_proof: Boc::encode(&proof) })
}

fn lookup_block(chain: &LocalChain, lookup: LookupBlock) -> Answer<BlockHeader> {
    let shard = ShardIdent::new(lookup.workchain, lookup.shard)
        .ok_or_else(|| broken("the shard is none"))?;
    let seqno = match lookup {
        LookupBlock { mode, seqno, .. } if mode & 1 != 0 => Some(seqno),
        LookupBlock { lt: Some(lt), .. } => {
            chain.first_sealed(|sealed| sealed.master.end_lt > lt).map(|sealed| sealed.seqno())
        }
        LookupBlock { utime: Some(utime), .. } => chain
            .first_sealed(|sealed| sealed.master.gen_utime >= utime)
            .map(|sealed| sealed.seqno()),
        LookupBlock { .. } => None,
    };
    let block = seqno.and_then(|seqno| chain.block(shard, seqno)).ok_or_else(not_found)?;
    if block.id.seqno == 0 {
        return Err(not_found());
    }
    header(block, lookup.mode)
}

/// Proves that a masterchain block refers to its shard's block.
fn prove_shard(master: &SealedBlock) -> Answer<Vec<u8>> {
    let header = prove_header(master).map_err(broken)?;
    let (state, ()) = prove(&master.state, |root| {
        let custom = root.parse::<ShardStateUnsplit>()?.load_custom()?;
        for shard in custom.ok_or(Error::InvalidData)?.shards.iter() {
            shard?;
        }
        Ok(())
    })
    .map_err(broken)?;
    Ok(bag_of(&[header, state]))
}

/// Proves an account's entry (or that there is none); the account itself is pruned.
fn prove_account(
    shard: &SealedBlock,
    account: AccountId,
) -> Answer<(Vec<u8>, Option<ShardAccount>)> {
    let header = prove_header(shard).map_err(broken)?;
    let (state, _) = prove(&shard.state, |root| look_up(&root, account)).map_err(broken)?;
    let found = look_up(&shard.state, account).map_err(broken)?;
    Ok((bag_of(&[header, state]), found))
}

fn look_up(root: &Cell, account: AccountId) -> Result<Option<ShardAccount>, Error> {
    let accounts = root.parse::<ShardStateUnsplit>()?.load_accounts()?;
    if account.workchain != 0 {
        return Ok(None);
    }
    Ok(accounts.get(HashBytes(account.id))?.map(|(_, account)| account))
}

fn account_state(chain: &LocalChain, id: BlockIdExt, account: AccountId) -> Answer<AccountState> {
    let (master, shard) = find_beat(chain, id)?;
    let (proof, found) = prove_account(shard, account)?;
    let state = found.map(|found| Boc::encode(found.account.inner())).unwrap_or_default();
    let shard_proof = prove_shard(master)?;
    Ok(AccountState { id, shardblk: shard.id.into(), shard_proof, proof, state })
}

fn run_method(
    chain: &LocalChain,
    mode: u32,
    id: BlockIdExt,
    account: AccountId,
    method: u64,
    params: &[u8],
) -> Answer<RunMethodResult> {
    let (master, shard) = find_beat(chain, id)?;
    let (proof, found) = prove_account(shard, account)?;
    let stack = smc_stack::decode(params).ok_or_else(|| broken("the stack is malformed"))?;
    let method = u32::try_from(method).map_err(broken)?;
    let loaded = found.as_ref().and_then(|found| found.load_account().ok()?);
    let config = &chain.config().params;
    let output = loaded.and_then(|account| {
        cocoon_localchain::run_getter(config, &account, shard.gen_utime, method, &stack)
    });
    // An account without code answers with exit code -256, as on TON.
    let (exit_code, result) = match output {
        Some(GetterOutput { exit_code, stack, .. }) => (exit_code, smc_stack::encode(&stack)),
        None => (-256, None),
    };
    let state_proof = found.map(|found| prove_whole(found.account.inner())).transpose();
    let state_proof = state_proof.map_err(broken)?.map(|proof| Boc::encode(&proof));
    let when = |bit: u32| mode >> bit & 1 == 1;
    Ok(RunMethodResult {
        mode: mode & 0b111,
        id,
        shardblk: shard.id.into(),
        shard_proof: when(0).then(|| prove_shard(master)).transpose()?,
        proof: when(0).then_some(proof),
        state_proof: when(1).then(|| state_proof.unwrap_or_default()),
        exit_code,
        result: when(2).then(|| result.unwrap_or_default()),
    })
}

fn shard_info(chain: &LocalChain, id: BlockIdExt) -> Answer<ShardInfo> {
    let (master, shard) = find_beat(chain, id)?;
    let state = master.state.parse::<ShardStateUnsplit>().map_err(broken)?;
    let custom = state.load_custom().map_err(broken)?.ok_or_else(|| broken("no custom part"))?;
    let leaf = custom.shards.as_dict().get(0).map_err(broken)?.ok_or_else(not_found)?;
    Ok(ShardInfo {
        id,
        shardblk: shard.id.into(),
        shard_proof: prove_shard(master)?,
        shard_descr: Boc::encode(&leaf),
    })
}

fn all_shards(chain: &LocalChain, id: BlockIdExt) -> Answer<AllShardsInfo> {
    let (master, _) = find_beat(chain, id)?;
    let state = master.state.parse::<ShardStateUnsplit>().map_err(broken)?;
    let custom = state.load_custom().map_err(broken)?.ok_or_else(|| broken("no custom part"))?;
    let mut data = CellBuilder::new();
    custom.shards.store_into(&mut data, Cell::empty_context()).map_err(broken)?;
    let data = Boc::encode(data.build().map_err(broken)?);
    Ok(AllShardsInfo { id, proof: prove_shard(master)?, data })
}

fn one_transaction(
    chain: &LocalChain,
    id: BlockIdExt,
    account: AccountId,
    lt: u64,
) -> Answer<TransactionInfo> {
    let block = find(chain, id)?;
    let (proof, found) = prove(&block.root, |root| {
        read_header(&root)?;
        let blocks = root.parse::<Block>()?.load_extra()?.account_blocks.load()?;
        let Some((_, account)) = blocks.get(HashBytes(account.id))? else {
            return Ok(None);
        };
        let transaction = account.transactions.get(lt)?;
        Ok(transaction.map(|(_, transaction)| *transaction.repr_hash()))
    })
    .map_err(broken)?;
    let entry = found.and_then(|hash| {
        let address = Address::new(0, account.id);
        chain.transactions(address, lt).next().filter(|entry| entry.hash == hash)
    });
    let transaction = entry.map(|entry| Boc::encode(entry.transaction.inner()));
    Ok(TransactionInfo {
        id,
        proof: Boc::encode(&proof),
        transaction: transaction.unwrap_or_default(),
    })
}

fn transactions(
    chain: &LocalChain,
    count: u32,
    account: AccountId,
    lt: u64,
    hash: [u8; 32],
) -> Answer<TransactionList> {
    let workchain = i8::try_from(account.workchain).map_err(broken)?;
    let address = Address::new(workchain, account.id);
    let count = usize::try_from(count.min(TRANSACTIONS_MAX)).unwrap_or_default();
    let entries: Vec<_> = chain.transactions(address, lt).take(count).collect();
    if entries.first().is_none_or(|entry| entry.lt != lt || entry.hash.0 != hash) {
        return Err(error(NOT_READY, "cannot locate transaction in block with specified hash"));
    }
    let ids = entries.iter().map(|entry| shard_id(chain, entry.block_seqno).into()).collect();
    let cells: Vec<_> = entries.iter().map(|entry| entry.transaction.inner().clone()).collect();
    Ok(TransactionList { ids, transactions: bag_of(&cells) })
}

/// Identity of a shard's block; of one no longer kept only the number is known.
fn shard_id(chain: &LocalChain, seqno: u32) -> BlockId {
    let unknown = BlockId {
        shard: ShardIdent::BASECHAIN,
        seqno,
        root_hash: HashBytes::ZERO,
        file_hash: HashBytes::ZERO,
    };
    chain.block(ShardIdent::BASECHAIN, seqno).map_or(unknown, |block| block.id)
}

/// The transactions of a block that a list asks for, and whether more follow.
fn listed(chain: &LocalChain, list: &ListTransactions) -> Answer<(Vec<(HashBytes, u64)>, bool)> {
    let block = find(chain, list.id)?;
    let sealed = chain.sealed(block.id.seqno).filter(|_| !block.id.shard.is_masterchain());
    let mut ids = sealed.map(|sealed| sealed.transactions.clone()).unwrap_or_default();
    ids.sort_unstable();
    let is_reverse = list.mode >> 6 & 1 == 1;
    if is_reverse {
        ids.reverse();
    }
    if let Some((account, lt)) = list.after {
        let after = (HashBytes(account), lt);
        ids.retain(|id| if is_reverse { *id < after } else { *id > after });
    }
    let count = usize::try_from(list.count.min(BLOCK_TRANSACTIONS_MAX)).unwrap_or_default();
    let incomplete = ids.len() > count;
    ids.truncate(count);
    Ok((ids, incomplete))
}

/// Proves the hashes of a block's transactions, if that is asked for.
fn prove_listed(
    chain: &LocalChain,
    list: &ListTransactions,
    ids: &[(HashBytes, u64)],
) -> Answer<Vec<u8>> {
    if list.mode >> 5 & 1 == 0 {
        return Ok(Vec::new());
    }
    let block = find(chain, list.id)?;
    let (proof, ()) = prove(&block.root, |root| {
        read_header(&root)?;
        let blocks = root.parse::<Block>()?.load_extra()?.account_blocks.load()?;
        for (account, lt) in ids {
            let (_, account) = blocks.get(*account)?.ok_or(Error::InvalidData)?;
            let (_fees, _transaction) = account.transactions.get(*lt)?.ok_or(Error::InvalidData)?;
            account.state_update.load()?;
        }
        Ok(())
    })
    .map_err(broken)?;
    Ok(Boc::encode(&proof))
}

fn list_transactions(chain: &LocalChain, list: ListTransactions) -> Answer<BlockTransactions> {
    let (listed, incomplete) = listed(chain, &list)?;
    let ids = listed.iter().filter_map(|(account, lt)| {
        let entry = chain.transactions(Address::new(0, account.0), *lt).next()?;
        Some(ShortId { mode: 7, account: account.0, lt: *lt, hash: entry.hash.0 })
    });
    Ok(BlockTransactions {
        id: list.id,
        req_count: list.count,
        incomplete,
        ids: ids.collect(),
        proof: prove_listed(chain, &list, &listed)?,
    })
}

fn list_transactions_ext(
    chain: &LocalChain,
    list: ListTransactions,
) -> Answer<BlockTransactionsExt> {
    let (listed, incomplete) = listed(chain, &list)?;
    let cells: Vec<_> = listed
        .iter()
        .filter_map(|(account, lt)| {
            let entry = chain.transactions(Address::new(0, account.0), *lt).next()?;
            Some(entry.transaction.inner().clone())
        })
        .collect();
    let transactions = if cells.is_empty() { Vec::new() } else { bag_of(&cells) };
    Ok(BlockTransactionsExt {
        id: list.id,
        req_count: list.count,
        incomplete,
        transactions,
        proof: prove_listed(chain, &list, &listed)?,
    })
}

/// The configuration as it stands in a masterchain block's state, whole.
fn config(chain: &LocalChain, mode: u32, id: BlockIdExt) -> Answer<ConfigInfo> {
    let (master, _) = find_beat(chain, id)?;
    let header = prove_header(master).map_err(broken)?;
    let (state, ()) = prove(&master.state, |root| {
        let custom = root.parse::<ShardStateUnsplit>()?.load_custom()?;
        let custom = custom.ok_or(Error::InvalidData)?;
        for param in custom.config.params.as_dict().values() {
            visit_all(&param?)?;
        }
        Ok(())
    })
    .map_err(broken)?;
    let (state_proof, config_proof) = (Boc::encode(&header), Boc::encode(&state));
    Ok(ConfigInfo { mode, id, state_proof, config_proof })
}

/// Deepest tree of cells in a configuration parameter.
const PARAM_DEPTH_MAX: u16 = 64;

fn visit_all(cell: &Cell) -> Result<(), Error> {
    if cell.repr_depth() > PARAM_DEPTH_MAX {
        return Err(Error::DepthOverflow);
    }
    // Looking at its bits is what keeps a cell in a proof.
    let mut slice = cell.as_slice_allow_exotic();
    let _looked = cell.data();
    while slice.size_refs() > 0 {
        visit_all(&slice.load_reference_cloned()?)?;
    }
    Ok(())
}

/// A chain of proofs between masterchain blocks. The first block is the only key block, so one
/// or two steps do: back to it, and from it forward by the validator's signature.
fn block_proof(chain: &LocalChain, proof: GetBlockProof) -> Answer<PartialBlockProof> {
    let known = find(chain, proof.known)?;
    let target = match proof.target {
        Some(id) => find(chain, id)?,
        None => chain.master_head(),
    };
    if !known.id.shard.is_masterchain() || !target.id.shard.is_masterchain() {
        return Err(broken("block proofs are between masterchain blocks"));
    }
    let mut steps = Vec::new();
    if target.id.seqno < known.id.seqno {
        steps.push(link_back(known, target)?);
    } else if target.id != known.id {
        let key = chain.block(ShardIdent::MASTERCHAIN, 1).ok_or_else(not_found)?;
        if known.id.seqno > 1 {
            steps.push(link_back(known, key)?);
        } else if known.id.seqno == 0 {
            return Err(error(NOT_READY, "start from block 1, the key block"));
        }
        steps.push(link_forward(chain, key, target)?);
    }
    Ok(PartialBlockProof { complete: true, from: known.id.into(), to: target.id.into(), steps })
}

fn link_back(from: &SealedBlock, to: &SealedBlock) -> Answer<BlockLink> {
    let (state, _) = prove(&from.state, |root| {
        let custom = root.parse::<ShardStateUnsplit>()?.load_custom()?;
        custom.ok_or(Error::InvalidData)?.prev_blocks.get(to.id.seqno)
    })
    .map_err(broken)?;
    let header = |block: &SealedBlock| prove_header(block).map(|proof| Boc::encode(&proof));
    // The state before the first block has no header.
    let dest_proof = if to.id.seqno == 0 { Ok(Vec::new()) } else { header(to) };
    Ok(BlockLink::Back {
        to_key_block: to.id.seqno == 1,
        from: from.id.into(),
        to: to.id.into(),
        dest_proof: dest_proof.map_err(broken)?,
        proof: header(from).map_err(broken)?,
        state_proof: Boc::encode(&state),
    })
}

fn link_forward(chain: &LocalChain, key: &SealedBlock, to: &SealedBlock) -> Answer<BlockLink> {
    let info = to.root.parse::<Block>().and_then(|block| block.load_info()).map_err(broken)?;
    let (node_id_short, signature) = chain.sign_block(&to.id);
    let dest_proof = prove_header(to).map_err(broken)?;
    let config_proof = prove_whole(&key.root).map_err(broken)?;
    Ok(BlockLink::Forward {
        to_key_block: info.key_block,
        from: key.id.into(),
        to: to.id.into(),
        dest_proof: Boc::encode(&dest_proof),
        config_proof: Boc::encode(&config_proof),
        signatures: SignatureSet {
            validator_set_hash: info.gen_validator_list_hash_short,
            catchain_seqno: info.gen_catchain_seqno,
            signatures: vec![Signature { node_id_short, signature: signature.to_vec() }],
        },
    })
}

/// The masterchain block of the same beat refers to the shard's block itself: one link.
fn shard_block_proof(chain: &LocalChain, id: BlockIdExt) -> Answer<ShardBlockProof> {
    let shard = find(chain, id)?;
    let master = chain.block(ShardIdent::MASTERCHAIN, shard.id.seqno).ok_or_else(not_found)?;
    let (proof, ()) = prove(&master.root, |root| {
        read_header(&root)?;
        let custom = root.parse::<Block>()?.load_extra()?.load_custom()?;
        for shard in custom.ok_or(Error::InvalidData)?.shards.iter() {
            shard?;
        }
        Ok(())
    })
    .map_err(broken)?;
    let link = ShardBlockLink { id: shard.id.into(), proof: Boc::encode(&proof) };
    Ok(ShardBlockProof { masterchain_id: master.id.into(), links: vec![link] })
}
