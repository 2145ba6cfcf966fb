//! The client node: an OpenAI-compatible HTTP API in front of the network.
//!
//! [`upstream`] is the seam: the HTTP side asks for answers through the trait
//! [`Upstream`], and whoever speaks to proxies implements it.
#![forbid(unsafe_code)]

pub mod answer;
pub mod upstream;

pub use answer::{AnswerFeed, AnswerHead, AnswerParts, FinalRecord, InferenceStream, answer_channel};
pub use upstream::{InferenceRequest, ModelOffer, Upstream, UpstreamError};
