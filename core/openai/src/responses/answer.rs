//! A chat completion turned into a response object.

use cocoon_units::Usage;
use serde_json::{Map, Value, json};

use super::ask::ResponsesAsk;
use crate::chat::{Completion, MAX_CALLS};
use crate::dialect::Marks;
use crate::fault::ApiError;

impl ResponsesAsk {
    /// Turns a whole answer.
    pub(crate) fn answer(&self, chat: &[u8], marks: &Marks) -> Result<Vec<u8>, ApiError> {
        let mut chat = Completion::read(chat)?;
        let usage = chat.usage();
        let choice = if chat.choices.is_empty() { None } else { Some(chat.choices.swap_remove(0)) };
        let choice = choice.unwrap_or_default();
        let message = choice.message.unwrap_or_default();
        let mut output = Vec::new();
        if let Some(text) = message.reasoning() {
            let id = id("rs", marks, output.len());
            output.push(self.reasoning_item(&id, text, "completed"));
        }
        let calls = message.tool_calls.unwrap_or_default();
        let text = message.content.unwrap_or_default();
        let refusal = message.refusal.filter(|text| !text.is_empty());
        if !text.is_empty() || refusal.is_some() || calls.is_empty() {
            let part = match refusal {
                Some(refusal) => json!({"type": "refusal", "refusal": refusal}),
                None => text_part(&text),
            };
            output.push(message_item(&id("msg", marks, output.len()), vec![part], "completed"));
        }
        for call in calls.into_iter().take(MAX_CALLS) {
            let id = id("fc", marks, output.len());
            let name = call.function.name.unwrap_or_default();
            let arguments = call.function.arguments.unwrap_or_default();
            let call_id = call.id.unwrap_or_else(|| id.replace("fc_", "call_"));
            output.push(call_item(&id, &call_id, &name, &arguments, "completed"));
        }
        let end = End::of(choice.finish_reason.as_deref());
        let response = self.response(marks, &end, output, usage);
        serde_json::to_vec(&response)
            .map_err(|fault| ApiError::new(500, "api_error", fault.to_string()))
    }

    /// Thoughts. Open models show them as they are; whoever asks for a summary reads only that, and
    /// gets the same text there.
    pub(super) fn reasoning_item(&self, id: &str, text: &str, status: &str) -> Value {
        let parts = match text.is_empty() {
            true => Vec::new(),
            false => vec![self.reasoning_part(text)],
        };
        let (summary, content) =
            if self.summarises { (parts, Vec::new()) } else { (Vec::new(), parts) };
        json!({"type": "reasoning", "id": id, "summary": summary, "content": content, "status": status})
    }

    pub(super) fn reasoning_part(&self, text: &str) -> Value {
        json!({"type": if self.summarises { "summary_text" } else { "reasoning_text" }, "text": text})
    }

    /// The response object in some state.
    pub(super) fn response(
        &self,
        marks: &Marks,
        end: &End,
        output: Vec<Value>,
        usage: Option<Usage>,
    ) -> Value {
        let mut response = Map::new();
        response.insert("id".to_owned(), format!("resp_{}", marks.id).into());
        response.insert("object".to_owned(), "response".into());
        response.insert("created_at".to_owned(), marks.created_unix_s.into());
        let completed = matches!(end, End::Completed).then_some(marks.created_unix_s);
        response.insert("completed_at".to_owned(), completed.into());
        response.insert("status".to_owned(), end.status().into());
        response.insert("model".to_owned(), self.model.as_str().into());
        response.insert("output".to_owned(), output.into());
        response.insert("error".to_owned(), end.error());
        response.insert("incomplete_details".to_owned(), end.details());
        response.insert("usage".to_owned(), usage.map_or(Value::Null, usage_member));
        response.extend(self.echo.clone());
        Value::Object(response)
    }
}

/// How a response stands.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum End {
    Running,
    Completed,
    /// Cut short, with OpenAI's reason.
    Incomplete(&'static str),
    Failed(ApiError),
}

impl End {
    pub(super) fn of(finish_reason: Option<&str>) -> End {
        match finish_reason {
            Some("length") => End::Incomplete("max_output_tokens"),
            Some("content_filter") => End::Incomplete("content_filter"),
            _ => End::Completed,
        }
    }

    pub(super) fn status(&self) -> &'static str {
        match self {
            End::Running => "in_progress",
            End::Completed => "completed",
            End::Incomplete(_) => "incomplete",
            End::Failed(_) => "failed",
        }
    }

    fn details(&self) -> Value {
        match self {
            End::Incomplete(reason) => json!({"reason": reason}),
            _ => Value::Null,
        }
    }

    fn error(&self) -> Value {
        match self {
            End::Failed(error) => {
                let code = error.code.as_deref().unwrap_or("server_error");
                json!({"code": code, "message": error.message})
            }
            _ => Value::Null,
        }
    }
}

pub(super) fn id(prefix: &str, marks: &Marks, index: usize) -> String {
    format!("{prefix}_{}_{index}", marks.id)
}

pub(super) fn text_part(text: &str) -> Value {
    json!({"type": "output_text", "text": text, "annotations": [], "logprobs": []})
}

pub(super) fn message_item(id: &str, content: Vec<Value>, status: &str) -> Value {
    json!({"type": "message", "id": id, "status": status, "role": "assistant", "content": content})
}

pub(super) fn call_item(
    id: &str,
    call_id: &str,
    name: &str,
    arguments: &str,
    status: &str,
) -> Value {
    json!({
        "type": "function_call",
        "id": id,
        "call_id": call_id,
        "name": name,
        "arguments": arguments,
        "status": status,
    })
}

fn usage_member(usage: Usage) -> Value {
    json!({
        "input_tokens": usage.prompt,
        "input_tokens_details": {"cached_tokens": usage.cached},
        "output_tokens": usage.completion,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning},
        "total_tokens": usage.prompt.saturating_add(usage.completion),
    })
}
