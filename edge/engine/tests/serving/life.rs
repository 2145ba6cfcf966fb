//! Starting, being refused, stopping.

use std::sync::Arc;
use std::time::Duration;

use cocoon_engine::preset::Sha256;
use cocoon_engine::tiny_gguf::TinyModel;
use cocoon_engine::{EngineConfig, EngineEvent, EngineFault, run};
use serde_json::json;

use crate::rig::{Rig, chat_body, next_event, tiny_config, within};

async fn run_to_end(config: EngineConfig) -> Result<(), EngineFault> {
    within(run(config, Arc::new(|_| {}), std::future::pending())).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_start_is_told_step_by_step() {
    let rig = Rig::start().await;
    let events = rig.events.lock().unwrap().clone();
    let place = |wanted: fn(&EngineEvent) -> bool| events.iter().position(wanted).unwrap();
    let listening = place(|event| matches!(event, EngineEvent::Listening { .. }));
    let hashing = place(|event| matches!(event, EngineEvent::Hashing { .. }));
    let loading = place(|event| matches!(event, EngineEvent::Loading { .. }));
    let ready = place(|event| matches!(event, EngineEvent::Ready { .. }));
    assert!(listening < hashing && hashing < loading && loading < ready, "{events:?}");
    let Some(EngineEvent::Ready { addr, context_tokens, .. }) = events.last() else {
        panic!("ready comes last: {events:?}")
    };
    assert_eq!((*addr, *context_tokens), (rig.addr, 2048));
    rig.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_with_another_hash_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = tiny_config(dir.path(), &TinyModel::default());
    config.sha256 = Some(Sha256::new([7; 32]));
    let fault = run_to_end(config).await.unwrap_err();
    assert!(matches!(fault, EngineFault::WrongDigest { .. }), "{fault}");
    assert!(fault.to_string().contains("0707"), "{fault}");
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_are_no_model_are_refused_in_words() {
    let dir = tempfile::tempdir().unwrap();
    let good = TinyModel::default().to_bytes();
    let broken: [(&str, Vec<u8>); 4] = [
        ("text", b"this is no model".to_vec()),
        ("short", b"GG".to_vec()),
        ("cut", good[..good.len() / 2].to_vec()),
        ("version", [b"GGUF\x63\0\0\0".as_slice(), &good[8..]].concat()),
    ];
    for (name, bytes) in broken {
        let mut config = tiny_config(dir.path(), &TinyModel::default());
        config.model_path = dir.path().join(name);
        std::fs::write(&config.model_path, bytes).unwrap();
        let fault = run_to_end(config).await.unwrap_err();
        assert!(matches!(fault, EngineFault::ModelUnusable { .. }), "{name}: {fault}");
        assert!(fault.to_string().contains(name), "{fault}");
    }
    let mut config = tiny_config(dir.path(), &TinyModel::default());
    config.model_path = dir.path().join("missing");
    assert!(matches!(run_to_end(config).await, Err(EngineFault::ModelFile { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_in_use_and_a_wrong_setting_are_refused_at_once() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut config = tiny_config(dir.path(), &TinyModel::default());
    config.listen = taken.local_addr().unwrap();
    assert!(matches!(run_to_end(config.clone()).await, Err(EngineFault::Listen { .. })));
    config.threads = 0;
    assert!(matches!(run_to_end(config).await, Err(EngineFault::Configuration { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_context_is_never_larger_than_the_model_was_trained_for() {
    let model = TinyModel { context_tokens: 512, ..TinyModel::default() };
    let rig = Rig::start_with(&model, |_| {}).await;
    let body = chat_body("x", json!({"max_tokens": 9000, "ignore_eos": true}));
    let answer = rig.post("/v1/chat/completions", &body).await.ok();
    assert_eq!(answer["usage"]["total_tokens"], 512);
    rig.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_lets_an_answer_finish_within_its_grace() {
    let rig = Rig::start().await;
    let body = chat_body("x", json!({"stream": true, "max_tokens": 300, "ignore_eos": true}));
    let mut stream = rig.open("/v1/chat/completions", &body).await;
    assert!(next_event(&mut stream).await.is_some());
    let stopping = tokio::spawn(rig.stop());
    let mut last = String::new();
    while let Some(event) = next_event(&mut stream).await {
        last = event;
    }
    assert_eq!(last, "[DONE]");
    within(stopping).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_cuts_off_what_takes_longer_than_its_grace() {
    let rig = Rig::start_with(&TinyModel::default(), |config| config.shutdown_grace_ms = 1).await;
    let body = chat_body("x", json!({"stream": true, "max_tokens": 2000, "ignore_eos": true}));
    let mut stream = rig.open("/v1/chat/completions", &body).await;
    assert!(next_event(&mut stream).await.is_some());
    let begin = std::time::Instant::now();
    rig.stop().await.unwrap();
    assert!(begin.elapsed() < Duration::from_secs(30));
}
