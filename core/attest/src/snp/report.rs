//! The attestation report of SEV-SNP.
//!
//! Layout: AMD SEV Secure Nested Paging Firmware ABI Specification (56860), table
//! `ATTESTATION_REPORT`, versions 2 to 5.

use super::SnpProduct;
use super::vcek::SnpTcb;
use crate::digest::Digest48;
use crate::fault::BadEvidence;

/// Length of a report in bytes.
pub const REPORT_LEN: usize = 1184;

/// Bytes that the signature covers.
const SIGNED_LEN: usize = 0x2a0;

/// ECDSA on P-384 with SHA-384.
const ECDSA_P384: u32 = 1;

/// What the guest's owner allowed at launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuestPolicy(pub u64);

impl GuestPolicy {
    const SMT: u64 = 1 << 16;
    const RESERVED_ONE: u64 = 1 << 17;
    const MIGRATION: u64 = 1 << 18;
    const DEBUG: u64 = 1 << 19;

    /// Says whether the host may debug the guest.
    #[must_use]
    pub const fn debug(self) -> bool {
        self.0 & Self::DEBUG != 0
    }

    /// Says whether simultaneous multithreading is allowed.
    #[must_use]
    pub const fn smt(self) -> bool {
        self.0 & Self::SMT != 0
    }

    /// Says whether a migration agent may be associated.
    #[must_use]
    pub const fn migration(self) -> bool {
        self.0 & Self::MIGRATION != 0
    }

    /// Says whether the bit that must be one is one.
    #[must_use]
    pub const fn well_formed(self) -> bool {
        self.0 & Self::RESERVED_ONE != 0
    }
}

/// What a report states. Nothing of it is verified here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnpReport {
    /// Version of the layout.
    pub version: u32,
    /// What the owner allowed.
    pub policy: GuestPolicy,
    /// Privilege level of the requester.
    pub vmpl: u32,
    /// What the requester asked to be covered.
    pub report_data: [u8; 64],
    /// Launch measurement.
    pub measurement: Digest48,
    /// Data of the host; not part of the image hash.
    pub host_data: [u8; 32],
    /// Versions the VCEK was derived for, raw: their order differs by generation.
    pub reported_tcb: [u8; 8],
    /// Name of the chip.
    pub chip_id: [u8; 64],
    /// Whether the chip id was masked by the host.
    pub chip_id_masked: bool,
    /// Which key signed: 0 VCEK, 1 VLEK, 7 none.
    pub signing_key: u32,
}

impl SnpReport {
    /// Reads a report.
    ///
    /// # Errors
    /// Another length, an unknown version, another signature algorithm.
    pub fn read(report: &[u8]) -> Result<Self, BadEvidence> {
        if report.len() != REPORT_LEN {
            return Err(malformed(format!("{} bytes instead of {REPORT_LEN}", report.len())));
        }
        let version = u32::from_le_bytes(field(report, 0)?);
        if !(2..=5).contains(&version) {
            return Err(malformed(format!("version {version}")));
        }
        let algorithm = u32::from_le_bytes(field(report, 0x34)?);
        if algorithm != ECDSA_P384 {
            return Err(malformed(format!("signature algorithm {algorithm}")));
        }
        let flags = u32::from_le_bytes(field(report, 0x48)?);
        Ok(Self {
            version,
            policy: GuestPolicy(u64::from_le_bytes(field(report, 0x08)?)),
            vmpl: u32::from_le_bytes(field(report, 0x30)?),
            report_data: field(report, 0x50)?,
            measurement: Digest48::from(field(report, 0x90)?),
            host_data: field(report, 0xc0)?,
            reported_tcb: field(report, 0x180)?,
            chip_id: field(report, 0x1a0)?,
            chip_id_masked: flags & 2 != 0,
            signing_key: flags >> 2 & 7,
        })
    }

    /// Returns the reported versions in the order of `product`.
    #[must_use]
    pub fn tcb(&self, product: SnpProduct) -> SnpTcb {
        SnpTcb::from_report(product, self.reported_tcb)
    }
}

/// Returns the bytes that the signature covers.
pub(super) fn signed(report: &[u8]) -> Result<&[u8], BadEvidence> {
    report.get(..SIGNED_LEN).ok_or_else(|| malformed("it ends early".to_owned()))
}

/// Returns the signature as `r ‖ s`, 48 bytes each, big endian; the report has 72 bytes
/// each, little endian.
pub(super) fn signature(report: &[u8]) -> Result<[u8; 96], BadEvidence> {
    let r: [u8; 72] = field(report, SIGNED_LEN)?;
    let s: [u8; 72] = field(report, SIGNED_LEN + 72)?;
    let mut out = [0; 96];
    for (half, number) in out.chunks_exact_mut(48).zip([r, s]) {
        let (low, high) = number.split_at(48);
        if high.iter().any(|byte| *byte != 0) {
            return Err(malformed("a number of the signature is too large".to_owned()));
        }
        for (to, from) in half.iter_mut().zip(low.iter().rev()) {
            *to = *from;
        }
    }
    Ok(out)
}

fn field<const N: usize>(report: &[u8], at: usize) -> Result<[u8; N], BadEvidence> {
    report
        .get(at..)
        .and_then(|rest| rest.first_chunk::<N>())
        .copied()
        .ok_or_else(|| malformed(format!("it ends before {at:#x}")))
}

fn malformed(detail: String) -> BadEvidence {
    BadEvidence::Malformed { what: "the SEV-SNP report", detail }
}
