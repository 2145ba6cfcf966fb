//! Tells what happened in the terms of `flows.json`.

use std::collections::BTreeMap;

use cocoon_contract::cell::{Cell, CellId, Hash};
use cocoon_contract::message::{Body, ClientNotice, ClientPayload, TextCommand, WorkerNotice};
use cocoon_contract::op;
use cocoon_contract::root::RootState;
use cocoon_contract::state::{ClientState, ProxyState, WalletState, WorkerState};
use cocoon_units::{Address, Nanoton};
use serde_json::{Value, json};

use crate::cast::{Cast, named_code};
use crate::script;
use crate::world::{Exit, Sent, Tx, World};

/// Names of the messages that a trigger put in, by hash of the body and by operation.
pub(crate) struct Names {
    by_body: BTreeMap<[u8; 32], Value>,
    by_op: BTreeMap<String, String>,
}

impl Names {
    pub(crate) fn of(cast: &Cast, trigger: &Value) -> Self {
        let mut names = Self { by_body: BTreeMap::new(), by_op: BTreeMap::new() };
        let inner = trigger["messages"].as_array().cloned().unwrap_or_default();
        for m in inner.iter().chain([trigger]) {
            names.add(cast, m);
            if let Some(message) = m["fields"].get("message") {
                names.add(cast, message);
            }
        }
        names.by_op.insert("0x00000000".to_owned(), "text".to_owned());
        names
    }

    fn add(&mut self, cast: &Cast, m: &Value) {
        let Some(body) = script::body(cast, m) else { return };
        let (op, name) = (m["op"].clone(), m["name"].clone());
        self.by_op.insert(script::text(&op).to_owned(), script::text(&name).to_owned());
        let entry = json!({ "op": op, "name": name, "fields": m["fields"] });
        self.by_body.insert(CellId::of(&body).hash.0, entry);
    }

    /// Operation, name and fields of a body.
    fn describe(&self, cast: &Cast, body: &Cell) -> Value {
        if let Some(known) = self.by_body.get(&CellId::of(body).hash.0) {
            return known.clone();
        }
        let (op, name, fields) = match Body::parse(body) {
            Ok(Body::Empty) => return json!({ "op": null, "name": "empty", "fields": {} }),
            Ok(Body::Excesses { query_id }) => {
                (op::shared::EXCESSES, "excesses", json!({ "query_id": query_id.to_string() }))
            }
            Ok(Body::Payout { query_id }) => {
                (op::shared::PAYOUT, "payout", json!({ "query_id": query_id.to_string() }))
            }
            Ok(Body::Text(TextCommand::Withdraw)) => (0, "text", json!({ "text": "w" })),
            Ok(Body::ClientNotice(notice)) => {
                (op::proxy::CLIENT_REQUEST, "client_proxy_request", client_notice(cast, &notice))
            }
            Ok(Body::WorkerNotice(notice)) => {
                (op::proxy::WORKER_REQUEST, "worker_proxy_request", worker_notice(cast, &notice))
            }
            Ok(Body::Bounced(bounced)) => {
                let original = hex_op(bounced.op.expect("op of the original"));
                let name = self.by_op.get(&original).cloned().unwrap_or_default();
                let fields = json!({ "original_op": original, "original_name": name });
                (op::shared::BOUNCED, "bounced", fields)
            }
            Ok(Body::RefundShort(short)) => {
                (op::client::REFUND_SHORT, "refund_short", coins(short.amount))
            }
            other => panic!("an unexpected message: {other:?}"),
        };
        json!({ "op": hex_op(op), "name": name, "fields": fields })
    }
}

fn coins(amount: Nanoton) -> Value {
    json!(amount.0.to_string())
}

fn hex_op(op: u32) -> String {
    format!("{op:#010x}")
}

fn hex_hash(hash: &Hash) -> String {
    hash.to_string()
}

fn client_notice(cast: &Cast, notice: &ClientNotice) -> Value {
    let money = |op: u32, name: &str, amount: Nanoton, excess: Address| {
        json!({
            "op": hex_op(op), "name": name, "amount": coins(amount),
            "send_excesses_to": cast.role(excess),
        })
    };
    let payload = notice.payload.map(|payload| match payload {
        ClientPayload::TopUp { amount, excess } => {
            money(op::proxy::TOP_UP, "top_up", amount, excess)
        }
        ClientPayload::RefundGranted { amount, excess } => {
            money(op::proxy::REFUND_GRANTED, "refund_granted", amount, excess)
        }
        ClientPayload::RefundForce { amount, excess } => {
            money(op::proxy::REFUND_FORCE, "refund_force", amount, excess)
        }
        ClientPayload::Register { nonce } => json!({
            "op": hex_op(op::proxy::REGISTER), "name": "register", "nonce": nonce.to_string(),
        }),
    });
    let snapshot = &notice.snapshot;
    json!({
        "query_id": notice.query_id.to_string(),
        "owner": cast.role(notice.owner),
        "client_state": {
            "state": snapshot.phase.code(),
            "balance": coins(snapshot.balance),
            "stake": coins(snapshot.stake),
            "tokens_used": snapshot.tokens_used.0.to_string(),
            "secret_hash": hex_hash(&snapshot.secret_hash),
        },
        "payload": payload,
    })
}

fn worker_notice(cast: &Cast, notice: &WorkerNotice) -> Value {
    let payload = notice.payout.map(|payout| {
        json!({
            "op": hex_op(op::proxy::WORKER_PAYOUT),
            "name": "worker_proxy_payout_request",
            "worker_part": coins(payout.worker_part),
            "proxy_part": coins(payout.proxy_part),
            "send_excesses_to": cast.role(payout.excess),
        })
    });
    json!({
        "query_id": notice.query_id.to_string(),
        "owner": cast.role(notice.owner),
        "state": notice.phase.code(),
        "tokens": notice.tokens.0.to_string(),
        "payload": payload,
    })
}

fn message(names: &Names, cast: &Cast, sent: &Sent) -> Value {
    let mut out = names.describe(cast, &sent.body);
    out["to"] = json!(cast.role(sent.to));
    out["bounce"] = json!(sent.bounce);
    if sent.is_bounce {
        out["automatic_bounce"] = json!(true);
        out["value"] = json!("rest");
        return out;
    }
    // Our contracts add "bounce when an action fails" (16) and our wallet "skip what cannot be
    // sent" (2); the live ones do not (contracts/DIFFERENCES.md).
    let mode = sent.mode & !(16 | 2);
    out["mode"] = json!(mode);
    out["value"] = if mode == 128 { json!("rest") } else { coins(sent.value) };
    if sent.has_init {
        out["with_state_init"] = json!(true);
    }
    out
}

pub(crate) fn transaction(names: &Names, cast: &Cast, tx: &Tx) -> Value {
    let from = tx.from.map_or_else(|| "external".to_owned(), |from| cast.role(from));
    let mut out = match tx.from {
        Some(_) => names.describe(cast, &tx.body),
        None => json!({ "op": null, "name": "wallet_external" }),
    };
    if let Some(map) = out.as_object_mut() {
        map.remove("fields");
    }
    out["from"] = json!(from);
    out["to"] = json!(cast.role(tx.to));
    out["out"] = tx.out.iter().map(|sent| message(names, cast, sent)).collect();
    match tx.exit {
        Exit::Code(code) => out["exit_code"] = json!(code),
        Exit::NoGas => skipped(&mut out, "no-gas"),
        Exit::NoState => skipped(&mut out, "no-state"),
    }
    out
}

fn skipped(out: &mut Value, reason: &str) {
    out["exit_code"] = json!("skipped");
    out["skip_reason"] = json!(reason);
}

/// The stored fields of a role's contract.
pub(crate) fn state(world: &World, cast: &Cast, role: &str) -> Value {
    let Some(data) = world.data(cast.at(role)) else { return Value::Null };
    match role {
        "proxy" => {
            let (state, _) = ProxyState::parse(&data).expect("proxy");
            json!({
                "state": state.phase.code(), "balance": coins(state.balance),
                "stake": coins(state.stake), "unlock_ts": state.unlock_s,
            })
        }
        "worker" => {
            let (state, _) = WorkerState::parse(&data).expect("worker");
            json!({ "state": state.phase.code(), "tokens": state.tokens.0.to_string() })
        }
        "client" => {
            let (state, _) = ClientState::parse(&data).expect("client");
            json!({
                "state": state.phase.code(), "balance": coins(state.balance),
                "stake": coins(state.stake), "tokens_used": state.tokens_used.0.to_string(),
                "unlock_ts": state.unlock_s, "secret_hash": hex_hash(&state.secret_hash),
            })
        }
        "root" => root_state(cast, &RootState::parse(&data).expect("root")),
        _ => {
            let state = WalletState::parse(&data).expect("wallet");
            json!({ "seqno": state.seqno, "blocked": state.is_blocked })
        }
    }
}

fn root_state(cast: &Cast, state: &RootState) -> Value {
    let hashes = |set: &std::collections::BTreeSet<Hash>| -> Value {
        set.iter().map(|hash| json!(hex_hash(hash))).collect()
    };
    let proxies: serde_json::Map<String, Value> = state
        .registered_proxies
        .iter()
        .map(|(seqno, entry)| (seqno.to_string(), json!(String::from_utf8_lossy(&entry.text))))
        .collect();
    let names = ["proxy_v3a", "proxy_v3b", "worker_v3", "client_v3a", "client_v3b"];
    let name = |code: &Option<cocoon_contract::code::Code>| {
        let id = code.as_ref().expect("code").id();
        names.into_iter().find(|name| CellId::of(&named_code(name)) == id).expect("known code")
    };
    let (params, codes) = (&state.network.params, &state.network.codes);
    json!({
        "owner": cast.role(state.owner),
        "version": state.version,
        "proxy_hashes": hashes(&state.proxy_hashes),
        "registered_proxies": proxies,
        "last_proxy_seqno": state.last_proxy_seqno,
        "worker_hashes": hashes(&state.worker_hashes),
        "model_hashes": hashes(&state.model_hashes),
        "params": {
            "struct_version": params.struct_version,
            "params_version": params.params_version,
            "unique_id": params.unique_id,
            "is_test": params.is_test,
            "price_per_token": coins(params.price_per_token),
            "worker_fee_per_token": coins(params.worker_fee_per_token),
            "prompt_mult": params.prompt_multiplier.0,
            "cached_mult": params.cached_multiplier.0,
            "completion_mult": params.completion_multiplier.0,
            "reasoning_mult": params.reasoning_multiplier.0,
            "proxy_delay_before_close": params.proxy_delay_s,
            "client_delay_before_close": params.client_delay_s,
            "min_proxy_stake": coins(params.min_proxy_stake),
            "min_client_stake": coins(params.min_client_stake),
            "proxy_code": name(&codes.proxy),
            "worker_code": name(&codes.worker),
            "client_code": name(&codes.client),
        },
    })
}
