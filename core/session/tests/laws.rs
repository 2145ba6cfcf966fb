//! The laws of a connection, over arbitrary histories.

use std::collections::BTreeSet;

use bytes::Bytes;
use cocoon_session::{Connection, Encoded, Event, Fault, Limits, Refusal, Side, code};
use cocoon_wire::FrameFault;
use proptest::prelude::*;

fn pair(now_ms: u64) -> (Connection, Connection) {
    (
        Connection::new(Side::Connecting { connect_id: 9 }, Limits::connecting(), now_ms),
        Connection::new(Side::Accepting, Limits::accepting(), now_ms),
    )
}

/// Moves up to `count` bytes of output from one side into the other and takes its events.
fn carry(
    from: &mut Connection,
    to: &mut Connection,
    count: usize,
    now_ms: u64,
    events: &mut Vec<Event>,
) {
    let count = count.min(from.output().len());
    to.input().extend_from_slice(&from.output()[..count]);
    from.written(count, now_ms);
    events.extend(std::iter::from_fn(|| to.poll_event(now_ms)));
}

/// Limits under which silence never ends a connection.
fn patient() -> Limits {
    Limits { idle_ms: u64::MAX, stall_ms: u64::MAX, ..Limits::connecting() }
}

fn ready_pair(now_ms: u64) -> (Connection, Connection) {
    ready(pair(now_ms), now_ms)
}

fn ready_pair_with(limits: Limits, now_ms: u64) -> (Connection, Connection) {
    let dialled = Connection::new(Side::Connecting { connect_id: 9 }, limits.clone(), now_ms);
    ready((dialled, Connection::new(Side::Accepting, limits, now_ms)), now_ms)
}

fn ready(pair: (Connection, Connection), now_ms: u64) -> (Connection, Connection) {
    let (mut dialled, mut accepted) = pair;
    let mut events = Vec::new();
    carry(&mut dialled, &mut accepted, usize::MAX, now_ms, &mut events);
    carry(&mut accepted, &mut dialled, usize::MAX, now_ms, &mut events);
    assert_eq!(events, vec![Event::Ready { peer_connect_id: 9 }; 2]);
    (dialled, accepted)
}

#[derive(Clone, Debug)]
enum Step {
    Message(Vec<u8>),
    Query(i64, Vec<u8>, u64),
    AnswerOldest(Vec<u8>),
    FailOldest(i32),
    CarryThere(usize),
    CarryBack(usize),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let data = || prop::collection::vec(any::<u8>(), 0..600);
    prop_oneof![
        data().prop_map(Step::Message),
        (0..40i64, data(), 0..8_000u64).prop_map(|(id, data, ms)| Step::Query(id, data, ms)),
        data().prop_map(Step::AnswerOldest),
        any::<i32>().prop_map(Step::FailOldest),
        (0..900usize).prop_map(Step::CarryThere),
        (0..900usize).prop_map(Step::CarryBack),
        (0..4_000u64).prop_map(Step::Wait),
    ]
}

proptest! {
    /// What one side sends arrives in order however it is cut; each accepted query has
    /// exactly one end.
    #[test]
    fn histories_keep_order_and_end_each_query_once(steps in prop::collection::vec(step(), 0..120)) {
        let mut now_ms = 1_000;
        let (mut dialled, mut accepted) = ready_pair_with(patient(), now_ms);
        let (mut there, mut back) = (Vec::new(), Vec::new());
        let mut sent: Vec<(Option<i64>, Bytes)> = Vec::new();
        let mut open: BTreeSet<i64> = BTreeSet::new();
        let mut asked: Vec<i64> = Vec::new();
        let mut taken = 0;
        let mut ended = 0;
        for step in steps {
            match step {
                Step::Message(data) => {
                    dialled.message(&Encoded(&data), now_ms).unwrap();
                    sent.push((None, data.into()));
                }
                Step::Query(id, data, timeout_ms) => {
                    let result = dialled.query(id, &Encoded(&data), timeout_ms, now_ms);
                    let expected = if open.insert(id) { Ok(()) } else { Err(Refusal::QueryIdInUse { id }) };
                    prop_assert_eq!(&result, &expected);
                    if result.is_ok() {
                        sent.push((Some(id), data.into()));
                    }
                }
                Step::AnswerOldest(data) => if let Some(id) = asked.pop() {
                    accepted.answer(id, &Encoded(&data), now_ms).unwrap();
                },
                Step::FailOldest(code) => if let Some(id) = asked.pop() {
                    accepted.answer_error(id, code, "no", now_ms).unwrap();
                },
                Step::CarryThere(count) => carry(&mut dialled, &mut accepted, count, now_ms, &mut there),
                Step::CarryBack(count) => carry(&mut accepted, &mut dialled, count, now_ms, &mut back),
                Step::Wait(ms) => {
                    now_ms += ms;
                    // The peer lives: its pings and pongs get through.
                    dialled.tick(now_ms);
                    accepted.tick(now_ms);
                    back.extend(std::iter::from_fn(|| dialled.poll_event(now_ms)));
                    there.extend(std::iter::from_fn(|| accepted.poll_event(now_ms)));
                }
            }
            for event in &there[taken..] {
                if let Event::Query { id, .. } = event { asked.push(*id) }
            }
            taken = there.len();
            for event in &back[ended..] {
                match event {
                    Event::Answer { id, .. } | Event::QueryFailed { id, .. } => {
                        prop_assert!(open.remove(id), "query {} ended twice", id);
                    }
                    _ => {}
                }
            }
            ended = back.len();
            prop_assert_eq!(dialled.open_queries(), open.len());
        }
        dialled.disconnected(None);
        for event in std::iter::from_fn(|| dialled.poll_event(now_ms)) {
            if let Event::QueryFailed { id, code, .. } = event {
                prop_assert!(open.remove(&id) && code == code::CANCELLED);
            }
        }
        prop_assert!(open.is_empty());
        let arrived: Vec<_> = there.into_iter().filter_map(|event| match event {
            Event::Message(data) => Some((None, data)),
            Event::Query { id, data } => Some((Some(id), data)),
            _ => None,
        }).collect();
        prop_assert_eq!(&arrived[..], &sent[..arrived.len()]);
    }

    /// Any bytes give events or one fault; nothing follows it; memory stays with the input.
    #[test]
    fn arbitrary_bytes_never_panic(
        accepting: bool,
        hello: bool,
        chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..20),
    ) {
        feed(accepting, hello, &chunks)?;
    }

    #[test]
    fn the_fuzz_target_holds(data in prop::collection::vec(any::<u8>(), 0..600)) {
        cocoon_session::fuzz::connection(&data);
    }

    /// The same for frames whose header is right, so that the packets themselves are reached.
    #[test]
    fn arbitrary_packets_never_panic(
        accepting: bool,
        packets in prop::collection::vec((0..9usize, prop::collection::vec(any::<u8>(), 0..60)), 1..20),
    ) {
        let ids = [
            0xa57c_4261_u32, 0x636d_41d6, 0xbbe9_627c, 0x0bd4_302c, 0x9c17_baf8, 0x3af5_1908,
            0xc048_c311, 0x4cd2_f602, 0xffff_ffff,
        ];
        let chunks: Vec<Vec<u8>> = packets.iter().zip(1i32..).map(|((kind, rest), sequence)| {
            let mut frame = (rest.len() as u32 + 4).to_le_bytes().to_vec();
            frame.extend(sequence.to_le_bytes());
            frame.extend(ids[*kind].to_le_bytes());
            frame.extend(rest);
            frame
        }).collect();
        feed(accepting, true, &chunks)?;
    }

    /// Deadlines: the next one is always where something happens, and ticking before it
    /// changes nothing.
    #[test]
    fn nothing_happens_before_the_next_deadline(waits in prop::collection::vec(1..30_000u64, 1..30)) {
        let mut now_ms = 5_000;
        let (mut dialled, _) = ready_pair(now_ms);
        dialled.query(1, &Encoded(b"four"), 7_000, now_ms).unwrap();
        for wait in waits {
            let Some(deadline_ms) = dialled.next_deadline_ms() else { break };
            let before = dialled.output().len();
            if now_ms + wait < deadline_ms {
                now_ms += wait;
                dialled.tick(now_ms);
                prop_assert_eq!(dialled.poll_event(now_ms), None);
                prop_assert_eq!(dialled.output().len(), before);
            } else {
                now_ms = deadline_ms;
                dialled.tick(now_ms);
                let event = dialled.poll_event(now_ms);
                prop_assert!(event.is_some() || dialled.output().len() > before);
            }
        }
    }
}

fn feed(accepting: bool, hello: bool, chunks: &[Vec<u8>]) -> Result<(), TestCaseError> {
    let (dialled, accepted) = if hello { ready_pair(0) } else { pair(0) };
    let mut connection = if accepting { accepted } else { dialled };
    let mut closed = false;
    let mut received = 0;
    for (chunk, now_ms) in chunks.iter().zip(1..) {
        received += chunk.len();
        connection.input().extend_from_slice(chunk);
        while let Some(event) = connection.poll_event(now_ms) {
            prop_assert!(!closed, "an event after the end");
            closed = matches!(event, Event::Closed(_));
        }
        prop_assert_eq!(closed, connection.is_closed());
        // Every 20 received bytes make us send at most one pong of 20.
        prop_assert!(connection.output().len() <= 20 + received);
    }
    Ok(())
}

#[test]
fn the_dialling_side_pings_at_10_s_and_leaves_at_20_s() {
    let (mut dialled, _) = ready_pair(0);
    assert_eq!(dialled.next_deadline_ms(), Some(10_000));
    dialled.tick(9_999);
    assert!(dialled.output().is_empty());
    dialled.tick(10_000);
    assert_eq!(dialled.output().len(), 20);
    dialled.tick(15_000);
    assert_eq!(dialled.output().len(), 20, "one ping for one silence");
    dialled.written(20, 15_000);
    assert_eq!(dialled.next_deadline_ms(), Some(20_000));
    dialled.tick(20_000);
    assert_eq!(dialled.poll_event(20_000), Some(Event::Closed(Fault::Silent { limit_ms: 20_000 })));
    assert_eq!(dialled.poll_event(20_000), None);
}

#[test]
fn the_accepting_side_leaves_at_60_s_and_answers_pings() {
    let (mut dialled, mut accepted) = ready_pair(0);
    dialled.tick(10_000);
    let mut events = Vec::new();
    carry(&mut dialled, &mut accepted, usize::MAX, 10_001, &mut events);
    carry(&mut accepted, &mut dialled, usize::MAX, 10_002, &mut events);
    assert!(events.is_empty());
    assert_eq!(dialled.next_deadline_ms(), Some(20_002), "a pong starts a new silence");
    assert_eq!(accepted.next_deadline_ms(), Some(70_001));
    accepted.tick(70_001);
    assert_eq!(
        accepted.poll_event(70_001),
        Some(Event::Closed(Fault::Silent { limit_ms: 60_000 }))
    );
}

#[test]
fn a_query_times_out_with_652_and_its_late_answer_is_ignored() {
    let (mut dialled, mut accepted) = ready_pair(0);
    dialled.query(5, &Encoded(b"four"), 300, 0).unwrap();
    let mut events = Vec::new();
    carry(&mut dialled, &mut accepted, usize::MAX, 1, &mut events);
    dialled.tick(300);
    let failed = Event::QueryFailed { id: 5, code: 652, message: "Timeout".to_owned() };
    assert_eq!(dialled.poll_event(300), Some(failed));
    accepted.answer(5, &Encoded(b"late"), 301).unwrap();
    events.clear();
    carry(&mut accepted, &mut dialled, usize::MAX, 302, &mut events);
    assert_eq!(events, []);
    assert!(!dialled.is_closed());
}

#[test]
fn a_lost_connection_fails_open_queries_at_once() {
    let (mut dialled, _) = ready_pair(0);
    for id in [3, 1, 2] {
        dialled.query(id, &Encoded(b"four"), 60_000, 0).unwrap();
    }
    dialled.disconnected(Some("reset".to_owned()));
    let events: Vec<_> = std::iter::from_fn(|| dialled.poll_event(1)).collect();
    let failed = |id| Event::QueryFailed { id, code: 653, message: "connection lost".to_owned() };
    let closed = Event::Closed(Fault::Socket("reset".to_owned()));
    assert_eq!(events, [failed(1), failed(2), failed(3), closed]);
    assert_eq!(dialled.message(&Encoded(b"four"), 2), Err(Refusal::Closed));
}

#[test]
fn a_peer_that_does_not_read_is_left() {
    let (mut dialled, _) = ready_pair(0);
    let megabyte = vec![0; 1 << 20];
    let refused = (0..100).find_map(|_| dialled.message(&Encoded(&megabyte), 5).err());
    let limit = Limits::connecting().output_bytes_max;
    assert!(matches!(refused, Some(Refusal::OutputFull { queued, .. }) if queued <= limit));
    assert!(dialled.output().len() <= limit);
    dialled.tick(20_005);
    assert!(matches!(dialled.poll_event(20_005), Some(Event::Closed(Fault::SlowReader { .. }))));
}

#[test]
fn a_flood_of_pings_ends_at_the_output_limit() {
    let limits = Limits { output_bytes_max: 1_000, ..Limits::accepting() };
    let mut accepted = Connection::new(Side::Accepting, limits, 0);
    accepted.input().extend_from_slice(&frame(0, 0xa57c_4261, &[0; 8]));
    for sequence in 1..60 {
        accepted.input().extend_from_slice(&frame(sequence, 0xbbe9_627c, &[0; 8]));
    }
    let events: Vec<_> = std::iter::from_fn(|| accepted.poll_event(1)).collect();
    assert!(matches!(events.last(), Some(Event::Closed(Fault::SlowReader { queued: 1_000 }))));
    assert_eq!(accepted.output().len(), 1_000);
}

fn frame(sequence: i32, id: u32, rest: &[u8]) -> Vec<u8> {
    let mut frame = (rest.len() as u32 + 4).to_le_bytes().to_vec();
    frame.extend(sequence.to_le_bytes());
    frame.extend(id.to_le_bytes());
    frame.extend(rest);
    frame
}

#[test]
fn lies_about_length_sequence_and_hello_close_the_connection() {
    let mut too_short = 3u32.to_le_bytes().to_vec();
    too_short.extend([0; 4]);
    let too_long = (1u32 << 24) + 1;
    let cases: [(Vec<u8>, Fault); 4] = [
        (frame(0, 0x636d_41d6, &[0; 8]), Fault::Hello { expected: "tcp.connect" }),
        (too_short, FrameFault::Length { length: 3 }.into()),
        (too_long.to_le_bytes().to_vec(), Fault::PayloadLength { announced: too_long, limit: 12 }),
        (frame(1, 0xa57c_4261, &[0; 8]), FrameFault::Seqno { found: 1, expected: 0 }.into()),
    ];
    for (bytes, fault) in cases {
        let mut accepted = Connection::new(Side::Accepting, Limits::accepting(), 0);
        accepted.input().extend_from_slice(&bytes);
        assert_eq!(accepted.poll_event(1), Some(Event::Closed(fault)));
    }
    let (_, mut accepted) = ready_pair(0);
    accepted.input().extend_from_slice(&too_long.to_le_bytes());
    let fault = Fault::PayloadLength { announced: too_long, limit: 1 << 24 };
    assert_eq!(accepted.poll_event(1), Some(Event::Closed(fault)));
}

#[test]
fn a_silent_dialler_is_left_before_the_idle_limit() {
    let mut accepted = Connection::new(Side::Accepting, Limits::accepting(), 0);
    assert_eq!(accepted.next_deadline_ms(), Some(20_000));
    accepted.tick(20_000);
    let closed = Event::Closed(Fault::NoHello { limit_ms: 20_000 });
    assert_eq!(accepted.poll_event(20_000), Some(closed));
}

#[test]
fn commands_before_hello_and_beyond_the_limits_are_refused() {
    let (mut dialled, _) = pair(0);
    assert_eq!(dialled.message(&Encoded(b"four"), 1), Err(Refusal::NotReady));
    let (mut dialled, _) = ready_pair(0);
    let limit = 1 << 24;
    let huge = vec![0; limit];
    let refused = dialled.message(&Encoded(&huge), 1);
    assert_eq!(refused, Err(Refusal::TooLong { len: limit + 8 + 4, limit }));
    for id in 0..1_024 {
        dialled.query(id, &Encoded(b"four"), 1_000, 1).unwrap();
    }
    let refused = dialled.query(1_024, &Encoded(b"four"), 1_000, 1);
    assert_eq!(refused, Err(Refusal::TooManyQueries { limit: 1_024 }));
    assert_eq!(dialled.open_queries(), 1_024);
}
