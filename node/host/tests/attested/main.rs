//! The attested handshake between nodes over real sockets, and the attacks on it.
//!
//! The attacker holds the private TLS keys of both sides and their certificates, sits in the
//! middle of every connection, and plays all messages by hand.

#![allow(clippy::unwrap_used, reason = "a failure fails the test")]

mod attacks;
mod honest;
mod party;
