//! A client's machine against a scripted proxy: handshakes, requests, payments, recordings.

#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

mod captures;
mod handshake;
mod hostile;
mod requests;
mod scene;
