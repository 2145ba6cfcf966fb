//! Encrypted queries and answers (protocol notes, wire 4.8; 10.2, notes 11 and 12).

use cocoon_role_worker::{AnswerSeal, Incoming, Run};
use cocoon_units::Secret;
use cocoon_wire::e2e;
use cocoon_wire::e2e_json::{open_answer, seal_request};
use cocoon_wire::tl::{self, SecretKey};
use cocoon_wire::worker::Message;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::scene::{Scene, http_request, run_query};

fn client_key() -> SecretKey {
    Secret::new([5; 32])
}

fn worker_key() -> SecretKey {
    Secret::new([6; 32])
}

fn counter() -> impl FnMut(&mut [u8]) {
    let mut next = 0u8;
    move |out| {
        for byte in out {
            next = next.wrapping_mul(5).wrapping_add(3);
            *byte = next;
        }
    }
}

fn message(body: &[u8], key: Option<SecretKey>) -> Vec<u8> {
    let query = http_request(body);
    let mut message = run_query(&query);
    message.private_key = key;
    tl::encode(&message)
}

fn sealed_body(value: &Value) -> Vec<u8> {
    let mut value = value.clone();
    let receiver = e2e::public_key(&worker_key());
    seal_request(&mut value, &client_key(), receiver, &mut counter()).unwrap();
    value.to_string().into_bytes()
}

fn run() -> Run {
    let body = sealed_body(&json!({
        "model": "qwen", "stream": true, "messages": [{"role": "user", "content": "a secret"}]
    }));
    match Scene::ready(4).message(message(&body, Some(worker_key()))).unwrap().incoming {
        Some(Incoming::Run(run)) => *run,
        other => panic!("{other:?} instead of a run"),
    }
}

fn refusal(body: &[u8], key: Option<SecretKey>) -> (i32, String) {
    let incoming = Scene::ready(4).message(message(body, key)).unwrap().incoming;
    let Some(Incoming::Refuse(data)) = incoming else { panic!("{incoming:?} is no refusal") };
    let Message::QueryAnswerErrorEx(error) = Message::decode(&data).unwrap() else {
        panic!("an error")
    };
    let text = error.error.to_string();
    (error.error_code, text.strip_prefix("worker: invalid http request: ").unwrap().to_owned())
}

#[test]
fn the_model_server_gets_the_plain_request() {
    let run = run();
    let body: Value = serde_json::from_slice(run.backend.body.expose()).unwrap();
    let expected = json!({
        "model": "qwen", "stream": true, "messages": [{"role": "user", "content": "a secret"}],
        "stream_options": {"include_usage": true}
    });
    assert_eq!(body, expected, "without the envelope, with the question for usage");
    assert!(run.seal.is_some());
    assert!(!format!("{run:?}").contains("secret"));
}

#[test]
fn a_zero_key_is_no_key() {
    let key = Some(Secret::new([0; 32]));
    let incoming = Scene::ready(4).message(message(b"{\"a\":1}", key)).unwrap().incoming;
    let Some(Incoming::Run(run)) = incoming else { panic!("no run") };
    assert!(run.seal.is_none());
}

#[test]
fn a_key_of_the_workers_own_opens_what_comes_without_one_until_it_ends() {
    let body = sealed_body(&json!({"model": "qwen", "prompt": "abcd"}));
    let opened = |until_s: u64| {
        let mut scene = Scene::ready(4);
        let public = cocoon_wire::e2e::public_key(&worker_key());
        let keys = [(public, (worker_key(), until_s))];
        scene.identity.keys = std::sync::Arc::new(keys.into());
        scene.message(message(&body, None)).unwrap().incoming
    };
    let Some(Incoming::Run(run)) = opened(u64::MAX) else { panic!("no run") };
    let value: Value = serde_json::from_slice(run.backend.body.expose()).unwrap();
    assert_eq!(value["prompt"], "abcd");
    assert!(run.seal.is_some(), "the answer is encrypted too");
    assert!(!matches!(opened(0), Some(Incoming::Run(_))), "the key has ended");
}

#[test]
fn what_cannot_be_opened_is_refused_with_the_reference_code_and_text() {
    let body = sealed_body(&json!({"model": "qwen", "prompt": "abcd"}));
    let other = Some(Secret::new([9; 32]));
    let text = |text: &str| text.to_owned();
    assert_eq!(refusal(&body, other), (602, text("public key mismatch")));
    let no_key = text("cannot find private key for an encrypted request");
    assert_eq!(refusal(&body, None), (602, no_key));
    let plain = text("encryption key is provided, but request is unencrypted");
    assert_eq!(refusal(b"{\"model\":\"qwen\"}", Some(worker_key())), (602, plain));
    let missing = text("not all encryption-related fields are present");
    assert_eq!(refusal(b"{\"is_encrypted\":\"v1\"}", Some(worker_key())), (602, missing));
    let mut value: Value = serde_json::from_slice(&body).unwrap();
    value["prompt"] = json!("XYZ_1234");
    let (code, text) = refusal(value.to_string().as_bytes(), Some(worker_key()));
    assert_eq!(code, 621);
    assert!(text.starts_with("bad encryption method: "), "{text}");
    assert_eq!(refusal(b"no JSON", Some(worker_key())).0, 621);
}

#[test]
fn strings_shorter_than_a_prefix_are_refused() {
    // The reference ends its process on one (10.2, note 11).
    let mut value: Value =
        serde_json::from_slice(&sealed_body(&json!({"model": "qwen", "prompt": "a"}))).unwrap();
    value["prompt"] = json!("us");
    assert_eq!(refusal(value.to_string().as_bytes(), Some(worker_key())).0, 621);
}

fn seal(seal: &mut AnswerSeal, chunks: &[&[u8]]) -> Result<Vec<u8>, (i32, String)> {
    let mut random = counter();
    let mut out = Vec::new();
    let told = |reject: cocoon_role_worker::Reject| (reject.code, reject.message);
    for chunk in chunks {
        seal.push(chunk, &mut out, &mut random).map_err(told)?;
    }
    seal.finish(&mut out, &mut random).map_err(told)?;
    Ok(out)
}

fn opened(sealed: &[u8]) -> Value {
    let mut value: Value = serde_json::from_slice(sealed).unwrap();
    let worker = e2e::public_key(&worker_key());
    assert!(open_answer(&mut value, &client_key(), &worker).unwrap());
    value
}

#[test]
fn a_plain_answer_is_sealed_and_its_usage_stays_clear() {
    let answer = json!({"choices": [{"message": {"content": "words"}}],
        "model": "qwen", "usage": {"prompt_tokens": 3, "completion_tokens": 4}});
    let text = answer.to_string();
    let (left, right) = text.split_at(17);
    let sealed =
        seal(&mut run().seal.unwrap(), &[left.as_bytes(), right.as_bytes(), b"\n"]).unwrap();
    assert!(sealed.ends_with(b"}\n"));
    assert!(!String::from_utf8_lossy(&sealed).contains("words"));
    let clear: Value = serde_json::from_slice(&sealed).unwrap();
    assert_eq!(clear["usage"], answer["usage"]);
    assert_eq!(clear["model"], "qwen");
    assert_eq!(opened(&sealed), answer);
}

#[test]
fn events_are_sealed_one_by_one() {
    let stream: &[u8] =
        b": the prompt was x\n\ndata: {\"a\":\"one\"}\n\nevent: word.of\ndata: {\"a\":\"two\"}\n\n\
        event: a secret \"name\"\ndata: {\"a\":\"three\"}\n\ndata: [DONE]\n\n";
    let sealed = seal(&mut run().seal.unwrap(), &[stream]).unwrap();
    let text = String::from_utf8(sealed).unwrap();
    let events: Vec<&str> = text.split_terminator("\n\n").collect();
    let [comment, one, two, three, done] = events.as_slice() else { panic!("{events:?}") };
    assert_eq!((*comment, *done), (":", "data: [DONE]"));
    let data = |event: &str| opened(event.strip_prefix("data: ").unwrap().as_bytes())["a"].clone();
    assert_eq!(data(one), "one");
    assert_eq!(data(two.strip_prefix("event: word.of\n").unwrap()), "two");
    assert_eq!(data(three), "three", "a name that is no word does not travel");
}

#[test]
fn an_event_comes_out_as_soon_as_it_is_whole() {
    let mut machine = run().seal.unwrap();
    let mut random = counter();
    let mut out = Vec::new();
    machine.push(b"data: {\"a\":\"one", &mut out, &mut random).unwrap();
    assert!(out.is_empty());
    machine.push(b"\"}\n\ndata: {", &mut out, &mut random).unwrap();
    assert!(out.ends_with(b"\n\n"));
}

#[test]
fn what_cannot_be_sealed_is_never_sent() {
    for answer in [
        b"5".as_slice(),
        b"Internal Server Error",
        b"[\"words\"]",
        b"{\"a\":\"words\"} words",
        b"{\"a\":\"words",
        b"{\"a\":words}",
        b"data: words\n\n",
        b"data: {\"a\":\"words\"",
    ] {
        let (code, text) = seal(&mut run().seal.unwrap(), &[answer]).unwrap_err();
        assert_eq!(code, 602);
        assert!(!text.contains("words"), "{text}");
    }
}

#[test]
fn an_endless_value_is_cut_off() {
    let mut machine = run().seal.unwrap();
    let mut random = counter();
    let mut out = Vec::new();
    machine.push(b"{\"a\":\"", &mut out, &mut random).unwrap();
    let chunk = vec![b'x'; 1 << 20];
    let pushed = (0..17).try_for_each(|_| machine.push(&chunk, &mut out, &mut random));
    assert!(pushed.unwrap_err().message.contains("too long"));
    assert!(out.is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn however_an_answer_is_cut_it_is_sealed_whole(
        texts in prop::collection::vec("\\PC{0,12}", 1..5),
        cuts in prop::collection::vec(1usize..9, 1..40),
        events: bool,
    ) {
        let values: Vec<Value> = texts.iter().map(|text| json!({"a": [text, 1, {"b": text}]})).collect();
        let stream: String = values
            .iter()
            .map(|value| if events { format!("data: {value}\n\n") } else { format!("{value}\n") })
            .collect();
        let mut rest = stream.as_bytes();
        let mut chunks = Vec::new();
        for cut in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (chunk, behind) = rest.split_at((*cut).min(rest.len()));
            chunks.push(chunk);
            rest = behind;
        }
        let sealed = String::from_utf8(seal(&mut run().seal.unwrap(), &chunks).unwrap()).unwrap();
        let read: Vec<Value> = sealed
            .lines()
            .filter(|line| !line.is_empty())
            .map(|line| opened(line.strip_prefix("data: ").unwrap_or(line).as_bytes()))
            .collect();
        prop_assert_eq!(read, values);
    }

    #[test]
    fn any_bytes_from_a_model_server_are_sealed_or_refused(
        chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..6),
        start in prop::sample::select(vec!["", "{", "data:", "{\"a\":\"", "[{}", "data: {}\n\n"]),
    ) {
        let mut machine = run().seal.unwrap();
        let mut parts: Vec<&[u8]> = vec![start.as_bytes()];
        parts.extend(chunks.iter().map(Vec::as_slice));
        if let Ok(out) = seal(&mut machine, &parts) {
            prop_assert!(std::str::from_utf8(&out).is_ok());
        }
    }
}
