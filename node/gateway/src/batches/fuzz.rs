//! Entry point for fuzzers: the file of a batch as arbitrary bytes.

use std::collections::HashSet;
use std::convert::Infallible;

use cocoon_openai::Endpoint;

use super::lines::{self, LineCheck, Lines, MAX_LINES, Text};

/// Longest line that is taken here.
const LINE_BYTES_MAX: usize = 2048;

/// Any file of a batch; the last byte says in which pieces it is read.
///
/// # Panics
/// When a law is broken: lines that are accepted have names of their own and a body that is JSON; a
/// file that is refused says why, with lines that are in it.
pub fn file(data: &[u8]) {
    let Some((last, data)) = data.split_last() else { return };
    let mut pieces = data.chunks(usize::from(*last) + 1);
    let source = || Ok::<_, Infallible>(pieces.next().map(<[u8]>::to_vec));
    let mut lines = Lines::new(source, LINE_BYTES_MAX);
    let mut check = LineCheck::new(Endpoint::ChatCompletions);
    let mut texts: Vec<Text> = Vec::new();
    while let Ok(Some(text)) = lines.next() {
        let goes_on = check.take(&text);
        texts.push(text);
        if !goes_on {
            break;
        }
    }
    match check.end() {
        Ok(total) => {
            assert!(
                total > 0 && total <= MAX_LINES && total == texts.len() as u64,
                "{total} lines"
            );
            let mut names = HashSet::new();
            for text in &texts {
                let line = lines::read(text, Endpoint::ChatCompletions).expect("a checked line");
                let body = serde_json::from_str::<&serde_json::value::RawValue>(&line.body);
                assert!(body.is_ok(), "a body is no JSON");
                assert!(names.insert(line.custom_id), "a name is there twice");
            }
        }
        Err(faults) => {
            let count = data.split(|byte| *byte == b'\n').count() as u64;
            assert!(!faults.is_empty(), "a file is refused without a word");
            assert!(faults.iter().all(|fault| (1..=count).contains(&fault.line)));
        }
    }
}
