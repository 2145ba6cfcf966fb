//! What the network must know of OpenAI's HTTP bodies: request views, SSE events, usage, errors, dialects.
//!
//! Nothing here does I/O, and nothing parses more than it must:
//!
//! - [`RequestView`] looks into a body once and writes the one that travels on by splicing;
//!   [`FormView`] does the same for forms.
//! - [`UsageCounter`] finds token counts in an answer as its bytes pass; [`UsageHider`] takes them
//!   out again for users who did not ask, [`UsageFiller`] completes them for those who did.
//! - [`sse`] cuts streams into events, [`LinesToEvents`] makes events of JSON lines.
//! - [`Dialect`] speaks `/v1/responses` and `/v1/messages` over chat completions.
//! - [`reference`] says in the reference's words what can be said in them.
//! - [`ApiError`] is what a user sees of a failure.
#![forbid(unsafe_code)]

mod chat;
pub mod dialect;
pub mod endpoint;
pub mod fault;
pub mod fill;
pub mod form;
pub mod form_reader;
pub mod fuzz;
pub mod hide;
pub mod json;
pub mod lines;
pub mod messages;
pub mod reference;
pub mod request;
pub mod responses;
mod shape;
pub mod sse;
pub mod usage;
pub mod wishes;

pub use dialect::{Dialect, DialectStream, Marks};
pub use endpoint::Endpoint;
pub use fault::ApiError;
pub use fill::UsageFiller;
pub use form::FormView;
pub use form_reader::{FormPiece, FormReader};
pub use hide::UsageHider;
pub use lines::LinesToEvents;
pub use request::{Changes, RequestView};
pub use usage::{BodyForm, UsageCounter};
pub use wishes::BodyWishes;
