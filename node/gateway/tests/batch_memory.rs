//! A gateway's memory while large files come, run and go.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

mod support;

use cocoon_gateway::batches::BatchConfig;
use serde_json::{Value, json};
use support::{Client, Running};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const MIB: usize = 1 << 20;
/// The file's lines, each about a mebibyte, and so are their answers.
const LINES: usize = 128;
/// What the gateway may take beside its rest: some lines and answers, in several forms each.
const GROWTH_MAX: usize = 48 * MIB;

/// Bytes of memory at their peak since it was forgotten.
fn peak() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
}

/// Forgets the peak; how much memory is taken now.
fn forget_peak() -> usize {
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    peak()
}

async fn send(gateway: &Running) -> Client {
    let head = "--X\r\nContent-Disposition: form-data; name=\"file\"; filename=\"f\"\r\n\r\n";
    let tail =
        "\r\n--X\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\nbatch\r\n--X--\r\n";
    let pad = "x".repeat(MIB);
    let line = |number: usize| {
        format!(
            "{{\"custom_id\":\"{number:06}\",\"method\":\"POST\",\"url\":\"/v1/chat/completions\",\"body\":{}}}\n",
            support::chat_body("large", &format!(",\"user\":\"{pad}\""))
        )
    };
    let length = head.len() + LINES * line(0).len() + tail.len();
    let mut client = gateway.connect().await;
    let request = format!(
        "POST /v1/files HTTP/1.1\r\nhost: t\r\ncontent-type: multipart/form-data; boundary=X\r\ncontent-length: {length}\r\n\r\n"
    );
    client.write(request.as_bytes()).await;
    client.write(head.as_bytes()).await;
    for number in 0..LINES {
        client.write(line(number).as_bytes()).await;
    }
    client.write(tail.as_bytes()).await;
    client
}

/// Reads a file and keeps nothing; how long it was.
async fn read(gateway: &Running, id: &Value) -> usize {
    let mut client = gateway.connect().await;
    let path = format!("/v1/files/{}/content", id.as_str().unwrap());
    let request = format!("GET {path} HTTP/1.1\r\nhost: t\r\nconnection: close\r\n\r\n");
    client.stream.write_all(request.as_bytes()).await.unwrap();
    let (mut bytes, mut total) = (vec![0; 65536], 0);
    loop {
        match client.stream.read(&mut bytes).await.unwrap() {
            0 => return total,
            more => total += more,
        }
    }
}

#[tokio::test]
async fn a_large_batch_needs_little_memory() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = Running::start_with(|config| {
        config.limits.body_bytes = 2 * LINES * MIB;
        let batches = BatchConfig { parallel: 2, ..BatchConfig::in_folder(folder.path().into()) };
        config.batches = Some(batches);
    })
    .await;
    let mut grown = Vec::new();

    let rest = forget_peak();
    let file = send(&gateway).await.answer().await.json();
    grown.push(("upload", peak().saturating_sub(rest)));

    let rest = forget_peak();
    let batch = json!({"input_file_id": file["id"], "endpoint": "/v1/chat/completions"});
    let begun = gateway.post("/v1/batches", &batch.to_string()).await.json();
    let path = format!("/v1/batches/{}", begun["id"].as_str().unwrap());
    let ended = loop {
        let request = format!("GET {path} HTTP/1.1\r\nhost: t\r\n\r\n");
        let batch = gateway.send(&request).await.json();
        if batch["status"] != "in_progress" {
            break batch;
        }
        tokio::task::yield_now().await;
    };
    grown.push(("batch", peak().saturating_sub(rest)));
    assert_eq!(ended["request_counts"]["completed"], LINES, "{ended}");

    let rest = forget_peak();
    let bytes = read(&gateway, &ended["output_file_id"]).await;
    assert!(bytes > LINES * MIB, "{bytes} of {ended}");
    grown.push(("download", peak().saturating_sub(rest)));

    let mebibytes: Vec<_> = grown.iter().map(|(what, bytes)| (what, bytes / MIB)).collect();
    eprintln!("grown by MiB: {mebibytes:?}");
    assert!(grown.iter().all(|(_, bytes)| *bytes < GROWTH_MAX), "MiB: {mebibytes:?}");
}
