//! The peer-info blob that a router sends to its node before the frames (protocol notes
//! 1.2, 2.6).
//!
//! It never leaves the machine. Each line reads only its own form, so router and node must
//! be of the same line; [`PeerInfo::decode`] is therefore told which one to expect.

use bytes::BufMut;
use cocoon_units::{ImageHash, PublicKey};

use crate::PeerInfoFault;
use crate::image_hash::{Register, TdxMeasurements, sev_image_hash, sgx_image_hash};
use crate::tl::{Reader, Text, Tl, bytes_size, write_bytes};

/// Largest blob a node accepts, in bytes, without its length.
pub const BLOB_BYTES_MAX: usize = 16_536;

/// Which form of the blob is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    /// The older form: attestation may be missing, collateral root always present.
    Base,
    /// The present form: attestation always present.
    Live,
}

/// What the router knows about the peer's machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attestation {
    /// Nothing; only in the older form.
    None,
    /// An Intel TDX machine; all zero when the policy asked for nothing.
    Tdx {
        /// Measurements.
        measurements: Box<TdxMeasurements>,
        /// Hash of the TLS key.
        report_data: Box<[u8; 64]>,
    },
    /// An Intel SGX enclave; only in the older form.
    Sgx {
        /// Measurement.
        mr_enclave: [u8; 32],
        /// Hash of the TLS key.
        report_data: Box<[u8; 64]>,
    },
    /// An AMD SEV-SNP machine; only in the present form.
    Sev {
        /// Launch measurement.
        measurement: Register,
        /// Hash of the TLS key.
        report_data: Box<[u8; 64]>,
    },
}

impl Attestation {
    /// The peer's image hash; 32 zero bytes without attestation.
    #[must_use]
    pub fn image_hash(&self) -> ImageHash {
        match self {
            Self::None => ImageHash([0; 32]),
            Self::Tdx { measurements, .. } => measurements.image_hash(),
            Self::Sgx { mr_enclave, .. } => sgx_image_hash(mr_enclave),
            Self::Sev { measurement, .. } => sev_image_hash(measurement),
        }
    }
}

/// The whole blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerInfo<'tl> {
    /// What is known about the peer's machine.
    pub attestation: Attestation,
    /// Hash of the root that vouches for the machine; zero when there is none. Absent for
    /// SEV-SNP, where the form has no place for it.
    pub collateral_root: Option<Register>,
    /// Ed25519 key of the peer's TLS certificate.
    pub public_key: PublicKey,
    /// Address text of the connecting end.
    pub source_ip: Text<'tl>,
    /// Port of the connecting end.
    pub source_port: i32,
    /// Address text of the accepting end.
    pub destination_ip: Text<'tl>,
    /// Port of the accepting end.
    pub destination_port: i32,
}

impl<'tl> PeerInfo<'tl> {
    /// Reads the length and the blob from the start of `bytes`, with the bytes taken, or
    /// `None` when more are needed.
    ///
    /// # Errors
    /// [`PeerInfoFault`]: the router speaks the other line or is none; close the connection.
    pub fn decode_prefixed(
        bytes: &'tl [u8],
        line: Line,
    ) -> Result<Option<(Self, usize)>, PeerInfoFault> {
        let Some((length, rest)) = bytes.split_first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_le_bytes(*length) as usize;
        if length > BLOB_BYTES_MAX {
            return Err(PeerInfoFault::TooLarge { length });
        }
        let Some(blob) = rest.get(..length) else { return Ok(None) };
        Ok(Some((Self::decode(blob, line)?, 4 + length)))
    }

    /// Reads the blob without its length.
    ///
    /// # Errors
    /// [`PeerInfoFault`]: the router speaks the other line or is none; close the connection.
    pub fn decode(blob: &'tl [u8], line: Line) -> Result<Self, PeerInfoFault> {
        let mut reader = Reader::new(blob);
        let attestation = read_attestation(&mut reader, line)?;
        let collateral_root = match (line, &attestation) {
            (Line::Live, Attestation::Sev { .. }) => None,
            _ => Some(reader.array()?),
        };
        let key = reader.bytes()?;
        let public_key = key
            .try_into()
            .map(PublicKey)
            .map_err(|_| PeerInfoFault::PublicKey { length: key.len() })?;
        let info = Self {
            attestation,
            collateral_root,
            public_key,
            source_ip: Text::read(&mut reader)?,
            source_port: i32::read(&mut reader)?,
            destination_ip: Text::read(&mut reader)?,
            destination_port: i32::read(&mut reader)?,
        };
        reader.finish()?;
        Ok(info)
    }

    /// Appends the length and the blob in the form of `line`.
    ///
    /// # Errors
    /// [`PeerInfoFault::Unrepresentable`] when that line has no form for this attestation;
    /// nothing was appended.
    pub fn encode_prefixed<B: BufMut>(&self, out: &mut B, line: Line) -> Result<(), PeerInfoFault> {
        let mut blob = Vec::with_capacity(640);
        write_attestation(&self.attestation, &mut blob, line)?;
        match (line, &self.attestation) {
            (Line::Live, Attestation::Sev { .. }) => {}
            _ => blob.extend_from_slice(&self.collateral_root.unwrap_or([0; 48])),
        }
        write_bytes(&mut blob, &self.public_key.0);
        self.source_ip.write(&mut blob);
        self.source_port.write(&mut blob);
        self.destination_ip.write(&mut blob);
        self.destination_port.write(&mut blob);
        let length = u32::try_from(blob.len())
            .ok()
            .filter(|_| blob.len() <= BLOB_BYTES_MAX)
            .ok_or(PeerInfoFault::TooLarge { length: blob.len() })?;
        out.put_u32_le(length);
        out.put_slice(&blob);
        debug_assert!(blob.len() >= bytes_size(32));
        Ok(())
    }
}

/// Reads the first field and what depends on it.
fn read_attestation(reader: &mut Reader<'_>, line: Line) -> Result<Attestation, PeerInfoFault> {
    let first = i32::read(reader)?;
    match (line, first) {
        (Line::Base, 0) => return Ok(Attestation::None),
        (Line::Base, 1) | (Line::Live, 2) => {}
        _ => return Err(PeerInfoFault::Line { first }),
    }
    let kind = i32::read(reader)?;
    match (line, kind) {
        (_, 0) => Ok(Attestation::Tdx {
            measurements: Box::new(TdxMeasurements {
                mr_td: reader.array()?,
                mr_config_id: reader.array()?,
                mr_owner: reader.array()?,
                mr_owner_config: reader.array()?,
                rtmr: [reader.array()?, reader.array()?, reader.array()?, reader.array()?],
            }),
            report_data: Box::new(reader.array()?),
        }),
        (Line::Base, 1) => Ok(Attestation::Sgx {
            mr_enclave: reader.array()?,
            report_data: Box::new(reader.array()?),
        }),
        (Line::Live, 1) => Ok(Attestation::Sev {
            measurement: reader.array()?,
            report_data: Box::new(reader.array()?),
        }),
        _ => Err(PeerInfoFault::Kind { kind }),
    }
}

/// Writes the first field and what depends on it.
fn write_attestation(
    attestation: &Attestation,
    blob: &mut Vec<u8>,
    line: Line,
) -> Result<(), PeerInfoFault> {
    let first: i32 = match line {
        Line::Base if *attestation == Attestation::None => 0,
        Line::Base => 1,
        Line::Live => 2,
    };
    first.write(blob);
    match (line, attestation) {
        (Line::Base, Attestation::None) => {}
        (_, Attestation::Tdx { measurements, report_data }) => {
            0i32.write(blob);
            let m = measurements;
            for register in [&m.mr_td, &m.mr_config_id, &m.mr_owner, &m.mr_owner_config] {
                blob.extend_from_slice(register);
            }
            blob.extend_from_slice(m.rtmr.as_flattened());
            blob.extend_from_slice(&**report_data);
        }
        (Line::Base, Attestation::Sgx { mr_enclave, report_data }) => {
            1i32.write(blob);
            blob.extend_from_slice(mr_enclave);
            blob.extend_from_slice(&**report_data);
        }
        (Line::Live, Attestation::Sev { measurement, report_data }) => {
            1i32.write(blob);
            blob.extend_from_slice(measurement);
            blob.extend_from_slice(&**report_data);
        }
        _ => return Err(PeerInfoFault::Unrepresentable { line }),
    }
    Ok(())
}
