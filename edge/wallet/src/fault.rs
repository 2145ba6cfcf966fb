//! What can be wrong with words, files and orders.

use std::path::PathBuf;

/// Why words are no wallet. No word is repeated here: errors end up in logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WordsFault {
    /// Ask for the words again.
    #[error("{found} words, a wallet has 24")]
    Count {
        /// How many there are.
        found: usize,
    },
    /// Ask for this word again.
    #[error("word {position} is not one of the 2048 words that wallets use; check its spelling")]
    Unknown {
        /// Which one, counted from 1.
        position: usize,
    },
    /// The words were protected with a password when they were made; this program knows only
    /// words without one. Open them in the software that made them and send the coins over.
    #[error("these words need a password of their own, which is not supported here")]
    NeedPassword,
    /// Every word exists, but together they are no wallet: one is another, or the order differs.
    #[error("these 24 words do not belong together: one of them or their order is wrong")]
    Mismatch,
}

/// Why a wallet file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileFault {
    /// There is no wallet of this name: make one, or name another.
    #[error("there is no wallet {name:?} in {directory}")]
    Absent {
        /// The name.
        name: String,
        /// Where it was looked for.
        directory: PathBuf,
    },
    /// A wallet of this name exists and is never overwritten: take another name.
    #[error("a wallet {name:?} exists already: choose another name")]
    Exists {
        /// The name.
        name: String,
    },
    /// Names are 1 to 40 letters, digits, dots, dashes and underscores, and begin with a letter or digit.
    #[error("{name:?} is no name for a wallet: use letters, digits, dot, dash and underscore")]
    Name {
        /// What was given.
        name: String,
    },
    /// The file cannot be read or written: check the disk and the permissions.
    #[error("{path}: {source}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The file is damaged or was changed by hand: restore it from a copy, or from the words.
    #[error("{path} is damaged: {reason}")]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The passphrase is another one (or the file was changed; both look the same): ask again.
    #[error("wrong passphrase")]
    Passphrase,
    /// The wallet was imported as a bare key: there are no words to show.
    #[error("this wallet was made from a key, not from words")]
    NoWords,
}

/// Why an order to a wallet could not be built.
#[derive(Debug, thiserror::Error)]
pub enum OrderFault {
    /// Too many messages, or one that does not fit a cell: the caller's bug or a too long comment.
    #[error(transparent)]
    Contract(#[from] cocoon_contract::Fault),
    /// The account's data is not that of this wallet: the address belongs to another contract.
    #[error("the account's data is not that of a {kind} wallet")]
    Data {
        /// The kind expected.
        kind: &'static str,
    },
}
