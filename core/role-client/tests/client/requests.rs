//! Requests, answers of both dialects, payments for them (protocol notes, wire 3.4, 3.5, 8.2).

use cocoon_channel::ChannelFault;
use cocoon_role_client::{AnswerEvent, Charge, Fault, Incoming};
use cocoon_units::Tokens;
use cocoon_wire::client::{self, TokensUsed};
use cocoon_wire::proxy::ClientRequestPayment;
use cocoon_wire::tl::{self, Blob, Extensions};
use cocoon_wire::{cocoon, http};

use crate::scene::{NOW, REQUEST, Scene, signed};

#[test]
fn a_request_is_written_for_its_version() {
    for version in 1..=4 {
        let data = Scene::ready(version).ask(REQUEST, Tokens(u64::MAX), 120_000);
        let client::Message::RunQueryEx(run) = client::Message::decode(&data).unwrap() else {
            panic!("a query")
        };
        assert_eq!(run.public_key.is_some(), version >= 3, "an older proxy drops the key");
        assert!((run.timeout - 114.0).abs() < 1e-9);
        assert_eq!((run.max_tokens, run.max_coefficient), (i32::MAX, 1_000));
        assert_eq!((run.enable_debug, run.min_config_version), (Some(true), 3));
        let request: http::Request<'_> = tl::decode(run.query.0).unwrap();
        assert_eq!(request.payload.0, b"{\"a\":1}");
        let length = request.headers.last().unwrap();
        assert_eq!((length.name.to_string(), length.value.0), ("content-length".into(), &b"7"[..]));
    }
}

#[test]
fn only_a_proxy_that_knows_cancelling_is_told() {
    assert_eq!(Scene::ready(4).session.cancel(REQUEST), None);
    let mut scene = Scene::new();
    scene.hello_with(|hello| hello.params.extensions = cocoon::ANNOUNCED).unwrap();
    scene.asked += 1;
    scene.authorized(None, 0, 0).unwrap();
    let data = scene.session.cancel(REQUEST).unwrap();
    let cancel = client::Message::CancelQuery(cocoon::CancelQuery { request_id: REQUEST });
    assert_eq!(client::Message::decode(&data), Ok(cancel));
}

#[test]
fn workers_are_named_only_to_a_proxy_that_knows_how() {
    assert_eq!(Scene::ready(4).session.name_workers(REQUEST, &[1]), None);
    let mut scene = Scene::new();
    scene.hello_with(|hello| hello.params.extensions = cocoon::ANNOUNCED).unwrap();
    assert_eq!(scene.session.name_workers(REQUEST, &[1]), None, "before the handshake ends");
    scene.asked += 1;
    scene.authorized(None, 0, 0).unwrap();
    for none in [vec![], vec![1; cocoon::ONLY_WORKERS_MAX + 1]] {
        assert_eq!(scene.session.name_workers(REQUEST, &none), None);
    }
    let data = scene.session.name_workers(REQUEST, &[-1, 7]).unwrap();
    let named = cocoon::OnlyWorkers { request_id: REQUEST, workers: vec![-1, 7] };
    let named = client::Message::OnlyWorkers(named);
    assert_eq!(client::Message::decode(&data), Ok(named));
}

fn head() -> Vec<u8> {
    tl::encode(&http::Response {
        http_version: "HTTP/1.1".into(),
        status_code: 200,
        reason: "".into(),
        headers: vec![http::Header { name: "x".into(), value: Blob(b"y") }],
        payload: Blob(b""),
    })
}

const USED: TokensUsed = TokensUsed {
    prompt_tokens_used: 1,
    cached_tokens_used: 2,
    completion_tokens_used: 3,
    reasoning_tokens_used: 4,
    total_tokens_used: 10,
};

/// What a message says of a request that is open.
fn event(scene: &mut Scene, message: Vec<u8>) -> (AnswerEvent, usize) {
    scene.ask(REQUEST, Tokens(100), 120_000);
    let turn = scene.message(message).unwrap();
    match turn.incoming {
        Some(Incoming::Answer(REQUEST, event)) => (event, turn.records.len()),
        other => panic!("{other:?}"),
    }
}

fn is_head(event: &AnswerEvent, ends: bool) {
    let AnswerEvent::Head { status, headers, end, .. } = event else { panic!("{event:?}") };
    assert_eq!((*status, end.is_some()), (200, ends));
    assert_eq!(headers, &[("x".to_owned(), bytes::Bytes::from_static(b"y"))]);
}

fn charged(charge: &Charge) {
    assert_eq!((charge.used.total, charge.used.reasoning), (Tokens(10), Tokens(4)));
}

#[test]
fn the_newer_dialect_is_read() {
    let mut scene = Scene::ready(4);
    let info = client::QueryFinalInfo {
        extensions: Extensions::NONE,
        tokens_used: USED,
        debug: Some(client::Debug { worker: "w".into(), proxy: "p".into() }),
        times: Some(client::Times { proxy_start: 1.0, ..Default::default() }),
    };
    let head = head();
    let start = client::QueryAnswerEx {
        request_id: REQUEST,
        answer: Blob(&head),
        extensions: Extensions::NONE,
        final_info: None,
    };
    let (event_, records) = event(&mut scene, tl::encode(&start));
    is_head(&event_, false);
    assert_eq!(records, 0);
    let part = |info| client::QueryAnswerPartEx {
        request_id: REQUEST,
        answer: Blob(b"ab"),
        extensions: Extensions::NONE,
        final_info: info,
    };
    let (event_, records) = event(&mut scene, tl::encode(&part(None)));
    assert!(matches!(event_, AnswerEvent::Part { end: None, .. }));
    assert_eq!(records, 0);
    let (event_, records) = event(&mut scene, tl::encode(&part(Some(info.clone()))));
    let AnswerEvent::Part { bytes, end: Some(charge) } = event_ else { panic!("the end") };
    assert_eq!(bytes.as_ref(), b"ab");
    charged(&charge);
    assert_eq!(
        (charge.worker_debug.as_deref(), charge.proxy_debug.as_deref()),
        (Some("w"), Some("p"))
    );
    assert_eq!(records, 1, "what was used is booked");
    let (_, contract, _) = scene.proxy();
    assert_eq!(scene.channels.channel(contract).unwrap().books.own(), Tokens(10));
    let error = client::QueryAnswerErrorEx {
        request_id: REQUEST,
        error_code: 652,
        error: "timeout in proxy".into(),
        extensions: Extensions::NONE,
        final_info: Some(info),
    };
    let (AnswerEvent::Failed { refused, charge }, 1) = event(&mut scene, tl::encode(&error)) else {
        panic!("a failure")
    };
    assert_eq!((refused.code, refused.message.as_str()), (652, "timeout in proxy"));
    charged(&charge);
}

#[test]
fn an_old_proxy_may_answer_a_new_client_in_its_own_dialect() {
    let mut scene = Scene::ready(2);
    let head = head();
    for ends in [false, true] {
        let answer = client::QueryAnswer {
            answer: Blob(&head),
            is_completed: ends,
            request_id: REQUEST,
            request_tokens_used: USED,
        };
        let (event_, records) = event(&mut scene, tl::encode(&answer));
        is_head(&event_, ends);
        assert_eq!(records, usize::from(ends));
        let part = client::QueryAnswerPart {
            answer: Blob(b"ab"),
            is_completed: ends,
            request_id: REQUEST,
            request_tokens_used: USED,
        };
        let (AnswerEvent::Part { end, .. }, _) = event(&mut scene, tl::encode(&part)) else {
            panic!("a part")
        };
        assert_eq!(end.is_some(), ends);
    }
    let (error_code, error) = (651, tl::Text::from("no workers"));
    let first = client::QueryAnswerError {
        error_code,
        error: error.clone(),
        request_id: REQUEST,
        request_tokens_used: USED,
    };
    let later = client::QueryAnswerPartError {
        error_code,
        error,
        request_id: REQUEST,
        request_tokens_used: USED,
    };
    for data in [tl::encode(&first), tl::encode(&later)] {
        let (AnswerEvent::Failed { refused, charge }, 1) = event(&mut scene, data) else {
            panic!("a failure")
        };
        assert_eq!((refused.code, refused.message.as_str()), (651, "no workers"));
        charged(&charge);
    }
}

#[test]
fn what_was_never_asked_or_costs_more_than_it_can_is_not_counted() {
    let mut scene = Scene::ready(4);
    let (_, contract, _) = scene.proxy();
    let last = |total_tokens_used| {
        let info = client::QueryFinalInfo {
            tokens_used: TokensUsed { total_tokens_used, ..USED },
            ..Default::default()
        };
        tl::encode(&client::QueryAnswerErrorEx {
            request_id: REQUEST,
            error_code: 653,
            error: "cancelled".into(),
            extensions: Extensions::NONE,
            final_info: Some(info),
        })
    };
    let mut own = |asks: bool, used| {
        if asks {
            scene.ask(REQUEST, Tokens(100), 120_000);
        }
        let incoming = scene.message(last(used)).unwrap().incoming;
        let heard = matches!(incoming, Some(Incoming::Answer(..)));
        (heard, scene.channels.channel(contract).unwrap().books.own())
    };
    assert_eq!(own(false, 10), (false, Tokens(0)), "never asked");
    assert_eq!(own(true, 10), (true, Tokens(10)));
    assert_eq!(own(false, 10), (false, Tokens(10)), "it has ended");
    let (heard, counted) = own(true, i64::MAX);
    assert!(heard && counted < Tokens(1_000), "{counted} with 100 tokens of answer");
    scene.ask(REQUEST, Tokens(100), 120_000);
    scene.session.forget(REQUEST);
    let incoming = scene.message(last(10)).unwrap().incoming;
    assert!(matches!(incoming, Some(Incoming::Unasked(REQUEST))));
}

#[test]
fn a_head_that_is_none_ends_the_connection() {
    let message = client::QueryAnswerEx { answer: Blob(b"nonsense"), ..Default::default() };
    let fault = Scene::ready(4).message(tl::encode(&message)).unwrap_err();
    assert!(matches!(fault, Fault::Channel(ChannelFault::Malformed { what: "http.response", .. })));
}

#[test]
fn parts_are_passed_on_in_the_order_they_come() {
    // The session keeps no state of requests: who waits for the request tells a part before its
    // head from a right one.
    let mut scene = Scene::ready(4);
    let part = client::QueryAnswerPartEx {
        request_id: REQUEST,
        answer: Blob(b"early"),
        extensions: Extensions::NONE,
        final_info: None,
    };
    let (AnswerEvent::Part { bytes, end: None }, 0) = event(&mut scene, tl::encode(&part)) else {
        panic!("a part")
    };
    assert_eq!(bytes.as_ref(), b"early");
}

#[test]
fn a_booking_is_told_and_a_wrong_payment_does_not_end_the_connection() {
    let mut scene = Scene::ready(4);
    let (right, wrong) = (scene.payment(4), b"wrong".to_vec());
    for (payment, records) in [(Some(right.as_slice()), 1), (Some(wrong.as_slice()), 0), (None, 1)]
    {
        let max_tokens = if payment.is_none() { 9 } else { 8 };
        let booked = ClientRequestPayment {
            request_id: REQUEST,
            signed_payment: signed(payment),
            db_tokens: 6,
            max_tokens,
            request_tokens: 8,
        };
        let turn = scene.message(tl::encode(&booked)).unwrap();
        assert!(matches!(turn.incoming, Some(Incoming::Booked(REQUEST, Tokens(8)))));
        assert_eq!(turn.records.len(), records);
    }
    let (_, contract, _) = scene.proxy();
    assert_eq!(scene.channels.channel(contract).unwrap().payment, Some(right));
}

#[test]
fn names_of_models_that_no_worker_can_have_are_left_out() {
    let mut scene = Scene::ready(4);
    let turn = scene.session.ask_models();
    scene.sent::<client::GetWorkerTypesV2>(&turn, |_| {});
    let (long, longest) = ("x".repeat(1_025), "x".repeat(1_024));
    let model = |name: &str| client::WorkerTypeV2 { name: name.to_owned().into(), workers: vec![] };
    let list = client::WorkerTypesV2 { types: vec![model(&long), model(&longest), model("qwen")] };
    let Some(Incoming::Models(models)) = scene.answer(&tl::encode(&list)).unwrap().incoming else {
        panic!("models")
    };
    let names: Vec<&str> = models.iter().map(|model| model.name.as_str()).collect();
    assert_eq!(names, [longest.as_str(), "qwen"]);
}

#[test]
fn models_are_asked_for_once_at_a_time() {
    let mut scene = Scene::ready(4);
    let turn = scene.session.ask_models();
    scene.sent::<client::GetWorkerTypesV2>(&turn, |_| {});
    assert!(scene.session.ask_models().send.is_empty());
    let worker = client::WorkerInstanceV2 {
        coefficient: 900,
        active_requests: 1,
        max_active_requests: 4,
        ..Default::default()
    };
    let list = client::WorkerTypesV2 {
        types: vec![client::WorkerTypeV2 { name: "qwen".into(), workers: vec![worker] }],
    };
    let Some(Incoming::Models(models)) = scene.answer(&tl::encode(&list)).unwrap().incoming else {
        panic!("models")
    };
    assert_eq!((models[0].name.as_str(), models[0].workers[0].coefficient), ("qwen", 900));
    let turn = scene.session.ask_models();
    scene.sent::<client::GetWorkerTypesV2>(&turn, |_| {});
    scene.session.failed(scene.asked, 652, "timeout").unwrap();
    assert_eq!(scene.session.ask_models().send.len(), 1);
    assert!(scene.session.tick(NOW).send.is_empty());
}
