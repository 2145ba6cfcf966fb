//! Journal records: every durable change of the books, versioned.

use crate::account::{Account, AccountId, ClientStatus};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// First byte of every encoded record. A reader refuses versions it does not know.
pub const FORMAT_VERSION: u8 = 1;

/// Largest encoded record, bytes; a longer one is refused unread.
const RECORD_LEN_MAX: usize = 512;

/// A durable fact. Replaying all records of a journal in order gives the same books.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Record {
    /// The books of a contract instance are opened (first record; again when parameters change).
    Opened {
        /// `params_version` of the root configuration.
        epoch: u32,
        /// Price of a token, nanoTON.
        price_nanoton: u64,
        /// Commit number the books continue from.
        seqno: u32,
    },
    /// A client's contract was seen in a state.
    ClientSeen {
        /// Whose.
        client: AccountId,
        /// Its state.
        status: ClientStatus,
        /// Balance, nanoTON.
        balance_nanoton: u64,
        /// Stake, nanoTON.
        stake_nanoton: u64,
        /// `tokens_used` on chain.
        charged: u64,
    },
    /// A worker's contract was seen, or a worker connected for the first time.
    WorkerSeen {
        /// Whose.
        worker: AccountId,
        /// `tokens` on chain: already paid out.
        paid_out: u64,
    },
    /// A request ended: the same tokens are spent by the client and earned by the worker.
    Finished {
        /// Which.
        request: [u8; 32],
        /// Who pays.
        client: AccountId,
        /// Who earned.
        worker: AccountId,
        /// How much.
        tokens: u64,
    },
    /// A state commit was handed to the chain; it covers all totals durable before this record.
    CommitStarted {
        /// Its number, one more than the last.
        seqno: u32,
        /// Session of the proxy process that wrote it.
        session: [u8; 32],
    },
    /// The chain shows the commit.
    CommitConfirmed {
        /// Its number.
        seqno: u32,
    },
    /// Snapshot line of a client.
    ClientLine {
        /// Whose.
        client: AccountId,
        /// Contract state.
        status: ClientStatus,
        /// Balance, nanoTON.
        balance_nanoton: u64,
        /// Stake, nanoTON.
        stake_nanoton: u64,
        /// `tokens_used` on chain.
        charged: u64,
        /// The counters.
        counters: Account,
    },
    /// Snapshot line of a worker.
    WorkerLine {
        /// Whose.
        worker: AccountId,
        /// `tokens` on chain.
        paid_out: u64,
        /// The counters.
        counters: Account,
    },
    /// The transactions of the proxy contract up to this one are taken in.
    ChainSeen {
        /// Its logical time.
        lt: u64,
    },
    /// A client's secret, as its contract shows it: clients prove themselves with it after a
    /// restart, too.
    ClientSecret {
        /// Whose.
        client: AccountId,
        /// SHA-256 of the secret.
        hash: [u8; 32],
    },
    /// Snapshot line: books of an earlier epoch are not wound down.
    OldBooks {
        /// Their epoch.
        epoch: u32,
    },
    /// Snapshot line of a client in old books.
    OldClient {
        /// Epoch of the books.
        epoch: u32,
        /// Whose.
        client: AccountId,
        /// Final total.
        tokens: u64,
    },
    /// Snapshot line of a worker in old books.
    OldWorker {
        /// Epoch of the books.
        epoch: u32,
        /// Whose.
        worker: AccountId,
        /// Final total.
        tokens: u64,
    },
    /// Old books are wound down: everybody is settled and the contract is closed.
    OldClosed {
        /// Epoch of the books.
        epoch: u32,
    },
}

/// Bytes that are no record. The journal is damaged or from a newer version: stop, keep the file.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RecordFault {
    /// Written by a version of the program that this one does not know.
    #[error("record format {0} is not known to this version")]
    Version(u8),
    /// Not a record.
    #[error("{0} bytes are no record")]
    Malformed(usize),
}

impl Record {
    /// Appends the encoded record: format version, then the body.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(FORMAT_VERSION);
        // The only failure of an extending writer is running out of memory.
        if let Ok(bytes) = postcard::to_stdvec(self) {
            out.extend_from_slice(&bytes);
        }
    }

    /// Reads one encoded record that fills `bytes` exactly.
    ///
    /// # Errors
    /// [`RecordFault`]: the caller stops and keeps the file.
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordFault> {
        let malformed = || RecordFault::Malformed(bytes.len());
        let (version, body) = bytes.split_first().ok_or_else(malformed)?;
        if *version != FORMAT_VERSION {
            return Err(RecordFault::Version(*version));
        }
        if body.len() > RECORD_LEN_MAX {
            return Err(malformed());
        }
        match postcard::take_from_bytes(body) {
            Ok((record, [])) => Ok(record),
            _ => Err(malformed()),
        }
    }
}
