//! What a key manager's journal holds: the reference's own records (protocol notes, wire 5.2).

use cocoon_units::Secret;
use cocoon_wire::key_manager_db as db;
use cocoon_wire::tl::{self, SecretKey};
use thiserror::Error;

/// Kind of the keys made here: Ed25519, used for X25519.
pub(crate) const ED25519_FOR_X25519: i32 = 1;

/// A record that cannot be read: of another program, or of a later version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the key manager's journal holds a record that this version does not know")]
pub struct RecordFault;

/// One record. Its bytes hold a private key: they belong into a sealed journal only.
#[derive(Clone, Debug)]
pub enum KeyRecord {
    /// The version of the registry that was known.
    Registry {
        /// Its version.
        version: u32,
    },
    /// A key.
    Key {
        /// Its private half.
        private: SecretKey,
        /// Unix seconds at which it was drawn.
        since_s: u64,
        /// Unix seconds until which it holds.
        until_s: u64,
        /// The version of the registry then.
        version: u32,
    },
}

impl KeyRecord {
    /// Writes it.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Registry { version } => {
                tl::encode(&db::ConfigV1 { root_contract_version: small(u64::from(*version)) })
            }
            Self::Key { private, since_s, until_s, version } => tl::encode(&db::Key {
                private_key: Secret::new(*private.expose()),
                key_type: ED25519_FOR_X25519,
                valid_since_config_version: small(u64::from(*version)),
                valid_since_utime: small(*since_s),
                valid_until_utime: small(*until_s),
            }),
        }
    }

    /// Reads it.
    ///
    /// # Errors
    /// [`RecordFault`]: the node must not start.
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordFault> {
        let large = |number: i32| u64::try_from(number).map_err(|_| RecordFault);
        let version = |number: i32| u32::try_from(number).map_err(|_| RecordFault);
        if let Ok(config) = tl::decode::<db::ConfigV1>(bytes) {
            return Ok(Self::Registry { version: version(config.root_contract_version)? });
        }
        let key: db::Key = tl::decode(bytes).map_err(|_| RecordFault)?;
        if key.key_type != ED25519_FOR_X25519 {
            return Err(RecordFault);
        }
        Ok(Self::Key {
            since_s: large(key.valid_since_utime)?,
            until_s: large(key.valid_until_utime)?,
            version: version(key.valid_since_config_version)?,
            private: key.private_key,
        })
    }
}

/// The wire's 32 bits; they end in 2038.
pub(crate) fn small(number: u64) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}
