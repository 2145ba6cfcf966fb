//! NVIDIA GPU evidence: an SPDM measurement report and the device's certificate chain.
//!
//! The report shows which firmware runs and that the device made it for a nonce. That the
//! GPU sits in *this* machine is shown by the event log, where the digest of the evidence is
//! extended into a register before the workload starts, or by the channel statement, which
//! only measured code has signed. Whether confidential mode is on is what the driver of the
//! measured guest says; the digest covers that, too.
//!
//! A machine that extends the digest has another RTMR3 at every boot. Verifiers of this
//! crate that see the event log leave it out of the image hash; the reference cannot, so a
//! machine that is to serve reference peers relies on the statement alone.

mod judge;
mod known;
mod spdm;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::digest::{Digest32, Digest48};

pub(crate) use judge::judge;
pub use judge::{CheckedGpu, check};
pub(crate) use known::KnownGpus;
pub use spdm::{OpaqueField, SpdmReport};

/// First bytes of what [`GpuEvidence::digest`] covers.
const DIGEST_TAG: &[u8] = b"cocoon.gpu.v1";

/// Evidence of one GPU.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GpuEvidence {
    /// SPDM 1.1 `GET_MEASUREMENTS` request and response, as the driver returns them.
    #[serde(with = "crate::text")]
    pub report: Vec<u8>,
    /// Device certificate chain, PEM, leaf first, root last.
    #[serde(with = "crate::text")]
    pub chain_pem: Vec<u8>,
    /// Modes that the driver of the guest reports.
    pub mode: GpuMode,
}

/// Modes of a GPU, as its driver reports them to the guest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GpuMode {
    /// Confidential computing is on.
    pub confidential: bool,
    /// Developer tools are allowed to look inside.
    pub developer: bool,
}

impl GpuEvidence {
    /// Returns the digest that the event log and the channel statement name.
    #[must_use]
    pub fn digest(&self) -> Digest32 {
        let len = |bytes: &[u8]| u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_be_bytes();
        let mode = [u8::from(self.mode.confidential), u8::from(self.mode.developer)];
        Digest32::sha256(&[
            DIGEST_TAG,
            &mode,
            &len(&self.report),
            &self.report,
            &len(&self.chain_pem),
            &self.chain_pem,
        ])
    }
}

/// The measurements of one pair of driver and VBIOS, from the maker's signed reference
/// manifests (RIM), whose signatures whoever writes the policy has checked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GpuProfile {
    /// Name for people.
    pub name: String,
    /// Driver version, as the report states it.
    pub driver: String,
    /// VBIOS version, hex of the eight bytes of the report.
    pub vbios: String,
    /// Accepted digests by index of the measurement, from the driver's and the VBIOS's
    /// manifest together. At least one index.
    #[serde(with = "by_index")]
    pub measurements: BTreeMap<u8, Vec<Digest48>>,
}

/// What is accepted from GPUs. Without profiles no GPU passes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GpuPolicy {
    /// Accepted pairs of driver and VBIOS.
    pub profiles: Vec<GpuProfile>,
    /// SHA-384 of the `SubjectPublicKeyInfo` of certificates that are refused anywhere in a
    /// device's chain.
    pub revoked_keys: Vec<Digest48>,
    /// Whether the digest must stand in the measured event log. Otherwise the channel
    /// statement suffices, which measured code signs.
    pub require_measured: bool,
}

/// TOML and JSON know only texts as keys.
mod by_index {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

    use crate::digest::Digest48;

    pub(super) fn serialize<S: Serializer>(
        map: &BTreeMap<u8, Vec<Digest48>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let texts: BTreeMap<String, &Vec<Digest48>> =
            map.iter().map(|(index, list)| (index.to_string(), list)).collect();
        texts.serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeMap<u8, Vec<Digest48>>, D::Error> {
        BTreeMap::<String, Vec<Digest48>>::deserialize(deserializer)?
            .into_iter()
            .map(|(index, list)| {
                let index = index.parse().map_err(|_| D::Error::custom("index is not 0 to 255"))?;
                Ok((index, list))
            })
            .collect()
    }
}
