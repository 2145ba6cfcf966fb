//! Lives of client and worker contracts on the local chain: the real machine, our contracts, and
//! proxies of every kind.

// A broken life shall panic.
#![allow(clippy::unwrap_used)]

mod lives;
mod proxies;
mod random;
mod stage;
mod workers;
