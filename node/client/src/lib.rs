//! The network inside a program: connects to proxies, runs requests, keeps the client's books.
//!
//! [`Network`] is the client node without its HTTP face. The gateway serves HTTP in front of it;
//! a program may use it directly.

mod config;
mod demands;
mod failure;
mod funds;
mod ground;
mod network;
mod offers;
mod requests;
mod status;
mod turn;

pub use config::{Checked, ClientConfig};
pub use network::{Network, NetworkFault};

use cocoon_contract::code::Code;
use cocoon_units::{Address, PublicKey, Secret};

/// Address of the Cocoon wallet of this owner and key, with our wallet's code.
///
/// # Errors
/// [`cocoon_contract::Fault`] when the code is not built in.
pub fn node_wallet(
    owner: Address,
    seed: &Secret<[u8; 32]>,
) -> Result<Address, cocoon_contract::Fault> {
    let key = ed25519_dalek::SigningKey::from_bytes(seed.expose());
    let public = PublicKey(key.verifying_key().to_bytes());
    cocoon_contract::address::wallet(owner, public, &Code::from(cocoon_contract::code::wallet()?))
}
