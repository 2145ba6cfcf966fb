//! Other dialects over chat completions: requests there, answers and streams back.
#![allow(clippy::unwrap_used)]

use cocoon_openai::sse::{Event, EventSplitter};
use cocoon_openai::{ApiError, Dialect, Marks};
use proptest::prelude::*;
use serde_json::{Value, json};

fn marks() -> Marks {
    Marks { id: "7".to_owned(), created_unix_s: 1000 }
}

type Turned = Result<(Vec<u8>, Dialect), ApiError>;

fn responses(body: &Value) -> (Value, Dialect) {
    read(Dialect::from_responses(body.to_string().as_bytes()))
}

fn messages(body: &Value) -> (Value, Dialect) {
    read(Dialect::from_messages(body.to_string().as_bytes()))
}

fn read(turned: Turned) -> (Value, Dialect) {
    let (chat, dialect) = turned.unwrap();
    (serde_json::from_slice(&chat).unwrap(), dialect)
}

fn answer(dialect: &Dialect, chat: &Value) -> Value {
    serde_json::from_slice(&dialect.answer(chat.to_string().as_bytes(), &marks()).unwrap()).unwrap()
}

/// The events that a stream of chunks becomes: names and data.
fn stream(dialect: &Dialect, chunks: &[Value], end: Option<&ApiError>) -> Vec<(String, Value)> {
    let mut stream = dialect.stream(&marks());
    let mut out = Vec::new();
    for chunk in chunks {
        stream.push(format!("data: {chunk}\n\n").as_bytes(), &mut out);
    }
    stream.push(b"data: [DONE]\n\n", &mut out);
    match end {
        None => stream.finish(&mut out),
        Some(error) => stream.fail(error, &mut out),
    }
    let mut events = Vec::new();
    EventSplitter::new(100_000).push(out.into(), &mut events).unwrap();
    let event = |bytes: &bytes::Bytes| {
        let event = Event::read(bytes);
        let data: Value = serde_json::from_str(&event.data.unwrap()).unwrap();
        assert_eq!(data["type"], event.name.unwrap(), "the name stands twice");
        (event.name.unwrap().to_owned(), data)
    };
    events.iter().map(event).collect()
}

fn delta(delta: Value) -> Value {
    json!({"choices": [{"index": 0, "delta": delta, "finish_reason": null}]})
}

/// Text, then two calls of tools, the arguments in pieces.
fn chunks() -> Vec<Value> {
    vec![
        delta(json!({"role": "assistant", "content": ""})),
        delta(json!({"reasoning_content": "hm"})),
        delta(json!({"content": "Let"})),
        delta(json!({"content": " me"})),
        delta(
            json!({"tool_calls": [{"index": 0, "id": "c0", "function": {"name": "f", "arguments": ""}}]}),
        ),
        delta(json!({"tool_calls": [{"index": 0, "function": {"arguments": "{\"a\":"}}]})),
        delta(json!({"tool_calls": [{"index": 0, "function": {"arguments": "1}"}}]})),
        delta(
            json!({"tool_calls": [{"index": 1, "id": "c1", "function": {"name": "g", "arguments": "{}"}}]}),
        ),
        json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}),
        json!({"choices": [], "usage": {"prompt_tokens": 10, "completion_tokens": 4,
            "prompt_tokens_details": {"cached_tokens": 6}}}),
    ]
}

fn whole() -> Value {
    json!({
        "choices": [{"index": 0, "finish_reason": "tool_calls", "message": {
            "role": "assistant", "content": "Let me", "reasoning": "hm", "tool_calls": [
                {"id": "c0", "type": "function", "function": {"name": "f", "arguments": "{\"a\":1}"}},
                {"id": "c1", "type": "function", "function": {"name": "g", "arguments": "{}"}},
            ]}}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 6}},
    })
}

#[test]
fn a_response_request_becomes_a_chat() {
    let (chat, _) = responses(&json!({
        "model": "m", "instructions": "be brief", "max_output_tokens": 9, "stream": true, "seed": 4,
        "input": [
            {"role": "developer", "content": [{"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}]},
            {"role": "user", "content": [{"type": "input_text", "text": "see"}, {"type": "input_image", "image_url": "data:x", "detail": "low"}]},
            {"type": "reasoning", "summary": []},
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "ok"}]},
            {"type": "function_call", "call_id": "c0", "name": "f", "arguments": "{}"},
            {"type": "function_call", "call_id": "c1", "name": "g", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c0", "output": "42"},
        ],
        "tools": [{"type": "function", "name": "f", "parameters": {"z": 1, "a": 2}, "strict": true}],
        "tool_choice": {"type": "function", "name": "f"},
        "text": {"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}, "strict": true}},
        "reasoning": {"effort": "low"}, "store": true, "metadata": {"k": "v"}, "timeout": 5,
        "previous_response_id": null,
    }));
    let call = |id: &str, name: &str| json!({"id": id, "type": "function", "function": {"name": name, "arguments": "{}"}});
    let expected = json!({
        "model": "m", "max_tokens": 9, "stream": true, "seed": 4, "timeout": 5, "reasoning_effort": "low",
        "messages": [
            {"role": "system", "content": "be brief"},
            {"role": "system", "content": "ab"},
            {"role": "user", "content": [{"type": "text", "text": "see"}, {"type": "image_url", "image_url": {"url": "data:x", "detail": "low"}}]},
            {"role": "assistant", "content": "ok", "tool_calls": [call("c0", "f"), call("c1", "g")]},
            {"role": "tool", "tool_call_id": "c0", "content": "42"},
        ],
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {"z": 1, "a": 2}, "strict": true}}],
        "tool_choice": {"type": "function", "function": {"name": "f"}},
        "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}, "strict": true}},
    });
    assert_eq!(chat, expected);
    let order = chat["tools"][0]["function"]["parameters"].to_string();
    assert_eq!(order, "{\"z\":1,\"a\":2}", "the order of a schema guides the model");
}

#[test]
fn what_cannot_be_kept_is_refused() {
    let refused = |member: &str, value: Value| {
        let mut body = json!({"model": "m", "input": "x"});
        body[member] = value;
        Dialect::from_responses(body.to_string().as_bytes()).unwrap_err()
    };
    for (member, value) in [
        ("previous_response_id", json!("resp_1")),
        ("conversation", json!("c")),
        ("background", json!(true)),
        ("tools", json!([{"type": "web_search"}])),
        ("input", json!([{"type": "item_reference", "id": "x"}])),
        ("input", json!([{"role": "user", "content": [{"type": "input_image", "file_id": "f"}]}])),
        ("input", json!([])),
        ("input", json!([3])),
    ] {
        let error = refused(member, value.clone());
        assert_eq!((error.status, error.param.as_deref()), (400, Some(member)), "{value}");
    }
    let bad = json!({"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": [{"type": "server_tool_use"}]}]});
    assert_eq!(Dialect::from_messages(bad.to_string().as_bytes()).unwrap_err().status, 400);
}

#[test]
fn a_whole_chat_becomes_a_response() {
    let tools = json!([{"type": "function", "name": "f"}]);
    let (_, dialect) = responses(
        &json!({"model": "m", "input": "x", "tools": tools, "top_p": 0.5, "store": true}),
    );
    let response = answer(&dialect, &whole());
    assert_eq!(
        (&response["id"], &response["object"], &response["status"]),
        (&json!("resp_7"), &json!("response"), &json!("completed"))
    );
    let kinds: Vec<_> = response["output"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["type"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["reasoning", "message", "function_call", "function_call"]);
    assert_eq!(response["output"][1]["content"][0]["text"], "Let me");
    assert_eq!(response["output"][2]["call_id"], "c0");
    assert_eq!(response["output"][2]["arguments"], "{\"a\":1}");
    assert_eq!(response["usage"]["input_tokens_details"]["cached_tokens"], 6);
    assert_eq!(response["usage"]["total_tokens"], 14);
    assert_eq!(
        (&response["top_p"], &response["temperature"], &response["store"]),
        (&json!(0.5), &json!(1.0), &json!(false))
    );
    assert_eq!(response["tools"][0]["strict"], Value::Null);
    let cut = json!({"choices": [{"message": {"content": "x"}, "finish_reason": "length"}]});
    let response = answer(&dialect, &cut);
    assert_eq!(
        (&response["status"], &response["incomplete_details"]["reason"]),
        (&json!("incomplete"), &json!("max_output_tokens"))
    );
}

#[test]
fn a_stream_becomes_the_events_of_a_response() {
    let (_, dialect) = responses(&json!({"model": "m", "input": "x", "stream": true}));
    let events = stream(&dialect, &chunks(), None);
    let names: Vec<&str> = events.iter().map(|(name, _)| name.as_str()).collect();
    let expected = "response.created response.in_progress \
        response.output_item.added response.content_part.added response.reasoning_text.delta \
        response.reasoning_text.done response.content_part.done response.output_item.done \
        response.output_item.added response.content_part.added response.output_text.delta response.output_text.delta \
        response.output_text.done response.content_part.done response.output_item.done \
        response.output_item.added response.function_call_arguments.delta response.function_call_arguments.delta \
        response.function_call_arguments.done response.output_item.done \
        response.output_item.added response.function_call_arguments.delta \
        response.function_call_arguments.done response.output_item.done \
        response.completed";
    assert_eq!(names.join(" "), expected.split_whitespace().collect::<Vec<_>>().join(" "));
    for (index, (_, data)) in events.iter().enumerate() {
        assert_eq!(data["sequence_number"], index);
    }
    let last = &events.last().unwrap().1["response"];
    assert_eq!(last["output"], answer(&dialect, &whole())["output"], "as if it had come whole");
    assert_eq!(last["usage"]["output_tokens"], 4);
    assert_eq!(events[10].1["output_index"], 1);
}

#[test]
fn thoughts_stand_in_the_summary_for_whoever_asks_for_one() {
    for wish in ["summary", "generate_summary"] {
        let ask = json!({"model": "m", "input": "x", "reasoning": {wish: "auto"}});
        let (_, dialect) = responses(&ask);
        let events = stream(&dialect, &chunks(), None);
        let names: Vec<&str> = events[2..8].iter().map(|(name, _)| name.as_str()).collect();
        let expected = "response.output_item.added response.reasoning_summary_part.added \
            response.reasoning_summary_text.delta response.reasoning_summary_text.done \
            response.reasoning_summary_part.done response.output_item.done";
        assert_eq!(names, expected.split_whitespace().collect::<Vec<_>>());
        let part = json!({"type": "summary_text", "text": "hm"});
        assert_eq!(events[3].1["part"]["text"], "");
        assert_eq!(
            (&events[4].1["summary_index"], &events[4].1["delta"]),
            (&json!(0), &"hm".into())
        );
        assert_eq!((&events[5].1["text"], &events[6].1["part"]), (&json!("hm"), &part));
        let response = answer(&dialect, &whole());
        assert_eq!(events.last().unwrap().1["response"]["output"], response["output"]);
        let thoughts = &response["output"][0];
        assert_eq!((&thoughts["summary"], &thoughts["content"]), (&json!([part]), &json!([])));
        assert_eq!(response["reasoning"]["summary"], "auto");
    }
}

#[test]
fn broken_streams_fail_in_their_own_words() {
    let error = ApiError::new(502, "api_error", "gone").with_code("worker_lost");
    let (_, dialect) = responses(&json!({"model": "m", "input": "x"}));
    let events = stream(&dialect, &chunks()[..3], Some(&error));
    let (name, data) = events.last().unwrap();
    assert_eq!(
        (name.as_str(), &data["response"]["error"]["code"]),
        ("response.failed", &json!("worker_lost"))
    );
    assert_eq!(data["response"]["status"], "failed");
    let (_, dialect) = messages(
        &json!({"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "x"}]}),
    );
    let events = stream(&dialect, &chunks()[..3], Some(&error));
    let (name, data) = events.last().unwrap();
    assert_eq!((name.as_str(), &data["error"]["message"]), ("error", &json!("gone")));
    let told = vec![json!({"error": {"message": "out of memory"}})];
    let events = stream(&dialect, &told, None);
    assert_eq!(events.last().unwrap().1["error"]["message"], "out of memory");
}

#[test]
fn a_message_request_becomes_a_chat() {
    let (chat, _) = messages(&json!({
        "model": "m", "max_tokens": 9, "system": [{"type": "text", "text": "be"}, {"type": "text", "text": "brief"}],
        "stop_sequences": ["END"], "top_k": 5, "metadata": {"user_id": "u"}, "thinking": {"type": "enabled"},
        "messages": [
            {"role": "user", "content": [{"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AA"}}, {"type": "text", "text": "see"}]},
            {"role": "assistant", "content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "ok"}, {"type": "tool_use", "id": "t0", "name": "f", "input": {"a": 1}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t0", "content": [{"type": "text", "text": "42"}]}, {"type": "text", "text": "go on"}]},
        ],
        "tools": [{"name": "f", "description": "d", "input_schema": {"type": "object"}}],
        "tool_choice": {"type": "any", "disable_parallel_tool_use": true},
    }));
    let expected = json!({
        "model": "m", "max_tokens": 9, "stop": ["END"], "top_k": 5, "user": "u",
        "messages": [
            {"role": "system", "content": "be\nbrief"},
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}, {"type": "text", "text": "see"}]},
            {"role": "assistant", "content": "ok", "tool_calls": [{"id": "t0", "type": "function", "function": {"name": "f", "arguments": "{\"a\":1}"}}]},
            {"role": "tool", "tool_call_id": "t0", "content": "42"},
            {"role": "user", "content": "go on"},
        ],
        "tools": [{"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}}}],
        "tool_choice": "required", "parallel_tool_calls": false,
    });
    assert_eq!(chat, expected);
}

#[test]
fn a_chat_becomes_a_message_whole_and_in_events() {
    let (_, dialect) = messages(
        &json!({"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "x"}]}),
    );
    let message = answer(&dialect, &whole());
    assert_eq!(
        (&message["id"], &message["type"], &message["stop_reason"]),
        (&json!("msg_7"), &json!("message"), &json!("tool_use"))
    );
    assert_eq!(
        message["content"][2],
        json!({"type": "tool_use", "id": "c0", "name": "f", "input": {"a": 1}, "caller": {"type": "direct"}})
    );
    assert_eq!(
        (&message["usage"]["input_tokens"], &message["usage"]["cache_read_input_tokens"]),
        (&json!(4), &json!(6))
    );
    let events = stream(&dialect, &chunks(), None);
    let names: Vec<&str> = events.iter().map(|(name, _)| name.as_str()).collect();
    let block = |deltas: usize| {
        let mut names = vec!["content_block_start"];
        names.extend(vec!["content_block_delta"; deltas]);
        names.push("content_block_stop");
        names
    };
    let expected = [
        vec!["message_start", "ping"],
        block(1),
        block(2),
        block(2),
        block(1),
        vec!["message_delta", "message_stop"],
    ]
    .concat();
    assert_eq!(names, expected);
    let end = &events[names.len() - 2].1;
    assert_eq!(
        (&end["delta"]["stop_reason"], &end["usage"]["output_tokens"]),
        (&json!("tool_use"), &json!(4))
    );
    let stopped = json!({"choices": [{"message": {"content": "x"}, "finish_reason": "stop", "stop_reason": "END"}]});
    let message = answer(&dialect, &stopped);
    assert_eq!(
        (&message["stop_reason"], &message["stop_sequence"]),
        (&json!("stop_sequence"), &json!("END"))
    );
}

#[test]
fn an_answer_that_is_none_is_an_error() {
    let (_, dialect) = responses(&json!({"model": "m", "input": "x"}));
    assert_eq!(dialect.answer(b"<html>", &marks()).unwrap_err().status, 502);
    let empty = answer(&dialect, &json!({"choices": []}));
    assert_eq!(empty["output"][0]["type"], "message");
}

fn any_value() -> impl Strategy<Value = Value> {
    let word = prop_oneof![
        Just("text"),
        Just("input_text"),
        Just("message"),
        Just("function_call"),
        Just("user"),
        Just("assistant"),
        Just("tool_use"),
        Just("tool_result"),
        Just("image"),
        Just("x"),
    ];
    let name = prop_oneof![
        Just("type"),
        Just("role"),
        Just("content"),
        Just("text"),
        Just("name"),
        Just("input"),
        Just("source"),
        Just("choices"),
        Just("delta"),
        Just("tool_calls"),
        Just("function"),
        Just("index"),
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<i32>().prop_map(Into::into),
        word.prop_map(Value::from)
    ];
    leaf.prop_recursive(5, 30, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((name.clone(), inner), 0..5).prop_map(|members| members
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect()),
        ]
    })
}

proptest! {
    #[test]
    fn arbitrary_bodies_and_chunks_never_panic(input in any_value(), tools in any_value(), chunk in any_value()) {
        let body = json!({"model": "m", "max_tokens": 1, "input": input, "messages": input, "tools": tools, "system": tools});
        let _ = Dialect::from_responses(body.to_string().as_bytes());
        let _ = Dialect::from_messages(body.to_string().as_bytes());
        for (_, dialect) in [responses(&json!({"model": "m", "input": "x"})),
            messages(&json!({"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": "x"}]}))] {
            let _ = dialect.answer(chunk.to_string().as_bytes(), &marks());
            let mut out = Vec::new();
            let mut stream = dialect.stream(&marks());
            stream.push(format!("data: {}\n\n", json!({"choices": [chunk]})).as_bytes(), &mut out);
            stream.push(format!("data: {chunk}\n\n").as_bytes(), &mut out);
            stream.finish(&mut out);
        }
    }
}
