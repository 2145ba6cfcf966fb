//! The parts of a TDX quote that are read without trusting it (protocol notes 2.8).
//!
//! Layout: Intel TDX DCAP quoting library, quote formats 4 and 5.

use crate::codec::{Malformed, Reader};
use crate::digest::Digest48;
use crate::fault::BadEvidence;
use crate::measurement::TdMeasurement;

/// TEE type of a TDX guest.
const TEE_TDX: u32 = 0x81;

/// Length of the quote header in bytes.
const HEADER_LEN: usize = 48;

const DEBUG: u64 = 1;
const PROFILING: u64 = 0x70;
const SEPT_VE_DISABLE: u64 = 1 << 28;
const MIGRATABLE: u64 = 1 << 29;

/// What a TDX quote states about its guest. Nothing of it is verified here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TdReport {
    /// Version of the quote, 4 or 5.
    pub version: u16,
    /// Versions of the TDX module and its parts.
    pub tee_tcb_svn: [u8; 16],
    /// Measurement of the TDX module.
    pub mr_seam: Digest48,
    /// Signer of the TDX module; zero for Intel's.
    pub mr_signer_seam: Digest48,
    /// Attributes of the TDX module.
    pub seam_attributes: u64,
    /// Attributes of the guest.
    pub td_attributes: u64,
    /// Extended features the guest may use.
    pub xfam: u64,
    /// The registers that make the image hash.
    pub measurement: TdMeasurement,
    /// What the guest asked to be covered.
    pub report_data: [u8; 64],
}

impl TdReport {
    /// Reads the header and the body of a quote of version 4 or 5.
    ///
    /// # Errors
    /// Anything that is not a TDX quote of these versions: refuse the peer.
    pub fn read(quote: &[u8]) -> Result<Self, BadEvidence> {
        let mut reader = Reader::new(quote);
        let version = reader.u16_le().map_err(short)?;
        let _key_type = reader.u16_le().map_err(short)?;
        let tee_type = reader.u32_le().map_err(short)?;
        if tee_type != TEE_TDX {
            return Err(BadEvidence::WrongTee { tee_type });
        }
        reader.take(HEADER_LEN - 8).map_err(short)?;
        match version {
            4 => {}
            5 => {
                let body_type = reader.u16_le().map_err(short)?;
                let len = reader.u32_le().map_err(short)?;
                let expected = match body_type {
                    2 => 584,
                    3 => 648,
                    4 => 885,
                    1 => return Err(BadEvidence::WrongTee { tee_type: 0 }),
                    other => return Err(malformed(format!("body type {other}"))),
                };
                if len != expected {
                    return Err(malformed(format!(
                        "a body of type {body_type} has {expected} bytes, not {len}"
                    )));
                }
            }
            other => return Err(malformed(format!("quote version {other}"))),
        }
        Self::read_body(version, &mut reader).map_err(short)
    }

    /// Says whether the host can look into the guest.
    #[must_use]
    pub fn debug(&self) -> Option<&'static str> {
        if self.td_attributes & DEBUG != 0 {
            Some("the TD attribute DEBUG is set")
        } else if self.td_attributes & PROFILING != 0 {
            Some("a profiling bit of the TD attributes is set")
        } else {
            None
        }
    }

    /// Checks the attributes that no policy may relax.
    pub(crate) fn attributes(&self) -> Result<(), BadEvidence> {
        let refused = |what, found: bool, required: bool| {
            Err(BadEvidence::Attribute {
                what,
                found: found.to_string(),
                required: required.to_string(),
            })
        };
        if self.td_attributes & MIGRATABLE != 0 {
            return refused("TD migration", true, false);
        }
        if self.td_attributes & SEPT_VE_DISABLE == 0 {
            return refused("SEPT_VE_DISABLE", false, true);
        }
        Ok(())
    }

    /// Reads a body of TD 1.0, 584 bytes; every later body begins with it.
    fn read_body(version: u16, reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            version,
            tee_tcb_svn: reader.array()?,
            mr_seam: Digest48::from(reader.array()?),
            mr_signer_seam: Digest48::from(reader.array()?),
            seam_attributes: reader.u64_le()?,
            td_attributes: reader.u64_le()?,
            xfam: reader.u64_le()?,
            measurement: TdMeasurement {
                mr_td: Digest48::from(reader.array()?),
                mr_config_id: Digest48::from(reader.array()?),
                mr_owner: Digest48::from(reader.array()?),
                mr_owner_config: Digest48::from(reader.array()?),
                rtmr: [
                    Digest48::from(reader.array()?),
                    Digest48::from(reader.array()?),
                    Digest48::from(reader.array()?),
                    Digest48::from(reader.array()?),
                ],
            },
            report_data: reader.array()?,
        })
    }
}

fn malformed(detail: String) -> BadEvidence {
    BadEvidence::Malformed { what: "the TDX quote", detail }
}

fn short(fault: Malformed) -> BadEvidence {
    fault.of("the TDX quote")
}
