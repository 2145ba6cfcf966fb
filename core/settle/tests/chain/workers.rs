//! What workers collect by themselves.

use cocoon_contract::payment::{CloseKind, PaymentKind};
use cocoon_settle::{ClientPolicy, Done, Next, Wait};
use cocoon_units::Nanoton;

use crate::stage::{Client, DAY_S, FEE, Stage, TON, Worker};

/// A stage with 15 TON of a client in the proxy contract.
fn stage() -> Stage {
    let mut stage = Stage::new(5 * TON);
    Client::new(&stage, ClientPolicy::default()).settle(&mut stage);
    stage
}

fn paid(stage: &Stage) -> u64 {
    stage.paid_to(stage.worker_owner)
}

#[test]
fn enough_is_collected_at_once_and_little_when_idle() {
    let mut stage = stage();
    let mut worker = Worker::new(&stage);
    worker.signed(&mut stage, TON / FEE);
    assert_eq!(worker.settle(&mut stage), Next::Wait(Wait::Nothing));
    stage.wait(3_600);
    worker.settle(&mut stage);
    assert_eq!(paid(&stage), TON / FEE * FEE);
    assert_eq!(worker.steps.len(), 2);
    let total = 13 * TON / FEE;
    worker.signed(&mut stage, total);
    stage.wait(601);
    worker.settle(&mut stage);
    // 12 TON and more since: collected though work goes on.
    assert_eq!(paid(&stage), total * FEE);
    worker.signed(&mut stage, 14 * TON / FEE);
    assert_eq!(worker.settle(&mut stage), Next::Wait(Wait::Nothing));
    assert_eq!(worker.steps.len(), 3);
}

#[test]
fn what_the_proxy_paid_already_is_not_collected_again() {
    let mut stage = stage();
    let mut worker = Worker::new(&stage);
    worker.collect = true;
    worker.signed(&mut stage, 1_000_000);
    worker.settle(&mut stage);
    assert_eq!(paid(&stage), 0, "19 million nanotons are less than their fees");
    worker.signed(&mut stage, 10_000_000);
    worker.settle(&mut stage);
    assert_eq!(paid(&stage), 10_000_000 * FEE);
    stage.proxy_submits(PaymentKind::WorkerPayout, worker.contract(), 90_000_000);
    worker.signed(&mut stage, 80_000_000);
    stage.wait(601);
    assert_eq!(worker.settle(&mut stage), Next::Wait(Wait::Nothing));
    assert_eq!(paid(&stage), 90_000_000 * FEE);
    assert_eq!(worker.steps.len(), 2);
}

#[test]
fn a_payout_that_falls_short_waits_for_the_next_deposit() {
    let mut stage = stage();
    let mut worker = Worker::new(&stage);
    worker.collect = true;
    worker.signed(&mut stage, 20 * TON / FEE);
    let Next::Wait(Wait::Short { amount, at_s }) = worker.settle(&mut stage) else {
        panic!("the deposits are 15 TON")
    };
    assert!(amount.0 > 4 * TON && amount.0 < 6 * TON, "{amount}");
    stage.wait(at_s - stage.now_s());
    let policy = ClientPolicy { deposit: Some(Nanoton(40 * TON)), ..ClientPolicy::default() };
    Client::new(&stage, policy).settle(&mut stage);
    worker.settle(&mut stage);
    assert_eq!(paid(&stage), 20 * TON / FEE * FEE);
}

#[test]
fn a_closing_proxy_is_collected_from_before_it_closed() {
    let mut stage = stage();
    let mut worker = Worker::new(&stage);
    worker.signed(&mut stage, TON / FEE);
    stage.proxy_closes(CloseKind::Request);
    worker.settle(&mut stage);
    assert_eq!(paid(&stage), TON / FEE * FEE);
    worker.leaving = true;
    assert_eq!(worker.settle(&mut stage), Next::Done(Done::AsWished));
    // After the close nothing can be had any more; nothing is tried.
    stage.wait(3 * DAY_S);
    stage.proxy_closes(CloseKind::Complete);
    worker.signed(&mut stage, 2 * TON / FEE);
    assert!(matches!(worker.settle(&mut stage), Next::Done(Done::NotWorthIt { .. })));
    assert_eq!(worker.steps.len(), 2);
}

#[test]
fn the_last_payout_brings_the_gas_money_home() {
    let mut stage = stage();
    let mut worker = Worker::new(&stage);
    worker.collect = true;
    worker.signed(&mut stage, 20_000_000);
    worker.settle(&mut stage);
    stage.proxy_submits(PaymentKind::WorkerLastPayout, worker.contract(), 30_000_000);
    assert!(stage.balance(stage.worker_owner) > 30_000_000 * FEE + TON / 10);
    worker.leaving = true;
    assert_eq!(worker.settle(&mut stage), Next::Done(Done::Closed));
}
