//! What other dialects need of chat completions' answers, whole or in chunks.
//!
//! Read leniently, since model servers differ: unknown members are ignored, absent ones empty.

use cocoon_units::Usage;
use serde::Deserialize;
use serde_json::Value;

use crate::fault::ApiError;
use crate::sse::Event;
use crate::usage::read_usage;

/// Most text that one translated answer may hold: the dialects repeat all of it at the end.
pub(crate) const MAX_TEXT_BYTES: usize = 32 * 1024 * 1024;

/// Most tool calls in one answer.
pub(crate) const MAX_CALLS: usize = 256;

/// A whole answer or a chunk: they differ only in the name of the choice's content.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Completion {
    pub(crate) model: Option<String>,
    pub(crate) choices: Vec<Choice>,
    usage: Option<Value>,
    error: Option<Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Choice {
    #[serde(alias = "delta")]
    pub(crate) message: Option<Message>,
    pub(crate) finish_reason: Option<String>,
    /// vLLM's name for the stop text that ended the answer; a token id for some.
    stop_reason: Option<Value>,
    /// SGLang's name for it.
    matched_stop: Option<Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Message {
    pub(crate) content: Option<String>,
    pub(crate) refusal: Option<String>,
    reasoning_content: Option<String>,
    reasoning: Option<String>,
    pub(crate) tool_calls: Option<Vec<ToolCall>>,
}

/// A tool call, or the part of one that a chunk carries.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ToolCall {
    pub(crate) index: Option<u64>,
    pub(crate) id: Option<String>,
    pub(crate) function: Function,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Function {
    pub(crate) name: Option<String>,
    pub(crate) arguments: Option<String>,
}

impl Completion {
    /// Reads a whole answer.
    pub(crate) fn read(body: &[u8]) -> Result<Completion, ApiError> {
        serde_json::from_slice(body).map_err(|fault| {
            // serde names line and type, no content.
            let message = format!("The worker's answer is no chat completion ({}).", kind(&fault));
            ApiError::new(502, "api_error", message).with_code("bad_answer")
        })
    }

    /// Reads an event; `None` for comments, `[DONE]` and what is no chunk.
    pub(crate) fn of_event(event: &[u8]) -> Option<Completion> {
        let event = Event::read(event);
        if event.is_done() {
            return None;
        }
        serde_json::from_str(event.data.as_deref()?).ok()
    }

    /// The usage, when told.
    pub(crate) fn usage(&self) -> Option<Usage> {
        self.usage.as_ref().and_then(read_usage)
    }

    /// The error that a server put into its stream.
    pub(crate) fn error(&self) -> Option<ApiError> {
        let error = self.error.as_ref()?;
        let message = error.get("message").and_then(Value::as_str).or(error.as_str());
        let message = message.unwrap_or("The model server failed within the answer.");
        Some(ApiError::new(502, "api_error", message).with_code("worker_error"))
    }
}

impl Choice {
    /// The stop text that ended the answer, where the server tells it.
    pub(crate) fn stop_text(&self) -> Option<&str> {
        [&self.stop_reason, &self.matched_stop]
            .into_iter()
            .find_map(|reason| reason.as_ref().and_then(Value::as_str))
    }
}

impl Message {
    /// Reasoning under either name.
    pub(crate) fn reasoning(&self) -> Option<&str> {
        let named = [&self.reasoning_content, &self.reasoning];
        named.into_iter().flatten().map(String::as_str).find(|text| !text.is_empty())
    }
}

fn kind(fault: &serde_json::Error) -> &'static str {
    match fault.classify() {
        serde_json::error::Category::Data => "a member has an unexpected type",
        serde_json::error::Category::Eof => "it ends too early",
        _ => "it is no JSON",
    }
}
