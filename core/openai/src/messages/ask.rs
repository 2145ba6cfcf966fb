//! A request for `/v1/messages` turned into one for chat completions.

use serde_json::{Map, Value, json};

use crate::fault::ApiError;
use crate::json;

/// What the answer must repeat of the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessagesAsk {
    /// The model asked for.
    pub(super) model: String,
}

/// Members without meaning for a chat.
const DROPPED: [&str; 6] = [
    "cache_control",
    "container",
    "context_management",
    "inference_geo",
    "service_tier",
    "thinking",
];

/// Turns a body into one for chat completions.
pub(crate) fn to_chat(body: &[u8]) -> Result<(Vec<u8>, MessagesAsk), ApiError> {
    let object = json::scan_object(body)?;
    let names: Vec<_> = object.members.iter().map(|member| member.name(body)).collect();
    crate::shape::check(crate::Endpoint::Messages, body, &object, &names)?;
    let mut ask: Map<String, Value> = serde_json::from_slice(body).map_err(|_| {
        ApiError::invalid("messages", "A number or a string cannot be represented.")
    })?;
    let model = ask.get("model").and_then(Value::as_str).unwrap_or_default().to_owned();
    for name in DROPPED {
        ask.remove(name);
    }
    let mut chat = Map::new();
    let mut messages = Vec::new();
    if let Some(system) = ask.remove("system").filter(|system| !system.is_null()) {
        let text = plain_text(&system).ok_or_else(|| refuse("system", "'system' must be text."))?;
        messages.push(json!({"role": "system", "content": text}));
    }
    if let Some(Value::Array(turns)) = ask.remove("messages") {
        for turn in turns {
            take(turn, &mut messages)?;
        }
    }
    chat.insert("messages".to_owned(), messages.into());
    if let Some(stop) = ask.remove("stop_sequences").filter(|stop| !stop.is_null()) {
        chat.insert("stop".to_owned(), stop);
    }
    if let Some(user) =
        ask.remove("metadata").and_then(|mut part| part.get_mut("user_id").map(Value::take))
        && user.is_string()
    {
        chat.insert("user".to_owned(), user);
    }
    if let Some(Value::Array(tools)) = ask.remove("tools")
        && !tools.is_empty()
    {
        let tools = tools.into_iter().map(tool).collect::<Result<Vec<_>, _>>()?;
        chat.insert("tools".to_owned(), tools.into());
    }
    if let Some(choice) = ask.remove("tool_choice").filter(|choice| !choice.is_null()) {
        tool_choice(&choice, &mut chat)?;
    }
    let format =
        ask.remove("output_config").and_then(|mut part| part.get_mut("format").map(Value::take));
    if let Some(format) =
        format.or_else(|| ask.remove("output_format")).filter(|format| !format.is_null())
    {
        let schema = json!({"name": "answer", "schema": format.get("schema"), "strict": true});
        chat.insert(
            "response_format".to_owned(),
            json!({"type": "json_schema", "json_schema": schema}),
        );
    }
    // Whatever else there is goes on: sampling, wishes of the network, names of the future.
    chat.extend(ask.into_iter().filter(|(_, value)| !value.is_null()));
    let bytes = serde_json::to_vec(&chat)
        .map_err(|fault| ApiError::new(500, "api_error", fault.to_string()))?;
    Ok((bytes, MessagesAsk { model }))
}

fn refuse(param: &'static str, message: &str) -> ApiError {
    ApiError::invalid(param, message)
}

/// A string, or blocks of text joined.
fn plain_text(content: &Value) -> Option<String> {
    match content {
        Value::String(text) => Some(text.clone()),
        Value::Array(blocks) => {
            let texts: Option<Vec<&str>> =
                blocks.iter().map(|block| block.get("text").and_then(Value::as_str)).collect();
            Some(texts?.join("\n"))
        }
        _ => None,
    }
}

/// One turn of the conversation: results of tools become messages of their own.
fn take(turn: Value, messages: &mut Vec<Value>) -> Result<(), ApiError> {
    let Value::Object(mut turn) = turn else {
        return Err(refuse("messages", "Every message must be an object."));
    };
    let role = turn.get("role").and_then(Value::as_str).unwrap_or_default().to_owned();
    if !matches!(role.as_str(), "user" | "assistant" | "system") {
        return Err(refuse("messages", "A message needs the role user or assistant."));
    }
    let blocks = match turn.remove("content") {
        Some(Value::String(text)) => {
            messages.push(json!({"role": role, "content": text}));
            return Ok(());
        }
        Some(Value::Array(blocks)) => blocks,
        _ => return Err(refuse("messages", "A content must be a string or an array of blocks.")),
    };
    let mut parts = Vec::new();
    let mut calls = Vec::new();
    for block in blocks {
        let Value::Object(mut block) = block else {
            return Err(refuse("messages", "Every block of a content must be an object."));
        };
        let kind = block.get("type").and_then(Value::as_str).unwrap_or_default().to_owned();
        match kind.as_str() {
            "text" => parts.push(json!({"type": "text", "text": block.remove("text")})),
            "image" => parts.push(image(&block)?),
            "document" => parts.push(document(&block)?),
            // Earlier thoughts are not shown to the model again: chat templates drop them too.
            "thinking" | "redacted_thinking" => {}
            "tool_use" => calls.push(json!({
                "id": block.remove("id"),
                "type": "function",
                "function": {
                    "name": block.remove("name"),
                    "arguments": block.remove("input").unwrap_or_else(|| json!({})).to_string(),
                },
            })),
            "tool_result" => messages.push(json!({
                "role": "tool",
                "tool_call_id": block.remove("tool_use_id"),
                "content": result(block.remove("content"))?,
            })),
            other => {
                let other: String = other.chars().take(64).collect();
                let message = format!("Blocks of the type '{other}' are not supported here.");
                return Err(refuse("messages", &message));
            }
        }
    }
    if parts.is_empty() && calls.is_empty() {
        return Ok(());
    }
    let mut message = json!({"role": role, "content": joined(parts)});
    if !calls.is_empty() {
        message["tool_calls"] = calls.into();
    }
    messages.push(message);
    Ok(())
}

/// Text alone becomes a plain string, which every chat template takes; nothing becomes null.
fn joined(parts: Vec<Value>) -> Value {
    if parts.is_empty() {
        return Value::Null;
    }
    if !parts.iter().all(|part| part["type"] == "text") {
        return Value::Array(parts);
    }
    let texts: Vec<&str> = parts.iter().filter_map(|part| part["text"].as_str()).collect();
    Value::String(texts.concat())
}

fn image(block: &Map<String, Value>) -> Result<Value, ApiError> {
    let source = block.get("source");
    let text = |name: &str| source.and_then(|source| source.get(name)).and_then(Value::as_str);
    let url = match (text("type"), text("media_type"), text("data"), text("url")) {
        (Some("base64"), Some(kind), Some(data), _) => format!("data:{kind};base64,{data}"),
        (Some("url"), _, _, Some(url)) => url.to_owned(),
        _ => return Err(refuse("messages", "An image needs a 'source' of type base64 or url.")),
    };
    Ok(json!({"type": "image_url", "image_url": {"url": url}}))
}

fn document(block: &Map<String, Value>) -> Result<Value, ApiError> {
    let source = block.get("source");
    let text = |name: &str| source.and_then(|source| source.get(name)).and_then(Value::as_str);
    match (text("type"), text("data")) {
        (Some("text"), Some(data)) => Ok(json!({"type": "text", "text": data})),
        _ => Err(refuse("messages", "Only documents of plain text are supported here.")),
    }
}

/// What a tool returned, as text or parts.
fn result(content: Option<Value>) -> Result<Value, ApiError> {
    match content {
        None | Some(Value::Null) => Ok(Value::String(String::new())),
        Some(Value::String(text)) => Ok(Value::String(text)),
        Some(Value::Array(blocks)) => {
            let mut parts = Vec::new();
            for block in blocks {
                match (block.get("type").and_then(Value::as_str), block.as_object()) {
                    (Some("text"), Some(_)) => {
                        parts.push(json!({"type": "text", "text": block.get("text")}));
                    }
                    (Some("image"), Some(block)) => parts.push(image(block)?),
                    _ => {
                        return Err(refuse(
                            "messages",
                            "A tool's result holds text and images only.",
                        ));
                    }
                }
            }
            Ok(joined(parts))
        }
        Some(_) => Err(refuse("messages", "A tool's result must be text or blocks.")),
    }
}

fn tool(mut tool: Value) -> Result<Value, ApiError> {
    let kind = tool.get("type").and_then(Value::as_str).unwrap_or("custom");
    if kind != "custom" {
        let kind: String = kind.chars().take(64).collect();
        let message = format!("Tools of the type '{kind}' run at Anthropic, not here.");
        return Err(refuse("tools", &message).with_code("unsupported_tool"));
    }
    let mut function = Map::new();
    for (theirs, ours) in
        [("name", "name"), ("description", "description"), ("input_schema", "parameters")]
    {
        if let Some(value) = tool.get_mut(theirs).map(Value::take).filter(|value| !value.is_null())
        {
            function.insert(ours.to_owned(), value);
        }
    }
    if !function.get("name").is_some_and(Value::is_string) {
        return Err(refuse("tools", "Every tool needs a 'name'."));
    }
    Ok(json!({"type": "function", "function": function}))
}

fn tool_choice(choice: &Value, chat: &mut Map<String, Value>) -> Result<(), ApiError> {
    let turned = match choice.get("type").and_then(Value::as_str) {
        Some("auto") => json!("auto"),
        Some("any") => json!("required"),
        Some("none") => json!("none"),
        Some("tool") => json!({"type": "function", "function": {"name": choice.get("name")}}),
        _ => {
            return Err(refuse(
                "tool_choice",
                "'tool_choice.type' must be auto, any, tool or none.",
            ));
        }
    };
    chat.insert("tool_choice".to_owned(), turned);
    if choice.get("disable_parallel_tool_use") == Some(&Value::Bool(true)) {
        chat.insert("parallel_tool_calls".to_owned(), false.into());
    }
    Ok(())
}
