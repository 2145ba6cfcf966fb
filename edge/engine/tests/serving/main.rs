//! The engine over real sockets with a real, tiny model in llama.cpp.
#![cfg(feature = "llama")]
// Helpers of tests may fail as loudly as tests.
#![allow(clippy::unwrap_used)]

mod chat;
mod completions;
mod forced;
mod life;
mod load;
mod refusals;
mod rig;
