//! Reports of Azure's confidential machines, whose report data name a text of the machine's vTPM.
//!
//! There the guest cannot ask the processor itself: a paravisor of the cloud's maker does, over
//! SHA-256 of its *runtime data*, a JSON text that holds the vTPM's keys and 64 bytes that the guest
//! chose (`user-data`, in hex). The text travels beside the report. Sources: Microsoft,
//! "Confidential VM guest attestation design", attestation report format and runtime claims.
//!
//! What the report measures is the paravisor and its firmware, not what the guest booted: that
//! stands in the vTPM's registers ([`crate::vtpm`]). So an image is shown this way only where the policy
//! lists the paravisor and registers of its vTPM ([`crate::vtpm::VtpmPolicy`]).

use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::fault::BadEvidence;

/// Longest runtime data accepted, in bytes; Azure's have less than two thousand.
pub const RUNTIME_DATA_LIMIT: usize = 16 * 1024;

/// What is read of it.
#[derive(Deserialize)]
struct Claims {
    #[serde(rename = "user-data")]
    user_data: String,
}

/// Returns the 64 bytes that the guest chose, when the report covers the runtime data that holds
/// them.
///
/// # Errors
/// [`BadEvidence`]: the text is too long, is not the one that the report names, or holds no such
/// bytes.
pub fn user_data(runtime_data: &[u8], report_data: &[u8; 64]) -> Result<[u8; 64], BadEvidence> {
    let mut named = [0; 64];
    named[..32].copy_from_slice(&Sha256::digest(runtime_data));
    if !bool::from(named.ct_eq(report_data)) {
        return Err(BadEvidence::NotBound { expected: "the runtime data beside it" });
    }
    stated_user_data(runtime_data)
}

/// Returns the 64 bytes that the text names, whether or not a report covers it.
pub(crate) fn stated_user_data(runtime_data: &[u8]) -> Result<[u8; 64], BadEvidence> {
    let what = "the runtime data";
    let malformed = |detail: &str| BadEvidence::Malformed { what, detail: detail.to_owned() };
    if runtime_data.len() > RUNTIME_DATA_LIMIT {
        let (len, limit) = (runtime_data.len(), RUNTIME_DATA_LIMIT);
        return Err(BadEvidence::TooLong { what, len, limit });
    }
    let claims: Claims = serde_json::from_slice(runtime_data)
        .map_err(|_| malformed("it is no JSON with a text user-data"))?;
    let mut chosen = [0; 64];
    hex::decode_to_slice(&claims.user_data, &mut chosen)
        .map_err(|_| malformed("user-data are not 64 bytes in hex"))?;
    Ok(chosen)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(user_data: &str) -> Vec<u8> {
        format!(r#"{{"keys":[],"vm-configuration":{{}},"user-data":"{user_data}"}}"#).into_bytes()
    }

    fn over(runtime_data: &[u8]) -> [u8; 64] {
        let mut report_data = [0; 64];
        report_data[..32].copy_from_slice(&Sha256::digest(runtime_data));
        report_data
    }

    #[test]
    fn what_the_guest_chose_is_read_in_either_case() {
        for hex in ["AB".repeat(64), "ab".repeat(64)] {
            let runtime_data = text(&hex);
            assert_eq!(user_data(&runtime_data, &over(&runtime_data)), Ok([0xab; 64]));
        }
    }

    #[test]
    fn every_other_text_is_refused() {
        let good = text(&"ab".repeat(64));
        let mut other = over(&good);
        other[63] = 1;
        assert!(user_data(&good, &other).is_err(), "something behind the digest");
        let swapped = text(&"cd".repeat(64));
        assert!(user_data(&swapped, &over(&good)).is_err(), "a text of the guest's own making");
        for bad in [text("ab"), text("zz"), b"{}".to_vec(), Vec::new(), vec![b' '; 17 << 10]] {
            assert!(user_data(&bad, &over(&bad)).is_err());
        }
    }
}
