//! The purse on a chain with the real virtual machine.

// A broken scenario shall panic.
#![allow(clippy::unwrap_used)]

mod bytes;
mod laws;
mod stage;
mod stories;
