//! The audit trail: who got which keys when, append-only, without a key in it.
//!
//! Each line is a JSON object that names the SHA-256 of the line before it, so that a line that is
//! changed, dropped or put in shows. What it cannot show alone is that lines at the end are gone:
//! keep the newest hash elsewhere, too.

use cocoon_units::{ImageHash, PublicKey, Role};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use crate::manager::KeyPeer;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuditEvent {
    /// The key manager began, with this many keys.
    Started {
        /// Keys that it found.
        keys: usize,
    },
    /// A key was drawn.
    Drawn {
        /// Its public half.
        public: PublicKey,
        /// Unix seconds until which it holds.
        until_s: u64,
    },
    /// A key holds no longer and is not handed out any more.
    Expired {
        /// Its public half.
        public: PublicKey,
    },
    /// A peer got keys it had not got before.
    Handed {
        /// What the peer is.
        role: Role,
        /// Who it is.
        peer: KeyPeer,
        /// Public halves of what it got.
        keys: Vec<PublicKey>,
    },
    /// A peer got nothing.
    Refused {
        /// What the peer said it is.
        role: Role,
        /// Who it is.
        peer: KeyPeer,
        /// Why.
        reason: &'static str,
    },
}

/// Something that happened, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEntry {
    /// Unix seconds by the machine's clock, which may step.
    pub at_s: u64,
    /// What.
    pub event: AuditEvent,
}

/// A trail that is not what was written.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AuditFault {
    /// A line that is none of ours.
    #[error("line {line} of the audit trail cannot be read")]
    Line {
        /// Which, from 1.
        line: u64,
    },
    /// A line that does not follow the one before it.
    #[error(
        "line {line} of the audit trail does not follow the line before it: one was changed, dropped or put in"
    )]
    Broken {
        /// Which, from 1.
        line: u64,
    },
}

/// The end of a trail, to which lines are added.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditChain {
    lines: u64,
    last: [u8; 32],
}

impl AuditChain {
    /// Lines until now.
    #[must_use]
    pub const fn lines(&self) -> u64 {
        self.lines
    }

    /// SHA-256 of the newest line; zero when there is none.
    #[must_use]
    pub fn head(&self) -> String {
        hex::encode(self.last)
    }

    /// The next line, without its end.
    pub fn line(&mut self, entry: &AuditEntry) -> String {
        let mut object = json!({ "n": self.lines + 1, "at_s": entry.at_s });
        object["event"] = event(&entry.event);
        object["before"] = Value::from(hex::encode(self.last));
        let line = object.to_string();
        self.lines += 1;
        self.last = Sha256::digest(line.as_bytes()).into();
        line
    }

    /// Follows one more line of a trail that is there already.
    ///
    /// # Errors
    /// [`AuditFault`]: the trail is not what was written.
    pub fn follow(&mut self, line: &str) -> Result<(), AuditFault> {
        let number = self.lines + 1;
        let unreadable = || AuditFault::Line { line: number };
        let read: Value = serde_json::from_str(line).map_err(|_| unreadable())?;
        let before = read.get("before").and_then(Value::as_str).ok_or_else(unreadable)?;
        let counted = read.get("n").and_then(Value::as_u64).ok_or_else(unreadable)?;
        if before != hex::encode(self.last) || counted != number {
            return Err(AuditFault::Broken { line: number });
        }
        self.lines = number;
        self.last = Sha256::digest(line.as_bytes()).into();
        Ok(())
    }
}

fn event(event: &AuditEvent) -> Value {
    let named = |role: &Role, peer: &KeyPeer| {
        json!({
            "role": role.name(),
            "image": peer.image.map(ImageHash::to_base64),
            "peer": peer.key.map(|key| key.to_string()),
            "fresh": peer.fresh,
        })
    };
    let with = |mut object: Value, name: &str, value: Value| {
        object[name] = value;
        object
    };
    match event {
        AuditEvent::Started { keys } => json!({ "started": { "keys": keys } }),
        AuditEvent::Drawn { public, until_s } => {
            json!({ "drawn": { "public": public.to_string(), "until_s": until_s } })
        }
        AuditEvent::Expired { public } => json!({ "expired": { "public": public.to_string() } }),
        AuditEvent::Handed { role, peer, keys } => {
            let keys: Vec<String> = keys.iter().map(PublicKey::to_string).collect();
            json!({ "handed": with(named(role, peer), "keys", keys.into()) })
        }
        AuditEvent::Refused { role, peer, reason } => {
            json!({ "refused": with(named(role, peer), "reason", (*reason).into()) })
        }
    }
}
