//! Files and batches: run in the background, resumed after a restart, unreadable on the disk.
#![allow(clippy::unwrap_used)]

mod support;

use std::path::Path;

use bytes::Bytes;
use cocoon_gateway::keys::{KeyFile, KeyLimits};
use serde_json::{Value, json};
use support::batches::{after, begin, content, form, get, in_folder, line, upload};
use support::{Answer, CHAT, Running, record};

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

/// The names of what is on the disk of files.
fn on_disk(folder: &Path) -> usize {
    let names = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
    names.filter(|name| name.to_string_lossy().starts_with("file-")).count()
}

async fn upload_as(gateway: &Running, key: &str, content: &str) -> Answer {
    let form = form(content);
    let headers = format!("authorization: Bearer {key}\r\n");
    let request = support::post("/v1/files", &headers, &form);
    gateway.send(&request.replace("application/json", "multipart/form-data; boundary=X")).await
}

#[tokio::test]
async fn one_key_cannot_take_the_room_of_all_others() {
    let folder = tempfile::tempdir().unwrap();
    let keys = folder.path().join("keys.json");
    let create =
        |name| KeyFile::open(&keys).unwrap().create(name, KeyLimits::default(), 1).unwrap().0;
    let (greedy, modest, late) = (&create("greedy"), &create("modest"), &create("late"));
    let gateway = Running::start_with(|config| {
        in_folder(&folder.path().join("batches"))(config);
        config.require_keys = Some(true);
        config.keys_file = Some(folder.path().join("keys.json"));
        if let Some(batches) = &mut config.batches {
            batches.kept_per_key_max = 4;
            batches.kept_max = 6;
        }
    })
    .await;
    let mut first = String::new();
    for _ in 0..4 {
        let kept = upload_as(&gateway, greedy, "x").await;
        assert_eq!(kept.status, 200);
        first = kept.json()["id"].as_str().unwrap().to_owned();
    }
    let full = upload_as(&gateway, greedy, "x").await;
    assert_eq!((full.status, full.code().as_str()), (400, "too_many_files_of_key"));
    assert!(full.body.contains("at most 4 files and batches of one API key"), "{}", full.body);
    for _ in 0..2 {
        assert_eq!(upload_as(&gateway, modest, "x").await.status, 200, "others have their room");
    }
    let full = upload_as(&gateway, late, "x").await;
    assert_eq!((full.status, full.code().as_str()), (400, "too_many_files"));
    let headers = format!("authorization: Bearer {greedy}\r\n");
    // A batch takes three places: its own, and those of its results.
    let batch = json!({"input_file_id": first, "endpoint": "/v1/chat/completions"});
    let refused = gateway.post_with("/v1/batches", &headers, &batch.to_string()).await;
    assert_eq!((refused.status, refused.code().as_str()), (400, "too_many_files_of_key"));
    let delete = format!("DELETE /v1/files/{first} HTTP/1.1\r\nhost: t\r\n{headers}\r\n");
    assert_eq!(gateway.send(&delete).await.status, 200);
    assert_eq!(upload_as(&gateway, late, "x").await.status, 200);
}

#[tokio::test]
async fn what_has_no_room_is_refused_before_it_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = Running::start_with(|config| {
        in_folder(folder.path())(config);
        if let Some(batches) = &mut config.batches {
            batches.kept_bytes = 5000;
        }
    })
    .await;
    let kept = upload(&gateway, &"x".repeat(3000)).await;
    assert_eq!(kept.status, 200);
    let full = upload(&gateway, &"x".repeat(3000)).await;
    assert_eq!((full.status, full.code().as_str()), (400, "too_many_files"));
    assert!(full.body.contains("at most 5000 bytes of files of all its users"), "{}", full.body);
    let id = kept.json()["id"].as_str().unwrap().to_owned();
    let delete = format!("DELETE /v1/files/{id} HTTP/1.1\r\nhost: t\r\n\r\n");
    assert_eq!(gateway.send(&delete).await.status, 200);
    assert_eq!(upload(&gateway, &"x".repeat(3000)).await.status, 200);
}

#[tokio::test]
async fn what_is_no_whole_file_leaves_nothing_on_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = Running::start_with(|config| {
        in_folder(folder.path())(config);
        // Long enough for a busy machine to pass a MiB.
        config.limits.body_pause_ms = 2000;
        if let Some(batches) = &mut config.batches {
            batches.file_bytes = 1 << 20;
        }
    })
    .await;
    let large = upload(&gateway, &"x".repeat((1 << 20) + 1)).await;
    assert_eq!((large.status, large.code().as_str()), (413, "file_too_large"));
    let limit = upload(&gateway, &"x".repeat(1 << 20)).await;
    assert_eq!((limit.status, &limit.json()["bytes"]), (200, &json!(1 << 20)));
    // A chunked one does not say how long it is.
    let mut endless = gateway.connect().await;
    endless
        .write(b"POST /v1/files HTTP/1.1\r\nhost: t\r\ncontent-type: multipart/form-data; boundary=X\r\ntransfer-encoding: chunked\r\n\r\n")
        .await;
    let head = "--X\r\nContent-Disposition: form-data; name=\"file\"; filename=\"f\"\r\n\r\n";
    endless.write(format!("{:x}\r\n{head}\r\n", head.len()).as_bytes()).await;
    let chunk = format!("10000\r\n{}\r\n", "x".repeat(65536));
    for _ in 0..18 {
        endless.write(chunk.as_bytes()).await;
    }
    assert_eq!(endless.answer().await.status, 413);
    let mut broken_off = gateway.connect().await;
    broken_off
        .write(b"POST /v1/files HTTP/1.1\r\nhost: t\r\ncontent-type: multipart/form-data; boundary=X\r\ncontent-length: 900000\r\n\r\n")
        .await;
    broken_off.write(format!("{head}{}", "x".repeat(600_000)).as_bytes()).await;
    assert_eq!(broken_off.answer().await.status, 408);
    let no_purpose = form("x").replace("purpose", "porpoise");
    let request = support::post("/v1/files", "", &no_purpose);
    let request = request.replace("application/json", "multipart/form-data; boundary=X");
    let refused = gateway.send(&request).await;
    assert_eq!((refused.status, &refused.json()["error"]["param"]), (400, &json!("purpose")));
    let deadline = tokio::time::Instant::now() + support::SOON;
    while on_disk(folder.path()) > 1 {
        assert!(tokio::time::Instant::now() < deadline, "what was spooled is removed");
        tokio::task::yield_now().await;
    }
    let id = limit.json()["id"].as_str().unwrap().to_owned();
    let content = get(&gateway, &format!("/v1/files/{id}/content")).await;
    assert_eq!((content.body.len(), content.complete), (1 << 20, true));
}

#[tokio::test]
async fn a_damaged_file_is_cut_off_and_not_shown_as_whole() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = Running::start_with(in_folder(folder.path())).await;
    let id = upload(&gateway, &"x".repeat(2 << 20)).await.json()["id"].as_str().unwrap().to_owned();
    let path = folder.path().join(&id);
    let mut bytes = std::fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let content = get(&gateway, &format!("/v1/files/{id}/content")).await;
    assert_eq!((content.status, content.complete), (200, false));
    bytes[40] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    assert_eq!(get(&gateway, &format!("/v1/files/{id}/content")).await.status, 500);
    std::fs::write(&path, b"").unwrap();
    assert_eq!(get(&gateway, &format!("/v1/files/{id}/content")).await.status, 500);
}

/// A key whose requests find no worker for long does not hold up those of others.
#[tokio::test]
async fn keys_take_turns() {
    let folder = tempfile::tempdir().unwrap();
    let keys = folder.path().join("keys.json");
    let create =
        |name| KeyFile::open(&keys).unwrap().create(name, KeyLimits::default(), 1).unwrap().0;
    let users = [create("hopeless"), create("other")];
    let gateway = Running::start_with(|config| {
        in_folder(&folder.path().join("batches"))(config);
        config.require_keys = Some(true);
        config.keys_file = Some(folder.path().join("keys.json"));
    })
    .await;
    let mut begun = Vec::new();
    for (key, model) in users.iter().zip(["no-worker", "echo"]) {
        let lines: Vec<String> = (0..6).map(|at| line(&at.to_string(), model, "")).collect();
        let file = upload_as(&gateway, key, &lines.concat()).await.json()["id"].clone();
        let batch = json!({"input_file_id": file, "endpoint": "/v1/chat/completions"});
        let headers = format!("authorization: Bearer {key}\r\n");
        let made = gateway.post_with("/v1/batches", &headers, &batch.to_string()).await;
        begun.push(made.json()["id"].as_str().unwrap().to_owned());
    }
    let show = async |user: usize| {
        let get = format!(
            "GET /v1/batches/{} HTTP/1.1\r\nhost: t\r\nauthorization: Bearer {}\r\n\r\n",
            begun[user], users[user]
        );
        gateway.send(&get).await.json()
    };
    let deadline = tokio::time::Instant::now() + support::SOON;
    while show(1).await["status"] != "completed" {
        assert!(tokio::time::Instant::now() < deadline, "{}", show(1).await);
    }
    assert_eq!(show(1).await["request_counts"]["completed"], 6);
    assert_eq!(show(0).await["status"], "in_progress");
}

/// Batches behind one whose input cannot be read go on, and it says why it did not.
#[tokio::test]
async fn a_damaged_input_ends_its_batch_alone() {
    let folder = tempfile::tempdir().unwrap();
    let mut gateway = Running::start_with(|config| {
        in_folder(folder.path())(config);
        if let Some(batches) = &mut config.batches {
            batches.kept_max = 100;
        }
    })
    .await;
    let first = begin(&gateway, &line("a", "held", "")).await;
    gateway.seen.fed.recv().await.unwrap();
    let mut damaged = Vec::new();
    for _ in 0..2 {
        let batch = begin(&gateway, &line("a", "echo", "")).await;
        let path = folder.path().join(batch["input_file_id"].as_str().unwrap());
        let mut bytes = std::fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(&path, bytes).unwrap();
        damaged.push(batch);
    }
    let last = begin(&gateway, &line("a", "echo", "")).await;
    let cancel = format!("/v1/batches/{}/cancel", damaged[1]["id"].as_str().unwrap());
    assert_eq!(gateway.post(&cancel, "").await.json()["status"], "cancelling");
    let feed = gateway.network.take_feed();
    feed.push(Bytes::from_static(CHAT.as_bytes())).unwrap();
    feed.finish(record());
    assert_eq!(after(&gateway, &first["id"], "in_progress").await["status"], "completed");
    let failed = after(&gateway, &damaged[0]["id"], "in_progress").await;
    let fault = &failed["errors"]["data"][0];
    assert_eq!((&failed["status"], &fault["code"]), (&json!("failed"), &json!("damaged_file")));
    assert_eq!((&fault["line"], failed["failed_at"].is_u64()), (&Value::Null, true));
    assert!(fault["message"].as_str().unwrap().contains("is damaged"), "{failed}");
    let cancelled = after(&gateway, &damaged[1]["id"], "cancelling").await;
    assert_eq!(cancelled["status"], "cancelled");
    assert_eq!(after(&gateway, &last["id"], "in_progress").await["status"], "completed");
}
