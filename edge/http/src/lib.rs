//! HTTP ports: who is let in, and deadlines around every byte.
//!
//! Whoever reaches a port can hold connections open: silent, with half a head, with half a body, or
//! without taking the answer. Nobody may keep others away with that. [`Crowd`] counts a port's
//! connections, each address's among them, and gives up the one that has waited for its own user the
//! longest when somebody new comes to a full port. [`Watched`] closes a connection on which nothing
//! happens. [`serve`] is both around the pages of a node.
#![forbid(unsafe_code)]

mod crowd;
mod serve;
mod stream;
mod work;

pub use crowd::{Crowd, CrowdLimits, Full, Seat, network_of};
pub use serve::{PageSettings, serve};
pub use stream::{Deadlines, Watched};
pub use work::{PeerWait, Work, WorkGuard};
