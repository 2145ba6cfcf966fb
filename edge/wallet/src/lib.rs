//! Wallets of people: 24 words, files with sealed keys, signed orders.
//!
//! ```text
//!   24 words ──► Mnemonic ──► key ──┐
//!                                   ├──► Wallet ──► address, external messages
//!            kind of contract ──────┘
//!   WalletFile: what may be read by everybody, and the words or key sealed under a passphrase
//! ```
//!
//! No chain access and no clock here; randomness and the passphrase are inputs. Nothing in this
//! crate prints a secret, and none stands in an error.

mod fault;
mod file;
#[doc(hidden)]
pub mod fuzz;
mod kind;
mod mnemonic;
mod seal;

pub use fault::{FileFault, OrderFault, WordsFault};
pub use file::{KeySource, WalletDir, WalletFile};
pub use kind::{Order, Wallet, WalletKind};
pub use mnemonic::Mnemonic;
pub use seal::SealCost;
