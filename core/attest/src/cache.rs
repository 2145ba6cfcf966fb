//! Verdicts kept, so that a peer that comes again costs nothing.

use std::collections::{BTreeMap, HashMap};

use crate::digest::Digest32;
use crate::verdict::{Outcome, PlatformId, Verdict};

/// What a verdict is kept under: the digests of the evidence and of the policy that judged.
///
/// The version of a policy alone would not do: two ports of one node may have different
/// policies of the same version, and the verdict of the lax one must not serve the strict.
type Key = (Digest32, Digest32);

/// A bounded store of accepted verdicts with expiry and revocation.
///
/// Refusals are not kept, or strangers with garbage would push honest peers out; undecided
/// verdicts neither, for what cannot be checked now may be checked later. The oldest entry
/// gives way when the store is full.
#[derive(Debug)]
pub struct VerdictCache {
    entries: HashMap<Key, Entry>,
    order: BTreeMap<u64, Key>,
    next_order: u64,
    capacity: usize,
    max_age_ms: u64,
}

#[derive(Debug)]
struct Entry {
    verdict: Verdict,
    order: u64,
}

impl VerdictCache {
    /// Returns an empty store for at most `capacity` verdicts, each for at most
    /// `max_age_ms` milliseconds.
    #[must_use]
    pub fn new(capacity: usize, max_age_ms: u64) -> Self {
        Self {
            entries: HashMap::new(),
            order: BTreeMap::new(),
            next_order: 0,
            capacity: capacity.max(1),
            max_age_ms,
        }
    }

    /// Returns the verdict over this evidence by this policy ([`crate::Policy::digest`]), if
    /// it still counts at `now_ms`. An expired one is dropped.
    pub fn find(&mut self, evidence: Digest32, policy: Digest32, now_ms: u64) -> Option<&Verdict> {
        let key = (evidence, policy);
        let verdict = &self.entries.get(&key)?.verdict;
        // A clock that went backwards makes every entry stale rather than eternal.
        let in_force = verdict.decided_ms <= now_ms
            && now_ms <= verdict.valid_until_ms
            && now_ms - verdict.decided_ms <= self.max_age_ms;
        if !in_force {
            self.remove(&key);
            return None;
        }
        self.entries.get(&key).map(|entry| &entry.verdict)
    }

    /// Keeps a verdict if it accepts the peer.
    pub fn keep(&mut self, verdict: Verdict) {
        if verdict.outcome() != Outcome::Accept {
            return;
        }
        let key = (verdict.evidence, verdict.policy);
        self.remove(&key);
        while self.entries.len() >= self.capacity {
            let Some((_, oldest)) = self.order.pop_first() else { break };
            self.entries.remove(&oldest);
        }
        let order = self.next_order;
        self.next_order = self.next_order.wrapping_add(1);
        self.order.insert(order, key);
        self.entries.insert(key, Entry { verdict, order });
    }

    /// Forgets every verdict about a platform, because it was revoked. Returns how many.
    pub fn revoke_platform(&mut self, platform: &PlatformId) -> usize {
        self.forget(|verdict| verdict.platform.as_ref() == Some(platform))
    }

    /// Forgets every verdict of a policy that was replaced. Returns how many.
    pub fn drop_policy(&mut self, policy: Digest32) -> usize {
        self.forget(|verdict| verdict.policy == policy)
    }

    /// Forgets everything, because the collateral changed.
    pub fn clear(&mut self) {
        self.entries.clear();
        self.order.clear();
    }

    /// Returns how many verdicts are kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Says whether nothing is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn forget(&mut self, condition: impl Fn(&Verdict) -> bool) -> usize {
        let keys: Vec<Key> = self
            .entries
            .iter()
            .filter(|(_, entry)| condition(&entry.verdict))
            .map(|(key, _)| *key)
            .collect();
        for key in &keys {
            self.remove(key);
        }
        keys.len()
    }

    fn remove(&mut self, key: &Key) {
        if let Some(entry) = self.entries.remove(key) {
            self.order.remove(&entry.order);
        }
    }
}
