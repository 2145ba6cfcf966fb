//! The measurement report of a GPU.
//!
//! Layout: DMTF DSP0274 (SPDM 1.1), `GET_MEASUREMENTS` request and `MEASUREMENTS` response
//! with a signature of P-384; NVIDIA's opaque data are fields of u16 type, u16 length.

use std::collections::BTreeMap;

use crate::codec::{Malformed, Reader};
use crate::digest::Digest48;
use crate::fault::BadEvidence;

/// Longest report in bytes.
const REPORT_LIMIT: usize = 64 * 1024;

/// Length of a request with a nonce: version, code, two parameters, nonce, slot.
const REQUEST_LEN: usize = 37;

/// Length of the signature, `r ‖ s`.
const SIGNATURE_LEN: usize = 96;

const SPDM_11: u8 = 0x11;
const GET_MEASUREMENTS: u8 = 0xe0;
const MEASUREMENTS: u8 = 0x60;
const DMTF: u8 = 1;

/// Fields of NVIDIA's opaque data that are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum OpaqueField {
    /// Driver version, text.
    DriverVersion = 3,
    /// VBIOS version, eight bytes.
    VbiosVersion = 6,
    /// Digest of the firmware that the device's certificate was issued to.
    FirmwareId = 20,
}

/// What a report states. Nothing of it is verified here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpdmReport {
    /// Nonce of the request.
    pub nonce: [u8; 32],
    /// Measurements by index.
    pub measurements: BTreeMap<u8, Digest48>,
    /// Opaque fields by type.
    pub opaque: BTreeMap<u16, Vec<u8>>,
    /// How many bytes from the front the signature covers.
    pub(super) signed_len: usize,
    /// The signature, `r ‖ s`, 48 bytes each.
    pub(super) signature: [u8; SIGNATURE_LEN],
}

impl SpdmReport {
    /// Reads a request and its response.
    ///
    /// # Errors
    /// Anything that is not such a pair: refuse the GPU.
    pub fn read(report: &[u8]) -> Result<Self, BadEvidence> {
        if report.len() > REPORT_LIMIT {
            return Err(BadEvidence::TooLong {
                what: "the GPU report",
                len: report.len(),
                limit: REPORT_LIMIT,
            });
        }
        Self::parse(report).map_err(|fault| fault.of("the GPU report"))
    }

    fn parse(report: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(report);
        let nonce = request(&mut reader)?;
        let answer = "the response is not SPDM 1.1 MEASUREMENTS";
        expect(&mut reader, &[SPDM_11, MEASUREMENTS], answer)?;
        reader.take(2)?;
        let [blocks] = reader.array()?;
        let [a, b, c] = reader.array()?;
        let record_len = usize::from(a) | usize::from(b) << 8 | usize::from(c) << 16;
        let measurements = record(reader.take(record_len)?, blocks)?;
        // The responder's nonce; it adds nothing for the verifier.
        reader.take(32)?;
        let opaque_len = usize::from(reader.u16_le()?);
        let opaque = opaque_fields(reader.take(opaque_len)?)?;
        let signature = reader.array()?;
        reader.finish().map_err(|_| Malformed("bytes follow the signature"))?;
        let signed_len = report.len().saturating_sub(SIGNATURE_LEN);
        Ok(Self { nonce, measurements, opaque, signed_len, signature })
    }

    /// Returns an opaque field as text up to its first zero byte.
    #[must_use]
    pub fn text(&self, field: OpaqueField) -> Option<&str> {
        let bytes = self.opaque.get(&(field as u16))?;
        let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
        std::str::from_utf8(bytes.get(..end)?).ok()
    }

    /// Returns an opaque field.
    #[must_use]
    pub fn field(&self, field: OpaqueField) -> Option<&[u8]> {
        self.opaque.get(&(field as u16)).map(Vec::as_slice)
    }
}

/// Reads the request and returns its nonce.
fn request(reader: &mut Reader<'_>) -> Result<[u8; 32], Malformed> {
    let mut request = Reader::new(reader.take(REQUEST_LEN)?);
    let question = "the request is not SPDM 1.1 GET_MEASUREMENTS";
    expect(&mut request, &[SPDM_11, GET_MEASUREMENTS], question)?;
    request.take(2)?;
    request.array()
}

/// Reads the blocks of the measurement record.
fn record(bytes: &[u8], blocks: u8) -> Result<BTreeMap<u8, Digest48>, Malformed> {
    let mut reader = Reader::new(bytes);
    let mut measurements = BTreeMap::new();
    for _ in 0..blocks {
        let [index, specification] = reader.array()?;
        let len = usize::from(reader.u16_le()?);
        let mut block = Reader::new(reader.take(len)?);
        if specification != DMTF {
            return Err(Malformed("a measurement is not of the DMTF form"));
        }
        let [_value_type] = block.array()?;
        let value_len = usize::from(block.u16_le()?);
        if value_len != 48 || block.rest().len() != 48 {
            return Err(Malformed("a measurement is not of 48 bytes"));
        }
        if measurements.insert(index, Digest48::from(block.array()?)).is_some() {
            return Err(Malformed("a measurement occurs twice"));
        }
    }
    reader.finish().map_err(|_| Malformed("bytes follow the blocks"))?;
    Ok(measurements)
}

fn opaque_fields(bytes: &[u8]) -> Result<BTreeMap<u16, Vec<u8>>, Malformed> {
    let mut reader = Reader::new(bytes);
    let mut fields = BTreeMap::new();
    while !reader.rest().is_empty() {
        let kind = reader.u16_le()?;
        let len = usize::from(reader.u16_le()?);
        if fields.insert(kind, reader.take(len)?.to_vec()).is_some() {
            return Err(Malformed("an opaque field occurs twice"));
        }
    }
    Ok(fields)
}

/// Takes bytes that stand in every report of this form.
fn expect(reader: &mut Reader<'_>, bytes: &[u8], fault: &'static str) -> Result<(), Malformed> {
    if reader.take(bytes.len())? == bytes { Ok(()) } else { Err(Malformed(fault)) }
}
