//! The client node: an OpenAI-compatible HTTP API in front of the network.
//!
//! [`upstream`] is the seam: the HTTP side asks for answers through the trait [`Upstream`], and
//! whoever speaks to proxies implements it. [`Server`] is the HTTP side.
//!
//! A request's way: [`serve`] accepts the connection, `route` finds the handler, `intake` reads
//! the body within limits, `order` makes an [`InferenceRequest`] of it, `idempotency` sees to it
//! that a repeated one runs once, the [`Upstream`] runs it, and `relay` with `filter` (streams)
//! or `reply` (whole answers) show what came back. `ticket` books every end.
#![forbid(unsafe_code)]

mod address;
pub mod answer;
mod atomic_file;
pub mod batches;
mod body;
mod catalog;
pub mod config;
pub mod failure;
mod filter;
mod gateway;
mod idempotency;
mod infer;
mod intake;
pub mod keys;
mod metrics;
pub mod openapi;
pub mod operator;
mod order;
mod origin;
mod pace;
mod pages;
mod proof_pages;
mod relay;
mod reply;
mod report;
mod request_id;
mod route;
mod sense;
pub mod serve;
mod ticket;
pub mod tls;
pub mod upstream;
mod vault;
mod verify_page;

pub use answer::{
    AnswerFeed, AnswerHead, AnswerParts, FinalRecord, InferenceStream, PushRefused, answer_channel,
};
pub use config::GatewayConfig;
pub use idempotency::IdempotencyConfig;
pub use operator::{MoneyAct, MoneyOrder, MoneyRefusal, TopUp};
pub use order::body_sent;
pub use serve::{Server, serve};
pub use upstream::{InferenceRequest, ModelOffer, Upstream, UpstreamError};
pub use vault::VaultFault;
