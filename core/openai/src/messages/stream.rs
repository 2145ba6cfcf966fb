//! A stream of chat chunks turned into the events of `/v1/messages`.

use cocoon_units::Usage;
use serde_json::{Value, json};

use super::answer;
use super::ask::MessagesAsk;
use crate::chat::{Choice, Completion, MAX_CALLS, ToolCall};
use crate::dialect::Marks;
use crate::fault::ApiError;
use crate::sse;

/// The machine: chunks in, events out.
#[derive(Debug)]
pub struct MessagesStream {
    ask: MessagesAsk,
    marks: Marks,
    begun: bool,
    ended: bool,
    /// Blocks begun so far.
    blocks: usize,
    open: Option<Block>,
    called: bool,
    last: Option<Choice>,
    usage: Option<Usage>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Block {
    Thinking,
    Text,
    Call(u64),
}

impl MessagesStream {
    pub(crate) fn new(ask: &MessagesAsk, marks: &Marks) -> MessagesStream {
        MessagesStream {
            ask: ask.clone(),
            marks: marks.clone(),
            begun: false,
            ended: false,
            blocks: 0,
            open: None,
            called: false,
            last: None,
            usage: None,
        }
    }

    /// Takes one event of the chat stream.
    pub(crate) fn push(&mut self, event: &[u8], out: &mut Vec<u8>) {
        if self.ended {
            return;
        }
        let Some(mut chunk) = Completion::of_event(event) else { return };
        if let Some(error) = chunk.error() {
            self.fail(&error, out);
            return;
        }
        if let Some(usage) = chunk.usage() {
            self.usage = Some(self.usage.unwrap_or_default().merge_max(usage));
        }
        self.begin(out);
        if chunk.choices.is_empty() {
            return;
        }
        let mut choice = chunk.choices.swap_remove(0);
        if let Some(message) = choice.message.take() {
            if let Some(text) = message.reasoning() {
                self.enter(
                    Block::Thinking,
                    || json!({"type": "thinking", "thinking": "", "signature": ""}),
                    out,
                );
                self.delta(json!({"type": "thinking_delta", "thinking": text}), out);
            }
            let text = message.content.as_deref().or(message.refusal.as_deref());
            if let Some(text) = text.filter(|text| !text.is_empty()) {
                self.enter(Block::Text, || answer::text_block(""), out);
                self.delta(json!({"type": "text_delta", "text": text}), out);
            }
            for call in message.tool_calls.unwrap_or_default() {
                self.call(call, out);
            }
        }
        if choice.finish_reason.is_some() {
            self.last = Some(choice);
        }
    }

    /// Ends the stream after its last event.
    pub(crate) fn finish(&mut self, out: &mut Vec<u8>) {
        if self.ended {
            return;
        }
        self.begin(out);
        if self.blocks == 0 {
            self.enter(Block::Text, || answer::text_block(""), out);
        }
        self.leave(out);
        self.ended = true;
        let (reason, sequence) = answer::stop(self.last.as_ref(), self.called);
        let end = json!({
            "delta": {"container": null, "stop_reason": reason, "stop_sequence": sequence, "stop_details": null},
            "usage": answer::usage_so_far(self.usage.unwrap_or_default()),
        });
        emit("message_delta", end, out);
        emit("message_stop", json!({}), out);
    }

    /// Ends a broken stream.
    pub(crate) fn fail(&mut self, error: &ApiError, out: &mut Vec<u8>) {
        if self.ended {
            return;
        }
        self.ended = true;
        let body = error.to_anthropic_json();
        // Made by serde just now, so it is UTF-8.
        sse::write_named(out, "error", std::str::from_utf8(&body).unwrap_or("{}"));
    }

    fn begin(&mut self, out: &mut Vec<u8>) {
        if self.begun {
            return;
        }
        self.begun = true;
        let message = self.ask.message(&self.marks, Vec::new(), self.usage);
        emit("message_start", json!({"message": message}), out);
        emit("ping", json!({}), out);
    }

    fn call(&mut self, call: ToolCall, out: &mut Vec<u8>) {
        let index = call.index.unwrap_or(0);
        if self.open != Some(Block::Call(index)) {
            if self.blocks >= MAX_CALLS {
                return;
            }
            self.called = true;
            let id = call.id.unwrap_or_else(|| format!("toolu_{}_{}", self.marks.id, self.blocks));
            let name = call.function.name.unwrap_or_default();
            let block = || answer::call_block(&id, &name, json!({}));
            self.enter(Block::Call(index), block, out);
        }
        if let Some(part) = call.function.arguments.filter(|part| !part.is_empty()) {
            self.delta(json!({"type": "input_json_delta", "partial_json": part}), out);
        }
    }

    /// Makes a block the open one.
    fn enter(&mut self, block: Block, show: impl FnOnce() -> Value, out: &mut Vec<u8>) {
        if self.open == Some(block) {
            return;
        }
        self.leave(out);
        self.open = Some(block);
        self.blocks += 1;
        let start = json!({"index": self.blocks - 1, "content_block": show()});
        emit("content_block_start", start, out);
    }

    fn leave(&mut self, out: &mut Vec<u8>) {
        if self.open.take().is_some() {
            emit("content_block_stop", json!({"index": self.blocks - 1}), out);
        }
    }

    fn delta(&mut self, delta: Value, out: &mut Vec<u8>) {
        let index = self.blocks.saturating_sub(1);
        emit("content_block_delta", json!({"index": index, "delta": delta}), out);
    }
}

fn emit(name: &str, members: Value, out: &mut Vec<u8>) {
    let mut event = serde_json::Map::new();
    event.insert("type".to_owned(), name.into());
    if let Value::Object(members) = members {
        event.extend(members);
    }
    sse::write_named(out, name, &Value::Object(event).to_string());
}
