//! Proxies that deserve no money, lie, forget, or have spent what was not theirs.

use cocoon_contract::message::ProxyAction;
use cocoon_contract::payment::{CloseKind, PaymentKind};
use cocoon_settle::{ClientPolicy, Done, Next, Seen, Wait, Wish};
use cocoon_units::{Nanoton, Tokens};

use crate::stage::{Client, DAY_S, FUNDS, PRICE, Stage, TON, Worker};

fn client(stage: &Stage) -> Client {
    Client::new(stage, ClientPolicy::default())
}

#[test]
fn a_proxy_without_stake_gets_no_deposit() {
    let mut stage = Stage::new(4 * TON);
    let mut client = client(&stage);
    let wait = Wait::ProxyStake { has: Nanoton(4 * TON), needs: Nanoton(5 * TON) };
    assert_eq!(client.settle(&mut stage), Next::Wait(wait));
    assert!(matches!(stage.seen_client(client.contract()), Seen::Absent { .. }));
    stage.operator_asks(ProxyAction::IncreaseStake { amount: Nanoton(TON) }, TON);
    assert_eq!(client.settle(&mut stage), Next::Wait(Wait::Nothing));
    assert_eq!(client.state(&stage).balance.0, 15 * TON);
}

#[test]
fn a_proxy_that_closes_gets_nothing_and_is_left() {
    let mut stage = Stage::new(5 * TON);
    let mut open = client(&stage);
    open.settle(&mut stage);
    stage.proxy_closes(CloseKind::Request);
    assert!(matches!(open.settle(&mut stage), Next::Wait(Wait::Delay { .. })));
    assert_eq!(open.finish(&mut stage), Done::Closed);
    assert!(FUNDS - stage.balance(stage.client.address) < TON / 10);
    // Whoever comes too late keeps its coins.
    let mut stage = Stage::new(5 * TON);
    stage.proxy_closes(CloseKind::Request);
    let mut late = client(&stage);
    assert_eq!(late.settle(&mut stage), Next::Wait(Wait::ProxyLeaves));
}

#[test]
fn a_proxy_that_counts_too_much_gets_no_help() {
    let mut stage = Stage::new(5 * TON);
    let mut client = client(&stage);
    client.settle(&mut stage);
    client.own = 1_000_000;
    client.counted = 700_000_000;
    client.payment = Some(stage.sign(PaymentKind::ClientCharge, client.contract(), 700_000_000));
    let wait = Wait::Dispute { counted: Tokens(700_000_000), own: Tokens(1_000_000) };
    assert_eq!(client.settle(&mut stage), Next::Wait(wait));
    assert_eq!(client.state(&stage).tokens_used.0, 0);
    // What it charges by itself stays within the balance; the rest comes home.
    stage.proxy_submits(PaymentKind::ClientCharge, client.contract(), 700_000_000);
    client.wish = Wish::Leave;
    assert_eq!(client.finish(&mut stage), Done::Closed);
    let lost = FUNDS - stage.balance(stage.client.address);
    assert!((14 * TON..14 * TON + TON / 10).contains(&lost), "{lost}");
}

#[test]
fn a_payment_for_another_contract_is_never_submitted() {
    let mut stage = Stage::new(5 * TON);
    let mut client = client(&stage);
    client.settle(&mut stage);
    (client.own, client.counted) = (600_000_000, 600_000_000);
    let other = cocoon_units::Address::new(0, [3; 32]);
    client.payment = Some(stage.sign(PaymentKind::ClientCharge, other, 600_000_000));
    client.settle(&mut stage);
    assert!(client.steps.iter().all(|step| !step.starts_with("submit")), "{:?}", client.steps);
}

#[test]
fn a_refund_that_falls_short_is_asked_for_until_it_is_there() {
    let mut stage = Stage::new(5 * TON);
    let mut client = client(&stage);
    client.settle(&mut stage);
    // A proxy with a worker of its own drains what clients deposited.
    let mut thief = Worker::new(&stage);
    thief.signed(&mut stage, 12 * TON / 19);
    thief.collect = true;
    thief.settle(&mut stage);
    assert_eq!(stage.paid_to(stage.worker_owner), 12 * TON / 19 * 19);
    client.wish = Wish::Leave;
    client.settle(&mut stage);
    stage.wait(DAY_S + 10);
    let Next::Wait(Wait::Short { amount, at_s }) = client.settle(&mut stage) else {
        panic!("the proxy contract does not have it")
    };
    // What is left of the deposits, the account's gas money and the whole stake came back.
    let left = 15 * TON - 12 * TON / 19 * 20;
    assert!(amount.0.abs_diff(15 * TON - left - 5 * TON) < TON / 2, "{amount}");
    // The operator pays up; the client asks again by itself.
    stage.operator_asks(ProxyAction::IncreaseStake { amount: Nanoton(10 * TON) }, 10 * TON);
    stage.wait(at_s - stage.now_s());
    assert_eq!(client.finish(&mut stage), Done::Closed);
    assert!(FUNDS - stage.balance(stage.client.address) < TON / 5);
}

#[test]
fn charges_beyond_the_balance_cannot_be_made_and_are_not_tried() {
    let mut stage = Stage::new(5 * TON);
    let policy = ClientPolicy { low: Some(Nanoton::ZERO), ..ClientPolicy::default() };
    let mut client = Client::new(&stage, policy);
    client.wish = Wish::PaidIn(Nanoton(15 * TON));
    client.settle(&mut stage);
    client.wish = Wish::Use;
    let all = 15 * TON / PRICE;
    stage.proxy_submits(PaymentKind::ClientCharge, client.contract(), all + 1_000);
    assert_eq!(client.state(&stage).tokens_used.0, all);
    client.payment = Some(stage.sign(PaymentKind::ClientCharge, client.contract(), all + 1_000));
    (client.own, client.counted) = (all + 1_000, all + 1_000);
    assert_eq!(client.settle(&mut stage), Next::Wait(Wait::Nothing));
}
