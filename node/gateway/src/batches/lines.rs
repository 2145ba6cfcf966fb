//! The lines of a batch's input, checked before anything runs.

use std::collections::HashSet;

use cocoon_openai::Endpoint;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::book::LineFault;

/// Most requests in a batch, as at OpenAI.
pub(super) const MAX_LINES: usize = 50_000;

/// Most faults that are told.
const MAX_FAULTS: usize = 100;

/// One request of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) custom_id: String,
    /// The body's JSON text.
    pub(super) body: String,
}

#[derive(Deserialize)]
struct Raw<'a> {
    custom_id: String,
    method: Option<String>,
    url: Option<String>,
    #[serde(borrow)]
    body: &'a RawValue,
}

/// Reads all lines, or tells what is wrong with them.
pub(super) fn read(input: &[u8], endpoint: Endpoint) -> Result<Vec<Line>, Vec<LineFault>> {
    let (mut lines, mut faults, mut ids) = (Vec::new(), Vec::new(), HashSet::new());
    for (index, text) in input.split(|&byte| byte == b'\n').enumerate() {
        if text.trim_ascii().is_empty() {
            continue;
        }
        let mut fault = |code: &str, message: &str| {
            faults.push(LineFault {
                line: index as u64 + 1,
                code: code.to_owned(),
                message: message.to_owned(),
            });
        };
        match serde_json::from_slice::<Raw<'_>>(text) {
            Err(_) => fault("invalid_json_line", "The line needs custom_id, method, url and body."),
            Ok(raw) if raw.method.as_deref().is_some_and(|method| method != "POST") => {
                fault("invalid_method", "The method must be POST.");
            }
            Ok(raw) if raw.url.as_deref() != Some(endpoint.path()) => {
                fault("mismatched_url", "The url must be the batch's endpoint.");
            }
            Ok(raw) if !ids.insert(raw.custom_id.clone()) => {
                fault("duplicate_custom_id", "The custom_id was used before.");
            }
            Ok(raw) => {
                let body = raw.body.get().to_owned();
                lines.push(Line { custom_id: raw.custom_id, body });
            }
        }
        if lines.len() > MAX_LINES {
            let message = format!("The file has more than {MAX_LINES} requests.");
            fault("too_many_requests", &message);
        }
        if faults.len() >= MAX_FAULTS || lines.len() > MAX_LINES {
            break;
        }
    }
    if lines.is_empty() && faults.is_empty() {
        let message = "The file holds no requests.".to_owned();
        faults.push(LineFault { line: 1, code: "empty_file".to_owned(), message });
    }
    if faults.is_empty() { Ok(lines) } else { Err(faults) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GOOD: &str =
        r#"{"custom_id":"a","method":"POST","url":"/v1/chat/completions","body":{"x": 1.50}}"#;

    fn codes(input: &str) -> Vec<String> {
        let faults = read(input.as_bytes(), Endpoint::ChatCompletions).unwrap_err();
        faults.into_iter().map(|fault| format!("{}:{}", fault.line, fault.code)).collect()
    }

    #[test]
    fn lines_are_read_and_faults_are_told_by_line() {
        let lines = read(format!("\n{GOOD}\r\n").as_bytes(), Endpoint::ChatCompletions).unwrap();
        assert_eq!(lines, [Line { custom_id: "a".into(), body: "{\"x\": 1.50}".into() }]);
        assert_eq!(codes(""), ["1:empty_file"]);
        assert_eq!(
            codes(&format!("{GOOD}\n{GOOD}\nnonsense")),
            ["2:duplicate_custom_id", "3:invalid_json_line"]
        );
        assert_eq!(codes(&GOOD.replace("POST", "GET")), ["1:invalid_method"]);
        assert_eq!(codes(&GOOD.replace("chat/", "")), ["1:mismatched_url"]);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&bytes, Endpoint::Embeddings);
        }
    }
}
