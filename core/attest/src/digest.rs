//! Digests of 32 and 48 bytes that read and print as hexadecimal.

use std::fmt;

use base64::Engine as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256, Sha384};

use crate::fault::PolicyFault;

/// A digest of `N` bytes. Prints as lower-case hex; reads hex or standard base64, since the
/// protocol writes image hashes in base64 (protocol notes 2.7).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest<const N: usize>(pub [u8; N]);

/// SHA-256 and everything else of 32 bytes.
pub type Digest32 = Digest<32>;

/// SHA-384 and the measurement registers of TDX and SEV-SNP.
pub type Digest48 = Digest<48>;

impl<const N: usize> Digest<N> {
    /// All bytes zero.
    pub const ZERO: Self = Self([0; N]);

    /// Reads hex or standard base64.
    ///
    /// # Errors
    /// Anything that is not exactly `N` bytes of either; `field` names the place for the
    /// message.
    pub fn read(field: &'static str, text: &str) -> Result<Self, PolicyFault> {
        let fault = || PolicyFault::Digest { field, value: text.to_owned(), bytes: N };
        let bytes = if text.len() == N * 2 {
            hex::decode(text).map_err(|_| fault())?
        } else {
            base64::engine::general_purpose::STANDARD.decode(text).map_err(|_| fault())?
        };
        bytes.try_into().map(Self).map_err(|_| fault())
    }

    /// Says whether every byte is zero.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        self.0.iter().all(|byte| *byte == 0)
    }

    /// Returns standard base64, the form of image hashes in configurations.
    #[must_use]
    pub fn to_base64(&self) -> String {
        base64::engine::general_purpose::STANDARD.encode(self.0)
    }
}

impl Digest32 {
    /// Returns the SHA-256 of `parts`, one after the other.
    #[must_use]
    pub fn sha256(parts: &[&[u8]]) -> Self {
        let mut hasher = Sha256::new();
        for part in parts {
            hasher.update(part);
        }
        Self(hasher.finalize().into())
    }
}

impl Digest48 {
    /// Returns the SHA-384 of `parts`, one after the other.
    #[must_use]
    pub fn sha384(parts: &[&[u8]]) -> Self {
        let mut hasher = Sha384::new();
        for part in parts {
            hasher.update(part);
        }
        Self(hasher.finalize().into())
    }
}

impl<const N: usize> From<[u8; N]> for Digest<N> {
    fn from(bytes: [u8; N]) -> Self {
        Self(bytes)
    }
}

impl<const N: usize> Default for Digest<N> {
    fn default() -> Self {
        Self::ZERO
    }
}

impl<const N: usize> fmt::Display for Digest<N> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&hex::encode(self.0))
    }
}

impl<const N: usize> fmt::Debug for Digest<N> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

impl<const N: usize> Serialize for Digest<N> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(self.0))
    }
}

impl<'de, const N: usize> Deserialize<'de> for Digest<N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::read("digest", &text).map_err(serde::de::Error::custom)
    }
}
