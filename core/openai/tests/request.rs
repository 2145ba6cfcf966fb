//! Laws of request bodies: what is read, what travels on, what is refused.
#![allow(clippy::unwrap_used)]

use bytes::Bytes;
use cocoon_openai::{ApiError, Changes, Endpoint, RequestView};
use proptest::prelude::*;
use serde_json::{Value, json};

fn parse(body: &str) -> Result<RequestView, ApiError> {
    RequestView::parse(Endpoint::ChatCompletions, body.as_bytes())
}

fn outgoing(body: &str, changes: &Changes<'_>) -> String {
    let view = parse(body).unwrap();
    let out = view.outgoing(&Bytes::copy_from_slice(body.as_bytes()), changes);
    String::from_utf8(out.to_vec()).unwrap()
}

const PLAIN: &str =
    r#"{ "model" : "m", "messages":[{"role":"user","content":"é\u00e9"}], "zzz": 1.50 }"#;

#[test]
fn an_untouched_body_is_not_even_copied() {
    let body = Bytes::from_static(PLAIN.as_bytes());
    let view = RequestView::parse(Endpoint::ChatCompletions, &body).unwrap();
    assert_eq!(view.outgoing(&body, &Changes::default()).as_ptr(), body.as_ptr());
    assert_eq!((view.model.as_str(), view.stream, view.choices), ("m", false, 1));
}

#[test]
fn our_members_are_cut_out_wherever_they_stand() {
    let body = r#"{"timeout":5,"cocoon":{"max_coefficient":1500,"tee":["tdx"],"report":true}, "model":"m",
        "enable_debug":true, "messages":[1],"request_guid":"g","max_coefficient":2000}"#;
    let out = outgoing(body, &Changes::default());
    assert_eq!(out, "{\"model\":\"m\", \"messages\":[1]}");
    let wishes = parse(body).unwrap().wishes;
    assert_eq!(wishes.max_coefficient, Some(1500), "the member cocoon wins");
    assert_eq!(
        (wishes.timeout_ms, wishes.debug, wishes.report),
        (Some(5000), Some(true), Some(true))
    );
    assert_eq!(
        (wishes.request_guid.as_deref(), &wishes.tee[..]),
        (Some("g"), &["tdx".to_owned()][..])
    );
}

#[test]
fn usage_is_asked_for_in_every_shape() {
    let ask = Changes { ask_usage: true, ..Changes::default() };
    let with = |options: &str| {
        let body = format!(r#"{{"model":"m","messages":[1],"stream":true{options}}}"#);
        let asked = parse(&body).unwrap().usage_asked;
        let value: Value = serde_json::from_str(&outgoing(&body, &ask)).unwrap();
        (value["stream_options"].clone(), asked)
    };
    assert_eq!(with(""), (json!({"include_usage": true}), false));
    assert_eq!(with(r#","stream_options":null"#), (json!({"include_usage": true}), false));
    assert_eq!(with(r#","stream_options":{}"#), (json!({"include_usage": true}), false));
    assert_eq!(
        with(r#","stream_options":{ "include_obfuscation":false }"#),
        (json!({"include_usage": true, "include_obfuscation": false}), false)
    );
    assert_eq!(
        with(r#","stream_options":{"include_usage":false}"#),
        (json!({"include_usage": true}), false)
    );
    assert_eq!(
        with(r#","stream_options":{"include_usage":true}"#),
        (json!({"include_usage": true}), true)
    );
    let plain = outgoing(PLAIN, &ask);
    assert_eq!(plain, PLAIN, "no stream, no options");
}

#[test]
fn limits_names_and_duplicates_are_set() {
    let changes = Changes {
        default_max_tokens: Some(77),
        model: Some("o\"ther"),
        stream: Some(true),
        ..Changes::default()
    };
    let value: Value = serde_json::from_str(&outgoing(PLAIN, &changes)).unwrap();
    assert_eq!(
        (&value["max_tokens"], &value["model"], &value["stream"]),
        (&json!(77), &json!("o\"ther"), &json!(true))
    );
    let doubled = r#"{"model":"a","max_tokens":1,"messages":[1],"model":"b","max_tokens":2,"max_completion_tokens":9}"#;
    let view = parse(doubled).unwrap();
    assert_eq!((view.model.as_str(), view.max_tokens), ("b", Some(9)));
    let out = outgoing(doubled, &changes);
    assert_eq!(out.matches("\"model\"").count(), 1, "{out}");
    assert_eq!(out.matches("\"max_tokens\"").count(), 1, "{out}");
}

#[test]
fn wrong_bodies_are_refused_with_the_member_named() {
    let cases = [
        ("", None),
        ("{", None),
        ("[]", None),
        ("{}", Some("model")),
        (r#"{"messages":[1]}"#, Some("model")),
        (r#"{"model":7,"messages":[1]}"#, Some("model")),
        (r#"{"model":"","messages":[1]}"#, Some("model")),
        (r#"{"model":"m"}"#, Some("messages")),
        (r#"{"model":"m","messages":"hello"}"#, Some("messages")),
        (r#"{"model":"m","messages":[ ]}"#, Some("messages")),
        (r#"{"model":"m","messages":[1],"max_tokens":-1}"#, Some("max_tokens")),
        (r#"{"model":"m","messages":[1],"max_tokens":1.5}"#, Some("max_tokens")),
        (r#"{"model":"m","messages":[1],"max_tokens":4294967296}"#, Some("max_tokens")),
        (r#"{"model":"m","messages":[1],"max_tokens":"9"}"#, Some("max_tokens")),
        (r#"{"model":"m","messages":[1],"n":1000}"#, Some("n")),
        (r#"{"model":"m","messages":[1],"stream":"yes"}"#, Some("stream")),
        (r#"{"model":"m","messages":[1],"temperature":"hot"}"#, Some("temperature")),
        (r#"{"model":"m","messages":[1],"timeout":-1}"#, Some("timeout")),
        (r#"{"model":"m","messages":[1],"timeout":1e300}"#, Some("timeout")),
        (r#"{"model":"m","messages":[1],"max_coefficient":-1}"#, Some("max_coefficient")),
        (r#"{"model":"m","messages":[1],"cocoon":{"tea":1}}"#, Some("cocoon")),
        (
            r#"{"model":"m","messages":[1],"stream_options":{"include_usage":3}}"#,
            Some("stream_options.include_usage"),
        ),
        (
            r#"{"model":"m","messages":[1],"receiver_public_key":"short"}"#,
            Some("receiver_public_key"),
        ),
    ];
    for (body, param) in cases {
        let error = parse(body).expect_err(body);
        assert_eq!((error.status, error.param.as_deref()), (400, param), "{body}: {error}");
        assert!(!error.message.is_empty());
    }
}

#[test]
fn other_endpoints_have_their_own_required_members() {
    for (endpoint, member) in [
        (Endpoint::Completions, "prompt"),
        (Endpoint::Embeddings, "input"),
        (Endpoint::Responses, "input"),
        (Endpoint::Messages, "messages"),
        (Endpoint::Speech, "input"),
        (Endpoint::Images, "prompt"),
    ] {
        let error = RequestView::parse(endpoint, br#"{"model":"m"}"#).unwrap_err();
        assert_eq!(error.param.as_deref(), Some(member));
    }
    let body = br#"{"model":"m","input":"x","max_output_tokens":12}"#;
    assert_eq!(RequestView::parse(Endpoint::Responses, body).unwrap().max_tokens, Some(12));
}

fn any_member() -> impl Strategy<Value = String> {
    prop_oneof![
        Just(r#""timeout":3"#.to_owned()),
        Just(r#""cocoon":{}"#.to_owned()),
        Just(r#""enable_debug":false"#.to_owned()),
        Just(r#""stream":true"#.to_owned()),
        Just(r#""stream_options":{"a":[1]}"#.to_owned()),
        ("[a-z]{1,4}_", any::<i32>()).prop_map(|(name, value)| format!("\"{name}\": {value}")),
    ]
}

proptest! {
    #[test]
    fn splicing_equals_editing_the_parsed_value(
        before in prop::collection::vec(any_member(), 0..6),
        after in prop::collection::vec(any_member(), 0..6),
        ask_usage: bool,
    ) {
        let mut members = before;
        members.push("\"model\":\"m\"".to_owned());
        members.push("\"messages\":[1]".to_owned());
        members.extend(after);
        let body = format!("{{{}}}", members.join(" , "));
        let changes = Changes { ask_usage, default_max_tokens: Some(5), ..Changes::default() };
        let out: Value = serde_json::from_str(&outgoing(&body, &changes)).unwrap();
        let mut expected: Value = serde_json::from_str(&body).unwrap();
        let object = expected.as_object_mut().unwrap();
        for own in ["timeout", "cocoon", "enable_debug"] {
            object.remove(own);
        }
        object.insert("max_tokens".to_owned(), json!(5));
        if ask_usage && object.get("stream") == Some(&json!(true)) {
            let options = object.entry("stream_options").or_insert_with(|| json!({}));
            options["include_usage"] = json!(true);
        }
        prop_assert_eq!(out, expected);
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        for endpoint in Endpoint::ALL {
            let _ = RequestView::parse(endpoint, &bytes);
        }
    }
}
