//! The vectors of frames, and connections recorded between reference nodes.

#![allow(clippy::unwrap_used, reason = "a failure fails the test")]

use cocoon_session::{Connection, Encoded, Event, Limits, Side};

const CONNECT_ID: i64 = 0x0102_0304_0506_0708;

fn hex(text: &str) -> Vec<u8> {
    hex::decode(text).unwrap()
}

#[test]
fn our_frames_are_the_vectors() {
    let side = Side::Connecting { connect_id: CONNECT_ID };
    let mut dialled = Connection::new(side, Limits::connecting(), 0);
    let mut accepted = Connection::new(Side::Accepting, Limits::accepting(), 0);
    assert_eq!(dialled.output(), hex("0c0000000000000061427ca50807060504030201"));
    accepted.input().extend_from_slice(dialled.output());
    dialled.written(20, 0);
    assert_eq!(accepted.poll_event(0), Some(Event::Ready { peer_connect_id: CONNECT_ID }));
    assert_eq!(accepted.output(), hex("0c00000000000000d6416d630807060504030201"));
    dialled.input().extend_from_slice(accepted.output());
    accepted.written(20, 0);
    assert_eq!(dialled.poll_event(0), Some(Event::Ready { peer_connect_id: CONNECT_ID }));

    dialled.query(77, &Encoded(&hex("723d13b2")), 30_000, 0).unwrap();
    let query = hex("14000000010000000819f53a4d0000000000000004723d13b2000000");
    assert_eq!(dialled.output(), query);
    accepted.input().extend_from_slice(&query);
    let Some(Event::Query { id: 77, data }) = accepted.poll_event(0) else { panic!("no query") };
    assert_eq!(data, hex("723d13b2"));
    accepted.answer(77, &Encoded(&hex("67dcf00c00000000")), 0).unwrap();
    let answer = hex("180000000100000011c348c04d000000000000000867dcf00c00000000000000");
    assert_eq!(accepted.output(), answer);
}

/// What a recorded direction holds, event by event.
fn replay(side: Side, bytes: &[u8], cut: usize) -> Vec<Event> {
    let limits = Limits { output_bytes_max: 1 << 20, ..Limits::accepting() };
    let mut connection = Connection::new(side, limits, 0);
    let mut events = Vec::new();
    for chunk in bytes.chunks(cut) {
        connection.input().extend_from_slice(chunk);
        events.extend(std::iter::from_fn(|| connection.poll_event(0)));
    }
    assert!(connection.input().is_empty(), "half a frame at the end");
    events
}

/// Splits off the peer-info blob that an inner port receives first (protocol notes 1.2).
fn after_peer_info(bytes: &[u8]) -> &[u8] {
    let (length, rest) = bytes.split_first_chunk().unwrap();
    &rest[u32::from_le_bytes(*length) as usize..]
}

fn check(c2s: &[u8], s2c: &[u8], queries: usize, messages: (usize, usize)) {
    let c2s = after_peer_info(c2s);
    for cut in [1, 7, usize::MAX] {
        let events = replay(Side::Accepting, c2s, cut);
        assert!(matches!(events.first(), Some(Event::Ready { .. })));
        let count =
            |wanted: fn(&Event) -> bool| events.iter().filter(|event| wanted(event)).count();
        assert_eq!(count(|event| matches!(event, Event::Query { .. })), queries);
        assert_eq!(count(|event| matches!(event, Event::Message(_))), messages.0);
        assert_eq!(count(|event| matches!(event, Event::Closed(_))), 0);
    }
    // The recorded side's queries are not ours, so its answers are ignored as unknown ones.
    let events = replay(Side::Connecting { connect_id: 1 }, s2c, 11);
    assert!(matches!(events.first(), Some(Event::Ready { .. })));
    let arrived = events.iter().filter(|event| matches!(event, Event::Message(_))).count();
    assert_eq!(arrived, messages.1);
    assert!(!events.iter().any(|event| matches!(event, Event::Closed(_))));
}

macro_rules! recording {
    ($name:literal) => {
        (
            include_bytes!(concat!("../../../testdata/captures/", $name, ".c2s.bin")).as_slice(),
            include_bytes!(concat!("../../../testdata/captures/", $name, ".s2c.bin")).as_slice(),
        )
    };
}

#[test]
fn a_live_client_and_proxy() {
    let (c2s, s2c) = recording!("live/B_124_11102");
    check(c2s, s2c, 5, (3, 18));
}

#[test]
fn a_live_worker_and_proxy() {
    let (c2s, s2c) = recording!("live/B_126_11101");
    check(c2s, s2c, 3, (14, 3));
}

#[test]
fn a_base_client_and_proxy() {
    let (c2s, s2c) = recording!("base/A_140_11102");
    check(c2s, s2c, 11, (4, 18));
}
