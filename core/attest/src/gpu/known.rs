//! GPUs whose boot evidence was checked before.
//!
//! Over a channel every quote is new, but a machine's GPU evidence is that of its boot:
//! three P-384 signatures that need not be checked again at each handshake.

use std::collections::HashMap;

use super::judge::CheckedGpu;
use crate::digest::Digest32;

/// A bounded memory of checked GPUs, by the digest of their evidence, under one policy.
#[derive(Debug)]
pub(crate) struct KnownGpus {
    entries: HashMap<Digest32, (CheckedGpu, u64)>,
    capacity: usize,
    max_age_s: u64,
}

impl KnownGpus {
    pub(crate) fn new(capacity: usize, max_age_ms: u64) -> Self {
        Self { entries: HashMap::new(), capacity: capacity.max(1), max_age_s: max_age_ms / 1000 }
    }

    /// Returns what was found about this evidence, if it was not too long ago and its certificates
    /// hold still.
    pub(crate) fn find(&self, digest: &Digest32, now_s: u64) -> Option<CheckedGpu> {
        let (gpu, checked_s) = self.entries.get(digest)?;
        let recent = *checked_s <= now_s && now_s - checked_s <= self.max_age_s;
        (recent && now_s <= gpu.valid_until_s).then(|| gpu.clone())
    }

    /// Keeps a GPU that passed; genuine ones only, so that strangers cannot fill it. When it
    /// is full, everything is forgotten: a check costs three milliseconds.
    pub(crate) fn keep(&mut self, gpu: CheckedGpu, now_s: u64) {
        if self.entries.len() >= self.capacity {
            self.entries.clear();
        }
        self.entries.insert(gpu.digest, (gpu, now_s));
    }

    pub(crate) fn clear(&mut self) {
        self.entries.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_remembered_beyond_its_age_or_its_certificates() {
        let (digest, now_s) = (Digest32::from([1; 32]), 1_000);
        let gpu = |valid_until_s| CheckedGpu {
            profile: String::new(),
            nonce: [0; 32],
            digest,
            valid_until_s,
        };
        let mut known = KnownGpus::new(4, 60_000);
        known.keep(gpu(u64::MAX), now_s);
        assert!(known.find(&digest, now_s + 60).is_some());
        assert_eq!(known.find(&digest, now_s + 61), None);
        known.keep(gpu(now_s + 10), now_s);
        assert!(known.find(&digest, now_s + 10).is_some());
        assert_eq!(known.find(&digest, now_s + 11), None);
    }
}
