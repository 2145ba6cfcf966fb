//! The key manager node: hands keys of end-to-end encryption to attested nodes.
//!
//! What is decided stands in `cocoon_role_keymgr`. Here are the sockets, the journal, sealed by the
//! machine where it has a TEE, and the audit trail, which is on disk before an answer leaves.

mod config;
mod pages;
mod registry;
mod serve;
mod trail;

pub use config::KeyManagerConfig;
pub use serve::{RunFault, Running, run, start};
pub use trail::{Trail, TrailFault};
