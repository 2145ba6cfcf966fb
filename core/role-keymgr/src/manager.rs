//! The key manager itself.

use std::collections::{BTreeMap, BTreeSet};

use cocoon_units::{ImageHash, PublicKey, Role, Secret};
use cocoon_wire::cocoon::Introduced;
use cocoon_wire::e2e;
use cocoon_wire::key_manager::{PrivateKey, PrivateKeys, Query};
use cocoon_wire::tl::{self, SecretKey};

use crate::audit::{AuditEntry, AuditEvent};
use crate::record::{KeyRecord, RecordFault, small};

/// Most keys that are kept: with one an hour for a day, and a day's grace, 48 are usual.
pub const KEYS_MAX: usize = 64;
/// Most peers that are remembered for the audit.
const TOLD_MAX: usize = 4_096;
/// Most refusals in the audit of one hour; strangers must not fill the disk.
const REFUSALS_PER_HOUR: u32 = 60;
/// Failure, as the protocol numbers it (protocol notes, wire 1.7).
const CODE_FAILURE: i32 = 601;

/// Names one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnId(pub u64);

/// How keys live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeySettings {
    /// Seconds that a key holds.
    pub life_s: u64,
    /// Seconds between two new keys.
    pub rotate_every_s: u64,
    /// Whether peers' images are compared with the registry; always, outside test mode.
    pub check: bool,
}

impl Default for KeySettings {
    /// The reference's: a day, and an hour (protocol notes, wire 5.2).
    fn default() -> Self {
        Self { life_s: 86_400, rotate_every_s: 3_600, check: true }
    }
}

/// What the registry says about those who may ask.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyRegistry {
    /// Its version.
    pub version: u32,
    /// Images of proxies.
    pub proxies: BTreeSet<ImageHash>,
    /// Images of workers.
    pub workers: BTreeSet<ImageHash>,
}

/// What attestation showed of a peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyPeer {
    /// Its image, when evidence for it was checked.
    pub image: Option<ImageHash>,
    /// The key of its connection.
    pub key: Option<PublicKey>,
    /// Whether it showed fresh evidence over the connection; otherwise that in its certificate has
    /// to do.
    pub fresh: bool,
}

/// Who asks what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asker {
    /// On which connection.
    pub conn: ConnId,
    /// Under which id.
    pub query: i64,
}

/// What the caller has to do.
#[derive(Debug)]
pub enum Act {
    /// Make this durable, then tell [`KeyManager::durable`] its number. It holds a private key.
    Record {
        /// Its number; numbers grow.
        number: u64,
        /// The record.
        record: KeyRecord,
    },
    /// Answer a query. The bytes hold private keys.
    Answer {
        /// Whom.
        to: Asker,
        /// One boxed object.
        data: Vec<u8>,
    },
    /// Fail a query.
    Refuse {
        /// Whom.
        to: Asker,
        /// Code of the protocol.
        code: i32,
        /// Why.
        message: &'static str,
    },
    /// Add this to the audit trail.
    Audit(AuditEntry),
}

/// A key, without its private half.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyLine {
    /// Its public half, which users encrypt to.
    pub public: PublicKey,
    /// Unix seconds at which it was drawn.
    pub since_s: u64,
    /// Unix seconds until which it holds.
    pub until_s: u64,
    /// Whether it is on disk, and so handed out.
    pub durable: bool,
}

#[derive(Debug)]
struct Kept {
    private: SecretKey,
    line: KeyLine,
    version: u32,
    number: u64,
    /// Its end was told to the audit.
    ended: bool,
}

/// The machine.
#[derive(Debug)]
pub struct KeyManager {
    settings: KeySettings,
    registry: KeyRegistry,
    /// The newest version of the registry that was ever believed, over restarts too.
    newest_version: u32,
    keys: Vec<Kept>,
    peers: BTreeMap<ConnId, KeyPeer>,
    /// Number of the newest key that a peer has got.
    told: BTreeMap<(IsProxy, PeerName), u64>,
    refusals: (u64, u32),
    next_number: u64,
}

/// Whether it is a proxy; otherwise a worker.
type IsProxy = bool;
/// Image and key of a peer, in an order.
type PeerName = (Option<[u8; 32]>, Option<[u8; 32]>);

impl KeyManager {
    /// Goes on from the journal's records. A registry older than one that was believed before the
    /// restart is not believed: until [`KeyManager::registry_changed`] brings one as new, no image is
    /// listed. Ask [`KeyManager::newest_version`] whether that is so.
    ///
    /// # Errors
    /// Never now; what cannot be read was refused by [`KeyRecord::decode`].
    pub fn open(
        settings: KeySettings,
        registry: KeyRegistry,
        history: impl IntoIterator<Item = KeyRecord>,
        now_s: u64,
        out: &mut Vec<Act>,
    ) -> Result<Self, RecordFault> {
        let mut manager = Self {
            settings,
            registry: KeyRegistry::default(),
            newest_version: 0,
            keys: Vec::new(),
            peers: BTreeMap::new(),
            told: BTreeMap::new(),
            refusals: (0, 0),
            next_number: 1,
        };
        for record in history {
            let (KeyRecord::Registry { version } | KeyRecord::Key { version, .. }) = &record;
            manager.newest_version = manager.newest_version.max(*version);
            let KeyRecord::Key { private, since_s, until_s, version } = record else { continue };
            let number = manager.next_number;
            manager.next_number += 1;
            let public = e2e::public_key(&private);
            if manager.keys.iter().any(|kept| kept.line.public == public) {
                continue;
            }
            let line = KeyLine { public, since_s, until_s, durable: true };
            manager.keys.push(Kept { private, line, version, number, ended: until_s <= now_s });
        }
        manager.forget(now_s);
        if registry.version >= manager.newest_version {
            manager.newest_version = registry.version;
            manager.registry = registry;
        }
        let keys = manager.keys.len();
        out.push(Act::Audit(AuditEntry { at_s: now_s, event: AuditEvent::Started { keys } }));
        Ok(manager)
    }

    /// Everything as records, for a snapshot of the journal. They hold private keys.
    #[must_use]
    pub fn snapshot(&self) -> Vec<KeyRecord> {
        // The test key was drawn by nobody, and is given anew by who wants it.
        let own = self.keys.iter().filter(|kept| kept.line.since_s > 0);
        let keys = own.map(|kept| KeyRecord::Key {
            private: kept.private.clone(),
            since_s: kept.line.since_s,
            until_s: kept.line.until_s,
            version: kept.version,
        });
        [KeyRecord::Registry { version: self.newest_version }].into_iter().chain(keys).collect()
    }

    /// The newest version of the registry that was ever believed.
    #[must_use]
    pub const fn newest_version(&self) -> u32 {
        self.newest_version
    }

    /// The keys, without their private halves.
    pub fn keys(&self) -> impl Iterator<Item = &KeyLine> {
        self.keys.iter().map(|kept| &kept.line)
    }

    /// Adds the reference's public test key, which everybody knows. Test mode only.
    pub fn add_test_key(&mut self, private: SecretKey, until_s: u64) {
        let public = e2e::public_key(&private);
        let line = KeyLine { public, since_s: 0, until_s, durable: true };
        let number = self.next_number;
        self.next_number += 1;
        self.keys.push(Kept { private, line, version: 0, number, ended: false });
    }

    /// The registry changed. Older versions are ignored, those that were believed before the last
    /// start included.
    pub fn registry_changed(&mut self, registry: KeyRegistry, out: &mut Vec<Act>) {
        let version = registry.version;
        if version <= self.registry.version || version < self.newest_version {
            return;
        }
        self.registry = registry;
        if version > self.newest_version {
            self.newest_version = version;
            let number = self.next_number;
            self.next_number += 1;
            out.push(Act::Record { number, record: KeyRecord::Registry { version } });
        }
    }

    /// A peer came.
    pub fn opened(&mut self, conn: ConnId, peer: KeyPeer) {
        self.peers.insert(conn, peer);
    }

    /// A peer showed fresh evidence over its connection, and it was accepted. Whether a peer that
    /// does not may ask is for the owner of the connection to say, before its query comes here.
    pub fn attested(&mut self, conn: ConnId) {
        if let Some(peer) = self.peers.get_mut(&conn) {
            peer.fresh = true;
        }
    }

    /// A peer is gone.
    pub fn closed(&mut self, conn: ConnId) {
        self.peers.remove(&conn);
    }

    /// Time went by. `fresh` is used as a private key when one is due: draw it anew for each call
    /// from a cryptographic generator.
    pub fn tick(&mut self, now_s: u64, fresh: &SecretKey, out: &mut Vec<Act>) {
        for kept in &mut self.keys {
            if !kept.ended && kept.line.until_s <= now_s {
                kept.ended = true;
                let event = AuditEvent::Expired { public: kept.line.public };
                out.push(Act::Audit(AuditEntry { at_s: now_s, event }));
            }
        }
        self.forget(now_s);
        if !self.is_due(now_s) || self.keys.len() >= KEYS_MAX {
            return;
        }
        let private = fresh.clone();
        let public = e2e::public_key(&private);
        let until_s = now_s.saturating_add(self.settings.life_s);
        let (number, version) = (self.next_number, self.newest_version);
        self.next_number += 1;
        let record = KeyRecord::Key { private: private.clone(), since_s: now_s, until_s, version };
        let line = KeyLine { public, since_s: now_s, until_s, durable: false };
        self.keys.push(Kept { private, line, version, number, ended: false });
        out.push(Act::Record { number, record });
        let event = AuditEvent::Drawn { public, until_s };
        out.push(Act::Audit(AuditEntry { at_s: now_s, event }));
    }

    /// Whether a new key is due. A clock that was set back leaves the newest key in the future: by
    /// less than one rotation it is simply waited for, by more it no longer counts.
    fn is_due(&self, now_s: u64) -> bool {
        let every = self.settings.rotate_every_s;
        !self.keys.iter().any(|kept| {
            let since_s = kept.line.since_s;
            // The test key was drawn by nobody.
            since_s > 0 && since_s.abs_diff(now_s) < every && kept.line.until_s > now_s
        })
    }

    /// Drops keys that ended more than a life ago. Until then they are kept, though not handed
    /// out: a clock that was wrong by a day and is set right again must not have cost a key.
    fn forget(&mut self, now_s: u64) {
        let grace = self.settings.life_s;
        self.keys.retain(|kept| kept.line.until_s.saturating_add(grace) > now_s);
    }

    /// Everything up to this number is on disk.
    pub fn durable(&mut self, number: u64) {
        self.keys
            .iter_mut()
            .filter(|kept| kept.number <= number)
            .for_each(|kept| kept.line.durable = true);
    }

    /// A peer asks.
    pub fn query(&mut self, asker: Asker, data: &[u8], now_s: u64, out: &mut Vec<Act>) {
        let refuse = |message| Act::Refuse { to: asker, code: CODE_FAILURE, message };
        let role = match Query::decode(data) {
            Ok(Query::Introduce(_)) => {
                let data = tl::encode(&Introduced::default());
                return out.push(Act::Answer { to: asker, data });
            }
            Ok(Query::GetProxyPrivateKeys(_) | Query::GetProxyPrivateKeysBase(_)) => Role::Proxy,
            Ok(Query::GetWorkerPrivateKeys(_) | Query::GetWorkerPrivateKeysBase(_)) => Role::Worker,
            Ok(Query::Unknown(_)) | Err(_) => return out.push(refuse("unknown query magic")),
        };
        let Some(peer) = self.peers.get(&asker.conn).copied() else {
            return out.push(refuse("unknown connection"));
        };
        let (listed, reason) = match role {
            Role::Proxy => (&self.registry.proxies, "unknown proxy hash"),
            _ => (&self.registry.workers, "unknown worker hash"),
        };
        let admitted = peer.image.is_some_and(|image| listed.contains(&image));
        if self.settings.check && !admitted {
            out.push(refuse(reason));
            return self.audit_refusal(role, peer, reason, now_s, out);
        }
        out.push(Act::Answer { to: asker, data: self.answer(now_s) });
        self.audit_handed(role, peer, now_s, out);
    }

    fn handed_out(&self, now_s: u64) -> impl Iterator<Item = &Kept> {
        self.keys.iter().filter(move |kept| kept.line.durable && kept.line.until_s > now_s)
    }

    fn answer(&self, now_s: u64) -> Vec<u8> {
        let keys = self.handed_out(now_s).map(|kept| PrivateKey {
            valid_until_utime: small(kept.line.until_s),
            private_key: Secret::new(*kept.private.expose()),
        });
        tl::encode(&PrivateKeys { keys: keys.collect() })
    }

    /// Peers ask every few seconds: a line is written when one gets a key it did not have.
    fn audit_handed(&mut self, role: Role, peer: KeyPeer, now_s: u64, out: &mut Vec<Act>) {
        let name = (role == Role::Proxy, (peer.image.map(|i| i.0), peer.key.map(|k| k.0)));
        let before = self.told.get(&name).copied();
        let new = |kept: &&Kept| before.is_none_or(|before| kept.number > before);
        let keys: Vec<PublicKey> =
            self.handed_out(now_s).filter(new).map(|kept| kept.line.public).collect();
        let newest = self.handed_out(now_s).map(|kept| kept.number).max();
        let Some(newest) = newest.filter(|_| !keys.is_empty()) else { return };
        if self.told.len() >= TOLD_MAX {
            // The next contact of everybody is written once more.
            self.told.clear();
        }
        self.told.insert(name, newest);
        let event = AuditEvent::Handed { role, peer, keys };
        out.push(Act::Audit(AuditEntry { at_s: now_s, event }));
    }

    fn audit_refusal(
        &mut self,
        role: Role,
        peer: KeyPeer,
        reason: &'static str,
        now_s: u64,
        out: &mut Vec<Act>,
    ) {
        let hour = now_s / 3_600;
        if self.refusals.0 != hour {
            self.refusals = (hour, 0);
        }
        self.refusals.1 = self.refusals.1.saturating_add(1);
        if self.refusals.1 > REFUSALS_PER_HOUR {
            return;
        }
        let event = AuditEvent::Refused { role, peer, reason };
        out.push(Act::Audit(AuditEntry { at_s: now_s, event }));
    }
}
