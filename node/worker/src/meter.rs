//! Counts what a model server makes while it passes, for an answer that is stopped before its end.

use cocoon_openai::UsageCounter;
use cocoon_openai::usage::BodyForm;
use cocoon_units::Usage;
use memchr::{memchr, memmem};

/// Most of a line that is looked at, bytes.
const LINE_LEN_MAX: usize = 64 << 10;

/// Members that hold what a model made, in chat completions, completions, responses and Anthropic's
/// messages: text, thoughts, and calls of tools.
const MADE: [&[u8]; 9] = [
    b"\"content\":",
    b"\"text\":",
    b"\"reasoning_content\":",
    b"\"reasoning\":",
    b"\"thinking\":",
    b"\"arguments\":",
    b"\"partial_json\":",
    b"\"name\":",
    b"\"delta\":",
];

/// Counts what the model server made.
#[derive(Default)]
pub(crate) struct Meter {
    counter: UsageCounter,
    events: u64,
    /// The beginning of a line whose end has not come. Content of an answer: not to be shown.
    line: Vec<u8>,
}

impl Meter {
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.counter.push(bytes);
        if self.counter.form() != BodyForm::Events {
            return;
        }
        let mut rest = bytes;
        while let Some(end) = memchr(b'\n', rest) {
            let (line, behind) = rest.split_at(end + 1);
            let made = if self.line.is_empty() {
                makes_something(line)
            } else {
                self.keep(line);
                let made = makes_something(&self.line);
                self.line.clear();
                made
            };
            self.events += u64::from(made);
            rest = behind;
        }
        self.keep(rest);
    }

    fn keep(&mut self, part: &[u8]) {
        let room = LINE_LEN_MAX.saturating_sub(self.line.len());
        self.line.extend_from_slice(part.get(..room).unwrap_or(part));
    }

    /// What the model server reported.
    pub(crate) fn usage(&self) -> Usage {
        self.counter.usage().unwrap_or_default()
    }

    /// What it reported, or, when it was stopped before it could, one token for each event that held
    /// something: servers send one event for one token or more, so this never claims too much. What
    /// the prompt cost is not known then.
    pub(crate) fn usage_so_far(&self) -> Usage {
        self.counter.usage().unwrap_or(Usage { completion: self.events, ..Usage::default() })
    }
}

/// Whether an event's line holds a text that is not empty where a model's words stand.
fn makes_something(line: &[u8]) -> bool {
    let is_text = |rest: &[u8]| match rest.trim_ascii_start() {
        [b'"', first, ..] => *first != b'"',
        _ => false,
    };
    let holds = |member: &&[u8]| {
        memmem::find_iter(line, member).any(|at| line.get(at + member.len()..).is_some_and(is_text))
    };
    line.starts_with(b"data:") && MADE.iter().any(holds)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tokens of a stream that was stopped, cut into pieces of this length.
    fn tokens(stream: &str, piece: usize) -> u64 {
        let mut meter = Meter::default();
        stream.as_bytes().chunks(piece).for_each(|part| meter.push(part));
        meter.usage_so_far().completion
    }

    #[test]
    fn each_event_that_holds_something_counts_once_in_every_dialect() {
        let chat = r#"data: {"choices":[{"delta":{"role":"assistant","content":""}}]}

data: {"choices":[{"delta":{"reasoning_content":"hm"}}]}

data: {"choices":[{"delta":{"content":"a"},"logprobs":{"content":[{"token":"a","top":[]}]}}]}

data: {"choices":[{"delta":{"content": "\"content\":\"x\""}}]}

data: {"choices":[{"delta":{"tool_calls":[{"function":{"name":"f","arguments":""}}]}}]}

data: {"choices":[{"delta":{"tool_calls":[{"function":{"arguments":"{}"}}]}}]}

data: {"choices":[{"delta":{},"finish_reason":"stop"}]}

"#;
        let completion = "data: {\"choices\":[{\"text\":\"a\"}]}\n\ndata: {\"choices\":[{\"text\":\"\",\
                          \"finish_reason\":\"length\"}]}\n\n";
        for piece in [1, 7, 50, 10_000] {
            assert_eq!((tokens(chat, piece), tokens(completion, piece)), (5, 1), "{piece}");
        }
    }

    #[test]
    fn what_the_server_reports_counts_before_what_was_seen() {
        let mut meter = Meter::default();
        meter.push(b"data: {\"choices\":[{\"text\":\"a\"}],\"usage\":{\"prompt_tokens\":9,");
        meter.push(b"\"completion_tokens\":4}}\n\n");
        assert_eq!((meter.usage_so_far().prompt, meter.usage_so_far().completion), (9, 4));
    }

    #[test]
    fn lines_without_end_take_no_memory() {
        let mut meter = Meter::default();
        meter.push(b"data: {\"choices\":[{\"text\":\"");
        (0..100).for_each(|_| meter.push(&[b'x'; 4096]));
        assert!(meter.line.len() <= LINE_LEN_MAX);
        meter.push(b"\"}]}\n");
        assert_eq!(meter.usage_so_far().completion, 1);
    }
}
