//! `/v1/chat/completions`: text, streams, choices, stops, seeds, log-probabilities.

use cocoon_engine::tiny_gguf::{CHATML_TEMPLATE, TinyModel};
use serde_json::{Value, json};

use crate::rig::{Rig, joined_content};

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_has_every_member_that_clients_require() {
    let rig = Rig::start().await;
    let reply = rig.chat("hello", json!({})).await;
    let answer = reply.ok();
    assert!(answer["id"].as_str().unwrap().starts_with("chatcmpl-"));
    assert_eq!(answer["object"], "chat.completion");
    assert_eq!(answer["model"], "tiny");
    assert!(answer["created"].as_u64().unwrap() > 1_700_000_000);
    assert!(answer["system_fingerprint"].as_str().unwrap().starts_with("fp_"));
    let choice = answer["choices"][0].as_object().unwrap();
    assert_eq!(choice["finish_reason"], "length");
    assert_eq!(choice["logprobs"], Value::Null);
    assert!(choice.contains_key("logprobs"));
    let message = choice["message"].as_object().unwrap();
    assert_eq!(message["role"], "assistant");
    assert_eq!(message.get("refusal"), Some(&Value::Null));
    assert!(message["content"].is_string());
    let usage = &answer["usage"];
    assert_eq!(usage["completion_tokens"], 16);
    let prompt = usage["prompt_tokens"].as_u64().unwrap();
    assert_eq!(usage["total_tokens"], prompt + 16);
    assert_eq!(usage["prompt_tokens_details"]["cached_tokens"], 0);
    assert_eq!(usage["completion_tokens_details"]["reasoning_tokens"], 0);
    assert!(reply.head.contains("x-request-id: "));
    rig.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_says_the_same_as_a_whole_answer() {
    let rig = Rig::start().await;
    let whole = rig.chat("hello", json!({})).await.ok();
    let options = json!({"stream": true, "stream_options": {"include_usage": true}});
    let chunks = rig.chat("hello", options).await.chunks();
    assert!(chunks.len() > 3, "each token comes by itself: {}", chunks.len());
    let first = &chunks[0]["choices"][0];
    assert_eq!(first["delta"]["role"], "assistant");
    assert_eq!(first["finish_reason"], Value::Null);
    assert!(chunks.iter().all(|chunk| chunk["object"] == "chat.completion.chunk"));
    assert!(chunks.iter().all(|chunk| chunk["id"] == chunks[0]["id"]));
    assert_eq!(joined_content(&chunks, 0), whole["choices"][0]["message"]["content"]);
    let (last, before) = chunks.split_last().unwrap();
    assert_eq!(last["choices"], json!([]));
    assert_eq!(last["usage"]["completion_tokens"], 16);
    assert!(before.iter().all(|chunk| chunk["usage"].is_null()));
    let finish = before.last().unwrap();
    assert_eq!(finish["choices"][0]["finish_reason"], "length");
    assert_eq!(finish["choices"][0]["delta"], json!({}));
    let without = rig.chat("hello", json!({"stream": true})).await.chunks();
    assert!(without.iter().all(|chunk| chunk.get("usage").is_none()));
    rig.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn choices_are_as_many_as_asked_and_come_mixed_in_a_stream() {
    let rig = Rig::start().await;
    let options = json!({"n": 6, "temperature": 1.0, "seed": 5});
    let answer = rig.chat("hello", options.clone()).await.ok();
    let texts: Vec<&str> = answer["choices"]
        .as_array()
        .unwrap()
        .iter()
        .map(|choice| choice["message"]["content"].as_str().unwrap())
        .collect();
    assert_eq!(texts.len(), 6);
    assert!(texts.iter().any(|text| *text != texts[0]), "choices differ");
    assert_eq!(answer["usage"]["completion_tokens"], 96);
    let mut streamed = options;
    streamed["stream"] = json!(true);
    let chunks = rig.chat("hello", streamed).await.chunks();
    for index in 0..6 {
        let ends = chunks
            .iter()
            .filter(|chunk| chunk["choices"][0]["index"] == index)
            .filter(|chunk| !chunk["choices"][0]["finish_reason"].is_null());
        assert_eq!(ends.count(), 1);
        assert!(!joined_content(&chunks, index).is_empty());
    }
    rig.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seed_or_temperature_zero_repeats_an_answer() {
    let rig = Rig::start().await;
    let ask = async |options: Value| {
        rig.chat("a story", options).await.ok()["choices"][0]["message"]["content"].clone()
    };
    let warm = |seed: u64| json!({"temperature": 1.2, "seed": seed, "max_tokens": 40});
    let first = ask(warm(1)).await;
    assert_eq!(first, ask(warm(1)).await);
    assert_ne!(first, ask(warm(2)).await);
    assert_eq!(ask(json!({})).await, ask(json!({})).await);
    let unseeded = json!({"temperature": 1.5, "max_tokens": 40});
    assert_ne!(ask(unseeded.clone()).await, ask(unseeded).await);
    rig.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reused_prompt_changes_no_answer() {
    let rig = Rig::start().await;
    let long = "word ".repeat(100);
    let first = rig.chat(&long, json!({"max_tokens": 24})).await.ok();
    let again = rig.chat(&long, json!({"max_tokens": 24})).await.ok();
    assert_eq!(first["usage"]["prompt_tokens_details"]["cached_tokens"], 0);
    let cached = again["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap();
    assert!(cached >= 128 && cached.is_multiple_of(128), "{cached}");
    assert_eq!(first["choices"], again["choices"]);
    rig.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_ends_the_answer_and_is_never_shown() {
    let rig = Rig::start().await;
    let whole = rig.chat("hello", json!({"max_tokens": 30})).await.ok();
    let text = whole["choices"][0]["message"]["content"].as_str().unwrap().to_owned();
    let characters: Vec<char> = text.chars().collect();
    let stop: String = characters[8..11].iter().collect();
    let expected = text.split(&stop).next().unwrap();
    for options in [
        json!({"max_tokens": 30, "stop": stop}),
        json!({"max_tokens": 30, "stop": ["never \u{1}", stop]}),
    ] {
        let answer = rig.chat("hello", options.clone()).await.ok();
        assert_eq!(answer["choices"][0]["message"]["content"], expected);
        assert_eq!(answer["choices"][0]["finish_reason"], "stop");
        let used = answer["usage"]["completion_tokens"].as_u64().unwrap();
        assert!(used < 30, "it stopped at once: {used}");
        let mut streamed = options;
        streamed["stream"] = json!(true);
        let chunks = rig.chat("hello", streamed).await.chunks();
        assert_eq!(joined_content(&chunks, 0), expected);
    }
    rig.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn log_probabilities_come_with_each_token() {
    let rig = Rig::start().await;
    let options = json!({"logprobs": true, "top_logprobs": 3, "max_tokens": 5});
    let answer = rig.chat("hello", options.clone()).await.ok();
    let entries = answer["choices"][0]["logprobs"]["content"].as_array().unwrap().clone();
    assert_eq!(entries.len(), 5);
    for entry in &entries {
        assert!(entry["logprob"].as_f64().unwrap() <= 0.0);
        assert!(entry["bytes"].is_array());
        let top = entry["top_logprobs"].as_array().unwrap();
        assert_eq!(top.len(), 3);
        assert_eq!(top[0]["token"], entry["token"], "greedy takes the likeliest");
    }
    let mut streamed = options;
    streamed["stream"] = json!(true);
    let chunks = rig.chat("hello", streamed).await.chunks();
    let from_chunks: Vec<Value> = chunks
        .iter()
        .filter_map(|chunk| chunk["choices"][0]["logprobs"]["content"].as_array().cloned())
        .flatten()
        .collect();
    assert_eq!(from_chunks, entries);
    let without = rig.chat("hello", json!({"logprobs": true})).await.ok();
    let entry = &without["choices"][0]["logprobs"]["content"][0];
    assert_eq!(entry["top_logprobs"], json!([]));
    rig.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bias_bans_and_forces_tokens() {
    let rig = Rig::start().await;
    // Token 68 is the byte 'A' (three control tokens come first).
    let forced = rig.chat("x", json!({"logit_bias": {"68": 100}, "max_tokens": 4})).await.ok();
    assert_eq!(forced["choices"][0]["message"]["content"], "AAAA");
    let options = json!({"max_tokens": 8, "logprobs": true});
    let bytes_of = |answer: &Value| -> Vec<Value> {
        let entries = answer["choices"][0]["logprobs"]["content"].as_array().unwrap();
        entries.iter().map(|entry| entry["bytes"].clone()).collect()
    };
    let plain = bytes_of(&rig.chat("x", options.clone()).await.ok());
    let banned_byte = plain.iter().find_map(|bytes| match bytes.as_array()?.as_slice() {
        [one] => one.as_u64(),
        _ => None,
    });
    let byte = banned_byte.expect("some token is a single byte");
    let mut banning = options;
    banning["logit_bias"] = json!({(byte + 3).to_string(): -100});
    let without = bytes_of(&rig.chat("x", banning).await.ok());
    assert!(plain.contains(&json!([byte])) && !without.contains(&json!([byte])));
    rig.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_null_content_and_unknown_members_are_taken() {
    let rig = Rig::start().await;
    let body = json!({
        "model": "tiny", "max_completion_tokens": 3, "temperature": 0, "user": "u",
        "metadata": {"a": "b"}, "store": false, "invented": [1],
        "messages": [
            {"role": "developer", "content": [{"type": "text", "text": "be brief"}]},
            {"role": "user", "content": "x"},
            {"role": "assistant", "content": null, "tool_calls": [{"id": "c", "type": "function",
                "function": {"name": "f", "arguments": "{}"}}]},
            {"role": "tool", "tool_call_id": "c", "content": "y"},
        ],
    });
    let answer = rig.post("/v1/chat/completions", &body).await.ok();
    assert_eq!(answer["usage"]["completion_tokens"], 3);
    rig.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn reasoning_stands_beside_the_content_and_is_counted() {
    let template = format!("{CHATML_TEMPLATE}{{{{ '<think>' }}}}");
    let model = TinyModel { chat_template: Some(template), ..TinyModel::default() };
    let rig = Rig::start_with(&model, |_| {}).await;
    let answer = rig.chat("x", json!({"ignore_eos": true})).await.ok();
    let message = &answer["choices"][0]["message"];
    assert!(!message["reasoning_content"].as_str().unwrap().is_empty());
    assert_eq!(message["content"], "");
    assert_eq!(answer["usage"]["completion_tokens_details"]["reasoning_tokens"], 16);
    let options = json!({"ignore_eos": true, "stream": true});
    let chunks = rig.chat("x", options).await.chunks();
    let reasoning: String = chunks
        .iter()
        .filter_map(|chunk| chunk["choices"][0]["delta"]["reasoning_content"].as_str())
        .collect();
    assert_eq!(reasoning, message["reasoning_content"]);
    rig.stop().await.unwrap();
}
