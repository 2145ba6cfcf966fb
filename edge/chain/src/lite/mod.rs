//! The lite server protocol: TON's way to read a chain without believing the server.

mod answer;
mod channel;
pub(crate) mod server;
mod smc_stack;
mod wire;
