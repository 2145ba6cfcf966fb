//! Other forms of a chat, spoken over chat completions.
//!
//! A request of a dialect becomes a chat completions request at once ([`Dialect::from_responses`],
//! [`Dialect::from_messages`]); the [`Dialect`] keeps what the answer must repeat. The answer is
//! turned back whole ([`Dialect::answer`]) or event by event ([`DialectStream`]).

use crate::fault::ApiError;
use crate::messages::{MessagesAsk, MessagesStream};
use crate::responses::{ResponsesAsk, ResponsesStream};

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
    Responses(Box<ResponsesAsk>),
    /// Anthropic's `/v1/messages`.
    Messages(Box<MessagesAsk>),
}

impl Dialect {
    /// Turns a body for `/v1/responses` into one for chat completions.
    pub fn from_responses(body: &[u8]) -> Result<(Vec<u8>, Dialect), ApiError> {
        let (chat, ask) = crate::responses::to_chat(body)?;
        Ok((chat, Dialect::Responses(Box::new(ask))))
    }

    /// Turns a body for `/v1/messages` into one for chat completions.
    pub fn from_messages(body: &[u8]) -> Result<(Vec<u8>, Dialect), ApiError> {
        let (chat, ask) = crate::messages::to_chat(body)?;
        Ok((chat, Dialect::Messages(Box::new(ask))))
    }

    /// Turns a whole chat completion back. An error means that the worker's answer was none.
    pub fn answer(&self, chat: &[u8], marks: &Marks) -> Result<Vec<u8>, ApiError> {
        match self {
            Dialect::Responses(ask) => ask.answer(chat, marks),
            Dialect::Messages(ask) => ask.answer(chat, marks),
        }
    }

    /// Begins to turn a stream back.
    pub fn stream(&self, marks: &Marks) -> DialectStream {
        match self {
            Dialect::Responses(ask) => {
                DialectStream::Responses(Box::new(ResponsesStream::new(ask, marks)))
            }
            Dialect::Messages(ask) => {
                DialectStream::Messages(Box::new(MessagesStream::new(ask, marks)))
            }
        }
    }
}

/// A stream of chat chunks on its way to a dialect.
#[derive(Debug)]
pub enum DialectStream {
    /// To the events of `/v1/responses`.
    Responses(Box<ResponsesStream>),
    /// To the events of `/v1/messages`.
    Messages(Box<MessagesStream>),
}

impl DialectStream {
    /// Takes one whole event of the chat stream and appends what it becomes.
    pub fn push(&mut self, event: &[u8], out: &mut Vec<u8>) {
        match self {
            DialectStream::Responses(stream) => stream.push(event, out),
            DialectStream::Messages(stream) => stream.push(event, out),
        }
    }

    /// Ends a stream that came to its end.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        match self {
            DialectStream::Responses(stream) => stream.finish(out),
            DialectStream::Messages(stream) => stream.finish(out),
        }
    }

    /// Ends a stream that broke.
    pub fn fail(&mut self, error: &ApiError, out: &mut Vec<u8>) {
        match self {
            DialectStream::Responses(stream) => stream.fail(error, out),
            DialectStream::Messages(stream) => stream.fail(error, out),
        }
    }
}
