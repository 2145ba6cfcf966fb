//! Every decoder of bytes from peers, users, the chain and files, as a target of a fuzzer.
//!
//! A target returns for every input; it panics when a law of its decoder is broken. The laws stand
//! beside the decoders, in modules named `fuzz`; here is the list, and what is kept of past runs.

pub mod corpus;
mod target;

pub use target::{TARGETS, Target, find};
