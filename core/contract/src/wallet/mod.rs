//! Wallets: the Cocoon wallet (protocol notes 5) and the standard ones as senders of orders.

mod cocoon;
mod outgoing;
mod standard;

pub use cocoon::{CocoonOrder, MAX_MESSAGES as MAX_COCOON_MESSAGES};
pub use outgoing::{Layout, Outgoing, external};
pub use standard::{StandardOrder, StandardWallet, WALLET_ID_V3_V4, WalletVersion, wallet_id_v5};

/// How long an order stays valid when nothing else is asked for, in seconds.
pub const VALID_FOR_S: u32 = 3600;

/// Pay the fees of the message from the account, not from the value.
pub const MODE_PAY_FEES: u8 = 1;
/// Skip a message that cannot be sent instead of failing.
pub const MODE_IGNORE_ERRORS: u8 = 2;
/// Carry the whole balance.
pub const MODE_ALL: u8 = 128;
