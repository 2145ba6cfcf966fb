//! Queries and their answers in every dialect (protocol notes, wire 3.7, 3.8, 4.5, 4.6).

use cocoon_channel::Command;
use cocoon_role_worker::{Incoming, Reject, Run};
use cocoon_units::{Tokens, Usage};
use cocoon_wire::proxy::RunQuery;
use cocoon_wire::tl::{self, Blob};
use cocoon_wire::worker::Message;
use cocoon_wire::{cocoon, http, worker};

use crate::scene::{NOW, REQUEST, Scene, SignedPaymentOf, http_request, run_query};

fn started(scene: &mut Scene, message: Vec<u8>) -> Run {
    match scene.message(message).unwrap().incoming {
        Some(Incoming::Run(run)) => *run,
        other => panic!("{other:?} instead of a run"),
    }
}

fn refused(scene: &mut Scene, message: Vec<u8>) -> (i32, String) {
    let Some(Incoming::Refuse(data)) = scene.message(message).unwrap().incoming else {
        panic!("not refused")
    };
    match Message::decode(&data).unwrap() {
        Message::QueryAnswerErrorEx(error) => {
            assert_eq!(error.request_id, REQUEST);
            assert_eq!(error.final_info.unwrap().tokens_used, Default::default());
            (error.error_code, error.error.to_string())
        }
        Message::QueryAnswerError(error) => (error.error_code, error.error.to_string()),
        other => panic!("{other:?}"),
    }
}

fn run(version: i32, body: &[u8]) -> Run {
    started(&mut Scene::ready(version), tl::encode(&run_query(&http_request(body))))
}

#[test]
fn the_model_server_gets_the_request_without_hops_and_credentials() {
    let run = run(4, b"{\"model\":\"qwen\"}");
    assert_eq!(run.request, REQUEST);
    assert_eq!(run.backend.path, "/v1/chat/completions");
    assert_eq!(run.backend.headers, [("content-type".into(), b"application/json".to_vec())]);
    assert_eq!(run.backend.body.expose().as_ref(), b"{\"model\":\"qwen\"}");
    assert!(run.seal.is_none());
    assert_eq!(run.deadline_ms, NOW + 100_000);
    assert_eq!(run.backend_deadline_ms, NOW + 95_000);
}

#[test]
fn deadlines_are_bounded() {
    let run_with = |timeout: f64| {
        let query = http_request(b"{}");
        let mut message = run_query(&query);
        message.timeout = timeout;
        tl::encode(&message)
    };
    let run = started(&mut Scene::ready(4), run_with(1e300));
    assert_eq!(run.deadline_ms, NOW + 86_400_000);
    let run = started(&mut Scene::ready(4), run_with(0.5));
    assert_eq!((run.deadline_ms, run.backend_deadline_ms), (NOW + 500, NOW + 475));
    for timeout in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let refused = refused(&mut Scene::ready(4), run_with(timeout));
        assert_eq!(refused, (652, "worker: timeout".into()));
    }
}

#[test]
fn usage_is_asked_for_when_a_stream_would_not_report_it() {
    let body = |body: &[u8]| {
        let run = run(4, body);
        let value: serde_json::Value = serde_json::from_slice(run.backend.body.expose()).unwrap();
        value
    };
    let asked = body(b"{\"model\":\"qwen\",\"messages\":[{\"role\":\"user\",\"content\":\"a\"}],\"stream\":true}");
    assert_eq!(asked["stream_options"]["include_usage"], true);
    let asked = body(b"{\"model\":\"qwen\",\"messages\":[{\"role\":\"user\",\"content\":\"a\"}],\"stream\":true,\"stream_options\":{\"include_usage\":false}}");
    assert_eq!(asked["stream_options"]["include_usage"], true);
    let plain = body(b"{\"model\":\"qwen\",\"messages\":[{\"role\":\"user\",\"content\":\"a\"}]}");
    assert!(plain.get("stream_options").is_none());
}

#[test]
fn requests_that_cannot_run_are_refused_with_their_text() {
    let http = |method: &'static str, url: &'static str| {
        let query = tl::encode(&http::Request {
            method: method.into(),
            url: url.into(),
            http_version: "HTTP/1.1".into(),
            headers: Vec::new(),
            payload: Blob(b"{}"),
        });
        refused(&mut Scene::ready(4), tl::encode(&run_query(&query)))
    };
    let prefix = "worker: invalid http request: ";
    assert_eq!(http("GET", "/v1/models"), (621, format!("{prefix}unsupported method")));
    let path = format!("{prefix}unsupported path '/v1/nonsense'");
    assert_eq!(http("POST", "http://host/v1/nonsense?x=1"), (621, path));
    let (code, text) = refused(&mut Scene::ready(4), tl::encode(&run_query(b"no request")));
    assert_eq!(code, 621);
    assert!(text.starts_with(prefix), "{text}");
}

/// The messages of an answer of this version: head, two parts, end.
fn answer(version: i32, debug: bool) -> (Vec<Vec<u8>>, Tokens) {
    let query = http_request(b"{}");
    let mut message = run_query(&query);
    message.enable_debug = Some(debug);
    message.coefficient = 2_000;
    let mut run = started(&mut Scene::ready(version), tl::encode(&message));
    let writer = &mut run.answer;
    let mut messages = vec![Vec::new(), Vec::new(), Vec::new(), Vec::new()];
    let headers: [(&str, &[u8]); 4] = [
        ("content-type", b"application/json"),
        ("Content-Length", b"5"),
        ("connection", b"close"),
        ("transfer-encoding", b"chunked"),
    ];
    writer.head(&mut messages[0], 200, headers.into_iter(), NOW + 10);
    writer.part(&mut messages[1], b"ab");
    writer.part(&mut messages[2], b"");
    let usage = Usage { prompt: 10, completion: 5, ..Usage::default() };
    let claimed = writer.finish(&mut messages[3], &usage, NOW + 20);
    assert!(messages[2].is_empty(), "an empty part is not sent");
    messages.remove(2);
    (messages, claimed)
}

fn check_head(answer: &[u8]) {
    let head: http::Response<'_> = tl::decode(answer).unwrap();
    assert_eq!((head.status_code, head.http_version.to_string()), (200, "HTTP/1.1".into()));
    let names: Vec<String> = head.headers.iter().map(|header| header.name.to_string()).collect();
    let expected =
        ["content-type", "X-Cocoon-Worker-Start", "X-Cocoon-Worker-End", "Transfer-Encoding"];
    assert_eq!(names, expected);
    assert_eq!(head.headers[1].value.0, b"1700000000.000000");
    assert_eq!(head.headers[2].value.0, b"1700000000.010000");
}

#[test]
fn answers_of_the_newer_dialects_end_with_what_their_version_knows() {
    for version in 1..=4 {
        for debug in [false, true] {
            let (messages, claimed) = answer(version, debug);
            let [head, part, end] = messages.as_slice() else { panic!("three messages") };
            let Message::QueryAnswerEx(head) = Message::decode(head).unwrap() else {
                panic!("head")
            };
            assert_eq!(head.final_info, None);
            check_head(head.answer.0);
            let Message::QueryAnswerPartEx(part) = Message::decode(part).unwrap() else {
                panic!("part")
            };
            assert_eq!((part.answer.0, part.final_info), (b"ab".as_slice(), None));
            let Message::QueryAnswerPartEx(end) = Message::decode(end).unwrap() else {
                panic!("end")
            };
            let info = end.final_info.unwrap();
            assert_eq!(info.tokens_used.total_tokens_used, claimed.to_wire());
            assert!(claimed > Tokens::ZERO);
            assert_eq!(info.times.is_some(), version >= 2);
            assert_eq!(info.worker_debug.is_some(), debug);
            if let Some(text) = info.worker_debug {
                let stats: serde_json::Value = serde_json::from_str(&text.to_string()).unwrap();
                assert_eq!(stats["type"], "worker_stats");
                assert_eq!(stats["answer_receive_start_at"], 1_700_000_000.010);
            }
        }
    }
}

#[test]
fn answers_of_the_oldest_dialect_are_told_in_it() {
    let (messages, claimed) = answer(0, true);
    let [head, part, end] = messages.as_slice() else { panic!("three messages") };
    let Message::QueryAnswer(head) = Message::decode(head).unwrap() else { panic!("head") };
    assert!(!head.is_completed);
    check_head(head.answer.0);
    let Message::QueryAnswerPart(part) = Message::decode(part).unwrap() else { panic!("part") };
    assert_eq!((part.answer.0, part.is_completed), (b"ab".as_slice(), false));
    let Message::QueryAnswerPart(end) = Message::decode(end).unwrap() else { panic!("end") };
    assert!(end.is_completed);
    assert_eq!(end.tokens_used.total_tokens_used, claimed.to_wire());
}

#[test]
fn an_old_query_on_a_new_connection_is_answered_in_the_old_dialect() {
    let query = http_request(b"{}");
    let old = |timeout| {
        tl::encode(&RunQuery {
            query: Blob(&query),
            signed_payment: SignedPaymentOf::Empty,
            coefficient: 1_000,
            timeout,
            request_id: REQUEST,
        })
    };
    let run = started(&mut Scene::ready(4), old(10.0));
    let mut out = Vec::new();
    run.answer.finish(&mut out, &Usage::default(), NOW);
    assert!(matches!(Message::decode(&out).unwrap(), Message::QueryAnswerPart(_)));
    assert_eq!(refused(&mut Scene::ready(4), old(0.0)).0, 652);
}

#[test]
fn failures_claim_what_was_used_before_and_behind_the_head() {
    let usage = Usage { completion: 3, ..Usage::default() };
    for version in [0, 1, 4] {
        for with_head in [false, true] {
            let mut run = run(version, b"{}");
            let mut out = Vec::new();
            if with_head {
                run.answer.head(&mut out, 200, std::iter::empty(), NOW + 1);
                out.clear();
            }
            let cancelled = Reject { code: 653, message: "cancelled".into() };
            let claimed = run.answer.fail(&mut out, &cancelled, &usage, NOW + 2);
            assert_eq!(claimed, run.answer.adjusted(&usage).total);
            assert!(claimed > Tokens::ZERO);
            let (code, total) = match Message::decode(&out).unwrap() {
                Message::QueryAnswerError(e) if version == 0 && !with_head => {
                    (e.error_code, e.tokens_used.total_tokens_used)
                }
                Message::QueryAnswerPartError(e) if version == 0 && with_head => {
                    (e.error_code, e.tokens_used.total_tokens_used)
                }
                Message::QueryAnswerErrorEx(e) if version > 0 => {
                    (e.error_code, e.final_info.unwrap().tokens_used.total_tokens_used)
                }
                other => panic!("{other:?} at version {version}"),
            };
            assert_eq!((code, total), (653, claimed.to_wire()));
        }
    }
}

#[test]
fn a_cancel_names_its_query() {
    let mut scene = Scene::ready(4);
    let cancel = tl::encode(&cocoon::CancelQuery { request_id: REQUEST });
    let turn = scene.message(cancel).unwrap();
    assert!(matches!(turn.incoming, Some(Incoming::Cancel(REQUEST))));
}

#[test]
fn nothing_runs_before_the_handshake_is_complete() {
    let mut scene = Scene::new();
    scene.hello(Some(4)).unwrap();
    let turn = scene.message(tl::encode(&run_query(&http_request(b"{}")))).unwrap();
    assert!(turn.incoming.is_none() && turn.send.is_empty());
}

#[test]
fn changing_the_model_is_for_version_four_alone() {
    let change = tl::encode(&worker::ChangeModel { new_model: "other@1:00".into() });
    let turn = Scene::ready(4).session.queried(9, &change);
    let Some(Incoming::ChangeModel { query: 9, model }) = turn.incoming else {
        panic!("no change")
    };
    assert_eq!(model, "other@1:00");
    for (mut turn, why) in [
        (Scene::ready(3).session.queried(9, &change), "version 3"),
        (Scene::new().session.queried(9, &change), "before the handshake"),
        (Scene::ready(4).session.queried(9, b"nonsense"), "no query"),
    ] {
        assert!(turn.incoming.is_none(), "{why}");
        let unknown = "unknown query magic".to_owned();
        let answer = Command::AnswerError { id: 9, code: 601, message: unknown };
        assert_eq!(turn.send.pop(), Some(answer), "{why}");
    }
}
