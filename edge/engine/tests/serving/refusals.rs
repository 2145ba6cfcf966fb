//! Every wrong request gets the right status and OpenAI's error body.

use cocoon_units::Secret;
use serde_json::{Value, json};

use crate::rig::{Rig, chat_body};

fn check(reply: &crate::rig::Reply, status: u16, param: &Value, code: Option<&str>) {
    assert_eq!(reply.status, status, "{}", reply.text);
    let body = reply.json();
    let error = body["error"].as_object().expect("an error body");
    for member in ["message", "type", "param", "code"] {
        assert!(error.contains_key(member), "{member} is missing in {body}");
    }
    assert!(error["message"].as_str().unwrap().len() > 10);
    assert_eq!(&error["param"], param, "{body}");
    if let Some(code) = code {
        assert_eq!(error["code"], code);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_parameters_are_named() {
    let rig = Rig::start().await;
    let chat = "/v1/chat/completions";
    let cases = [
        (chat, json!({"messages": [{"role": "user", "content": "x"}]}), "model"),
        (chat, json!({"model": "tiny"}), "messages"),
        (chat, json!({"model": "tiny", "messages": []}), "messages"),
        (chat, chat_body("x", json!({"temperature": 3})), "temperature"),
        (chat, chat_body("x", json!({"n": 0})), "n"),
        (chat, chat_body("x", json!({"stop": 5})), "stop"),
        (chat, chat_body("x", json!({"logit_bias": {"9999": 1}})), "logit_bias"),
        (chat, chat_body("x", json!({"top_logprobs": 2})), "top_logprobs"),
        (chat, chat_body("x", json!({"tool_choice": "required"})), "tool_choice"),
        (chat, chat_body("x", json!({"response_format": {"type": "xml"}})), "response_format.type"),
        ("/v1/completions", json!({"model": "tiny"}), "prompt"),
        ("/v1/completions", json!({"model": "tiny", "prompt": ""}), "prompt"),
        ("/v1/completions", json!({"model": "tiny", "prompt": [5000]}), "prompt"),
        ("/v1/embeddings", json!({"model": "tiny"}), "input"),
    ];
    for (path, body, param) in cases {
        check(&rig.post(path, &body).await, 400, &json!(param), None);
    }
    let image = json!([{"role": "user", "content": [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}
    ]}]);
    let reply = rig.post(chat, &json!({"model": "tiny", "messages": image})).await;
    check(&reply, 400, &json!("messages[0].content[0].type"), None);
    let schema = json!({"response_format": {"type": "json_schema", "json_schema": {
        "name": "x", "strict": true, "schema": {"type": "nonsense"}
    }}});
    let reply = rig.chat("x", schema).await;
    check(&reply, 400, &json!("response_format"), Some("invalid_schema"));
    rig.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_models_addresses_and_methods_are_told_apart() {
    let rig = Rig::start().await;
    let body = chat_body("x", json!({"model": "gpt-9"}));
    let reply = rig.post("/v1/chat/completions", &body).await;
    check(&reply, 404, &json!("model"), Some("model_not_found"));
    check(&rig.get("/v1/models/gpt-9").await, 404, &json!("model"), Some("model_not_found"));
    check(&rig.get("/v2").await, 404, &Value::Null, Some("unknown_url"));
    let reply = rig.get("/v1/chat/completions").await;
    check(&reply, 405, &Value::Null, Some("method_not_allowed"));
    check(&rig.post("/health", &json!({})).await, 405, &Value::Null, None);
    rig.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_context_is_refused_with_its_numbers() {
    let rig = Rig::start().await;
    for (path, body, param) in [
        ("/v1/chat/completions", chat_body(&"x".repeat(3000), json!({})), "messages"),
        ("/v1/completions", json!({"model": "tiny", "prompt": "x".repeat(3000)}), "prompt"),
        ("/v1/embeddings", json!({"model": "tiny", "input": "x".repeat(3000)}), "input"),
    ] {
        let reply = rig.post(path, &body).await;
        check(&reply, 400, &json!(param), Some("context_length_exceeded"));
        assert!(reply.text.contains("2048") && reply.text.contains("30"), "{}", reply.text);
    }
    let almost = chat_body(&"x".repeat(1990), json!({"max_tokens": 500, "ignore_eos": true}));
    let answer = rig.post("/v1/chat/completions", &almost).await.ok();
    assert_eq!(answer["choices"][0]["finish_reason"], "length");
    assert_eq!(answer["usage"]["total_tokens"], 2048, "the answer ends where the context does");
    rig.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_are_no_json_too_large_or_too_slow_are_refused() {
    let rig = Rig::start_with(&Default::default(), |config| {
        config.max_body_bytes = 2000;
        config.request_timeout_ms = 300;
    })
    .await;
    let head = "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\n";
    let request = |body: &str| format!("{head}content-length: {}\r\n\r\n{body}", body.len());
    for body in ["", "{", "[1]", "\u{1}", "{\"model\": \"tiny\", \"messages\": }"] {
        check(&rig.raw(&request(body)).await, 400, &Value::Null, None);
    }
    let large = chat_body(&"x".repeat(3000), json!({}));
    let reply = rig.post("/v1/chat/completions", &large).await;
    check(&reply, 413, &Value::Null, Some("request_too_large"));
    let slow = rig.raw(&format!("{head}content-length: 100\r\n\r\n{{")).await;
    check(&slow, 408, &Value::Null, Some("request_timeout"));
    rig.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_asked_for_when_one_is_set() {
    let rig = Rig::start_with(&Default::default(), |config| {
        config.api_key = Some(Secret::new("open sesame".to_owned()));
    })
    .await;
    let reply = rig.chat("x", json!({})).await;
    check(&reply, 401, &Value::Null, Some("invalid_api_key"));
    assert_eq!(rig.get("/health").await.status, 200);
    for (key, status) in [("open sesame", 200), ("open sesam", 401), ("", 401)] {
        let request = format!(
            "GET /v1/models HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
             authorization: Bearer {key}\r\n\r\n"
        );
        assert_eq!(rig.raw(&request).await.status, status);
    }
    rig.stop().await.unwrap();
}
