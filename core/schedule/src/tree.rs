//! Free workers ordered by price, each node knowing the best worker below it.
//!
//! A treap: a search tree over `(coefficient, worker)` that is a heap over hashed priorities, so
//! its depth is logarithmic for any order of insertion. The question it answers is "who has the
//! least score among those that cost at most this much", in one walk from the root.

use crate::WorkerId;

/// How long a request is expected to take on a worker, then who has rested longest. Less is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Score {
    /// Expected wait of the next request, in microseconds.
    pub(crate) wait_us: u64,
    /// Sequence number of the last assignment.
    pub(crate) last_assigned: u64,
}

type Key = (u32, WorkerId);
type Best = (Score, WorkerId);

const NONE: u32 = u32::MAX;

#[derive(Clone, Copy)]
struct Node {
    key: Key,
    score: Score,
    best: Best,
    left: u32,
    right: u32,
    priority: u64,
}

/// The set of free workers of one model.
#[derive(Default)]
pub(crate) struct PriceTree {
    nodes: Vec<Node>,
    unused: Vec<u32>,
    root: Option<u32>,
    len: usize,
}

impl PriceTree {
    /// Adds a worker. The caller makes sure that it is not in the tree.
    pub(crate) fn insert(&mut self, coefficient: u32, worker: WorkerId, score: Score) {
        let key = (coefficient, worker);
        let node = Node {
            key,
            score,
            best: (score, worker),
            left: NONE,
            right: NONE,
            priority: spread(worker.0),
        };
        let fresh = match self.unused.pop() {
            Some(slot) => {
                self.nodes[slot as usize] = node;
                slot
            }
            None => {
                self.nodes.push(node);
                (self.nodes.len() - 1) as u32
            }
        };
        let (less, more) = self.split(self.root(), key);
        let low = self.merge(less, fresh);
        self.set_root_to(low, more);
        self.len += 1;
    }

    /// Takes a worker out; says whether it was there.
    pub(crate) fn remove(&mut self, coefficient: u32, worker: WorkerId) -> bool {
        let key = (coefficient, worker);
        let (less, rest) = self.split(self.root(), key);
        let (found, more) = self.split(rest, (coefficient, WorkerId(worker.0.saturating_add(1))));
        self.set_root_to(less, more);
        if found == NONE {
            return false;
        }
        self.unused.push(found);
        self.len -= 1;
        true
    }

    /// The worker with the least score among those whose coefficient is at most `coefficient_max`.
    pub(crate) fn best_up_to(&self, coefficient_max: u32) -> Option<WorkerId> {
        let mut best: Option<Best> = None;
        let mut at = self.root();
        while at != NONE {
            let node = &self.nodes[at as usize];
            if node.key.0 > coefficient_max {
                at = node.left;
                continue;
            }
            let here = (node.score, node.key.1);
            let left = self.nodes.get(node.left as usize).map_or(here, |left| left.best.min(here));
            best = Some(best.map_or(left, |known| known.min(left)));
            at = node.right;
        }
        best.map(|(_, worker)| worker)
    }

    /// How many workers are free.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    fn root(&self) -> u32 {
        self.root.unwrap_or(NONE)
    }

    fn set_root_to(&mut self, low: u32, high: u32) {
        let root = self.merge(low, high);
        self.root = (root != NONE).then_some(root);
    }

    /// Splits into keys below `key` and the rest.
    fn split(&mut self, at: u32, key: Key) -> (u32, u32) {
        if at == NONE {
            return (NONE, NONE);
        }
        if self.nodes[at as usize].key < key {
            let (low, high) = self.split(self.nodes[at as usize].right, key);
            self.nodes[at as usize].right = low;
            self.renew(at);
            (at, high)
        } else {
            let (low, high) = self.split(self.nodes[at as usize].left, key);
            self.nodes[at as usize].left = high;
            self.renew(at);
            (low, at)
        }
    }

    /// Joins two trees; every key of `low` is below every key of `high`.
    fn merge(&mut self, low: u32, high: u32) -> u32 {
        if low == NONE {
            return high;
        }
        if high == NONE {
            return low;
        }
        if self.nodes[low as usize].priority > self.nodes[high as usize].priority {
            let right = self.merge(self.nodes[low as usize].right, high);
            self.nodes[low as usize].right = right;
            self.renew(low);
            low
        } else {
            let left = self.merge(low, self.nodes[high as usize].left);
            self.nodes[high as usize].left = left;
            self.renew(high);
            high
        }
    }

    fn renew(&mut self, at: u32) {
        let node = self.nodes[at as usize];
        let mut best = (node.score, node.key.1);
        for child in [node.left, node.right] {
            if let Some(child) = self.nodes.get(child as usize) {
                best = best.min(child.best);
            }
        }
        self.nodes[at as usize].best = best;
    }
}

/// Spreads consecutive ids over all priorities (the finaliser of splitmix64). Ids are ours, so
/// nobody outside can aim at an unbalanced tree.
fn spread(id: u64) -> u64 {
    let mut x = id.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    use super::*;

    /// Id, price, wait, and whether to insert or to remove.
    fn steps() -> impl Strategy<Value = Vec<(u64, u32, u64, bool)>> {
        prop::collection::vec((0u64..40, 0u32..20, 0u64..50, any::<bool>()), 1..300)
    }

    proptest! {
        /// Any sequence of insertions and removals answers like a plain scan, and stays shallow.
        #[test]
        fn answers_like_a_scan(steps in steps()) {
            let mut tree = PriceTree::default();
            let mut plain: BTreeMap<u64, (u32, Score)> = BTreeMap::new();
            for (id, coefficient, wait_us, add) in steps {
                let known = plain.remove(&id);
                if let Some((old, _)) = known {
                    prop_assert!(tree.remove(old, WorkerId(id)));
                }
                prop_assert!(!tree.remove(coefficient, WorkerId(id)));
                if add {
                    let score = Score { wait_us, last_assigned: id % 3 };
                    tree.insert(coefficient, WorkerId(id), score);
                    plain.insert(id, (coefficient, score));
                }
                prop_assert_eq!(tree.len(), plain.len());
                for cap in [0, 5, 10, 19, u32::MAX] {
                    let expected = plain.iter().filter(|(_, (c, _))| *c <= cap)
                        .map(|(id, (_, score))| (*score, WorkerId(*id))).min().map(|(_, id)| id);
                    prop_assert_eq!(tree.best_up_to(cap), expected);
                }
            }
        }
    }

    #[test]
    fn depth_is_logarithmic_for_ids_in_order() {
        let mut tree = PriceTree::default();
        for id in 0..4096u64 {
            tree.insert(1000, WorkerId(id), Score { wait_us: id, last_assigned: 0 });
        }
        fn depth(tree: &PriceTree, at: u32) -> usize {
            if at == NONE {
                return 0;
            }
            let node = &tree.nodes[at as usize];
            1 + depth(tree, node.left).max(depth(tree, node.right))
        }
        assert!(depth(&tree, tree.root()) < 48);
    }
}
