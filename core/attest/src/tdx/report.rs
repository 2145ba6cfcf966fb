//! The parts of a TDX quote that are read without trusting it (protocol notes 2.8).
//!
//! Layout: Intel TDX DCAP quoting library, quote formats 4 and 5.

use crate::digest::Digest48;
use crate::fault::BadEvidence;
use crate::measurement::TdMeasurement;

/// TEE type of a TDX guest.
const TEE_TDX: u32 = 0x81;

/// Length of the quote header in bytes.
const HEADER_LEN: usize = 48;

/// Length of a TD 1.0 report body in bytes; every later body begins with it.
const TD10_LEN: usize = 584;

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
        let mut reader = Reader { rest: quote };
        let version = reader.u16()?;
        let _key_type = reader.u16()?;
        let tee_type = reader.u32()?;
        if tee_type != TEE_TDX {
            return Err(BadEvidence::WrongTee { tee_type });
        }
        reader.skip(HEADER_LEN - 8)?;
        match version {
            4 => {}
            5 => {
                let body_type = reader.u16()?;
                let len = reader.u32()?;
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
        Self::read_body(version, reader.take(TD10_LEN)?)
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

    fn read_body(version: u16, body: &[u8]) -> Result<Self, BadEvidence> {
        let mut reader = Reader { rest: body };
        Ok(Self {
            version,
            tee_tcb_svn: reader.array()?,
            mr_seam: Digest48::from(reader.array()?),
            mr_signer_seam: Digest48::from(reader.array()?),
            seam_attributes: u64::from_le_bytes(reader.array()?),
            td_attributes: u64::from_le_bytes(reader.array()?),
            xfam: u64::from_le_bytes(reader.array()?),
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

/// Takes bytes from the front.
struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], BadEvidence> {
        let (head, rest) = self
            .rest
            .split_at_checked(len)
            .ok_or_else(|| malformed(format!("it ends {} bytes early", len - self.rest.len())))?;
        self.rest = rest;
        Ok(head)
    }

    fn skip(&mut self, len: usize) -> Result<(), BadEvidence> {
        self.take(len).map(|_| ())
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], BadEvidence> {
        self.take(N)?.try_into().map_err(|_| malformed("it ends early".to_owned()))
    }

    fn u16(&mut self) -> Result<u16, BadEvidence> {
        self.array().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Result<u32, BadEvidence> {
        self.array().map(u32::from_le_bytes)
    }
}

fn malformed(detail: String) -> BadEvidence {
    BadEvidence::Malformed { what: "the TDX quote", detail }
}
