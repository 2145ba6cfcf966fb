//! A request for `/v1/responses` turned into one for chat completions.

use serde_json::{Map, Value, json};

use super::input;
use crate::fault::ApiError;
use crate::json;

/// What the answer must repeat of the request.
#[derive(Debug, Clone, PartialEq)]
pub struct ResponsesAsk {
    /// Members of the request that are repeated as they were, or their defaults.
    pub(super) echo: Map<String, Value>,
    /// The model asked for.
    pub(super) model: String,
    /// Whether thoughts are wanted as a summary.
    pub(super) summarises: bool,
}

/// Members that a request may have and that have no meaning for a chat.
const DROPPED: [&str; 9] = [
    "include",
    "metadata",
    "prompt_cache_key",
    "prompt_cache_retention",
    "safety_identifier",
    "service_tier",
    "store",
    "stream_options",
    "truncation",
];

/// Members that would need a memory of earlier answers or work in the background.
const REFUSED: [(&str, &str); 4] = [
    ("previous_response_id", "No answers are kept here: send the whole conversation in 'input'."),
    ("conversation", "No conversations are kept here: send the whole one in 'input'."),
    ("prompt", "No prompt templates are kept here: send the text in 'input'."),
    ("background", "Answers cannot be made in the background: wait for them or stream them."),
];

/// Turns a body into one for chat completions.
pub(crate) fn to_chat(body: &[u8]) -> Result<(Vec<u8>, ResponsesAsk), ApiError> {
    // First the scanner: it bounds depth and tells faults apart better than serde.
    let object = json::scan_object(body)?;
    let names: Vec<_> = object.members.iter().map(|member| member.name(body)).collect();
    crate::shape::check(crate::Endpoint::Responses, body, &object, &names)?;
    let mut ask: Map<String, Value> = serde_json::from_slice(body)
        .map_err(|_| ApiError::invalid("input", "A number or a string cannot be represented."))?;
    for (name, message) in REFUSED {
        let absent = matches!(ask.get(name), None | Some(Value::Null | Value::Bool(false)));
        if !absent {
            return Err(ApiError::invalid(name, message).with_code("unsupported_parameter"));
        }
        ask.remove(name);
    }
    let echo = echo(&ask);
    let summarises = echo.get("reasoning").is_some_and(|part| !part["summary"].is_null());
    let model = ask.get("model").and_then(Value::as_str).unwrap_or_default().to_owned();
    for name in DROPPED {
        ask.remove(name);
    }
    let mut chat = Map::new();
    let messages = input::messages(ask.remove("instructions"), ask.remove("input"))?;
    chat.insert("messages".to_owned(), messages);
    if let Some(limit) = ask.remove("max_output_tokens").filter(|limit| !limit.is_null()) {
        chat.insert("max_tokens".to_owned(), limit);
    }
    if let Some(tools) = ask.remove("tools") {
        let tools = tools_to_chat(&tools)?;
        if !tools.is_empty() {
            chat.insert("tools".to_owned(), tools.into());
        }
    }
    if let Some(choice) = ask.remove("tool_choice").filter(|choice| !choice.is_null()) {
        chat.insert("tool_choice".to_owned(), choice_to_chat(choice)?);
    }
    if let Some(text) = ask.remove("text") {
        text_to_chat(&text, &mut chat)?;
    }
    if let Some(reasoning) = ask.remove("reasoning")
        && let Some(effort) = reasoning.get("effort").filter(|effort| !effort.is_null())
    {
        chat.insert("reasoning_effort".to_owned(), effort.clone());
    }
    if let Some(count) = ask.get("top_logprobs").and_then(Value::as_u64).filter(|count| *count > 0)
    {
        chat.insert("logprobs".to_owned(), true.into());
        chat.insert("top_logprobs".to_owned(), count.into());
    }
    ask.remove("top_logprobs");
    ask.remove("max_tool_calls");
    // Whatever else there is goes on: sampling, seeds, wishes of the network, names of the future.
    chat.extend(ask.into_iter().filter(|(_, value)| !value.is_null()));
    let bytes = serde_json::to_vec(&chat)
        .map_err(|fault| ApiError::new(500, "api_error", fault.to_string()))?;
    Ok((bytes, ResponsesAsk { echo, model, summarises }))
}

/// The members that an answer repeats; all of them are required there.
fn echo(ask: &Map<String, Value>) -> Map<String, Value> {
    let text = ask.get("text").filter(|text| text.get("format").is_some());
    let reasoning = |name: &str| ask.get("reasoning").and_then(|part| part.get(name)).cloned();
    let defaults = json!({
        "background": false,
        "frequency_penalty": 0.0,
        "instructions": null,
        "max_output_tokens": null,
        "max_tool_calls": null,
        "metadata": {},
        "parallel_tool_calls": true,
        "presence_penalty": 0.0,
        "previous_response_id": null,
        "prompt_cache_key": null,
        "safety_identifier": null,
        "service_tier": "default",
        "store": false,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "top_logprobs": 0,
        "top_p": 1.0,
        "truncation": "disabled",
        "user": null,
    });
    let Value::Object(mut echo) = defaults else { return Map::new() };
    for (name, value) in &mut echo {
        if let Some(given) = ask.get(name).filter(|given| !given.is_null()) {
            *value = given.clone();
        }
    }
    // Nothing is stored, whatever was asked for.
    echo.insert("store".to_owned(), false.into());
    let plain = json!({"format": {"type": "text"}});
    echo.insert("text".to_owned(), text.cloned().unwrap_or(plain));
    // The older name of the wish for a summary.
    let summary = reasoning("summary").or_else(|| reasoning("generate_summary"));
    let reasoning = json!({"effort": reasoning("effort"), "summary": summary});
    echo.insert("reasoning".to_owned(), reasoning);
    if let Some(Value::Array(tools)) = echo.get_mut("tools") {
        for tool in tools.iter_mut().filter_map(Value::as_object_mut) {
            // Required and nullable in answers, optional in requests.
            for name in ["description", "parameters", "strict"] {
                tool.entry(name).or_insert(Value::Null);
            }
        }
    }
    echo
}

fn tools_to_chat(tools: &Value) -> Result<Vec<Value>, ApiError> {
    let mut turned = Vec::new();
    for tool in tools.as_array().into_iter().flatten() {
        let kind = tool.get("type").and_then(Value::as_str).unwrap_or("function");
        if kind != "function" {
            let kind: String = kind.chars().take(64).collect();
            let message = format!(
                "Tools of the type '{kind}' run at OpenAI, not here. Only 'function' tools work."
            );
            return Err(ApiError::invalid("tools", message).with_code("unsupported_tool"));
        }
        let mut function = Map::new();
        for name in ["name", "description", "parameters", "strict"] {
            if let Some(value) = tool.get(name).filter(|value| !value.is_null()) {
                function.insert(name.to_owned(), value.clone());
            }
        }
        if !function.get("name").is_some_and(Value::is_string) {
            return Err(ApiError::invalid("tools", "Every function needs a 'name'."));
        }
        turned.push(json!({"type": "function", "function": function}));
    }
    Ok(turned)
}

fn choice_to_chat(choice: Value) -> Result<Value, ApiError> {
    let Value::Object(object) = &choice else { return Ok(choice) };
    match (object.get("type").and_then(Value::as_str), object.get("name")) {
        (Some("function"), Some(name)) => {
            Ok(json!({"type": "function", "function": {"name": name}}))
        }
        _ => Err(ApiError::invalid(
            "tool_choice",
            "'tool_choice' must be 'none', 'auto', 'required' or name a function.",
        )),
    }
}

fn text_to_chat(text: &Value, chat: &mut Map<String, Value>) -> Result<(), ApiError> {
    if let Some(verbosity) = text.get("verbosity").filter(|value| !value.is_null()) {
        chat.insert("verbosity".to_owned(), verbosity.clone());
    }
    let Some(format) = text.get("format").filter(|format| !format.is_null()) else { return Ok(()) };
    let format = match format.get("type").and_then(Value::as_str) {
        Some("text") => return Ok(()),
        Some("json_object") => json!({"type": "json_object"}),
        Some("json_schema") => {
            let mut schema = Map::new();
            for name in ["name", "description", "schema", "strict"] {
                if let Some(value) = format.get(name).filter(|value| !value.is_null()) {
                    schema.insert(name.to_owned(), value.clone());
                }
            }
            json!({"type": "json_schema", "json_schema": schema})
        }
        _ => {
            let message = "'text.format.type' must be 'text', 'json_object' or 'json_schema'.";
            return Err(ApiError::invalid("text.format.type", message));
        }
    };
    chat.insert("response_format".to_owned(), format);
    Ok(())
}
