//! The proxy between scripted clients and workers: every rule, then random histories.

mod admission;
mod captures;
mod durability;
mod handshakes;
mod laws;
mod requests;
mod stage;
