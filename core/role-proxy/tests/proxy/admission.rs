//! The admission table, row by row (protocol notes 3.6), and the listing of workers (3.4).

use cocoon_ledger::ClientStatus;
use cocoon_role_proxy::{ChainFact, ChainMode, ChainOrder, ConnId, Settings};
use cocoon_units::{Nanoton, PublicKey, Tokens, reserve_tokens_worst_case};
use cocoon_wire::tl::{self, Extensions, SecretKey, Text};
use cocoon_wire::{client, proxy, worker};

use crate::stage::{Got, Stage, account, request, root, settings};

/// The error a request got: code, text, and what the final information says.
fn error(stage: &mut Stage, conn: ConnId) -> (i32, String) {
    let data = stage.message(conn);
    let error: client::QueryAnswerErrorEx<'_> = tl::decode(&data).unwrap();
    let info = error.final_info.expect("final information");
    assert_eq!(info.tokens_used, client::TokensUsed::default());
    let times = info.times.expect("times from version 2 on");
    assert!(times.worker_start > 1.0 && times.proxy_end > 1.0, "the present, 10.2 no. 5");
    (error.error_code, error.error.to_string())
}

fn refused(stage: &mut Stage, change: impl FnOnce(&mut client::RunQueryEx<'_>)) -> (i32, String) {
    let conn = stage.client(20, 4);
    let mut wanted = request(1);
    change(&mut wanted);
    stage.send(conn, &wanted);
    let found = error(stage, conn);
    assert_eq!(stage.got(conn), None, "a refusal is one message");
    assert_eq!(stage.books().totals().reserved, 0, "nothing stays reserved");
    found
}

fn pair(code: i32, text: &str) -> (i32, String) {
    (code, text.to_owned())
}

#[test]
fn row_1_and_6_balance() {
    let mut stage = Stage::new();
    stage.worker(30, 4, 4);
    // Without a chain the stake is 1 TON: 500 million tokens at this price.
    let found = refused(&mut stage, |r| r.max_tokens = 500_000_001);
    let text = "client balance is too low: max_tokens=500000001 tokens_payed=500000000000000 \
                tokens_used=0 tokens_reserved=0 tokens_stake=500000000";
    assert_eq!(found, pair(602, text));
    let found = refused(&mut stage, |r| r.max_tokens = 400_000_000);
    assert_eq!(found, pair(651, "balance is too low"), "the cap of 4.0 does not fit");
}

#[test]
fn rows_2_4_7_8_9_10() {
    let mut stage = Stage::new();
    assert_eq!(refused(&mut stage, |_| {}), pair(621, "unknown model qwen"));
    let one = stage.worker(30, 4, 4);
    assert_eq!(
        refused(&mut stage, |r| r.min_config_version = 4),
        pair(602, "active config version is too low")
    );
    let key = PublicKey([0xab; 32]);
    let text = format!("unknown public key {}", "AB".repeat(32));
    assert_eq!(refused(&mut stage, |r| r.public_key = Some(key)), pair(602, &text));
    assert_eq!(
        refused(&mut stage, |r| r.max_coefficient = 999),
        pair(651, "can run this query with coefficient=1000")
    );
    stage.send(one, &worker::EnabledDisabled { disabled: 1 });
    assert_eq!(refused(&mut stage, |_| {}), pair(651, "no ready workers for modelqwen"));
    stage.close(one);
    assert_eq!(refused(&mut stage, |_| {}), pair(651, "no workers for model qwen"));
}

#[test]
fn an_encrypted_request_needs_a_worker_of_version_3() {
    let mut stage = Stage::new();
    let key = PublicKey([0xab; 32]);
    stage.proxy.set_keys([(key, SecretKey::new([0xcd; 32]))]);
    stage.worker(30, 2, 4);
    let found = refused(&mut stage, |r| r.public_key = Some(key));
    assert_eq!(found, pair(651, "no ready workers for modelqwen"));
    let new = stage.worker(31, 3, 4);
    let conn = stage.client(21, 4);
    stage.send(conn, &client::RunQueryEx { public_key: Some(key), ..request(2) });
    let data = stage.message(new);
    let run: proxy::RunQueryEx<'_> = tl::decode(&data).unwrap();
    assert_eq!(run.private_key.expect("bit 1").expose(), &[0xcd; 32]);
}

#[test]
fn row_3_the_contract_must_be_in_its_normal_state() {
    let mut stage = Stage::with(Settings { chain: ChainMode::Real, ..settings() });
    let ChainOrder::SaveState { seqno, session } = stage.orders[0] else { panic!("commit") };
    stage.proxy.chain(ChainFact::CommitSeen { seqno, session }, stage.now, &mut stage.out);
    stage.perform();
    let fact = |status, secret_hash| ChainFact::ClientSeen {
        client: account(20),
        status,
        balance: Nanoton(1_000_000_000),
        stake: Nanoton(1_000_000_000),
        charged: Tokens(0),
        secret_hash,
    };
    use sha2::Digest as _;
    let secret_hash = sha2::Sha256::digest(b"").into();
    stage.proxy.chain(fact(ClientStatus::Normal, secret_hash), stage.now, &mut stage.out);
    stage.perform();
    let conn = stage.client(20, 4);
    stage.proxy.chain(fact(ClientStatus::Closing, secret_hash), stage.now, &mut stage.out);
    stage.perform();
    stage.send(conn, &request(1));
    assert_eq!(error(&mut stage, conn), pair(651, "client is closing"));
}

#[test]
fn the_reservation_covers_the_worst_case_and_ends_with_the_request() {
    let mut stage = Stage::new();
    let worker = stage.worker(30, 4, 4);
    let conn = stage.client(20, 4);
    stage.send(conn, &request(1));
    let table = root().network.params.price_table();
    let cap = cocoon_units::Coefficient::clamped(4_000);
    let held = reserve_tokens_worst_case(100, 11, cap, &table);
    assert_eq!(stage.books().totals().reserved, u128::from(held.0));
    let id = stage.run_query(worker);
    stage.serve(worker, id, 44);
    assert_eq!(stage.books().totals().reserved, 0);
    assert_eq!(stage.books().client(account(20)).unwrap().counters().max(), Tokens(44));
}

#[test]
fn strange_numbers_in_a_request_do_no_harm() {
    for (max_tokens, timeout) in [(-1, 114.0), (i32::MIN, f64::NAN), (5, -3.0), (5, f64::INFINITY)]
    {
        let mut stage = Stage::new();
        stage.worker(30, 4, 4);
        let conn = stage.client(20, 4);
        stage.send(
            conn,
            &client::RunQueryEx { max_tokens, timeout, max_coefficient: i32::MAX, ..request(1) },
        );
        stage.wait(25 * 3_600_000);
        assert_eq!(stage.books().totals().reserved, 0);
        assert!(stage.proxy.is_idle());
    }
}

#[test]
fn errors_speak_the_clients_dialect() {
    for version in 0..=4 {
        let mut stage = Stage::new();
        let conn = stage.client(20, version);
        let wanted = request(1);
        if version == 0 {
            stage.send(
                conn,
                &client::RunQuery {
                    model_name: wanted.model_name,
                    query: wanted.query,
                    max_coefficient: wanted.max_coefficient,
                    max_tokens: wanted.max_tokens,
                    timeout: wanted.timeout,
                    request_id: wanted.request_id,
                    min_config_version: wanted.min_config_version,
                },
            );
            let data = stage.message(conn);
            let error: client::QueryAnswerError<'_> = tl::decode(&data).unwrap();
            assert_eq!(error.error, Text::from("unknown model qwen"));
        } else {
            stage.send(conn, &wanted);
            let data = stage.message(conn);
            let error: client::QueryAnswerErrorEx<'_> = tl::decode(&data).unwrap();
            assert_eq!(error.extensions, Extensions::NONE);
            assert_eq!(error.final_info.unwrap().times.is_some(), version >= 2);
        }
    }
}

#[test]
fn workers_are_listed_in_both_forms() {
    let mut stage = Stage::new();
    let cheap = stage.worker_with(30, 4, 3, 500, Extensions::NONE);
    stage.worker_with(31, 4, 5, 2_000, Extensions::NONE);
    let off = stage.worker_with(32, 4, 7, 900, Extensions::NONE);
    stage.send(off, &worker::EnabledDisabled { disabled: 1 });
    let conn = stage.client(20, 4);
    stage.send(conn, &request(1));
    stage.run_query(cheap);
    stage.ask(conn, &client::GetWorkerTypesV2 {});
    let data = stage.answer(conn);
    let types: client::WorkerTypesV2<'_> = tl::decode(&data).unwrap();
    let listed: Vec<_> = types.types[0]
        .workers
        .iter()
        .map(|w| (w.coefficient, w.active_requests, w.max_active_requests))
        .collect();
    assert_eq!(types.types[0].name, Text::from("qwen"));
    assert_eq!(listed, [(500, 1, 3), (2_000, 0, 5)]);
    stage.ask(conn, &client::GetWorkerTypes {});
    let data = stage.answer(conn);
    let types: client::WorkerTypes<'_> = tl::decode(&data).unwrap();
    let one = &types.types[0];
    assert_eq!(
        (one.active_workers, one.coefficient_min, one.coefficient_bucket50, one.coefficient_max),
        (3, 500, 2_000, i32::MAX)
    );
}

#[test]
fn a_worker_changes_price_and_a_bad_price_ends_it() {
    let mut stage = Stage::new();
    let worker = stage.worker(30, 4, 4);
    stage.send(worker, &worker::NewCoefficient { new_coefficient: 1_500 });
    let conn = stage.client(20, 4);
    stage.send(conn, &request(1));
    let data = stage.message(worker);
    let run: proxy::RunQueryEx<'_> = tl::decode(&data).unwrap();
    assert_eq!(run.coefficient, 1_500);
    stage.send(worker, &worker::NewCoefficient { new_coefficient: -1 });
    let closed =
        stage.all(worker).into_iter().any(|got| got == Got::Closed("bad coefficient value".into()));
    assert!(closed);
}

/// On a stack as small as the node's threads have.
#[test]
fn thousands_whose_wait_ends_at_once_are_told_without_end_of_the_stack() {
    let told = std::thread::Builder::new().stack_size(2 << 20).spawn(|| {
        let mut pool = settings().pool;
        pool.waiting_per_slot_milli = u32::MAX;
        let mut stage = Stage::with(Settings { pool, ..settings() });
        stage.worker(30, 4, 1);
        let conn = stage.client(20, 4);
        for number in 0..=4_000_u16 {
            let mut wanted = request(0);
            wanted.request_id.0[..2].copy_from_slice(&number.to_le_bytes());
            stage.send(conn, &wanted);
        }
        assert_eq!(stage.proxy.status(stage.now).pool.waiting, 4_000);
        stage.wait(31_000);
        assert_eq!(stage.proxy.status(stage.now).pool.waiting, 0);
        stage.all(conn).len()
    });
    assert_eq!(told.unwrap().join().unwrap(), 4_000);
}
