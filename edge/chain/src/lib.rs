//! The chain as nodes see it: local, lite servers, HTTP.
//!
//! ```text
//!                     ┌── LocalNode    the chain in this process
//!   dyn Chain  ◄──────┼── LiteServers  TON's light protocol, every answer proven
//!   (read, write)     ├── Toncenter    a server believed, over HTTP
//!                     └── Fallback     the first that answers, marked as far as it can be believed
//!
//!   serve ── LocalNode ──┬── HTTP as toncenter v2, faucet, switches
//!                        └── lite server over ADNL
//! ```
//!
//! [`Chain`] is the one interface; [`Follower`] turns it into every transaction of an account
//! once, in order. [`serve`] is a whole local network for `cocoon chain`.

mod account;
mod chain;
mod fallback;
mod fault;
mod follow;
mod http;
mod https;
mod lite;
mod node;
mod record;
mod serve;
mod store;
mod toncenter;

pub use account::{Account, AccountStatus, Head, TransactionId};
pub use chain::{Answer, Chain, Trust};
pub use cocoon_localchain::{GetterOutput, StackEntry};
pub use fallback::Fallback;
pub use fault::{ChainFault, NodeFault};
pub use follow::{Follower, Step};
pub use lite::{
    GlobalConfig, GlobalFault, LiteServer, LiteServers, Network, decode_lite, decode_proofs,
};
pub use node::{BEAT_MS, LocalNode, NodeConfig};
pub use record::{MessageRecord, TransactionRecord};
pub use serve::{ServeConfig, Serving, serve};
pub use toncenter::{Toncenter, decode_account};
pub use tycho_types::models::ShardAccount;
