//! The network inside a program: connects to proxies, runs requests, keeps the client's books.
//!
//! [`Network`] is the client node without its HTTP face. The gateway serves HTTP in front of it;
//! a program may use it directly.

mod config;
mod failure;
mod network;
mod offers;
mod requests;
mod status;
mod turn;

pub use config::{Checked, ClientConfig};
pub use network::{Network, NetworkFault};
