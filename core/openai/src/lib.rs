//! What the network must know of OpenAI's HTTP bodies: request views, SSE events, usage, errors, dialects.
#![forbid(unsafe_code)]

pub mod endpoint;
pub mod usage;

pub use endpoint::Endpoint;
pub use usage::Usage;
