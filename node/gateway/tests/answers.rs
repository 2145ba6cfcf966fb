//! Answers: whole, streamed, hidden, reported, broken, given up.

mod support;

use std::time::Duration;

use bytes::Bytes;
use cocoon_gateway::UpstreamError;
use serde_json::{Value, json};
use support::{CHAT, Running, USAGE_CHUNK, chat_body, chunk, failed, post, record};

const STREAM: &str = ",\"stream\":true";
const SOON: Duration = support::SOON;

fn events(body: &str) -> Vec<&str> {
    body.split("\n\n").filter_map(|event| event.strip_prefix("data: ")).collect()
}

#[tokio::test]
async fn a_whole_answer_passes_untouched_with_its_cost_in_headers() {
    let gateway = Running::start().await;
    let answer = gateway
        .post_with(
            "/v1/chat/completions",
            "x-request-id: mine\r\n",
            &chat_body("echo", ",\"zz\": 1.50"),
        )
        .await;
    assert_eq!((answer.status, answer.body.as_str()), (200, CHAT));
    let header = |name: &str| answer.headers.get(name).map(String::as_str);
    assert_eq!(header("x-cocoon-cost-nanoton"), Some("1234"));
    assert_eq!(header("x-cocoon-tokens-charged"), Some("56"));
    assert_eq!(header("x-cocoon-worker"), Some("abcd"));
    assert_eq!(header("x-cocoon-fake-evidence"), Some("true"));
    assert_eq!(header("x-cocoon-receipt"), Some("r-1"));
    assert_eq!(header("x-cocoon-worker-start"), Some("1.5"));
    assert_eq!(header("x-request-id"), Some("mine"));
    assert_eq!(header("content-length"), Some(CHAT.len().to_string().as_str()));
    assert_eq!(header("set-cookie"), None, "nodes have no say over cookies");
    let asked = gateway.network.last();
    assert!(asked.body.ends_with(b",\"zz\": 1.50,\"max_tokens\":10000}"));
    assert_eq!(
        (asked.path, asked.max_tokens, asked.stream),
        ("/v1/chat/completions", 10_000, false)
    );
    assert_eq!(asked.headers.len(), 1, "only the content type travels: {:?}", asked.headers);
}

#[tokio::test]
async fn wishes_travel_from_headers_and_body() {
    let gateway = Running::start_with(|config| {
        config.model_aliases.insert("gpt".into(), "echo".into());
    })
    .await;
    let headers = "x-cocoon-max-coefficient: 1500\r\nx-cocoon-tee: tdx, sev-snp\r\nauthorization: Bearer x\r\n";
    let body = chat_body(
        "gpt",
        ",\"timeout\":7,\"max_coefficient\":9,\"max_tokens\":5,\"n\":3,\"cocoon\":{\"report\":true}",
    );
    let answer = gateway.post_with("/v1/chat/completions", headers, &body).await;
    let asked = gateway.network.last();
    assert_eq!((asked.model.as_str(), asked.max_coefficient, asked.max_tokens), ("echo", 1500, 15));
    assert_eq!(
        (asked.timeout, asked.tee_kinds),
        (Duration::from_secs(7), vec!["tdx".to_owned(), "sev-snp".to_owned()])
    );
    let sent: Value = serde_json::from_slice(&asked.body).unwrap();
    assert_eq!(
        sent,
        json!({"model": "echo", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 5, "n": 3})
    );
    assert_eq!(answer.json()["cocoon"]["cost_nanoton"], 1234);
    assert_eq!(answer.json()["cocoon"]["worker"]["measurement"], "abcd");
    for (header, status) in
        [("x-cocoon-timeout: soon", 400), ("x-cocoon-wish: x", 400), ("x-cocoon-debug: on", 200)]
    {
        let answer = gateway
            .post_with("/v1/chat/completions", &format!("{header}\r\n"), &chat_body("echo", ""))
            .await;
        assert_eq!(answer.status, status, "{header}");
    }
}

#[tokio::test]
async fn usage_is_asked_for_and_hidden_again() {
    let gateway = Running::start().await;
    let plain = gateway.chat("echo", STREAM).await;
    assert_eq!(plain.headers["content-type"], "text/event-stream; charset=utf-8");
    assert_eq!(events(&plain.body), [&chunk("a"), &chunk("b"), "[DONE]"]);
    let sent: Value = serde_json::from_slice(&gateway.network.last().body).unwrap();
    assert_eq!(sent["stream_options"], json!({"include_usage": true}));
    let asked = gateway
        .chat("echo", &format!("{STREAM},\"stream_options\":{{\"include_usage\":true}}"))
        .await;
    let null = |text: &str| format!("{},\"usage\":null}}", &chunk(text)[..chunk(text).len() - 1]);
    assert_eq!(events(&asked.body), [&null("a"), &null("b"), USAGE_CHUNK, "[DONE]"]);
}

#[tokio::test]
async fn json_lines_become_events() {
    let gateway = Running::start().await;
    let answer = gateway.chat("lines", STREAM).await;
    assert_eq!(events(&answer.body), [&chunk("a"), &chunk("b"), "[DONE]"]);
    assert!(answer.complete);
}

#[tokio::test]
async fn a_report_comes_before_the_end() {
    let gateway = Running::start().await;
    let answer = gateway.chat("echo", &format!("{STREAM},\"cocoon\":{{\"report\":true}}")).await;
    let events = events(&answer.body);
    let report: Value = serde_json::from_str(events[2]).unwrap();
    assert_eq!(
        (report["choices"].clone(), &report["cocoon"]["receipt_id"]),
        (json!([]), &json!("r-1"))
    );
    assert_eq!((events.len(), events[3]), (4, "[DONE]"));
}

#[tokio::test]
async fn broken_streams_never_look_like_success() {
    let gateway = Running::start().await;
    for model in ["broken", "unfinished"] {
        let answer = gateway.chat(model, STREAM).await;
        let events = events(&answer.body);
        assert_eq!((answer.status, events[0]), (200, chunk("a").as_str()));
        let last: Value = serde_json::from_str(events.last().unwrap()).unwrap();
        assert_eq!(last["error"]["code"], "worker_lost", "{model}");
    }
    let answer = gateway.chat("broken", "").await;
    assert_eq!((answer.status, answer.code().as_str()), (502, "worker_lost"));
}

#[tokio::test]
async fn long_answers_without_events_are_cut_when_they_break() {
    let mut gateway = Running::start_with(|config| config.limits.kept_answer_bytes = 10).await;
    let body = r#"{"model":"held","input":"x","voice":"v"}"#;
    for (end, complete) in [(record(), true), (failed(UpstreamError::ProxyLost), false)] {
        let mut client = gateway.connect().await;
        client.write(post("/v1/audio/speech", "", body).as_bytes()).await;
        gateway.seen.fed.recv().await.unwrap();
        let feed = gateway.network.take_feed();
        feed.push(Bytes::from_static(b"RIFF and so on")).unwrap();
        client.until("RIFF").await;
        feed.push(Bytes::from_static(b"more")).unwrap();
        feed.finish(end);
        let answer = client.answer().await;
        assert_eq!((answer.status, answer.complete), (200, complete));
        assert!(answer.body.starts_with("RIFF and so on"));
    }
}

#[tokio::test]
async fn each_event_is_shown_when_it_comes() {
    let mut gateway = Running::start().await;
    let mut client = gateway.connect().await;
    client.write(post("/v1/chat/completions", "", &chat_body("held", STREAM)).as_bytes()).await;
    gateway.seen.fed.recv().await.unwrap();
    let feed = gateway.network.take_feed();
    for text in ["one", "two", "three"] {
        feed.push(Bytes::from(format!("data: {}\n\n", chunk(text)))).unwrap();
        client.until(text).await;
    }
    feed.finish(record());
    client.until("[DONE]").await;
}

#[tokio::test]
async fn silence_is_filled_with_comments() {
    let mut gateway = Running::start_with(|config| {
        config.defaults.keepalive_ms = 30;
        config.defaults.head_wait_ms = 30;
    })
    .await;
    let mut client = gateway.connect().await;
    client.write(post("/v1/chat/completions", "", &chat_body("held", STREAM)).as_bytes()).await;
    gateway.seen.fed.recv().await.unwrap();
    client.until(": waiting for the worker\n\n").await;
    let feed = gateway.network.take_feed();
    feed.push(Bytes::from_static(b"data: {}\n\ndata: [DONE]\n\n")).unwrap();
    feed.finish(record());
    client.until("[DONE]").await;
}

#[tokio::test]
async fn a_user_who_hangs_up_cancels_the_request() {
    let mut gateway = Running::start().await;
    for stream in ["", STREAM] {
        let mut client = gateway.connect().await;
        client.write(post("/v1/chat/completions", "", &chat_body("held", stream)).as_bytes()).await;
        gateway.seen.fed.recv().await.unwrap();
        let feed = gateway.network.take_feed();
        feed.push(Bytes::from_static(b"data: {}\n\n")).unwrap();
        if !stream.is_empty() {
            client.until("data:").await;
        }
        drop(client);
        let cancelled = tokio::time::timeout(SOON, gateway.seen.cancelled.recv()).await.unwrap();
        assert_eq!(cancelled.as_deref(), Some("held"));
        tokio::time::timeout(SOON, feed.closed()).await.unwrap();
    }
}

#[tokio::test]
async fn keep_alive_and_pipelining() {
    let gateway = Running::start().await;
    let mut client = gateway.connect().await;
    let mut text = String::new();
    for rest in ["", STREAM, ""] {
        text.push_str(&post("/v1/chat/completions", "", &chat_body("echo", rest)));
    }
    text.push_str("GET /health HTTP/1.1\r\nhost: t\r\n\r\n");
    client.write(text.as_bytes()).await;
    assert_eq!(client.answer().await.body, CHAT);
    assert!(client.answer().await.body.ends_with("data: [DONE]\n\n"));
    let third = client.answer().await;
    assert_eq!(
        (third.body.as_str(), third.headers["content-type"].as_str()),
        (CHAT, "application/json")
    );
    assert_eq!(client.answer().await.body, "{\"status\":\"ok\"}");
    client.write(b"GET /health HTTP/1.1\r\nhost: t\r\nconnection: close\r\n\r\n").await;
    assert_eq!(client.answer().await.headers["connection"], "close");
    assert!(!client.more().await, "closed as asked");
    let mut old = gateway.connect().await;
    old.write(b"GET /health HTTP/1.0\r\n\r\n").await;
    let answer = old.answer().await;
    assert!(!answer.headers.contains_key("transfer-encoding"));
    assert!(!old.more().await);
}

#[tokio::test]
async fn pages() {
    let gateway = Running::start().await;
    let get = |path: &str| gateway.send_owned(format!("GET {path} HTTP/1.1\r\nhost: t\r\n\r\n"));
    let models = get("/v1/models").await;
    assert_eq!((models.status, models.headers["content-type"].as_str()), (200, "application/json"));
    assert_eq!(models.json()["data"][0]["id"], "org/echo");
    assert_eq!(models.json()["data"][0]["workers"][0]["max_running_requests"], 60);
    assert_eq!(get("/v1/models/org/echo").await.json()["object"], "model");
    assert_eq!(get("/v1/models/org%2Fecho").await.status, 200);
    assert_eq!(get("/ready").await.json()["ready"], true);
    gateway.chat("echo", "").await;
    let stats = get("/jsonstats").await.json();
    assert_eq!(
        (&stats["stats"]["queries"][0], &stats["status"]["enabled"]),
        (&json!(1.0), &json!(true))
    );
    assert_eq!(stats["stats"]["success"].as_array().unwrap().len(), 7);
    let metrics = get("/metrics").await.body;
    assert!(metrics.contains("cocoon_gateway_requests_total{outcome=\"success\"} 1"), "{metrics}");
    assert!(metrics.contains("cocoon_gateway_cost_nanoton_total 1234"));
    assert!(get("/stats").await.body.contains("Fake evidence"));
    assert!(get("/openapi.json").await.json().is_object());
    let head = gateway.send("HEAD /health HTTP/1.1\r\nhost: t\r\nconnection: close\r\n\r\n").await;
    assert_eq!((head.status, head.body.as_str()), (200, ""));
}

#[tokio::test]
async fn web_pages_of_strangers_may_not_spend() {
    let gateway = Running::start().await;
    let from = |origin: &str, method: &str| {
        format!(
            "{method} /v1/chat/completions HTTP/1.1\r\nhost: t\r\norigin: {origin}\r\naccess-control-request-method: POST\r\naccess-control-request-headers: x-stainless-os\r\n\r\n"
        )
    };
    let allowed = gateway.send(&from("http://localhost:5173", "OPTIONS")).await;
    assert_eq!(
        (allowed.status, allowed.headers["access-control-allow-headers"].as_str()),
        (204, "x-stainless-os")
    );
    let refused = gateway.send(&from("https://evil.example", "OPTIONS")).await;
    assert_eq!(
        (refused.status, refused.headers.contains_key("access-control-allow-origin")),
        (403, false)
    );
    let headers = "origin: https://evil.example\r\n";
    let refused = gateway.post_with("/v1/chat/completions", headers, &chat_body("echo", "")).await;
    assert_eq!((refused.status, gateway.network.runs()), (403, 0));
    let plain = gateway.send("OPTIONS /v1/models HTTP/1.1\r\nhost: t\r\n\r\n").await;
    assert_eq!(plain.status, 204);
}

#[tokio::test]
async fn a_shutdown_lets_running_answers_end() {
    let mut gateway = Running::start().await;
    let mut idle = gateway.connect().await;
    let mut busy = gateway.connect().await;
    busy.write(post("/v1/chat/completions", "", &chat_body("held", STREAM)).as_bytes()).await;
    gateway.seen.fed.recv().await.unwrap();
    let feed = gateway.network.take_feed();
    feed.push(Bytes::from_static(b"data: {}\n\n")).unwrap();
    busy.until("data:").await;
    gateway.stop();
    assert!(!idle.more().await, "idle connections end at once");
    feed.push(Bytes::from_static(b"data: [DONE]\n\n")).unwrap();
    feed.finish(record());
    assert!(busy.answer().await.complete);
    tokio::time::timeout(SOON, &mut gateway.done).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_shutdown_cuts_what_does_not_end() {
    let mut gateway = Running::start_with(|config| config.limits.drain_ms = 50).await;
    let mut busy = gateway.connect().await;
    busy.write(post("/v1/chat/completions", "", &chat_body("held", "")).as_bytes()).await;
    gateway.seen.fed.recv().await.unwrap();
    gateway.stop();
    tokio::time::timeout(SOON, &mut gateway.done).await.unwrap().unwrap();
    assert_eq!(gateway.seen.cancelled.recv().await.as_deref(), Some("held"));
    assert!(!busy.more().await);
}

#[tokio::test]
async fn other_dialects_are_spoken() {
    let gateway = Running::start().await;
    let whole = gateway.post("/v1/responses", r#"{"model":"echo","input":"hi"}"#).await;
    assert_eq!(
        (whole.status, &whole.json()["output"][0]["content"][0]["text"]),
        (200, &json!("hello"))
    );
    assert_eq!(whole.headers["x-cocoon-cost-nanoton"], "1234");
    let asked = gateway.network.last();
    assert_eq!(asked.path, "/v1/chat/completions");
    let sent: Value = serde_json::from_slice(&asked.body).unwrap();
    assert_eq!(sent["messages"], json!([{"role": "user", "content": "hi"}]));
    let events =
        gateway.post("/v1/responses", r#"{"model":"echo","input":"hi","stream":true}"#).await;
    assert!(events.body.starts_with("event: response.created\n"));
    assert!(events.body.contains("event: response.completed\n") && !events.body.contains("[DONE]"));
    let sent: Value = serde_json::from_slice(&gateway.network.last().body).unwrap();
    assert_eq!(sent["stream_options"]["include_usage"], true);
    let body = |model: &str, rest: &str| {
        format!(
            "{{\"model\":\"{model}\",\"max_tokens\":5,\"messages\":[{{\"role\":\"user\",\"content\":\"hi\"}}]{rest}}}"
        )
    };
    let whole = gateway.post("/v1/messages", &body("echo", "")).await;
    assert_eq!(
        (&whole.json()["type"], &whole.json()["content"][0]["text"]),
        (&json!("message"), &json!("hello"))
    );
    let events = gateway.post("/v1/messages", &body("echo", STREAM)).await;
    assert!(events.body.ends_with("event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"));
    let broken = gateway.post("/v1/messages", &body("broken", STREAM)).await;
    assert!(broken.body.contains("event: error\n") && !broken.body.contains("message_stop"));
    let refused = gateway.post("/v1/messages", &body("busy", "")).await;
    assert_eq!(
        (refused.status, &refused.json()["error"]["type"]),
        (429, &json!("rate_limit_error"))
    );
    let broken =
        gateway.post("/v1/responses", r#"{"model":"broken","input":"hi","stream":true}"#).await;
    assert!(broken.body.contains("event: response.failed\n"));
}

#[tokio::test]
async fn forms_travel_without_our_fields() {
    let gateway = Running::start().await;
    let field = |name: &str, text: &str| {
        format!("--X\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{text}\r\n")
    };
    let body =
        [field("timeout", "9"), field("model", "echo"), field("file", "RIFF"), "--X--\r\n".into()]
            .concat();
    let request = post("/v1/audio/transcriptions", "", &body)
        .replace("application/json", "multipart/form-data;boundary=X");
    assert_eq!(gateway.send(&request).await.status, 200);
    let asked = gateway.network.last();
    assert_eq!(
        (asked.model.as_str(), asked.timeout, asked.path),
        ("echo", Duration::from_secs(9), "/v1/audio/transcriptions")
    );
    assert_eq!(asked.headers["content-type"], "multipart/form-data; boundary=X");
    assert_eq!(
        asked.body,
        [field("model", "echo"), field("file", "RIFF"), "--X--\r\n".into()].concat()
    );
    let broken = request.replace("--X--", "--X__");
    assert_eq!(gateway.send(&broken).await.status, 400);
}

#[tokio::test]
async fn what_a_model_cannot_do_is_refused_with_those_that_can() {
    let gateway = Running::start().await;
    let embed = |model: &str| format!("{{\"model\":\"{model}\",\"input\":\"x\"}}");
    let refused = gateway.post("/v1/embeddings", &embed("org/echo")).await;
    assert_eq!((refused.status, refused.code().as_str()), (404, "unsupported_by_model"));
    assert!(refused.json()["error"]["message"].as_str().unwrap().contains("embedder"));
    assert_eq!(gateway.network.runs(), 0);
    assert_eq!(gateway.post("/v1/embeddings", &embed("embedder")).await.status, 200);
    assert_eq!(gateway.network.last().max_tokens, 0);
}

#[tokio::test]
async fn a_refused_body_does_not_spoil_its_connection() {
    let gateway = Running::start().await;
    let mut client = gateway.connect().await;
    for path in ["/v1/responses/compact", "/v1/models", "/health"] {
        client.write(post(path, "", "{\"some\":\"body\"}").as_bytes()).await;
        let answer = client.answer().await;
        assert!(!answer.headers.contains_key("connection"), "{path}: {answer:?}");
    }
    client
        .write(
            format!("POST /nothing HTTP/1.1\r\nhost: t\r\ncontent-length: {}\r\n\r\n", 1 << 24)
                .as_bytes(),
        )
        .await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.headers["connection"].as_str()), (404, "close"));
}

#[tokio::test]
async fn garbage_under_a_good_status_is_told_as_the_model_servers_fault() {
    let mut gateway = Running::start().await;
    for (more, garbage) in [
        ("", "<html>log in</html>"),
        (STREAM, "<html>log in</html>"),
        ("", "{\"object\":\"list\"}"),
    ] {
        let mut client = gateway.connect().await;
        client.write(post("/v1/chat/completions", "", &chat_body("held", more)).as_bytes()).await;
        gateway.seen.fed.recv().await.unwrap();
        let feed = gateway.network.take_feed();
        feed.push(Bytes::from_static(garbage.as_bytes())).unwrap();
        feed.finish(record());
        let answer = client.answer().await;
        assert_eq!((answer.status, answer.code().as_str()), (502, "bad_answer"), "{garbage}");
        assert!(answer.body.contains("model server behind the worker is at fault"));
        assert_eq!(answer.headers.get("retry-after").map(String::as_str), Some("1"));
    }
}

#[tokio::test]
async fn whoever_asks_for_usage_sees_null_in_every_chunk_but_the_last() {
    let mut gateway = Running::start().await;
    let options = ",\"stream\":true,\"stream_options\":{\"include_usage\":true}";
    let mut client = gateway.connect().await;
    client.write(post("/v1/chat/completions", "", &chat_body("held", options)).as_bytes()).await;
    gateway.seen.fed.recv().await.unwrap();
    let feed = gateway.network.take_feed();
    for event in [&chunk("a"), &chunk("b"), USAGE_CHUNK, "[DONE]"] {
        feed.push(Bytes::from(format!("data: {event}\n\n"))).unwrap();
    }
    feed.finish(record());
    let body = client.answer().await.body;
    let seen: Vec<Value> =
        events(&body).iter().filter_map(|event| serde_json::from_str(event).ok()).collect();
    let usage: Vec<Option<bool>> =
        seen.iter().map(|chunk| chunk.get("usage").map(Value::is_null)).collect();
    assert_eq!(usage, [Some(true), Some(true), Some(false)], "{body}");
}
