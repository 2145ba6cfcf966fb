//! The durable log of a node.
//!
//! One writer thread appends batches of records to a preallocated segment file and calls
//! `fdatasync` once per batch (group commit); the node learns which records are durable through
//! [`Event`]s and holds back what depends on them. A segment starts with a snapshot, so that
//! recovery reads one file of bounded size.
//!
//! ```text
//!   segment  = header ‖ frame* ‖ zeros        journal-<generation>.log
//!   header   = magic 8 ‖ format u32 ‖ generation u64 ‖ salt 16 ‖ crc32c u32
//!   frame    = length u32 ‖ sequence u64 ‖ crc32c u32 ‖ ciphertext
//!   plain    = (length u32 ‖ record)*
//! ```
//!
//! Frames are sealed with ChaCha20-Poly1305 (RFC 8439) under a key derived for the segment
//! (HKDF-SHA256, RFC 5869, of the node's key and the salt); the nonce is the sequence number and
//! the generation is authenticated, so a frame cannot be moved, dropped from the middle or taken
//! from another file. A rollback of the whole file is found by the commits on chain, not here.
//!
//! A process never appends to a segment another process wrote: [`Journal::start`] writes the
//! snapshot into a new one. So no nonce is used twice, even after a torn write.

mod fault;
mod frame;
pub mod fuzz;
mod recovery;
mod segment;
mod writer;

pub use fault::Fault;
pub use frame::{Decoded, HeaderFault, JournalKey, decode_segment};
pub use recovery::{Recovered, read, recover};
pub use writer::{Event, Journal, Options};
