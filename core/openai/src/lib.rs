//! What the network must know of OpenAI's HTTP bodies: request views, SSE events, usage, errors, dialects.
#![forbid(unsafe_code)]

mod chat;
pub mod dialect;
pub mod endpoint;
pub mod fault;
pub mod form;
pub mod hide;
pub mod json;
pub mod lines;
pub mod messages;
pub mod request;
pub mod responses;
mod shape;
pub mod sse;
pub mod usage;
pub mod wishes;

pub use dialect::{Dialect, DialectStream, Marks};
pub use endpoint::Endpoint;
pub use fault::ApiError;
pub use form::FormView;
pub use hide::UsageHider;
pub use lines::LinesToEvents;
pub use request::{Changes, RequestView};
pub use usage::{BodyForm, UsageCounter};
pub use wishes::BodyWishes;
