//! Log-probabilities in the two shapes that OpenAI has for them.

use serde_json::{Map, Value, json};

use crate::generate::assembler::TokenRecord;
use crate::generate::logprobs::{PositionLogprobs, TokenLogprob};
use crate::model::{TokenId, Vocabulary};

/// A token's bytes; the name of a control token, so that none looks empty.
fn bytes_of(vocabulary: &dyn Vocabulary, token: TokenId) -> Vec<u8> {
    let piece = vocabulary.piece(token);
    if piece.is_empty() { vocabulary.special_piece(token) } else { piece }
}

pub(crate) fn text_of(vocabulary: &dyn Vocabulary, token: TokenId) -> String {
    String::from_utf8_lossy(&bytes_of(vocabulary, token)).into_owned()
}

/// The entries of `choices[].logprobs.content` for chat.
pub(crate) fn chat_logprobs(vocabulary: &dyn Vocabulary, tokens: &[TokenRecord]) -> Vec<Value> {
    let entry = |item: &TokenLogprob| {
        json!({
            "token": text_of(vocabulary, item.token),
            "logprob": item.logprob,
            "bytes": bytes_of(vocabulary, item.token),
        })
    };
    tokens
        .iter()
        .filter_map(|record| record.logprobs.as_ref())
        .map(|position| {
            let mut value = entry(&position.chosen);
            value["top_logprobs"] = position.top.iter().map(entry).collect();
            value
        })
        .collect()
}

/// `choices[].logprobs` of plain completions, built up token by token.
#[derive(Debug, Default)]
pub(crate) struct CompletionLogprobs {
    tokens: Vec<Value>,
    token_logprobs: Vec<Value>,
    top_logprobs: Vec<Value>,
    text_offset: Vec<Value>,
    /// Characters before the next token.
    offset: usize,
}

impl CompletionLogprobs {
    /// Adds a token; `None` for the first of a prompt, before which there is nothing.
    pub(crate) fn push(
        &mut self,
        vocabulary: &dyn Vocabulary,
        token: TokenId,
        position: Option<&PositionLogprobs>,
    ) {
        let text = text_of(vocabulary, token);
        self.text_offset.push(json!(self.offset));
        self.offset += text.chars().count();
        self.tokens.push(json!(text));
        self.token_logprobs.push(json!(position.map(|position| position.chosen.logprob)));
        self.top_logprobs.push(position.map_or(Value::Null, |position| {
            let top: Map<String, Value> = position
                .top
                .iter()
                .map(|item| (text_of(vocabulary, item.token), json!(item.logprob)))
                .collect();
            Value::Object(top)
        }));
    }

    /// The next token's text begins after so many characters.
    pub(crate) fn begin_at(&mut self, offset: usize) {
        self.offset = offset;
    }

    /// What was added since the last time; the offsets go on.
    pub(crate) fn take(&mut self) -> Value {
        json!({
            "tokens": std::mem::take(&mut self.tokens),
            "token_logprobs": std::mem::take(&mut self.token_logprobs),
            "top_logprobs": std::mem::take(&mut self.top_logprobs),
            "text_offset": std::mem::take(&mut self.text_offset),
        })
    }
}
