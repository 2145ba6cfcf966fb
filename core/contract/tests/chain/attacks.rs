//! What must not work, and what must not be lost when something fails.

use cocoon_contract::cell::Cell;
use cocoon_contract::message::{
    Body, ClientAction, ClientNotice, ClientPayload, ClientSnapshot, ProxyAction, Shortfall,
    TextCommand, WorkerNotice, WorkerPayout,
};
use cocoon_contract::op::exit;
use cocoon_contract::payment::{CloseKind, PaymentKind, SignedPayment};
use cocoon_contract::state::Phase;
use cocoon_units::{Address, Nanoton, Tokens};
use ed25519_dalek::SigningKey;

use crate::cast;
use crate::stage::{
    DAY_S, GAS, SECRET, STRANGER, Stage, client_owner, exit as code_of, payouts, worker_owner,
};
use crate::world::{Exit, Tx};

const TON: u64 = 1_000_000_000;

fn stage() -> Stage {
    let mut stage = Stage::new(cast::params(), 2, 2);
    assert_eq!(code_of(&stage.top_up(0, Nanoton(20 * TON))), 0);
    stage
}

/// The data of every contract on the stage.
fn data(stage: &Stage) -> Vec<Cell> {
    let all = [&[stage.proxy], &stage.clients[..], &stage.workers[..]].concat();
    all.into_iter().map(|address| stage.world.data(address).expect("deployed")).collect()
}

/// The step must fail with this code and change nothing.
fn refused(stage: &mut Stage, code: i32, step: impl FnOnce(&mut Stage) -> Vec<Tx>) {
    let before = data(stage);
    let txs = step(stage);
    assert_eq!(code_of(&txs), code);
    assert_eq!(data(stage), before, "a refused message changes nothing");
}

#[test]
fn strangers_have_no_say() {
    let mut s = stage();
    let new_stake = Nanoton(99 * TON);
    for action in [
        ClientAction::Register { nonce: 1 },
        ClientAction::ChangeSecretHash { secret_hash: SECRET },
        ClientAction::ChangeSecretHashAndTopUp { amount: Nanoton(1), secret_hash: SECRET },
        ClientAction::IncreaseStake { new_stake },
    ] {
        refused(&mut s, exit::NOT_OWNER, |s| s.client_from(STRANGER, 0, action));
        // Another client's owner is a stranger too.
        refused(&mut s, exit::NOT_OWNER, |s| s.client_from(client_owner(1), 0, action));
    }
    for action in [ClientAction::Withdraw, ClientAction::RequestRefund] {
        refused(&mut s, exit::NOT_CLIENT_OWNER, |s| s.client_from(STRANGER, 0, action));
    }
    refused(&mut s, exit::NOT_OWNER, |s| s.proxy_from(STRANGER, ProxyAction::Close));
    refused(&mut s, exit::NOT_OWNER, |s| s.text(STRANGER, TextCommand::Close));
    refused(&mut s, exit::NOT_OWNER, |s| s.text(STRANGER, TextCommand::Withdraw));
    refused(&mut s, exit::NOT_OWNER, |s| s.register_worker(STRANGER, 0));
    let owner = s.proxy_owner;
    refused(&mut s, exit::UNKNOWN_TEXT, |s| s.text(owner, TextCommand::Block));
    let short = Shortfall { query_id: 1, amount: Nanoton(TON) };
    let (client, worker) = (s.clients[0], s.workers[0]);
    refused(&mut s, exit::WRONG_SENDER, |s| {
        s.send(STRANGER, client, GAS, &Body::RefundShort(short))
    });
    refused(&mut s, exit::WRONG_SENDER, |s| {
        s.send(STRANGER, worker, GAS, &Body::PayoutShort(short))
    });
}

#[test]
fn only_derived_contracts_may_ask_for_money() {
    let mut s = stage();
    let amount = Nanoton(20 * TON);
    let client_notice = |owner: Address, payload| {
        let snapshot = ClientSnapshot {
            phase: Phase::Closed,
            balance: Nanoton(0),
            stake: Nanoton(0),
            tokens_used: Tokens(0),
            secret_hash: SECRET,
        };
        Body::ClientNotice(ClientNotice { query_id: 1, owner, snapshot, payload: Some(payload) })
    };
    let payout = WorkerPayout { worker_part: amount, proxy_part: amount, excess: STRANGER };
    let worker_notice = Body::WorkerNotice(WorkerNotice {
        query_id: 1,
        owner: STRANGER,
        phase: Phase::Normal,
        tokens: Tokens(1),
        payout: Some(payout),
    });
    let (proxy, others) = (s.proxy, [STRANGER, s.clients[0], s.workers[0], client_owner(0)]);
    for sender in others {
        for payload in [
            ClientPayload::RefundGranted { amount, excess: STRANGER },
            ClientPayload::RefundForce { amount, excess: STRANGER },
            ClientPayload::TopUp { amount: Nanoton(1), excess: STRANGER },
            ClientPayload::Register { nonce: 1 },
        ] {
            // The owner named is not the one the sender was derived from.
            let body = client_notice(client_owner(1), payload);
            refused(&mut s, exit::WRONG_SENDER, |s| s.send(sender, proxy, GAS, &body));
        }
        refused(&mut s, exit::WRONG_SENDER, |s| s.send(sender, proxy, GAS, &worker_notice));
    }
    // The same hash in another workchain is another account.
    let elsewhere = Address::new(-1, s.clients[0].hash);
    let body =
        client_notice(client_owner(0), ClientPayload::RefundForce { amount, excess: STRANGER });
    refused(&mut s, exit::WRONG_SENDER, |s| s.send(elsewhere, proxy, GAS, &body));
}

#[test]
fn replays_and_older_payments_do_nothing() {
    use PaymentKind::{ClientCharge, ClientGrantRefund, WorkerLastPayout, WorkerPayout};
    let mut s = stage();
    assert_eq!(code_of(&s.submit(ClientCharge, 0, 1_000)), 0);
    refused(&mut s, exit::OLD_MESSAGE, |s| s.submit(ClientCharge, 0, 1_000));
    refused(&mut s, exit::OLD_MESSAGE, |s| s.submit(ClientCharge, 0, 999));
    refused(&mut s, exit::OLD_MESSAGE, |s| s.submit(ClientGrantRefund, 0, 999));
    assert_eq!(code_of(&s.submit(WorkerPayout, 0, 1_000)), 0);
    refused(&mut s, exit::OLD_MESSAGE, |s| s.submit(WorkerPayout, 0, 1_000));
    refused(&mut s, exit::OLD_MESSAGE, |s| s.submit(WorkerLastPayout, 0, 999));
    assert_eq!(code_of(&s.submit(WorkerLastPayout, 0, 1_000)), 0);
    refused(&mut s, exit::WRONG_STATE, |s| s.submit(WorkerPayout, 0, 2_000));
    assert_eq!(code_of(&s.submit(ClientGrantRefund, 0, 1_000)), 0);
    refused(&mut s, exit::WRONG_STATE, |s| s.submit(ClientGrantRefund, 0, 1_000));
    refused(&mut s, exit::WRONG_STATE, |s| s.submit(ClientCharge, 0, 2_000));
    let top_up = ClientAction::TopUp { amount: Nanoton(TON) };
    refused(&mut s, exit::WRONG_STATE, |s| s.client(0, top_up));
}

#[test]
fn signatures_bind_operation_contract_and_key() {
    let mut s = stage();
    let (client, other, worker) = (s.clients[0], s.clients[1], s.workers[0]);
    let charge = s.payment(PaymentKind::ClientCharge, client, 5);
    let body = Body::Payment(charge.clone());
    refused(&mut s, exit::WRONG_TARGET, |s| s.send(STRANGER, other, GAS, &body));
    refused(&mut s, exit::UNKNOWN_OP, |s| s.send(STRANGER, worker, GAS, &body));
    let forger = SigningKey::from_bytes(&[9; 32]);
    let forged = SignedPayment::sign(
        PaymentKind::ClientGrantRefund,
        1,
        Tokens(5),
        client,
        STRANGER,
        &forger,
    );
    let forged = Body::Payment(forged.expect("sign"));
    refused(&mut s, exit::SIGNATURE, |s| s.send(STRANGER, client, GAS, &forged));
    // The address for unused value is free: anybody may submit.
    let repacked = Body::Payment(charge.repack(client_owner(1)));
    assert_eq!(code_of(&s.send(client_owner(1), client, GAS, &repacked)), 0);
}

#[test]
fn the_outer_query_id_must_be_the_signed_one() {
    let mut s = stage();
    let client = s.clients[0];
    let signed = s.payment(PaymentKind::ClientCharge, client, 5).cell().expect("cell");
    let mut rest = signed.as_slice().expect("ordinary");
    rest.skip_first(32 + 64, 0).expect("op and query id");
    let mut builder = tycho_types::cell::CellBuilder::new();
    builder.store_u32(PaymentKind::ClientCharge.op()).expect("fits");
    builder.store_u64(0).expect("fits");
    builder.store_slice(rest).expect("fits");
    let body = builder.build().expect("body");
    assert_eq!(SignedPayment::parse(&body), Err(cocoon_contract::Fault::EnvelopeMismatch));
    refused(&mut s, exit::ENVELOPE, |s| s.send_cell(STRANGER, client, GAS, body));
}

#[test]
fn parameters_of_another_structure_are_not_misread() {
    let older = cocoon_contract::params::Params { struct_version: 2, ..cast::params() };
    let mut s = Stage::new(older, 1, 1);
    let before = data(&s);
    // The proxy contract refuses, and the top-up returns.
    let txs = s.top_up(0, Nanoton(TON));
    assert_eq!(txs[1].exit, Exit::Code(exit::STRUCT_VERSION));
    assert!(payouts(&txs, client_owner(0)) > TON);
    assert_eq!(data(&s), before);
    for kind in [PaymentKind::ClientCharge, PaymentKind::WorkerPayout] {
        refused(&mut s, exit::STRUCT_VERSION, |s| s.submit(kind, 0, 5));
    }
}

#[test]
fn too_little_value_is_refused() {
    let mut s = stage();
    let low = Nanoton(99_999_999);
    let (client, worker, proxy) = (s.clients[0], s.workers[0], s.proxy);
    let charge = Body::Payment(s.payment(PaymentKind::ClientCharge, client, 5));
    refused(&mut s, exit::LOW_VALUE, |s| s.send(STRANGER, client, low, &charge));
    let payout = Body::Payment(s.payment(PaymentKind::WorkerPayout, worker, 5));
    // A worker contract wants more than 0.1 TON.
    let exactly = Nanoton(100_000_000);
    refused(&mut s, exit::LOW_VALUE, |s| s.send(STRANGER, worker, exactly, &payout));
    let query_id = s.next_query();
    let body = |action| {
        let excess = STRANGER;
        Body::Proxy(cocoon_contract::message::ProxyRequest { query_id, action, excess })
    };
    let stake = body(ProxyAction::IncreaseStake { amount: Nanoton(TON) });
    let enough_for_stake = Nanoton(TON + low.0);
    refused(&mut s, exit::LOW_VALUE, |s| s.send(STRANGER, proxy, enough_for_stake, &stake));
    refused(&mut s, exit::LOW_VALUE, |s| s.send(STRANGER, proxy, low, &body(ProxyAction::Payout)));
    // A top-up that claims more than it brings.
    let claim = Body::Client(cocoon_contract::message::ClientRequest {
        query_id,
        action: ClientAction::TopUp { amount: Nanoton(50 * TON) },
        excess: STRANGER,
    });
    refused(&mut s, exit::LOW_VALUE, |s| s.send(STRANGER, client, Nanoton(50 * TON), &claim));
}

#[test]
fn charges_stop_at_the_balance_and_go_on_after_a_top_up() {
    let mut s = stage();
    // 10^12 tokens at 20 nanotons, of which 20 TON pay for 10^9.
    assert_eq!(code_of(&s.submit(PaymentKind::ClientCharge, 0, 1_000_000_000_000)), 0);
    let state = s.client_state(0);
    assert_eq!((state.balance, state.tokens_used), (Nanoton(0), Tokens(1_000_000_000)));
    refused(&mut s, exit::CONTRACT_BALANCE, |s| {
        s.submit(PaymentKind::ClientCharge, 0, 1_000_000_000_000)
    });
    s.top_up(0, Nanoton(39));
    assert_eq!(code_of(&s.submit(PaymentKind::ClientCharge, 0, 1_000_000_000_000)), 0);
    let state = s.client_state(0);
    assert_eq!((state.balance, state.tokens_used), (Nanoton(19), Tokens(1_000_000_001)));
}

#[test]
fn the_largest_numbers_overflow_nothing() {
    let mut s = stage();
    s.proxy_from(STRANGER, ProxyAction::IncreaseStake { amount: Nanoton(3 * TON) });
    assert_eq!(code_of(&s.submit(PaymentKind::ClientCharge, 0, u64::MAX)), 0);
    assert_eq!(s.client_state(0).balance, Nanoton(0));
    // A payout of everything there ever was takes the pool, not the stake, by whole tokens.
    let txs = s.submit(PaymentKind::WorkerPayout, 0, u64::MAX);
    let received = s.paid(&txs, worker_owner(0));
    assert!(
        received > 19 * TON && received < 21 * TON && received.is_multiple_of(19),
        "{received}"
    );
    let (proxy, worker) = (s.proxy_state(), s.worker_state(0));
    assert_eq!(proxy.stake, Nanoton(3 * TON));
    assert_eq!(worker.tokens, Tokens(received / 19), "the rest stays owed");
    assert!(s.world.balance(s.proxy).0 >= proxy.stake.0 + proxy.balance.0);
    // The rest can be claimed when money is there again.
    s.top_up(1, Nanoton(TON));
    let txs = s.submit(PaymentKind::WorkerPayout, 0, u64::MAX);
    assert!(s.paid(&txs, worker_owner(0)) >= TON - 19 - 10_000_000);
    let new_stake = Nanoton(u64::MAX);
    assert_eq!(code_of(&s.client(1, ClientAction::IncreaseStake { new_stake })), 0);
    refused(&mut s, exit::CONTRACT_BALANCE, |s| s.client(1, ClientAction::Withdraw));
}

#[test]
fn a_delay_beyond_the_end_of_time_is_clamped() {
    let params = cocoon_contract::params::Params {
        client_delay_s: u32::MAX,
        proxy_delay_s: u32::MAX,
        ..cast::params()
    };
    let mut s = Stage::new(params, 1, 0);
    s.top_up(0, Nanoton(TON));
    assert_eq!(code_of(&s.client(0, ClientAction::RequestRefund)), 0);
    assert_eq!(s.client_state(0).unlock_s, u32::MAX);
    assert_eq!(code_of(&s.close(CloseKind::Request)), 0);
    assert_eq!(s.proxy_state().unlock_s, u32::MAX);
}

#[test]
fn closing_twice_and_completing_early_or_twice_fails() {
    let mut s = stage();
    s.proxy_from(STRANGER, ProxyAction::IncreaseStake { amount: Nanoton(5 * TON) });
    refused(&mut s, exit::WRONG_STATE, |s| s.close(CloseKind::Complete));
    assert_eq!(code_of(&s.close(CloseKind::Request)), 0);
    let owner = s.proxy_owner;
    refused(&mut s, exit::WRONG_STATE, |s| s.close(CloseKind::Request));
    refused(&mut s, exit::WRONG_STATE, |s| s.proxy_from(owner, ProxyAction::Close));
    refused(&mut s, exit::LOCKED, |s| s.close(CloseKind::Complete));
    s.world.now_s += 2 * DAY_S - 1;
    refused(&mut s, exit::LOCKED, |s| s.close(CloseKind::Complete));
    s.world.now_s += 1;
    let txs = s.close(CloseKind::Complete);
    assert_eq!(s.paid(&txs, owner), 5 * TON, "the stake, not the deposits");
    refused(&mut s, exit::WRONG_STATE, |s| s.close(CloseKind::Complete));
    refused(&mut s, exit::WRONG_STATE, |s| s.close(CloseKind::Request));
    let amount = Nanoton(TON);
    refused(&mut s, exit::WRONG_STATE, |s| {
        s.proxy_from(owner, ProxyAction::IncreaseStake { amount })
    });
}

#[test]
fn a_client_gets_its_deposit_from_a_proxy_that_is_closed_and_gone() {
    let mut s = stage();
    let owner = s.proxy_owner;
    // The proxy's key is lost: the owner closes alone, in both steps.
    assert_eq!(code_of(&s.text(owner, TextCommand::Close)), 0);
    s.world.now_s += 2 * DAY_S;
    assert_eq!(code_of(&s.text(owner, TextCommand::Close)), 0);
    assert_eq!(s.proxy_state().phase, Phase::Closed);
    // A top-up still in flight is not lost either.
    assert_eq!(code_of(&s.top_up(0, Nanoton(TON))), 0);
    s.client(0, ClientAction::RequestRefund);
    refused(&mut s, exit::LOCKED, |s| s.client(0, ClientAction::RequestRefund));
    s.world.now_s += DAY_S;
    refused(&mut s, exit::LOCKED, |s| s.client(0, ClientAction::RequestRefund));
    s.world.now_s += 1;
    let txs = s.client(0, ClientAction::RequestRefund);
    assert_eq!(s.paid(&txs, client_owner(0)), 15 * TON);
    let state = s.client_state(0);
    assert_eq!((state.phase, state.balance), (Phase::Closed, Nanoton(0)));
}

#[test]
fn a_refund_that_falls_short_is_remembered_and_paid_later() {
    let mut s = stage();
    s.proxy_from(STRANGER, ProxyAction::IncreaseStake { amount: Nanoton(4 * TON) });
    // A dishonest payout takes the deposits; the stake stays.
    s.submit(PaymentKind::WorkerPayout, 0, 10_000_000_000);
    s.client(0, ClientAction::RequestRefund);
    s.world.now_s += DAY_S + 1;
    let txs = s.client(0, ClientAction::RequestRefund);
    let state = s.client_state(0);
    // 20 deposited: 5 above the stake went with the first request as far as money was there.
    let first = 20 * TON - 15 * TON;
    assert_eq!(s.proxy_state().stake, Nanoton(0), "the stake covers refunds");
    assert_eq!(state.phase, Phase::Closed);
    assert!(s.paid(&txs, client_owner(0)) < 15 * TON + first);
    let owed = state.balance;
    assert!(owed > Nanoton(15 * TON), "what is not paid stays the client's: {owed}");
    // Somebody else's deposit is there, the client claims again; and the proxy may grant, too.
    s.top_up(1, Nanoton(10 * TON));
    let txs = s.client(0, ClientAction::RequestRefund);
    let second = s.paid(&txs, client_owner(0));
    // A day of storage came out of what was left.
    assert!((10 * TON - 1000..=10 * TON).contains(&second), "{second}");
    assert_eq!(s.client_state(0).balance, owed.saturating_sub(Nanoton(second)));
    s.proxy_from(STRANGER, ProxyAction::IncreaseStake { amount: Nanoton(50 * TON) });
    let txs = s.submit(PaymentKind::ClientGrantRefund, 0, 0);
    assert_eq!(s.paid(&txs, client_owner(0)), owed.0 - second);
    refused(&mut s, exit::WRONG_STATE, |s| s.client(0, ClientAction::RequestRefund));
}

#[test]
fn the_stake_cannot_leave_while_clients_wait() {
    let mut s = stage();
    let owner = s.proxy_owner;
    s.submit(PaymentKind::WorkerPayout, 0, 100_000_000);
    // Earnings of 0.1 TON fill the stake first, by either way of taking them.
    let txs = s.proxy_from(owner, ProxyAction::Payout);
    assert_eq!((s.paid(&txs, owner), s.proxy_state().stake), (0, Nanoton(100_000_000)));
    s.submit(PaymentKind::WorkerPayout, 0, 900_000_000);
    s.text(owner, TextCommand::Withdraw);
    assert_eq!(s.proxy_state().stake, Nanoton(900_000_000));
    s.submit(PaymentKind::WorkerPayout, 0, 1_000_000_000);
    let txs = s.proxy_from(owner, ProxyAction::Payout);
    assert_eq!(s.paid(&txs, owner), 0, "one tenth of a TON of earnings is still missing");
    s.submit(PaymentKind::WorkerPayout, 1, 10_000_000);
    let txs = s.proxy_from(owner, ProxyAction::Payout);
    assert_eq!(s.paid(&txs, owner), s.worker_state(1).tokens.0, "what is above goes out");
    assert_eq!(s.proxy_state().stake, Nanoton(TON));
    // While closing, neither payouts nor withdrawals touch it.
    s.close(CloseKind::Request);
    s.submit(PaymentKind::WorkerPayout, 0, u64::MAX);
    s.text(owner, TextCommand::Withdraw);
    assert_eq!(s.proxy_state().stake, Nanoton(TON));
}

#[test]
fn top_ups_while_closing() {
    let mut s = stage();
    s.client(0, ClientAction::RequestRefund);
    let top_up = ClientAction::TopUp { amount: Nanoton(TON) };
    refused(&mut s, exit::WRONG_STATE, |s| s.client(0, top_up));
    // The proxy closes: a top-up of another client stays its own.
    s.close(CloseKind::Request);
    assert_eq!(code_of(&s.top_up(1, Nanoton(16 * TON))), 0);
    let txs = s.client(1, ClientAction::Withdraw);
    assert_eq!(s.paid(&txs, client_owner(1)), TON);
}

#[test]
fn a_bounced_top_up_returns_to_the_owner() {
    let mut s = stage();
    s.world.forget(s.proxy);
    let before = s.client_state(0).balance;
    let txs = s.top_up(0, Nanoton(3 * TON));
    assert_eq!(code_of(&txs), 0);
    assert_eq!(s.client_state(0).balance, before, "the books are corrected");
    let back = payouts(&txs, client_owner(0));
    assert!(back > 3 * TON && back < 3 * TON + GAS.0, "coins and unused gas return: {back}");
}

#[test]
fn a_bounced_refund_or_payout_counts_as_not_made() {
    let mut s = stage();
    s.submit(PaymentKind::ClientCharge, 0, 50_000_000);
    s.client(0, ClientAction::RequestRefund);
    s.world.now_s += DAY_S + 1;
    s.world.forget(s.proxy);
    let balance = s.client_state(0).balance;
    let txs = s.client(0, ClientAction::RequestRefund);
    assert_eq!(txs[1].exit, Exit::NoState);
    let state = s.client_state(0);
    assert_eq!((state.phase, state.balance), (Phase::Closed, balance));
    for (kind, phase) in
        [(PaymentKind::WorkerPayout, Phase::Normal), (PaymentKind::WorkerLastPayout, Phase::Normal)]
    {
        assert_eq!(code_of(&s.submit(kind, 0, 1_000)), 0);
        let worker = s.worker_state(0);
        assert_eq!((worker.phase, worker.tokens), (phase, Tokens(0)));
    }
}

#[test]
fn a_payout_after_the_close_is_refused_and_not_lost() {
    let mut s = stage();
    s.close(CloseKind::Request);
    s.world.now_s += 2 * DAY_S;
    s.close(CloseKind::Complete);
    let txs = s.submit(PaymentKind::WorkerPayout, 0, 1_000);
    assert_eq!(txs[1].exit, Exit::Code(exit::WRONG_STATE));
    assert_eq!(s.worker_state(0).tokens, Tokens(0));
    assert_eq!(s.paid(&txs, worker_owner(0)), 0);
}

#[test]
fn whoever_submits_a_payment_cannot_spoil_it_with_a_bad_address_for_unused_value() {
    let mut s = stage();
    let client = s.clients[0];
    for nowhere in [Address::new(7, [1; 32]), Address::new(-1, [1; 32])] {
        let charge = s.payment(PaymentKind::ClientCharge, client, 1 + nowhere.hash.len() as u64);
        s.send(STRANGER, client, GAS, &Body::Payment(charge.repack(nowhere)));
    }
    assert_eq!(s.client_state(0).tokens_used, Tokens(33));
    let grant = s.payment(PaymentKind::ClientGrantRefund, client, 33);
    let spoiled = Body::Payment(grant.repack(Address::new(7, [1; 32])));
    let txs = s.send(STRANGER, client, GAS, &spoiled);
    assert_eq!(
        s.paid(&txs, client_owner(0)),
        20 * TON - 33 * 20,
        "the refund goes out all the same"
    );
    assert!(txs.iter().all(|tx| tx.action_code.is_none_or(|code| code == 0)));
}

#[test]
fn gas_money_goes_home_when_a_contract_closes() {
    let mut s = stage();
    let spare = s.world.balance(s.clients[0]).0 - 10_000_000;
    let txs = s.submit(PaymentKind::ClientGrantRefund, 0, 0);
    assert_eq!(payouts(&txs, client_owner(0)), 20 * TON + spare, "not to whoever submits");
    s.client(1, ClientAction::RequestRefund);
    s.world.now_s += DAY_S + 1;
    let txs = s.client(1, ClientAction::RequestRefund);
    let home = payouts(&txs, client_owner(1));
    assert!((770_000_000..790_000_000).contains(&home), "{home}");
    let spare = s.world.balance(s.workers[0]).0 - 10_000_000;
    let txs = s.submit(PaymentKind::WorkerLastPayout, 0, 0);
    let home = payouts(&txs, worker_owner(0));
    assert!((spare - 100_000..=spare).contains(&home), "{home} of {spare}");
    for closed in [s.clients[0], s.clients[1], s.workers[0]] {
        assert_eq!(s.world.balance(closed), Nanoton(10_000_000));
    }
}

#[test]
fn a_body_that_only_looks_bounced_is_an_unknown_operation() {
    let mut s = stage();
    let notice = {
        let txs = s.client(0, ClientAction::Withdraw);
        txs[1].body.clone()
    };
    let mut builder = tycho_types::cell::CellBuilder::new();
    builder.store_u32(0xffff_fffe).expect("fits");
    builder.store_reference(notice).expect("fits");
    let body = builder.build().expect("body");
    let client = s.clients[0];
    refused(&mut s, exit::UNKNOWN_OP, |s| s.send_cell(s.proxy, client, GAS, body));
}

#[test]
fn plain_coins_and_ignored_messages_change_no_books() {
    let mut s = stage();
    let all = [&[s.proxy], &s.clients[..], &s.workers[..]].concat();
    for to in all {
        let before = data(&s);
        s.send_cell(STRANGER, to, GAS, Cell::default());
        s.send(STRANGER, to, GAS, &Body::DoNotProcess);
        assert_eq!(data(&s), before);
    }
}
