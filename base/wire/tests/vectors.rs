//! Bytes computed by others.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use bytes::BytesMut;
use cocoon_units::{ImageHash, PublicKey, RequestId, Secret};
use cocoon_wire::client::{self, ProxyConnectionAuth, ProxyConnectionAuthShort, VersionRange};
use cocoon_wire::e2e::{self, Direction, DirectionSecret};
use cocoon_wire::frame::{FrameReader, FrameWriter};
use cocoon_wire::image_hash::{TdxMeasurements, sev_image_hash, sgx_image_hash};
use cocoon_wire::peer_info::{Attestation, Line, PeerInfo};
use cocoon_wire::pow::{Challenge, Response, Solver};
use cocoon_wire::proxy::{self, SignedPayment};
use cocoon_wire::tl::{Blob, Boxed, Extensions, Reader, Text, Tl, decode, encode, write_bytes};
use cocoon_wire::{catalogue, http, key_manager, sealed_key, tcp, worker};
use serde_json::Value;

const OWNER: &str = "EQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAM9c";
const PAYMENT: [u8; 13] = [0xb5, 0xee, 0x9c, 0x72, 1, 1, 1, 1, 0, 2, 0, 0, 0];

fn vectors() -> Value {
    serde_json::from_str(include_str!("../../../testdata/wire-vectors.json")).unwrap()
}

fn bytes(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().unwrap()).unwrap()
}

/// The value writes the vector, and the vector reads as something that writes it again.
#[track_caller]
fn same<'tl, T: Boxed<'tl>>(name: &str, value: &T) {
    let expected = bytes(&vectors()["messages"][name]);
    let written = encode(value);
    assert_eq!(hex::encode(&written), hex::encode(&expected), "{name}");
    assert_eq!(written.len(), value.boxed_size());
    assert_eq!((catalogue::find(&expected).unwrap().reencode)(&expected), Ok(expected));
}

#[test]
fn strings_have_their_padding() {
    for case in vectors()["tl_string"].as_array().unwrap() {
        let length = usize::try_from(case["len"].as_u64().unwrap()).unwrap();
        let mut out = Vec::new();
        write_bytes(&mut out, &vec![0x41; length]);
        assert_eq!(out.len() as u64, case["total"].as_u64().unwrap());
        assert!(out.starts_with(&bytes(&case["header"])), "{case}");
        if let Some(full) = case["full"].as_str() {
            assert_eq!(hex::encode(&out), full);
        }
        let mut reader = Reader::new(&out);
        assert_eq!(reader.bytes().unwrap().len(), length);
        reader.finish().unwrap();
    }
}

#[test]
fn scalars_are_little_endian() {
    fn written<'tl>(value: impl Tl<'tl>) -> String {
        let mut out = Vec::new();
        value.write(&mut out);
        assert_eq!(out.len(), value.size());
        hex::encode(out)
    }
    let found = [
        ("int_minus1", written(-1i32)),
        ("int_1000", written(1000i32)),
        ("long_5e9", written(5_000_000_000i64)),
        ("double_120", written(120.0f64)),
        ("double_114", written(114.0f64)),
        ("bool_true", written(true)),
        ("bool_false", written(false)),
        ("vector_of_2_ints_1_2", written(vec![1i32, 2])),
        ("empty_vector", written(Vec::<i32>::new())),
    ];
    let expected = vectors();
    let expected = expected["tl_scalars"].as_object().unwrap();
    assert_eq!(found.len(), expected.len());
    for (name, hex) in found {
        assert_eq!(Value::String(hex), expected[name], "{name}");
    }
}

#[test]
fn packets_are_those_of_the_vectors() {
    let (id, ping) = (0x0102_0304_0506_0708, 0x1122_3344_5566_7788);
    let data = encode(&worker::EnabledDisabled { disabled: 1 });
    let query = encode(&client::GetWorkerTypesV2 {});
    let answer = encode(&client::WorkerTypesV2 { types: Vec::new() });
    let message = Text::from("proxy is disabled");
    let found = [
        ("connect", tcp::Packet::Connect(tcp::Connect { id })),
        ("connected", tcp::Packet::Connected(tcp::Connected { id })),
        ("ping", tcp::Packet::Ping(tcp::Ping { id: ping })),
        ("pong", tcp::Packet::Pong(tcp::Pong { id: ping })),
        (
            "packet_with_worker_enabledDisabled_1",
            tcp::Packet::Message(tcp::Message { data: Blob(&data) }),
        ),
        ("query_getWorkerTypesV2", tcp::Packet::Query(tcp::Query { id: 77, data: Blob(&query) })),
        (
            "queryAnswer_empty_workerTypesV2",
            tcp::Packet::QueryAnswer(tcp::QueryAnswer { id: 77, data: Blob(&answer) }),
        ),
        ("queryError_651", tcp::Packet::QueryError(tcp::QueryError { id: 77, code: 651, message })),
    ];
    let vectors = vectors();
    assert_eq!(found.len(), vectors["tcp"].as_object().unwrap().len());
    for (name, packet) in found {
        let expected = bytes(&vectors["tcp"][name]);
        assert_eq!(hex::encode(encode(&packet)), hex::encode(&expected), "{name}");
        assert_eq!(decode::<tcp::Packet>(&expected), Ok(packet));
    }
}

#[test]
fn packets_in_place_are_the_same() {
    let message = worker::EnabledDisabled { disabled: 1 };
    let data = encode(&message);
    let mut out = Vec::new();
    tcp::write_message(&mut out, &message);
    assert_eq!(out, encode(&tcp::Message { data: Blob(&data) }));
    assert_eq!(out.len(), tcp::message_size(&message));
    out.clear();
    tcp::write_query(&mut out, -7, &message);
    assert_eq!(out, encode(&tcp::Query { id: -7, data: Blob(&data) }));
    assert_eq!(out.len(), tcp::query_size(&message));
    out.clear();
    tcp::write_answer(&mut out, -7, &message);
    assert_eq!(out, encode(&tcp::QueryAnswer { id: -7, data: Blob(&data) }));
}

#[test]
fn frames_are_numbered() {
    let vectors = vectors();
    for side in ["client_side", "server_side"] {
        let frames: Vec<_> =
            vectors["frames"][side].as_array().unwrap().iter().map(bytes).collect();
        let mut buffer = BytesMut::from(frames.concat().as_slice());
        let (mut reader, mut writer) = (FrameReader::new(), FrameWriter::new());
        for frame in &frames {
            let payload = reader.next_payload(&mut buffer).unwrap().unwrap();
            let mut out = BytesMut::new();
            writer.write(&mut out, &decode::<tcp::Packet>(&payload).unwrap()).unwrap();
            assert_eq!(&out, frame);
        }
        assert_eq!(reader.next_payload(&mut buffer), Ok(None));
        assert_eq!(reader.next_seqno(), 3);
    }
}

fn proxy_params(proto_version: Option<i32>) -> proxy::Params<'static> {
    proxy::Params {
        extensions: Extensions::NONE,
        proxy_public_key: PublicKey([0x11; 32]),
        proxy_owner_address: OWNER.into(),
        proxy_sc_address: OWNER.into(),
        is_test: Some(false),
        proto_version,
    }
}

#[test]
fn client_handshake_is_that_of_the_vectors() {
    for (name, max) in [("client_connectToProxy_max2", 2), ("client_connectToProxy_max4", 4)] {
        let params = client::Params {
            extensions: Extensions::NONE,
            client_owner_address: OWNER.into(),
            is_test: Some(false),
            versions: Some(VersionRange { min: 1, max }),
        };
        same(name, &client::ConnectToProxy { params, min_config_version: 17 });
    }
    same(
        "client_authorizeWithProxyShort_secret",
        &client::AuthorizeWithProxyShort { data: Blob(b"secret") },
    );
    same("client_authorizeWithProxyLong", &client::AuthorizeWithProxyLong {});
    same(
        "client_authorizationWithProxySuccess",
        &client::AuthorizationWithProxySuccess {
            signed_payment: SignedPayment::Signed(Blob(&PAYMENT)),
            tokens_committed_to_db: 1000,
            max_tokens: 100_000,
        },
    );
    same(
        "client_authorizationWithProxyFailed",
        &client::AuthorizationWithProxyFailed { error_code: -1, error: "no".into() },
    );
    let name = "client_connectedToProxy_short";
    let object = bytes(&vectors()["messages"][name]);
    let connected: client::ConnectedToProxy = decode(&object).unwrap();
    assert_eq!(connected.params, proxy_params(connected.params.proto_version));
    assert_eq!(connected.client_sc_address, OWNER.into());
    let ProxyConnectionAuth::Short(ProxyConnectionAuthShort { .. }) = connected.auth else {
        panic!("wrong kind of authorisation")
    };
    assert_eq!(connected.signed_payment, SignedPayment::Signed(Blob(&PAYMENT)));
    same(name, &connected);
    let name = "client_connectedToProxy_long_nopayment";
    let object = bytes(&vectors()["messages"][name]);
    let connected: client::ConnectedToProxy = decode(&object).unwrap();
    assert!(matches!(connected.auth, ProxyConnectionAuth::Long(_)));
    assert_eq!(connected.signed_payment, SignedPayment::Empty);
    same(name, &connected);
}

#[test]
fn queries_are_those_of_the_vectors() {
    let vectors = vectors();
    let query = bytes(&vectors["messages"]["http_request"]);
    let request: http::Request = decode(&query).unwrap();
    assert_eq!((request.method.sanitized(), request.headers.len()), ("POST".into(), 1));
    assert_eq!(request.headers[0].value, Blob(b"application/json"));
    let old = bytes(&vectors["messages"]["client_runQuery"]);
    let old: client::RunQuery = decode(&old).unwrap();
    assert_eq!((old.query, old.request_id), (Blob(&query), RequestId([0x22; 32])));
    same("client_runQuery", &old);
    let run = |max_tokens, enable_debug, public_key| client::RunQueryEx {
        model_name: old.model_name.clone(),
        query: Blob(&query),
        max_coefficient: old.max_coefficient,
        max_tokens,
        timeout: old.timeout,
        request_id: old.request_id,
        min_config_version: old.min_config_version,
        extensions: Extensions::NONE,
        enable_debug,
        public_key,
    };
    same("client_runQueryEx_flags0", &run(1000, None, None));
    same("client_runQueryEx_flags1_debug_false", &run(1000, Some(false), None));
    let zero = Some(PublicKey([0; 32]));
    same("live_client_runQueryEx_flags3_zero_key", &run(10_000, Some(false), zero));
    let run = |private_key| proxy::RunQueryEx {
        query: Blob(&query),
        signed_payment: SignedPayment::Signed(Blob(&PAYMENT)),
        coefficient: 1500,
        timeout: 108.3,
        request_id: RequestId([0x33; 32]),
        extensions: Extensions::NONE,
        enable_debug: Some(false),
        private_key,
    };
    for (name, key) in [
        ("proxy_runQueryEx_flags1", None),
        ("live_proxy_runQueryEx_flags3_zero_key", Some(Secret::new([0; 32]))),
    ] {
        let object = bytes(&vectors["messages"][name]);
        let read: proxy::RunQueryEx = decode(&object).unwrap();
        let mut expected = run(key);
        (expected.coefficient, expected.timeout) = (read.coefficient, read.timeout);
        same(name, &expected);
    }
}

#[test]
fn answers_are_those_of_the_vectors() {
    let vectors = vectors();
    let messages = vectors["messages"].as_object().unwrap();
    let name = "client_queryAnswerPartEx_final_debug";
    let object = bytes(&messages[name]);
    let client::FromProxy::QueryAnswerPartEx(part) = client::FromProxy::decode(&object).unwrap()
    else {
        panic!("wrong message")
    };
    assert_eq!((part.request_id, part.answer), (RequestId([0x22; 32]), Blob(b"x")));
    let info = part.final_info.as_ref().unwrap();
    let used = info.tokens_used.to_usage().unwrap();
    assert_eq!([used.prompt.0, used.cached.0, used.completion.0, used.reasoning.0], [10, 2, 30, 4]);
    assert_eq!(client::TokensUsed::from_usage(&used), info.tokens_used);
    assert_eq!(info.debug.as_ref().unwrap().worker.as_bytes(), b"{\"w\":1}");
    assert!(info.times.is_some());
    same(name, &part);
    let mut count = 0;
    for (name, object) in messages.iter().filter(|(name, _)| *name != "inputs") {
        let object = bytes(object);
        let entry = catalogue::find(&object).unwrap_or_else(|| panic!("{name}"));
        assert_eq!((entry.reencode)(&object), Ok(object), "{name}");
        count += 1;
    }
    assert_eq!(count, 41);
}

#[test]
fn workers_and_key_managers_are_those_of_the_vectors() {
    for (name, min, max) in
        [("worker_connectToProxy", 1, 2), ("worker_connectToProxy_min3_max4", 3, 4)]
    {
        let params = worker::Params {
            extensions: Extensions::NONE,
            worker_owner_address: OWNER.into(),
            model: "Qwen/Qwen3-32B@abc:def".into(),
            coefficient: 1000,
            load: Some(worker::Load { is_test: false, proxy_cnt: 1, max_active_requests: 200 }),
            versions: Some(VersionRange { min, max }),
            machine_description_json: None,
        };
        same(name, &worker::ConnectToProxy { params });
    }
    same(
        "worker_compareBalanceWithProxy",
        &worker::CompareBalanceWithProxy {
            tokens_committed_to_blockchain: 100,
            tokens_committed_to_db: 200,
            max_tokens: 300,
        },
    );
    same(
        "worker_compareBalanceWithProxyResult_ok",
        &worker::CompareBalanceWithProxyResult {
            signed_payment: SignedPayment::Signed(Blob(&PAYMENT)),
            tokens_committed_to_db: 200,
            max_tokens: 300,
            error_code: 0,
        },
    );
    same("worker_newCoefficient_1500", &worker::NewCoefficient { new_coefficient: 1500 });
    same("live_worker_changeModel", &worker::ChangeModel { new_model: "a@b:c".into() });
    same(
        "live_keyManager_getWorkerPrivateKeys_0",
        &key_manager::GetWorkerPrivateKeys { proto_version: 0 },
    );
    let key = key_manager::PrivateKey {
        valid_until_utime: 1_900_000_000,
        private_key: Secret::new([0x44; 32]),
    };
    assert!(!format!("{key:?}").contains("68"), "a key is shown");
    same("keyManager_privateKeys_one", &key_manager::PrivateKeys { keys: vec![key] });
}

#[test]
fn work_is_that_of_the_vectors() {
    let mut most = 0;
    for case in vectors()["pow"].as_array().unwrap() {
        let challenge = bytes(&case["challenge"]);
        let challenge = Challenge::decode(challenge.first_chunk().unwrap(), 64).unwrap();
        assert_eq!(u64::from(challenge.difficulty), case["difficulty"].as_u64().unwrap());
        assert_eq!(hex::encode(challenge.encode()), case["challenge"].as_str().unwrap());
        let response = bytes(&case["response"]);
        let response = Response::decode(response.first_chunk().unwrap()).unwrap();
        assert_eq!(response.nonce, case["nonce"].as_u64().unwrap());
        assert!(challenge.accepts(response));
        assert_eq!(hex::encode(response.encode()), case["response"].as_str().unwrap());
        if challenge.difficulty <= 16 {
            let mut solver = Solver::new(challenge);
            let found = std::iter::repeat_with(|| solver.step(100)).find_map(|found| found);
            assert_eq!(found, Some(response), "the smallest nonce is found");
            assert!(!(0..response.nonce).any(|nonce| challenge.accepts(Response { nonce })));
        }
        most = most.max(challenge.difficulty);
    }
    assert!(most >= 16);
}

#[test]
fn image_hashes_are_those_of_the_vectors() {
    let vectors = vectors();
    let expected = |name: &str| ImageHash::parse(vectors["image_hash"][name].as_str().unwrap());
    assert_eq!(Ok(TdxMeasurements::ZERO.image_hash()), expected("fake_or_empty_tdx"));
    let synthetic = TdxMeasurements {
        mr_td: [0x12; 48],
        mr_config_id: [0x34; 48],
        mr_owner: [0xaa; 48],
        mr_owner_config: [0xbb; 48],
        rtmr: [[0x61; 48], [0x62; 48], [0x63; 48], [0x64; 48]],
    };
    assert_eq!(Ok(synthetic.image_hash()), expected("synthetic"));
    assert_eq!(Ok(sgx_image_hash(&[0x55; 32])), expected("sgx_mrenclave_55"));
    assert_eq!(Ok(sev_image_hash(&[0x66; 48])), expected("live_sev_measurement_66"));
}

#[test]
fn peer_infos_are_those_of_the_vectors() {
    let vectors = vectors();
    let mut kinds = Vec::new();
    for (name, blob) in vectors["peer_info_blob"].as_object().unwrap() {
        if name == "note" {
            continue;
        }
        let blob = bytes(blob);
        let (line, other) = match name.split('_').next() {
            Some("base") => (Line::Base, Line::Live),
            _ => (Line::Live, Line::Base),
        };
        let (info, taken) = PeerInfo::decode_prefixed(&blob, line).unwrap().unwrap();
        assert_eq!(taken, blob.len());
        assert_eq!((info.source_port, info.destination_port), (40000, 11101), "{name}");
        assert_eq!(info.destination_ip.sanitized(), "10.0.0.2");
        let mut out = Vec::new();
        info.encode_prefixed(&mut out, line).unwrap();
        assert_eq!(out, blob, "{name}");
        assert!(PeerInfo::decode_prefixed(&blob, other).is_err(), "{name} is not of that line");
        for cut in 0..blob.len() {
            assert_eq!(PeerInfo::decode_prefixed(&blob[..cut], line), Ok(None));
        }
        kinds.push(match info.attestation {
            Attestation::None => 0,
            Attestation::Tdx { .. } => 1,
            Attestation::Sgx { .. } => 2,
            Attestation::Sev { .. } => 3,
        });
    }
    kinds.sort_unstable();
    kinds.dedup();
    assert!(kinds.contains(&0) && kinds.contains(&1) && kinds.contains(&3), "{kinds:?}");
}

#[test]
fn encryption_is_that_of_the_vectors() {
    let vectors = vectors();
    let case = &vectors["e2e_live"];
    let key = |name: &str| <[u8; 32]>::try_from(bytes(&case[name])).unwrap();
    let (sender, receiver) =
        (Secret::new(key("sender_seed")), Secret::new(key("receiver_private")));
    assert_eq!(e2e::public_key(&sender), PublicKey(key("sender_public")));
    let receiver_public = e2e::public_key(&receiver);
    for name in ["receiver_public", "receiver_public_base64"] {
        assert_eq!(e2e::parse_public_key(case[name].as_str().unwrap()), Ok(receiver_public));
    }
    let nonce = case["nonce_field"].as_str().unwrap();
    let sealing =
        DirectionSecret::derive(&sender, &receiver_public, nonce, Direction::ToWorker).unwrap();
    let prefix = bytes(&case["prefix"]);
    let mut zeros = |random: &mut [u8]| {
        assert_eq!(random.len() + 1, prefix.len());
        random.fill(0);
    };
    let plain = case["plaintext"].as_str().unwrap();
    assert_eq!(sealing.encrypt_text(plain, &mut zeros), case["json_value"].as_str().unwrap());
    let opening =
        DirectionSecret::derive(&receiver, &e2e::public_key(&sender), nonce, Direction::ToWorker);
    let opening = opening.unwrap();
    assert_eq!(opening.decrypt_text(case["json_value"].as_str().unwrap()).unwrap(), plain);
    assert_eq!(&**opening.decrypt(&bytes(&case["ciphertext_c"])).unwrap(), plain.as_bytes());
    let other =
        DirectionSecret::derive(&receiver, &e2e::public_key(&sender), nonce, Direction::ToClient);
    assert!(other.unwrap().decrypt(&bytes(&case["ciphertext_c"])).is_err());
}

#[test]
fn lasting_keys_are_those_of_the_vectors() {
    let vectors = vectors();
    let case = &vectors["seal"]["persistent_key_example"];
    let name = case["key_name"].as_str().unwrap();
    let key = sealed_key::derive(
        &bytes(&case["sealing_key16"]).try_into().unwrap(),
        &bytes(&case["tee_info_hash"]).try_into().unwrap(),
        &bytes(&case["tee_tcb_info_hash"]).try_into().unwrap(),
        name,
    );
    assert_eq!(hex::encode(key.expose()), case["key"].as_str().unwrap());
    let (report, public) = ([1; sealed_key::REPORT_BYTES], [2; sealed_key::PUBLIC_KEY_BYTES]);
    let request = sealed_key::GetPersistentKey {
        tdx_report: Blob(&report),
        public_key: Blob(&public),
        key_name: name.into(),
    };
    let written = sealed_key::encode_request(&request);
    assert_eq!(written[..8], [&1116u32.to_le_bytes()[..], &[0x1c, 0x82, 0x7a, 0x31]].concat());
    assert_eq!(sealed_key::decode_request(&written[4..]), Ok(Some(request.clone())));
    let short = sealed_key::GetPersistentKey { key_name: "".into(), ..request };
    assert_eq!(sealed_key::decode_request(&encode(&short)), Ok(None));
    let secret = [3; sealed_key::SECRET_BYTES];
    let answer =
        sealed_key::PersistentKey { sgx_quote: Blob(&report), encrypted_secret: Blob(&secret) };
    let written = sealed_key::encode_answer(&answer);
    assert_eq!(sealed_key::decode_answer(&written[4..]), Ok(Some(answer)));
    let data = sealed_key::answer_report_data(&public, &secret);
    assert_eq!(data[..32], sealed_key::request_report_data(&public)[..32]);
    assert_eq!(sealed_key::request_report_data(&public)[32..], [0; 32]);
    assert_ne!(data[32..], [0; 32]);
}
