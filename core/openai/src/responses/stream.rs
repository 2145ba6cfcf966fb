//! A stream of chat chunks turned into the events of `/v1/responses`.

use cocoon_units::Usage;
use serde_json::{Map, Value, json};

use super::answer::{self, End, call_item, message_item, text_part};
use super::ask::ResponsesAsk;
use crate::chat::{Completion, MAX_CALLS, MAX_TEXT_BYTES, ToolCall};
use crate::dialect::Marks;
use crate::fault::ApiError;
use crate::sse;

/// The machine: chunks in, events out.
#[derive(Debug)]
pub struct ResponsesStream {
    ask: ResponsesAsk,
    marks: Marks,
    sequence: u64,
    begun: bool,
    ended: bool,
    items: Vec<Item>,
    text_bytes: usize,
    finish_reason: Option<String>,
    usage: Option<Usage>,
}

/// One item of the output, as far as it has come.
#[derive(Debug)]
struct Item {
    id: String,
    open: bool,
    content: Content,
}

#[derive(Debug)]
enum Content {
    Reasoning(String),
    Text(String),
    Call { index: u64, call_id: String, name: String, arguments: String },
}

impl ResponsesStream {
    pub(crate) fn new(ask: &ResponsesAsk, marks: &Marks) -> ResponsesStream {
        ResponsesStream {
            ask: ask.clone(),
            marks: marks.clone(),
            sequence: 0,
            begun: false,
            ended: false,
            items: Vec::new(),
            text_bytes: 0,
            finish_reason: None,
            usage: None,
        }
    }

    /// Takes one event of the chat stream.
    pub(crate) fn push(&mut self, event: &[u8], out: &mut Vec<u8>) {
        if self.ended {
            return;
        }
        self.begin(out);
        let Some(mut chunk) = Completion::of_event(event) else { return };
        if let Some(error) = chunk.error() {
            self.fail(&error, out);
            return;
        }
        if let Some(usage) = chunk.usage() {
            self.usage = Some(self.usage.unwrap_or_default().merge_max(usage));
        }
        if chunk.choices.is_empty() {
            return;
        }
        let choice = chunk.choices.swap_remove(0);
        if let Some(message) = choice.message {
            if let Some(text) = message.reasoning() {
                self.reasoning(text, out);
            }
            if let Some(text) = message.content.as_deref().filter(|text| !text.is_empty()) {
                self.text(text, out);
            }
            for call in message.tool_calls.unwrap_or_default() {
                self.call(call, out);
            }
        }
        if choice.finish_reason.is_some() {
            self.finish_reason = choice.finish_reason;
        }
        if self.text_bytes > MAX_TEXT_BYTES {
            let message = "The answer is longer than this gateway can translate.";
            self.fail(&ApiError::new(502, "api_error", message), out);
        }
    }

    /// Ends the stream after its last event.
    pub(crate) fn finish(&mut self, out: &mut Vec<u8>) {
        if self.ended {
            return;
        }
        self.begin(out);
        if self.items.is_empty() {
            // An empty answer still has its one message.
            self.open(Content::Text(String::new()), out);
        }
        self.close_all(out);
        let end = End::of(self.finish_reason.as_deref());
        self.end(&end, out);
    }

    /// Ends a broken stream.
    pub(crate) fn fail(&mut self, error: &ApiError, out: &mut Vec<u8>) {
        if self.ended {
            return;
        }
        self.begin(out);
        let code = error.code.as_deref().unwrap_or("server_error");
        let event =
            json!({"code": code, "message": error.message, "param": error.param.as_deref()});
        self.emit("error", event, out);
        self.end(&End::Failed(error.clone()), out);
    }

    fn end(&mut self, end: &End, out: &mut Vec<u8>) {
        self.ended = true;
        let output = self.items.iter().map(|item| item.show(&self.ask, !item.open)).collect();
        let response = self.ask.response(&self.marks, end, output, self.usage);
        let name = format!("response.{}", end.status());
        self.emit(&name, json!({"response": response}), out);
    }

    fn begin(&mut self, out: &mut Vec<u8>) {
        if self.begun {
            return;
        }
        self.begun = true;
        for name in ["response.created", "response.in_progress"] {
            let response = self.ask.response(&self.marks, &End::Running, Vec::new(), None);
            self.emit(name, json!({"response": response}), out);
        }
    }

    fn reasoning(&mut self, text: &str, out: &mut Vec<u8>) {
        if !matches!(self.current(), Some(Item { content: Content::Reasoning(_), .. })) {
            self.close_all(out);
            self.open(Content::Reasoning(String::new()), out);
        }
        self.text_bytes = self.text_bytes.saturating_add(text.len());
        if let Some(Item { content: Content::Reasoning(all), .. }) = self.current() {
            all.push_str(text);
        }
        let names = PartNames::of_reasoning(&self.ask);
        self.emit_at(&format!("{}.delta", names.text), names.at("delta", text.into()), out);
    }

    fn text(&mut self, text: &str, out: &mut Vec<u8>) {
        if !matches!(self.current(), Some(Item { content: Content::Text(_), .. })) {
            self.close_all(out);
            self.open(Content::Text(String::new()), out);
        }
        self.text_bytes = self.text_bytes.saturating_add(text.len());
        if let Some(Item { content: Content::Text(all), .. }) = self.current() {
            all.push_str(text);
        }
        let delta = json!({"content_index": 0, "delta": text, "logprobs": []});
        self.emit_at("response.output_text.delta", delta, out);
    }

    fn call(&mut self, call: ToolCall, out: &mut Vec<u8>) {
        let wanted = call.index.unwrap_or(0);
        let same = matches!(self.current(), Some(Item { content: Content::Call { index, .. }, .. }) if *index == wanted);
        if !same {
            if self.items.len() >= MAX_CALLS {
                return;
            }
            self.close_all(out);
            let position = self.items.len();
            let call_id = call.id.unwrap_or_else(|| answer::id("call", &self.marks, position));
            let name = call.function.name.unwrap_or_default();
            let arguments = String::new();
            self.open(Content::Call { index: wanted, call_id, name, arguments }, out);
        }
        let Some(part) = call.function.arguments.filter(|part| !part.is_empty()) else { return };
        self.text_bytes = self.text_bytes.saturating_add(part.len());
        if let Some(Item { content: Content::Call { arguments, .. }, .. }) = self.current() {
            arguments.push_str(&part);
        }
        self.emit_at("response.function_call_arguments.delta", json!({"delta": part}), out);
    }

    /// The last item while it is open.
    fn current(&mut self) -> Option<&mut Item> {
        self.items.last_mut().filter(|item| item.open)
    }

    fn open(&mut self, content: Content, out: &mut Vec<u8>) {
        let prefix = match &content {
            Content::Reasoning(_) => "rs",
            Content::Text(_) => "msg",
            Content::Call { .. } => "fc",
        };
        let position = self.items.len();
        let item = Item { id: answer::id(prefix, &self.marks, position), open: true, content };
        let shown = item.show(&self.ask, false);
        let part = item.part(&self.ask, true);
        self.items.push(item);
        let added = json!({"output_index": position, "item": shown});
        self.emit("response.output_item.added", added, out);
        if let Some((names, part)) = part {
            self.emit_at(&format!("{}.added", names.part), names.at("part", part), out);
        }
    }

    /// Closes the open item: its content, its part, itself.
    fn close_all(&mut self, out: &mut Vec<u8>) {
        let Some(item) = self.items.last().filter(|item| item.open) else { return };
        let shown = item.show(&self.ask, true);
        let part = item.part(&self.ask, false);
        let (name, done) = match &item.content {
            Content::Reasoning(text) => {
                let names = PartNames::of_reasoning(&self.ask);
                (format!("{}.done", names.text), names.at("text", text.as_str().into()))
            }
            Content::Text(text) => {
                let mut done = TEXT_NAMES.at("text", text.as_str().into());
                done["logprobs"] = json!([]);
                (format!("{}.done", TEXT_NAMES.text), done)
            }
            Content::Call { name, arguments, .. } => (
                "response.function_call_arguments.done".to_owned(),
                json!({"name": name, "arguments": arguments}),
            ),
        };
        self.emit_at(&name, done, out);
        if let Some((names, part)) = part {
            self.emit_at(&format!("{}.done", names.part), names.at("part", part), out);
        }
        if let Some(item) = self.items.last_mut() {
            item.open = false;
        }
        let position = self.items.len().saturating_sub(1);
        let done = json!({"output_index": position, "item": shown});
        self.emit("response.output_item.done", done, out);
    }

    /// An event about the last item.
    fn emit_at(&mut self, name: &str, mut members: Value, out: &mut Vec<u8>) {
        if let (Some(item), Some(object)) = (self.items.last(), members.as_object_mut()) {
            object.insert("item_id".to_owned(), item.id.as_str().into());
            object.insert("output_index".to_owned(), (self.items.len() - 1).into());
        }
        self.emit(name, members, out);
    }

    fn emit(&mut self, name: &str, members: Value, out: &mut Vec<u8>) {
        let mut event = Map::new();
        event.insert("type".to_owned(), name.into());
        event.insert("sequence_number".to_owned(), self.sequence.into());
        self.sequence += 1;
        if let Value::Object(members) = members {
            event.extend(members);
        }
        sse::write_named(out, name, &Value::Object(event).to_string());
    }
}

/// How the events of a part are called, and the member that counts parts.
struct PartNames {
    part: &'static str,
    text: &'static str,
    index: &'static str,
}

const TEXT_NAMES: PartNames = PartNames {
    part: "response.content_part",
    text: "response.output_text",
    index: "content_index",
};

impl PartNames {
    fn of_reasoning(ask: &ResponsesAsk) -> PartNames {
        match ask.summarises {
            true => PartNames {
                part: "response.reasoning_summary_part",
                text: "response.reasoning_summary_text",
                index: "summary_index",
            },
            false => PartNames { text: "response.reasoning_text", ..TEXT_NAMES },
        }
    }

    /// One member at the first part; items here have no second.
    fn at(&self, name: &str, value: Value) -> Value {
        let (index, name) = (self.index.to_owned(), name.to_owned());
        Value::Object(Map::from_iter([(index, 0.into()), (name, value)]))
    }
}

impl Item {
    fn show(&self, ask: &ResponsesAsk, done: bool) -> Value {
        let status = if done { "completed" } else { "in_progress" };
        match &self.content {
            Content::Reasoning(text) => ask.reasoning_item(&self.id, text, status),
            Content::Text(text) => {
                let parts =
                    if done || !text.is_empty() { vec![text_part(text)] } else { Vec::new() };
                message_item(&self.id, parts, status)
            }
            Content::Call { call_id, name, arguments, .. } => {
                call_item(&self.id, call_id, name, arguments, status)
            }
        }
    }

    fn part(&self, ask: &ResponsesAsk, empty: bool) -> Option<(PartNames, Value)> {
        match &self.content {
            Content::Reasoning(text) => {
                let text = if empty { "" } else { text };
                Some((PartNames::of_reasoning(ask), ask.reasoning_part(text)))
            }
            Content::Text(text) => Some((TEXT_NAMES, text_part(if empty { "" } else { text }))),
            Content::Call { .. } => None,
        }
    }
}
