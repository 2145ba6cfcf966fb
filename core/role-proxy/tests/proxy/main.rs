//! The proxy between scripted clients and workers: every rule, then random histories.

#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

mod admission;
mod captures;
mod durability;
mod handshakes;
mod laws;
mod lists;
mod reports;
mod requests;
mod stage;
mod winding;
