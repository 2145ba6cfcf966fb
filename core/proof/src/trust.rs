//! What whoever verifies trusts and compares with, as a file.

use cocoon_attest::{ClaimKind, Digest32, Policy};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::bundle::{HASHES_MAX, RootView};
use crate::examine::Asker;

/// Longest file in bytes: a registry of three full lists fits.
pub const TRUST_LIMIT: usize = 16 << 20;

const FORMAT: &str = "cocoon.trust";
const VERSION: u32 = 1;

/// A file that does not say what to trust. The user has to give another one.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum TrustFault {
    /// It is too long.
    #[error("the trust file has {len} bytes, the limit is {TRUST_LIMIT}")]
    TooLong {
        /// Its length.
        len: usize,
    },
    /// It is no JSON of this form, or holds too much.
    #[error("the trust file cannot be read: {detail}")]
    Malformed {
        /// Where and why.
        detail: String,
    },
    /// It is something else, or of a later version.
    #[error("the file is {format:?} version {version}, this program reads {FORMAT:?} version 1")]
    Version {
        /// What it says it is.
        format: String,
        /// Which version.
        version: u32,
    },
    /// Its rules contradict each other.
    #[error("the policy of the trust file cannot be used: {detail}")]
    Policy {
        /// Which ones.
        detail: String,
    },
}

/// Rules, roots and registry of whoever verifies. It is theirs to keep: a trust file that came
/// with the evidence proves nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trust {
    /// Always `cocoon.trust`.
    pub format: String,
    /// Always 1.
    pub version: u32,
    /// Rules and trusted roots.
    pub policy: Policy,
    /// The registry as it was read; nothing takes the bundle's word, which is then shown as
    /// unknown.
    #[serde(default)]
    pub registry: Option<RootView>,
}

impl Default for Trust {
    /// The strict rules with the makers' roots, and no registry.
    fn default() -> Self {
        Self::new(Policy::tee(), None)
    }
}

impl Trust {
    /// Returns the trust in these rules and this registry.
    #[must_use]
    pub fn new(policy: Policy, registry: Option<RootView>) -> Self {
        Self { format: FORMAT.to_owned(), version: VERSION, policy, registry }
    }

    /// Reads a file.
    ///
    /// # Errors
    /// [`TrustFault`]: it is none, or cannot be used.
    pub fn read(bytes: &[u8]) -> Result<Self, TrustFault> {
        #[derive(Deserialize)]
        struct Head {
            format: String,
            version: u32,
        }
        if bytes.len() > TRUST_LIMIT {
            return Err(TrustFault::TooLong { len: bytes.len() });
        }
        let malformed = |detail: String| TrustFault::Malformed { detail };
        let head: Head =
            serde_json::from_slice(bytes).map_err(|fault| malformed(fault.to_string()))?;
        if head.format != FORMAT || head.version != VERSION {
            let format = head.format.chars().take(80).collect();
            return Err(TrustFault::Version { format, version: head.version });
        }
        let trust: Self =
            serde_json::from_slice(bytes).map_err(|fault| malformed(fault.to_string()))?;
        if let Some(root) = &trust.registry
            && [&root.proxy_images, &root.worker_images, &root.models]
                .iter()
                .any(|list| list.len() > HASHES_MAX)
        {
            return Err(malformed("a list of the registry is too long".to_owned()));
        }
        // Images and models come from the registry, whatever the policy requires of them.
        let mut filled = trust.policy.clone();
        for (claim, list) in
            [(ClaimKind::Image, &mut filled.image_hashes), (ClaimKind::Weights, &mut filled.models)]
        {
            if list.is_empty() && filled.required.contains(&claim) {
                list.push(Digest32::ZERO);
            }
        }
        filled.check().map_err(|fault| TrustFault::Policy { detail: fault.to_string() })?;
        Ok(trust)
    }

    /// Writes the file.
    ///
    /// # Errors
    /// Never for trust that was read or made here; the text is the library's.
    pub fn write(&self) -> Result<Vec<u8>, TrustFault> {
        serde_json::to_vec_pretty(self)
            .map_err(|fault| TrustFault::Malformed { detail: fault.to_string() })
    }

    /// Whoever judges now, by the nonce it has just drawn; `now_ms` is its clock, `at_ms` another
    /// date that it wants to judge at, both Unix milliseconds.
    #[must_use]
    pub fn now(&self, nonce: Digest32, now_ms: u64, at_ms: Option<u64>) -> Asker {
        Asker {
            policy: self.policy.clone(),
            nonce: Some(nonce),
            root: self.registry.clone(),
            now_ms: at_ms.unwrap_or(now_ms),
            date_is_now: at_ms.is_none(),
        }
    }

    /// Whoever judges something saved, at its own date `made_ms` unless another is named.
    #[must_use]
    pub fn later(&self, nonce: Option<Digest32>, made_ms: u64, at_ms: Option<u64>) -> Asker {
        Asker {
            policy: self.policy.clone(),
            nonce,
            root: self.registry.clone(),
            now_ms: at_ms.unwrap_or(made_ms),
            date_is_now: false,
        }
    }
}
