//! The network inside a program: connects to proxies, runs requests, keeps the client's books.
//!
//! [`Client`] is for programs: chat, streams, embeddings, models, who answered, and the money that
//! pays for it ([`Channel`]). [`Network`] below it
//! is the client node without its HTTP face; the gateway serves HTTP in front of it.

mod config;
mod contract_view;
mod demands;
mod failure;
mod fault;
mod funds;
mod ground;
mod money_plan;
mod network;
mod offers;
mod operator;
mod proof;
mod receipt_store;
mod receipts;
mod registry;
mod requests;
mod simple;
mod status;
mod turn;
mod vet;

pub use cocoon_gateway::{MoneyAct, MoneyRefusal, TopUp};
pub use cocoon_settle::{Step, Wish};
pub use cocoon_units::{Address, AddressForm, Nanoton, Tokens};
pub use config::{Checked, ClientConfig};
pub use contract_view::{ContractView, OnChain, Standing, WalletView, WishEnd};
pub use fault::NetworkFault;
pub use money_plan::{MoneyPlan, PlannedStep};
pub use network::Network;
pub use simple::{
    AskFault, Channel, ChannelState, ChannelTokens, ChatAnswer, ChatPart, ChatRequest, ChatStream,
    Client, Listed, Machine, ToolCall, Verified,
};

use cocoon_contract::code::Code;
use cocoon_units::{PublicKey, Secret};

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
