//! Methods that run code: get-methods, messages, estimates.

use cocoon_localchain::method_id;
use serde_json::{Value, json};
use tycho_types::boc::Boc;
use tycho_types::cell::{Cell, CellBuilder};
use tycho_types::models::{
    ComputePhase, ExtInMsgInfo, IntAddr, MsgInfo, OwnedMessage, StateInit, StdAddr, TxInfo,
};
use tycho_types::num::Tokens;

use super::forms;
use super::params::Params;
use super::{ApiFault, stack};
use crate::node::LocalNode;

pub(crate) fn run_get_method(node: &LocalNode, params: &Params) -> Result<Value, ApiFault> {
    let address = params.address("address")?;
    let name = params.required("method")?;
    let method = name.parse().unwrap_or_else(|_| method_id(&name));
    let arguments = stack::from_json(params.value("stack"))
        .ok_or_else(|| ApiFault::parameter("stack has an entry of unknown form"))?;
    let (output, block, last) = node.read(|chain| {
        let account = chain.account(address);
        let last = account.map(|account| (account.last_trans_lt, account.last_trans_hash.0));
        (chain.run_getter(address, method, &arguments), chain.master_head().id, last)
    });
    let last = last.map(|(lt, hash)| crate::TransactionId { lt, hash });
    // Toncenter answers for an account without code with exit code -13.
    let (exit_code, gas_used, entries) = match output {
        Some(output) => (output.exit_code, output.gas_used, output.stack),
        None => (-13, 0, Vec::new()),
    };
    Ok(json!({
        "@type": "smc.runResult",
        "gas_used": gas_used,
        "stack": entries.iter().map(stack::to_json).collect::<Vec<_>>(),
        "exit_code": exit_code,
        "block_id": forms::block_id(&block),
        "last_transaction_id": forms::transaction_id(last),
    }))
}

pub(crate) fn send_boc(node: &LocalNode, params: &Params) -> Result<Value, ApiFault> {
    send(node, params).map(|_| json!({"@type": "ok"}))
}

pub(crate) fn send_boc_return_hash(node: &LocalNode, params: &Params) -> Result<Value, ApiFault> {
    let hash = send(node, params)?;
    Ok(json!({"@type": "raw.extMessageInfo", "hash": forms::base64(&hash)}))
}

fn send(node: &LocalNode, params: &Params) -> Result<[u8; 32], ApiFault> {
    let boc = params.bytes("boc")?.ok_or_else(|| ApiFault::parameter("boc is required"))?;
    submit(node, boc)
}

fn submit(node: &LocalNode, boc: Vec<u8>) -> Result<[u8; 32], ApiFault> {
    let taken = node.submit(boc).map_err(ApiFault::chain)?;
    taken.map_err(|refusal| {
        ApiFault::chain(format!("cannot apply external message to current state : {refusal}"))
    })
}

pub(crate) fn send_query(node: &LocalNode, params: &Params) -> Result<Value, ApiFault> {
    let message = external_message(params)?;
    submit(node, Boc::encode(&message)).map(|_| json!({"@type": "ok"}))
}

pub(crate) fn estimate_fee(node: &LocalNode, params: &Params) -> Result<Value, ApiFault> {
    let message = external_message(params)?;
    let ignore_signatures = params.flag("ignore_chksig").unwrap_or(true);
    let trial = node.read(|chain| chain.try_message(&message, ignore_signatures));
    let trial = trial.map_err(ApiFault::chain)?;
    let transaction = trial.transaction.load().map_err(ApiFault::chain)?;
    let TxInfo::Ordinary(info) = transaction.load_info().map_err(ApiFault::chain)? else {
        return Err(ApiFault::chain("an external message made no ordinary transaction"));
    };
    let storage = info.storage_phase.map_or(Tokens::ZERO, |phase| phase.storage_fees_collected);
    let gas = match &info.compute_phase {
        ComputePhase::Executed(phase) => phase.gas_fees,
        ComputePhase::Skipped(_) => Tokens::ZERO,
    };
    let (forward, action) = info
        .action_phase
        .map_or((None, None), |phase| (phase.total_fwd_fees, phase.total_action_fees));
    let collected = [storage, gas, action.unwrap_or_default()]
        .into_iter()
        .fold(Tokens::ZERO, Tokens::saturating_add);
    let import = transaction.total_fees.tokens.saturating_sub(collected);
    Ok(json!({
        "@type": "query.fees",
        "source_fees": {
            "@type": "fees",
            "in_fwd_fee": nanoton(import),
            "storage_fee": nanoton(storage),
            "gas_fee": nanoton(gas),
            "fwd_fee": nanoton(forward.unwrap_or_default()),
        },
        "destination_fees": [],
    }))
}

fn nanoton(tokens: Tokens) -> u64 {
    crate::account::nanoton(tokens).0
}

/// An external message from its parts: address, body and, for a new contract, code and data.
fn external_message(params: &Params) -> Result<Cell, ApiFault> {
    let address = params.address("address")?;
    let body = params.cell("body")?.unwrap_or_default();
    let (code, data) = (params.cell("init_code")?, params.cell("init_data")?);
    let init = (code.is_some() || data.is_some()).then(|| StateInit {
        code,
        data,
        ..StateInit::default()
    });
    let dst = StdAddr::new(address.workchain, address.hash.into());
    let message = OwnedMessage {
        info: MsgInfo::ExtIn(ExtInMsgInfo {
            src: None,
            dst: IntAddr::Std(dst),
            import_fee: Tokens::ZERO,
        }),
        init,
        body: body.into(),
        layout: None,
    };
    CellBuilder::build_from(&message).map_err(ApiFault::chain)
}
