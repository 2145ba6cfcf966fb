//! What happened, in order: hashed always, kept when somebody will read it.

use std::fmt;

use crate::plan::NodeId;

/// One line of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Virtual time.
    pub at_ms: u64,
    /// Where.
    pub node: NodeId,
    /// What, in few words.
    pub what: &'static str,
    /// A number that belongs to it: a connection, a request, a total.
    pub a: u64,
    /// Another one.
    pub b: u64,
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, ms) = (self.at_ms / 1_000, self.at_ms % 1_000);
        let node = self.node.to_string();
        write!(f, "{seconds:6}.{ms:03} s  {node:9} {:<28} {} {}", self.what, self.a, self.b)
    }
}

/// The log of a run.
#[derive(Clone, Debug, Default)]
pub struct Log {
    hash: u64,
    count: u64,
    kept: Option<Vec<Entry>>,
}

impl Log {
    /// An empty log; `keep` for runs whose log will be printed.
    #[must_use]
    pub fn new(keep: bool) -> Self {
        Self { hash: 0xcbf2_9ce4_8422_2325, count: 0, kept: keep.then(Vec::new) }
    }

    /// Adds a line.
    pub(crate) fn add(&mut self, entry: Entry) {
        self.count += 1;
        self.mix(entry.at_ms);
        self.mix(entry.node.number());
        for byte in entry.what.bytes() {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        self.mix(entry.a);
        self.mix(entry.b);
        if let Some(kept) = &mut self.kept {
            kept.push(entry);
        }
    }

    /// Mixes bytes that crossed the network into the hash, without a line of their own.
    pub(crate) fn bytes(&mut self, data: &[u8]) {
        self.mix(u64::from(crc32fast::hash(data)));
    }

    fn mix(&mut self, number: u64) {
        self.hash = (self.hash ^ number).wrapping_mul(0x0100_0000_01b3);
        self.hash ^= self.hash >> 31;
    }

    /// Hash of everything that happened: equal runs have equal hashes.
    #[must_use]
    pub const fn hash(&self) -> u64 {
        self.hash
    }

    /// Lines so far, kept or not.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// The lines that were kept.
    #[must_use]
    pub fn lines(&self) -> &[Entry] {
        self.kept.as_deref().unwrap_or_default()
    }
}
