//! What lies in the vTPM: a header, the processor's report, the runtime data.
//!
//! Microsoft, "Confidential VM guest attestation design", attestation report format: header of 32
//! bytes (`HCLA`, version, sizes), hardware report in 1184 bytes, then 20 bytes of sizes and kinds and
//! the runtime data. Integers are little endian.

use cocoon_attest::BadEvidence;
use cocoon_attest::runtime::RUNTIME_DATA_LIMIT;

const SIGNATURE: [u8; 4] = *b"HCLA";
const HEADER_LEN: usize = 32;
const HARDWARE_LEN: usize = 1184;
const TD_REPORT_LEN: usize = 1024;
const KIND_SNP: u32 = 2;
const KIND_TDX: u32 = 4;
const HASH_SHA256: u32 = 1;

/// Which processor's report it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HclTee {
    /// A TD report, to be turned into a quote.
    Tdx,
    /// A SEV-SNP report.
    Snp,
}

/// A report of the paravisor, taken apart; nothing in it was verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HclReport {
    /// Whose report.
    pub tee: HclTee,
    /// The processor's report.
    pub hardware: Vec<u8>,
    /// The text whose SHA-256 the report names.
    pub runtime_data: Vec<u8>,
}

impl HclReport {
    /// Reads the content of the NV index; what follows the runtime data is padding.
    ///
    /// # Errors
    /// [`BadEvidence::Malformed`]: this is no machine of Azure, or of another version.
    pub fn read(bytes: &[u8]) -> Result<Self, BadEvidence> {
        let malformed = |detail: &str| BadEvidence::Malformed {
            what: "the paravisor's report",
            detail: detail.to_owned(),
        };
        let early = || malformed("it ends early");
        if bytes.get(..4).ok_or_else(early)? != SIGNATURE {
            return Err(malformed("it does not begin with HCLA"));
        }
        let word = |at: usize| {
            let four = bytes.get(at..at + 4)?.try_into().ok()?;
            Some(u32::from_le_bytes(four))
        };
        let sizes = HEADER_LEN + HARDWARE_LEN;
        let (kind, hash) = (word(sizes + 8), word(sizes + 12));
        let (tee, len) = match kind.ok_or_else(early)? {
            KIND_SNP => (HclTee::Snp, HARDWARE_LEN),
            KIND_TDX => (HclTee::Tdx, TD_REPORT_LEN),
            _ => return Err(malformed("the kind of its hardware report is unknown")),
        };
        if hash.ok_or_else(early)? != HASH_SHA256 {
            return Err(malformed("its runtime data are not hashed with SHA-256"));
        }
        let text_len = word(sizes + 16).and_then(|len| usize::try_from(len).ok());
        let text_len = text_len.ok_or_else(early)?;
        if text_len > RUNTIME_DATA_LIMIT {
            return Err(malformed("its runtime data are too long"));
        }
        let hardware = bytes.get(HEADER_LEN..HEADER_LEN + len).ok_or_else(early)?;
        let text = bytes.get(sizes + 20..sizes + 20 + text_len).ok_or_else(early)?;
        Ok(Self { tee, hardware: hardware.to_vec(), runtime_data: text.to_vec() })
    }
}
