//! Anthropic's `/v1/messages` over chat completions.

mod answer;
mod ask;
mod stream;

pub use ask::MessagesAsk;
pub(crate) use ask::to_chat;
pub use stream::MessagesStream;
