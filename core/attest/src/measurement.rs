//! What a TEE measured, and the image hash made of it.

use serde::{Deserialize, Serialize};

use crate::digest::{Digest32, Digest48};

/// The registers of a TDX guest, in the order of the protocol.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TdMeasurement {
    /// Measurement of the initial contents.
    pub mr_td: Digest48,
    /// Configuration chosen by the host.
    pub mr_config_id: Digest48,
    /// Owner chosen by the host.
    pub mr_owner: Digest48,
    /// Owner's configuration chosen by the host.
    pub mr_owner_config: Digest48,
    /// Runtime registers 0 to 3.
    pub rtmr: [Digest48; 4],
}

/// What was measured, by kind of platform.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Measurement {
    /// A TDX guest.
    Td(Box<TdMeasurement>),
    /// A SEV-SNP guest: its launch measurement.
    Snp(Digest48),
}

impl TdMeasurement {
    /// Returns the eight registers, 384 bytes, in the order of the image hash.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; 384] {
        let mut bytes = [0; 384];
        let [rtmr0, rtmr1, rtmr2, rtmr3] = &self.rtmr;
        let fields = [
            &self.mr_td,
            &self.mr_config_id,
            &self.mr_owner,
            &self.mr_owner_config,
            rtmr0,
            rtmr1,
            rtmr2,
            rtmr3,
        ];
        for (chunk, field) in bytes.chunks_exact_mut(48).zip(fields) {
            chunk.copy_from_slice(&field.0);
        }
        bytes
    }
}

impl Measurement {
    /// Returns the image hash that the root contract lists (protocol notes 2.7): SHA-256 over
    /// the measurements and 64 zero bytes in place of the report data.
    #[must_use]
    pub fn image_hash(&self) -> Digest32 {
        match self {
            Self::Td(td) => Digest32::sha256(&[&td.to_bytes(), &[0; 64]]),
            Self::Snp(measurement) => Digest32::sha256(&[&measurement.0, &[0; 64]]),
        }
    }
}
