//! `/v1/completions`, `/v1/embeddings`, `/v1/models`.

use base64::Engine as _;
use serde_json::{Value, json};

use crate::rig::Rig;

const PATH: &str = "/v1/completions";

#[tokio::test(flavor = "multi_thread")]
async fn prompts_choices_and_echo_are_answered_in_order() {
    let rig = Rig::start().await;
    let body = json!({
        "model": "tiny", "prompt": ["one", "two"], "n": 2, "max_tokens": 4, "temperature": 0,
        "echo": true,
    });
    let answer = rig.post(PATH, &body).await.ok();
    assert_eq!(answer["object"], "text_completion");
    let texts: Vec<&str> = answer["choices"]
        .as_array()
        .unwrap()
        .iter()
        .map(|choice| choice["text"].as_str().unwrap())
        .collect();
    assert_eq!(texts.len(), 4);
    assert!(texts[0].starts_with("one") && texts[3].starts_with("two"));
    assert_eq!(texts[0], texts[1], "greedy choices are equal");
    assert_eq!(answer["usage"]["completion_tokens"], 16);
    let tokens = json!({
        "model": "tiny", "prompt": [114, 113, 104], "max_tokens": 4, "temperature": 0, "echo": true
    });
    let from_tokens = rig.post(PATH, &tokens).await.ok();
    assert!(from_tokens["choices"][0]["text"].as_str().unwrap().starts_with("one"));
    let default = json!({"model": "tiny", "prompt": "x", "ignore_eos": true});
    let answer = rig.post(PATH, &default).await.ok();
    assert_eq!(answer["usage"]["completion_tokens"], 16, "OpenAI's default for this endpoint");
    rig.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prompt_can_be_scored_without_an_answer() {
    let rig = Rig::start().await;
    let body = json!({
        "model": "tiny", "prompt": "hello in the", "max_tokens": 0, "echo": true, "logprobs": 2
    });
    let answer = rig.post(PATH, &body).await.ok();
    let choice = &answer["choices"][0];
    assert_eq!(choice["text"], "hello in the");
    let logprobs = &choice["logprobs"];
    let tokens = logprobs["tokens"].as_array().unwrap();
    let joined: String = tokens.iter().map(|token| token.as_str().unwrap()).collect();
    assert_eq!(joined, "hello in the");
    assert_eq!(logprobs["token_logprobs"][0], Value::Null);
    assert!(logprobs["token_logprobs"][1].as_f64().unwrap() <= 0.0);
    assert_eq!(logprobs["top_logprobs"][1].as_object().unwrap().len(), 2);
    let second = tokens[0].as_str().unwrap().chars().count();
    assert_eq!(logprobs["text_offset"][1], second);
    assert_eq!(answer["usage"]["completion_tokens"], 0);
    rig.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_streamed_completion_says_the_same_as_a_whole_one() {
    let rig = Rig::start().await;
    let mut body = json!({
        "model": "tiny", "prompt": "hello", "max_tokens": 8, "temperature": 0, "logprobs": 1
    });
    let whole = rig.post(PATH, &body).await.ok();
    body["stream"] = json!(true);
    body["stream_options"] = json!({"include_usage": true});
    let chunks = rig.post(PATH, &body).await.chunks();
    let choices: Vec<&Value> = chunks.iter().filter_map(|chunk| chunk["choices"].get(0)).collect();
    let text: String = choices.iter().map(|choice| choice["text"].as_str().unwrap()).collect();
    assert_eq!(text, whole["choices"][0]["text"]);
    let offsets: Vec<Value> = choices
        .iter()
        .flat_map(|choice| choice["logprobs"]["text_offset"].as_array().unwrap().clone())
        .collect();
    assert_eq!(&offsets, whole["choices"][0]["logprobs"]["text_offset"].as_array().unwrap());
    assert_eq!(choices.last().unwrap()["finish_reason"], "length");
    assert_eq!(chunks.last().unwrap()["usage"]["completion_tokens"], 8);
    rig.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn embeddings_are_unit_vectors_in_both_encodings() {
    let rig = Rig::start().await;
    let ask = async |more: Value| {
        let mut body = json!({"model": "tiny", "input": ["the cat", "another thing"]});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        rig.post("/v1/embeddings", &body).await.ok()
    };
    let floats = ask(json!({})).await;
    let vector: Vec<f64> = floats["data"][0]["embedding"]
        .as_array()
        .unwrap()
        .iter()
        .map(|value| value.as_f64().unwrap())
        .collect();
    assert_eq!(vector.len(), 64);
    let length: f64 = vector.iter().map(|value| value * value).sum();
    assert!((length - 1.0).abs() < 1e-4, "{length}");
    assert_ne!(floats["data"][0]["embedding"], floats["data"][1]["embedding"]);
    assert_eq!(floats["data"][1]["index"], 1);
    assert!(floats["usage"]["prompt_tokens"].as_u64().unwrap() > 2);
    let encoded = ask(json!({"encoding_format": "base64"})).await;
    let text = encoded["data"][0]["embedding"].as_str().unwrap();
    let bytes = base64::engine::general_purpose::STANDARD.decode(text).unwrap();
    let first = f64::from(f32::from_le_bytes(bytes[..4].try_into().unwrap()));
    assert!((first - vector[0]).abs() < 1e-6);
    let short = ask(json!({"dimensions": 8})).await;
    assert_eq!(short["data"][0]["embedding"].as_array().unwrap().len(), 8);
    // Longer than one step of the arithmetic.
    let long = json!({"model": "tiny", "input": "in the ".repeat(150)});
    let long = rig.post("/v1/embeddings", &long).await.ok();
    assert!(long["usage"]["prompt_tokens"].as_u64().unwrap() > 200);
    rig.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn models_are_listed_and_found_by_name() {
    let rig = Rig::start_with(&Default::default(), |config| {
        config.model_names.push("org/tiny v1".replace(' ', "-"));
    })
    .await;
    let list = rig.get("/v1/models").await.ok();
    assert_eq!(list["object"], "list");
    assert_eq!(list["data"][0]["id"], "tiny");
    assert_eq!(list["data"][0]["context_length"], 2048);
    assert_eq!(list["data"][1]["object"], "model");
    for path in ["/v1/models/tiny", "/v1/models/org/tiny-v1", "/v1/models/org%2Ftiny-v1"] {
        assert_eq!(rig.get(path).await.status, 200, "{path}");
    }
    assert_eq!(rig.get("/v1/models/gpt-9").await.status, 404);
    let health = rig.get("/health").await.ok();
    assert_eq!(health["status"], "ok");
    rig.stop().await.unwrap();
}
