//! OpenAI's `/v1/responses` over chat completions.

mod answer;
mod ask;
mod input;
mod stream;

pub use ask::ResponsesAsk;
pub(crate) use ask::to_chat;
pub use stream::ResponsesStream;
