//! Requests made acceptable to workers of the reference implementation.
//!
//! Those check every member of a body and refuse what they do not list (protocol notes 4.5). What
//! can be said in their words without changing its meaning is; what cannot is refused here, with
//! a sentence that says whose limit it is, before it costs anything.

use serde_json::{Map, Value};

use crate::endpoint::Endpoint;
use crate::fault::ApiError;

/// The two lines of the reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReferenceLine {
    /// The older one: workers up to protocol version 2.
    Base,
    /// The one of the running network: workers from protocol version 3.
    Live,
}

const BASE_CHAT: &[&str] = &[
    "messages",
    "model",
    "frequency_penalty",
    "presence_penalty",
    "temperature",
    "top_p",
    "max_completion_tokens",
    "max_tokens",
    "n",
    "parallel_tool_calls",
    "stream",
    "reasoning_effort",
    "verbosity",
    "response_format",
    "stop",
    "stream_options",
    "top_logprobs",
    "chat_template_kwargs",
];

const LIVE_CHAT: &[&str] = &[
    "messages",
    "model",
    "audio",
    "frequency_penalty",
    "presence_penalty",
    "temperature",
    "top_p",
    "logprobs",
    "parallel_tool_calls",
    "store",
    "stream",
    "skip_special_tokens",
    "max_completion_tokens",
    "max_tokens",
    "n",
    "seed",
    "top_logprobs",
    "modalities",
    "stop",
    "prediction",
    "prompt_cache_key",
    "prompt_cache_retention",
    "reasoning_effort",
    "safety_identifier",
    "user",
    "verbosity",
    "stream_options",
    "chat_template_kwargs",
    "is_encrypted",
    "sender_public_key",
    "receiver_public_key",
    "encryption_nonce",
];

const BASE_COMPLETIONS: &[&str] = &[
    "prompt",
    "model",
    "best_of",
    "echo",
    "frequency_penalty",
    "max_tokens",
    "n",
    "presence_penalty",
    "seed",
    "stop",
    "stream",
    "stream_options",
    "temperature",
    "top_p",
    "skip_special_tokens",
];

const LIVE_COMPLETIONS: &[&str] = &[
    "model",
    "prompt",
    "best_of",
    "n",
    "seed",
    "max_tokens",
    "max_completion_tokens",
    "echo",
    "stream",
    "skip_special_tokens",
    "frequency_penalty",
    "presence_penalty",
    "temperature",
    "top_p",
    "stop",
    "stream_options",
    "suffix",
    "user",
];

/// Makes a JSON body acceptable to a reference worker, or says why that cannot be done.
///
/// The body must have passed [`crate::RequestView::parse`]. Transcriptions are forms and pass as
/// they are to [`ReferenceLine::Live`].
pub fn adapt(endpoint: Endpoint, line: ReferenceLine, body: &[u8]) -> Result<Vec<u8>, ApiError> {
    let known = match (endpoint, line) {
        (Endpoint::ChatCompletions, ReferenceLine::Base) => BASE_CHAT,
        (Endpoint::ChatCompletions, ReferenceLine::Live) => LIVE_CHAT,
        (Endpoint::Completions, ReferenceLine::Base) => BASE_COMPLETIONS,
        (Endpoint::Completions, ReferenceLine::Live) => LIVE_COMPLETIONS,
        (Endpoint::Transcriptions, ReferenceLine::Live) => return Ok(body.to_vec()),
        _ => {
            let message = format!("{WHOSE} do not serve {}.", endpoint.path());
            return Err(ApiError::new(404, crate::fault::INVALID_REQUEST, message)
                .with_code("unsupported_by_worker"));
        }
    };
    let body: Map<String, Value> = serde_json::from_slice(body)
        .map_err(|_| ApiError::invalid("body", "A number or a string cannot be represented."))?;
    let mut adapted = Map::new();
    for (name, value) in body {
        // To the reference a null is a value of the wrong type; to everybody else it is absence.
        if value.is_null() || says_nothing(&name, &value) {
            continue;
        }
        if !known.contains(&name.as_str()) {
            return Err(limit(&name, &format!("{WHOSE} do not take '{name}'.")));
        }
        let value = if line == ReferenceLine::Live { live(&name, value)? } else { value };
        let value = both(&name, value)?;
        adapted.insert(name, value);
    }
    serde_json::to_vec(&adapted).map_err(|fault| ApiError::new(500, "api_error", fault.to_string()))
}

const WHOSE: &str = "The workers for this model run the reference implementation, which limits what may be asked: they";

fn limit(param: &str, message: &str) -> ApiError {
    ApiError::invalid(param.to_owned(), message).with_code("unsupported_by_worker")
}

/// Members that may be left out without changing the answer.
fn says_nothing(name: &str, value: &Value) -> bool {
    match name {
        // Labels for the operator's books, not for the model.
        "metadata"
        | "user"
        | "safety_identifier"
        | "prompt_cache_key"
        | "prompt_cache_retention" => true,
        "tools" | "functions" => value.as_array().is_some_and(Vec::is_empty),
        "tool_choice" => value == "none" || value == "auto",
        "logit_bias" => value.as_object().is_some_and(Map::is_empty),
        "logprobs" | "store" => value == &Value::Bool(false),
        "service_tier" => value == "auto" || value == "default",
        "response_format" => value["type"] == "text",
        _ => false,
    }
}

/// What both lines want otherwise than OpenAI says it.
fn both(name: &str, value: Value) -> Result<Value, ApiError> {
    match (name, value) {
        ("stream_options", Value::Object(options)) => {
            // Both ask for the usage themselves; of the rest only this one is known to both.
            let kept = options.into_iter().filter(|(name, _)| name == "include_usage");
            Ok(Value::Object(kept.collect()))
        }
        ("chat_template_kwargs", Value::Object(arguments)) => {
            match arguments.keys().find(|name| *name != "enable_thinking") {
                None => Ok(Value::Object(arguments)),
                Some(other) => {
                    let message =
                        format!("{WHOSE} take only 'enable_thinking' here, not '{other}'.");
                    Err(limit(name, &message))
                }
            }
        }
        (_, value) => Ok(value),
    }
}

/// What the running network's line wants otherwise than OpenAI says it.
fn live(name: &str, value: Value) -> Result<Value, ApiError> {
    match (name, value) {
        ("stop", Value::String(text)) => Ok(Value::Array(vec![text.into()])),
        ("messages", Value::Array(messages)) => {
            messages.into_iter().map(live_message).collect::<Result<Vec<_>, _>>().map(Value::Array)
        }
        (_, value) => Ok(value),
    }
}

fn live_message(message: Value) -> Result<Value, ApiError> {
    let Value::Object(message) = message else { return Ok(message) };
    let mut adapted = Map::new();
    for (name, value) in message {
        // `content: null` stands beside calls of tools, as do other empty members.
        if value.is_null() {
            continue;
        }
        let value = match (name.as_str(), value) {
            ("content", Value::Array(parts)) => {
                Value::Array(parts.into_iter().map(live_part).collect::<Result<Vec<_>, _>>()?)
            }
            (_, value) => value,
        };
        adapted.insert(name, value);
    }
    Ok(Value::Object(adapted))
}

fn live_part(part: Value) -> Result<Value, ApiError> {
    let Value::Object(mut part) = part else { return Ok(part) };
    if let Some(image) = part.remove("image_url") {
        part.insert("image".to_owned(), image);
    }
    if part.contains_key("input_audio") {
        let message = format!("{WHOSE} demand sound in a form that no model server understands.");
        return Err(limit("messages", &message));
    }
    Ok(Value::Object(part))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn chat(line: ReferenceLine, rest: Value) -> Result<Value, ApiError> {
        let mut body = json!({"model": "m", "messages": [{"role": "user", "content": "x"}]});
        if let (Some(body), Value::Object(rest)) = (body.as_object_mut(), rest) {
            body.extend(rest);
        }
        let adapted = adapt(Endpoint::ChatCompletions, line, body.to_string().as_bytes())?;
        Ok(serde_json::from_slice(&adapted).unwrap())
    }

    #[test]
    fn what_can_be_said_in_their_words_is() {
        let live = |rest| chat(ReferenceLine::Live, rest).unwrap();
        assert_eq!(live(json!({"stop": "END"}))["stop"], json!(["END"]));
        let image = json!([{"type": "image_url", "image_url": {"url": "data:x"}}]);
        let message = live(json!({"messages": [{"role": "user", "content": image}]}));
        assert_eq!(
            message["messages"][0]["content"][0],
            json!({"type": "image_url", "image": {"url": "data:x"}})
        );
        let null = live(
            json!({"messages": [{"role": "assistant", "content": null, "refusal": "no"}], "seed": null}),
        );
        assert_eq!(null["messages"][0], json!({"role": "assistant", "refusal": "no"}));
        assert!(null.get("seed").is_none());
        let quiet = json!({"tools": [], "tool_choice": "auto", "metadata": {"a": "b"}, "response_format": {"type": "text"}});
        assert_eq!(live(quiet).as_object().unwrap().len(), 2);
        let options = live(
            json!({"stream": true, "stream_options": {"include_usage": true, "include_obfuscation": false}}),
        );
        assert_eq!(options["stream_options"], json!({"include_usage": true}));
        assert_eq!(chat(ReferenceLine::Base, json!({"stop": "END"})).unwrap()["stop"], "END");
    }

    #[test]
    fn what_cannot_is_refused_and_says_whose_limit_it_is() {
        for (line, rest) in [
            (ReferenceLine::Live, json!({"tools": [{"type": "function"}]})),
            (ReferenceLine::Live, json!({"response_format": {"type": "json_object"}})),
            (ReferenceLine::Live, json!({"min_p": 0.1})),
            (ReferenceLine::Live, json!({"chat_template_kwargs": {"other": 1}})),
            (ReferenceLine::Base, json!({"seed": 4})),
            (ReferenceLine::Base, json!({"logprobs": true})),
        ] {
            let error = chat(line, rest.clone()).unwrap_err();
            assert_eq!((error.status, error.code.as_deref()), (400, Some("unsupported_by_worker")));
            assert!(error.message.contains("reference implementation"), "{rest}");
        }
        let error = adapt(Endpoint::Embeddings, ReferenceLine::Live, b"{}").unwrap_err();
        assert_eq!(error.status, 404);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            for line in [ReferenceLine::Base, ReferenceLine::Live] {
                let _ = adapt(Endpoint::ChatCompletions, line, &bytes);
            }
        }
    }
}
