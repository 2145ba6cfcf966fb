//! An answer as it is made.

use bytes::Bytes;
use cocoon_gateway::answer::{AnswerPart, InferenceStream};
use cocoon_gateway::{AnswerParts, FinalRecord};
use cocoon_openai::sse::{Event, EventSplitter, MAX_EVENT_BYTES};
use cocoon_openai::{BodyForm, LinesToEvents, UsageCounter};
use cocoon_units::{Nanoton, Usage};
use serde_json::Value;
use std::collections::VecDeque;

use super::answer::{ToolCall, read_refusal};
use super::{AskFault, Machine};

/// Most tool calls that are put together.
const CALLS_MAX: usize = 256;

/// A part of an answer.
#[derive(Clone, PartialEq, Eq)]
pub enum ChatPart {
    /// More of the text.
    Text(String),
    /// More of what the model thinks before it answers.
    Reasoning(String),
    /// A function that the model wants called, complete. Comes when the answer ends.
    ToolCall(ToolCall),
}

/// Shows no content.
impl std::fmt::Debug for ChatPart {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ChatPart::Text(text) => write!(f, "Text({} bytes)", text.len()),
            ChatPart::Reasoning(text) => write!(f, "Reasoning({} bytes)", text.len()),
            ChatPart::ToolCall(call) => call.fmt(f),
        }
    }
}

/// An answer on its way. [`ChatStream::next`] until `None`, then what it cost is known. Dropping it
/// earlier cancels the request all the way to the model server.
pub struct ChatStream {
    parts: AnswerParts,
    lines: Option<LinesToEvents>,
    form: BodyForm,
    splitter: EventSplitter,
    counter: UsageCounter,
    ready: VecDeque<ChatPart>,
    calls: Vec<ToolCall>,
    finish_reason: Option<String>,
    end: Option<FinalRecord>,
}

impl ChatStream {
    pub(super) async fn begin(stream: InferenceStream) -> Result<ChatStream, AskFault> {
        let InferenceStream { head, mut parts } = stream;
        if !head.status.is_success() {
            return Err(read_refusal(&head, &mut parts).await);
        }
        Ok(ChatStream {
            parts,
            lines: None,
            form: BodyForm::Unknown,
            splitter: EventSplitter::new(MAX_EVENT_BYTES),
            counter: UsageCounter::default(),
            ready: VecDeque::new(),
            calls: Vec::new(),
            finish_reason: None,
            end: None,
        })
    }

    /// The next part; `None` at the end of a complete answer.
    ///
    /// # Errors
    /// [`AskFault`]: the answer broke off; what came so far is not all.
    pub async fn next(&mut self) -> Result<Option<ChatPart>, AskFault> {
        loop {
            if let Some(part) = self.ready.pop_front() {
                return Ok(Some(part));
            }
            if self.end.is_some() {
                return Ok(None);
            }
            match self.parts.next().await {
                AnswerPart::Bytes(bytes) => self.take(bytes)?,
                AnswerPart::End(record) => self.finish(*record)?,
            }
        }
    }

    /// Why the answer ended: `stop`, `length`, `tool_calls`.
    #[must_use]
    pub fn finish_reason(&self) -> Option<&str> {
        self.finish_reason.as_deref()
    }

    /// What it cost; `None` before the end.
    #[must_use]
    pub fn cost(&self) -> Option<Nanoton> {
        self.end.as_ref().map(|record| record.cost)
    }

    /// Tokens as the model server counted them; `None` before it told.
    #[must_use]
    pub fn usage(&self) -> Option<Usage> {
        self.counter.usage()
    }

    /// Who answered; empty before the end.
    #[must_use]
    pub fn machine(&self) -> Machine {
        self.end.as_ref().map(|record| Machine::of(&record.worker)).unwrap_or_default()
    }

    fn take(&mut self, bytes: Bytes) -> Result<(), AskFault> {
        self.counter.push(&bytes);
        if self.form == BodyForm::Unknown {
            self.form = BodyForm::recognise(&bytes);
            match self.form {
                // Workers of the reference send JSON lines.
                BodyForm::Json => self.lines = Some(LinesToEvents::new(MAX_EVENT_BYTES)),
                BodyForm::Opaque => return Err(AskFault::senseless("it is no stream of events")),
                _ => {}
            }
        }
        let too_long = |_| AskFault::senseless("an event does not end");
        let bytes = match &mut self.lines {
            Some(lines) => lines.push(&bytes).map_err(too_long)?,
            None => bytes,
        };
        let mut events = Vec::new();
        self.splitter.push(bytes, &mut events).map_err(too_long)?;
        events.iter().try_for_each(|event| self.event(event))
    }

    fn finish(&mut self, record: FinalRecord) -> Result<(), AskFault> {
        if let Some(error) = record.error {
            return Err(error.into());
        }
        let rest = self.lines.as_mut().map(LinesToEvents::finish).unwrap_or_default();
        let mut events = Vec::new();
        // Shorter than the limit, which was checked when it came.
        let _ = self.splitter.push(rest, &mut events);
        events.extend(self.splitter.finish());
        events.iter().try_for_each(|event| self.event(event))?;
        self.ready.extend(self.calls.drain(..).map(ChatPart::ToolCall));
        self.end = Some(record);
        Ok(())
    }

    fn event(&mut self, event: &[u8]) -> Result<(), AskFault> {
        let Some(data) = Event::read(event).data.filter(|data| data != "[DONE]") else {
            return Ok(());
        };
        let chunk: Value =
            serde_json::from_str(&data).map_err(|_| AskFault::senseless("an event is no JSON"))?;
        if let Some(error) = chunk.get("error").filter(|error| !error.is_null()) {
            let words = error["message"].as_str().or(error.as_str()).unwrap_or("without words");
            let message = words.chars().take(500).collect();
            return Err(AskFault::Server { status: 502, message });
        }
        let Some(choice) = chunk.pointer("/choices/0") else { return Ok(()) };
        if let Some(reason) = choice["finish_reason"].as_str() {
            self.finish_reason = Some(reason.to_owned());
        }
        let delta = &choice["delta"];
        let text = |name: &str| delta[name].as_str().filter(|text| !text.is_empty());
        if let Some(text) = text("reasoning_content").or(text("reasoning")) {
            self.ready.push_back(ChatPart::Reasoning(text.to_owned()));
        }
        if let Some(text) = text("content") {
            self.ready.push_back(ChatPart::Text(text.to_owned()));
        }
        for part in delta["tool_calls"].as_array().into_iter().flatten() {
            self.call(part);
        }
        Ok(())
    }

    /// Adds a part of a call to the call that it belongs to.
    fn call(&mut self, part: &Value) {
        let index = part["index"].as_u64().and_then(|index| usize::try_from(index).ok());
        let index = index.unwrap_or(self.calls.len().saturating_sub(1));
        if index >= CALLS_MAX {
            return;
        }
        if self.calls.len() <= index {
            self.calls.resize_with(index + 1, ToolCall::default);
        }
        let Some(call) = self.calls.get_mut(index) else { return };
        let add = |to: &mut String, value: &Value| to.push_str(value.as_str().unwrap_or_default());
        if call.id.is_empty() {
            add(&mut call.id, &part["id"]);
        }
        if call.name.is_empty() {
            add(&mut call.name, &part["function"]["name"]);
        }
        add(&mut call.arguments, &part["function"]["arguments"]);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that fails says where")]

    use super::*;
    use cocoon_gateway::{AnswerHead, UpstreamError, answer_channel};

    async fn read(bodies: &[&'static str], error: Option<UpstreamError>) -> (Vec<ChatPart>, bool) {
        let (feed, parts) = answer_channel(1 << 20);
        for body in bodies {
            feed.push(Bytes::from_static(body.as_bytes())).unwrap();
        }
        feed.finish(FinalRecord { error, cost: Nanoton(9), ..FinalRecord::default() });
        let stream = InferenceStream { head: AnswerHead::default(), parts };
        let mut stream = ChatStream::begin(stream).await.unwrap();
        let mut parts = Vec::new();
        loop {
            match stream.next().await {
                Ok(Some(part)) => parts.push(part),
                Ok(None) => {
                    assert_eq!(stream.cost(), Some(Nanoton(9)));
                    return (parts, true);
                }
                Err(_) => return (parts, false),
            }
        }
    }

    #[tokio::test]
    async fn parts_come_in_their_order_and_calls_whole() {
        let (parts, whole) = read(
            &[
                "data: {\"choices\":[{\"delta\":{\"reasoning\":\"hm\"}}]}\n\ndata: {\"choices\":[{\"del",
                "ta\":{\"content\":\"Hi\"}}]}\n\n",
                "data: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":0,\"id\":\"c\",\"function\":{\"name\":\"f\",\"arguments\":\"{\\\"a\\\"\"}}]}}]}\n\n",
                "data: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":\":1}\"}}]},\"finish_reason\":\"tool_calls\"}]}\n\n",
                "data: [DONE]\n\n",
            ],
            None,
        )
        .await;
        let call = ToolCall { id: "c".into(), name: "f".into(), arguments: "{\"a\":1}".into() };
        let wanted = [
            ChatPart::Reasoning("hm".into()),
            ChatPart::Text("Hi".into()),
            ChatPart::ToolCall(call),
        ];
        assert!(whole && parts == wanted, "{parts:?}");
    }

    #[tokio::test]
    async fn json_lines_are_read_and_breaks_are_told() {
        let line = "{\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n";
        let (parts, whole) = read(&[line, line], None).await;
        assert!(whole && parts.len() == 2);
        let (parts, whole) = read(&[line], Some(UpstreamError::ProxyLost)).await;
        assert!(!whole && parts.len() == 1);
        assert!(!read(&["<html>"], None).await.1);
        assert!(!read(&["data: {\"error\":{\"message\":\"x\"}}\n\n"], None).await.1);
    }
}
