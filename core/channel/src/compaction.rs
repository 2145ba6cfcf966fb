//! When a node's journal is replaced by a snapshot of its channels.

/// Journal length from which a snapshot pays, bytes: read again in about a second.
const LIMIT: u64 = 64 << 20;

/// Decides when to take a snapshot. The journal's writer works behind the node: until the length
/// falls the last snapshot has not been written, and no other is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Compaction {
    limit: u64,
    /// Length when a snapshot was asked for that is not written yet.
    asked_at: Option<u64>,
}

impl Default for Compaction {
    fn default() -> Self {
        Self::above(LIMIT)
    }
}

impl Compaction {
    /// A snapshot whenever the journal is longer than `limit` bytes, or than twice the last
    /// snapshot where that is more.
    #[must_use]
    pub const fn above(limit: u64) -> Self {
        Self { limit, asked_at: None }
    }

    /// Whether to take a snapshot now. `len` is the journal's length in bytes.
    #[must_use]
    pub fn is_due(&mut self, len: u64) -> bool {
        if let Some(asked_at) = self.asked_at {
            if len >= asked_at {
                return false;
            }
            self.asked_at = None;
            self.limit = self.limit.max(len.saturating_mul(2));
        }
        let due = len > self.limit;
        if due {
            self.asked_at = Some(len);
        }
        due
    }
}
