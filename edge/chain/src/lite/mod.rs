//! The lite server protocol: TON's way to read a chain without believing the server.

mod answer;
mod channel;
mod check;
mod client;
mod global;
mod link;
pub(crate) mod server;
mod smc_stack;
#[cfg(test)]
mod tests;
mod wire;

pub use client::LiteServers;
pub use global::{GlobalConfig, GlobalFault, LiteServer, Network};
