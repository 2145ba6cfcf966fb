//! Receipts and reports: carried unread, only between those who announced them, to the one they
//! are for.

use cocoon_units::RequestId;
use cocoon_wire::cocoon::{self, GetReport, ListWorkers, Receipt, Report, Workers};
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
