//! Receipts and reports: carried unread, only between those who announced them, to the one they
//! are for.

use cocoon_units::RequestId;
use cocoon_wire::client;
use cocoon_wire::cocoon::{
    self, GetEndorsedReport, GetFullReport, GetReport, ListWorkers, OnlyWorkers, Receipt, Report,
    Workers,
};
use cocoon_wire::tl::{self, Blob, Extensions};

use crate::stage::{Got, Stage, head, last, request};

const ALL: Extensions = Extensions(cocoon::RECEIPTS.0 | cocoon::REPORTS.0);

fn receipt(id: RequestId, bytes: &[u8]) -> Receipt<'_> {
    Receipt { request_id: id, worker: 0, receipt: Blob(bytes) }
}

fn receipts(got: &[Got]) -> Vec<(RequestId, i64, Vec<u8>)> {
    got.iter()
        .filter_map(|got| {
            let Got::Message(data) = got else { return None };
            let found: Receipt<'_> = tl::decode(data).ok()?;
            Some((found.request_id, found.worker, found.receipt.0.to_vec()))
        })
        .collect()
}

#[test]
fn a_receipt_reaches_its_client_once_and_with_its_own_id() {
    for (client_knows, worker_knows) in [(true, true), (false, true)] {
        let bits = |knows: bool| if knows { ALL } else { Extensions::NONE };
        let mut stage = Stage::new();
        let worker = stage.worker_with(30, 4, 2, 1_000, bits(worker_knows));
        let other = stage.worker_with(31, 4, 2, 1_000, bits(true));
        let conn = stage.client_with(20, 4, bits(client_knows));
        stage.send(conn, &request(1));
        let on_first = matches!(stage.all(worker).last(), Some(Got::Message(_)));
        let (mine, foreign) = if on_first { (worker, other) } else { (other, worker) };
        // What was asked is found again by asking once more.
        stage.send(conn, &request(2));
        let second = stage.run_query(foreign);
        stage.send(foreign, &head(second));
        stage.all(conn);
        // A worker cannot sign for another's request, nor for one that is not running.
        stage.send(mine, &receipt(second, b"foreign"));
        stage.send(mine, &receipt(RequestId([77; 32]), b"unknown"));
        assert_eq!(receipts(&stage.all(conn)), []);
        stage.send(foreign, &receipt(second, b"signed"));
        stage.send(foreign, &receipt(second, b"again"));
        let found = receipts(&stage.all(conn));
        if client_knows {
            let handle = foreign.0.cast_signed();
            assert_eq!(found, [(RequestId([2; 32]), handle, b"signed".to_vec())]);
        } else {
            assert_eq!(found, []);
        }
        stage.send(foreign, &last(second, 3));
        stage.send(foreign, &receipt(second, b"late"));
        assert_eq!(receipts(&stage.all(conn)), []);
    }
}

#[test]
fn a_report_is_asked_of_the_worker_named_and_answered_to_the_client_that_asked() {
    let mut stage = Stage::new();
    let silent = stage.worker_with(29, 4, 1, 1_000, Extensions::NONE);
    let worker = stage.worker_with(30, 4, 1, 1_000, ALL);
    let conn = stage.client_with(20, 4, ALL);
    let other = stage.client_with(21, 4, ALL);
    stage.ask(conn, &ListWorkers {});
    let data = stage.answer(conn);
    let listed: Workers<'_> = tl::decode(&data).unwrap();
    let handle = worker.0.cast_signed();
    assert_eq!(listed.workers.iter().map(|entry| entry.worker).collect::<Vec<_>>(), [handle]);

    let asked = stage.ask(conn, &GetReport { worker: handle, nonce: [5; 32] });
    let Some(Got::Asked(query, data)) = stage.all(worker).pop() else { panic!("not asked") };
    let get: GetReport = tl::decode(&data).unwrap();
    assert_eq!(get, GetReport { worker: 0, nonce: [5; 32] });
    let answer = tl::encode(&Report { report: Blob(b"unread") });
    let now = stage.now;
    stage.proxy.answered(worker, query, &answer, now, &mut stage.out);
    stage.perform();
    assert_eq!(stage.all(other), []);
    let Some(Got::Answer(to, data)) = stage.all(conn).pop() else { panic!("no answer") };
    assert_eq!(to, asked);
    assert_eq!(tl::decode::<Report<'_>>(&data).unwrap().report.0, b"unread");

    // Nobody who did not announce it is asked, and a worker that leaves answers nothing.
    stage.ask(conn, &GetReport { worker: silent.0.cast_signed(), nonce: [5; 32] });
    assert!(matches!(stage.all(conn).pop(), Some(Got::Failed(..))));
    let asked = stage.ask(conn, &GetReport { worker: handle, nonce: [6; 32] });
    stage.close(worker);
    assert!(matches!(stage.all(conn).pop(), Some(Got::Failed(to, ..)) if to == asked));
}

#[test]
fn an_endorsed_report_is_asked_only_of_workers_that_know_it_for_clients_that_do() {
    let mut stage = Stage::new();
    let both = ALL.with(cocoon::ENDORSEMENTS);
    let old = stage.worker_with(29, 4, 1, 1_000, ALL);
    let new = stage.worker_with(30, 4, 1, 1_000, both);
    let conn = stage.client_with(20, 4, both);
    let asked = |stage: &mut Stage, worker: cocoon_role_proxy::ConnId| {
        let nonce = [5; 32];
        stage.ask(conn, &GetEndorsedReport { worker: worker.0.cast_signed(), nonce });
        match stage.all(worker).pop() {
            Some(Got::Asked(_, data)) => data,
            other => panic!("{other:?} instead of a question"),
        }
    };
    let data = asked(&mut stage, new);
    let get: GetEndorsedReport = tl::decode(&data).unwrap();
    assert_eq!(get, GetEndorsedReport { worker: 0, nonce: [5; 32] });
    // Whoever does not know the form sees the old one, from either side.
    let data = asked(&mut stage, old);
    let get: GetReport = tl::decode(&data).unwrap();
    assert_eq!(get, GetReport { worker: 0, nonce: [5; 32] });
    let client = stage.client_with(21, 4, ALL);
    stage.ask(client, &GetReport { worker: new.0.cast_signed(), nonce: [6; 32] });
    let Some(Got::Asked(_, data)) = stage.all(new).pop() else { panic!("not asked") };
    assert!(tl::decode::<GetReport>(&data).is_ok());
    stage.ask(client, &GetEndorsedReport { worker: new.0.cast_signed(), nonce: [6; 32] });
    assert!(matches!(stage.all(client).pop(), Some(Got::Failed(..))));
}

#[test]
fn a_full_report_is_asked_in_the_last_form_that_the_worker_knows() {
    let mut stage = Stage::new();
    let endorsed = ALL.with(cocoon::ENDORSEMENTS);
    let all = endorsed.with(cocoon::VTPM_QUOTES);
    let oldest = stage.worker_with(28, 4, 1, 1_000, ALL);
    let old = stage.worker_with(29, 4, 1, 1_000, endorsed);
    let new = stage.worker_with(30, 4, 1, 1_000, all);
    let conn = stage.client_with(20, 4, all);
    let nonce = [5; 32];
    let asked = |stage: &mut Stage, worker: cocoon_role_proxy::ConnId, reads: i32| {
        stage.ask(conn, &GetFullReport { worker: worker.0.cast_signed(), nonce, reads });
        match stage.all(worker).pop() {
            Some(Got::Asked(_, data)) => data,
            other => panic!("{other:?} instead of a question"),
        }
    };
    // What a later client reads passes, too: the worker knows what it means.
    let reads = cocoon::ENDORSEMENTS.with(cocoon::VTPM_QUOTES).0.cast_signed() | 1 << 30;
    let get: GetFullReport = tl::decode(&asked(&mut stage, new, reads)).unwrap();
    assert_eq!(get, GetFullReport { worker: 0, nonce, reads });
    let get: GetEndorsedReport = tl::decode(&asked(&mut stage, old, reads)).unwrap();
    assert_eq!(get, GetEndorsedReport { worker: 0, nonce });
    let get: GetReport = tl::decode(&asked(&mut stage, oldest, reads)).unwrap();
    assert_eq!(get, GetReport { worker: 0, nonce });
    // Who reads less gets less.
    let get: GetReport = tl::decode(&asked(&mut stage, new, 0)).unwrap();
    assert_eq!(get, GetReport { worker: 0, nonce });
    // And nobody gets an answer who did not announce it.
    let client = stage.client_with(21, 4, endorsed);
    stage.ask(client, &GetFullReport { worker: new.0.cast_signed(), nonce, reads });
    assert!(matches!(stage.all(client).pop(), Some(Got::Failed(..))));
}

#[test]
fn questions_are_bounded_and_strangers_to_the_addition_get_no_answer() {
    let mut stage = Stage::new();
    let worker = stage.worker_with(30, 4, 1, 1_000, ALL);
    let conn = stage.client_with(20, 4, ALL);
    let old = stage.client_with(21, 4, Extensions::NONE);
    stage.ask(old, &ListWorkers {});
    assert!(matches!(stage.all(old).pop(), Some(Got::Failed(..))));
    let get = GetReport { worker: worker.0.cast_signed(), nonce: [1; 32] };
    for _ in 0..40 {
        stage.ask(conn, &get);
    }
    assert_eq!(stage.all(worker).len(), 16);
    let refused = stage.all(conn);
    assert_eq!(refused.len(), 24);
    assert!(refused.iter().all(|got| matches!(got, Got::Failed(..))), "{refused:?}");
}

fn only(id: u8, workers: &[i64]) -> OnlyWorkers {
    OnlyWorkers { request_id: RequestId([id; 32]), workers: workers.to_vec() }
}

#[test]
fn a_request_goes_to_the_workers_that_its_client_named_or_to_nobody() {
    let mut stage = Stage::new();
    let good = stage.worker_with(30, 4, 1, 1_000, ALL);
    let other = stage.worker_with(31, 4, 4, 1_000, ALL);
    let conn = stage.client_with(20, 4, cocoon::ONLY_WORKERS);
    let name = good.0.cast_signed();
    for id in 1..4 {
        stage.send(conn, &only(id, &[name]));
        stage.send(conn, &request(id));
    }
    // One runs, two wait although another worker is free.
    let first = stage.run_query(good);
    assert!(stage.all(other).is_empty());
    stage.send(good, &head(first));
    stage.send(good, &last(first, 3));
    let second = stage.run_query(good);
    // A request that loses its worker moves to nobody else.
    stage.close(good);
    assert!(stage.all(other).is_empty());
    assert_ne!(first, second);
    stage.all(conn);
    // Without names it goes anywhere.
    stage.send(conn, &request(9));
    stage.run_query(other);
    // A worker that is gone is nobody.
    stage.send(conn, &only(8, &[name]));
    stage.send(conn, &request(8));
    let refused = stage.all(conn);
    let Some(Got::Message(data)) = refused.last() else { panic!("no refusal") };
    let error: client::QueryAnswerErrorEx<'_> = tl::decode(data).unwrap();
    assert_eq!(error.error_code, 651);
    assert!(stage.all(other).is_empty());
}

#[test]
fn names_that_miss_their_request_end_the_connection() {
    for (named, asked) in [(only(1, &[]), 1), (only(1, &[1; 65]), 1), (only(2, &[1]), 1)] {
        let mut stage = Stage::new();
        let worker = stage.worker_with(30, 4, 1, 1_000, ALL);
        let conn = stage.client_with(20, 4, cocoon::ONLY_WORKERS);
        stage.send(conn, &named);
        stage.send(conn, &request(asked));
        assert!(stage.all(worker).is_empty());
        assert!(stage.all(conn).iter().any(|got| matches!(got, Got::Closed(_))));
    }
    // Who did not announce it is not understood, as with every addition.
    let mut stage = Stage::new();
    let worker = stage.worker_with(30, 4, 1, 1_000, ALL);
    let conn = stage.client_with(20, 4, Extensions::NONE);
    stage.send(conn, &only(2, &[1]));
    stage.send(conn, &request(1));
    stage.run_query(worker);
}
