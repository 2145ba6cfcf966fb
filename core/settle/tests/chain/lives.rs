//! What an honest network does with a client's money, to the nanoton.

use cocoon_contract::cell::Hash;
use cocoon_contract::payment::PaymentKind;
use cocoon_contract::state::Phase;
use cocoon_settle::{ClientPolicy, Done, Next, Step, Wait, Wish};
use cocoon_units::Nanoton;

use crate::stage::{Client, DAY_S, FUNDS, PRICE, Stage, TON};

const STAKE: u64 = 5 * TON;

fn opened() -> (Stage, Client) {
    let mut stage = Stage::new(STAKE);
    let mut client = Client::new(&stage, ClientPolicy::default());
    client.secret = Some(Hash([0x5e; 32]));
    client.nonce = Some(7);
    assert_eq!(client.settle(&mut stage), Next::Wait(Wait::Nothing));
    (stage, client)
}

/// The proxy counted and signed for this much, honestly.
fn used(stage: &mut Stage, client: &mut Client, tokens: u64) {
    client.own = tokens;
    client.counted = tokens;
    client.payment = Some(stage.sign(PaymentKind::ClientCharge, client.contract(), tokens));
}

/// The sheet: what came back is what was deposited less what was charged, to the nanoton, and all
/// else together cost no more than was said before each step.
fn check(stage: &Stage, client: &Client, charged: u64) {
    let refunded = stage.paid_to(stage.client.address);
    assert_eq!(refunded, client.deposited - charged * PRICE);
    let left = stage.balance(client.contract());
    let wallet = stage.balance(stage.client.address);
    let fees = FUNDS - wallet - charged * PRICE - left;
    assert!(fees <= client.stated_fees, "{fees} of {}", client.stated_fees);
    assert!(left <= 11_000_000, "{left}");
}

#[test]
fn opening_takes_three_messages_and_the_next_look_none() {
    let (mut stage, mut client) = opened();
    assert_eq!(
        client.steps,
        [
            "put the contract on chain",
            "deposit 15 TON and store the secret's hash",
            "show the proxy who we are"
        ]
    );
    let state = client.state(&stage);
    assert_eq!((state.balance.0, state.secret_hash), (15 * TON, Hash([0x5e; 32])));
    client.restart(&stage);
    assert_eq!(client.settle(&mut stage), Next::Wait(Wait::Nothing));
    // Another number of the proxy is shown, the same one never again.
    client.nonce = Some(8);
    client.settle(&mut stage);
    assert_eq!(client.steps.len(), 4);
}

#[test]
fn a_proxy_that_grants_gives_back_all_but_what_was_used() {
    let (mut stage, mut client) = opened();
    used(&mut stage, &mut client, 100_000_007);
    stage.proxy_submits(PaymentKind::ClientCharge, client.contract(), 50_000_000);
    client.wish = Wish::Leave;
    let Next::Wait(Wait::Delay { amount, .. }) = client.settle(&mut stage) else {
        panic!("the delay runs")
    };
    assert_eq!(amount.0, 15 * TON - 50_000_000 * PRICE);
    let contract = client.contract();
    stage.proxy_submits(PaymentKind::ClientGrantRefund, contract, 100_000_007);
    assert_eq!(client.finish(&mut stage), Done::Closed);
    assert_eq!(client.state(&stage).phase, Phase::Closed);
    check(&stage, &client, 100_000_007);
}

#[test]
fn a_proxy_gone_for_good_costs_the_delay_and_the_fees() {
    let (mut stage, mut client) = opened();
    used(&mut stage, &mut client, 30_000_000);
    stage.proxy_submits(PaymentKind::ClientCharge, client.contract(), 20_000_000);
    let before = stage.now_s();
    client.heard_s = Some(before);
    assert_eq!(client.settle(&mut stage), Next::Wait(Wait::Nothing));
    stage.wait(3 * DAY_S);
    assert_eq!(client.finish(&mut stage), Done::Closed);
    assert_eq!(
        client.steps[3..],
        ["ask for everything back", "take everything back without the proxy"]
    );
    assert!(stage.now_s() > before + 4 * DAY_S);
    // Charged is what stood on chain; what the proxy did not charge in its delay is the client's.
    let state = client.state(&stage);
    assert_eq!((state.tokens_used.0, state.balance.0), (20_000_000, 0));
    check(&stage, &client, 20_000_000);
}

#[test]
fn credit_runs_out_and_the_client_charges_itself() {
    let (mut stage, mut client) = opened();
    used(&mut stage, &mut client, 500_000_000);
    client.settle(&mut stage);
    // 10 of 15 TON used: below the share, but the balance is filled up.
    assert_eq!(client.steps[3..], ["deposit 10 TON"]);
    used(&mut stage, &mut client, 600_000_000);
    client.settle(&mut stage);
    assert_eq!(client.steps[4..], ["submit the proxy's signed total of 600000000 tokens"]);
    let state = client.state(&stage);
    assert_eq!((state.tokens_used.0, state.balance.0), (600_000_000, 13 * TON));
    // An old total is not submitted again.
    client.payment = Some(stage.sign(PaymentKind::ClientCharge, client.contract(), 599_999_999));
    client.counted = 600_000_000;
    assert_eq!(client.settle(&mut stage), Next::Wait(Wait::Nothing));
}

#[test]
fn paying_in_and_withdrawing_can_be_repeated() {
    let (mut stage, mut client) = opened();
    client.wish = Wish::PaidIn(Nanoton(25 * TON));
    for _ in 0..2 {
        client.restart(&stage);
        assert_eq!(client.settle(&mut stage), Next::Done(Done::AsWished));
        assert_eq!(client.state(&stage).balance.0, 25 * TON);
    }
    client.wish = Wish::Withdraw;
    for _ in 0..2 {
        assert_eq!(client.settle(&mut stage), Next::Done(Done::AsWished));
        assert_eq!(client.state(&stage).balance.0, 15 * TON);
    }
}

#[test]
fn a_new_price_moves_the_client_to_a_new_contract() {
    let (mut stage, mut client) = opened();
    client.outdated_since_s = Some(stage.now_s());
    let Next::Wait(Wait::Grant { until_s }) = client.settle(&mut stage) else {
        panic!("the proxy may grant first")
    };
    assert_eq!(until_s, client.outdated_since_s.unwrap() + DAY_S / 2);
    // The new instance is opened while the old one waits.
    let old = stage.identity.clone();
    stage.network.params.params_version = 2;
    stage.network.params.price_per_token = Nanoton(40);
    let init = cocoon_contract::address::proxy_init(&old, &stage.network).unwrap();
    let old_proxy = stage.proxy;
    stage.proxy = init.address();
    stage.operator_sends(cocoon_contract::wallet::Outgoing::deploy(init, Nanoton(TON / 2)));
    let action = cocoon_contract::message::ProxyAction::IncreaseStake { amount: Nanoton(STAKE) };
    stage.operator_asks(action, STAKE);
    let mut new = Client::new(&stage, ClientPolicy::default());
    assert_ne!(new.contract(), client.contract());
    assert_eq!(new.settle(&mut stage), Next::Wait(Wait::Nothing));
    // The proxy grants nothing: the client takes it by itself, on both roads from its journal.
    stage.proxy = old_proxy;
    client.restart(&stage);
    assert_eq!(client.finish(&mut stage), Done::Closed);
    assert_eq!(client.state(&stage).balance.0, 0);
    assert_eq!(new.state(&stage).balance.0, 15 * TON);
}

#[test]
fn a_message_that_never_left_is_sent_again_when_the_wallet_says_so() {
    let mut stage = Stage::new(STAKE);
    let mut client = Client::new(&stage, ClientPolicy::default());
    client.settle(&mut stage);
    client.wish = Wish::Withdraw;
    client.settle(&mut stage);
    client.wish = Wish::PaidIn(Nanoton(20 * TON));
    // The order never reaches the chain, and the process dies.
    let own = stage.seen_client(client.contract());
    let record = cocoon_settle::SettleRecord::Sent {
        contract: client.contract().hash,
        step: Step::Deposit { amount: Nanoton(5 * TON), with_secret: false },
        label: 77,
        before: cocoon_settle::Before::client(&own, Nanoton(PRICE)),
    };
    client.journal.push(record);
    client.restart(&stage);
    stage.wait(7 * DAY_S);
    assert!(matches!(client.settle(&mut stage), Next::Wait(Wait::Effect { .. })));
    // The wallet knows nothing of it: it was never signed.
    client.life.failed(stage.now_s());
    assert!(matches!(client.settle(&mut stage), Next::Wait(Wait::Retry { failures: 1, .. })));
    stage.wait(31);
    assert_eq!(client.settle(&mut stage), Next::Done(Done::AsWished));
    assert_eq!(client.state(&stage).balance.0, 20 * TON);
}

#[test]
fn a_wallet_with_too_little_is_told_how_much_is_missing() {
    let mut stage = Stage::new(STAKE);
    let policy = ClientPolicy { deposit: Some(Nanoton(2 * FUNDS)), ..ClientPolicy::default() };
    let mut client = Client::new(&stage, policy);
    let Next::Wait(wait) = client.settle(&mut stage) else { panic!("nothing is sent") };
    assert!(wait.to_string().contains("has 1000 TON"), "{wait}");
    assert!(matches!(wait, Wait::Funds { needs, .. } if needs.0 > 2 * FUNDS));
    assert_eq!(client.steps, [""; 0]);
}
