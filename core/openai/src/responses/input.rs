//! The items of `input` turned into messages.

use serde_json::{Map, Value, json};

use crate::fault::ApiError;

fn refuse(message: &str) -> ApiError {
    ApiError::invalid("input", message)
}

/// Instructions and input as the messages of a chat.
pub(super) fn messages(
    instructions: Option<Value>,
    input: Option<Value>,
) -> Result<Value, ApiError> {
    let mut messages: Vec<Value> = Vec::new();
    match instructions {
        None | Some(Value::Null) => {}
        Some(Value::String(text)) => messages.push(json!({"role": "system", "content": text})),
        Some(_) => {
            return Err(ApiError::invalid("instructions", "'instructions' must be a string."));
        }
    }
    match input {
        Some(Value::String(text)) => messages.push(json!({"role": "user", "content": text})),
        Some(Value::Array(items)) => {
            for item in items {
                let Value::Object(item) = item else {
                    return Err(refuse("Every item of 'input' must be an object."));
                };
                take(item, &mut messages)?;
            }
        }
        _ => return Err(refuse("'input' must be a string or an array.")),
    }
    if messages.is_empty() {
        return Err(refuse("'input' is empty: send at least one message."));
    }
    Ok(Value::Array(messages))
}

/// One item.
fn take(mut item: Map<String, Value>, messages: &mut Vec<Value>) -> Result<(), ApiError> {
    let kind = item.get("type").and_then(Value::as_str).unwrap_or("message").to_owned();
    match kind.as_str() {
        "message" => {
            let role = match item.get("role").and_then(Value::as_str) {
                Some("user") => "user",
                Some("assistant") => "assistant",
                // Chat templates of open models know no developer.
                Some("system" | "developer") => "system",
                _ => {
                    return Err(refuse(
                        "A message needs the role user, assistant, system or developer.",
                    ));
                }
            };
            let content = content(item.remove("content").unwrap_or_default())?;
            messages.push(json!({"role": role, "content": content}));
        }
        "function_call" => {
            let call = json!({
                "id": item.remove("call_id"),
                "type": "function",
                "function": {"name": item.remove("name"), "arguments": item.remove("arguments")},
            });
            call_by_assistant(call, messages);
        }
        "function_call_output" => {
            let output = match item.remove("output").unwrap_or_default() {
                Value::Array(parts) => content(Value::Array(parts))?,
                other => other,
            };
            let id = item.remove("call_id");
            messages.push(json!({"role": "tool", "tool_call_id": id, "content": output}));
        }
        // The model's earlier thoughts are not shown to it again: templates drop them as well.
        "reasoning" => {}
        "item_reference" => {
            return Err(refuse("No items are kept here: send the item itself instead of its id."));
        }
        other => {
            let other: String = other.chars().take(64).collect();
            return Err(refuse(&format!("Items of the type '{other}' are not supported here.")));
        }
    }
    Ok(())
}

/// Calls that follow each other belong to one message of the assistant.
fn call_by_assistant(call: Value, messages: &mut Vec<Value>) {
    let last = messages.last_mut().filter(|message| message["role"] == "assistant");
    let Some(message) = last.and_then(Value::as_object_mut) else {
        messages.push(json!({"role": "assistant", "content": null, "tool_calls": [call]}));
        return;
    };
    let calls = message.entry("tool_calls").or_insert_with(|| json!([]));
    if let Value::Array(calls) = calls {
        calls.push(call);
    }
}

/// Content of a message. Text alone becomes a plain string, which every chat template takes.
fn content(content: Value) -> Result<Value, ApiError> {
    let Value::Array(parts) = content else { return Ok(content) };
    let mut turned = Vec::with_capacity(parts.len());
    for part in parts {
        let Value::Object(part) = part else {
            return Err(refuse("Every part of a content must be an object."));
        };
        turned.push(self::part(part)?);
    }
    let only_text = turned.iter().all(|part| part["type"] == "text");
    if !only_text {
        return Ok(Value::Array(turned));
    }
    let texts: Vec<&str> = turned.iter().filter_map(|part| part["text"].as_str()).collect();
    Ok(Value::String(texts.concat()))
}

fn part(mut part: Map<String, Value>) -> Result<Value, ApiError> {
    let kind = part.get("type").and_then(Value::as_str).unwrap_or_default().to_owned();
    Ok(match kind.as_str() {
        "input_text" | "output_text" | "text" | "summary_text" | "reasoning_text" => {
            json!({"type": "text", "text": part.remove("text")})
        }
        "refusal" => json!({"type": "text", "text": part.remove("refusal")}),
        "input_image" => {
            let url = part.remove("image_url").filter(Value::is_string);
            let Some(url) = url else {
                return Err(refuse("An image needs 'image_url': no files are kept here."));
            };
            let mut image = json!({"url": url});
            if let Some(detail) = part.remove("detail").filter(Value::is_string) {
                image["detail"] = detail;
            }
            json!({"type": "image_url", "image_url": image})
        }
        "input_file" => {
            let data = part.remove("file_data").filter(Value::is_string);
            let Some(data) = data else {
                return Err(refuse("A file needs 'file_data': no files are kept here."));
            };
            json!({"type": "file", "file": {"file_data": data, "filename": part.remove("filename")}})
        }
        "input_audio" => json!({"type": "input_audio", "input_audio": part.remove("input_audio")}),
        other => {
            let other: String = other.chars().take(64).collect();
            return Err(refuse(&format!("Parts of the type '{other}' are not supported here.")));
        }
    })
}
