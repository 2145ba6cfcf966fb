//! Recorded proxies of both lines answer our client: every request ends exactly once, and what
//! the session books is what the recorded proxy says it booked.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use cocoon_role_client::{AnswerEvent, Incoming};
use cocoon_units::{RequestId, Tokens};
use cocoon_wire::client::FromProxy;
use cocoon_wire::tcp::Packet;
use cocoon_wire::tl;

use crate::scene::Scene;

/// One-way messages of the accepting side of a recording.
fn messages(name: &str) -> Vec<Vec<u8>> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../testdata/captures");
    let bytes = std::fs::read(root.join(name)).unwrap();
    let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
    let mut at = 0;
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

#[derive(Default)]
struct Told {
    heads: usize,
    ends: usize,
    used: Tokens,
    booked: Option<Tokens>,
}

/// The request whose last message this may be.
fn request_of(message: &[u8]) -> Option<RequestId> {
    match FromProxy::decode(message).unwrap() {
        FromProxy::QueryAnswer(m) => Some(m.request_id),
        FromProxy::QueryAnswerEx(m) => Some(m.request_id),
        FromProxy::QueryAnswerPart(m) => Some(m.request_id),
        FromProxy::QueryAnswerPartEx(m) => Some(m.request_id),
        FromProxy::QueryAnswerError(m) => Some(m.request_id),
        FromProxy::QueryAnswerErrorEx(m) => Some(m.request_id),
        FromProxy::QueryAnswerPartError(m) => Some(m.request_id),
        _ => None,
    }
}

fn told(name: &str, version: i32) -> (Scene, BTreeMap<RequestId, Told>) {
    let mut scene = Scene::ready(version);
    let mut requests: BTreeMap<RequestId, Told> = BTreeMap::new();
    let messages = messages(name);
    let ids: BTreeSet<RequestId> = messages.iter().filter_map(|data| request_of(data)).collect();
    for id in ids {
        scene.ask(id, Tokens(1 << 20), 120_000);
    }
    for data in messages {
        match scene.message(data).unwrap().incoming {
            Some(Incoming::Answer(request, event)) => {
                let told = requests.entry(request).or_default();
                assert_eq!(told.ends, 0, "{name}: nothing follows the end");
                match event {
                    AnswerEvent::Head { status, end, .. } => {
                        assert!((200..600).contains(&status));
                        told.heads += 1;
                        told.ends += usize::from(end.is_some());
                    }
                    AnswerEvent::Part { end, .. } => {
                        assert_eq!(told.heads, 1, "{name}: a head stands before parts");
                        if let Some(charge) = end {
                            told.ends += 1;
                            told.used = charge.used.total;
                        }
                    }
                    AnswerEvent::Failed { charge, .. } => {
                        told.ends += 1;
                        told.used = charge.used.total;
                    }
                }
            }
            Some(Incoming::Booked(request, tokens)) => {
                requests.entry(request).or_default().booked = Some(tokens);
            }
            other => panic!("{name}: {other:?}"),
        }
    }
    (scene, requests)
}

#[test]
fn recorded_answers_of_both_lines_end_once_and_cost_what_was_booked() {
    for (name, version) in [
        ("base/A_140_11102", 2),
        ("base/B_005_11102", 2),
        ("live/A_123_11102", 4),
        ("live/B_124_11102", 4),
        ("live/C_008_11102", 4),
        ("live/M4_004_11102", 2),
    ] {
        let (scene, requests) = told(&format!("{name}.s2c.bin"), version);
        assert!(!requests.is_empty(), "{name}");
        let mut total = 0;
        for (request, told) in &requests {
            assert_eq!(told.ends, 1, "{name}: {request} ends");
            if let Some(booked) = told.booked {
                assert_eq!(booked, told.used, "{name}: {request}");
            }
            total += told.used.0;
        }
        let (_, contract, _) = scene.proxy();
        assert_eq!(scene.channels.channel(contract).unwrap().books.own(), Tokens(total), "{name}");
    }
}
