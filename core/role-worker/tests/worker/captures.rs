//! Recorded proxies of both lines: their queries are run by our worker, and its answers are
//! compared with those of the recorded worker.

use std::collections::BTreeMap;
use std::path::PathBuf;

use cocoon_role_worker::{Incoming, Run};
use cocoon_units::{RequestId, Secret};
use cocoon_wire::proxy::ToWorker;
use cocoon_wire::tcp::Packet;
use cocoon_wire::tl::{self, SecretKey};
use cocoon_wire::worker::Message;
use cocoon_wire::{e2e, e2e_json};
use serde_json::Value;

use crate::scene::Scene;

/// One-way messages of one direction of a recording; the accepted side begins with a blob.
fn messages(name: &str, with_blob: bool) -> Vec<Vec<u8>> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../testdata/captures");
    let bytes = std::fs::read(root.join(name)).unwrap();
    let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
    let mut at = if with_blob { 4 + word(0) } else { 0 };
    let mut messages = Vec::new();
    while at + 8 <= bytes.len() {
        let payload = &bytes[at + 8..at + 8 + word(at)];
        at += 8 + payload.len();
        if let Packet::Message(message) = tl::decode(payload).unwrap() {
            messages.push(message.data.0.to_vec());
        }
    }
    messages
}

/// What the recorded worker answered: refused with this code, or served.
fn recorded(name: &str) -> BTreeMap<RequestId, Option<i32>> {
    let mut outcomes = BTreeMap::new();
    for data in messages(name, true) {
        match Message::decode(&data).unwrap() {
            Message::QueryAnswerEx(m) => drop(outcomes.insert(m.request_id, None)),
            Message::QueryAnswerErrorEx(m) => {
                outcomes.entry(m.request_id).or_insert(Some(m.error_code));
            }
            _ => {}
        }
    }
    outcomes
}

fn runs(name: &str, version: i32) -> BTreeMap<RequestId, Option<Box<Run>>> {
    let mut scene = Scene::ready(version);
    let mut runs = BTreeMap::new();
    for data in messages(name, false) {
        // Payments are signed by the recorded proxy for the recorded worker.
        let ToWorker::RunQueryEx(query) = ToWorker::decode(&data).unwrap() else { continue };
        let request = query.request_id;
        match scene.message(data).unwrap().incoming {
            Some(Incoming::Run(run)) => runs.insert(request, Some(run)),
            Some(Incoming::Refuse(_)) => runs.insert(request, None),
            other => panic!("{other:?}"),
        };
    }
    runs
}

#[test]
fn queries_that_a_recorded_worker_served_are_served() {
    for (name, version) in [
        ("base/A_126_11101", 2),
        ("base/B_004_11101", 2),
        ("live/A_121_11101", 4),
        ("live/B_126_11101", 4),
    ] {
        let runs = runs(&format!("{name}.s2c.bin"), version);
        assert!(!runs.is_empty(), "{name}");
        for (request, outcome) in recorded(&format!("{name}.c2s.bin")) {
            if outcome.is_none() {
                assert!(runs.get(&request).unwrap().is_some(), "{name}: {request} was served");
            }
        }
    }
}

#[test]
fn the_recorded_encrypted_queries_open() {
    let sealed: Vec<Box<Run>> = runs("live/A_121_11101.s2c.bin", 4)
        .into_values()
        .flatten()
        .filter(|run| run.seal.is_some())
        .collect();
    assert!(sealed.len() >= 2, "a plain one and a stream");
    for run in sealed {
        let body: Value = serde_json::from_slice(run.backend.body.expose()).unwrap();
        assert_eq!(body["messages"][0]["role"], "user");
        assert!(!body.to_string().contains("ENC_"));
        assert!(body.get("is_encrypted").is_none());
    }
}

/// The seed of the recorded client that encrypted.
fn client_seed() -> SecretKey {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../testdata/captures/live.json");
    let vectors: Vec<Value> = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let is_seed = |vector: &&Value| vector["name"].as_str().unwrap().contains("client seed");
    let seed = vectors.iter().find(is_seed).unwrap()["hex"].as_str().unwrap();
    Secret::new(hex::decode(seed).unwrap().try_into().unwrap())
}

#[test]
fn the_recorded_client_can_open_our_answers() {
    let name = "live/A_121_11101.s2c.bin";
    let mut runs = runs(name, 4);
    let mut opened = 0;
    for data in messages(name, false) {
        let ToWorker::RunQueryEx(query) = ToWorker::decode(&data).unwrap() else { continue };
        let Some(Some(run)) = runs.remove(&query.request_id) else { continue };
        let Some(mut seal) = run.seal else { continue };
        let worker = e2e::public_key(&query.private_key.unwrap());
        let mut sealed = Vec::new();
        let answer = b"{\"choices\":[{\"text\":\"words\"}],\"usage\":{\"prompt_tokens\":3}}";
        seal.push(answer, &mut sealed, &mut |out| out.fill(9)).unwrap();
        let mut value: Value = serde_json::from_slice(&sealed).unwrap();
        assert_ne!(value["choices"][0]["text"], "words");
        assert!(e2e_json::open_answer(&mut value, &client_seed(), &worker).unwrap());
        assert_eq!(value, serde_json::from_slice::<Value>(answer).unwrap());
        opened += 1;
    }
    assert!(opened >= 2, "{opened} answers");
}
