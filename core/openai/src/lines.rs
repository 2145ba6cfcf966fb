//! JSON lines made server-sent events again.
//!
//! Reference workers send a stream as JSON values separated by line ends (protocol notes 4.7);
//! clients of OpenAI's API expect events and `[DONE]`.

use bytes::Bytes;
use memchr::{memchr, memmem};
use serde_json::Value;

use crate::sse::{self, EventTooLong};

/// Turns JSON lines into events. Give it only bodies that begin with `{`
/// ([`crate::BodyForm::Json`]).
#[derive(Debug)]
pub struct LinesToEvents {
    limit_bytes: usize,
    pending: Vec<u8>,
    lines: u64,
}

impl LinesToEvents {
    /// A converter for lines up to `limit_bytes`.
    pub fn new(limit_bytes: usize) -> LinesToEvents {
        LinesToEvents { limit_bytes, pending: Vec::new(), lines: 0 }
    }

    /// Takes a chunk; returns the events of the lines that it completes, perhaps none.
    pub fn push(&mut self, chunk: &[u8]) -> Result<Bytes, EventTooLong> {
        let mut out = Vec::with_capacity(chunk.len().saturating_add(16));
        let mut rest = chunk;
        while let Some(end) = memchr(b'\n', rest) {
            let line = rest.get(..end).unwrap_or_default();
            if self.pending.is_empty() {
                self.write(line, &mut out);
            } else {
                let mut line_whole = std::mem::take(&mut self.pending);
                line_whole.extend_from_slice(line);
                self.write(&line_whole, &mut out);
            }
            rest = rest.get(end + 1..).unwrap_or_default();
        }
        if self.pending.len().saturating_add(rest.len()) > self.limit_bytes {
            return Err(EventTooLong { limit_bytes: self.limit_bytes });
        }
        self.pending.extend_from_slice(rest);
        Ok(Bytes::from(out))
    }

    /// Ends the stream: the last line if it lacked its end, and `[DONE]`.
    pub fn finish(&mut self) -> Bytes {
        let mut out = Vec::new();
        let line = std::mem::take(&mut self.pending);
        self.write(&line, &mut out);
        out.extend_from_slice(sse::DONE);
        Bytes::from(out)
    }

    /// Lines turned so far.
    pub fn lines(&self) -> u64 {
        self.lines
    }

    fn write(&mut self, line: &[u8], out: &mut Vec<u8>) {
        let line = line.trim_ascii();
        if line.is_empty() {
            return;
        }
        self.lines += 1;
        let chunk = chunk_of_answer(line);
        out.extend_from_slice(b"data: ");
        out.extend_from_slice(chunk.as_deref().unwrap_or(line));
        out.extend_from_slice(b"\n\n");
    }
}

/// A whole chat completion as one chunk: what a worker sends that made no stream although one
/// was asked for. `None` for everything else.
fn chunk_of_answer(line: &[u8]) -> Option<Vec<u8>> {
    memmem::find(line, b"\"chat.completion\"")?;
    let mut answer: Value = serde_json::from_slice(line).ok()?;
    if answer.get("object")? != "chat.completion" {
        return None;
    }
    *answer.get_mut("object")? = "chat.completion.chunk".into();
    for choice in answer.get_mut("choices")?.as_array_mut()? {
        let choice = choice.as_object_mut()?;
        let mut message = choice.remove("message")?;
        let calls = message.get_mut("tool_calls").and_then(Value::as_array_mut);
        for (index, call) in calls.into_iter().flatten().enumerate() {
            call.as_object_mut()?.insert("index".to_owned(), index.into());
        }
        choice.insert("delta".to_owned(), message);
    }
    serde_json::to_vec(&answer).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LINES: &[u8] = b"{\"a\":1}\n\n {\"b\":2}\r\n{\"c\":3}";
    const EVENTS: &str =
        "data: {\"a\":1}\n\ndata: {\"b\":2}\n\ndata: {\"c\":3}\n\ndata: [DONE]\n\n";

    #[test]
    fn a_whole_answer_becomes_a_chunk() {
        let answer = br#"{"object":"chat.completion","choices":[{"message":{"content":"x","tool_calls":[{"id":"c"}]},"finish_reason":"stop"}],"usage":{}}"#;
        let mut converter = LinesToEvents::new(1000);
        assert!(converter.push(answer).unwrap().is_empty());
        let text = String::from_utf8(converter.finish().to_vec()).unwrap();
        let chunk: Value = serde_json::from_str(&text[6..text.find("\n\n").unwrap()]).unwrap();
        assert_eq!(chunk["object"], "chat.completion.chunk");
        assert_eq!(chunk["choices"][0]["delta"]["tool_calls"][0]["index"], 0);
        assert!(text.ends_with("data: [DONE]\n\n"));
    }

    proptest! {
        #[test]
        fn lines_become_events_wherever_they_are_cut(step in 1..30usize) {
            let mut converter = LinesToEvents::new(100);
            let mut out = Vec::new();
            for chunk in LINES.chunks(step) {
                out.extend_from_slice(&converter.push(chunk).unwrap());
            }
            out.extend_from_slice(&converter.finish());
            prop_assert_eq!(std::str::from_utf8(&out).unwrap(), EVENTS);
            prop_assert_eq!(converter.lines(), 3);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut converter = LinesToEvents::new(100);
            let _ = converter.push(&bytes);
            let _ = converter.finish();
        }
    }
}
