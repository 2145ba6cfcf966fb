//! The image hash of a file of evidence, part by part (protocol notes, wire 2.7 and 2.8).
//!
//! Nothing here is verified: it says what a file states and how the hash comes from it.

use crate::digest::{Digest32, Digest48};
use crate::fault::BadEvidence;
use crate::measurement::{Measurement, TdMeasurement};
use crate::snp::{REPORT_LEN, SnpReport};
use crate::tdx::TdReport;

/// Length of a TD report, which a guest gets from its device.
const TD_REPORT_LEN: usize = 1024;
/// Where the guest's registers stand in a TD report: behind attributes and features.
const TD_REPORT_REGISTERS: usize = 512 + 16;
/// Where an enclave's measurement stands in an SGX quote.
const SGX_MR_ENCLAVE: usize = 48 + 64;

/// One part of what is hashed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImagePart {
    /// Its name in the makers' documents.
    pub name: &'static str,
    /// What it covers.
    pub covers: &'static str,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// What a file of evidence says about an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageReading {
    /// What kind of file it is.
    pub kind: &'static str,
    /// What is hashed, in order.
    pub parts: Vec<ImagePart>,
    /// The image hash.
    pub hash: Digest32,
}

impl ImageReading {
    /// Reads a TDX quote (version 4 or 5), a TD report, a SEV-SNP report or an SGX quote.
    ///
    /// # Errors
    /// [`BadEvidence`]: none of these.
    pub fn of_file(bytes: &[u8]) -> Result<Self, BadEvidence> {
        if bytes.len() == REPORT_LEN {
            let report = SnpReport::read(bytes)?;
            return Ok(Self::of("SEV-SNP report", &Measurement::Snp(report.measurement)));
        }
        if bytes.len() == TD_REPORT_LEN && bytes.starts_with(&[0x81]) {
            let measurement = td_report(bytes)?;
            return Ok(Self::of("TD report", &Measurement::Td(Box::new(measurement))));
        }
        if bytes.get(4..8) == Some(&[0; 4])
            && let Some(mr_enclave) =
                bytes.get(SGX_MR_ENCLAVE..).and_then(|rest| rest.first_chunk())
        {
            return Ok(Self::of_enclave(mr_enclave));
        }
        let report = TdReport::read(bytes)?;
        Ok(Self::of("TDX quote", &Measurement::Td(Box::new(report.measurement))))
    }

    /// Explains measurements that are known already.
    #[must_use]
    pub fn of(kind: &'static str, measurement: &Measurement) -> Self {
        let mut parts = match measurement {
            Measurement::Td(td) => td_parts(td),
            Measurement::Snp(launch) => vec![part(
                "MEASUREMENT",
                "firmware, kernel, command line and initial memory at launch",
                &launch.0,
            )],
        };
        parts.push(zeros());
        Self { kind, parts, hash: measurement.image_hash() }
    }

    fn of_enclave(mr_enclave: &[u8; 32]) -> Self {
        let parts = vec![part("MRENCLAVE", "code and data of the enclave", mr_enclave), zeros()];
        Self { kind: "SGX quote", parts, hash: Digest32::sha256(&[mr_enclave, &[0; 64]]) }
    }
}

fn td_parts(td: &TdMeasurement) -> Vec<ImagePart> {
    let [rtmr0, rtmr1, rtmr2, rtmr3] = &td.rtmr;
    vec![
        part("MRTD", "firmware that the guest starts with", &td.mr_td.0),
        part("MRCONFIGID", "configuration that the host gave", &td.mr_config_id.0),
        part("MROWNER", "owner that the host named", &td.mr_owner.0),
        part("MROWNERCONFIG", "owner's configuration that the host gave", &td.mr_owner_config.0),
        part("RTMR0", "firmware's own configuration: memory, ACPI tables, variables", &rtmr0.0),
        part("RTMR1", "boot loader and kernel", &rtmr1.0),
        part("RTMR2", "kernel's command line, initial file system, root hash", &rtmr2.0),
        part("RTMR3", "what the image extends itself: spec, debug mode, end of boot", &rtmr3.0),
    ]
}

fn part(name: &'static str, covers: &'static str, bytes: &[u8]) -> ImagePart {
    ImagePart { name, covers, bytes: bytes.to_vec() }
}

fn zeros() -> ImagePart {
    let covers = "report data, counted as zero: the hash does not depend on a key";
    part("REPORTDATA", covers, &[0; 64])
}

fn td_report(bytes: &[u8]) -> Result<TdMeasurement, BadEvidence> {
    let mut rest = bytes.get(TD_REPORT_REGISTERS..).unwrap_or_default();
    let mut register = || {
        let (head, after) = rest.split_first_chunk::<48>().ok_or_else(|| {
            let detail = "it ends early".to_owned();
            BadEvidence::Malformed { what: "the TD report", detail }
        })?;
        rest = after;
        Ok(Digest48::from(*head))
    };
    Ok(TdMeasurement {
        mr_td: register()?,
        mr_config_id: register()?,
        mr_owner: register()?,
        mr_owner_config: register()?,
        rtmr: [register()?, register()?, register()?, register()?],
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failure fails the test")]

    use super::*;

    #[test]
    fn the_hash_is_that_of_the_parts() {
        let mut report = vec![0; 1024];
        report[0] = 0x81;
        let reading = ImageReading::of_file(&report).unwrap();
        // Protocol notes 2.7: 448 zero bytes.
        let zero = "5c55c8f4db4010ba9203d83536d0609856af8c847ac039e37e7dde8fbd574b61";
        assert_eq!(reading.hash.to_string(), zero);
        (512 + 16..512 + 16 + 384).for_each(|at| report[at] = at as u8);
        let reading = ImageReading::of_file(&report).unwrap();
        let parts: Vec<&[u8]> = reading.parts.iter().map(|part| part.bytes.as_slice()).collect();
        assert_eq!(parts.iter().map(|part| part.len()).sum::<usize>(), 448);
        assert_eq!(Digest32::sha256(&parts), reading.hash);
        // Report data and everything else of the report take no part.
        report[128] ^= 1;
        report[512] ^= 1;
        assert_eq!(ImageReading::of_file(&report).unwrap().hash, reading.hash);
        ImageReading::of_file(b"short").unwrap_err();
        ImageReading::of_file(&[1; 700]).unwrap_err();
    }
}
