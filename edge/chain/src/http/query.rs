//! Methods that read.

use cocoon_localchain::{LocalChain, Sealed, StackEntry, method_id};
use cocoon_units::{Address, AddressForm};
use serde_json::{Value, json};
use tycho_types::boc::Boc;
use tycho_types::cell::{CellBuilder, HashBytes, Lazy};
use tycho_types::models::{BlockId, OptionalAccount, ShardAccount, ShardIdent};

use super::params::Params;
use super::{ApiFault, forms};
use crate::account::{Account, AccountStatus};
use crate::node::LocalNode;
use crate::{MessageRecord, TransactionRecord};

/// Most transactions in one answer.
const TRANSACTIONS_MAX: usize = 100;
/// Most transactions of a block in one answer.
const BLOCK_TRANSACTIONS_MAX: usize = 1_000;
/// How far back a message is searched for, in transactions of one account.
const LOCATE_MAX: usize = 1_000;

/// Wallet contracts that clients know, by hash of their code.
const WALLETS: [(&str, &str); 3] = [
    ("84dafa449f98a6987789ba232358072bc0f76dc4524002a5d0918b9a75d2d599", "wallet v3 r2"),
    ("feb5ff6820e2ff0d9483e7e0d62c817d846789fb4ae580c878866d959dabd5c0", "wallet v4 r2"),
    ("20834b7b72b112147e1b2fb457b84e74d1a30f04f737d4f62a668e9552d2b72f", "wallet v5 r1"),
];

struct Seen {
    account: Account,
    block: BlockId,
}

fn look(node: &LocalNode, params: &Params) -> Result<Seen, ApiFault> {
    let address = params.address("address")?;
    let at = params.number("seqno")?;
    let account = node.read_account(address, at).map_err(ApiFault::chain)?;
    let block = node.read(|chain| chain.master_id(account.head.seqno));
    Ok(Seen { account, block: block.ok_or_else(unknown_block)? })
}

fn status(account: &Account) -> &'static str {
    match account.status {
        AccountStatus::Absent | AccountStatus::Uninit => "uninitialized",
        AccountStatus::Active => "active",
        AccountStatus::Frozen => "frozen",
    }
}

pub(crate) fn address_information(node: &LocalNode, params: &Params) -> Result<Value, ApiFault> {
    let Seen { account, block } = look(node, params)?;
    Ok(json!({
        "@type": "raw.fullAccountState",
        "balance": account.balance.0.to_string(),
        "extra_currencies": [],
        "code": account.code.as_ref().map(forms::cell).unwrap_or_default(),
        "data": account.data.as_ref().map(forms::cell).unwrap_or_default(),
        "last_transaction_id": forms::transaction_id(account.last),
        "block_id": forms::block_id(&block),
        "frozen_hash": "",
        "sync_utime": account.head.time.0,
        "state": status(&account),
    }))
}

/// The older, nested form; contracts of known kinds are not taken apart.
pub(crate) fn extended_information(node: &LocalNode, params: &Params) -> Result<Value, ApiFault> {
    let Seen { account, block } = look(node, params)?;
    let address = forms::friendly(account.address);
    Ok(json!({
        "@type": "fullAccountState",
        "address": {"@type": "accountAddress", "account_address": address},
        "balance": account.balance.0.to_string(),
        "extra_currencies": [],
        "last_transaction_id": forms::transaction_id(account.last),
        "block_id": forms::block_id(&block),
        "sync_utime": account.head.time.0,
        "account_state": {
            "@type": "raw.accountState",
            "code": account.code.as_ref().map(forms::cell).unwrap_or_default(),
            "data": account.data.as_ref().map(forms::cell).unwrap_or_default(),
            "frozen_hash": "",
        },
        "revision": 0,
    }))
}

/// The account as its shard records it, storage dues included.
pub(crate) fn shard_account(node: &LocalNode, params: &Params) -> Result<Value, ApiFault> {
    let address = params.address("address")?;
    let state = node.read(|chain| chain.account(address).cloned());
    let state = match state {
        Some(state) => state,
        None => ShardAccount {
            account: Lazy::new(&OptionalAccount::EMPTY).map_err(ApiFault::chain)?,
            last_trans_hash: HashBytes::ZERO,
            last_trans_lt: 0,
        },
    };
    let cell = CellBuilder::build_from(&state).map_err(ApiFault::chain)?;
    Ok(json!({"@type": "tvm.cell", "bytes": forms::cell(&cell)}))
}

pub(crate) fn address_balance(node: &LocalNode, params: &Params) -> Result<Value, ApiFault> {
    look(node, params).map(|seen| json!(seen.account.balance.0.to_string()))
}

pub(crate) fn address_state(node: &LocalNode, params: &Params) -> Result<Value, ApiFault> {
    look(node, params).map(|seen| json!(status(&seen.account)))
}

pub(crate) fn wallet_information(node: &LocalNode, params: &Params) -> Result<Value, ApiFault> {
    let Seen { account, .. } = look(node, params)?;
    let mut form = json!({
        "wallet": false,
        "balance": account.balance.0.to_string(),
        "extra_currencies": [],
        "account_state": status(&account),
        "last_transaction_id": forms::transaction_id(account.last),
    });
    let code = account.code.as_ref().map(|code| code.repr_hash().to_string());
    let kind = WALLETS.iter().find(|(hash, _)| code.as_deref() == Some(hash));
    if let (Some((_, kind)), Some(object)) = (kind, form.as_object_mut()) {
        object.insert("wallet".to_owned(), json!(true));
        object.insert("wallet_type".to_owned(), json!(kind));
        let ask = |method: &str| {
            let method = method_id(method);
            let output = node.read(|chain| chain.run_getter(account.address, method, &[]))?;
            match output.stack.first() {
                Some(StackEntry::Int(value)) if output.exit_code == 0 => u64::try_from(value).ok(),
                _ => None,
            }
        };
        object.insert("seqno".to_owned(), json!(ask("seqno")));
        object.insert("wallet_id".to_owned(), json!(ask("get_subwallet_id")));
    }
    Ok(form)
}

pub(crate) fn pack_address(params: &Params) -> Result<Value, ApiFault> {
    params.address("address").map(|address| json!(forms::friendly(address)))
}

pub(crate) fn unpack_address(params: &Params) -> Result<Value, ApiFault> {
    params.address("address").map(|address| json!(address.to_raw()))
}

pub(crate) fn detect_address(params: &Params) -> Result<Value, ApiFault> {
    let (address, form) = params.address_with_form("address")?;
    let text = |bounceable, url_safe| {
        address.to_friendly(AddressForm { bounceable, testnet: false, url_safe })
    };
    let pair =
        |bounceable| json!({"b64": text(bounceable, false), "b64url": text(bounceable, true)});
    let given = match form {
        None => "raw_form",
        Some(form) if form.bounceable => "friendly_bounceable",
        Some(_) => "friendly_non_bounceable",
    };
    Ok(json!({
        "raw_form": address.to_raw(),
        "bounceable": pair(true),
        "non_bounceable": pair(false),
        "given_type": given,
        "test_only": form.is_some_and(|form| form.testnet),
    }))
}

fn record(
    address: Address,
    entry: &cocoon_localchain::Entry,
) -> Result<TransactionRecord, ApiFault> {
    TransactionRecord::from_cell(entry.transaction.inner().clone(), address.workchain)
        .map_err(ApiFault::chain)
}

/// Newest first, from `lt` and `hash` on (inclusive), down to `to_lt` (exclusive).
pub(crate) fn transactions(node: &LocalNode, params: &Params) -> Result<Value, ApiFault> {
    let address = params.address("address")?;
    let limit = params.number("limit")?.unwrap_or(10_usize);
    if limit > TRANSACTIONS_MAX {
        return Err(ApiFault::parameter(format!("limit is at most {TRANSACTIONS_MAX}")));
    }
    let from_lt = params.number("lt")?.unwrap_or(u64::MAX);
    let to_lt = params.number("to_lt")?.unwrap_or(0_u64);
    let hash = params.hash("hash")?;
    let entries: Vec<_> = node.read(|chain| {
        chain
            .transactions(address, from_lt)
            .take_while(|entry| entry.lt > to_lt)
            .take(limit)
            .cloned()
            .collect()
    });
    let first = entries.first().map(|entry| (entry.lt, entry.hash.0));
    let is_other = |(lt, found)| lt == from_lt && hash.is_some_and(|hash| hash != found);
    if first.is_some_and(is_other) {
        return Err(ApiFault::chain("cannot locate transaction in block with specified hash"));
    }
    let forms: Result<Vec<_>, _> = entries
        .iter()
        .map(|entry| record(address, entry).map(|record| forms::transaction(&record)))
        .collect();
    forms.map(Value::Array)
}

/// Which end of a message is looked for.
#[derive(Clone, Copy)]
pub(crate) enum End {
    /// The transaction that took the message in.
    Result,
    /// The transaction that sent it.
    Source,
}

pub(crate) fn locate(node: &LocalNode, params: &Params, end: End) -> Result<Value, ApiFault> {
    let source = params.address("source")?;
    let destination = params.address("destination")?;
    let created_lt: u64 = params.required_number("created_lt")?;
    let matches = |message: &MessageRecord| {
        message.source == Some(source)
            && message.destination == Some(destination)
            && message.created_lt == created_lt
    };
    let account = match end {
        End::Result => destination,
        End::Source => source,
    };
    let entries: Vec<_> = node
        .read(|chain| chain.transactions(account, u64::MAX).take(LOCATE_MAX).cloned().collect());
    for entry in &entries {
        let record = record(account, entry)?;
        let found = match end {
            End::Result => record.in_msg.as_ref().is_some_and(matches),
            End::Source => record.out_msgs.iter().any(matches),
        };
        if found {
            return Ok(forms::transaction(&record));
        }
    }
    Err(ApiFault { code: 404, reason: "transaction was not found".to_owned() })
}

pub(crate) fn masterchain_info(node: &LocalNode) -> Value {
    node.read(|chain| {
        let master = chain.master_head();
        let (_, zero) = chain.zero_states();
        json!({
            "@type": "blocks.masterchainInfo",
            "last": forms::block_id(&master.id),
            "state_root_hash": forms::base64(&master.state.repr_hash().0),
            "init": forms::block_id(&zero.id),
        })
    })
}

pub(crate) fn consensus_block(node: &LocalNode) -> Value {
    node.read(|chain| {
        let seqno = chain.master_head().id.seqno;
        json!({"consensus_block": seqno, "timestamp": chain.last_ms() / 1000})
    })
}

fn unknown_block() -> ApiFault {
    ApiFault::chain("block is not in db")
}

fn shard(params: &Params) -> Result<ShardIdent, ApiFault> {
    let workchain: i32 = params.required_number("workchain")?;
    let text = params.text("shard").unwrap_or_else(|| i64::MIN.to_string());
    // Sixteen digits are hex, as newer interfaces write it; else it is a signed decimal number.
    let prefix = if text.len() == 16 && !text.starts_with('-') {
        u64::from_str_radix(&text, 16).ok()
    } else {
        text.parse::<i64>().ok().map(i64::cast_unsigned)
    };
    prefix
        .and_then(|prefix| ShardIdent::new(workchain, prefix))
        .ok_or_else(|| ApiFault::parameter(format!("shard is none: {text}")))
}

/// A block by shard and one of number, logical time or time.
fn find<'a>(
    chain: &'a LocalChain,
    shard: ShardIdent,
    params: &Params,
) -> Result<&'a cocoon_localchain::SealedBlock, ApiFault> {
    let of = |sealed: &'a Sealed| {
        if shard.is_masterchain() { &sealed.master } else { &sealed.shard }
    };
    if let Some(seqno) = params.number("seqno")? {
        return chain.block(shard, seqno).ok_or_else(unknown_block);
    }
    let sealed = if let Some(lt) = params.number::<u64>("lt")? {
        chain.first_sealed(|sealed| sealed.master.end_lt > lt)
    } else if let Some(time) = params.number::<u32>("unixtime")? {
        chain.first_sealed(|sealed| sealed.master.gen_utime >= time)
    } else {
        return Err(ApiFault::parameter("one of seqno, lt and unixtime is required"));
    };
    sealed.map(of).ok_or_else(unknown_block)
}

pub(crate) fn lookup_block(node: &LocalNode, params: &Params) -> Result<Value, ApiFault> {
    let shard = shard(params)?;
    node.read(|chain| find(chain, shard, params).map(|block| forms::block_id(&block.id)))
}

pub(crate) fn block_header(node: &LocalNode, params: &Params) -> Result<Value, ApiFault> {
    let shard = shard(params)?;
    node.read(|chain| {
        let block = find(chain, shard, params)?;
        let previous = chain.block(shard, block.id.seqno.saturating_sub(1));
        let previous: Vec<_> =
            previous.map(|block| forms::block_id(&block.id)).into_iter().collect();
        Ok(json!({
            "@type": "blocks.header",
            "id": forms::block_id(&block.id),
            "global_id": chain.genesis().global_id,
            "version": 0,
            "after_merge": false,
            "after_split": false,
            "before_split": false,
            "want_merge": false,
            "want_split": false,
            "is_key_block": shard.is_masterchain() && block.id.seqno == 1,
            "gen_utime": block.gen_utime,
            "start_lt": block.start_lt.to_string(),
            "end_lt": block.end_lt.to_string(),
            "prev_blocks": previous,
        }))
    })
}

/// The shards' blocks that a masterchain block refers to.
pub(crate) fn shards(node: &LocalNode, params: &Params) -> Result<Value, ApiFault> {
    let seqno: u32 = params.required_number("seqno")?;
    node.read(|chain| {
        let sealed = chain.sealed(seqno).ok_or_else(unknown_block)?;
        Ok(json!({"@type": "blocks.shards", "shards": [forms::block_id(&sealed.shard.id)]}))
    })
}

pub(crate) fn block_transactions(node: &LocalNode, params: &Params) -> Result<Value, ApiFault> {
    let shard = shard(params)?;
    let seqno: u32 = params.required_number("seqno")?;
    let count = params.number("count")?.unwrap_or(40_usize).min(BLOCK_TRANSACTIONS_MAX);
    let after_lt: u64 = params.number("after_lt")?.unwrap_or(0);
    let after_hash = HashBytes(params.hash("after_hash")?.unwrap_or_default());
    node.read(|chain| {
        let block = chain.block(shard, seqno).ok_or_else(unknown_block)?;
        let sealed = chain.sealed(seqno).filter(|_| !shard.is_masterchain());
        let mut listed = sealed.map(|sealed| sealed.transactions.clone()).unwrap_or_default();
        listed.sort_unstable();
        listed.retain(|id| after_lt == 0 || *id > (after_hash, after_lt));
        let incomplete = listed.len() > count;
        listed.truncate(count);
        let short: Vec<_> = listed
            .into_iter()
            .filter_map(|(account, lt)| {
                let address = Address::new(0, account.0);
                let entry = chain.transactions(address, lt).next()?;
                Some(json!({
                    "@type": "blocks.shortTxId",
                    "mode": 135,
                    "account": address.to_raw(),
                    "lt": lt.to_string(),
                    "hash": forms::base64(&entry.hash.0),
                }))
            })
            .collect();
        Ok(json!({
            "@type": "blocks.transactions",
            "id": forms::block_id(&block.id),
            "req_count": count,
            "incomplete": incomplete,
            "transactions": short,
        }))
    })
}

pub(crate) fn config_param(node: &LocalNode, params: &Params) -> Result<Value, ApiFault> {
    let id: u32 = match params.number("config_id")? {
        Some(id) => id,
        None => params.required_number("param")?,
    };
    let cell = node.read(|chain| chain.config().params.get_raw_cell(id));
    let cell = cell
        .map_err(ApiFault::chain)?
        .ok_or_else(|| ApiFault::chain(format!("there is no configuration parameter {id}")))?;
    let bytes = forms::base64(&Boc::encode(&cell));
    Ok(json!({"@type": "configInfo", "config": {"@type": "tvm.cell", "bytes": bytes}}))
}
