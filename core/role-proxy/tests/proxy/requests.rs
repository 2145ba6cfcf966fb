//! The life of a request: forwarding in every dialect, deaths, time, cancellation, the line.

use cocoon_role_proxy::{Command, ConnId, Settings};
use cocoon_units::RequestId;
use cocoon_wire::cocoon::{CANCEL_QUERY, CancelQuery, LEAVING, Leaving};
use cocoon_wire::tl::{self, Blob, Extensions, Text};
use cocoon_wire::{client, http, proxy, worker};

use crate::stage::{
    Got, Stage, account, failed, head, last, part, request, response, settings, used,
};

fn part_of(data: &[u8]) -> client::QueryAnswerPartEx<'_> {
    tl::decode(data).unwrap()
}

fn error_of(stage: &mut Stage, conn: ConnId) -> (i32, String) {
    let data = stage.message(conn);
    let error: client::QueryAnswerErrorEx<'_> = tl::decode(&data).unwrap();
    (error.error_code, error.error.to_string())
}

#[test]
fn a_streamed_answer_passes_with_ids_headers_times_and_payments() {
    let mut stage = Stage::new();
    let worker = stage.worker(30, 4, 4);
    let conn = stage.client(20, 4);
    stage.send(conn, &request(1));
    let data = stage.message(worker);
    let run: proxy::RunQueryEx<'_> = tl::decode(&data).unwrap();
    assert_eq!((run.query.0, run.coefficient, run.timeout), (&b"query bytes"[..], 1_000, 108.3));
    assert_eq!(run.enable_debug, Some(false));
    assert!(run.private_key.is_some_and(|key| key.expose() == &[0; 32]));
    assert!(matches!(run.signed_payment, proxy::SignedPayment::Signed(_)));
    let id = run.request_id;
    assert_ne!(id, RequestId([1; 32]));
    stage.wait(2);
    stage.serve(worker, id, 44);

    let data = stage.message(conn);
    let answer: client::QueryAnswerEx<'_> = tl::decode(&data).unwrap();
    assert_eq!(answer.request_id, RequestId([1; 32]));
    let http: http::Response<'_> = tl::decode(answer.answer.0).unwrap();
    let headers: Vec<(String, &[u8])> =
        http.headers.iter().map(|h| (h.name.to_string(), h.value.0)).collect();
    assert_eq!(
        headers,
        [
            ("server".to_owned(), &b"mock"[..]),
            ("X-Cocoon-Proxy-Start".to_owned(), &b"1700000000.000000"[..]),
            ("X-Cocoon-Proxy-End".to_owned(), &b"1700000000.002000"[..]),
        ]
    );
    let data = stage.message(conn);
    assert_eq!((part_of(&data).answer.0, part_of(&data).final_info), (&b"hello"[..], None));
    let data = stage.message(conn);
    let info = part_of(&data).final_info.unwrap();
    assert_eq!(info.tokens_used, used(44));
    let times = info.times.unwrap();
    assert_eq!((times.worker_start, times.worker_end), (1.5, 2.5));
    assert_eq!((times.proxy_start, times.proxy_end), (1_700_000_000.0, 1_700_000_000.002));
    assert_eq!(info.debug, None);
    let data = stage.message(conn);
    let paid: proxy::ClientRequestPayment<'_> = tl::decode(&data).unwrap();
    assert_eq!(paid.request_id, RequestId([1; 32]));
    assert_eq!((paid.db_tokens, paid.max_tokens, paid.request_tokens), (44, 44, 44));
    let data = stage.message(worker);
    let paid: proxy::WorkerRequestPayment<'_> = tl::decode(&data).unwrap();
    assert_eq!((paid.request_id, paid.max_tokens, paid.request_tokens), (id, 44, 44));
    assert!(paid.request_client_owner.to_string().starts_with("UQ"));
}

#[test]
fn every_pair_of_dialects_works() {
    for (client_version, worker_version) in (0..=4).flat_map(|c| (0..=4).map(move |w| (c, w))) {
        let mut stage = Stage::new();
        let worker = stage.worker(30, worker_version, 4);
        let conn = stage.client(20, client_version);
        stage.send(conn, &request(1));
        let data = stage.message(worker);
        let id = match proxy::ToWorker::decode(&data).unwrap() {
            proxy::ToWorker::RunQuery(run) if worker_version == 0 => run.request_id,
            proxy::ToWorker::RunQueryEx(run) if worker_version > 0 => {
                // Bit 1 below version 3 is dropped by the reference without a word.
                assert_eq!(run.private_key.is_some(), worker_version >= 3);
                run.request_id
            }
            other => panic!("version {worker_version} got {other:?}"),
        };
        if worker_version == 0 {
            let answer = tl::encode(&response());
            let answer = Blob(&answer);
            let request_tokens = used(0);
            stage.send(
                worker,
                &proxy::QueryAnswer {
                    answer,
                    is_completed: false,
                    request_id: id,
                    tokens_used: request_tokens,
                },
            );
            stage.send(
                worker,
                &proxy::QueryAnswerPart {
                    answer: Blob(b"x"),
                    is_completed: true,
                    request_id: id,
                    tokens_used: used(44),
                },
            );
        } else {
            stage.send(worker, &head(id));
            stage.send(worker, &last(id, 44));
        }
        let first = stage.message(conn);
        let second = stage.message(conn);
        if client_version == 0 {
            let answer: client::QueryAnswer<'_> = tl::decode(&first).unwrap();
            assert!(!answer.is_completed);
            let end: client::QueryAnswerPart<'_> = tl::decode(&second).unwrap();
            assert!(end.is_completed);
            assert_eq!(end.request_tokens_used, used(44));
        } else {
            let _: client::QueryAnswerEx<'_> = tl::decode(&first).unwrap();
            let info = part_of(&second).final_info.unwrap();
            assert_eq!(info.tokens_used, used(44));
            assert_eq!(info.times.is_some(), client_version >= 2);
        }
    }
}

#[test]
fn debug_texts_of_worker_and_proxy_come_when_wanted() {
    let mut stage = Stage::new();
    let worker = stage.worker(30, 4, 4);
    let conn = stage.client(20, 4);
    stage.send(conn, &client::RunQueryEx { enable_debug: Some(true), ..request(1) });
    let id = stage.run_query(worker);
    stage.send(worker, &head(id));
    let mut end = last(id, 1);
    if let Some(info) = &mut end.final_info {
        info.worker_debug = Some(Text::from("{\"type\":\"worker_stats\"}"));
    }
    stage.send(worker, &end);
    stage.message(conn);
    let data = stage.message(conn);
    let debug = part_of(&data).final_info.unwrap().debug.unwrap();
    assert_eq!(debug.worker.to_string(), "{\"type\":\"worker_stats\"}");
    let stats: serde_json::Value = serde_json::from_str(&debug.proxy.to_string()).unwrap();
    assert_eq!(stats["type"], "proxy_stats");
    assert!(stats["answer_receive_end_at"].is_f64());
}

#[test]
fn errors_of_workers_pass_and_cost_nothing() {
    for begun in [false, true] {
        let mut stage = Stage::new();
        let worker = stage.worker(30, 4, 4);
        let conn = stage.client(20, 4);
        stage.send(conn, &request(1));
        let id = stage.run_query(worker);
        if begun {
            stage.send(worker, &head(id));
            stage.message(conn);
        }
        stage.send(worker, &failed(id, 621, "worker: invalid http request: no"));
        assert_eq!(error_of(&mut stage, conn), (621, "worker: invalid http request: no".into()));
        let data = stage.message(conn);
        let paid: proxy::ClientRequestPayment<'_> = tl::decode(&data).unwrap();
        assert_eq!((paid.request_tokens, paid.max_tokens), (0, 0));
        assert!(stage.proxy.is_idle());
    }
}

#[test]
fn answers_out_of_order_or_from_strangers_or_unreadable_are_handled() {
    let mut stage = Stage::new();
    let worker = stage.worker(30, 4, 8);
    let stranger = stage.worker_with(31, 4, 8, 9_000, Extensions::NONE);
    let conn = stage.client(20, 4);
    stage.send(conn, &request(1));
    let id = stage.run_query(worker);
    stage.send(stranger, &head(id));
    assert_eq!(stage.got(conn), None, "another worker cannot answer");
    stage.send(worker, &part(id, b"early"));
    assert_eq!(error_of(&mut stage, conn), (621, "out of order answer parts".into()));

    stage.all(conn);
    stage.all(worker);
    stage.send(conn, &request(2));
    let id = stage.run_query(worker);
    stage.send(worker, &head(id));
    stage.message(conn);
    stage.send(worker, &head(id));
    assert_eq!(error_of(&mut stage, conn), (621, "out of order answer parts".into()));

    stage.all(conn);
    stage.all(worker);
    stage.send(conn, &request(3));
    let id = stage.run_query(worker);
    stage.send(worker, &proxy::QueryAnswerEx { answer: Blob(b"junk"), ..head(id) });
    let (code, text) = error_of(&mut stage, conn);
    assert_eq!(code, 0);
    assert!(text.starts_with("proxy: worker sent no http response"), "{text}");
    stage.send_raw(worker, vec![1, 2].into());
    assert!(stage.all(worker).iter().any(|got| matches!(got, Got::Closed(_))));
}

#[test]
fn a_worker_that_dies_before_its_first_byte_is_replaced_unnoticed() {
    let mut stage = Stage::new();
    let first = stage.worker(30, 4, 4);
    let conn = stage.client(20, 4);
    stage.send(conn, &request(1));
    stage.run_query(first);
    let second = stage.worker(31, 2, 4);
    stage.wait(1_000);
    stage.close(first);
    let data = stage.message(second);
    let run: proxy::RunQueryEx<'_> = tl::decode(&data).unwrap();
    assert_eq!(run.query.0, b"query bytes");
    assert!((run.timeout - 0.95 * 113.0).abs() < 1e-9, "only what is left of the time");
    let id = run.request_id;
    assert_eq!(stage.got(conn), None, "the client noticed nothing");
    stage.serve(second, id, 44);
    assert_eq!(stage.all(conn).len(), 4);
    assert!(stage.books().worker(account(30)).is_none(), "it earned nothing");
    assert_eq!(stage.books().worker(account(31)).unwrap().counters().max().0, 44);
}

#[test]
fn a_worker_that_is_full_after_all_hands_its_request_to_another() {
    let mut stage = Stage::new();
    let first = stage.worker(30, 4, 4);
    let conn = stage.client(20, 4);
    stage.send(conn, &request(1));
    let id = stage.run_query(first);
    let second = stage.worker(31, 4, 4);
    stage.send(first, &failed(id, 602, "too many active queries"));
    let id = stage.run_query(second);
    assert_eq!(stage.got(conn), None, "the client noticed nothing");
    stage.serve(second, id, 44);
    assert_eq!(stage.all(conn).len(), 4);
    assert_eq!(stage.books().worker(account(31)).unwrap().counters().max().0, 44);
}

#[test]
fn a_request_waits_for_a_worker_that_is_full_and_alone() {
    let mut stage = Stage::new();
    let worker = stage.worker(30, 4, 4);
    let conn = stage.client(20, 4);
    stage.send(conn, &request(1));
    // More often than a request may lose its worker by death.
    for _ in 0..10 {
        let id = stage.run_query(worker);
        stage.send(worker, &failed(id, 602, "too many active queries"));
        assert_eq!(stage.got(worker), None, "it is left alone for a moment");
        stage.wait(101);
    }
    let id = stage.run_query(worker);
    assert_eq!(stage.got(conn), None, "the client noticed nothing");
    stage.serve(worker, id, 44);
    assert_eq!(stage.all(conn).len(), 4);
}

#[test]
fn a_worker_that_dies_in_mid_answer_is_told_at_once() {
    let mut stage = Stage::new();
    let worker = stage.worker(30, 4, 4);
    stage.worker(31, 4, 4);
    let conn = stage.client(20, 4);
    stage.send(conn, &request(1));
    let id = stage.run_query(worker);
    stage.send(worker, &head(id));
    stage.message(conn);
    stage.close(worker);
    let text = "connection to the worker was lost in the middle of the answer";
    assert_eq!(error_of(&mut stage, conn), (601, text.into()));
    assert!(stage.proxy.is_idle());
}

#[test]
fn without_another_worker_the_loss_is_told_at_once_too() {
    let mut stage = Stage::new();
    let worker = stage.worker(30, 4, 4);
    let conn = stage.client(20, 4);
    stage.send(conn, &request(1));
    stage.run_query(worker);
    stage.close(worker);
    assert_eq!(error_of(&mut stage, conn), (651, "no workers for model qwen".into()));
}

#[test]
fn time_runs_out() {
    let mut stage = Stage::new();
    let worker = stage.worker(30, 4, 4);
    let conn = stage.client(20, 4);
    stage.send(conn, &client::RunQueryEx { timeout: 19.0, ..request(1) });
    let id = stage.run_query(worker);
    stage.send(worker, &head(id));
    stage.message(conn);
    stage.wait(18_999);
    assert_eq!(stage.got(conn), None);
    stage.wait(1);
    let data = stage.message(conn);
    let error: client::QueryAnswerErrorEx<'_> = tl::decode(&data).unwrap();
    assert_eq!((error.error_code, error.error.to_string()), (652, "timeout in proxy".to_owned()));
    let times = error.final_info.unwrap().times.unwrap();
    assert_eq!((times.worker_start, times.worker_end), (0.0, 0.0), "10.2 no. 5");
    stage.send(worker, &last(id, 44));
    assert_eq!(stage.books().totals().spent, 0, "late answers are ignored");
}

#[test]
fn a_burst_waits_in_line_and_the_line_ends() {
    let mut settings = Settings { queue_wait_max_ms: 5_000, ..settings() };
    settings.pool.waiting_per_slot_milli = 2_000;
    let mut stage = Stage::with(settings);
    let worker = stage.worker(30, 4, 1);
    let conn = stage.client(20, 4);
    for id in 1..=9 {
        stage.send(conn, &request(id));
    }
    assert_eq!(stage.got(conn), None, "a handful may wait, however few the slots");
    stage.send(conn, &request(10));
    let text = "all workers for model qwen are busy, try again later";
    assert_eq!(error_of(&mut stage, conn), (651, text.into()), "one more may not");
    let first = stage.run_query(worker);
    assert_eq!(stage.got(worker), None, "one at a time");
    stage.serve(worker, first, 10);
    let second = stage.run_query(worker);
    stage.all(conn);
    stage.wait(5_000);
    for _ in 0..7 {
        assert_eq!(error_of(&mut stage, conn), (651, text.into()));
    }
    assert_eq!(stage.got(conn), None, "the running one goes on");
    stage.serve(worker, second, 10);
    assert_eq!(stage.books().totals().spent, 20);
    assert!(stage.proxy.is_idle());
}

#[test]
fn a_client_that_leaves_stops_what_can_be_stopped_and_pays_for_what_was_made() {
    let mut stage = Stage::new();
    let worker = stage.worker_with(30, 4, 1, 1_000, CANCEL_QUERY);
    let conn = stage.client(20, 4);
    stage.send(conn, &request(1));
    stage.send(conn, &request(2));
    let id = stage.run_query(worker);
    stage.send(worker, &head(id));
    stage.close(conn);
    let data = stage.message(worker);
    assert_eq!(tl::decode::<CancelQuery>(&data).unwrap().request_id, id);
    stage.send(worker, &last(id, 17));
    assert_eq!(stage.books().client(account(20)).unwrap().counters().max().0, 17);
    assert!(stage.proxy.is_idle(), "the one in line is forgotten");
    let data = stage.message(worker);
    let paid: proxy::WorkerRequestPayment<'_> = tl::decode(&data).unwrap();
    assert_eq!(paid.request_tokens, 17);
}

#[test]
fn cancellation_is_passed_on_only_between_those_who_announced_it() {
    for (client_knows, worker_knows) in [(true, true), (true, false), (false, true)] {
        let bits = |knows: bool| if knows { CANCEL_QUERY } else { Extensions::NONE };
        let mut stage = Stage::new();
        let worker = stage.worker_with(30, 4, 1, 1_000, bits(worker_knows));
        let conn = stage.client_with(20, 4, bits(client_knows));
        stage.send(conn, &request(1));
        stage.send(conn, &request(2));
        let id = stage.run_query(worker);
        stage.send(conn, &CancelQuery { request_id: RequestId([1; 32]) });
        stage.send(conn, &CancelQuery { request_id: RequestId([1; 32]) });
        let passed = stage.all(worker);
        assert_eq!(passed.len(), usize::from(client_knows && worker_knows));
        stage.send(conn, &CancelQuery { request_id: RequestId([2; 32]) });
        if client_knows {
            assert_eq!(error_of(&mut stage, conn), (653, "cancelled".into()));
        }
        stage.send(worker, &head(id));
        stage.send(worker, &last(id, 3));
        let data = stage.message(conn);
        let _: client::QueryAnswerEx<'_> = tl::decode(&data).unwrap();
        assert!(part_of(&stage.message(conn)).final_info.is_some());
    }
}

#[test]
fn a_claim_above_the_reservation_is_cut_and_an_impossible_one_is_a_lie() {
    let mut stage = Stage::new();
    let worker = stage.worker(30, 4, 4);
    let conn = stage.client(20, 4);
    stage.send(conn, &request(1));
    let reserved = stage.books().totals().reserved;
    let id = stage.run_query(worker);
    stage.serve(worker, id, i64::try_from(reserved).unwrap() + 5);
    assert_eq!(stage.books().totals().spent, reserved);
    assert_eq!(stage.proxy.counts().claims_capped, 1);
    let line = &stage.proxy.status(stage.now).worker_connections[0];
    assert!(!line.cooling, "a small slip is no lie");

    stage.send(conn, &request(2));
    stage.all(worker);
    let mut end = last(id, 0);
    stage.send(conn, &request(3));
    let id = stage.run_query(worker);
    end.request_id = id;
    if let Some(info) = &mut end.final_info {
        info.tokens_used.total_tokens_used = -5;
    }
    stage.send(worker, &head(id));
    stage.send(worker, &end);
    assert!(stage.proxy.status(stage.now).worker_connections[0].cooling);
    assert_eq!(stage.books().totals().spent, reserved);
}

#[test]
fn old_run_query_is_served_on_a_new_connection() {
    let mut stage = Stage::new();
    let worker = stage.worker(30, 4, 4);
    let conn = stage.client(20, 4);
    let wanted = request(1);
    stage.send(
        conn,
        &client::RunQuery {
            model_name: wanted.model_name,
            query: wanted.query,
            max_coefficient: 4_000,
            max_tokens: 10,
            timeout: 5.0,
            request_id: wanted.request_id,
            min_config_version: 3,
        },
    );
    let id = stage.run_query(worker);
    stage.serve(worker, id, 1);
    let data = stage.message(conn);
    let _: client::QueryAnswerEx<'_> = tl::decode(&data).unwrap();
}

#[test]
fn an_operator_changes_a_workers_model() {
    let mut stage = Stage::new();
    let old = stage.worker(30, 3, 4);
    let new = stage.worker(31, 4, 4);
    let change = |conn| Command::ChangeModel { conn, model: "qwen@def:11".into() };
    stage.proxy.command(1, change(old), stage.now, &mut stage.out);
    stage.proxy.command(2, change(new), stage.now, &mut stage.out);
    stage.perform();
    assert!(stage.admin[0].1.is_err());
    let Some(Got::Asked(query, data)) = stage.got(new) else { panic!("asked") };
    let asked: worker::ChangeModel<'_> = tl::decode(&data).unwrap();
    assert_eq!(asked.new_model, Text::from("qwen@def:11"));
    let done = tl::encode(&worker::ChangedModel {});
    stage.proxy.answered(new, query, &done, stage.now, &mut stage.out);
    stage.perform();
    assert_eq!(stage.admin[1], (2, Ok("model change started".into())));
}

#[test]
fn draining_ends_what_runs_and_begins_nothing() {
    let mut stage = Stage::new();
    let worker = stage.worker(30, 4, 4);
    let conn = stage.client(20, 4);
    let polite = stage.client_with(21, 4, LEAVING);
    stage.send(conn, &request(1));
    let id = stage.run_query(worker);
    stage.proxy.drain(&mut stage.out);
    stage.perform();
    tl::decode::<Leaving>(&stage.message(polite)).unwrap();
    stage.send(conn, &request(2));
    assert_eq!(error_of(&mut stage, conn), (651, "proxy is shutting down".into()));
    assert!(!stage.proxy.is_idle());
    stage.serve(worker, id, 5);
    assert!(stage.proxy.is_idle());
    assert!(stage.proxy.awaits_goodbye(), "a request of that client may be on its way");
    stage.close(polite);
    assert!(!stage.proxy.awaits_goodbye(), "who does not know the message is not waited for");
}

#[test]
fn a_full_disk_admits_nothing_new() {
    let mut stage = Stage::new();
    let worker = stage.worker(30, 4, 4);
    let conn = stage.client(20, 4);
    stage.proxy.set_stalled(true);
    stage.send(conn, &request(1));
    assert_eq!(error_of(&mut stage, conn).0, 651);
    stage.proxy.set_stalled(false);
    stage.send(conn, &request(2));
    stage.run_query(worker);
}

#[test]
fn a_request_cancelled_before_its_head_is_charged_for_what_was_made() {
    let mut stage = Stage::new();
    let worker = stage.worker_with(30, 4, 1, 1_000, CANCEL_QUERY);
    let conn = stage.client_with(20, 4, CANCEL_QUERY);
    stage.send(conn, &request(1));
    let id = stage.run_query(worker);
    stage.send(conn, &CancelQuery { request_id: RequestId([1; 32]) });
    stage.message(worker);
    let end = last(id, 9).final_info;
    stage.send(
        worker,
        &proxy::QueryAnswerErrorEx { final_info: end, ..failed(id, 653, "cancelled") },
    );
    let data = stage.message(conn);
    let error: client::QueryAnswerErrorEx<'_> = tl::decode(&data).unwrap();
    assert_eq!((error.error_code, error.final_info.unwrap().tokens_used), (653, used(9)));
    assert_eq!(stage.books().totals().spent, 9);
}

#[test]
fn a_broken_model_server_is_not_a_quick_worker() {
    let mut stage = Stage::new();
    let broken = stage.worker(30, 4, 8);
    let conn = stage.client(20, 4);
    for number in 1..=3 {
        stage.send(conn, &request(number));
        let id = stage.run_query(broken);
        let mut answer = response();
        answer.status_code = 502;
        let answer = tl::encode(&answer);
        stage.send(broken, &proxy::QueryAnswerEx { answer: Blob(&answer), ..head(id) });
        stage.send(broken, &last(id, 0));
        stage.all(broken);
    }
    assert!(stage.proxy.status(stage.now).worker_connections[0].cooling);
    let good = stage.worker(31, 4, 8);
    stage.send(conn, &request(4));
    stage.run_query(good);
}

#[test]
fn more_tokens_than_bytes_shown_is_a_lie_though_it_was_reserved() {
    let mut stage = Stage::new();
    let worker = stage.worker(30, 4, 8);
    let conn = stage.client(20, 4);
    stage.send(conn, &client::RunQueryEx { max_tokens: 100_000, ..request(1) });
    let id = stage.run_query(worker);
    stage.serve(worker, id, 4_000);
    assert!(!stage.proxy.status(stage.now).worker_connections[0].cooling);
    stage.all(worker);
    stage.send(conn, &client::RunQueryEx { max_tokens: 100_000, ..request(2) });
    let id = stage.run_query(worker);
    stage.serve(worker, id, 5_000);
    assert!(stage.proxy.status(stage.now).worker_connections[0].cooling);
}
