//! A disk that is full for a while, alone in its process: the limit on files holds for all of it.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeSet;

use bytes::Bytes;
use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};
use serde_json::json;
use support::batches::{after, begin, content, in_folder, line};
use support::{CHAT, Running, record};
use tokio::signal::unix::{SignalKind, signal};

/// No file grows beyond so many bytes.
fn limit_files(bytes: Option<u64>) {
    let maximum = getrlimit(Resource::Fsize).maximum;
    setrlimit(Resource::Fsize, Rlimit { current: bytes.or(maximum), maximum }).unwrap();
}

#[tokio::test]
async fn a_full_disk_costs_no_answer() {
    let folder = tempfile::tempdir().unwrap();
    let mut gateway = Running::start_with(in_folder(folder.path())).await;
    let lines: Vec<String> = (0..6).map(|at| line(&at.to_string(), "held", "")).collect();
    let begun = begin(&gateway, &lines.concat()).await;
    // Two requests run at once.
    gateway.seen.fed.recv().await.unwrap();
    gateway.seen.fed.recv().await.unwrap();
    let answer = |gateway: &Running| {
        let feed = gateway.network.take_feed();
        feed.push(Bytes::from_static(CHAT.as_bytes())).unwrap();
        feed.finish(record());
    };
    let mut refused = signal(SignalKind::from_raw(Signal::XFSZ.as_raw())).unwrap();
    // The first frame is torn.
    limit_files(Some(50));
    answer(&gateway);
    answer(&gateway);
    tokio::time::timeout(support::SOON, refused.recv()).await.expect("a write is refused");
    assert_eq!(gateway.network.runs(), 2, "nothing new begins before an answer was written down");
    limit_files(None);
    for _ in 2..6 {
        let fed = tokio::time::timeout(support::SOON, gateway.seen.fed.recv()).await;
        fed.expect("the batch goes on").unwrap();
        answer(&gateway);
    }
    let batch = after(&gateway, &begun["id"], "in_progress").await;
    assert_eq!(batch["request_counts"], json!({"total": 6, "completed": 6, "failed": 0}));
    assert_eq!(gateway.network.runs(), 6, "each request is paid once");
    let answers = content(&gateway, &batch["output_file_id"]).await;
    let names: BTreeSet<String> =
        answers.iter().map(|answer| answer["custom_id"].to_string()).collect();
    assert_eq!((answers.len(), names.len()), (6, 6));
}
