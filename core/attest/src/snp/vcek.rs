//! The versioned chip endorsement key certificate and what its extensions say.
//!
//! Object identifiers: AMD Versioned Chip Endorsement Key (VCEK) Certificate and KDS
//! Interface Specification (57230), section 3.1.

use std::fmt;

use serde::{Deserialize, Serialize};
use x509_parser::certificate::X509Certificate;

use super::SnpProduct;
use crate::fault::BadEvidence;

/// 1.3.6.1.4.1.3704.1 in DER, without the last arcs.
const AMD: [u8; 8] = [0x2b, 0x06, 0x01, 0x04, 0x01, 0x9c, 0x78, 0x01];

const PRODUCT_NAME: &[u8] = &[2];
const BOOT_LOADER: &[u8] = &[3, 1];
const TEE: &[u8] = &[3, 2];
const SNP: &[u8] = &[3, 3];
const MICROCODE: &[u8] = &[3, 8];
const FMC: &[u8] = &[3, 9];
const HARDWARE_ID: &[u8] = &[4];

/// Security versions of a platform. Zero where a generation lacks a component.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SnpTcb {
    /// First mutable code; Turin only.
    pub fmc: u8,
    /// Boot loader.
    pub boot_loader: u8,
    /// Secure processor's operating system.
    pub tee: u8,
    /// SNP firmware.
    pub snp: u8,
    /// Microcode.
    pub microcode: u8,
}

impl SnpTcb {
    /// Reads the eight bytes of a report in the order of `product`.
    #[must_use]
    pub const fn from_report(product: SnpProduct, raw: [u8; 8]) -> Self {
        let [b0, b1, b2, b3, _, _, b6, microcode] = raw;
        match product {
            SnpProduct::Milan | SnpProduct::Genoa => {
                Self { fmc: 0, boot_loader: b0, tee: b1, snp: b6, microcode }
            }
            SnpProduct::Turin => Self { fmc: b0, boot_loader: b1, tee: b2, snp: b3, microcode },
        }
    }

    /// Returns the eight bytes of a report in the order of `product`.
    #[must_use]
    pub const fn to_report(self, product: SnpProduct) -> [u8; 8] {
        match product {
            SnpProduct::Milan | SnpProduct::Genoa => {
                [self.boot_loader, self.tee, 0, 0, 0, 0, self.snp, self.microcode]
            }
            SnpProduct::Turin => {
                [self.fmc, self.boot_loader, self.tee, self.snp, 0, 0, 0, self.microcode]
            }
        }
    }

    /// Returns the components with their names.
    pub(super) const fn components(self) -> [(&'static str, u8); 5] {
        [
            ("the first mutable code", self.fmc),
            ("the boot loader", self.boot_loader),
            ("the secure processor's system", self.tee),
            ("the SNP firmware", self.snp),
            ("the microcode", self.microcode),
        ]
    }
}

impl fmt::Display for SnpTcb {
    /// Writes the components as a policy names them.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { fmc, boot_loader, tee, snp, microcode } = self;
        write!(
            out,
            "fmc {fmc}, boot_loader {boot_loader}, tee {tee}, snp {snp}, microcode {microcode}"
        )
    }
}

/// What a VCEK certificate says about its chip.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vcek {
    /// Generation.
    pub product: SnpProduct,
    /// Versions the key was derived for: the only ones a signature vouches for.
    pub tcb: SnpTcb,
    /// Name of the chip: 64 bytes, on Turin 8.
    pub hardware_id: Vec<u8>,
}

impl Vcek {
    /// Reads the extensions of a VCEK certificate. Nothing is verified here.
    ///
    /// # Errors
    /// A missing or malformed extension, an unknown product.
    pub fn of(certificate: &X509Certificate<'_>) -> Result<Self, BadEvidence> {
        let name = ia5(extension(certificate, PRODUCT_NAME)?)?;
        let product =
            SnpProduct::from_name(name).ok_or_else(|| malformed(format!("product {name:?}")))?;
        let version = |arc| extension(certificate, arc).and_then(byte);
        let tcb = SnpTcb {
            fmc: if product == SnpProduct::Turin { version(FMC)? } else { 0 },
            boot_loader: version(BOOT_LOADER)?,
            tee: version(TEE)?,
            snp: version(SNP)?,
            microcode: version(MICROCODE)?,
        };
        let hardware_id = extension(certificate, HARDWARE_ID)?;
        let expected = if product == SnpProduct::Turin { 8 } else { 64 };
        if hardware_id.len() != expected {
            return Err(malformed(format!("a hardware id of {} bytes", hardware_id.len())));
        }
        Ok(Self { product, tcb, hardware_id: hardware_id.to_vec() })
    }
}

/// Returns the value of the only extension with this AMD arc.
fn extension<'a>(
    certificate: &'a X509Certificate<'_>,
    arc: &[u8],
) -> Result<&'a [u8], BadEvidence> {
    let mut found = certificate
        .extensions()
        .iter()
        .filter(|extension| extension.oid.as_bytes().strip_prefix(&AMD) == Some(arc));
    match (found.next(), found.next()) {
        (Some(extension), None) => Ok(extension.value),
        (None, _) => Err(malformed(format!("extension {arc:?} is missing"))),
        (Some(_), Some(_)) => Err(malformed(format!("extension {arc:?} occurs twice"))),
    }
}

/// Reads a DER IA5String of up to 127 bytes.
fn ia5(der: &[u8]) -> Result<&str, BadEvidence> {
    match der {
        [0x16, len, text @ ..] if usize::from(*len) == text.len() && text.is_ascii() => {
            std::str::from_utf8(text).map_err(|_| malformed("product name".to_owned()))
        }
        _ => Err(malformed("the product name is not an IA5String".to_owned())),
    }
}

/// Reads a DER INTEGER of 0 to 255.
fn byte(der: &[u8]) -> Result<u8, BadEvidence> {
    match der {
        [0x02, 1, value] if *value < 0x80 => Ok(*value),
        [0x02, 2, 0, value] => Ok(*value),
        _ => Err(malformed("a version is not a number of 0 to 255".to_owned())),
    }
}

fn malformed(detail: String) -> BadEvidence {
    BadEvidence::Malformed { what: "the VCEK certificate", detail }
}
