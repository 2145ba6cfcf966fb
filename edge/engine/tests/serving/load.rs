//! Many at once: eight streams, a full queue, clients that go away.

use std::sync::Arc;

use cocoon_engine::EngineConfig;
use cocoon_engine::tiny_gguf::TinyModel;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::rig::{Rig, chat_body, joined_content, next_event, within};

#[tokio::test(flavor = "multi_thread")]
async fn eight_streams_at_once_are_all_complete() {
    let rig = Rig::start_with(&Default::default(), |config| config.max_sequences = 8).await;
    let rig = Arc::new(rig);
    let mut asks = JoinSet::new();
    for index in 0..8 {
        let rig = Arc::clone(&rig);
        asks.spawn(async move {
            let options = json!({
                "stream": true, "max_tokens": 40, "ignore_eos": true,
                "stream_options": {"include_usage": true}
            });
            (index, rig.chat(&format!("number {index}"), options).await.chunks())
        });
    }
    let mut answers: Vec<(usize, Vec<Value>)> = within(asks.join_all()).await;
    answers.sort_by_key(|(index, _)| *index);
    assert_eq!(answers.len(), 8);
    for (_, chunks) in &answers {
        assert!(!joined_content(chunks, 0).is_empty());
        assert_eq!(chunks.last().unwrap()["usage"]["completion_tokens"], 40);
    }
    rig.wait_for_metric("cocoon_engine_sequences_active", 0).await;
    assert_eq!(rig.metric("cocoon_engine_generated_tokens_total").await, 320);
    Arc::into_inner(rig).expect("no request is left").stop().await.unwrap();
}

/// Tokens of an answer that no test lets end: the tiny model makes thousands a second, and the
/// test may stand still for seconds.
const ENDLESS: u32 = 30_000;

fn endless() -> Value {
    chat_body("go on", json!({"stream": true, "max_tokens": ENDLESS, "ignore_eos": true}))
}

/// An engine with room for such an answer, one at a time.
async fn roomy(adjust: impl FnOnce(&mut EngineConfig)) -> Rig {
    let context_tokens = 1 << 15;
    let model = TinyModel { context_tokens, ..TinyModel::default() };
    Rig::start_with(&model, |config| {
        (config.context_tokens, config.max_sequences) = (context_tokens, 1);
        adjust(config);
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_is_refused_and_a_client_that_goes_away_makes_room() {
    let rig = roomy(|config| config.max_queued = 1).await;
    let path = "/v1/chat/completions";
    let mut first = rig.open(path, &endless()).await;
    assert!(next_event(&mut first).await.is_some(), "the first is being answered");
    let second = rig.open(path, &endless()).await;
    rig.wait_for_metric("cocoon_engine_requests_waiting", 1).await;
    let refused = rig.chat("x", json!({})).await;
    assert_eq!(refused.status, 429, "{}", refused.text);
    assert!(refused.head.contains("retry-after: "));
    assert_eq!(refused.json()["error"]["code"], "engine_overloaded");
    let too_many = rig.chat("x", json!({"n": 3})).await;
    assert_eq!(too_many.status, 429, "three places are never there");
    drop((first, second));
    rig.wait_for_metric("cocoon_engine_abandoned_total", 2).await;
    let after = rig.chat("x", json!({})).await;
    assert_eq!(after.status, 200, "{}", after.text);
    rig.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn hanging_up_stops_the_work_also_without_a_stream() {
    let rig = roomy(|_| {}).await;
    let mut body = endless();
    body["stream"] = json!(false);
    let waiting = rig.open("/v1/chat/completions", &body).await;
    rig.wait_for_metric("cocoon_engine_sequences_active", 1).await;
    drop(waiting);
    rig.wait_for_metric("cocoon_engine_abandoned_total", 1).await;
    let generated = rig.metric("cocoon_engine_generated_tokens_total").await;
    assert!(generated < u64::from(ENDLESS), "it did not go on to the end: {generated}");
    rig.stop().await.unwrap();
}
