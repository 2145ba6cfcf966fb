//! When a new state of the root is believed.
//!
//! The root decides prices, codes and who may serve. Whoever holds its owner's key could change all
//! of it in one transaction, and every client's next deposit would follow. So a client demands
//! notice: a change that money follows is believed only after it has stood for everybody to see.

use cocoon_contract::root::RootState;
use cocoon_contract::root_change::RootChange;

/// Who guards a root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guard {
    /// Its owner is a timelock with this delay, in seconds: changes have waited in it already.
    Timelock {
        /// The delay.
        delay_s: u64,
    },
    /// Somebody who can change it at once.
    Nobody,
}

/// What the gate says of a state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ruling {
    /// It is the state that is believed.
    Same,
    /// It is believed from now on; what changed.
    Believed(Vec<RootChange>),
    /// It is believed after this time, Unix seconds, if it still stands then; what will change.
    /// Revocations are believed at once.
    Held {
        /// When.
        until_s: u64,
        /// What will change.
        changes: Vec<RootChange>,
    },
    /// It is older than the one that is believed: ignored.
    Older,
}

/// The gate of one client.
#[derive(Clone, Debug)]
pub struct RootGate {
    notice_s: u64,
    believed: Option<RootState>,
    held: Option<(RootState, u64)>,
}

impl RootGate {
    /// A gate that demands `notice_s` seconds. The first state is believed: there is nothing to
    /// compare it with, and its address was configured.
    #[must_use]
    pub const fn new(notice_s: u64) -> Self {
        Self { notice_s, believed: None, held: None }
    }

    /// The state that is believed.
    #[must_use]
    pub const fn believed(&self) -> Option<&RootState> {
        self.believed.as_ref()
    }

    /// Takes what an earlier run believed.
    pub fn restore(&mut self, believed: RootState) {
        self.believed = Some(believed);
    }

    /// Takes that an earlier run saw this state first at `at_s`.
    pub fn restore_seen(&mut self, state: RootState, at_s: u64) {
        self.held = Some((state, at_s));
    }

    /// Looks at the state that the chain shows now.
    pub fn look(&mut self, state: &RootState, guard: Guard, now_s: u64) -> Ruling {
        let Some(believed) = &mut self.believed else {
            self.believed = Some(state.clone());
            return Ruling::Believed(Vec::new());
        };
        if state == believed {
            self.held = None;
            return Ruling::Same;
        }
        if state.version < believed.version {
            return Ruling::Older;
        }
        let changes = believed.changes(state);
        revoke(believed, state);
        let guarded = matches!(guard, Guard::Timelock { delay_s } if delay_s >= self.notice_s);
        let since_s = match &self.held {
            Some((held, since_s)) if held == state => *since_s,
            _ => now_s,
        };
        let until_s = since_s.saturating_add(self.notice_s);
        if guarded || now_s >= until_s || changes.iter().all(is_harmless) {
            self.believed = Some(state.clone());
            self.held = None;
            return Ruling::Believed(changes);
        }
        self.held = Some((state.clone(), since_s));
        Ruling::Held { until_s, changes }
    }
}

/// A change that takes something back needs no notice.
fn is_harmless(change: &RootChange) -> bool {
    matches!(change, RootChange::Removed(..) | RootChange::Proxy { new: None, .. })
}

/// Takes from the believed state what the new one does not have any more.
fn revoke(believed: &mut RootState, state: &RootState) {
    believed.proxy_hashes.retain(|hash| state.proxy_hashes.contains(hash));
    believed.worker_hashes.retain(|hash| state.worker_hashes.contains(hash));
    believed.model_hashes.retain(|hash| state.model_hashes.contains(hash));
    believed.registered_proxies.retain(|seqno, _| state.registered_proxies.contains_key(seqno));
}

#[cfg(test)]
mod tests {
    use super::*;
    use cocoon_contract::cell::Hash;
    use cocoon_contract::pseudo::PseudoRoot;
    use cocoon_units::{Address, Nanoton};
    use std::collections::{BTreeMap, BTreeSet};

    const DAY_S: u64 = 86_400;

    fn root() -> RootState {
        PseudoRoot {
            proxy_hashes: BTreeSet::from([Hash([1; 32]), Hash([2; 32])]),
            worker_hashes: BTreeSet::new(),
            model_hashes: BTreeSet::new(),
            model_types: Vec::new(),
            registered_proxies: BTreeMap::new(),
            last_proxy_seqno: 0,
            version: 1,
            params_version: 1,
            price_per_token: Nanoton(20),
            worker_fee_per_token: Nanoton(19),
            proxy_code_hex: String::new(),
            worker_code_hex: String::new(),
            client_code_hex: String::new(),
            owner: Address::new(0, [9; 32]),
        }
        .root_state()
        .unwrap()
    }

    fn dearer(root: &RootState) -> RootState {
        let mut state = root.clone();
        state.version += 1;
        state.network.params.params_version += 1;
        state.network.params.price_per_token = Nanoton(40);
        state
    }

    #[test]
    fn a_sudden_price_waits_until_it_has_stood() {
        let mut gate = RootGate::new(DAY_S);
        let old = root();
        assert_eq!(gate.look(&old, Guard::Nobody, 0), Ruling::Believed(Vec::new()));
        let new = dearer(&old);
        for now_s in [10, DAY_S, DAY_S + 9] {
            let ruling = gate.look(&new, Guard::Nobody, now_s);
            assert!(matches!(ruling, Ruling::Held { until_s, .. } if until_s == DAY_S + 10));
            assert_eq!(gate.believed(), Some(&old));
        }
        let Ruling::Believed(changes) = gate.look(&new, Guard::Nobody, DAY_S + 10) else {
            panic!("it has stood long enough")
        };
        assert!(changes.iter().any(RootChange::moves_contracts));
        assert_eq!(gate.look(&old, Guard::Nobody, DAY_S + 11), Ruling::Older);
    }

    #[test]
    fn another_change_begins_the_wait_again() {
        let mut gate = RootGate::new(DAY_S);
        let old = root();
        gate.look(&old, Guard::Nobody, 0);
        let first = dearer(&old);
        let second = dearer(&first);
        gate.look(&first, Guard::Nobody, 0);
        let ruling = gate.look(&second, Guard::Nobody, DAY_S);
        assert!(matches!(ruling, Ruling::Held { until_s, .. } if until_s == 2 * DAY_S));
    }

    #[test]
    fn a_timelock_has_waited_already_when_it_waits_long_enough() {
        let old = root();
        for (delay_s, believed) in [(DAY_S, true), (DAY_S - 1, false)] {
            let mut gate = RootGate::new(DAY_S);
            gate.look(&old, Guard::Nobody, 0);
            let ruling = gate.look(&dearer(&old), Guard::Timelock { delay_s }, 1);
            assert_eq!(matches!(ruling, Ruling::Believed(_)), believed);
        }
    }

    #[test]
    fn a_revocation_counts_at_once_also_beside_a_change_that_waits() {
        let mut gate = RootGate::new(DAY_S);
        let old = root();
        gate.look(&old, Guard::Nobody, 0);
        let mut new = dearer(&old);
        new.proxy_hashes.remove(&Hash([2; 32]));
        new.proxy_hashes.insert(Hash([3; 32]));
        assert!(matches!(gate.look(&new, Guard::Nobody, 1), Ruling::Held { .. }));
        let believed = gate.believed().unwrap();
        assert_eq!(believed.proxy_hashes, BTreeSet::from([Hash([1; 32])]));
        assert_eq!(believed.network.params.price_per_token, Nanoton(20));
    }
}
