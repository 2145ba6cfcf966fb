//! Which bytes is a model?
//!
//! A model is named `name@commit:root`. The root is that of a dm-verity hash tree over an archive
//! of the model's folder, and both are made so that every machine comes to the same bytes
//! (protocol notes, wire 6.3):
//!
//! ```text
//!   folder ──Archive──▶ tar, sorted, without owners and times, padded to blocks
//!                        │ 4096-byte blocks
//!                        ▼
//!                  TreeBuilder ──▶ hash blocks (for the kernel) and the Root
//! ```
//!
//! Nothing here reads a file: the caller brings names, sizes and blocks.

#![forbid(unsafe_code)]

mod archive;
mod fault;
pub mod fuzz;
mod shape;
mod superblock;
mod tree;

pub use archive::{Archive, Kind, Member, file_mode};
pub use fault::{ArchiveFault, TreeFault};
pub use shape::{BLOCK_BYTES, Shape};
pub use superblock::{MODEL_SALT, MODEL_UUID, SUPERBLOCK_BYTES, Salt, Superblock};
pub use tree::{Root, TreeBuilder, check_block};

/// One block of data or of hashes.
pub type Block = [u8; BLOCK_BYTES];
