//! The bytes between nodes: frames, TL messages, proof of work, end-to-end encryption.
//!
//! Everything here is a pure function or a machine without hands: bytes come in, values
//! or bytes go out. [`tl`] is the coding, one module per TL namespace holds its messages,
//! [`frame`] cuts the byte stream, [`pow`], [`socks`] and [`peer_info`] are what precedes
//! the frames. Section numbers in comments are those of the protocol notes.
//!
//! ```
//! use cocoon_wire::{client, tcp, tl};
//! # fn main() -> Result<(), cocoon_wire::TlFault> {
//! let mut out = Vec::new();
//! tcp::write_query(&mut out, 77, &client::GetWorkerTypesV2 {});
//! let tcp::Packet::Query(query) = tl::decode(&out)? else { panic!("wrong packet") };
//! assert!(matches!(client::Query::decode(query.data.0)?, client::Query::GetWorkerTypesV2(_)));
//! # Ok(())
//! # }
//! ```

#[macro_use]
mod schema;

pub mod catalogue;
pub mod client;
pub mod cocoon;
pub mod config;
pub mod config_json;
pub mod e2e;
pub mod e2e_json;
mod fault;
pub mod frame;
pub mod fuzz;
pub mod http;
pub mod image_hash;
pub mod key_manager;
pub mod key_manager_db;
pub mod peer_info;
pub mod pow;
pub mod proxy;
pub mod proxy_db;
pub mod root_config;
pub mod sealed_key;
pub mod socks;
pub mod tcp;
pub mod tl;
pub mod ton;
pub mod worker;

pub use fault::{ConfigFault, E2eFault, FrameFault, PeerInfoFault, PowFault, SocksFault, TlFault};
