//! Token counts of an answer, found in its bytes as they pass.
//!
//! [`UsageCounter`] does not parse an answer. It looks for the byte sequence `"usage"`, which JSON
//! cannot hold inside a longer string unescaped, and parses only the object that follows. So a
//! chunk without it costs one search at memory speed, whatever the form of the answer: one JSON
//! value, JSON lines, or server-sent events.

use cocoon_units::Usage;
use memchr::memmem;
use serde_json::Value;

/// Largest `usage` object that is read, in bytes; a longer one is ignored.
pub const MAX_USAGE_BYTES: usize = 16 * 1024;

const NEEDLE: &[u8] = b"\"usage\"";

/// How an answer's bytes are laid out, by its first byte that is no blank.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyForm {
    /// Nothing but blanks so far.
    Unknown,
    /// One JSON value, or several after each other (JSON lines).
    Json,
    /// Server-sent events.
    Events,
    /// Anything else: text, sound, pictures. Holds no usage, whatever it says.
    Opaque,
}

impl BodyForm {
    /// Recognises the form by the beginning of a body.
    pub fn recognise(beginning: &[u8]) -> BodyForm {
        let trimmed = beginning.trim_ascii_start();
        // A byte order mark may stand before events (HTML standard, 9.2.5).
        let text = trimmed.strip_prefix(b"\xef\xbb\xbf").unwrap_or(trimmed);
        match text.first() {
            None => BodyForm::Unknown,
            Some(b'{' | b'[') => BodyForm::Json,
            Some(b':') => BodyForm::Events,
            Some(_) if FIELDS.iter().any(|field| agree(field, text)) => BodyForm::Events,
            Some(_) => BodyForm::Opaque,
        }
    }
}

/// What a stream of events may begin with, besides a comment.
const FIELDS: [&[u8]; 4] = [b"data:", b"event:", b"id:", b"retry:"];

/// True when one of the texts begins with the other.
fn agree(field: &[u8], text: &[u8]) -> bool {
    field.iter().zip(text).all(|(expected, byte)| expected == byte)
}

/// Counts the usage of one answer: feed it every byte, read [`UsageCounter::usage`] at any time.
///
/// Of each number the largest value ever seen counts (protocol notes 4.7), so a server that
/// reports with every chunk is not counted twice. Names of chat completions, of responses and of
/// Anthropic's messages are understood.
///
/// ```
/// use cocoon_openai::UsageCounter;
/// let mut counter = UsageCounter::default();
/// counter.push(b"data: {\"choices\":[],\"usa");
/// counter.push(b"ge\":{\"prompt_tokens\":7,\"completion_tokens\":3}}\n\n");
/// assert_eq!(counter.usage().unwrap().prompt, 7);
/// ```
#[derive(Default)]
pub struct UsageCounter {
    form: Option<BodyForm>,
    /// The end of what was seen, when it may be the beginning of the needle.
    tail: Vec<u8>,
    capture: Option<Capture>,
    usage: Option<Usage>,
}

/// Shows no bytes of the answer.
impl std::fmt::Debug for UsageCounter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UsageCounter")
            .field("form", &self.form)
            .field("usage", &self.usage)
            .finish_non_exhaustive()
    }
}

impl UsageCounter {
    /// Takes the next bytes of the body, cut anywhere.
    pub fn push(&mut self, chunk: &[u8]) {
        let form = match self.form {
            Some(form) => form,
            None => {
                let form = BodyForm::recognise(chunk);
                if form == BodyForm::Unknown {
                    return;
                }
                *self.form.insert(form)
            }
        };
        if form == BodyForm::Opaque {
            return;
        }
        let mut rest = chunk;
        while !rest.is_empty() {
            rest = if self.capture.is_some() { self.captured(rest) } else { self.sought(rest) };
        }
    }

    /// The largest counts seen so far; `None` when no usage was reported.
    pub fn usage(&self) -> Option<Usage> {
        self.usage
    }

    /// The form of the body, once a byte that is no blank was seen.
    pub fn form(&self) -> BodyForm {
        self.form.unwrap_or(BodyForm::Unknown)
    }

    /// Looks for the needle; returns what lies behind it.
    fn sought<'a>(&mut self, chunk: &'a [u8]) -> &'a [u8] {
        if !self.tail.is_empty() {
            // The needle may lie across the border: join just enough of both sides.
            let kept = self.tail.len();
            let taken = chunk.len().min(NEEDLE.len() - 1);
            self.tail.extend_from_slice(chunk.get(..taken).unwrap_or_default());
            if let Some(at) = memmem::find(&self.tail, NEEDLE) {
                let behind = (at + NEEDLE.len()).saturating_sub(kept);
                self.tail.clear();
                self.capture = Some(Capture::default());
                return chunk.get(behind..).unwrap_or_default();
            }
            if taken == chunk.len() {
                // Everything is in the tail: keep only what may still begin a needle.
                let excess = self.tail.len().saturating_sub(NEEDLE.len() - 1);
                self.tail.drain(..excess);
                return &[];
            }
            self.tail.clear();
        }
        if let Some(at) = memmem::find(chunk, NEEDLE) {
            self.capture = Some(Capture::default());
            return chunk.get(at + NEEDLE.len()..).unwrap_or_default();
        }
        // Only the bytes from the last quote on can begin a needle.
        let last = chunk.get(chunk.len().saturating_sub(NEEDLE.len() - 1)..).unwrap_or_default();
        if let Some(at) = last.iter().position(|&byte| byte == b'"') {
            self.tail.extend_from_slice(last.get(at..).unwrap_or_default());
        }
        &[]
    }

    /// Collects the value behind the needle; returns what lies behind it.
    fn captured<'a>(&mut self, chunk: &'a [u8]) -> &'a [u8] {
        let Some(capture) = self.capture.as_mut() else { return chunk };
        match capture.take(chunk) {
            Taken::More => &[],
            Taken::NotIt(used) => {
                self.capture = None;
                chunk.get(used..).unwrap_or_default()
            }
            Taken::Object(used) => {
                if let Some(seen) = capture.read() {
                    self.usage = Some(self.usage.unwrap_or_default().merge_max(seen));
                }
                self.capture = None;
                chunk.get(used..).unwrap_or_default()
            }
        }
    }
}

/// Reads the counts of one `usage` object. `None` when it holds none of the known numbers.
pub fn read_usage(usage: &Value) -> Option<Usage> {
    let number = |path: &[&str]| {
        let mut value = usage;
        for name in path {
            value = value.get(name)?;
        }
        value.as_u64()
    };
    let prompt = number(&["prompt_tokens"]).or_else(|| number(&["input_tokens"]));
    let completion = number(&["completion_tokens"]).or_else(|| number(&["output_tokens"]));
    let cached = number(&["prompt_tokens_details", "cached_tokens"])
        .max(number(&["input_tokens_details", "cached_tokens"]));
    let reasoning = number(&["completion_tokens_details", "reasoning_tokens"])
        .max(number(&["output_tokens_details", "reasoning_tokens"]))
        .max(number(&["reasoning_tokens"]));
    // Anthropic's `input_tokens` leaves out what came from or went to the cache.
    let from_cache = number(&["cache_read_input_tokens"]);
    let to_cache = number(&["cache_creation_input_tokens"]);
    if [prompt, completion, cached, reasoning, from_cache].iter().all(Option::is_none) {
        return None;
    }
    let beside = from_cache.unwrap_or(0).saturating_add(to_cache.unwrap_or(0));
    Some(Usage {
        prompt: prompt.unwrap_or(0).saturating_add(beside),
        cached: cached.max(from_cache).unwrap_or(0),
        completion: completion.unwrap_or(0),
        reasoning: reasoning.unwrap_or(0),
    })
}

/// What follows the needle: blanks, a colon, blanks, an object.
#[derive(Default)]
struct Capture {
    colon: bool,
    depth: u32,
    in_string: bool,
    escaped: bool,
    text: Vec<u8>,
}

enum Taken {
    /// Everything was taken, more is needed.
    More,
    /// No object follows; so many bytes were looked at.
    NotIt(usize),
    /// The object is complete; so many bytes were taken.
    Object(usize),
}

impl Capture {
    fn take(&mut self, chunk: &[u8]) -> Taken {
        for (index, &byte) in chunk.iter().enumerate() {
            if self.depth == 0 {
                match byte {
                    b' ' | b'\t' | b'\r' | b'\n' => continue,
                    b':' if !self.colon => {
                        self.colon = true;
                        continue;
                    }
                    b'{' if self.colon => {}
                    // This byte may begin another needle: leave it.
                    _ => return Taken::NotIt(index),
                }
            }
            if self.text.len() >= MAX_USAGE_BYTES {
                return Taken::NotIt(index);
            }
            self.text.push(byte);
            if self.step(byte) {
                return Taken::Object(index + 1);
            }
        }
        Taken::More
    }

    /// Follows strings and nesting; true when the object just ended.
    fn step(&mut self, byte: u8) -> bool {
        if self.in_string {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => self.in_string = false,
                _ => {}
            }
            return false;
        }
        match byte {
            b'"' => self.in_string = true,
            b'{' => self.depth += 1,
            b'}' => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
        self.depth == 0
    }

    fn read(&self) -> Option<Usage> {
        if let Ok(value) = serde_json::from_slice::<Value>(&self.text) {
            return read_usage(&value);
        }
        // An event may break its JSON over several `data:` lines; JSON has no raw line ends.
        let text = std::str::from_utf8(&self.text).ok()?;
        let lines = text.lines().map(|line| line.strip_prefix("data:").unwrap_or(line));
        let value = serde_json::from_str::<Value>(&lines.collect::<String>()).ok()?;
        read_usage(&value)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn count(chunks: &[&[u8]]) -> Option<Usage> {
        let mut counter = UsageCounter::default();
        chunks.iter().for_each(|chunk| counter.push(chunk));
        counter.usage()
    }

    const CHAT: &[u8] = br#"{"id":"x","choices":[{"message":{"content":"my \"usage\": {\"prompt_tokens\": 99}"}}],
        "usage": {"prompt_tokens":12,"completion_tokens":5,"prompt_tokens_details":{"cached_tokens":3},
        "completion_tokens_details":{"reasoning_tokens":2}}}"#;

    fn expected() -> Usage {
        Usage { prompt: 12, cached: 3, completion: 5, reasoning: 2 }
    }

    #[test]
    fn plain_json_is_counted_and_quoted_text_is_not() {
        assert_eq!(count(&[CHAT]), Some(expected()));
    }

    #[test]
    fn the_largest_of_each_number_counts() {
        let text = br#"data: {"usage":{"prompt_tokens":5,"completion_tokens":9}}

data: {"usage":null}

data: {"usage":{"prompt_tokens":6,"completion_tokens":2}}

"#;
        let usage = count(&[text]).unwrap();
        assert_eq!((usage.prompt, usage.completion), (6, 9));
    }

    #[test]
    fn json_lines_and_other_dialects_are_understood() {
        let lines =
            b"{\"choices\":[]}\n{\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":2}}\n";
        assert_eq!(count(&[lines]).unwrap().completion, 2);
        let anthropic =
            br#"{"usage":{"input_tokens":10,"cache_read_input_tokens":90,"output_tokens":4}}"#;
        let usage = Usage { prompt: 100, cached: 90, completion: 4, reasoning: 0 };
        assert_eq!(count(&[anthropic]), Some(usage));
        let broken_lines = b"data: {\"usage\":\ndata: {\"prompt_tokens\":\ndata: 3}}\n\n";
        assert_eq!(count(&[broken_lines]), None, "a value on the next data line is not an object");
        let broken_inside = b"data: {\"usage\":{\ndata: \"prompt_tokens\":\ndata: 3}}\n\n";
        assert_eq!(count(&[broken_inside]).unwrap().prompt, 3);
    }

    #[test]
    fn what_is_no_usage_is_ignored() {
        assert_eq!(count(&[br#"{"a":"usage","b":["usage"],"usage":7}"#]), None);
        assert_eq!(count(&[b"said: \"usage\":{\"prompt_tokens\":4}"]), None);
        assert_eq!(count(&[br#"{"usage":{"prompt_tokens":-4,"completion_tokens":1.5}}"#]), None);
        let huge =
            format!("{{\"usage\":{{\"x\":\"{}\",\"prompt_tokens\":1}}}}", "y".repeat(20_000));
        assert_eq!(count(&[huge.as_bytes()]), None);
    }

    proptest! {
        #[test]
        fn cuts_do_not_matter(cuts in prop::collection::vec(0..CHAT.len(), 0..30)) {
            let mut cuts = cuts;
            cuts.sort_unstable();
            let mut counter = UsageCounter::default();
            let mut at = 0;
            for cut in cuts {
                counter.push(&CHAT[at..cut]);
                at = cut;
            }
            counter.push(&CHAT[at..]);
            prop_assert_eq!(counter.usage(), Some(expected()));
        }

        #[test]
        fn arbitrary_bytes_never_panic(chunks in prop::collection::vec(
            prop_oneof![
                prop::collection::vec(any::<u8>(), 0..40),
                Just(b"{\"usage\"".to_vec()), Just(b":{".to_vec()), Just(b"\"usa".to_vec()),
                Just(b"ge\":{\"prompt_tokens\":3}".to_vec()),
            ], 0..12,
        )) {
            let mut counter = UsageCounter::default();
            for chunk in &chunks {
                counter.push(chunk);
                prop_assert!(counter.tail.len() < NEEDLE.len());
            }
        }
    }
}
