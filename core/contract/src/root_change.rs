//! What changed between two states of a root, for people and for decisions.

use std::collections::BTreeSet;
use std::fmt;

use cocoon_units::Address;

use crate::cell::{CellId, Hash};
use crate::code::Code;
use crate::params::Params;
use crate::root::{RegisteredProxy, RootState};

/// Which list of hashes a change concerns.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Allowed {
    /// Images a proxy may run.
    ProxyImage,
    /// Images a worker may run.
    WorkerImage,
    /// Models that may be served.
    Model,
}

impl fmt::Display for Allowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ProxyImage => "proxy image",
            Self::WorkerImage => "worker image",
            Self::Model => "model",
        })
    }
}

/// One change from an older to a newer state.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RootChange {
    /// The root belongs to somebody else.
    Owner {
        /// The former owner.
        old: Address,
        /// The new one.
        new: Address,
    },
    /// An image or model is allowed now.
    Added(Allowed, Hash),
    /// An image or model is no longer allowed.
    Removed(Allowed, Hash),
    /// A proxy was added, removed or moved.
    Proxy {
        /// Its number.
        seqno: u32,
        /// The former entry.
        old: Option<RegisteredProxy>,
        /// The new one.
        new: Option<RegisteredProxy>,
    },
    /// A price, multiplier, delay or stake; every contract gets a new address.
    Param {
        /// Its name.
        name: &'static str,
        /// The former value.
        old: String,
        /// The new one.
        new: String,
    },
    /// Another code for a working contract; every contract gets a new address.
    Code {
        /// Whose code.
        role: &'static str,
        /// The former code.
        old: Option<CellId>,
        /// The new one.
        new: Option<CellId>,
    },
    /// The key manager is another one.
    KeyManager,
}

impl RootChange {
    /// Whether everybody must move to new contracts.
    #[must_use]
    pub fn moves_contracts(&self) -> bool {
        matches!(self, Self::Param { .. } | Self::Code { .. })
    }
}

impl fmt::Display for RootChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |entry: &Option<RegisteredProxy>| {
            entry.as_ref().map_or_else(
                || "nothing".to_owned(),
                |entry| String::from_utf8_lossy(&entry.text).escape_debug().to_string(),
            )
        };
        let code =
            |id: &Option<CellId>| id.map_or_else(|| "nothing".to_owned(), |id| id.hash.to_string());
        match self {
            Self::Owner { old, new } => write!(f, "owner: {old} becomes {new}"),
            Self::Added(what, hash) => write!(f, "{what} {hash} is allowed"),
            Self::Removed(what, hash) => write!(f, "{what} {hash} is no longer allowed"),
            Self::Proxy { seqno, old, new } => {
                write!(f, "proxy {seqno}: {} becomes {}", text(old), text(new))
            }
            Self::Param { name, old, new } => write!(f, "{name}: {old} becomes {new}"),
            Self::Code { role, old, new } => {
                write!(f, "{role} code: {} becomes {}", code(old), code(new))
            }
            Self::KeyManager => f.write_str("the key manager is another one"),
        }
    }
}

impl RootState {
    /// All that is different in `newer`, in a fixed order.
    #[must_use]
    pub fn changes(&self, newer: &Self) -> Vec<RootChange> {
        let mut changes = Vec::new();
        if self.owner != newer.owner {
            changes.push(RootChange::Owner { old: self.owner, new: newer.owner });
        }
        hashes(Allowed::ProxyImage, &self.proxy_hashes, &newer.proxy_hashes, &mut changes);
        hashes(Allowed::WorkerImage, &self.worker_hashes, &newer.worker_hashes, &mut changes);
        hashes(Allowed::Model, &self.model_hashes, &newer.model_hashes, &mut changes);
        proxies(self, newer, &mut changes);
        params(self, newer, &mut changes);
        codes(self, newer, &mut changes);
        if self.key_manager != newer.key_manager {
            changes.push(RootChange::KeyManager);
        }
        changes
    }
}

fn hashes(
    what: Allowed,
    old: &BTreeSet<Hash>,
    new: &BTreeSet<Hash>,
    changes: &mut Vec<RootChange>,
) {
    changes.extend(new.difference(old).map(|hash| RootChange::Added(what, *hash)));
    changes.extend(old.difference(new).map(|hash| RootChange::Removed(what, *hash)));
}

fn proxies(old: &RootState, new: &RootState, changes: &mut Vec<RootChange>) {
    let (old, new) = (&old.registered_proxies, &new.registered_proxies);
    let seqnos: BTreeSet<u32> = old.keys().chain(new.keys()).copied().collect();
    for seqno in seqnos {
        let (old, new) = (old.get(&seqno).cloned(), new.get(&seqno).cloned());
        if old != new {
            changes.push(RootChange::Proxy { seqno, old, new });
        }
    }
}

/// Name and text of one parameter.
type Param = (&'static str, fn(&Params) -> String);

const PARAMS: [Param; 14] = [
    ("structure version", |p| p.struct_version.to_string()),
    ("parameters version", |p| p.params_version.to_string()),
    ("network id", |p| p.unique_id.to_string()),
    ("test network", |p| p.is_test.to_string()),
    ("price per token", |p| p.price_per_token.to_string()),
    ("worker fee per token", |p| p.worker_fee_per_token.to_string()),
    ("prompt multiplier", |p| p.prompt_multiplier.0.to_string()),
    ("cached multiplier", |p| p.cached_multiplier.0.to_string()),
    ("completion multiplier", |p| p.completion_multiplier.0.to_string()),
    ("reasoning multiplier", |p| p.reasoning_multiplier.0.to_string()),
    ("proxy delay (s)", |p| p.proxy_delay_s.to_string()),
    ("client delay (s)", |p| p.client_delay_s.to_string()),
    ("least proxy stake", |p| p.min_proxy_stake.to_string()),
    ("least client stake", |p| p.min_client_stake.to_string()),
];

fn params(old: &RootState, new: &RootState, changes: &mut Vec<RootChange>) {
    for (name, text) in PARAMS {
        let (old, new) = (text(&old.network.params), text(&new.network.params));
        if old != new {
            changes.push(RootChange::Param { name, old, new });
        }
    }
}

fn codes(old: &RootState, new: &RootState, changes: &mut Vec<RootChange>) {
    let (old, new) = (&old.network.codes, &new.network.codes);
    let id = |code: &Option<Code>| code.as_ref().map(Code::id);
    for (role, old, new) in [
        ("proxy", &old.proxy, &new.proxy),
        ("worker", &old.worker, &new.worker),
        ("client", &old.client, &new.client),
    ] {
        let (old, new) = (id(old), id(new));
        if old != new {
            changes.push(RootChange::Code { role, old, new });
        }
    }
}
