//! API keys for teams: one funded gateway serves many people, each within limits.
//!
//! Keys are made and revoked in a file ([`KeyFile`]), which the command line writes; the gateway
//! only reads it ([`KeyRing`]) and writes what each key has used to a file beside it. The file
//! holds SHA-256 of keys with 256 random bits, never a key.

mod file;
mod ring;

pub use file::{KeyFile, KeyLimits, KeyRecord, KeyTotals, KeysFault};
pub(crate) use ring::{KeyRing, KeyUse};
