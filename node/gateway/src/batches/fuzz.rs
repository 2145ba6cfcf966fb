//! Entry point for fuzzers: the file of a batch as arbitrary bytes.

use std::collections::HashSet;

use cocoon_openai::Endpoint;

use super::lines;

/// Any file of a batch.
///
/// # Panics
/// When a law is broken: lines that are accepted have names of their own and a body that is JSON; a
/// file that is refused says why, with lines that are in it.
pub fn file(data: &[u8]) {
    match lines::read(data, Endpoint::ChatCompletions) {
        Ok(read) => {
            assert!(!read.is_empty() && read.len() <= lines::MAX_LINES, "{} lines", read.len());
            let names: HashSet<&str> = read.iter().map(|line| line.custom_id.as_str()).collect();
            assert_eq!(names.len(), read.len(), "a name is there twice");
            for line in &read {
                let body = serde_json::from_str::<&serde_json::value::RawValue>(&line.body);
                assert!(body.is_ok(), "a body is no JSON");
            }
        }
        Err(faults) => {
            let count = data.split(|byte| *byte == b'\n').count() as u64;
            assert!(!faults.is_empty(), "a file is refused without a word");
            assert!(faults.iter().all(|fault| (1..=count).contains(&fault.line)));
        }
    }
}
