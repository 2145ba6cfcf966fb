//! The worker node over real sockets, between a scripted proxy and a small model server.

#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

mod proxy;
mod server;
mod site;
mod weights;

use std::time::Duration;

use cocoon_units::{RequestId, Secret};
use cocoon_wire::cocoon::CancelQuery;
use cocoon_wire::e2e;
use cocoon_wire::e2e_json::{open_answer, seal_request};
use cocoon_wire::tl;
use cocoon_wire::worker::ChangeModel;
use serde_json::{Value, json};

use crate::proxy::{Answer, Proxy, random};
use crate::server::LARGE;
use crate::site::Site;

/// A test that waits longer for anything has failed.
const DEADLINE: Duration = Duration::from_secs(60);

async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, Box::pin(work)).await.expect("in time")
}

const ONE: RequestId = RequestId([1; 32]);
const TWO: RequestId = RequestId([2; 32]);

fn chat(content: &str, stream: bool) -> Value {
    json!({"model": "qwen", "stream": stream, "messages": [{"role": "user", "content": content}]})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plain_query_and_a_stream_are_answered_and_paid_by_usage() {
    within(async {
        let site = Site::new().await;
        let node = site.start();
        let mut proxy = Proxy::ready(&site).await;
        proxy.run(ONE, &chat("plain", false), None);
        let answer = proxy.answer(ONE).await;
        let body: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(body["choices"][0]["message"]["content"], "words");
        assert_eq!((answer.status, answer.total), (200, 24), "7 of the prompt, 17 made");

        proxy.run(TWO, &chat("stream", true), None);
        let answer = proxy.answer(TWO).await;
        let text = String::from_utf8(answer.body).unwrap();
        assert_eq!(text.matches("data: ").count(), 4);
        assert!(text.ends_with("data: [DONE]\n\n"));
        assert_eq!(answer.total, 24);
        node.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_encrypted_query_is_opened_for_the_server_and_its_answer_sealed() {
    within(async {
        let site = Site::new().await;
        let node = site.start();
        let mut proxy = Proxy::ready(&site).await;
        let (client, worker) = (Secret::new([5; 32]), Secret::new([6; 32]));
        let public = e2e::public_key(&worker);
        for (id, content, stream) in [(ONE, "plain", false), (TWO, "stream", true)] {
            let mut request = chat(content, stream);
            seal_request(&mut request, &client, public, &mut random).unwrap();
            proxy.run(id, &request, Some(Secret::new([6; 32])));
            let answer = proxy.answer(id).await;
            assert_eq!(answer.total, 24, "usage is read before sealing");
            let text = String::from_utf8(answer.body).unwrap();
            assert!(!text.contains("words"));
            let mut opened = 0;
            for line in text.lines() {
                let line = line.strip_prefix("data: ").unwrap_or(line);
                let Ok(mut value) = serde_json::from_str::<Value>(line) else { continue };
                assert!(open_answer(&mut value, &client, &public).unwrap());
                opened += value.to_string().matches("words").count();
            }
            assert_eq!(opened, if stream { 2 } else { 1 });
        }
        node.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sealed_answer_longer_than_a_frame_arrives_whole() {
    within(async {
        let site = Site::new().await;
        let node = site.start();
        let mut proxy = Proxy::ready(&site).await;
        let (client, worker) = (Secret::new([5; 32]), Secret::new([6; 32]));
        let public = e2e::public_key(&worker);
        let mut request = chat("large", false);
        seal_request(&mut request, &client, public, &mut random).unwrap();
        proxy.run(ONE, &request, Some(worker));
        let answer = proxy.answer(ONE).await;
        assert!(answer.body.len() > 1 << 24, "{} {}", answer.body.len(), answer.error);
        let mut value: Value = serde_json::from_slice(&answer.body).unwrap();
        assert!(open_answer(&mut value, &client, &public).unwrap());
        let content = value["choices"][0]["message"]["content"].as_str().unwrap();
        assert_eq!(content.len(), LARGE);
        node.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancel_stops_the_server_at_once_and_what_was_made_is_claimed() {
    within(async {
        let site = Site::new().await;
        let node = site.start();
        let mut proxy = Proxy::ready(&site).await;
        proxy.run(ONE, &chat("slow", true), None);
        proxy.part(ONE).await;
        proxy.link.message_object(&CancelQuery { request_id: ONE }).unwrap();
        // By itself a slow answer never ends.
        site.server.gone.notified().await;
        let Answer { code, total, .. } = proxy.answer(ONE).await;
        assert_eq!(code, Some(653));
        assert_eq!(total, 1, "one event had come");
        node.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_queries_run_than_were_announced() {
    within(async {
        let mut site = Site::new().await;
        site.config.max_active_requests = 1;
        let node = site.start();
        let mut proxy = Proxy::ready(&site).await;
        proxy.run(ONE, &chat("slow", true), None);
        proxy.part(ONE).await;
        proxy.run(TWO, &chat("plain", false), None);
        let busy = proxy.answer(TWO).await;
        assert_eq!((busy.code, busy.error.as_str()), (Some(602), "too many active queries"));
        site.server.release.notify_one();
        assert_eq!(proxy.answer(ONE).await.code, None);
        proxy.run(TWO, &chat("plain", false), None);
        assert_eq!(proxy.answer(TWO).await.code, None);
        node.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn proxies_are_told_when_the_server_goes_and_comes() {
    within(async {
        let site = Site::new().await;
        let node = site.start();
        let mut proxy = Proxy::ready(&site).await;
        site.server.set_up(false);
        proxy.told_disabled(true).await;
        site.server.set_up(true);
        proxy.told_disabled(false).await;
        node.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_lets_running_queries_end() {
    within(async {
        let site = Site::new().await;
        let node = site.start();
        let mut proxy = Proxy::ready(&site).await;
        proxy.run(ONE, &chat("slow", true), None);
        proxy.part(ONE).await;
        node.ask_to_stop();
        proxy.told_disabled(true).await;
        site.server.release.notify_one();
        let answer = proxy.answer(ONE).await;
        assert_eq!((answer.code, answer.total), (None, 24));
        node.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_books_are_known_again_after_a_restart_and_their_journal_stays_small() {
    within(async {
        let mut site = Site::new().await;
        site.config.journal_bytes_max = 4_096;
        let node = site.start();
        let mut proxy = Proxy::ready(&site).await;
        assert_eq!(proxy.claim, (0, 0));
        let first = site.segments();
        let mut total = 0;
        while site.segments() == first {
            for _ in 0..50 {
                total += 1;
                proxy.pay(total, total + 1);
            }
            // Messages are taken in order: what came before this query is in the books.
            proxy.run(ONE, &chat("plain", false), None);
            proxy.answer(ONE).await;
        }
        node.stop().await;
        let records = i64::try_from(site.journal_records()).unwrap();
        assert!(records < total, "{records} records for {total} payments");

        let node = site.start();
        proxy.known = (total, total + 1);
        proxy.accept().await;
        assert_eq!(proxy.claim, proxy.known);
        node.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_model_is_changed_by_the_script_alone() {
    within(async {
        let mut site = Site::new().await;
        let fails = site.script("fails", "exit 3");
        let works = site.script("works", "printf %s \"$1\" > \"$(dirname \"$0\")/model\"");
        let change = tl::encode(&ChangeModel { new_model: "other $(id)@1:00".into() });
        for (script, text) in [
            (None, "cannot change model: no script in config"),
            (Some(fails), "cannot change model: model change script failed"),
        ] {
            site.config.change_model_script = script.unwrap_or_default();
            let node = site.start();
            let mut proxy = Proxy::ready(&site).await;
            assert_eq!(proxy.ask(change.clone()).await, Err((602, text.to_owned())));
            node.stop().await;
        }
        site.config.change_model_script = works;
        let node = site.start();
        let mut proxy = Proxy::ready(&site).await;
        assert_eq!(proxy.model, "qwen@abc:00");
        proxy.ask(change).await.expect("changedModel");
        proxy.accept().await;
        assert_eq!(proxy.model, "other $(id)@1:00");
        let given = std::fs::read_to_string(site.path("model")).unwrap();
        assert_eq!(given, "other $(id)@1:00", "no shell reads the name");
        node.stop().await;
    })
    .await;
}
