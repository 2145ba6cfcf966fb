//! A worker's machines against a scripted proxy: handshakes, queries, encryption, recordings.

#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

mod captures;
mod handshake;
mod hostile;
mod payments;
mod queries;
mod scene;
mod sealed;
