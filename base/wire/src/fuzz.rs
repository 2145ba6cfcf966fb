//! Entry points for fuzzers: every decoder on arbitrary bytes.
//!
//! Each function returns normally for every input or panics on a broken law; the laws are
//! that decoding never panics and that what was decoded encodes to something that decodes
//! to the same bytes again.

use bytes::BytesMut;
use cocoon_units::PublicKey;
use cocoon_units::Secret;

use crate::e2e::{Direction, DirectionSecret};
use crate::frame::FrameReader;
use crate::peer_info::{Line, PeerInfo};
use crate::pow::{Challenge, Response};
use crate::{catalogue, client, config, config_json, e2e_json, key_manager, proxy, root_config};
use crate::{sealed_key, socks, worker};

/// Any object by its own id, and every dispatch.
///
/// # Panics
/// When a law is broken.
pub fn objects(data: &[u8]) {
    if let Some(entry) = catalogue::find(data)
        && let Ok(written) = (entry.reencode)(data)
    {
        assert_eq!((entry.reencode)(&written).as_deref(), Ok(written.as_slice()), "{}", entry.name);
        assert!((entry.describe)(data).is_ok(), "{}", entry.name);
    }
    let _ = client::Message::decode(data);
    let _ = client::Query::decode(data);
    let _ = client::FromProxy::decode(data);
    let _ = worker::Message::decode(data);
    let _ = worker::Query::decode(data);
    let _ = proxy::ToWorker::decode(data);
    let _ = proxy::WorkerQuery::decode(data);
    let _ = key_manager::Query::decode(data);
    let _ = sealed_key::decode_request(data);
    let _ = sealed_key::decode_answer(data);
}

/// A byte stream in one piece and byte by byte: both must agree.
///
/// # Panics
/// When a law is broken.
pub fn frames(data: &[u8]) {
    let mut whole = FrameReader::new();
    let mut buffer = BytesMut::from(data);
    let mut payloads = Vec::new();
    let fault = loop {
        match whole.next_payload(&mut buffer) {
            Ok(Some(payload)) => payloads.push(payload),
            Ok(None) => break None,
            Err(fault) => break Some(fault),
        }
    };
    let mut pieces = FrameReader::new();
    let mut buffer = BytesMut::new();
    let mut found = Vec::new();
    let mut piece_fault = None;
    for byte in data {
        buffer.extend_from_slice(&[*byte]);
        match pieces.next_payload(&mut buffer) {
            Ok(Some(payload)) => found.push(payload),
            Ok(None) => {}
            Err(fault) => {
                piece_fault = Some(fault);
                break;
            }
        }
    }
    assert_eq!((payloads, fault), (found, piece_fault));
}

/// What precedes the frames.
///
/// # Panics
/// When a law is broken.
pub fn preludes(data: &[u8]) {
    for line in [Line::Base, Line::Live] {
        if let Ok(Some((info, taken))) = PeerInfo::decode_prefixed(data, line) {
            let mut out = Vec::new();
            assert_eq!(info.encode_prefixed(&mut out, line), Ok(()));
            let again = PeerInfo::decode_prefixed(&out, line);
            assert_eq!(again, Ok(Some((info, out.len()))), "{taken} bytes were read");
        }
    }
    if let Some(bytes) = data.first_chunk() {
        let _ = Challenge::decode(bytes, 64).map(|c| c.accepts(Response { nonce: 0 }));
    }
    let _ = data.first_chunk().map(Response::decode);
    let _ = data.first_chunk().map(|bytes| socks::decode_method(*bytes));
    let _ = socks::decode_greeting(data);
    let _ = socks::decode_user(data);
    let _ = data.first_chunk().map(socks::decode_connect);
    let _ = data.first_chunk().map(socks::decode_granted);
}

/// Configurations and encrypted JSON.
pub fn json(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let _ = config_json::read::<config::ProxyRunner<'_>>(&text);
    let _ = config_json::read::<config::WorkerRunner<'_>>(&text);
    let _ = config_json::read::<config::ClientRunner<'_>>(&text);
    let _ = config_json::read::<config::KeyStorageRunner<'_>>(&text);
    let _ = config_json::read::<root_config::Pseudo<'_>>(&text);
    if let Ok(mut value) = serde_json::from_str(&text) {
        let _ = e2e_json::open_request(&mut value, Some(&Secret::new([1; 32])));
        let _ = e2e_json::open_answer(&mut value, &Secret::new([1; 32]), &PublicKey([2; 32]));
    }
}

/// One encrypted string.
pub fn sealed(data: &[u8]) {
    let own = Secret::new([1; 32]);
    let peer = crate::e2e::public_key(&Secret::new([2; 32]));
    if let Ok(secret) = DirectionSecret::derive(&own, &peer, "nonce", Direction::ToWorker) {
        let _ = secret.decrypt(data);
        let _ = secret.decrypt_text(&String::from_utf8_lossy(data));
    }
}
