//! The public keys in which chains of evidence may end.

use serde::{Deserialize, Serialize};

use crate::digest::{Digest, Digest48};

/// Digests of trusted root keys. Only these differ between the production network and the
/// simulated platform.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrustRoots {
    /// SHA-384 of the 65-byte uncompressed point of the SGX root CA key, which the protocol
    /// calls the collateral root hash (protocol notes 2.8).
    pub tdx: Vec<Digest48>,
    /// SHA-384 of the `SubjectPublicKeyInfo` of AMD root keys.
    pub snp: Vec<Digest48>,
    /// SHA-384 of the `SubjectPublicKeyInfo` of the GPU maker's device root.
    pub gpu: Vec<Digest48>,
}

/// Intel SGX Root CA (protocol notes 2.8).
const INTEL_SGX_ROOT: &str = "46e403bd34f05a3f2817ab9badcaacc7ffc98e0f261008cd30dae936cace18d5\
                              dcf58eef31463613de1570d516200993";

impl TrustRoots {
    /// Returns the roots of the makers of real hardware.
    #[must_use]
    pub fn production() -> Self {
        Self {
            tdx: digests(&[INTEL_SGX_ROOT]),
            snp: digests(&[]),
            gpu: digests(&[]),
        }
    }
}

fn digests(texts: &[&str]) -> Vec<Digest48> {
    texts.iter().filter_map(|text| Digest::read("root", text).ok()).collect()
}
