//! Files and batches: run in the background, resumed after a restart, unreadable on the disk.
#![allow(clippy::unwrap_used)]

mod support;

use std::path::Path;

use bytes::Bytes;
use cocoon_gateway::GatewayConfig;
use cocoon_gateway::batches::BatchConfig;
use serde_json::{Value, json};
use support::{Answer, CHAT, Running, record};

fn in_folder(folder: &Path) -> impl FnOnce(&mut GatewayConfig) {
    let batches =
        BatchConfig { folder: folder.to_path_buf(), key_file: None, parallel: 2, kept_max: 10 };
    move |config| config.batches = Some(batches)
}

fn line(id: &str, model: &str, rest: &str) -> String {
    format!(
        "{{\"custom_id\":\"{id}\",\"method\":\"POST\",\"url\":\"/v1/chat/completions\",\"body\":{}}}\n",
        support::chat_body(model, rest)
    )
}

async fn upload(gateway: &Running, content: &str) -> Answer {
    let body = format!(
        "--X\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\nbatch\r\n\
         --X\r\nContent-Disposition: form-data; name=\"file\"; filename=\"in.jsonl\"\r\n\r\n{content}\r\n--X--\r\n"
    );
    let request = support::post("/v1/files", "", &body);
    gateway.send(&request.replace("application/json", "multipart/form-data; boundary=X")).await
}

async fn get(gateway: &Running, path: &str) -> Answer {
    gateway.send(&format!("GET {path} HTTP/1.1\r\nhost: t\r\n\r\n")).await
}

async fn begin(gateway: &Running, content: &str) -> Value {
    let file = upload(gateway, content).await.json();
    let batch = json!({"input_file_id": file["id"], "endpoint": "/v1/chat/completions", "completion_window": "24h", "metadata": {"k": "v"}});
    gateway.post("/v1/batches", &batch.to_string()).await.json()
}

/// Asks until the batch has left the stage.
async fn after(gateway: &Running, id: &Value, stage: &str) -> Value {
    let path = format!("/v1/batches/{}", id.as_str().unwrap());
    let deadline = tokio::time::Instant::now() + support::SOON;
    loop {
        let batch = get(gateway, &path).await.json();
        if batch["status"] != stage {
            return batch;
        }
        assert!(tokio::time::Instant::now() < deadline, "{batch}");
    }
}

async fn content(gateway: &Running, id: &Value) -> Vec<Value> {
    let answer = get(gateway, &format!("/v1/files/{}/content", id.as_str().unwrap())).await;
    answer.body.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn metadata_is_bounded_so_that_no_batch_fills_the_book() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = Running::start_with(in_folder(folder.path())).await;
    let file = upload(&gateway, &line("a", "echo", "")).await.json()["id"].clone();
    let create = async |metadata: Value| {
        let batch = json!({"input_file_id": file, "endpoint": "/v1/chat/completions", "metadata": metadata});
        gateway.post("/v1/batches", &batch.to_string()).await
    };
    let many: serde_json::Map<String, Value> =
        (0..17).map(|at| (at.to_string(), json!("v"))).collect();
    for bad in [json!({"k": "v".repeat(513)}), json!({"k".repeat(65): "v"}), json!(many)] {
        let refused = create(bad).await;
        assert_eq!((refused.status, &refused.json()["error"]["param"]), (400, &json!("metadata")));
    }
    assert_eq!(create(json!({"k": {"deep": []}})).await.status, 400, "values are text");
    assert_eq!(create(json!({"k": "v".repeat(512)})).await.status, 200);
    assert_eq!(create(Value::Null).await.status, 200);
    assert_eq!(get(&gateway, "/v1/batches").await.json()["data"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn a_batch_runs_and_its_answers_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = Running::start_with(in_folder(folder.path())).await;
    let input = [
        line("a", "echo", ""),
        line("b", "server-400", ""),
        line("c", "echo", ",\"stream\":true"),
        line("d", "echo", ""),
    ]
    .concat();
    let begun = begin(&gateway, &input).await;
    assert_eq!((&begun["object"], &begun["request_counts"]["total"]), (&json!("batch"), &json!(4)));
    let batch = after(&gateway, &begun["id"], "in_progress").await;
    assert_eq!(batch["status"], "completed");
    assert_eq!(batch["request_counts"], json!({"total": 4, "completed": 2, "failed": 2}));
    assert_eq!(batch["metadata"], json!({"k": "v"}));
    let mut good = content(&gateway, &batch["output_file_id"]).await;
    good.sort_by_key(|line| line["custom_id"].to_string());
    assert_eq!((good.len(), &good[1]["custom_id"]), (2, &json!("d")));
    assert_eq!(good[0]["response"]["body"], serde_json::from_str::<Value>(CHAT).unwrap());
    let mut bad = content(&gateway, &batch["error_file_id"]).await;
    bad.sort_by_key(|line| line["custom_id"].to_string());
    assert_eq!(bad[0]["response"]["body"]["error"]["message"], "bad prompt");
    assert_eq!(
        (&bad[1]["custom_id"], &bad[1]["response"]["status_code"]),
        (&json!("c"), &json!(400))
    );
    let files = get(&gateway, "/v1/files").await.json();
    assert_eq!(files["data"].as_array().unwrap().len(), 3);
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        assert!(!String::from_utf8_lossy(&bytes).contains("assistant"), "unreadable on the disk");
    }
    let file = batch["input_file_id"].as_str().unwrap();
    let delete = format!("DELETE /v1/files/{file} HTTP/1.1\r\nhost: t\r\n\r\n");
    assert_eq!(gateway.send(&delete).await.json()["deleted"], true);
    assert_eq!(get(&gateway, &format!("/v1/files/{file}")).await.status, 404);
}

#[tokio::test]
async fn a_batch_goes_on_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let mut gateway = Running::start_with(in_folder(folder.path())).await;
    let begun = begin(
        &gateway,
        &[line("a", "echo", ""), line("b", "held", ""), line("c", "echo", "")].concat(),
    )
    .await;
    gateway.seen.fed.recv().await.unwrap();
    let path = format!("/v1/batches/{}", begun["id"].as_str().unwrap());
    let deadline = tokio::time::Instant::now() + support::SOON;
    while get(&gateway, &path).await.json()["request_counts"]["completed"] != 2 {
        assert!(tokio::time::Instant::now() < deadline);
    }
    gateway.stop();
    (&mut gateway.done).await.unwrap();
    let mut again = Running::start_with(in_folder(folder.path())).await;
    again.seen.fed.recv().await.unwrap();
    let feed = again.network.take_feed();
    feed.push(Bytes::from_static(CHAT.as_bytes())).unwrap();
    feed.finish(record());
    let batch = after(&again, &begun["id"], "in_progress").await;
    assert_eq!(
        (&batch["status"], &batch["request_counts"]["completed"]),
        (&json!("completed"), &json!(3))
    );
    assert_eq!(content(&again, &batch["output_file_id"]).await.len(), 3);
    assert_eq!(again.network.runs(), 1, "only the request that had no answer runs again");
}

#[tokio::test]
async fn batches_are_cancelled_and_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut gateway = Running::start_with(in_folder(folder.path())).await;
    let lines: Vec<String> = (0..5).map(|index| line(&index.to_string(), "held", "")).collect();
    let begun = begin(&gateway, &lines.concat()).await;
    gateway.seen.fed.recv().await.unwrap();
    gateway.seen.fed.recv().await.unwrap();
    let cancel = format!("/v1/batches/{}/cancel", begun["id"].as_str().unwrap());
    assert_eq!(gateway.post(&cancel, "").await.json()["status"], "cancelling");
    for _ in 0..2 {
        let feed = gateway.network.take_feed();
        feed.push(Bytes::from_static(CHAT.as_bytes())).unwrap();
        feed.finish(record());
    }
    let batch = after(&gateway, &begun["id"], "cancelling").await;
    assert_eq!(
        (&batch["status"], &batch["request_counts"]["completed"]),
        (&json!("cancelled"), &json!(2))
    );
    assert_eq!(gateway.network.runs(), 2);
    let faulty = begin(&gateway, "nonsense\n").await;
    assert_eq!(
        (&faulty["status"], &faulty["errors"]["data"][0]["line"]),
        (&json!("failed"), &json!(1))
    );
    for (body, status) in [
        ("{}", 400),
        (r#"{"input_file_id":"none","endpoint":"/v1/chat/completions"}"#, 404),
        (r#"{"input_file_id":"x","endpoint":"/v1/audio/speech"}"#, 400),
        (r#"{"input_file_id":"x","endpoint":"/v1/embeddings","completion_window":"1h"}"#, 400),
    ] {
        assert_eq!(gateway.post("/v1/batches", body).await.status, status, "{body}");
    }
    assert_eq!(get(&gateway, "/v1/batches/none").await.status, 404);
    assert_eq!(get(&gateway, "/v1/batches").await.json()["data"].as_array().unwrap().len(), 2);
    let without = Running::start().await;
    assert_eq!(get(&without, "/v1/batches").await.code(), "batches_off");
}
