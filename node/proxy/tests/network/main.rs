//! The proxy node over real sockets, between one scripted worker and one scripted client.

#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

mod keys;
mod peer;
mod site;

use std::collections::BTreeMap;
use std::time::Duration;

use cocoon_host::peers::Transport;
use cocoon_ledger::{OwnBooks, Statement};
use cocoon_units::{RequestId, Tokens};
use cocoon_wire::client::{FromProxy, RunQueryEx};
use cocoon_wire::proxy::{ClientRequestPayment, ToWorker, WorkerRequestPayment};
use cocoon_wire::tl::{Blob, Extensions, Text};

use crate::peer::{Peer, TOKENS, answer, client, worker};
use crate::site::Site;

/// Requests in the long run.
const REQUESTS: usize = 1_000;
/// Of them, at the same time.
const AT_ONCE: usize = 40;
/// A test that waits longer for anything has failed.
const DEADLINE: Duration = Duration::from_secs(60);

fn request(number: usize) -> RunQueryEx<'static> {
    let mut id = [0; 32];
    id[..8].copy_from_slice(&number.to_le_bytes());
    RunQueryEx {
        model_name: Text::from("qwen"),
        query: Blob(b"the request"),
        max_coefficient: 4_000,
        max_tokens: 100,
        timeout: 60.0,
        request_id: RequestId(id),
        min_config_version: 3,
        extensions: Extensions::NONE,
        enable_debug: Some(false),
        public_key: None,
    }
}

/// Serves until `count` requests are paid; returns the worker's own books.
async fn serve(mut worker: Peer, count: usize) -> OwnBooks {
    let mut books = OwnBooks::default();
    let mut paid = 0;
    while paid < count {
        let data = worker.message().await;
        match ToWorker::decode(&data).expect("a message") {
            ToWorker::RunQueryEx(run) => {
                for message in answer(run.request_id) {
                    worker.link.message(message).expect("sent");
                }
                books.finished(Tokens(TOKENS));
            }
            ToWorker::WorkerRequestPayment(WorkerRequestPayment {
                db_tokens, max_tokens, ..
            }) => {
                compare(&mut books, db_tokens, max_tokens);
                paid += 1;
            }
            other => panic!("worker got {other:?}"),
        }
    }
    books
}

/// Takes a statement in. While requests are on their way the totals may differ; falling ones and
/// contradictions may not.
fn compare(books: &mut OwnBooks, durable: i64, max: i64) {
    use cocoon_ledger::Difference;
    let statement = Statement {
        signed: None,
        durable: Tokens::from_wire(durable).expect("not negative"),
        max: Tokens::from_wire(max).expect("not negative"),
    };
    match books.compare(&statement) {
        Ok(()) | Err(Difference::MoreThanOwn { .. } | Difference::LessThanOwn { .. }) => {}
        Err(fault) => panic!("{fault}"),
    }
}

/// Asks `count` requests, [`AT_ONCE`] at a time; returns the client's own books.
async fn ask(client: &mut Peer, from: usize, count: usize) -> OwnBooks {
    let mut books = OwnBooks::default();
    let mut parts: BTreeMap<RequestId, usize> = BTreeMap::new();
    let (mut sent, mut paid) = (0, 0);
    while paid < count {
        while sent < count && parts.len() < AT_ONCE {
            let wanted = request(from + sent);
            parts.insert(wanted.request_id, 0);
            client.link.message_object(&wanted).expect("sent");
            sent += 1;
        }
        let data = client.message().await;
        match FromProxy::decode(&data).expect("a message") {
            FromProxy::QueryAnswerEx(m) => *parts.get_mut(&m.request_id).expect("asked") += 1,
            FromProxy::QueryAnswerPartEx(m) => {
                let seen = parts.get_mut(&m.request_id).expect("asked");
                *seen += 1;
                if let Some(info) = m.final_info {
                    assert_eq!(*seen, peer::MESSAGES, "no message is lost or doubled");
                    let used = info.tokens_used.total_tokens_used;
                    books.finished(Tokens::from_wire(used).expect("not negative"));
                    parts.remove(&m.request_id);
                }
            }
            FromProxy::ClientRequestPayment(ClientRequestPayment {
                db_tokens, max_tokens, ..
            }) => {
                compare(&mut books, db_tokens, max_tokens);
                paid += 1;
            }
            other => panic!("client got {other:?}"),
        }
    }
    books
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_requests_and_the_books_agree_on_all_sides() {
    let run = async {
        let site = Site::new(Transport::Plain);
        let node = site.start().await;
        let worker = worker(&node, &site, 0).await;
        let serving = tokio::spawn(serve(worker, REQUESTS));
        let mut client = client(&node, &site).await;
        let asked = ask(&mut client, 0, REQUESTS).await;
        let served = serving.await.expect("served");
        let total = Tokens(TOKENS * REQUESTS as u64);
        assert_eq!((asked.own(), asked.max()), (total, total));
        assert_eq!((served.own(), served.max()), (total, total));
        let status = node.page("/jsonstats").await;
        let status: serde_json::Value = serde_json::from_str(&status.body).expect("JSON");
        assert_eq!(status["workers"][0]["earned_tokens"], total.0);
        assert_eq!(status["clients"][0]["used_tokens"], total.0);
        assert_eq!(status["clients"][0]["reserved_tokens"], 0);
        assert_eq!(status["stats"]["success"][0], REQUESTS as f64);
        drop(client);
        node.stop().await;

        // What was told is on disk: a new process knows it, and the worker agrees with it.
        let node = site.start().await;
        let again = peer::worker(&node, &site, i64::try_from(total.0).unwrap()).await;
        let mut client = peer::client(&node, &site).await;
        let serving = tokio::spawn(serve(again, 1));
        ask(&mut client, REQUESTS, 1).await;
        assert_eq!(serving.await.unwrap().max(), Tokens(total.0 + TOKENS));
        node.stop().await;
    };
    tokio::time::timeout(DEADLINE, run).await.expect("in time");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attested_tls_with_proof_of_work_carries_requests() {
    let run = async {
        let site = Site::new(Transport::Direct);
        let node = site.start().await;
        let worker = worker(&node, &site, 0).await;
        let serving = tokio::spawn(serve(worker, 20));
        let mut client = client(&node, &site).await;
        let asked = ask(&mut client, 0, 20).await;
        assert_eq!(asked.max(), serving.await.unwrap().max());
        node.stop().await;
    };
    tokio::time::timeout(DEADLINE, run).await.expect("in time");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopping_ends_what_runs_and_pages_tell_the_state() {
    let run = async {
        let site = Site::new(Transport::Plain);
        let node = site.start().await;
        assert_eq!(node.page("/health").await.code, 200);
        assert_eq!(node.page("/ready").await.code, 200);
        assert_eq!(node.page("/nowhere").await.code, 404);
        let metrics = node.page("/metrics?access_hash=word").await;
        assert!(metrics.body.contains("cocoon_proxy_serving 1\n"), "{}", metrics.body);
        let foreign = node.post_from("https://evil.example", "/request/close?confirm=yes").await;
        assert_eq!(
            (foreign.code, foreign.body.as_str()),
            (403, "orders are not taken from web pages\n")
        );
        assert_eq!(node.post("/request/disable").await.code, 200);
        assert_eq!(node.page("/ready").await.code, 503);
        assert_eq!(node.page("/request/enable").await.code, 405, "changes are POST");
        assert_eq!(node.post("/request/enable").await.code, 200);
        assert_eq!(node.post("/request/payout?worker=nonsense").await.code, 400);
        assert_eq!(
            node.post("/request/change_worker_model?connection_id=9&new_model_name=x").await.code,
            409
        );

        let mut worker = worker(&node, &site, 0).await;
        let mut client = client(&node, &site).await;
        client.link.message_object(&request(1)).unwrap();
        let data = worker.message().await;
        let Ok(ToWorker::RunQueryEx(run)) = ToWorker::decode(&data) else { panic!("asked") };
        node.ask_to_stop();
        for message in answer(run.request_id) {
            worker.link.message(message).unwrap();
        }
        for _ in 0..peer::MESSAGES {
            client.message().await;
        }
        let data = client.message().await;
        assert!(matches!(FromProxy::decode(&data), Ok(FromProxy::ClientRequestPayment(_))));
        node.stop().await;
    };
    tokio::time::timeout(DEADLINE, run).await.expect("in time");
}

#[tokio::test]
async fn pages_ask_for_the_access_word() {
    let mut site = Site::new(Transport::Plain);
    site.config.http_access_hash = "word".into();
    let node = site.start().await;
    assert_eq!(node.page("/health").await.code, 200);
    for path in ["/jsonstats", "/stats", "/metrics", "/stats?access_hash=wor"] {
        let page = node.page(path).await;
        assert_eq!((page.code, page.body.as_str()), (403, ""));
    }
    assert_eq!(node.post("/request/disable").await.code, 403);
    assert_eq!(node.page("/jsonstats?access_hash=word").await.code, 200);
    node.stop().await;
}

/// What the outbox holds when a snapshot is taken stands before it on disk. Otherwise it is read
/// twice, and the books refuse to open.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_in_the_middle_of_work_is_read_back() {
    const EACH: usize = 8;
    // One after the other, each with several writes down to the disk: a slow one takes minutes.
    const LIMIT: Duration = Duration::from_secs(600);
    let run = async {
        let mut site = Site::new(Transport::Plain);
        // A snapshot whenever the journal has doubled; a tick, and with it a commit, soon after
        // every answer.
        site.config.journal_bytes_max = 0;
        site.config.commit_every_ms = 1;
        for round in 0..4 {
            let node = site.start().await;
            let known = i64::try_from(TOKENS as usize * EACH * round).unwrap();
            let worker = peer::worker(&node, &site, known).await;
            let mut client = client(&node, &site).await;
            let serving = tokio::spawn(serve(worker, EACH));
            for number in 0..EACH {
                let before = node.commits().await;
                ask(&mut client, round * EACH + number, 1).await;
                while node.commits().await == before {
                    tokio::task::yield_now().await;
                }
            }
            serving.await.unwrap();
            drop(client);
            node.stop().await;
        }
    };
    tokio::time::timeout(LIMIT, run).await.expect("in time");
}
