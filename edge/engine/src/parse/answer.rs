//! Splits an answer into reasoning, content and function calls while it is being written.

use serde_json::Value;

use crate::parse::forced_calls::ForcedCalls;
use crate::template::{CALL_CLOSE, CALL_OPEN};

const THINK_OPEN: &str = "<think>";
const THINK_CLOSE: &str = "</think>";

/// A part of an answer, in the order in which it is to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    Reasoning(String),
    Content(String),
    /// A call begins; its arguments follow.
    CallBegins {
        index: u32,
        name: String,
    },
    CallArguments {
        index: u32,
        text: String,
    },
}

/// What is expected of the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Expected {
    /// Text, and calls of these functions where the model chooses to make them.
    Free {
        /// The names of the functions; none finds no calls.
        functions: Vec<String>,
        /// The prompt ends inside the model's reasoning.
        thinking: bool,
    },
    /// Nothing but calls: a grammar sees to it.
    Calls,
}

/// The state of one answer.
#[derive(Debug)]
pub(crate) struct AnswerParser {
    state: State,
    functions: Vec<String>,
    /// Text that is not decided yet.
    held: String,
    calls: u32,
    forced: ForcedCalls,
    /// Whether any content was sent; before that, white space is held back.
    has_content: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Begin,
    Reasoning,
    Content,
    /// Between the marks of a call.
    Call,
    /// The answer began with a brace and functions are offered: perhaps a bare call.
    Bare,
    Forced,
}

impl AnswerParser {
    pub(crate) fn new(expected: Expected) -> Self {
        let (state, functions) = match expected {
            Expected::Calls => (State::Forced, Vec::new()),
            Expected::Free { functions, thinking: true } => (State::Reasoning, functions),
            Expected::Free { functions, thinking: false } => (State::Begin, functions),
        };
        Self {
            state,
            functions,
            held: String::new(),
            calls: 0,
            forced: ForcedCalls::default(),
            has_content: false,
        }
    }

    /// Whether the model is still reasoning.
    pub(crate) fn is_reasoning(&self) -> bool {
        self.state == State::Reasoning
    }

    /// Whether a call was found.
    pub(crate) const fn has_calls(&self) -> bool {
        self.calls > 0
    }

    /// Adds text and answers what is decided now.
    pub(crate) fn push(&mut self, text: &str) -> Vec<Piece> {
        let mut pieces = Vec::new();
        if self.state == State::Forced {
            self.forced.push(text, &mut pieces);
            self.calls = self.forced.calls();
            return pieces;
        }
        self.held.push_str(text);
        while self.step(&mut pieces) {}
        pieces
    }

    /// The answer is over; answers what was held back.
    pub(crate) fn finish(&mut self) -> Vec<Piece> {
        let mut pieces = Vec::new();
        let held = std::mem::take(&mut self.held);
        match self.state {
            State::Reasoning => push_text(&mut pieces, Piece::Reasoning, held),
            State::Call => self.close_call(&held, &mut pieces),
            State::Bare => {
                if !self.take_call(&held, &mut pieces) {
                    push_text(&mut pieces, Piece::Content, held);
                }
            }
            State::Begin | State::Content | State::Forced => {
                // White space after the last call is no content.
                if self.calls == 0 || !held.trim().is_empty() {
                    push_text(&mut pieces, Piece::Content, held);
                }
            }
        }
        pieces
    }

    /// One step of the state; answers whether another one may follow.
    fn step(&mut self, pieces: &mut Vec<Piece>) -> bool {
        match self.state {
            State::Begin => {
                let begun = self.held.trim_start();
                if let Some(rest) = begun.strip_prefix(THINK_OPEN) {
                    self.held = rest.trim_start().to_owned();
                    self.state = State::Reasoning;
                    return true;
                }
                if THINK_OPEN.starts_with(begun) {
                    return false;
                }
                self.state = State::Content;
                true
            }
            State::Reasoning => {
                let found = self.emit_until(THINK_CLOSE, Piece::Reasoning, pieces);
                if found {
                    self.state = State::Content;
                    self.held = self.held.trim_start().to_owned();
                }
                found
            }
            State::Content => self.step_content(pieces),
            State::Call => {
                let Some(position) = self.held.find(CALL_CLOSE) else { return false };
                let rest = self.held.split_off(position + CALL_CLOSE.len());
                let text = std::mem::replace(&mut self.held, rest);
                let inner = text.get(..position).unwrap_or_default().to_owned();
                self.close_call(&inner, pieces);
                self.state = State::Content;
                true
            }
            State::Bare | State::Forced => false,
        }
    }

    fn step_content(&mut self, pieces: &mut Vec<Piece>) -> bool {
        if self.functions.is_empty() {
            let held = std::mem::take(&mut self.held);
            self.has_content |= !held.is_empty();
            push_text(pieces, Piece::Content, held);
            return false;
        }
        if !self.has_content {
            let begun = self.held.trim_start();
            if CALL_OPEN.starts_with(begun) {
                // White space, or what may become a mark: nothing is decided.
                return false;
            }
            if begun.starts_with('{') && self.calls == 0 {
                self.state = State::Bare;
                return false;
            }
            if begun.starts_with(CALL_OPEN) {
                self.held = begun.to_owned();
            }
        }
        let found = self.emit_until(CALL_OPEN, Piece::Content, pieces);
        self.has_content |= !pieces.is_empty();
        if found {
            self.state = State::Call;
        }
        found
    }

    /// Emits what stands before `mark`, or what cannot be its beginning. Answers whether the
    /// mark was found; it is then removed.
    fn emit_until(
        &mut self,
        mark: &str,
        piece: fn(String) -> Piece,
        pieces: &mut Vec<Piece>,
    ) -> bool {
        if let Some(position) = self.held.find(mark) {
            let rest = self.held.split_off(position + mark.len());
            let mut text = std::mem::replace(&mut self.held, rest);
            text.truncate(position);
            push_text(pieces, piece, text);
            return true;
        }
        let possible = (1..mark.len())
            .rev()
            .find(|len| mark.get(..*len).is_some_and(|begin| self.held.ends_with(begin)))
            .unwrap_or(0);
        let keep = self.held.split_off(self.held.len() - possible);
        let text = std::mem::replace(&mut self.held, keep);
        push_text(pieces, piece, text);
        false
    }

    /// What stood between the marks of a call; content if it is none.
    fn close_call(&mut self, inner: &str, pieces: &mut Vec<Piece>) {
        if !self.take_call(inner, pieces) {
            let text = format!("{CALL_OPEN}{inner}{CALL_CLOSE}");
            self.has_content = true;
            push_text(pieces, Piece::Content, text);
        }
    }

    /// `{"name": …, "arguments": {…}}` of an offered function; some models say `parameters`.
    fn take_call(&mut self, text: &str, pieces: &mut Vec<Piece>) -> bool {
        let Ok(Value::Object(call)) = serde_json::from_str::<Value>(text.trim()) else {
            return false;
        };
        let Some(name) = call.get("name").and_then(Value::as_str) else { return false };
        if !self.functions.iter().any(|function| function == name) {
            return false;
        }
        let arguments = match call.get("arguments").or_else(|| call.get("parameters")) {
            Some(Value::Object(map)) => Value::Object(map.clone()).to_string(),
            Some(Value::String(text)) => text.clone(),
            None => "{}".to_owned(),
            Some(_) => return false,
        };
        let index = self.calls;
        self.calls += 1;
        // White space between calls is no content.
        self.has_content = false;
        pieces.push(Piece::CallBegins { index, name: name.to_owned() });
        pieces.push(Piece::CallArguments { index, text: arguments });
        true
    }
}

fn push_text(pieces: &mut Vec<Piece>, piece: fn(String) -> Piece, text: String) {
    if !text.is_empty() {
        pieces.push(piece(text));
    }
}

#[cfg(test)]
#[path = "answer_tests.rs"]
mod tests;
