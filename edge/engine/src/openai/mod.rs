//! OpenAI's requests and answers: what is read from a body, and what is written into one.

pub(crate) mod chat_answer;
pub(crate) mod chat_request;
pub(crate) mod completion_answer;
pub(crate) mod completion_request;
pub(crate) mod embedding;
pub(crate) mod error;
pub(crate) mod fields;
pub(crate) mod logprobs;
pub(crate) mod message;
pub(crate) mod options;
pub(crate) mod response_format;
pub(crate) mod tools;
pub(crate) mod usage;
