//! The node's journal, wired to its loop: records in, durable tickets out.

use crate::keys::{self, KeyFault};
use cocoon_journal::{Event, Fault, Journal, JournalKey, Options, Recovered, recover};
use cocoon_units::Secret;
use std::path::{Path, PathBuf};
use thiserror::Error;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// What the journal tells the loop.
pub type BooksEvent = Event;

/// A journal that cannot be looked at.
#[derive(Debug, Error)]
pub enum ReadFault {
    /// Configuration: not the data directory of a node that ever ran.
    #[error("{path} holds no journal: name the data directory of a proxy, worker or gateway")]
    NoNode {
        /// What was named.
        path: PathBuf,
    },
    /// Configuration: the node runs.
    #[error("{path} is in use: stop the node, or look at a copy of its data directory")]
    Running {
        /// What was named.
        path: PathBuf,
    },
    /// The key file.
    #[error(transparent)]
    Key(#[from] KeyFault),
    /// The journal.
    #[error(transparent)]
    Journal(Fault),
}

/// Reads the journal of a node that does not run, to look at it: its records in order. Changes
/// nothing on disk.
///
/// # Errors
/// [`ReadFault`] says what to name, to stop or to mend.
pub fn read(data_dir: &Path) -> Result<Vec<Vec<u8>>, ReadFault> {
    let dir = data_dir.join("journal");
    let path = data_dir.to_owned();
    if !dir.is_dir() {
        return Err(ReadFault::NoNode { path });
    }
    let key = keys::load(&data_dir.join("journal.key"))?;
    match cocoon_journal::read(&dir, &JournalKey::new(Secret::new(*key.expose()))) {
        Ok(found) => Ok(found.records),
        Err(Fault::InUse { .. }) => Err(ReadFault::Running { path }),
        Err(Fault::Missing { .. }) => Err(ReadFault::NoNode { path }),
        Err(fault) => Err(ReadFault::Journal(fault)),
    }
}

/// The writing end of a node's journal.
pub struct Books {
    journal: Journal,
    ticket: u64,
}

/// Where the journal's events arrive; the loop must take them. At most one event per group commit
/// comes, so the disk's speed bounds what waits.
pub type BooksEvents = UnboundedReceiver<BooksEvent>;

/// A recovered journal that waits for its snapshot.
pub struct Opening {
    recovered: Recovered,
    options: Options,
    key: JournalKey,
}

impl Books {
    /// Reads the journal in `dir`.
    ///
    /// # Errors
    /// [`Fault`]: the node must not start.
    pub fn open(dir: &Path, key: &Secret<[u8; 32]>, repair: bool) -> Result<Opening, Fault> {
        let key = JournalKey::new(Secret::new(*key.expose()));
        let recovered = recover(dir, &key, repair)?;
        for notice in &recovered.notices {
            tracing::warn!(%notice, "journal");
        }
        let options = Options { dir: dir.to_owned(), generation: recovered.generation + 1 };
        Ok(Opening { recovered, options, key })
    }

    /// Queues records. The ticket comes back in [`Event::Durable`] when they are on disk.
    ///
    /// # Errors
    /// [`Fault`]: stop the node.
    pub fn append(&mut self, records: Vec<Vec<u8>>) -> Result<u64, Fault> {
        self.ticket += 1;
        self.journal.append(self.ticket, records)?;
        Ok(self.ticket)
    }

    /// Replaces what is on disk by a snapshot.
    ///
    /// # Errors
    /// [`Fault`]: stop the node.
    pub fn snapshot(&self, records: Vec<Vec<u8>>) -> Result<(), Fault> {
        self.journal.snapshot(records)
    }

    /// Whether the journal should be replaced by a snapshot now: it is longer than `bytes_max`,
    /// and than twice the last one, and none is on its way.
    #[must_use]
    pub fn wants_snapshot(&self, bytes_max: u64) -> bool {
        self.journal.wants_snapshot(bytes_max)
    }

    /// Bytes that recovery would have to read now.
    #[must_use]
    pub fn segment_len(&self) -> u64 {
        self.journal.segment_len()
    }
}

impl Opening {
    /// Records found, in order.
    #[must_use]
    pub fn records(&self) -> &[Vec<u8>] {
        &self.recovered.records
    }

    /// Starts writing, with what the records came to as the snapshot (at least one record).
    ///
    /// # Errors
    /// [`Fault`]: the node must not start.
    pub fn start(self, snapshot: Vec<Vec<u8>>) -> Result<(Books, BooksEvents), Fault> {
        let (sender, events): (UnboundedSender<BooksEvent>, _) = unbounded_channel();
        let journal = Journal::start(&self.options, self.key, snapshot, move |event| {
            // A loop that ended no longer listens.
            let _ = sender.send(event);
        })?;
        Ok((Books { journal, ticket: 0 }, events))
    }
}
