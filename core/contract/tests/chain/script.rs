//! Turns the steps of `flows.json` into messages.

use cocoon_contract::cell::{Cell, Hash};
use cocoon_contract::message::{
    Body, ClientAction, ClientNotice, ClientPayload, ClientRequest, ClientSnapshot, ProxyAction,
    ProxyRequest, RootAction, RootRequest, SaveState, WalletSend, WorkerRegister,
};
use cocoon_contract::payment::{CloseKind, PaymentKind, SignedClose, SignedPayment};
use cocoon_contract::root::RegisteredProxy;
use cocoon_contract::state::Phase;
use cocoon_contract::wallet::{CocoonOrder, Layout, Outgoing, external};
use cocoon_contract::{Fault, op};
use cocoon_units::{Nanoton, Tokens};
use ed25519_dalek::SigningKey;
use serde_json::Value;
use tycho_types::cell::CellBuilder;

use crate::cast::{Cast, named_code};
use crate::record::EXTERNAL_LAYOUT;
use crate::world::{Inbound, Tx, World};

pub(crate) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("not a text: {value}"))
}

pub(crate) fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| text(value).parse().expect("number"))
}

fn number32(value: &Value) -> u32 {
    u32::try_from(number(value)).expect("32 bits")
}

fn amount(value: &Value) -> Nanoton {
    Nanoton(number(value))
}

fn hash(value: &Value) -> Hash {
    Hash(hex::decode(text(value)).expect("hex").try_into().expect("32 bytes"))
}

fn op_of(value: &Value) -> u32 {
    u32::from_str_radix(text(value).trim_start_matches("0x"), 16).expect("op")
}

/// Plays a trigger. The exit code when an external message is not accepted.
pub(crate) fn play(world: &mut World, cast: &Cast, trigger: &Value) -> Result<Vec<Tx>, i32> {
    world.now_s = number32(&trigger["time"]);
    let to = text(&trigger["to"]);
    if trigger["kind"] == "internal" {
        let has_init = trigger["with_state_init"].as_bool().unwrap_or(false);
        return Ok(world.internal(&Inbound {
            from: cast.at(text(&trigger["sender"])),
            to: cast.at(to),
            value: amount(&trigger["value"]),
            bounce: trigger["bounce"].as_bool().expect("bounce"),
            state_init: has_init.then(|| cast.init(to)),
            body: body(cast, trigger).unwrap_or_default(),
        }));
    }
    let order = CocoonOrder {
        subwallet: number32(&trigger["subwallet"]),
        valid_until_s: number32(&trigger["valid_until"]),
        seqno: number32(&trigger["seqno"]),
        messages: messages(cast, trigger),
    };
    assert_eq!(trigger["signature"], "valid");
    let body = order.sign(&cast.wallet_key).expect("sign");
    let init = trigger["with_state_init"].as_bool().expect("flag").then(|| cast.init(to));
    let message = external(&cast.at(to), init.as_ref(), &body, EXTERNAL_LAYOUT);
    world.external(cast.at(to), message.expect("external"))
}

/// Mode and cell of the messages in a wallet's order.
fn messages(cast: &Cast, trigger: &Value) -> Vec<(u8, Cell)> {
    let list = trigger["messages"].as_array().expect("messages");
    list.iter()
        .map(|m| {
            let mode = u8::try_from(number(&m["mode"])).expect("mode");
            (mode, outgoing(cast, m).cell(Layout::References).expect("message"))
        })
        .collect()
}

fn outgoing(cast: &Cast, m: &Value) -> Outgoing {
    let to = text(&m["to"]);
    let has_init = m["with_state_init"].as_bool().expect("flag");
    Outgoing {
        to: cast.at(to),
        value: amount(&m["value"]),
        bounce: m["bounce"].as_bool().expect("bounce"),
        state_init: has_init.then(|| cast.init(to)),
        body: body(cast, m),
    }
}

/// The body that operation and fields describe; `None` when it is empty.
pub(crate) fn body(cast: &Cast, m: &Value) -> Option<Cell> {
    let op = m["op"].as_str()?;
    let (op, f) = (op_of(&Value::from(op)), &m["fields"]);
    if f.get("layout").is_some() {
        return Some(wrong_layout(cast, op, f));
    }
    if f.get("signed").is_some() {
        return Some(signed(cast, op, f));
    }
    if op == op::shared::TEXT {
        let mut builder = CellBuilder::new();
        builder.store_u32(0).expect("fits");
        text(&f["text"]).bytes().for_each(|letter| builder.store_u8(letter).expect("fits"));
        return Some(builder.build().expect("text"));
    }
    let query_id = number(&f["query_id"]);
    let known = plain(cast, op, query_id, f).or_else(|| root(op, query_id, f));
    Some(match known {
        Some(body) => body.cell().expect("body"),
        None => {
            let mut builder = CellBuilder::new();
            builder.store_u32(op).expect("fits");
            builder.store_u64(query_id).expect("fits");
            builder.build().expect("body")
        }
    })
}

fn plain(cast: &Cast, op: u32, query_id: u64, f: &Value) -> Option<Body> {
    let excess = || cast.at(text(&f["send_excesses_to"]));
    let client = |action| Body::Client(ClientRequest { query_id, action, excess: excess() });
    let proxy = |action| Body::Proxy(ProxyRequest { query_id, action, excess: excess() });
    Some(match op {
        op::client::TOP_UP => client(ClientAction::TopUp { amount: amount(&f["amount"]) }),
        op::client::REGISTER => client(ClientAction::Register { nonce: number(&f["nonce"]) }),
        op::client::CHANGE_SECRET_HASH => {
            client(ClientAction::ChangeSecretHash { secret_hash: hash(&f["secret_hash"]) })
        }
        op::client::INCREASE_STAKE => {
            client(ClientAction::IncreaseStake { new_stake: amount(&f["new_stake"]) })
        }
        op::client::WITHDRAW => client(ClientAction::Withdraw),
        op::client::REQUEST_REFUND => client(ClientAction::RequestRefund),
        op::proxy::PAYOUT_REQUEST => proxy(ProxyAction::Payout),
        op::proxy::INCREASE_STAKE => {
            proxy(ProxyAction::IncreaseStake { amount: amount(&f["amount"]) })
        }
        op::worker::OWNER_REGISTER => {
            Body::WorkerRegister(WorkerRegister { query_id, excess: excess() })
        }
        op::shared::DO_NOT_PROCESS => Body::SaveState(SaveState {
            query_id,
            seqno: i32::try_from(number(&f["seqno"])).expect("seqno"),
            session_hash: hash(&f["session_hash"]),
        }),
        op::proxy::CLIENT_REQUEST => Body::ClientNotice(client_notice(cast, query_id, f)),
        op::wallet::SEND_MESSAGE => Body::WalletSend(WalletSend {
            query_id,
            mode: u8::try_from(number(&f["mode"])).expect("mode"),
            message: outgoing(cast, &f["message"]).cell(Layout::References).expect("message"),
        }),
        _ => return None,
    })
}

fn client_notice(cast: &Cast, query_id: u64, f: &Value) -> ClientNotice {
    let (state, payload) = (&f["client_state"], &f["payload"]);
    assert_eq!(number(&state["state"]), 0);
    ClientNotice {
        query_id,
        owner: cast.at(text(&f["owner"])),
        snapshot: ClientSnapshot {
            phase: Phase::Normal,
            balance: amount(&state["balance"]),
            stake: amount(&state["stake"]),
            tokens_used: Tokens(number(&state["tokens_used"])),
            secret_hash: hash(&state["secret_hash"]),
        },
        payload: Some(ClientPayload::TopUp {
            amount: amount(&payload["amount"]),
            excess: cast.at(text(&payload["send_excesses_to"])),
        }),
    }
}

fn root(op: u32, query_id: u64, f: &Value) -> Option<Body> {
    let entry = || RegisteredProxy { kind: false, text: text(&f["text"]).as_bytes().to_vec() };
    let action = match op {
        op::root::ADD_WORKER_TYPE => RootAction::AddWorkerType(hash(&f["hash"])),
        op::root::ADD_MODEL_TYPE => RootAction::AddModelType(hash(&f["hash"])),
        op::root::ADD_PROXY_TYPE => RootAction::AddProxyType(hash(&f["hash"])),
        op::root::DEL_PROXY_TYPE => RootAction::DelProxyType(hash(&f["hash"])),
        op::root::REGISTER_PROXY => RootAction::RegisterProxy(entry()),
        op::root::UNREGISTER_PROXY => RootAction::UnregisterProxy { seqno: number32(&f["seqno"]) },
        op::root::UPDATE_PROXY => {
            RootAction::UpdateProxy { seqno: number32(&f["seqno"]), entry: entry() }
        }
        op::root::CHANGE_PRICE => RootAction::ChangePrice {
            price_per_token: amount(&f["price_per_token"]),
            worker_fee_per_token: amount(&f["worker_fee_per_token"]),
        },
        op::root::CHANGE_PARAMS => RootAction::ChangeParams {
            price_per_token: amount(&f["price_per_token"]),
            worker_fee_per_token: amount(&f["worker_fee_per_token"]),
            proxy_delay_s: number32(&f["proxy_delay_before_close"]),
            client_delay_s: number32(&f["client_delay_before_close"]),
            min_proxy_stake: amount(&f["min_proxy_stake"]),
            min_client_stake: amount(&f["min_client_stake"]),
        },
        op::root::UPGRADE_CONTRACTS => RootAction::UpgradeContracts {
            proxy: named_code(text(&f["proxy_code"])),
            worker: named_code(text(&f["worker_code"])),
            client: named_code(text(&f["client_code"])),
        },
        op::root::RESET => RootAction::Reset,
        _ => return None,
    };
    Some(Body::Root(RootRequest { query_id, action }))
}

/// A signed order; outer operation and signature may be wrong on purpose.
fn signed(cast: &Cast, outer_op: u32, f: &Value) -> Cell {
    let s = &f["signed"];
    let key = match text(&f["signature"]) {
        "valid" => cast.proxy_key.clone(),
        _ => SigningKey::from_bytes(&[0xbd; 32]),
    };
    let (op, query_id) = (op_of(&s["op"]), number(&s["query_id"]));
    let (target, excess) = (cast.at(text(&s["target"])), cast.at(text(&f["send_excesses_to"])));
    let cell: Result<Cell, Fault> = match PaymentKind::from_op(op) {
        Some(kind) => {
            let tokens = Tokens(number(&s["tokens"]));
            SignedPayment::sign(kind, query_id, tokens, target, excess, &key)
                .and_then(|payment| payment.cell())
        }
        None => {
            let kind = CloseKind::from_op(op).expect("a signed operation");
            SignedClose::sign(kind, query_id, target, excess, &key).and_then(|close| close.cell())
        }
    };
    let cell = cell.expect("signed");
    let mut rest = cell.as_slice().expect("ordinary");
    rest.skip_first(32, 0).expect("op");
    let mut builder = CellBuilder::new();
    builder.store_u32(outer_op).expect("fits");
    builder.store_slice(rest).expect("fits");
    builder.build().expect("signed")
}

/// The two layouts that the reference's builders get wrong.
fn wrong_layout(cast: &Cast, op: u32, f: &Value) -> Cell {
    let excess = cast.at(text(&f["send_excesses_to"]));
    let mut builder = CellBuilder::new();
    builder.store_u32(op).expect("fits");
    if let Some(query_id) = f.get("query_id") {
        builder.store_u64(number(query_id)).expect("fits");
    }
    builder.store_small_uint(0b100, 3).expect("fits");
    builder.store_u8(0).expect("fits");
    builder.store_raw(&excess.hash, 256).expect("fits");
    builder.build().expect("body")
}
