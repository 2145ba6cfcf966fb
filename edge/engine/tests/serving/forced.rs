//! Answers that a grammar forces: JSON of a schema, and function calls.

use cocoon_engine::tiny_gguf::{CHATML_TOOLS_TEMPLATE, TinyModel};
use serde_json::{Value, json};

use crate::rig::{Rig, joined_content};

fn weather_schema() -> Value {
    json!({
        "type": "object",
        "properties": {
            "city": {"type": "string", "maxLength": 10},
            "days": {"type": "integer", "minimum": 1, "maximum": 9},
            "tags": {"type": "array", "items": {"enum": ["hot", "cold"]}, "maxItems": 2}
        },
        "required": ["city", "days", "tags"]
    })
}

fn tool(name: &str) -> Value {
    json!({"type": "function", "function": {
        "name": name, "description": "d", "parameters": {
            "type": "object",
            "properties": {"place": {"type": "string", "maxLength": 6}},
            "required": ["place"]
        }
    }})
}

fn check_weather(text: &str) {
    let value: Value = serde_json::from_str(text).unwrap_or_else(|_| panic!("no JSON: {text}"));
    assert!(value["city"].as_str().unwrap().chars().count() <= 10, "{text}");
    assert!((1..=9).contains(&value["days"].as_i64().unwrap()), "{text}");
    let tags = value["tags"].as_array().unwrap();
    assert!(tags.len() <= 2 && tags.iter().all(|tag| tag == "hot" || tag == "cold"), "{text}");
    assert_eq!(value.as_object().unwrap().len(), 3, "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_is_kept_by_random_weights() {
    let rig = Rig::start().await;
    for (seed, strict) in [(1, true), (2, false), (3, true)] {
        let format = json!({"type": "json_schema", "json_schema": {
            "name": "weather", "strict": strict, "schema": weather_schema()
        }});
        let options = json!({
            "response_format": format, "temperature": 1.0, "seed": seed, "max_tokens": 300
        });
        let answer = rig.chat("weather", options.clone()).await.ok();
        assert_eq!(answer["choices"][0]["finish_reason"], "stop");
        check_weather(answer["choices"][0]["message"]["content"].as_str().unwrap());
        let mut streamed = options;
        streamed["stream"] = json!(true);
        let chunks = rig.chat("weather", streamed).await.chunks();
        let whole = answer["choices"][0]["message"]["content"].as_str().unwrap();
        assert_eq!(joined_content(&chunks, 0), whole);
    }
    rig.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn any_json_object_is_an_object_without_idle_white_space() {
    let rig = Rig::start().await;
    let options = json!({
        "response_format": {"type": "json_object"}, "temperature": 1.0, "seed": 4,
        "max_tokens": 200
    });
    let answer = rig.chat("json", options).await.ok();
    let choice = &answer["choices"][0];
    let text = choice["message"]["content"].as_str().unwrap();
    assert!(text.starts_with('{'), "{text}");
    match choice["finish_reason"].as_str().unwrap() {
        "stop" => assert!(serde_json::from_str::<Value>(text).unwrap().is_object(), "{text}"),
        "length" => assert!(!text.trim_start_matches('{').starts_with([' ', '\n']), "{text}"),
        other => panic!("finish_reason {other}"),
    }
    rig.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forced_call_is_a_call_with_arguments_of_the_schema() {
    for template in [None, Some(CHATML_TOOLS_TEMPLATE.to_owned())] {
        let default = TinyModel::default();
        let chat_template = template.or(default.chat_template.clone());
        let rig = Rig::start_with(&TinyModel { chat_template, ..default }, |_| {}).await;
        let named = json!({"type": "function", "function": {"name": "second"}});
        for choice in [json!("required"), named.clone()] {
            let options = json!({
                "tools": [tool("first"), tool("second")], "tool_choice": choice,
                "temperature": 1.0, "seed": 3, "max_tokens": 200
            });
            let answer = rig.chat("call", options.clone()).await.ok();
            let message = &answer["choices"][0]["message"];
            assert_eq!(answer["choices"][0]["finish_reason"], "tool_calls");
            assert_eq!(message.get("content"), Some(&Value::Null));
            let call = &message["tool_calls"][0];
            assert!(call["id"].as_str().unwrap().starts_with("call_"));
            assert_eq!(call["type"], "function");
            let name = call["function"]["name"].as_str().unwrap();
            assert!(if choice == named {
                name == "second"
            } else {
                ["first", "second"].contains(&name)
            });
            let text = call["function"]["arguments"].as_str().expect("arguments are a string");
            let arguments: Value = serde_json::from_str(text).unwrap();
            assert!(arguments["place"].as_str().unwrap().chars().count() <= 6);
            let mut streamed = options;
            streamed["stream"] = json!(true);
            check_streamed_call(&rig.chat("call", streamed).await.chunks(), name, text);
        }
        rig.stop().await.unwrap();
    }
}

/// The first piece names the call, the others add to its arguments.
fn check_streamed_call(chunks: &[Value], name: &str, arguments: &str) {
    let pieces: Vec<&Value> = chunks
        .iter()
        .filter_map(|chunk| chunk["choices"][0]["delta"]["tool_calls"].get(0))
        .collect();
    assert_eq!(pieces[0]["function"]["name"], name);
    assert!(pieces[0]["id"].is_string());
    assert!(pieces.len() > 3, "arguments come piece by piece");
    assert!(pieces.iter().all(|piece| piece["index"] == 0));
    let joined: String =
        pieces.iter().map(|piece| piece["function"]["arguments"].as_str().unwrap()).collect();
    assert_eq!(joined, arguments);
    let finish =
        chunks.iter().rev().find_map(|chunk| chunk["choices"][0]["finish_reason"].as_str());
    assert_eq!(finish, Some("tool_calls"));
}

#[tokio::test(flavor = "multi_thread")]
async fn parallel_calls_are_streamed_by_index() {
    let rig = Rig::start().await;
    let mut most = 0;
    for seed in 0..8 {
        let options = json!({
            "tools": [tool("first"), tool("second")], "tool_choice": "required",
            "parallel_tool_calls": true, "temperature": 1.0, "seed": seed, "max_tokens": 900,
            // Token 47 is the comma: a little help to go on after the first call.
            "logit_bias": {"47": 3}
        });
        let answer = rig.chat("call", options.clone()).await.ok();
        let calls = answer["choices"][0]["message"]["tool_calls"].as_array().unwrap().clone();
        most = most.max(calls.len());
        let mut streamed = options;
        streamed["stream"] = json!(true);
        let chunks = rig.chat("call", streamed).await.chunks();
        for (index, call) in calls.iter().enumerate() {
            let arguments: String = chunks
                .iter()
                .filter_map(|chunk| chunk["choices"][0]["delta"]["tool_calls"].get(0))
                .filter(|piece| piece["index"] == index)
                .map(|piece| piece["function"]["arguments"].as_str().unwrap())
                .collect();
            assert_eq!(arguments, call["function"]["arguments"]);
        }
    }
    assert!(most > 1, "some answer held more than one call");
    rig.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn tools_that_may_be_used_are_not_forced() {
    let rig = Rig::start().await;
    for choice in ["auto", "none"] {
        let options = json!({"tools": [tool("first")], "tool_choice": choice});
        let answer = rig.chat("call", options).await.ok();
        let message = &answer["choices"][0]["message"];
        assert!(message["content"].is_string());
        assert!(message.get("tool_calls").is_none());
    }
    rig.stop().await.unwrap();
}
