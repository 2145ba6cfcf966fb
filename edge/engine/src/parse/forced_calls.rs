//! Reads calls that a grammar forces: `{"name": "f", "arguments": {…}}`, alone or in an
//! array, while they are being written.

use crate::parse::answer::Piece;

/// What stands between the name and the arguments; the grammar fixes every blank.
const SEPARATOR: &str = "\", \"arguments\": ";
const OPENING: &str = "{\"name\": \"";

/// The state of the reader.
#[derive(Debug, Default)]
pub(crate) struct ForcedCalls {
    state: State,
    /// The part of a call before its arguments.
    header: String,
    calls: u32,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Header,
    Arguments {
        depth: u32,
        in_string: bool,
        escaped: bool,
    },
}

impl ForcedCalls {
    /// How many calls have begun.
    pub(crate) const fn calls(&self) -> u32 {
        self.calls
    }

    /// Adds text; pushes what it says onto `pieces`.
    pub(crate) fn push(&mut self, text: &str, pieces: &mut Vec<Piece>) {
        let mut arguments = String::new();
        for character in text.chars() {
            if self.state == State::Header {
                self.push_header(character, pieces);
            } else {
                self.push_argument(character, &mut arguments, pieces);
            }
        }
        self.flush(&mut arguments, pieces);
    }

    fn push_header(&mut self, character: char, pieces: &mut Vec<Piece>) {
        self.header.push(character);
        let Some(before) = self.header.strip_suffix(SEPARATOR) else { return };
        let name = before.rsplit(OPENING).next().unwrap_or_default().to_owned();
        pieces.push(Piece::CallBegins { index: self.calls, name });
        self.calls += 1;
        self.header.clear();
        self.state = State::Arguments { depth: 0, in_string: false, escaped: false };
    }

    fn push_argument(&mut self, character: char, arguments: &mut String, pieces: &mut Vec<Piece>) {
        let State::Arguments { depth, in_string, escaped } = &mut self.state else { return };
        arguments.push(character);
        if *in_string {
            match character {
                _ if *escaped => *escaped = false,
                '\\' => *escaped = true,
                '"' => *in_string = false,
                _ => {}
            }
            return;
        }
        match character {
            '"' => *in_string = true,
            '{' | '[' => *depth += 1,
            '}' | ']' => {
                *depth = depth.saturating_sub(1);
                if *depth == 0 {
                    self.flush(arguments, pieces);
                    self.state = State::Header;
                }
            }
            _ => {}
        }
    }

    fn flush(&self, arguments: &mut String, pieces: &mut Vec<Piece>) {
        if !arguments.is_empty() {
            let index = self.calls.saturating_sub(1);
            pieces.push(Piece::CallArguments { index, text: std::mem::take(arguments) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn read(text: &str, cut: usize) -> Vec<(String, String)> {
        let mut reader = ForcedCalls::default();
        let mut pieces = Vec::new();
        let characters: Vec<char> = text.chars().collect();
        for chunk in characters.chunks(cut.max(1)) {
            reader.push(&chunk.iter().collect::<String>(), &mut pieces);
        }
        let mut calls: Vec<(String, String)> = Vec::new();
        for piece in pieces {
            match piece {
                Piece::CallBegins { index, name } => {
                    assert_eq!(index as usize, calls.len());
                    calls.push((name, String::new()));
                }
                Piece::CallArguments { index, text } => calls[index as usize].1.push_str(&text),
                other => panic!("unexpected {other:?}"),
            }
        }
        calls
    }

    #[test]
    fn one_call_and_several_are_read() {
        let one = r#"{"name": "f", "arguments": {"a": "}\"{", "b": [{}]}}"#;
        let expected = ("f".to_owned(), r#"{"a": "}\"{", "b": [{}]}"#.to_owned());
        assert_eq!(read(one, 1), vec![expected.clone()]);
        assert_eq!(read(&format!("[{one}, {one}]"), 3), [expected.clone(), expected]);
        assert_eq!(read(r#"{"name": "f", "arguments": {"a""#, 2)[0].1, r#"{"a""#);
        assert!(read(r#"{"name": "f"#, 2).is_empty());
    }

    proptest! {
        #[test]
        fn arguments_come_out_as_they_went_in(text in ".{0,30}", number: i32, cut in 1_usize..9) {
            let arguments = json!({"t": text, "n": [number, {"x": text}]}).to_string();
            let call = format!("{{\"name\": \"f\", \"arguments\": {arguments}}}");
            let calls = read(&call, cut);
            prop_assert_eq!(&calls[0].1, &arguments);
            prop_assert!(serde_json::from_str::<Value>(&calls[0].1).is_ok());
        }

        #[test]
        fn any_text_is_read_without_a_panic(text in ".{0,200}") {
            let mut pieces = Vec::new();
            ForcedCalls::default().push(&text, &mut pieces);
        }
    }
}
