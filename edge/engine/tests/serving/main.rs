//! The engine over real sockets with a real, tiny model in llama.cpp.
#![cfg(feature = "llama")]

mod chat;
mod completions;
mod forced;
mod life;
mod load;
mod refusals;
mod rig;
