//! What can be wrong with an archive or a hash tree.

use thiserror::Error;

/// A folder that cannot become an archive. The user mends the folder.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ArchiveFault {
    /// A path that is empty, absolute, too long, or climbs out of the folder.
    #[error("{path:?} cannot be a member of a model's archive")]
    Path {
        /// The path, shortened.
        path: String,
    },
    /// Members out of order or twice: the caller's fault.
    #[error("{path:?} does not follow the member before it")]
    Order {
        /// The path, shortened.
        path: String,
    },
    /// More members than any model has.
    #[error("the folder has more than {limit} entries, which is no model")]
    TooMany {
        /// The limit.
        limit: usize,
    },
    /// More bytes than can be counted.
    #[error("the folder is too large")]
    TooLarge,
}

/// Bytes that are not the hash tree they should be.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TreeFault {
    /// No superblock of the kind that models have.
    #[error("the hash tree's superblock is not usable: {what}")]
    Superblock {
        /// What is wrong.
        what: &'static str,
    },
    /// No block at all, or more than can be counted.
    #[error("a hash tree over {blocks} blocks cannot be made")]
    Blocks {
        /// Blocks of data.
        blocks: u64,
    },
    /// More or fewer blocks came than were announced: the caller's fault, or the data changed.
    #[error("the data has {found} blocks where {expected} were announced")]
    Length {
        /// Announced.
        expected: u64,
        /// Came.
        found: u64,
    },
    /// A block does not hash to what is above it: the data or the tree was changed.
    #[error("block {block} of level {level} is not the one that was hashed")]
    Mismatch {
        /// Level; 0 is data.
        level: usize,
        /// Number of the block in its level.
        block: u64,
    },
}
