//! Recorded connections of the reference, both lines: every byte is read and written again.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use bytes::{Buf as _, BytesMut};
use cocoon_units::{PublicKey, RequestId, Secret};
use cocoon_wire::frame::{FrameReader, FrameWriter};
use cocoon_wire::peer_info::{Line, PeerInfo};
use cocoon_wire::pow::{CHALLENGE_BYTES, Challenge, DIFFICULTY_MAX, RESPONSE_BYTES, Response};
use cocoon_wire::tl::{Blob, decode, encode};
use cocoon_wire::{catalogue, client, e2e, e2e_json, http, key_manager, proxy, socks, tcp, worker};
use serde_json::Value;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/captures")
}

/// One direction of one recorded connection.
struct Recording {
    name: String,
    /// From the side that connected.
    from_dialer: bool,
    port: u16,
    bytes: BytesMut,
}

fn recordings() -> Vec<Recording> {
    let mut found = Vec::new();
    for line in ["base", "live"] {
        for entry in std::fs::read_dir(folder().join(line)).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            let Some((connection, direction)) = name.split_once('.') else { continue };
            found.push(Recording {
                from_dialer: direction == "c2s.bin",
                port: connection.rsplit('_').next().unwrap().parse().unwrap(),
                bytes: BytesMut::from(std::fs::read(&path).unwrap().as_slice()),
                name,
            });
        }
    }
    assert!(found.len() >= 140, "only {} recordings", found.len());
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

/// Takes what precedes the frames and checks that it is written as it was read.
fn take_prelude(recording: &mut Recording) -> BTreeSet<&'static str> {
    let mut seen = BTreeSet::new();
    let bytes = &mut recording.bytes;
    let at_router = (8116..=8117).contains(&recording.port);
    if at_router && recording.from_dialer {
        let (methods, taken) = socks::decode_greeting(bytes).unwrap().unwrap();
        assert_eq!((methods, &bytes[..taken]), (&[0u8][..], &socks::GREETING[..]));
        bytes.advance(taken);
        let request = *bytes.first_chunk().unwrap();
        let target = socks::decode_connect(&request).unwrap();
        assert_eq!(socks::encode_connect(target), request);
        bytes.advance(request.len());
        seen.insert("socks request");
    } else if at_router && !bytes.is_empty() {
        let method = *bytes.first_chunk().unwrap();
        assert_eq!(socks::encode_method(socks::decode_method(method).unwrap()), method);
        bytes.advance(method.len());
        if let Some(reply) = bytes.first_chunk().copied() {
            let bound = socks::decode_granted(&reply).unwrap();
            assert_eq!(socks::encode_granted(bound), reply);
            bytes.advance(reply.len());
            seen.insert("socks reply");
        }
    }
    if at_router != recording.from_dialer && !bytes.is_empty() {
        let line = if bytes.get(4..8) == Some(&[2, 0, 0, 0]) { Line::Live } else { Line::Base };
        let (info, taken) = PeerInfo::decode_prefixed(bytes, line).unwrap().unwrap();
        let mut out = Vec::new();
        info.encode_prefixed(&mut out, line).unwrap();
        assert_eq!(out, &bytes[..taken]);
        seen.insert(if line == Line::Live { "peer info live" } else { "peer info base" });
        drop(info);
        bytes.advance(taken);
    }
    seen
}

/// Packets of one direction.
fn take_packets(recording: &mut Recording) -> Vec<Vec<u8>> {
    let whole = recording.bytes.clone();
    let (mut reader, mut writer) = (FrameReader::new(), FrameWriter::new());
    let mut again = BytesMut::new();
    let mut payloads = Vec::new();
    while let Some(payload) = reader.next_payload(&mut recording.bytes).unwrap() {
        let packet: tcp::Packet = decode(&payload).unwrap();
        writer.write(&mut again, &packet).unwrap();
        payloads.push(payload.to_vec());
    }
    assert!(recording.bytes.is_empty(), "{} ends within a frame", recording.name);
    assert_eq!(again, whole, "{}", recording.name);
    payloads
}

/// Reads an object by its own id and writes it again.
fn check_object(bytes: &[u8], seen: &mut BTreeMap<&'static str, usize>) {
    let entry = catalogue::find(bytes).expect("unknown constructor");
    assert_eq!((entry.reencode)(bytes).as_deref(), Ok(bytes), "{}", entry.name);
    *seen.entry(entry.name).or_default() += 1;
}

/// Reads a message by its place in the session; gives the nested HTTP object.
fn nested_of_message(bytes: &[u8], from_dialer: bool) -> Option<Blob<'_>> {
    use client::{FromProxy, Message as FromClient};
    use worker::Message as FromWorker;
    if from_dialer {
        match FromClient::decode(bytes).unwrap() {
            FromClient::RunQuery(query) => return Some(query.query),
            FromClient::RunQueryEx(query) => return Some(query.query),
            FromClient::CancelQuery(_) | FromClient::OnlyWorkers(_) => {
                panic!("the reference does not know this")
            }
            FromClient::Unknown(_) => {}
        }
        match FromWorker::decode(bytes).unwrap() {
            FromWorker::QueryAnswerEx(answer) => Some(answer.answer),
            FromWorker::QueryAnswer(answer) => Some(answer.answer),
            FromWorker::Unknown(id) => panic!("{id:08x} is no message of a client or worker"),
            _ => None,
        }
    } else {
        match FromProxy::decode(bytes).unwrap() {
            FromProxy::QueryAnswerEx(answer) => return Some(answer.answer),
            FromProxy::QueryAnswer(answer) => return Some(answer.answer),
            FromProxy::Unknown(_) => {}
            _ => return None,
        }
        match proxy::ToWorker::decode(bytes).unwrap() {
            proxy::ToWorker::RunQueryEx(query) => Some(query.query),
            proxy::ToWorker::RunQuery(query) => Some(query.query),
            proxy::ToWorker::Unknown(id) => panic!("{id:08x} is no message of a proxy"),
            _ => None,
        }
    }
}

/// Reads a query by its place in the session.
fn check_query(bytes: &[u8], from_dialer: bool) {
    let known = if from_dialer {
        !matches!(client::Query::decode(bytes).unwrap(), client::Query::Unknown(_))
            || !matches!(worker::Query::decode(bytes).unwrap(), worker::Query::Unknown(_))
            || !matches!(key_manager::Query::decode(bytes).unwrap(), key_manager::Query::Unknown(_))
    } else {
        matches!(proxy::WorkerQuery::decode(bytes).unwrap(), proxy::WorkerQuery::ChangeModel(_))
    };
    assert!(known, "query {bytes:02x?} has no place");
}

#[test]
fn every_recorded_byte_is_read_and_written_again() {
    let mut objects = BTreeMap::new();
    let mut preludes = BTreeSet::new();
    for mut recording in recordings() {
        preludes.extend(take_prelude(&mut recording));
        for payload in take_packets(&mut recording) {
            check_object(&payload, &mut objects);
            match decode::<tcp::Packet>(&payload).unwrap() {
                tcp::Packet::Message(message) => {
                    check_object(message.data.0, &mut objects);
                    if let Some(http) = nested_of_message(message.data.0, recording.from_dialer) {
                        check_object(http.0, &mut objects);
                    }
                }
                tcp::Packet::Query(query) => {
                    check_object(query.data.0, &mut objects);
                    check_query(query.data.0, recording.from_dialer);
                }
                tcp::Packet::QueryAnswer(answer) => check_object(answer.data.0, &mut objects),
                _ => {}
            }
        }
    }
    let expected = ["peer info base", "peer info live", "socks reply", "socks request"];
    assert_eq!(preludes.into_iter().collect::<Vec<_>>(), expected);
    for name in [
        "client.queryAnswerErrorEx",
        "client.queryAnswerError",
        "client.workerTypesV2",
        "http.request",
        "http.response",
        "keyManager.getProxyPrivateKeys",
        "proxy.runQueryEx",
        "proxy.workerRequestPayment",
        "tcp.pong",
        "tcp.queryError",
        "worker.changeModel",
        "worker.connectToProxy",
        "worker.newCoefficient",
    ] {
        assert!(objects.contains_key(name), "{name} does not occur: {objects:?}");
    }
}

#[test]
fn recorded_work_is_accepted() {
    let text = std::fs::read_to_string(folder().join("pow.json")).unwrap();
    let cases: Vec<BTreeMap<String, String>> = serde_json::from_str(&text).unwrap();
    assert!(cases.len() > 30);
    for case in cases {
        let challenge: [u8; CHALLENGE_BYTES] =
            hex::decode(&case["challenge"]).unwrap().try_into().unwrap();
        let response: [u8; RESPONSE_BYTES] =
            hex::decode(&case["response"]).unwrap().try_into().unwrap();
        let read = Challenge::decode(&challenge, DIFFICULTY_MAX).unwrap();
        assert_eq!(read.encode(), challenge);
        let found = Response::decode(&response).unwrap();
        assert!(read.accepts(found), "{}", case["connection"]);
        assert_eq!(found.encode(), response);
        assert!(!read.accepts(Response { nonce: found.nonce ^ 1 }));
    }
}

fn live_vectors() -> Vec<Value> {
    serde_json::from_str(&std::fs::read_to_string(folder().join("live.json")).unwrap()).unwrap()
}

#[test]
fn recorded_kinds_of_frames_are_what_they_are_called() {
    let mut count = 0;
    for case in live_vectors() {
        let Some(decoded) = case.get("decoded") else { continue };
        let payload = hex::decode(case["hex"].as_str().unwrap()).unwrap();
        let entry = catalogue::find(&payload).unwrap();
        assert_eq!(entry.name, decoded["@"].as_str().unwrap());
        assert_eq!((entry.reencode)(&payload).as_deref(), Ok(payload.as_slice()));
        let packet: tcp::Packet = decode(&payload).unwrap();
        let data = match &packet {
            tcp::Packet::Message(message) => message.data,
            tcp::Packet::Query(query) => query.data,
            tcp::Packet::QueryAnswer(answer) => answer.data,
            _ => Blob(&[]),
        };
        let name = catalogue::find(data.0).map(|entry| entry.name);
        assert_eq!(name, decoded["data"]["@"].as_str(), "{}", case["name"]);
        if let Ok(client::Message::RunQueryEx(query)) = client::Message::decode(data.0) {
            let fields = &decoded["data"];
            assert_eq!(i64::from(query.max_tokens), fields["max_tokens"].as_i64().unwrap());
            assert_eq!(query.timeout, fields["timeout"].as_f64().unwrap());
            assert_eq!(format!("hex:{}", query.request_id), fields["request_id"].as_str().unwrap());
            assert_eq!(query.enable_debug, fields["enable_debug"].as_bool());
            let request: http::Request = decode(query.query.0).unwrap();
            assert_eq!(request.headers.len(), fields["query"]["headers"].as_array().unwrap().len());
        }
        count += 1;
    }
    assert_eq!(count, 47);
}

/// Bodies of encrypted answers in a recording of a client, by request.
fn encrypted_requests(payloads: &[Vec<u8>]) -> BTreeMap<RequestId, Vec<u8>> {
    let mut found = BTreeMap::new();
    for payload in payloads {
        let Ok(tcp::Packet::Message(message)) = decode(payload) else { continue };
        if let Ok(client::Message::RunQueryEx(query)) = client::Message::decode(message.data.0)
            && query.public_key.is_some_and(|key| !key.is_zero())
        {
            let request: http::Request = decode(query.query.0).unwrap();
            found.insert(query.request_id, request.payload.0.to_vec());
        }
    }
    found
}

#[test]
fn the_recorded_encrypted_exchange_opens() {
    let vectors = live_vectors();
    let seed =
        vectors.iter().find(|v| v["name"].as_str().unwrap().contains("client seed")).unwrap();
    let seed = hex::decode(seed["hex"].as_str().unwrap()).unwrap();
    let client_seed = Secret::new(<[u8; 32]>::try_from(seed).unwrap());
    let side = |name: &str| {
        let mut recording =
            recordings().into_iter().find(|r| r.name == name).expect("recording is missing");
        take_prelude(&mut recording);
        take_packets(&mut recording)
    };
    // The worker's side: the private key comes with the query.
    let mut worker_key = None;
    for payload in side("A_121_11101.s2c.bin") {
        let Ok(tcp::Packet::Message(message)) = decode(&payload) else { continue };
        let Ok(proxy::ToWorker::RunQueryEx(query)) = proxy::ToWorker::decode(message.data.0) else {
            continue;
        };
        let request: http::Request = decode(query.query.0).unwrap();
        let Ok(mut value) = serde_json::from_slice::<Value>(request.payload.0) else { continue };
        if let Some(answer_key) =
            e2e_json::open_request(&mut value, query.private_key.as_ref()).unwrap()
        {
            assert_eq!(value["messages"][0]["role"], "user");
            worker_key = query.private_key.map(|key| (e2e::public_key(&key), answer_key));
        }
    }
    let (worker_public, _) = worker_key.expect("an encrypted request was recorded");
    let requests = encrypted_requests(&side("A_123_11102.c2s.bin"));
    assert!(requests.len() >= 2);
    let opened =
        open_answers(&side("A_123_11102.s2c.bin"), &requests, &client_seed, &worker_public);
    assert!(opened >= 2, "{opened} values of encrypted answers were opened");
}

/// Opens every JSON value of the answers to `requests`.
fn open_answers(
    payloads: &[Vec<u8>],
    requests: &BTreeMap<RequestId, Vec<u8>>,
    client_seed: &Secret<[u8; 32]>,
    worker_public: &PublicKey,
) -> usize {
    let mut bodies: BTreeMap<RequestId, Vec<u8>> = BTreeMap::new();
    for payload in payloads {
        let Ok(tcp::Packet::Message(message)) = decode(payload) else { continue };
        if let Ok(client::FromProxy::QueryAnswerPartEx(part)) =
            client::FromProxy::decode(message.data.0)
            && requests.contains_key(&part.request_id)
        {
            bodies.entry(part.request_id).or_default().extend_from_slice(part.answer.0);
        }
    }
    let mut opened = 0;
    for body in bodies.values() {
        for value in serde_json::Deserializer::from_slice(body).into_iter::<Value>() {
            let mut value = value.unwrap();
            let sealed = value.to_string();
            if e2e_json::open_answer(&mut value, client_seed, worker_public).unwrap() {
                assert!(!value.to_string().contains("ENC_"));
                // A value with the usage alone holds no text.
                opened += usize::from(sealed.contains("ENC_"));
            }
        }
    }
    opened
}

#[test]
fn our_own_cancel_is_a_message_of_both_hops() {
    let cancel = cocoon_wire::cocoon::CancelQuery { request_id: RequestId([5; 32]) };
    let bytes = encode(&cancel);
    assert_eq!(bytes.len(), 36);
    assert_eq!(client::Message::decode(&bytes), Ok(client::Message::CancelQuery(cancel)));
    assert!(
        matches!(proxy::ToWorker::decode(&bytes), Ok(proxy::ToWorker::CancelQuery(c)) if c == cancel)
    );
}
