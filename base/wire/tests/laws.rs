//! Laws of the decoders and machines.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use bytes::{Bytes, BytesMut};
use cocoon_units::{PublicKey, Role, Secret};
use cocoon_wire::e2e::{self, Direction, DirectionSecret};
use cocoon_wire::e2e_json::{open_answer, open_request, seal_answer, seal_request};
use cocoon_wire::frame::{FrameReader, FrameWriter, HEADER_BYTES, PAYLOAD_BYTES_MAX};
use cocoon_wire::peer_info::{Attestation, Line, PeerInfo};
use cocoon_wire::pow::{Challenge, DIFFICULTY_MAX};
use cocoon_wire::tl::{Extensions, Text, decode, encode, sanitize};
use cocoon_wire::{
    E2eFault, FrameFault, PeerInfoFault, PowFault, SocksFault, TlFault, catalogue, client, cocoon,
    config, config_json, fuzz, http, key_manager, proxy, root_config, socks, tcp, worker,
};
use proptest::prelude::*;
use serde_json::{Value, json};

/// Bytes that start with a known id.
fn object_like() -> impl Strategy<Value = Vec<u8>> {
    let entry = prop::sample::select(catalogue::ALL);
    (entry, prop::collection::vec(any::<u8>(), 0..300)).prop_map(|(entry, tail)| {
        let mut bytes = entry.id.to_le_bytes().to_vec();
        bytes.extend(tail);
        bytes
    })
}

/// JSON objects with texts at several depths.
fn request() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        any::<String>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        any::<bool>().prop_map(Value::from),
        Just(Value::Null),
    ];
    let tree = leaf.prop_recursive(3, 20, 4, |inner| {
        let name = prop_oneof!["[a-z]{1,6}", Just("model".to_owned()), Just("timeout".to_owned())];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(name, inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    });
    prop::collection::btree_map("[a-z]{1,6}", tree, 0..5)
        .prop_map(|map| Value::Object(map.into_iter().collect()))
}

fn counter() -> impl FnMut(&mut [u8]) {
    let mut next = 0u8;
    move |bytes| {
        for byte in bytes {
            next = next.wrapping_add(41);
            *byte = next;
        }
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(data in prop::collection::vec(any::<u8>(), 0..400)) {
        fuzz::objects(&data);
        fuzz::frames(&data);
        fuzz::preludes(&data);
        fuzz::json(&data);
        fuzz::sealed(&data);
    }

    #[test]
    fn objects_of_arbitrary_fields_never_panic(data in object_like()) {
        fuzz::objects(&data);
    }

    #[test]
    fn arbitrary_texts_never_panic(text in "(ENC_|DEC_)?[0-9a-f]{0,140}", json in request()) {
        fuzz::sealed(text.as_bytes());
        fuzz::json(json.to_string().as_bytes());
    }

    #[test]
    fn near_preludes_never_panic(
        kind in 0u8..4, tail in prop::collection::vec(any::<u8>(), 560..700), line: bool,
    ) {
        let mut data = 572u32.to_le_bytes().to_vec();
        data.extend([if line { 2 } else { 1 }, 0, 0, 0, kind, 0, 0, 0]);
        data.extend(&tail);
        fuzz::preludes(&data);
        fuzz::preludes(&[&[5], tail.as_slice()].concat());
    }

    #[test]
    fn streams_do_not_depend_on_their_pieces(
        payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 4..600), 0..12),
        cuts in prop::collection::vec(1usize..90, 1..40),
    ) {
        let (mut writer, mut stream) = (FrameWriter::new(), BytesMut::new());
        for payload in &payloads {
            writer.write_payload(&mut stream, payload).unwrap();
        }
        let (mut reader, mut buffer, mut found) = (FrameReader::new(), BytesMut::new(), Vec::new());
        let mut cuts = cuts.iter().cycle();
        while !stream.is_empty() {
            let piece = stream.split_to((*cuts.next().unwrap()).min(stream.len()));
            buffer.extend_from_slice(&piece);
            while let Some(payload) = reader.next_payload(&mut buffer).unwrap() {
                found.push(payload);
            }
            let wanted = reader.wanted(&buffer).unwrap();
            prop_assert!((1..=HEADER_BYTES + 600).contains(&wanted));
        }
        prop_assert_eq!(found, payloads.into_iter().map(Bytes::from).collect::<Vec<_>>());
    }

    #[test]
    fn peer_infos_read_what_they_wrote(
        key: [u8; 32], register: [u8; 16], kind in 0u8..3, ip in "[0-9.]{0,15}", port: i32,
    ) {
        let mut measurement = [0; 48];
        measurement[..16].copy_from_slice(&register);
        let report_data = Box::new([7; 64]);
        let (line, attestation) = match kind {
            0 => (Line::Base, Attestation::None),
            1 => (Line::Base, Attestation::Sgx { mr_enclave: key, report_data }),
            _ => (Line::Live, Attestation::Sev { measurement, report_data }),
        };
        let info = PeerInfo {
            collateral_root: (kind < 2).then_some(measurement),
            attestation,
            public_key: PublicKey(key),
            source_ip: Text::from(ip.as_str()),
            source_port: port,
            destination_ip: Text::from("::1"),
            destination_port: 1,
        };
        let mut out = Vec::new();
        info.encode_prefixed(&mut out, line).unwrap();
        let length = out.len();
        prop_assert_eq!(PeerInfo::decode_prefixed(&out, line), Ok(Some((info.clone(), length))));
        let other = if line == Line::Base { Line::Live } else { Line::Base };
        let mut none = Vec::new();
        let refused = info.encode_prefixed(&mut none, other);
        prop_assert_eq!(refused, Err(PeerInfoFault::Unrepresentable { line: other }));
        prop_assert!(none.is_empty());
    }

    #[test]
    fn sealed_requests_open_and_answers_return(
        request in request(), answer in request(), client: [u8; 32], worker in prop::array::uniform32(1u8..),
    ) {
        let (client, worker) = (Secret::new(client), Secret::new(worker));
        let worker_public = e2e::public_key(&worker);
        let mut random = counter();
        let mut value = request.clone();
        seal_request(&mut value, &client, worker_public, &mut random).unwrap();
        let answer_key = open_request(&mut value, Some(&worker)).unwrap().unwrap();
        for (name, field) in request.as_object().unwrap() {
            prop_assert_eq!(&value[name], field);
        }
        let mut value = answer.clone();
        seal_answer(&mut value, &answer_key, &mut random).unwrap();
        let mut other = value.clone();
        prop_assert_eq!(open_answer(&mut value, &client, &worker_public), Ok(true));
        prop_assert_eq!(value, answer);
        let refused = open_answer(&mut other, &worker, &worker_public);
        prop_assert_eq!(refused.is_err(), client.expose() != worker.expose());
    }

    #[test]
    fn a_changed_byte_is_noticed(plain: Vec<u8>, at: prop::sample::Index, change in 1u8..) {
        let own = Secret::new([1; 32]);
        let peer = e2e::public_key(&Secret::new([2; 32]));
        let secret = DirectionSecret::derive(&own, &peer, "n", Direction::ToClient).unwrap();
        let mut sealed = secret.encrypt(&plain, &mut counter());
        prop_assert!(sealed.len() <= plain.len() + 47 && sealed.len().is_multiple_of(16));
        prop_assert_eq!(&**secret.decrypt(&sealed).unwrap(), &plain);
        let at = at.index(sealed.len());
        sealed[at] ^= change;
        prop_assert!(secret.decrypt(&sealed).is_err());
    }

    #[test]
    fn a_request_in_place_is_the_same(
        body in prop::collection::vec(any::<u8>(), 0..600), model in "[a-z]{0,9}", key: Option<bool>,
    ) {
        let request = http::Request { payload: body.as_slice().into(), ..Default::default() };
        let query = client::RunQueryEx {
            model_name: model.as_str().into(),
            max_tokens: 7,
            public_key: key.map(|_| PublicKey([3; 32])),
            ..Default::default()
        };
        let (mut writer, mut found) = (FrameWriter::new(), BytesMut::new());
        writer.write_run_query(&mut found, &query, &request).unwrap();
        let (mut writer, mut expected) = (FrameWriter::new(), BytesMut::new());
        let nested = encode(&request);
        let whole = client::RunQueryEx { query: nested.as_slice().into(), ..query };
        writer.write_message(&mut expected, &whole).unwrap();
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn texts_are_cleaned(bytes: Vec<u8>) {
        let clean = sanitize(&bytes);
        prop_assert!(!clean.contains('\0') && clean.len() <= bytes.len());
    }

    #[test]
    fn additions_survive_a_round_trip(bits: u32) {
        let params = client::Params { extensions: Extensions(bits), ..Default::default() };
        let bytes = encode(&params);
        let read: client::Params = decode(&bytes).unwrap();
        // Bits 0 and 1 guard fields and bit 31 is refused, so none of them can be forged.
        prop_assert_eq!(read.extensions, Extensions(bits & 0x7fff_fffc));
        prop_assert_eq!((read.is_test, read.versions), (None, None));
        prop_assert_eq!(encode(&read), bytes);
    }
}

#[test]
fn strict_rules_have_their_faults() {
    let mut flags = encode(&client::Params::default());
    flags[7] |= 0x80;
    let fault = decode::<client::Params>(&flags);
    assert_eq!(fault, Err(TlFault::NegativeFlags { offset: 4, flags: 0x8000_0000 }));
    let mut vector = encode(&client::WorkerTypesV2::default());
    vector[4] = 1;
    let fault = decode::<client::WorkerTypesV2>(&vector);
    assert_eq!(fault, Err(TlFault::VectorTooLong { offset: 4, count: 1, left: 0 }));
    let wrong = decode::<tcp::Packet>(&[1, 2, 3, 4]);
    assert_eq!(wrong, Err(TlFault::UnknownConstructor { offset: 0, id: 0x0403_0201 }));
    assert_eq!(client::Query::decode(&[1, 2, 3, 4]), Ok(client::Query::Unknown(0x0403_0201)));
    // The longest prefix with a length near the end of the number range.
    let huge = [&0x9c17_baf8u32.to_le_bytes()[..], &[0xff; 8]].concat();
    assert!(matches!(decode::<tcp::Packet>(&huge), Err(TlFault::Truncated { offset: 12, .. })));
    // Padding is not checked.
    let padded = [&0x9c17_baf8u32.to_le_bytes()[..], &[1, 65, 9, 9]].concat();
    assert!(matches!(decode(&padded), Ok(tcp::Packet::Message(m)) if m.data.0 == b"A"));
}

#[test]
fn frames_out_of_rule_are_refused() {
    for length in [0u32, 3, (1 << 24) + 1, u32::MAX] {
        let mut buffer = BytesMut::from(&length.to_le_bytes()[..]);
        let mut reader = FrameReader::new();
        assert_eq!(reader.next_payload(&mut buffer), Err(FrameFault::Length { length }));
        assert_eq!(reader.wanted(&buffer), Err(FrameFault::Length { length }), "faults are final");
    }
    let mut buffer = BytesMut::from(&[4u8, 0, 0, 0, 1, 0, 0, 0][..]);
    let fault = FrameReader::new().next_payload(&mut buffer);
    assert_eq!(fault, Err(FrameFault::Seqno { found: 1, expected: 0 }));
    let mut buffer = BytesMut::from(&[0u8, 0, 0, 1, 0, 0, 0, 0][..]);
    assert_eq!(FrameReader::new().wanted(&buffer), Ok(PAYLOAD_BYTES_MAX));
    assert_eq!(FrameReader::new().next_payload(&mut buffer), Ok(None));
}

#[test]
fn an_oversized_message_uses_no_number() {
    let (mut writer, mut out) = (FrameWriter::new(), BytesMut::new());
    let payload = vec![0; PAYLOAD_BYTES_MAX];
    let message = client::AuthorizeWithProxyShort { data: payload.as_slice().into() };
    let fault = writer.write_message(&mut out, &message).unwrap_err();
    assert!(matches!(fault, FrameFault::TooLarge { length } if length > PAYLOAD_BYTES_MAX));
    let fault = writer.write_with(&mut out, 8, |out| out.extend_from_slice(&[0; 9]));
    assert_eq!(fault, Err(FrameFault::Misfilled { length: 8, written: 9 }));
    assert!(out.is_empty() && writer.next_seqno() == 0);
    writer.write_payload(&mut out, &payload).unwrap();
    let mut reader = FrameReader::new();
    assert_eq!(reader.next_payload(&mut out).unwrap().unwrap().len(), PAYLOAD_BYTES_MAX);
}

#[test]
fn payloads_are_not_copied() {
    let (mut writer, mut buffer) = (FrameWriter::new(), BytesMut::new());
    writer.write_payload(&mut buffer, &[7; 4096]).unwrap();
    let place = buffer[HEADER_BYTES..].as_ptr();
    let payload = FrameReader::new().next_payload(&mut buffer).unwrap().unwrap();
    assert_eq!(payload.as_ptr(), place);
    let message = encode(&client::AuthorizeWithProxyShort { data: (&[9; 300][..]).into() });
    let read: client::AuthorizeWithProxyShort = decode(&message).unwrap();
    assert!(message.as_ptr_range().contains(&read.data.0.as_ptr()));
}

#[test]
fn contents_are_not_shown() {
    let headers = vec![http::Header { name: "Authorization".into(), value: b"hunter2"[..].into() }];
    let request = http::Request { headers, payload: b"hunter2"[..].into(), ..Default::default() };
    assert!(!format!("{request:?}").contains("hunter2"));
    let text = r#"{"secret_string": "hunter2", "node_wallet_key": "aHVudGVyMg=="}"#;
    let fault = config_json::read::<config::ClientRunner<'_>>(text).unwrap_err();
    assert_eq!(fault.to_string(), "node_wallet_key must be 32 bytes in standard base64");
    let text = r#"{"secret_string": "hunter2"}"#;
    let read = config_json::read::<config::ClientRunner<'_>>(text).unwrap();
    assert_eq!(read.secret_string.expose(), b"hunter2");
    assert!(!format!("{read:?}").contains("hunter2"));
}

#[test]
fn configurations_are_read_loosely() {
    let text = json!({
        "is_test": "true", "http_port": "12000", "coefficient": 1500, "proxy_connections": null,
        "model_name": "m@c:h", "node_wallet_key": "REREREREREREREREREREREREREREREREREREREREREQ=",
        "check_proxy_hashes": 1, "unknown": [1, {"a": 2}], "@type": "workerRunner.config",
    });
    let read = config_json::read::<config::WorkerRunner<'_>>(&text.to_string()).unwrap();
    assert!(read.is_test && read.check_proxy_hashes && !read.is_testnet);
    assert_eq!((read.http_port, read.coefficient, read.proxy_connections), (12000, 1500, 0));
    assert_eq!(read.node_wallet_key.expose(), &[0x44; 32]);
    assert_eq!(read.model_name, "m@c:h".into());
    // A configuration is a TL object too.
    let bytes = encode(&read);
    assert_eq!(encode(&decode::<config::WorkerRunner<'_>>(&bytes).unwrap()), bytes);
    for (text, place) in [
        ("{\"http_port\": 1.5}", "http_port must be a 32-bit integer"),
        ("{\"http_port\": \"3000000000\"}", "http_port must be a 32-bit integer"),
        ("{\"is_test\": []}", "is_test must be true or false"),
        ("[]", "configuration must be an object"),
        ("{", "configuration is no JSON at line 1, column 1"),
    ] {
        let fault = config_json::read::<config::WorkerRunner<'_>>(text).unwrap_err();
        assert_eq!(fault.to_string(), place);
    }
}

#[test]
fn a_network_without_a_chain_is_read() {
    let text = json!({
        "price_per_token": 2, "worker_fee_per_token": 1, "version": 3, "params_version": 1,
        "last_proxy_seqno": 1, "model_names": ["ignored"],
        "registered_proxies": [
            {"seqno": 1, "address": "127.0.0.1:11001 127.0.0.1:11002", "proxy_hash": "ignored"},
        ],
        "worker_hashes": ["XFXI9NtAELqSA9g1NtBgmFavjIR6wDnjfn3ej71XS2E="],
        "model_types": ["a@b"],
    });
    let text = text.to_string();
    let read = config_json::read::<root_config::Pseudo<'_>>(&text).unwrap();
    assert_eq!(read.registered_proxies.len(), 1);
    assert_eq!(read.registered_proxies[0].address, "127.0.0.1:11001 127.0.0.1:11002".into());
    assert_eq!(read.worker_hashes.len(), 1);
    assert!(read.registered_public_keys.is_empty() && read.proxy_hashes.is_empty());
    let older = config_json::read::<root_config::PseudoBase<'_>>(&text).unwrap();
    assert_eq!(older.price_per_token, 2);
    let fault = config_json::read::<root_config::Pseudo<'_>>("{\"worker_hashes\": [\"x\"]}");
    let place = "worker_hashes[0] must be 32 bytes in standard base64";
    assert_eq!(fault.unwrap_err().to_string(), place);
}

#[test]
fn encryption_refuses_what_it_must() {
    let key = Secret::new([5; 32]);
    let mut plain = json!({"messages": [{"role": "user"}]});
    let fault = open_request(&mut plain.clone(), Some(&key)).unwrap_err();
    assert_eq!((fault, fault.code()), (E2eFault::Unencrypted, 602));
    assert!(open_request(&mut plain, Some(&Secret::new([0; 32]))).unwrap().is_none());
    let mut sealed = plain.clone();
    seal_request(&mut sealed, &Secret::new([6; 32]), e2e::public_key(&key), &mut counter())
        .unwrap();
    assert_eq!(open_request(&mut sealed.clone(), None).unwrap_err(), E2eFault::NoPrivateKey);
    let other = Secret::new([7; 32]);
    let fault = open_request(&mut sealed.clone(), Some(&other)).unwrap_err();
    assert_eq!(fault, E2eFault::OtherKey);
    let mut less = sealed.clone();
    less.as_object_mut().unwrap().remove("encryption_nonce");
    assert_eq!(open_request(&mut less, Some(&key)).unwrap_err(), E2eFault::MissingFields);
    let mut unmarked = sealed.clone();
    unmarked["messages"][0]["role"] = json!("user");
    let fault = open_request(&mut unmarked, Some(&key)).unwrap_err();
    assert_eq!((fault, fault.code()), (E2eFault::Method, 621));
    let mut marked = sealed.clone();
    marked["messages"][0]["role"] = json!("DEC_user");
    assert!(open_request(&mut marked, Some(&key)).unwrap().is_some());
    assert_eq!(marked["messages"][0]["role"], "user");
    // A key of small order would make the secret known to everybody.
    let mut low = [0; 32];
    low[0] = 1;
    let fault = seal_request(&mut plain, &key, PublicKey(low), &mut counter()).unwrap_err();
    assert_eq!(fault, E2eFault::PublicKey);
    assert_eq!(plain, json!({"messages": [{"role": "user"}]}));
}

#[test]
fn too_much_work_is_refused() {
    let challenge = Challenge { difficulty: 29, salt: [0; 16] };
    let fault = Challenge::decode(&challenge.encode(), DIFFICULTY_MAX);
    assert_eq!(fault, Err(PowFault::Difficulty { demanded: 29, maximum: 28 }));
    let negative = Challenge { difficulty: u32::MAX, salt: [0; 16] };
    let fault = Challenge::decode(&negative.encode(), 64);
    assert_eq!(fault, Err(PowFault::Difficulty { demanded: -1, maximum: 64 }));
    assert!(matches!(Challenge::decode(&[0; 24], 64), Err(PowFault::Magic { found: 0, .. })));
}

#[test]
fn socks_reads_in_pieces() {
    assert_eq!(socks::decode_greeting(&[5]), Ok(None));
    assert_eq!(socks::decode_greeting(&[5, 2, 0]), Ok(None));
    assert_eq!(socks::decode_greeting(&[5, 2, 0, 2, 9]), Ok(Some((&[0u8, 2][..], 4))));
    assert_eq!(socks::decode_greeting(&[4]), Err(SocksFault::Version { version: 4 }));
    let user = [1, 3, b't', b'd', b'x', 1, b'p', 9];
    assert!((0..7).all(|cut| socks::decode_user(&user[..cut]) == Ok(None)));
    assert_eq!(socks::decode_user(&user), Ok(Some((&b"tdx"[..], 7))));
    assert_eq!(socks::decode_method([5, 0xff]), Err(SocksFault::Method { method: 0xff }));
    let name = [5, 1, 0, 3, 0, 0, 0, 0, 0, 0];
    assert_eq!(socks::decode_connect(&name), Err(SocksFault::AddressType { kind: 3 }));
    let refused = [5, 5, 0, 1, 0, 0, 0, 0, 0, 0];
    assert_eq!(socks::decode_granted(&refused), Err(SocksFault::Refused { code: 5 }));
}

#[test]
fn additions_are_used_only_by_agreement() {
    let own = cocoon::ANNOUNCED;
    assert!(own.common(cocoon::CANCEL_QUERY).contains(cocoon::CANCEL_QUERY));
    assert!(!own.common(Extensions::NONE).contains(cocoon::CANCEL_QUERY));
    assert_eq!(own.0 & !cocoon::RESERVED_BITS.0, 0);
}

#[test]
fn an_addition_is_announced_in_introductions_alone_and_changes_nothing_else() {
    let params = proxy::Params { is_test: Some(true), ..Default::default() };
    let bit = cocoon::ATTESTED_CHANNEL;
    let client = client::ConnectToProxy::default();
    let answer = worker::ConnectedToProxy { params, ..Default::default() };
    for (bytes, side) in [
        (encode(&client), cocoon::Introduction::Dialling(Role::Client)),
        (encode(&worker::ConnectToProxy::default()), cocoon::Introduction::Dialling(Role::Worker)),
        (encode(&answer), cocoon::Introduction::Dialled),
        (
            encode(&cocoon::Introduce::as_role(Role::Proxy)),
            cocoon::Introduction::Dialling(Role::Proxy),
        ),
        (
            encode(&cocoon::Introduce::as_role(Role::Worker)),
            cocoon::Introduction::Dialling(Role::Worker),
        ),
        (encode(&cocoon::Introduced::default()), cocoon::Introduction::Dialled),
    ] {
        let (found, before) = cocoon::introduction(&bytes).unwrap();
        assert_eq!(found, side);
        assert!(!before.contains(bit));
        let mut announced = bytes.clone();
        cocoon::announce(&mut announced, bit);
        assert_eq!(cocoon::introduction(&announced), Some((side, before.with(bit))));
        let differ = bytes.iter().zip(&announced).filter(|(a, b)| a != b).count();
        assert_eq!((bytes.len(), differ), (announced.len(), 1));
        // Bits that guard fields cannot be set this way.
        let mut unchanged = bytes.clone();
        cocoon::announce(&mut unchanged, Extensions(0x8000_ffff));
        assert_eq!(unchanged, bytes);
        assert_eq!(cocoon::introduction(&bytes[..7]), None);
    }
    // A number that means no role, and whoever asks for keys without a word before.
    assert_eq!(cocoon::introduction(&encode(&cocoon::Introduce { flags: 0, role: 4 })), None);
    let ask = encode(&key_manager::GetWorkerPrivateKeys { proto_version: 0 });
    assert_eq!(cocoon::introduction(&ask), None);
    assert_eq!(cocoon::asks_for_keys(&ask), Some(Role::Worker));
    let mut attest = encode(&cocoon::Attest::default());
    assert_eq!(cocoon::introduction(&attest), None);
    assert_eq!(cocoon::asks_for_keys(&attest), None);
    cocoon::announce(&mut attest, bit);
    assert_eq!(attest, encode(&cocoon::Attest::default()));
}
