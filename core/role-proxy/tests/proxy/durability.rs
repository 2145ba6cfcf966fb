//! What waits for the journal, what a restart remembers, commits and settlement.

use std::sync::Arc;

use cocoon_ledger::Record;
use cocoon_role_proxy::{ChainFact, ChainMode, ChainOrder, ConnId, Settings, Side};
use cocoon_units::{Nanoton, Tokens};
use cocoon_wire::proxy::{SignedPayment, ToWorker};
use cocoon_wire::{client, tl, worker};

use crate::stage::{
    Got, Stage, account, head, identity, last, owner_text, part, pseudo_root, request, settings,
    worker_hello,
};

#[test]
fn parts_pass_at_once_and_the_end_waits_for_the_disk() {
    let mut stage = Stage::new();
    let worker = stage.worker(30, 4, 4);
    let conn = stage.client(20, 4);
    stage.flushes = false;
    stage.send(conn, &request(1));
    let id = stage.run_query(worker);
    stage.send(worker, &head(id));
    stage.send(worker, &part(id, b"a"));
    assert_eq!(stage.all(conn).len(), 2, "head and part are there");
    stage.send(worker, &last(id, 44));
    assert_eq!((stage.got(conn), stage.got(worker)), (None, None));
    assert_eq!(stage.held(), 3, "last message and two payments");
    assert_eq!(stage.books().client(account(20)).unwrap().counters().durable(), Tokens(0));
    stage.send(conn, &request(2));
    stage.run_query(worker);
    stage.flush();
    assert_eq!(stage.all(conn).len(), 2);
    assert_eq!(stage.all(worker).len(), 1);
    assert_eq!(stage.books().client(account(20)).unwrap().counters().durable(), Tokens(44));
}

#[test]
fn a_restart_remembers_what_was_on_disk_and_the_worker_agrees() {
    let mut stage = Stage::new();
    let worker = stage.worker(30, 4, 4);
    let conn = stage.client(20, 4);
    for id in 1..=3 {
        stage.send(conn, &request(id));
        let id = stage.run_query(worker);
        stage.serve(worker, id, 44);
        stage.all(worker);
    }
    let journal = stage.journal.clone();
    let mut again = Stage::replay(settings(), journal);
    assert_eq!(again.books().totals().spent, 132);
    again.worker(30, 4, 4);
    let conn = again.client(20, 4);
    again.ask(conn, &client::UpdatePaymentStatus {});
    let data = again.answer(conn);
    let status: client::PaymentStatus<'_> = tl::decode(&data).unwrap();
    assert_eq!((status.db_tokens, status.max_tokens), (132, 132));
}

fn signed_tokens(stage: &mut Stage, conn: ConnId) -> Tokens {
    stage.ask(conn, &client::UpdatePaymentStatus {});
    let data = stage.answer(conn);
    let status: client::PaymentStatus<'_> = tl::decode(&data).unwrap();
    let SignedPayment::Signed(payment) = status.signed_payment else { panic!("signed") };
    let payment = cocoon_contract::payment::SignedPayment::from_boc(payment.0).unwrap();
    let kind = cocoon_contract::payment::PaymentKind::ClientCharge;
    payment.verify(kind, &payment.target(), identity().public_key()).unwrap()
}

#[test]
fn payments_are_signed_for_what_a_commit_covers() {
    let mut stage = Stage::new();
    let worker = stage.worker(30, 4, 4);
    let conn = stage.client(20, 4);
    stage.send(conn, &request(1));
    let id = stage.run_query(worker);
    stage.serve(worker, id, 44);
    stage.all(conn);
    assert_eq!(signed_tokens(&mut stage, conn), Tokens(0), "not committed yet");
    stage.wait(30_000);
    assert_eq!(signed_tokens(&mut stage, conn), Tokens(44));
    let commits = stage.proxy.counts().commits;
    stage.wait(300_000);
    assert_eq!(stage.proxy.counts().commits, commits, "nothing to commit, nothing committed");
}

/// Total of the payment inside a request that a worker was handed.
fn handed_tokens(stage: &mut Stage, worker: ConnId) -> Tokens {
    let data = stage.message(worker);
    let Ok(ToWorker::RunQueryEx(run)) = ToWorker::decode(&data) else { panic!("a request") };
    let SignedPayment::Signed(payment) = run.signed_payment else { panic!("signed") };
    let payment = cocoon_contract::payment::SignedPayment::from_boc(payment.0).unwrap();
    let kind = cocoon_contract::payment::PaymentKind::WorkerPayout;
    payment.verify(kind, &payment.target(), identity().public_key()).unwrap()
}

/// A second handshake of an account used to take over the commit that its first connection still
/// waits for; the next request, which waits for no disk, then carried a payment too early.
#[test]
fn a_handshake_signs_nothing_before_the_confirmation_is_on_disk() {
    let mut stage = Stage::new();
    let worker = stage.worker(30, 4, 4);
    let conn = stage.client(20, 4);
    stage.send(conn, &request(1));
    let id = stage.run_query(worker);
    stage.serve(worker, id, 44);
    stage.all(worker);
    stage.flushes = false;
    stage.wait(30_000);
    stage.flush();
    let committed = stage.books().worker(account(30)).unwrap().counters().committed();
    assert_eq!(committed, Tokens(44), "booked, and not on disk");
    let second = stage.open(Side::Workers, None);
    stage.ask(second, &worker_hello(&owner_text(30), 4));
    stage.send(conn, &request(2));
    assert_eq!(handed_tokens(&mut stage, worker), Tokens(0));
    stage.flush();
    stage.all(worker);
    stage.send(conn, &request(3));
    assert_eq!(handed_tokens(&mut stage, worker), Tokens(44));
}

fn real() -> Stage {
    let charge_min = Nanoton(80);
    let settings =
        Settings { chain: ChainMode::Real, charge_min, payout_min: Nanoton(40), ..settings() };
    let mut stage = Stage::with(settings);
    confirm(&mut stage);
    use sha2::Digest as _;
    let fact = ChainFact::ClientSeen {
        client: account(20),
        status: cocoon_ledger::ClientStatus::Normal,
        balance: Nanoton(1_000_000_000),
        stake: Nanoton(1_000_000_000),
        charged: Tokens(0),
        secret_hash: sha2::Sha256::digest(b"").into(),
    };
    stage.proxy.chain(fact, stage.now, &mut stage.out);
    stage.perform();
    stage
}

/// The chain shows the commit that was ordered last.
fn confirm(stage: &mut Stage) {
    let Some(ChainOrder::SaveState { seqno, session }) = stage.orders.pop() else {
        panic!("no commit was ordered")
    };
    stage.proxy.chain(ChainFact::CommitSeen { seqno, session }, stage.now, &mut stage.out);
    stage.proxy.chain(ChainFact::CommitSeen { seqno, session }, stage.now, &mut stage.out);
    stage.perform();
}

#[test]
fn a_commit_is_ordered_when_durable_and_charges_and_payouts_follow_it() {
    let mut stage = real();
    let worker = stage.worker(30, 4, 4);
    let conn = stage.client(20, 4);
    stage.send(conn, &request(1));
    let id = stage.run_query(worker);
    stage.serve(worker, id, 44);
    stage.wait(30_000);
    confirm(&mut stage);
    let [
        ChainOrder::Charge { client, tokens: charged, .. },
        ChainOrder::Payout { worker: paid, tokens, .. },
    ] = &stage.orders[..]
    else {
        panic!("{:?}", stage.orders)
    };
    assert_eq!((*client, *charged), (account(20), Tokens(44)));
    assert_eq!((*paid, *tokens), (account(30), Tokens(44)));
    // One at a time, and not again for the same tokens.
    stage.orders.clear();
    let done = ChainFact::ClientOrderDone { client: account(20) };
    stage.proxy.chain(done, stage.now, &mut stage.out);
    stage.perform();
    assert_eq!(stage.orders, []);
}

#[test]
fn a_closing_client_gets_its_money_back_when_all_is_committed() {
    let mut stage = real();
    let fact = ChainFact::ClientSeen {
        client: account(20),
        status: cocoon_ledger::ClientStatus::Closing,
        balance: Nanoton(1_000),
        stake: Nanoton(1_000),
        charged: Tokens(0),
        secret_hash: [0; 32],
    };
    stage.proxy.chain(fact, stage.now, &mut stage.out);
    stage.perform();
    assert!(matches!(&stage.orders[..], [ChainOrder::GrantRefund { tokens: Tokens(0), .. }]));
}

#[test]
fn a_commit_nobody_here_wrote_stops_the_proxy() {
    let mut stage = real();
    let conn = stage.client(20, 4);
    let fact = ChainFact::CommitSeen { seqno: 9, session: [1; 32] };
    stage.proxy.chain(fact, stage.now, &mut stage.out);
    stage.perform();
    assert_eq!(stage.got(conn), Some(Got::Closed("proxy has stopped".into())));
    assert!(stage.proxy.status(stage.now).stopped.is_some_and(|why| why.contains("same key")));
    let conn = stage.open(Side::Clients, None);
    assert_eq!(stage.got(conn), Some(Got::Closed("proxy has stopped".into())));
}

#[test]
fn a_commit_of_an_earlier_crashed_session_is_accepted() {
    let mut stage = Stage::with(Settings { chain: ChainMode::Real, ..settings() });
    let Some(ChainOrder::SaveState { seqno, session }) = stage.orders.pop() else {
        panic!("commit")
    };
    let mut again =
        Stage::replay(Settings { chain: ChainMode::Real, ..settings() }, stage.journal.clone());
    again.proxy.chain(ChainFact::CommitSeen { seqno, session }, again.now, &mut again.out);
    again.perform();
    assert_eq!(again.proxy.status(again.now).stopped, None);
}

#[test]
fn charges_are_booked_without_a_chain_so_that_a_client_goes_on() {
    let mut stage = Stage::with(Settings { charge_min: Nanoton(80), ..settings() });
    let worker = stage.worker(30, 4, 4);
    let conn = stage.client(20, 4);
    let before = stage.books().available(account(20));
    stage.send(conn, &request(1));
    let id = stage.run_query(worker);
    stage.serve(worker, id, 44);
    assert_eq!(stage.books().available(account(20)), Tokens(before.0 - 44));
    stage.wait(30_000);
    assert_eq!(stage.books().available(account(20)), before);
    let seen = stage.journal.iter().filter(|r| matches!(r, Record::ClientSeen { charged: 44, .. }));
    assert_eq!(seen.count(), 1);
}

#[test]
fn new_parameters_drop_everybody_and_open_new_books() {
    let mut stage = Stage::new();
    let worker = stage.worker(30, 4, 4);
    let conn = stage.client(20, 4);
    stage.send(conn, &request(1));
    let id = stage.run_query(worker);
    stage.serve(worker, id, 44);
    stage.all(conn);
    stage.send(conn, &request(2));
    let root = Arc::new(pseudo_root(2, 4).root_state().unwrap());
    stage.proxy.root_changed(root, stage.now, &mut stage.out).unwrap();
    stage.perform();
    assert!(stage.all(conn).iter().any(|got| matches!(got, Got::Closed(_))));
    assert!(stage.all(worker).iter().any(|got| matches!(got, Got::Closed(_))));
    let Some(ChainOrder::WindDown { epoch: 1, clients, workers, .. }) = stage.orders.pop() else {
        panic!("the old instance is handed over")
    };
    assert_eq!(clients, [(account(20), Tokens(44))]);
    assert_eq!(workers, [(account(30), Tokens(44))]);
    assert_eq!(stage.books().epoch(), Some(2));
    let worker = stage.worker(30, 4, 4);
    let hello = crate::stage::owner_text(21);
    let conn = stage.open(Side::Clients, None);
    let hello = client::ConnectToProxy {
        min_config_version: 4,
        ..crate::stage::client_hello(&hello, 4, tl::Extensions::NONE)
    };
    stage.ask(conn, &hello);
    stage.answer(conn);
    stage.ask(conn, &client::AuthorizeWithProxyLong {});
    stage.answer(conn);
    stage.send(conn, &request(3));
    stage.run_query(worker);
}

#[test]
fn a_new_list_takes_workers_out_of_the_pool_and_leaves_them_connected() {
    let mut stage = Stage::new();
    let worker = stage.worker(30, 4, 4);
    let root = Arc::new(pseudo_root(1, 4).root_state().unwrap());
    stage.proxy.root_changed(root, stage.now, &mut stage.out).unwrap();
    stage.perform();
    assert_eq!(stage.got(worker), None, "unchecked lists matter to nobody");
    assert!(stage.proxy.status(stage.now).worker_connections[0].enabled);
}

#[test]
fn books_older_than_the_chain_promise_nothing_more() {
    let mut stage = real();
    let conn = stage.client(20, 4);
    stage.worker(30, 4, 4);
    let fact = ChainFact::ClientSeen {
        client: account(20),
        status: cocoon_ledger::ClientStatus::Normal,
        balance: Nanoton(1_000_000_000),
        stake: Nanoton(1_000_000_000),
        charged: Tokens(44),
        secret_hash: [0; 32],
    };
    stage.proxy.chain(fact, stage.now, &mut stage.out);
    stage.perform();
    stage.send(conn, &request(1));
    let data = stage.message(conn);
    let error: client::QueryAnswerErrorEx<'_> = tl::decode(&data).unwrap();
    assert_eq!(error.error_code, 651);
    assert!(error.error.to_string().contains("older than"), "{}", error.error);
}

#[test]
fn a_small_stake_is_charged_before_it_is_used_up() {
    // Without a chain the stake is 1 TON, as much as a charge is worth at least.
    let mut stage = Stage::new();
    let worker = stage.worker(30, 4, 4);
    let conn = stage.client(20, 4);
    for number in 0..30 {
        let big = client::RunQueryEx {
            max_tokens: 10_000_000,
            max_coefficient: 2_000,
            ..request(number)
        };
        stage.send(conn, &big);
        let id = stage.run_query(worker);
        stage.send(worker, &head(id));
        let mut end = last(id, 0);
        if let Some(info) = &mut end.final_info {
            info.tokens_used.prompt_tokens_used = 19_000_000;
            info.tokens_used.total_tokens_used = 19_000_000;
        }
        stage.send(worker, &end);
        stage.all(conn);
        stage.all(worker);
        stage.wait(1_000);
    }
    assert!(stage.books().totals().spent > 500_000_000, "more than the stake buys at once");
}

#[test]
fn accounts_are_bounded() {
    let mut stage = Stage::with(Settings { accounts_max: 2, ..settings() });
    stage.client(20, 4);
    stage.client(21, 4);
    let conn = stage.open(Side::Clients, None);
    let owner = crate::stage::owner_text(22);
    stage.ask(conn, &crate::stage::client_hello(&owner, 4, tl::Extensions::NONE));
    assert!(matches!(stage.got(conn), Some(Got::Failed(_, 651, _))));
    stage.client(20, 4);
}

#[test]
fn who_asks_for_money_without_end_while_the_disk_stands_still_is_refused_and_served_later() {
    let mut stage = Stage::new();
    let worker = stage.worker(30, 4, 4);
    let half = stage.open(Side::Workers, None);
    let owner = owner_text(31);
    stage.ask(half, &worker_hello(&owner, 4));
    stage.answer(half);
    let client = stage.client(20, 4);
    stage.flushes = false;
    stage.send(client, &request(1));
    let id = stage.run_query(worker);
    stage.serve(worker, id, 5);
    let (held, heard) = (stage.held(), stage.all(client).len());
    assert_eq!(heard, 2, "head and part");
    for _ in 0..100_000 {
        stage.ask(client, &client::UpdatePaymentStatus {});
        stage.ask(worker, &worker::UpdatePaymentStatus {});
        stage.ask(half, &worker::CompareBalanceWithProxy::default());
        for conn in [client, worker, half] {
            for got in stage.all(conn) {
                assert!(matches!(got, Got::Failed(_, 651, _)), "{got:?}");
            }
        }
    }
    assert!(stage.held() <= held + 3 * 8, "{} are held", stage.held());
    stage.flush();
    for conn in [client, worker, half] {
        let answers = stage.all(conn).into_iter().filter(|got| matches!(got, Got::Answer(..)));
        assert_eq!(answers.count(), 8);
    }
    // A disk that works again answers as often as somebody asks.
    for _ in 0..20 {
        stage.ask(client, &client::UpdatePaymentStatus {});
        stage.answer(client);
    }
}
