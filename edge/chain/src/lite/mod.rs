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

use tycho_types::cell::HashBytes;

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

/// Checks proofs against the blocks and the account that the bytes name themselves; a target for
/// fuzzing.
pub fn decode_proofs(bytes: &[u8]) {
    if let Ok(proof) = tl_proto::deserialize::<wire::PartialBlockProof>(bytes)
        && let Some(from) = proof.from.to_block_id()
    {
        let _ = check::check_block_proof(&proof, from, from);
    }
    if let Ok(answer) = tl_proto::deserialize::<wire::AccountState>(bytes)
        && let Some(master) = answer.id.to_block_id()
    {
        let address = tycho_types::models::StdAddr::new(0, HashBytes(answer.shardblk.file_hash));
        let _ = check::check_account(&answer, &master, &address);
        let _ = check::check_config(&answer.shard_proof, &answer.proof, &master);
        let _ = check::check_header(&answer.proof, &master);
    }
    if let Ok(list) = tl_proto::deserialize::<wire::TransactionList>(bytes) {
        let newest = (0, HashBytes::ZERO);
        let _ = check::check_transactions(&list.transactions, &HashBytes::ZERO, newest);
    }
}
