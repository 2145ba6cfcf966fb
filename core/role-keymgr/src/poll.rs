//! The side that asks a key manager (protocol notes, wire 3.10).

use std::collections::BTreeMap;

use cocoon_units::{ImageHash, PublicKey, Role};
use cocoon_wire::cocoon::{Introduce, Introduced};
use cocoon_wire::e2e;
use cocoon_wire::key_manager::{GetProxyPrivateKeys, GetWorkerPrivateKeys, PrivateKeys};
use cocoon_wire::tl::{self, SecretKey};

use crate::manager::KEYS_MAX;

/// Milliseconds between two questions of a proxy, least and most.
const PROXY_EVERY_MS: (u64, u64) = (5_000, 10_000);
/// Milliseconds between two questions of a worker, least and most.
const WORKER_EVERY_MS: (u64, u64) = (60_000, 120_000);
/// Time for an answer.
const TIMEOUT_MS: u64 = 60_000;

/// Private keys by their public halves, each with the Unix second until which it holds.
pub type HeldKeys = BTreeMap<PublicKey, (SecretKey, u64)>;

/// What the caller has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PollAct {
    /// Ask the key manager this.
    Query {
        /// One boxed object.
        data: Vec<u8>,
        /// Time for the answer.
        timeout_ms: u64,
    },
    /// Close the connection: it is not the key manager.
    Close {
        /// Why.
        reason: &'static str,
    },
    /// [`KeyPoll::keys`] changed.
    Changed,
}

/// One role's questions to a key manager, over connections that come and go.
#[derive(Debug)]
pub struct KeyPoll {
    role: Role,
    /// Image that the key manager must show; `None` checks nothing (test mode only).
    image: Option<ImageHash>,
    connected: bool,
    /// The introduction is over on this connection: keys may be asked for.
    introduced: bool,
    asking: bool,
    next_ms: u64,
    keys: HeldKeys,
}

impl KeyPoll {
    /// Asks as a proxy or as a worker.
    #[must_use]
    pub const fn new(role: Role, image: Option<ImageHash>) -> Self {
        let keys = BTreeMap::new();
        let (connected, introduced, asking) = (false, false, false);
        Self { role, image, connected, introduced, asking, next_ms: 0, keys }
    }

    /// The keys that hold now, as far as is known.
    #[must_use]
    pub const fn keys(&self) -> &HeldKeys {
        &self.keys
    }

    /// A connection stands: introduces the node, so that both sides can show fresh evidence, and asks
    /// for keys after that.
    pub fn opened(&mut self, image: Option<ImageHash>, now_ms: u64, out: &mut Vec<PollAct>) {
        if self.image.is_some() && self.image != image {
            return out.push(PollAct::Close { reason: "wrong key manager image hash" });
        }
        (self.connected, self.introduced) = (true, false);
        self.next_ms = now_ms;
        self.ask(out);
    }

    /// The connection is gone. What was got stays until it expires.
    pub const fn closed(&mut self) {
        (self.connected, self.asking) = (false, false);
    }

    /// Time went by: steady milliseconds, Unix seconds, and a random number to spread questions.
    pub fn tick(&mut self, now_ms: u64, now_s: u64, chance: u64, out: &mut Vec<PollAct>) {
        let before = self.keys.len();
        self.keys.retain(|_, (_, until_s)| *until_s > now_s);
        if self.keys.len() != before {
            out.push(PollAct::Changed);
        }
        if self.connected && !self.asking && now_ms >= self.next_ms {
            self.ask(out);
        }
        if self.next_ms <= now_ms {
            let (least, most) = match self.role {
                Role::Worker => WORKER_EVERY_MS,
                _ => PROXY_EVERY_MS,
            };
            self.next_ms = now_ms.saturating_add(least + chance % (most - least + 1));
        }
    }

    /// The key manager answered. What it hands out replaces what was held; the two lists differ
    /// by keys that ended.
    pub fn answered(&mut self, data: &[u8], now_s: u64, out: &mut Vec<PollAct>) {
        self.asking = false;
        let unreadable = PollAct::Close { reason: "the key manager's answer cannot be read" };
        if !self.introduced {
            if tl::decode::<Introduced>(data).is_err() {
                return out.push(unreadable);
            }
            self.introduced = true;
            return self.ask(out);
        }
        let Ok(answer) = tl::decode::<PrivateKeys>(data) else {
            return out.push(unreadable);
        };
        if answer.keys.len() > KEYS_MAX * 2 {
            return out.push(PollAct::Close { reason: "the key manager hands out too many keys" });
        }
        let mut held = HeldKeys::new();
        for key in answer.keys {
            let until_s = u64::try_from(key.valid_until_utime).unwrap_or(0);
            if until_s > now_s {
                held.insert(e2e::public_key(&key.private_key), (key.private_key, until_s));
            }
        }
        let same = held.len() == self.keys.len()
            && held.iter().all(|(public, (_, until_s))| {
                self.keys.get(public).is_some_and(|(_, known)| known == until_s)
            });
        if !same {
            self.keys = held;
            out.push(PollAct::Changed);
        }
    }

    /// The question failed; it is asked again at its time. A key manager of the reference knows no
    /// introduction: it is asked for keys without one. Whether evidence in certificates will do was
    /// decided before this is told.
    pub fn failed(&mut self, out: &mut Vec<PollAct>) {
        self.asking = false;
        if self.connected && !self.introduced {
            self.introduced = true;
            self.ask(out);
        }
    }

    fn ask(&mut self, out: &mut Vec<PollAct>) {
        self.asking = true;
        let data = match self.role {
            role if !self.introduced => tl::encode(&Introduce::as_role(role)),
            Role::Worker => tl::encode(&GetWorkerPrivateKeys { proto_version: 0 }),
            _ => tl::encode(&GetProxyPrivateKeys { proto_version: 0 }),
        };
        out.push(PollAct::Query { data, timeout_ms: TIMEOUT_MS });
    }
}
