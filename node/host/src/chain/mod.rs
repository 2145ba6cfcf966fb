//! The chain as a node uses it: which one, whether it is there, the registry on it, the node's own
//! wallet.
//!
//! ```text
//!  ChainConfig ── open ──► ChainLine (watched) ──┬── first_root, follow_root ──► RootState
//!                                                │      (RootWatch: only what stood long enough)
//!                                                └── PurseHand ◄── orders, ──► reports
//! ```

mod accounts;
mod config;
mod line;
mod purse;
mod registry;
mod wallet;
mod watch;

pub use accounts::{guard, see_client, see_proxy, see_worker};
pub use config::{ChainConfig, ChainKind, money_note};
pub use line::{ChainLine, LineStatus};
pub use purse::{PurseHand, Reports};
pub use registry::{RootFault, first_root, follow_root, read_root};
pub use wallet::{WalletFault, node_wallet, open_purse};
pub use watch::{ROOT_NOTICE_S, RootHeld, RootNews, RootRules, RootWatch};
