//! Image hashes: SHA-256 over measurements (protocol notes 2.7).
//!
//! Report data takes part as 64 zero bytes, so the hash does not depend on the TLS key.
//! TCB versions, the module's measurement and attributes are not covered.

use cocoon_units::ImageHash;
use sha2::{Digest as _, Sha256};

/// A register of 48 bytes.
pub type Register = [u8; 48];

/// What an Intel TDX machine has measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TdxMeasurements {
    /// Initial content of the machine.
    pub mr_td: Register,
    /// Configuration given by the host.
    pub mr_config_id: Register,
    /// Owner given by the host.
    pub mr_owner: Register,
    /// Owner's configuration given by the host.
    pub mr_owner_config: Register,
    /// Registers 0..=3 that the machine extends.
    pub rtmr: [Register; 4],
}

impl TdxMeasurements {
    /// All zero: what a machine without attestation counts as.
    pub const ZERO: Self = Self {
        mr_td: [0; 48],
        mr_config_id: [0; 48],
        mr_owner: [0; 48],
        mr_owner_config: [0; 48],
        rtmr: [[0; 48]; 4],
    };

    /// The image hash.
    #[must_use]
    pub fn image_hash(&self) -> ImageHash {
        let [rtmr0, rtmr1, rtmr2, rtmr3] = &self.rtmr;
        let head = [&self.mr_td, &self.mr_config_id, &self.mr_owner, &self.mr_owner_config];
        hash(head.into_iter().chain([rtmr0, rtmr1, rtmr2, rtmr3]).map(<[u8; 48]>::as_slice))
    }
}

/// Image hash of an AMD SEV-SNP machine from its launch measurement.
#[must_use]
pub fn sev_image_hash(measurement: &Register) -> ImageHash {
    hash([measurement.as_slice()])
}

/// Image hash of an Intel SGX enclave from its measurement.
#[must_use]
pub fn sgx_image_hash(mr_enclave: &[u8; 32]) -> ImageHash {
    hash([mr_enclave.as_slice()])
}

/// SHA-256 over the parts and 64 zero bytes.
fn hash<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> ImageHash {
    let hash = parts.into_iter().fold(Sha256::new(), |hash, part| hash.chain_update(part));
    ImageHash(hash.chain_update([0; 64]).finalize().into())
}
