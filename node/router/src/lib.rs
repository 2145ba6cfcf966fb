//! The router: attested TLS for programs that do not speak it.
//!
//! ```text
//!   program ──SOCKS5 │ fixed──▶ router ══work, RA-TLS══▶ network
//!   network ══work, RA-TLS══▶ router ──fixed──▶ program
//! ```
//!
//! What is decided stands in `cocoon_role_router`; here are the sockets, the files and the clock.
//! Everything is bounded: connections and handshakes in all and for each address, 16 KiB in each
//! direction of each connection, a deadline for everything that waits for a peer.

mod collateral;
mod config;
mod credentials;
mod judge;
mod pump;
mod serve;

pub use config::{RouterConfig, RouterLimits};
pub use serve::{Counts, RunFault, Running, run, start};
