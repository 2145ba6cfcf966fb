//! The embedded model server: llama.cpp behind an OpenAI-compatible HTTP API.
//!
//! A node asks every model over HTTP, whichever server it is. This crate is such a server
//! for those who have none: [`run`] loads one GGUF model and answers
//! `/v1/chat/completions`, `/v1/completions`, `/v1/embeddings`, `/v1/models`,
//! `/v1/models/{id}`, `/health` and `/metrics`. It is meant to be a child process of its
//! own, so that a crash of its C++ takes no node along.
//!
//! The way of a request: `http` reads it, `openai` checks it, `template` renders it,
//! `generate` decodes it together with all others on one thread, `parse` finds reasoning
//! and calls in the text, `openai` writes the answer. `model` is the only place that knows
//! llama.cpp; everything else compiles and is tested without it (cargo feature `llama`).
//!
//! Beyond OpenAI's parameters it takes `top_k`, `min_p`, `min_tokens`, `ignore_eos` and
//! `chat_template_kwargs` (named as in vLLM and llama.cpp's server), and `json_schema` in
//! `/v1/completions`. Differences to OpenAI: `max_tokens` may exceed the context, the answer
//! then ends there with `finish_reason: "length"`; a forced call always ends with
//! `"tool_calls"`; `parallel_tool_calls` makes a forced answer a list only if it is sent as
//! true; objects of a schema that list their properties admit no others unless
//! `additionalProperties` is given; a model whose template knows no tools is told about them
//! in the system message and answers calls between `<tool_call>` and `</tool_call>`.
//!
//! Invariants:
//! - A model file is loaded only after all of it was hashed, from the handle it was hashed
//!   through.
//! - No prompt, answer or schema is ever logged.
//! - A client that goes away stops its sequences before the next step.
//! - The same request gives the same answer when it is alone: with temperature 0, or with a
//!   seed. Together with other requests, llama.cpp may choose other kernels, and the last
//!   bits of the logits may differ.
//!
//! [`store`] and [`preset`] say where models live on disk and how one gets there;
//! [`tiny_gguf`] writes a test model.

// Without llama.cpp nothing starts the server, so its parts are unused but still compiled.
#![cfg_attr(not(feature = "llama"), allow(dead_code))]
#![forbid(unsafe_code)]

mod config;
mod cpu;
mod event;
mod fault;
mod generate;
mod http;
mod metrics;
mod model;
mod openai;
mod pack;
mod parse;
pub mod preset;
mod serve;
pub mod store;
mod template;
pub mod tiny_gguf;
mod verify;

pub use config::{
    CONTEXT_TOKENS_MAX, CONTEXT_TOKENS_MIN, EngineConfig, PROCESS_ENVIRONMENT, SEQUENCES_MAX,
    SamplingDefaults,
};
pub use cpu::check_processor;
pub use event::EngineEvent;
pub use fault::{EngineFault, StoreFault};
pub use serve::{Observer, run};
