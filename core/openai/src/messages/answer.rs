//! A chat completion turned into a message.

use cocoon_units::Usage;
use serde_json::{Map, Value, json};

use super::ask::MessagesAsk;
use crate::chat::{Choice, Completion, MAX_CALLS};
use crate::dialect::Marks;
use crate::fault::ApiError;

impl MessagesAsk {
    /// Turns a whole answer.
    pub(crate) fn answer(&self, chat: &[u8], marks: &Marks) -> Result<Vec<u8>, ApiError> {
        let mut chat = Completion::read(chat)?;
        let usage = chat.usage();
        let choice = if chat.choices.is_empty() { None } else { Some(chat.choices.swap_remove(0)) };
        let mut choice = choice.unwrap_or_default();
        let message = choice.message.take().unwrap_or_default();
        let mut content = Vec::new();
        if let Some(text) = message.reasoning() {
            content.push(json!({"type": "thinking", "thinking": text, "signature": ""}));
        }
        let text = message.content.or(message.refusal).unwrap_or_default();
        let calls = message.tool_calls.unwrap_or_default();
        if !text.is_empty() || calls.is_empty() {
            content.push(text_block(&text));
        }
        let called = !calls.is_empty();
        for (index, call) in calls.into_iter().take(MAX_CALLS).enumerate() {
            let arguments = call.function.arguments.unwrap_or_default();
            let id = call.id.unwrap_or_else(|| format!("toolu_{}_{index}", marks.id));
            let name = call.function.name.unwrap_or_default();
            content.push(call_block(&id, &name, input(&arguments)));
        }
        let (reason, sequence) = stop(Some(&choice), called);
        let mut message = self.message(marks, content, usage);
        message.insert("stop_reason".to_owned(), reason.into());
        message.insert("stop_sequence".to_owned(), sequence.into());
        serde_json::to_vec(&message)
            .map_err(|fault| ApiError::new(500, "api_error", fault.to_string()))
    }

    /// The message object without its end.
    pub(super) fn message(
        &self,
        marks: &Marks,
        content: Vec<Value>,
        usage: Option<Usage>,
    ) -> Map<String, Value> {
        let message = json!({
            "id": format!("msg_{}", marks.id),
            "type": "message",
            "role": "assistant",
            "model": self.model,
            "content": content,
            "container": null,
            "stop_reason": null,
            "stop_sequence": null,
            "stop_details": null,
            "usage": usage_member(usage.unwrap_or_default()),
        });
        match message {
            Value::Object(message) => message,
            _ => Map::new(),
        }
    }
}

/// A call's arguments as an object; what is none stands under one name, so that it is not lost.
fn input(arguments: &str) -> Value {
    if arguments.trim().is_empty() {
        return json!({});
    }
    match serde_json::from_str::<Value>(arguments) {
        Ok(Value::Object(object)) => Value::Object(object),
        _ => json!({"arguments": arguments}),
    }
}

/// Why the answer ended, in Anthropic's words.
pub(super) fn stop(choice: Option<&Choice>, called: bool) -> (&'static str, Option<String>) {
    let sequence = choice.and_then(Choice::stop_text);
    match choice.and_then(|choice| choice.finish_reason.as_deref()) {
        Some("length") => ("max_tokens", None),
        Some("content_filter") => ("refusal", None),
        Some("tool_calls" | "function_call") => ("tool_use", None),
        _ if called => ("tool_use", None),
        _ => match sequence {
            Some(text) => ("stop_sequence", Some(text.to_owned())),
            None => ("end_turn", None),
        },
    }
}

/// A block of text; all members are required.
pub(super) fn text_block(text: &str) -> Value {
    json!({"type": "text", "text": text, "citations": null})
}

/// A block that calls a tool.
pub(super) fn call_block(id: &str, name: &str, input: Value) -> Value {
    let caller = json!({"type": "direct"});
    json!({"type": "tool_use", "id": id, "name": name, "input": input, "caller": caller})
}

/// The usage of a message.
fn usage_member(usage: Usage) -> Value {
    let mut member = usage_so_far(usage);
    member["cache_creation"] = Value::Null;
    member["inference_geo"] = Value::Null;
    member["service_tier"] = "standard".into();
    member
}

/// The usage at the end of a stream. Anthropic counts cached tokens beside `input_tokens`, not
/// within.
pub(super) fn usage_so_far(usage: Usage) -> Value {
    json!({
        "input_tokens": usage.prompt.saturating_sub(usage.cached),
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": usage.cached,
        "output_tokens": usage.completion,
        "output_tokens_details": {"thinking_tokens": usage.reasoning},
        "server_tool_use": null,
    })
}
