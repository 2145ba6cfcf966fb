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

/// AMD root keys, as their key distribution service publishes them.
const AMD_ARK_MILAN: &str = "1249f67f15cf229a4069195e1a9ce537d1765ef706a1f4a123c36be951878651\
                             5d25ecc007f366b564d2b3f31c48082e";
const AMD_ARK_GENOA: &str = "32ab53a6ce5ec14926207396e5c475ae768a6a9831b7e860b5acf2e1c1dff222\
                             bc5a8bfc43eb5e06393189c1f246d880";
const AMD_ARK_TURIN: &str = "3475f08a9727f8ac9a1deaea5f2a2097aa59d64d05c2a678c229c873e6359d3a\
                             6926287a2a22cd5f88a385e333a2fcc5";

/// NVIDIA Device Identity CA, as its verifier package publishes it.
const NVIDIA_DEVICE_IDENTITY: &str = "e108f61de3fce5261151f8a0eb562a920639ef1b0fcebba785ee52f5\
                                      4420e4248be3400366d45c2880bdf13044325393";

impl TrustRoots {
    /// Returns the roots of the makers of real hardware.
    #[must_use]
    pub fn production() -> Self {
        Self {
            tdx: digests(&[INTEL_SGX_ROOT]),
            snp: digests(&[AMD_ARK_MILAN, AMD_ARK_GENOA, AMD_ARK_TURIN]),
            gpu: digests(&[NVIDIA_DEVICE_IDENTITY]),
        }
    }
}

fn digests(texts: &[&str]) -> Vec<Digest48> {
    texts.iter().filter_map(|text| Digest::read("root", text).ok()).collect()
}
