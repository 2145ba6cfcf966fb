//! Message bodies and signed payments.

use cocoon_contract::cell::{Cell, Hash};
use cocoon_contract::message::{
    Body, ClientAction, ClientNotice, ClientPayload, ClientRequest, ClientSnapshot, ProxyAction,
    ProxyRequest, SaveState, TextCommand, WalletSend, WorkerNotice, WorkerPayout, WorkerRegister,
    peek,
};
use cocoon_contract::op;
use cocoon_contract::payment::{CloseKind, PaymentKind, SignedClose, SignedPayment};
use cocoon_contract::state::Phase;
use cocoon_contract::wallet::{Layout, Outgoing};
use cocoon_contract::{Fault, boc};
use cocoon_units::{Address, Tokens};
use serde_json::Value;

use crate::vectors::{
    Vectors, address, amount, assert_same, cell, hex32, op_of, public_key, text, u64_of,
};

/// The body that the fields of a vector describe.
pub(crate) fn body(f: &Value) -> Body {
    let query_id = f.get("query_id").map_or(0, u64_of);
    let secret_hash = || Hash(hex32(&f["secret_hash"]));
    let excess = || address(&f["send_excesses_to"]);
    let client = |action| Body::Client(ClientRequest { query_id, action, excess: excess() });
    let proxy = |action| Body::Proxy(ProxyRequest { query_id, action, excess: excess() });
    match op_of(&f["op"]) {
        op::shared::TEXT => Body::Text(TextCommand::Withdraw),
        op::shared::EXCESSES => Body::Excesses { query_id },
        op::shared::PAYOUT => Body::Payout { query_id },
        op::shared::DO_NOT_PROCESS => Body::SaveState(SaveState {
            query_id,
            seqno: i32::try_from(u64_of(&f["seqno"])).expect("seqno"),
            session_hash: Hash(hex32(&f["session_hash"])),
        }),
        op::client::REGISTER => client(ClientAction::Register { nonce: u64_of(&f["nonce"]) }),
        op::client::CHANGE_SECRET_HASH => {
            client(ClientAction::ChangeSecretHash { secret_hash: secret_hash() })
        }
        op::client::TOP_UP => client(ClientAction::TopUp { amount: amount(&f["amount"]) }),
        op::client::CHANGE_SECRET_HASH_AND_TOP_UP => {
            client(ClientAction::ChangeSecretHashAndTopUp {
                amount: amount(&f["amount"]),
                secret_hash: secret_hash(),
            })
        }
        op::client::WITHDRAW => client(ClientAction::Withdraw),
        op::client::REQUEST_REFUND => client(ClientAction::RequestRefund),
        op::client::INCREASE_STAKE => {
            client(ClientAction::IncreaseStake { new_stake: amount(&f["new_stake"]) })
        }
        op::worker::OWNER_REGISTER => {
            Body::WorkerRegister(WorkerRegister { query_id, excess: excess() })
        }
        op::proxy::PAYOUT_REQUEST => proxy(ProxyAction::Payout),
        op::proxy::INCREASE_STAKE => {
            proxy(ProxyAction::IncreaseStake { amount: amount(&f["amount"]) })
        }
        op::proxy::OWNER_CLOSE => proxy(ProxyAction::Close),
        op::proxy::CLIENT_REQUEST => Body::ClientNotice(client_notice(query_id, f)),
        op::proxy::WORKER_REQUEST => Body::WorkerNotice(worker_notice(query_id, f)),
        op::wallet::SEND_MESSAGE => Body::WalletSend(WalletSend {
            query_id,
            mode: u8::try_from(u64_of(&f["mode"])).expect("mode"),
            message: outgoing(&f["message"], None, None).cell(Layout::References).expect("cell"),
        }),
        op => panic!("no such vector: {op:#x}"),
    }
}

pub(crate) fn outgoing(
    f: &Value,
    state_init: Option<cocoon_contract::address::StateInit>,
    body: Option<Cell>,
) -> Outgoing {
    Outgoing {
        to: address(&f["to"]),
        value: amount(&f["value"]),
        bounce: f["bounce"].as_bool().expect("bounce"),
        state_init,
        body,
    }
}

fn phase(value: &Value) -> Phase {
    match u64_of(value) {
        0 => Phase::Normal,
        1 => Phase::Closing,
        _ => Phase::Closed,
    }
}

fn client_notice(query_id: u64, f: &Value) -> ClientNotice {
    let money = || (amount(&f["amount"]), address(&f["send_excesses_to"]));
    let payload = f["payload"].as_str().map(|kind| match kind {
        "register" => ClientPayload::Register { nonce: u64_of(&f["nonce"]) },
        "top_up" => {
            let (amount, excess) = money();
            ClientPayload::TopUp { amount, excess }
        }
        "refund_granted" => {
            let (amount, excess) = money();
            ClientPayload::RefundGranted { amount, excess }
        }
        _ => {
            let (amount, excess) = money();
            ClientPayload::RefundForce { amount, excess }
        }
    });
    let snapshot = ClientSnapshot {
        phase: phase(&f["state"]),
        balance: amount(&f["balance"]),
        stake: amount(&f["stake"]),
        tokens_used: Tokens(u64_of(&f["tokens_used"])),
        secret_hash: Hash(hex32(&f["secret_hash"])),
    };
    ClientNotice { query_id, owner: address(&f["owner"]), snapshot, payload }
}

fn worker_notice(query_id: u64, f: &Value) -> WorkerNotice {
    let payout = f["payload"].as_str().map(|_| WorkerPayout {
        worker_part: amount(&f["worker_part"]),
        proxy_part: amount(&f["proxy_part"]),
        excess: address(&f["send_excesses_to"]),
    });
    let (phase, tokens) = (phase(&f["state"]), Tokens(u64_of(&f["tokens"])));
    WorkerNotice { query_id, owner: address(&f["owner"]), phase, tokens, payout }
}

#[test]
fn message_bodies() {
    let v = Vectors::load();
    let all = v.0["message_bodies"].as_object().expect("map");
    assert!(all.len() >= 23, "all bodies are there");
    for (name, entry) in all {
        let expected = body(&entry["fields"]);
        let built = expected.cell().expect("cell");
        assert_same(&built, entry);
        let given = cell(entry);
        assert_eq!(Body::parse(&given).expect(name), expected, "{name}");
        if let Some(query_id) = entry["fields"].get("query_id") {
            assert_eq!(peek(&given), Some((op_of(&entry["fields"]["op"]), u64_of(query_id))));
        }
    }
}

#[test]
fn signed_payments() {
    let v = Vectors::load();
    let key = v.signing_key("proxy");
    let excess = |s: &Value| address(&s["return_excesses_to"]);
    let mut charge = None;
    for s in v.0["signed"].as_array().expect("list") {
        let given = cell(&s["envelope"]);
        let op = op_of(&s["op"]);
        if s.get("repack_of").is_some() {
            let repacked = SignedPayment::repack(charge.as_ref().expect("charge"), excess(s));
            assert_same(&repacked.cell().expect("cell"), &s["envelope"]);
            continue;
        }
        let (query_id, target) = (u64_of(&s["query_id"]), address(&s["target"]));
        let public = public_key(&s["signer_public_key"]);
        let signature = hex::encode(match PaymentKind::from_op(op) {
            Some(kind) => {
                let tokens = Tokens(u64_of(&s["tokens"]));
                let made = SignedPayment::sign(kind, query_id, tokens, target, excess(s), &key);
                let made = made.expect("sign");
                assert_same(&made.cell().expect("cell"), &s["envelope"]);
                assert_eq!(made.signed_hash().to_string(), text(&s["inner"]["hash"]));
                let read = SignedPayment::from_boc(&boc::encode(&given)).expect("parse");
                assert_eq!(read, made);
                assert_eq!(read.verify(kind, &target, public), Ok(tokens));
                refuse_variations(&read, kind, &target, &public);
                assert_eq!(Body::parse(&given), Ok(Body::Payment(read)));
                charge = charge.or(Some(made.clone()));
                *made.signature()
            }
            None => {
                let kind = CloseKind::from_op(op).expect("close");
                let made = SignedClose::sign(kind, query_id, target, excess(s), &key);
                let made = made.expect("sign");
                assert_same(&made.cell().expect("cell"), &s["envelope"]);
                let read = SignedClose::parse(&given).expect("parse");
                assert_eq!(read.verify(&target, public), Ok(()));
                assert_eq!(Body::parse(&given), Ok(Body::Close(read)));
                *made.signature()
            }
        });
        assert_eq!(signature, text(&s["signature_hex"]));
    }
}

fn refuse_variations(
    payment: &SignedPayment,
    kind: PaymentKind,
    target: &Address,
    key: &cocoon_units::PublicKey,
) {
    let other = Address::new(0, [9; 32]);
    assert!(matches!(payment.verify(kind, &other, key), Err(Fault::Target { .. })));
    let masterchain = Address::new(-1, target.hash);
    assert!(matches!(payment.verify(kind, &masterchain, key), Err(Fault::Target { .. })));
    let wrong_key = cocoon_units::PublicKey([5; 32]);
    assert_eq!(payment.verify(kind, target, wrong_key), Err(Fault::Signature));
    for wrong in [PaymentKind::ClientCharge, PaymentKind::WorkerPayout] {
        if wrong != kind {
            let refused = payment.verify(wrong, target, key);
            assert!(matches!(refused, Err(Fault::UnexpectedOp { .. })));
        }
    }
    // Any changed byte is noticed: as a bag, as a layout, or as a signature.
    let bag = payment.to_boc().expect("bag");
    for at in 0..bag.len() {
        let mut bag = bag.clone();
        bag[at] ^= 1;
        let Ok(read) = SignedPayment::from_boc(&bag) else { continue };
        if read.verify(kind, target, key).is_ok() {
            assert_eq!(read.repack(payment.excess()), *payment, "only the excess may differ");
        }
    }
}

#[test]
fn exit_codes_have_names() {
    let v = Vectors::load();
    for code in v.0["error_codes"].as_object().expect("map").keys() {
        // 1002 and 1008 stand in the list and are used by no contract of this generation.
        let name = op::exit::name(code.parse().expect("number"));
        assert!(name != "unknown exit code" || code == "1002", "{code}");
    }
}
