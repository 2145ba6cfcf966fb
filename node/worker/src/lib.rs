//! The worker node: in front of a model server.
//!
//! [`serve`] is the node: it keeps connections to proxies, runs their queries on the model server,
//! watches the model server's health, and keeps the worker's own books.

mod admin;
mod backend;
mod config;
mod funds;
mod meter;
mod model;
mod node;
mod notary;
mod query;
mod state;
mod weights;

pub use backend::{Backend, BackendFault};
pub use config::{Checked, WorkerConfig};
pub use node::{WorkerFault, serve};
pub use weights::WeightsFault;
