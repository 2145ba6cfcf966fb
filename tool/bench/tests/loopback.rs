//! The mock and the load generator against each other, over real sockets.

#![allow(clippy::unwrap_used, reason = "a test")]

use cocoon_bench::load::{self, Reuse, Shape};
use cocoon_bench::mock::{Counts, Mock, Options, Style};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

const DEADLINE: Duration = Duration::from_secs(20);

fn mock(options: Options) -> Mock {
    Mock::start(options).unwrap()
}

fn load_on(mock: &Mock, shape: Shape, requests: u64) -> load::Options {
    let mut options = load::Options::new(format!("http://{}", mock.address()), shape);
    options.requests = Some(requests);
    options.duration = DEADLINE;
    options
}

/// Polls until the counts are as expected: what ends a request may come after the caller's end.
fn wait_for(mock: &Mock, expected: impl Fn(&Counts) -> bool) -> Counts {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let counts = mock.counts();
        if expected(&counts) {
            return counts;
        }
        assert!(Instant::now() < deadline, "{counts:?}");
        std::thread::yield_now();
    }
}

#[test]
fn streams_are_counted_alike_on_both_sides() {
    let mock = mock(Options { threads: 2, ..Options::default() });
    let mut options = load_on(&mock, Shape::Stream, 500);
    options.connections = 10;
    let report = load::run(&options).unwrap();
    assert_eq!((report.requests, report.failures()), (500, 0), "{report}");
    // 50 events, the usage and the end mark.
    assert_eq!(report.events, 500 * 52);
    assert!(report.first.p50 >= report.head.p50 && report.latency.max >= report.first.max);
    assert!(report.gap.max > 0.0);
    let counts = wait_for(&mock, |counts| counts.running == 0);
    assert_eq!((counts.requests, counts.completed, counts.streams), (500, 500, 500));
    assert_eq!((counts.events, counts.connections), (500 * 51, 10));
    assert_eq!(report.connects, 10);
}

#[test]
fn every_request_has_its_connection_when_told_so() {
    let mock = mock(Options::default());
    let mut options = load_on(&mock, Shape::Small, 200);
    (options.connections, options.reuse) = (7, Reuse::NewConnection);
    let report = load::run(&options).unwrap();
    assert_eq!((report.requests, report.failures(), report.connects), (200, 0, 200), "{report}");
    let counts = wait_for(&mock, |counts| counts.running == 0);
    assert_eq!((counts.requests, counts.connections, counts.streams), (200, 200, 0));
}

#[test]
fn time_ends_a_load_and_cancels_what_runs() {
    let mock = mock(Options { gap: Duration::from_secs(3600), ..Options::default() });
    let mut options = load_on(&mock, Shape::Stream, u64::MAX);
    (options.connections, options.duration) = (5, Duration::from_secs(2));
    let report = load::run(&options).unwrap();
    assert_eq!((report.requests, report.failures()), (0, 0), "{report}");
    // Nothing runs before the mock has read the first of them, too.
    let ended = |counts: &Counts| counts.cancelled == 5 && counts.running == 0;
    assert_eq!(wait_for(&mock, ended).requests, 5);
}

#[test]
fn pauses_are_seen_as_gaps() {
    let gap = Duration::from_millis(20);
    let mock = mock(Options { gap, events: 5, ..Options::default() });
    let report = load::run(&load_on(&mock, Shape::Stream, 2)).unwrap();
    assert_eq!((report.requests, report.events), (2, 2 * 7), "{report}");
    assert!(report.gap.p50 >= 15.0, "{report}");
    assert!(report.latency.p50 >= 6.0 * 20.0, "{report}");
}

#[test]
fn misbehaviour_is_seen_for_what_it_is() {
    let outcome = |how: &str, shape| {
        let mock = mock(Options::default());
        let mut options = load_on(&mock, shape, 3);
        options.model = format!("mock-fault-{how}");
        // The others are to be seen for what they are however long they take.
        let is_silence = matches!(how, "silent" | "stall");
        options.timeout = if is_silence { Duration::from_millis(500) } else { DEADLINE };
        let report = load::run(&options).unwrap();
        assert_eq!((report.requests, report.failures()), (0, 3), "{how}: {report}");
        let counts = wait_for(&mock, |counts| counts.requests == 3 && counts.running == 0);
        let errors = report.errors.into_keys().chain(report.statuses.keys().map(u16::to_string));
        (errors.collect::<Vec<_>>().join(","), counts.cancelled, counts.misbehaved)
    };
    assert_eq!(outcome("silent", Shape::Small), ("timeout".into(), 3, 0));
    assert_eq!(outcome("stall", Shape::Stream), ("timeout".into(), 3, 0));
    assert_eq!(outcome("die", Shape::Stream), ("read".into(), 0, 3));
    assert_eq!(outcome("error", Shape::Small), ("500".into(), 0, 3));
    assert_eq!(outcome("busy", Shape::Stream), ("503".into(), 0, 3));
    assert_eq!(outcome("garbage", Shape::Stream), ("truncated".into(), 0, 3));
    assert_eq!(outcome("garbage", Shape::Small), ("truncated".into(), 0, 3));
}

#[test]
fn nobody_there_is_an_error_not_a_hang() {
    let gone = mock(Options::default());
    let options = load_on(&gone, Shape::Small, 4);
    drop(gone);
    let report = load::run(&options).unwrap();
    assert_eq!(report.errors.get("connect"), Some(&4), "{report}");
}

/// One exchange by hand, so that the two programs cannot be wrong in the same way.
fn exchange(mock: &Mock, request: &str) -> String {
    let mut stream = TcpStream::connect(mock.address()).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn post(body: &str, header: &str) -> String {
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: mock\r\nConnection: close\r\n{header}\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

#[test]
fn each_event_is_its_own_chunk() {
    let mock = mock(Options { events: 3, ..Options::default() });
    let answer = exchange(&mock, &post(r#"{"stream":true}"#, ""));
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("content-type: text/event-stream\r\n"), "{answer}");
    // 128 bytes are 80 in hexadecimal; the first carries the role besides. No usage unasked.
    assert_eq!(answer.matches("\r\n80\r\ndata: {").count(), 1, "{answer}");
    assert_eq!(answer.matches("data: {").count(), 3, "{answer}");
    assert!(!answer.contains("usage"), "{answer}");
    assert!(answer.ends_with("\r\nE\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"), "{answer}");
}

#[test]
fn lines_are_sent_to_who_wants_lines() {
    let mock = mock(Options { events: 2, style: Style::JsonLines, ..Options::default() });
    let answer = exchange(&mock, &post(r#"{"stream":true}"#, ""));
    assert!(answer.contains("content-type: application/json\r\n"), "{answer}");
    assert!(!answer.contains("data:") && answer.contains("\"usage\":{"), "{answer}");
}

#[test]
fn header_and_member_choose_a_fault_and_typing_mistakes_are_refused() {
    let mock = mock(Options::default());
    let status = |body: &str, header: &str| exchange(&mock, &post(body, header))[9..12].to_owned();
    assert_eq!(status(r#"{"model":"mock"}"#, "x-mock-fault: busy\r\n"), "503");
    assert_eq!(status(r#"{"mock_fault":"error"}"#, ""), "500");
    assert_eq!(status(r#"{"mock_fault":"eror"}"#, ""), "400");
    assert_eq!(status("not JSON", ""), "400");
    let counts = wait_for(&mock, |counts| counts.running == 0);
    assert_eq!((counts.requests, counts.misbehaved, counts.refused), (4, 2, 2));
}

#[test]
fn pages_are_served_and_counts_are_read_over_the_wire() {
    let mock = mock(Options { models: vec!["a".into(), "b".into()], ..Options::default() });
    let get = |path: &str| {
        exchange(&mock, &format!("GET {path} HTTP/1.1\r\nHost: m\r\nConnection: close\r\n\r\n"))
    };
    assert!(get("/v1/models").contains(r#""id":"b""#));
    assert!(get("/health").starts_with("HTTP/1.1 200"));
    assert!(get("/nothing").starts_with("HTTP/1.1 404"));
    let answer = get("/counts");
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    let counts: Counts = serde_json::from_str(body).unwrap();
    assert_eq!((counts.probes, counts.connections), (2, 4));
}
