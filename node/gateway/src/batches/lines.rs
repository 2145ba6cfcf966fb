//! The lines of a batch's input, read one by one, checked before anything runs.
//!
//! A file may be far larger than what a gateway wants to hold: no more than one piece of it and one
//! line are in memory.

use std::collections::HashSet;

use cocoon_openai::Endpoint;
use serde::Deserialize;
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};

use super::book::LineFault;

/// Most requests in a batch, as at OpenAI.
pub(super) const MAX_LINES: u64 = 50_000;

/// Most faults that are told.
const MAX_FAULTS: usize = 100;

/// One request of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) custom_id: String,
    /// The body's JSON text.
    pub(super) body: String,
}

/// What stands for a line's `custom_id` where many are kept: a name may be of any length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct NameDigest([u8; 32]);

impl NameDigest {
    pub(super) fn of(custom_id: &str) -> NameDigest {
        NameDigest(Sha256::digest(custom_id.as_bytes()).into())
    }
}

#[derive(Deserialize)]
struct Raw<'a> {
    custom_id: String,
    method: Option<String>,
    url: Option<String>,
    #[serde(borrow)]
    body: &'a RawValue,
}

/// The text of a line, and its number from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Text {
    pub(super) number: u64,
    /// The line without its end; the first bytes of it when it is too long.
    pub(super) bytes: Vec<u8>,
    pub(super) is_too_long: bool,
}

/// Lines of a file that comes in pieces.
pub(super) struct Lines<S> {
    source: S,
    line_bytes_max: usize,
    piece: Vec<u8>,
    /// Bytes of the piece that were read.
    at: usize,
    number: u64,
    has_ended: bool,
}

impl<S, E> Lines<S>
where
    S: FnMut() -> Result<Option<Vec<u8>>, E>,
{
    /// Lines of at most so many bytes; `source` gives the pieces, and `None` at the end.
    pub(super) fn new(source: S, line_bytes_max: usize) -> Lines<S> {
        Lines { source, line_bytes_max, piece: Vec::new(), at: 0, number: 0, has_ended: false }
    }

    /// The next line that is not blank. The one that is too long is the last one.
    pub(super) fn next(&mut self) -> Result<Option<Text>, E> {
        while !self.has_ended {
            let (bytes, is_too_long) = self.line()?;
            self.number += 1;
            self.has_ended |= is_too_long;
            if is_too_long || !bytes.trim_ascii().is_empty() {
                return Ok(Some(Text { number: self.number, bytes, is_too_long }));
            }
        }
        Ok(None)
    }

    /// The bytes up to the next line's end, and whether there are too many.
    fn line(&mut self) -> Result<(Vec<u8>, bool), E> {
        let mut line = Vec::new();
        loop {
            let rest = self.piece.get(self.at..).unwrap_or_default();
            let end = memchr::memchr(b'\n', rest);
            line.extend_from_slice(rest.get(..end.unwrap_or(rest.len())).unwrap_or_default());
            if line.len() > self.line_bytes_max {
                return Ok((line, true));
            }
            if let Some(end) = end {
                self.at += end + 1;
                return Ok((line, false));
            }
            match (self.source)()? {
                Some(piece) => (self.piece, self.at) = (piece, 0),
                None => {
                    self.has_ended = true;
                    return Ok((line, false));
                }
            }
        }
    }
}

/// Checks the lines of one file.
pub(super) struct LineCheck {
    endpoint: Endpoint,
    names: HashSet<NameDigest>,
    faults: Vec<LineFault>,
    good: u64,
}

impl LineCheck {
    pub(super) fn new(endpoint: Endpoint) -> LineCheck {
        LineCheck { endpoint, names: HashSet::new(), faults: Vec::new(), good: 0 }
    }

    /// Takes the next line; false when there is nothing to gain from more.
    pub(super) fn take(&mut self, text: &Text) -> bool {
        match read(text, self.endpoint) {
            Err(fault) => self.faults.push(fault),
            Ok(line) if !self.names.insert(NameDigest::of(&line.custom_id)) => {
                let message = "The custom_id was used before.";
                self.faults.push(fault(text.number, "duplicate_custom_id", message));
            }
            Ok(_) => self.good += 1,
        }
        if self.good > MAX_LINES {
            let message = format!("The file has more than {MAX_LINES} requests.");
            self.faults.push(fault(text.number, "too_many_requests", &message));
        }
        self.good <= MAX_LINES && self.faults.len() < MAX_FAULTS
    }

    /// How many requests the file has, or what is wrong with it.
    pub(super) fn end(mut self) -> Result<u64, Vec<LineFault>> {
        if self.good == 0 && self.faults.is_empty() {
            self.faults.push(fault(1, "empty_file", "The file holds no requests."));
        }
        if self.faults.is_empty() { Ok(self.good) } else { Err(self.faults) }
    }
}

/// One line's request, or what is wrong with it.
pub(super) fn read(text: &Text, endpoint: Endpoint) -> Result<Line, LineFault> {
    let told = |code, message| Err(fault(text.number, code, message));
    if text.is_too_long {
        return told("line_too_long", "The line is longer than this gateway takes.");
    }
    match serde_json::from_slice::<Raw<'_>>(&text.bytes) {
        Err(_) => told("invalid_json_line", "The line needs custom_id, method, url and body."),
        Ok(raw) if raw.method.as_deref().is_some_and(|method| method != "POST") => {
            told("invalid_method", "The method must be POST.")
        }
        Ok(raw) if raw.url.as_deref() != Some(endpoint.path()) => {
            told("mismatched_url", "The url must be the batch's endpoint.")
        }
        Ok(raw) => Ok(Line { custom_id: raw.custom_id, body: raw.body.get().to_owned() }),
    }
}

fn fault(line: u64, code: &str, message: &str) -> LineFault {
    LineFault { line, code: code.to_owned(), message: message.to_owned() }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use proptest::prelude::*;

    use super::*;

    const GOOD: &str =
        r#"{"custom_id":"a","method":"POST","url":"/v1/chat/completions","body":{"x": 1.50}}"#;

    fn texts(input: &[u8], piece: usize, line_bytes_max: usize) -> Vec<Text> {
        let mut pieces = input.chunks(piece);
        let source = || Ok::<_, Infallible>(pieces.next().map(<[u8]>::to_vec));
        let mut lines = Lines::new(source, line_bytes_max);
        std::iter::from_fn(|| lines.next().unwrap()).collect()
    }

    fn codes(input: &str) -> Vec<String> {
        let mut check = LineCheck::new(Endpoint::ChatCompletions);
        let texts = texts(input.as_bytes(), 7, 1000);
        let _all = texts.iter().all(|text| check.take(text));
        let faults = check.end().unwrap_err();
        faults.into_iter().map(|fault| format!("{}:{}", fault.line, fault.code)).collect()
    }

    #[test]
    fn lines_are_read_and_faults_are_told_by_line() {
        let texts = texts(format!("\n{GOOD}\r\n").as_bytes(), 10, 1000);
        assert_eq!((texts.len(), texts[0].number), (1, 2));
        let line = read(&texts[0], Endpoint::ChatCompletions).unwrap();
        assert_eq!(line, Line { custom_id: "a".into(), body: "{\"x\": 1.50}".into() });
        assert_eq!(codes(""), ["1:empty_file"]);
        assert_eq!(
            codes(&format!("{GOOD}\n{GOOD}\nnonsense")),
            ["2:duplicate_custom_id", "3:invalid_json_line"]
        );
        assert_eq!(codes(&GOOD.replace("POST", "GET")), ["1:invalid_method"]);
        assert_eq!(codes(&GOOD.replace("chat/", "")), ["1:mismatched_url"]);
        let long = format!("{GOOD}\n{}\n{GOOD}", "x".repeat(1001));
        assert_eq!(codes(&long), ["2:line_too_long"], "and nothing behind it is read");
        assert_eq!(codes(&"x\n".repeat(500)).len(), MAX_FAULTS);
    }

    proptest! {
        #[test]
        fn pieces_make_no_difference(
            bytes in prop::collection::vec(prop_oneof![Just(b'\n'), any::<u8>()], 0..200),
            piece in 1usize..50,
        ) {
            let read = texts(&bytes, piece, 1000);
            let whole = bytes.split(|byte| *byte == b'\n').enumerate();
            let whole = whole.filter(|(_, line)| !line.trim_ascii().is_empty());
            let whole: Vec<(u64, Vec<u8>)> =
                whole.map(|(at, line)| (at as u64 + 1, line.to_vec())).collect();
            let read: Vec<(u64, Vec<u8>)> =
                read.into_iter().map(|text| (text.number, text.bytes)).collect();
            prop_assert_eq!(read, whole);
        }
    }
}
