//! What a node's journal says of its contracts, kept for the next start and the next snapshot.

use std::collections::BTreeMap;

use crate::Wish;
use crate::record::{SettleRecord, SiteRecord};

/// What is known of one contract.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteLog {
    /// The contract.
    pub site: SiteRecord,
    /// The last message that was ordered ([`SettleRecord::Sent`]).
    pub sent: Option<SettleRecord>,
    /// Whether it is to be wound down.
    pub is_leaving: bool,
    /// What the operator wishes of it besides its use.
    pub wish: Option<Wish>,
}

/// All contracts of a node, and the root it believes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SettleLog {
    sites: BTreeMap<[u8; 32], SiteLog>,
    root: Option<Vec<u8>>,
    root_seen: Option<([u8; 32], u64)>,
}

impl SettleLog {
    /// Takes a record, as it is written and as it is read again.
    pub fn apply(&mut self, record: &SettleRecord) {
        match record {
            SettleRecord::Opened(site) => {
                self.sites.entry(site.contract).or_insert_with(|| SiteLog {
                    site: site.clone(),
                    sent: None,
                    is_leaving: false,
                    wish: None,
                });
            }
            SettleRecord::Sent { contract, .. } => {
                if let Some(log) = self.sites.get_mut(contract) {
                    log.sent = Some(record.clone());
                }
            }
            SettleRecord::Leaving { contract } => {
                if let Some(log) = self.sites.get_mut(contract) {
                    log.is_leaving = true;
                }
            }
            SettleRecord::Wished { contract, wish } => {
                if let Some(log) = self.sites.get_mut(contract) {
                    log.wish = *wish;
                }
            }
            SettleRecord::Ended { contract } => {
                self.sites.remove(contract);
            }
            SettleRecord::RootSeen { hash, at_s } => self.root_seen = Some((*hash, *at_s)),
            SettleRecord::RootBelieved { state } => {
                self.root = Some(state.clone());
                self.root_seen = None;
            }
        }
    }

    /// The contracts that are not over.
    pub fn sites(&self) -> impl Iterator<Item = &SiteLog> {
        self.sites.values()
    }

    /// What is known of a contract.
    #[must_use]
    pub fn site(&self, contract: &[u8; 32]) -> Option<&SiteLog> {
        self.sites.get(contract)
    }

    /// The root's state that is believed, as a bag of cells.
    #[must_use]
    pub fn root(&self) -> Option<&[u8]> {
        self.root.as_deref()
    }

    /// Hash of a root's state that is not believed yet, and since when it is seen.
    #[must_use]
    pub const fn root_seen(&self) -> Option<([u8; 32], u64)> {
        self.root_seen
    }

    /// The records that bring an empty log to this one.
    #[must_use]
    pub fn snapshot(&self) -> Vec<SettleRecord> {
        let mut records = Vec::new();
        for (contract, log) in &self.sites {
            records.push(SettleRecord::Opened(log.site.clone()));
            records.extend(log.sent.clone());
            if log.is_leaving {
                records.push(SettleRecord::Leaving { contract: *contract });
            }
            if log.wish.is_some() {
                records.push(SettleRecord::Wished { contract: *contract, wish: log.wish });
            }
        }
        records.extend(self.root.clone().map(|state| SettleRecord::RootBelieved { state }));
        records.extend(self.root_seen.map(|(hash, at_s)| SettleRecord::RootSeen { hash, at_s }));
        records
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Before, Side, Step};
    use cocoon_units::{Nanoton, Tokens};

    #[test]
    fn a_snapshot_brings_back_what_it_was_taken_of() {
        let site = |contract| SiteRecord {
            side: Side::Client,
            contract: [contract; 32],
            proxy: [9; 32],
            owner: (0, [8; 32]),
            params: vec![1],
            counted_before: Tokens(3),
            opened_s: 4,
        };
        let sent = SettleRecord::Sent {
            contract: [1; 32],
            step: Step::Withdraw,
            label: 5,
            before: Before::default(),
        };
        let mut log = SettleLog::default();
        for record in [
            SettleRecord::Opened(site(1)),
            SettleRecord::Opened(site(2)),
            sent.clone(),
            SettleRecord::Leaving { contract: [1; 32] },
            SettleRecord::Wished { contract: [1; 32], wish: Some(Wish::PaidIn(Nanoton(7))) },
            SettleRecord::Ended { contract: [2; 32] },
            SettleRecord::RootBelieved { state: vec![7] },
            SettleRecord::RootSeen { hash: [6; 32], at_s: 10 },
        ] {
            log.apply(&record);
        }
        assert_eq!(log.sites().count(), 1);
        assert_eq!(log.site(&[1; 32]).unwrap().sent, Some(sent));
        let mut again = SettleLog::default();
        for record in log.snapshot() {
            again.apply(&SettleRecord::decode(&record.encode()).unwrap());
        }
        assert_eq!(again, log);
    }
}
