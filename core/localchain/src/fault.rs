//! What can go wrong, sorted by who is guilty.

use tycho_types::error::Error as CellError;

/// Why a message from outside was not taken. The sender is guilty; nothing changed on the chain.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The bytes are no bag of cells: build the message again.
    #[error("not a bag of cells: {0}")]
    NotABag(String),
    /// Larger than the configuration allows: split the message.
    #[error("message of {size} bytes is larger than the limit of {limit}")]
    TooLarge {
        /// Size of what was sent, in bytes.
        size: usize,
        /// Largest size taken, in bytes.
        limit: usize,
    },
    /// The tree of cells is deeper than the configuration allows.
    #[error("message is {depth} cells deep, the limit is {limit}")]
    TooDeep {
        /// Depth of what was sent.
        depth: u16,
        /// Largest depth taken.
        limit: u16,
    },
    /// The cell is no external inbound message to a standard address.
    #[error("not an external message: {0}")]
    NotExternal(String),
    /// The destination is not on the workchain that this chain runs.
    #[error("destination is on workchain {0}, this chain runs accounts on workchain 0 only")]
    Workchain(i32),
    /// The contract did not accept the message (or there is none, or it cannot pay the import):
    /// check seqno, signature, expiry and balance, then build a new message.
    #[error("not accepted by the contract: {0}")]
    NotAccepted(String),
    /// Too many messages wait for the next block: send again later.
    #[error("{waiting} messages wait already, the limit is {limit}")]
    QueueFull {
        /// Messages that wait.
        waiting: usize,
        /// Largest number of waiting messages.
        limit: usize,
    },
    /// The very same message waits already: it will be processed once.
    #[error("the same message waits already")]
    Duplicate,
    /// The faucet gives no such amount: ask for less, or for more than nothing.
    #[error("the faucet gives 1 to {limit_nanoton} nanoton at a time, asked {asked_nanoton}")]
    Faucet {
        /// Amount asked, in nanoton.
        asked_nanoton: u64,
        /// Largest amount given at once, in nanoton.
        limit_nanoton: u64,
    },
}

/// Why the chain itself could not go on.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The configuration's bytes are unusable: give those of a TON network.
    #[error("configuration unusable while {doing}: {reason}")]
    Config {
        /// The step that failed.
        doing: &'static str,
        /// What was found.
        reason: String,
    },
    /// The snapshot or log is damaged or of another version: restore an older one or start anew.
    #[error("snapshot unusable: {0}")]
    Snapshot(String),
    /// Time ran backwards: the caller must give a clock that does not.
    #[error("block time {now_ms} ms is before the last block's {last_ms} ms")]
    Clock {
        /// The time given.
        now_ms: u64,
        /// The time of the last block.
        last_ms: u64,
    },
    /// A cell could not be built or read: a bug of ours.
    #[error("cells while {doing}")]
    Cells {
        /// The step that failed.
        doing: &'static str,
        /// The library's reason.
        #[source]
        source: CellError,
    },
    /// The executor failed on a message that was checked before: a bug of ours or of the executor.
    #[error("executor failed on message {message}: {reason}")]
    Executor {
        /// Hash of the message, hex.
        message: String,
        /// The executor's reason.
        reason: String,
    },
    /// The coins of a block do not add up: a bug of ours; stop, nothing was committed.
    #[error("value flow of block {seqno} does not balance: {detail}")]
    Balance {
        /// Sequence number of the shard block.
        seqno: u32,
        /// The amounts.
        detail: String,
    },
}

/// Names the step in which the cell library failed.
pub(crate) trait Doing<T> {
    /// Turns the library's error into ours.
    fn doing(self, doing: &'static str) -> Result<T, Fault>;
}

impl<T> Doing<T> for Result<T, CellError> {
    fn doing(self, doing: &'static str) -> Result<T, Fault> {
        self.map_err(|source| Fault::Cells { doing, source })
    }
}
