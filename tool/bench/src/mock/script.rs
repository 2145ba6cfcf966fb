//! The prepared bytes of all answers.

use super::{Options, Style};
use bytes::Bytes;
use serde_json::json;
use std::time::Duration;

/// Tokens that every prompt is said to have.
const PROMPT_TOKENS: usize = 10;

/// Everything the mock says, made once.
#[derive(Debug)]
pub(crate) struct Script {
    /// The events that carry text.
    pub(crate) events: Vec<Bytes>,
    /// What follows them when the usage was asked for, and when not.
    pub(crate) end_with_usage: Bytes,
    pub(crate) end_without_usage: Bytes,
    pub(crate) gap: Duration,
    pub(crate) content_type: &'static str,
    pub(crate) whole: Bytes,
    pub(crate) models: Bytes,
}

impl Script {
    pub(crate) fn new(options: &Options) -> Self {
        let model = options.models.first().map_or("mock", String::as_str);
        let usage = json!({
            "prompt_tokens": PROMPT_TOKENS,
            "completion_tokens": options.events,
            "total_tokens": PROMPT_TOKENS + options.events,
        });
        let last = options.events.saturating_sub(1);
        let events = (0..options.events)
            .map(|at| event(options, model, at == 0, at == last))
            .collect::<Vec<_>>();
        let last = json!({
            "id": "1", "object": "chat.completion.chunk", "created": 1, "model": model,
            "choices": [], "usage": usage,
        });
        let (end_with_usage, end_without_usage, content_type) = match options.style {
            Style::Sse => (format!("data: {last}\n\ndata: [DONE]\n\n"), "data: [DONE]\n\n", SSE),
            // The reference's model servers say the usage in their last line, asked or not.
            Style::JsonLines => (format!("{last}\n"), "", JSON),
        };
        let end_without_usage = match options.style {
            Style::Sse => Bytes::from_static(end_without_usage.as_bytes()),
            Style::JsonLines => Bytes::from(end_with_usage.clone()),
        };
        let whole = json!({
            "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": model,
            "choices": [{
                "index": 0,
                "message": { "role": "assistant", "content": text(options.answer_bytes) },
                "logprobs": null,
                "finish_reason": "stop",
            }],
            "usage": usage,
        });
        let models: Vec<_> = options
            .models
            .iter()
            .map(|id| json!({ "id": id, "object": "model", "created": 1, "owned_by": "mock" }))
            .collect();
        Self {
            events,
            end_with_usage: end_with_usage.into(),
            end_without_usage,
            gap: options.gap,
            content_type,
            whole: whole.to_string().into(),
            models: json!({ "object": "list", "data": models }).to_string().into(),
        }
    }

    /// How many events the end holds.
    pub(crate) fn events_of_end(with_usage: bool) -> u64 {
        u64::from(with_usage)
    }
}

const SSE: &str = "text/event-stream";
pub(crate) const JSON: &str = "application/json";

/// One event. Written by hand, because its text fills it to the size asked for. A
/// `finish_reason` of null is left out: with it no event of 128 bytes would have room for text.
fn event(options: &Options, model: &str, first: bool, last: bool) -> Bytes {
    let write = |content: &str| {
        let role = if first { "\"role\":\"assistant\"," } else { "" };
        let finish = if last { ",\"finish_reason\":\"stop\"" } else { "" };
        let model = serde_json::Value::from(model);
        let chunk = format!(
            "{{\"id\":\"1\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":{model},\
             \"choices\":[{{\"index\":0,\"delta\":{{{role}\"content\":\"{content}\"}}{finish}}}]}}"
        );
        match options.style {
            Style::Sse => format!("data: {chunk}\n\n"),
            Style::JsonLines => format!("{chunk}\n"),
        }
    };
    let room = options.event_bytes.saturating_sub(write("").len());
    write(&text(room.max(1))).into()
}

/// Text of this many bytes, with words of four letters.
fn text(bytes: usize) -> String {
    "soon ".chars().cycle().take(bytes).collect()
}

#[cfg(test)]
mod tests {
    use super::Script;
    use crate::mock::{Options, Style};
    use serde_json::Value;

    #[test]
    fn events_are_json_of_the_size_asked_for() {
        let script = Script::new(&Options::default());
        assert_eq!(script.events.len(), 50);
        for (at, event) in script.events.iter().enumerate() {
            let json = event.strip_prefix(b"data: ").unwrap();
            let chunk: Value = serde_json::from_slice(json).unwrap();
            assert!(chunk["choices"][0]["delta"]["content"].is_string());
            assert_eq!(chunk["choices"][0]["finish_reason"] == "stop", at == 49);
            if (1..49).contains(&at) {
                assert_eq!(event.len(), 128);
            }
        }
    }

    #[test]
    fn lines_are_json_with_usage_last() {
        let script = Script::new(&Options { style: Style::JsonLines, ..Options::default() });
        let all: Vec<u8> =
            script.events.iter().chain([&script.end_without_usage]).flatten().copied().collect();
        let lines: Vec<Value> = serde_json::Deserializer::from_slice(&all)
            .into_iter()
            .collect::<Result<_, _>>()
            .unwrap();
        assert_eq!(lines.len(), 51);
        assert_eq!(lines[50]["usage"]["completion_tokens"], 50);
    }

    #[test]
    fn whole_answer_and_models_are_json() {
        let script = Script::new(&Options::default());
        let whole: Value = serde_json::from_slice(&script.whole).unwrap();
        assert_eq!(whole["usage"]["total_tokens"], 60);
        let models: Value = serde_json::from_slice(&script.models).unwrap();
        assert_eq!(models["data"][0]["id"], "mock");
    }
}
