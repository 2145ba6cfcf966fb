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

/// Reads whatever a peer on either side may send, and tells whether it fits anything; a target
/// for fuzzing.
#[must_use]
pub fn decode_lite(bytes: &[u8]) -> bool {
    let request = server::Request::read(bytes).is_some();
    let proof = tl_proto::deserialize::<wire::PartialBlockProof>(bytes).is_ok();
    let account = tl_proto::deserialize::<wire::AccountState>(bytes).is_ok();
    let list = tl_proto::deserialize::<wire::TransactionList>(bytes).is_ok();
    request || proof || account || list || check::roots(bytes).is_ok()
}
