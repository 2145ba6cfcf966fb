//! Chat messages: checked, and brought into the one form that templates understand.

use serde_json::{Map, Value, json};

use crate::openai::error::ApiError;
use crate::openai::fields::Fields;
use crate::openai::tools::is_function_name;

/// Most messages of one conversation.
const MESSAGES_MAX: usize = 10_000;

/// A message as a template sees it. The content is always a string.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Message {
    pub(crate) role: Role,
    pub(crate) content: String,
    pub(crate) name: Option<String>,
    pub(crate) tool_call_id: Option<String>,
    /// Calls that the assistant made.
    pub(crate) tool_calls: Vec<PastCall>,
    /// What the assistant thought, if the client sends it back.
    pub(crate) reasoning_content: Option<String>,
}

/// Who speaks. `developer` is OpenAI's newer name for `system`; templates know the old one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    System,
    User,
    Assistant,
    Tool,
}

/// A call that the assistant made earlier in the conversation.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct PastCall {
    pub(crate) id: String,
    pub(crate) name: String,
    /// The arguments as an object where they are one; templates expect that.
    pub(crate) arguments: Value,
}

impl Role {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::Tool => "tool",
        }
    }
}

impl Message {
    /// A message with nothing but text.
    pub(crate) fn text(role: Role, content: impl Into<String>) -> Self {
        Self {
            role,
            content: content.into(),
            name: None,
            tool_call_id: None,
            tool_calls: Vec::new(),
            reasoning_content: None,
        }
    }

    /// The form in which Hugging Face templates expect a message.
    pub(crate) fn to_json(&self) -> Value {
        let mut map = Map::new();
        map.insert("role".into(), json!(self.role.as_str()));
        map.insert("content".into(), json!(self.content));
        let optional = [
            ("name", &self.name),
            ("tool_call_id", &self.tool_call_id),
            ("reasoning_content", &self.reasoning_content),
        ];
        for (key, value) in optional {
            if let Some(value) = value {
                map.insert(key.into(), json!(value));
            }
        }
        if !self.tool_calls.is_empty() {
            let calls = self.tool_calls.iter().map(|call| {
                json!({
                    "id": call.id,
                    "type": "function",
                    "function": {"name": call.name, "arguments": call.arguments},
                })
            });
            map.insert("tool_calls".into(), calls.collect());
        }
        Value::Object(map)
    }
}

/// Reads `messages`.
pub(crate) fn read_messages(fields: &Fields<'_>) -> Result<Vec<Message>, ApiError> {
    let wanted = "given, as an array of at least one message";
    let list = fields.array("messages")?.ok_or_else(|| fields.refuse("messages", wanted))?;
    if list.is_empty() || list.len() > MESSAGES_MAX {
        return Err(fields.refuse("messages", wanted));
    }
    list.iter().enumerate().map(|(index, value)| read_message(index, value)).collect()
}

fn read_message(index: usize, value: &Value) -> Result<Message, ApiError> {
    let path = format!("messages[{index}].");
    let Some(map) = value.as_object() else {
        let name = path.trim_end_matches('.');
        return Err(ApiError::invalid(name, format!("'{name}' must be an object.")));
    };
    let fields = Fields::new(map, &path);
    let role = match fields.text("role")? {
        Some("system" | "developer") => Role::System,
        Some("user") => Role::User,
        Some("assistant") => Role::Assistant,
        Some("tool" | "function") => Role::Tool,
        _ => {
            let wanted = "'system', 'developer', 'user', 'assistant' or 'tool'";
            return Err(fields.refuse("role", wanted));
        }
    };
    let tool_calls = read_calls(&fields)?;
    let content = match read_content(&fields)? {
        Some(content) => content,
        None if role == Role::Assistant => String::new(),
        None => return Err(fields.refuse("content", "given, as a string or an array of parts")),
    };
    Ok(Message {
        role,
        content,
        name: fields.text("name")?.map(str::to_owned),
        tool_call_id: fields.text("tool_call_id")?.map(str::to_owned),
        tool_calls,
        reasoning_content: match fields.text("reasoning_content")? {
            Some(text) => Some(text.to_owned()),
            None => fields.text("reasoning")?.map(str::to_owned),
        },
    })
}

/// A string, or parts of text that are joined by line ends.
fn read_content(fields: &Fields<'_>) -> Result<Option<String>, ApiError> {
    let Some(value) = fields.get("content") else { return Ok(None) };
    if let Some(text) = value.as_str() {
        return Ok(Some(text.to_owned()));
    }
    let refuse = || fields.refuse("content", "a string or an array of parts");
    let parts = value.as_array().ok_or_else(refuse)?;
    let mut texts = Vec::with_capacity(parts.len());
    for (index, part) in parts.iter().enumerate() {
        let name = format!("content[{index}]");
        let map = part.as_object().ok_or_else(|| fields.refuse(&name, "an object"))?;
        let path = format!("{}.", fields.name(&name));
        let part = Fields::new(map, &path);
        match part.text("type")? {
            Some("text") => texts.push(required_string(&part, "text")?),
            Some("refusal") => texts.push(required_string(&part, "refusal")?),
            Some("image_url" | "input_audio" | "file" | "video_url" | "image") => {
                return Err(ApiError::invalid(
                    part.name("type"),
                    "This model reads text only; images, audio and files need another model.",
                ));
            }
            _ => return Err(part.refuse("type", "'text'")),
        }
    }
    Ok(Some(texts.join("\n")))
}

fn required_string(part: &Fields<'_>, name: &str) -> Result<String, ApiError> {
    part.text(name)?.map(str::to_owned).ok_or_else(|| part.refuse(name, "given, as a string"))
}

fn read_calls(fields: &Fields<'_>) -> Result<Vec<PastCall>, ApiError> {
    let Some(list) = fields.array("tool_calls")? else { return Ok(Vec::new()) };
    let mut calls = Vec::with_capacity(list.len());
    for (index, call) in list.iter().enumerate() {
        let name = format!("tool_calls[{index}]");
        let map = call.as_object().ok_or_else(|| fields.refuse(&name, "an object"))?;
        let path = format!("{}.", fields.name(&name));
        let call = Fields::new(map, &path);
        let wanted = "given, as an object with 'name' and 'arguments'";
        let function = call.object("function")?.ok_or_else(|| call.refuse("function", wanted))?;
        let path = format!("{path}function.");
        let function = Fields::new(function, &path);
        let name = function.required_text("name")?;
        if !is_function_name(name) {
            return Err(function.refuse("name", "the name of a function"));
        }
        let arguments = match function.get("arguments") {
            Some(Value::String(text)) => serde_json::from_str::<Value>(text)
                .ok()
                .filter(Value::is_object)
                .unwrap_or_else(|| json!(text)),
            Some(Value::Object(map)) => Value::Object(map.clone()),
            None => json!({}),
            Some(_) => return Err(function.refuse("arguments", "a string that holds JSON")),
        };
        let id = call.text("id")?.unwrap_or_default().to_owned();
        calls.push(PastCall { id, name: name.to_owned(), arguments });
    }
    Ok(calls)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(messages: Value) -> Result<Vec<Message>, ApiError> {
        let value = json!({"messages": messages});
        read_messages(&Fields::new(value.as_object().unwrap(), ""))
    }

    #[test]
    fn every_form_of_content_becomes_text() {
        let messages = read(json!([
            {"role": "developer", "content": "be brief"},
            {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
            {"role": "assistant", "content": null, "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{\"x\":1}"}}
            ]},
            {"role": "tool", "tool_call_id": "c1", "content": "2"}
        ]))
        .unwrap();
        assert_eq!(messages[0], Message::text(Role::System, "be brief"));
        assert_eq!(messages[1].content, "a\nb");
        assert_eq!(messages[2].tool_calls[0].arguments, json!({"x": 1}));
        assert_eq!(messages[2].to_json()["content"], "");
        assert_eq!(messages[3].to_json()["tool_call_id"], "c1");
    }

    #[test]
    fn each_wrong_message_is_named() {
        for (param, messages) in [
            ("messages", json!([])),
            ("messages", json!("hi")),
            ("messages[0]", json!(["hi"])),
            ("messages[0].role", json!([{"content": "x"}])),
            ("messages[0].role", json!([{"role": "king", "content": "x"}])),
            ("messages[1].content", json!([{"role": "user", "content": "x"}, {"role": "user"}])),
            ("messages[0].content", json!([{"role": "user", "content": 5}])),
            (
                "messages[0].content[0].text",
                json!([{"role": "user", "content": [{"type": "text"}]}]),
            ),
            (
                "messages[0].content[0].type",
                json!([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]),
            ),
            (
                "messages[0].tool_calls[0].function",
                json!([{"role": "assistant", "tool_calls": [{"id": "1"}]}]),
            ),
        ] {
            let fault = read(messages).unwrap_err();
            assert_eq!((fault.status, &fault.body()["error"]["param"]), (400, &json!(param)));
        }
    }
}
