//! Other vendors' and newer forms of a chat, spoken over chat completions.

use crate::fault::ApiError;

/// What an answer is marked with: inputs, since this crate has neither clock nor randomness.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Marks {
    /// The end of every id in the answer, without prefix.
    pub id: String,
    /// Unix seconds.
    pub created_unix_s: u64,
}

/// A form of a chat that is not chat completions, with what its answer must repeat.
#[derive(Debug, Clone, PartialEq)]
pub enum Dialect {
    /// OpenAI's `/v1/responses`.
    Responses,
    /// Anthropic's `/v1/messages`.
    Messages,
}

/// A stream of chat chunks on its way to a dialect.
#[derive(Debug)]
pub enum DialectStream {}

impl Dialect {
    pub fn from_responses(_body: &[u8]) -> Result<(Vec<u8>, Dialect), ApiError> {
        Err(ApiError::new(501, "api_error", "later"))
    }
    pub fn from_messages(_body: &[u8]) -> Result<(Vec<u8>, Dialect), ApiError> {
        Err(ApiError::new(501, "api_error", "later"))
    }
    pub fn answer(&self, chat: &[u8], _marks: &Marks) -> Result<Vec<u8>, ApiError> {
        Ok(chat.to_vec())
    }
    pub fn stream(&self, _marks: &Marks) -> DialectStream {
        unreachable!()
    }
}
impl DialectStream {
    pub fn push(&mut self, _event: &[u8], _out: &mut Vec<u8>) {}
    pub fn finish(&mut self, _out: &mut Vec<u8>) {}
    pub fn fail(&mut self, _error: &ApiError, _out: &mut Vec<u8>) {}
}
