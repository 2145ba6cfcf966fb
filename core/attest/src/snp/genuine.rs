//! Is the report AMD's, and which chip signed it?

use x509_parser::certificate::X509Certificate;
use x509_parser::revocation_list::CertificateRevocationList;

use super::report::{self, SnpReport};
use super::vcek::Vcek;
use super::{SnpPolicy, SnpProduct};
use crate::chain;
use crate::collateral::{CollateralDates, CollateralNeed, SnpCollateral};
use crate::digest::Digest48;
use crate::draft::Obstacle;
use crate::evidence::VCEK_LIMIT;
use crate::fault::{BadEvidence, CannotCheck};
use crate::roots::TrustRoots;
use crate::signature::{ECDSA_P384_SHA384_FIXED, UnparsedPublicKey};
use crate::tdx;

const VCEK: &str = "the VCEK certificate";
const AMD_CHAIN: &str = "AMD's certificate chain";
const AMD_CRL: &str = "AMD's revocation list";

/// A report whose signatures lead to a trusted root.
pub(super) struct Genuine {
    pub vcek: Vcek,
    pub root: Digest48,
    /// Until when certificates and revocation list allow to say so, Unix seconds.
    pub valid_until_s: u64,
    /// When the revocation list was issued, Unix seconds.
    pub issued_s: u64,
}

/// Verifies the signatures of a report.
pub(super) fn genuine(
    raw: &[u8],
    report: &SnpReport,
    vcek_pem: &[u8],
    collateral: Option<&SnpCollateral>,
    rules: &SnpPolicy,
    roots: &TrustRoots,
    now_s: u64,
) -> Result<Genuine, Obstacle> {
    let der = vcek_der(vcek_pem)?;
    let certificate = vcek_certificate(&der)?;
    let vcek = Vcek::of(&certificate)?;
    product(vcek.product, rules)?;
    if roots.snp.is_empty() {
        return Err(CannotCheck::NoRoot { what: "SEV-SNP" }.into());
    }
    let collateral = collateral
        .filter(|collateral| collateral.product == vcek.product)
        .ok_or(CannotCheck::NoCollateral { what: "the certificates of this AMD generation" })?;
    let ark = chain::certificate(&collateral.ark).map_err(|detail| untrusted(AMD_CHAIN, detail))?;
    let ask = chain::certificate(&collateral.ask).map_err(|detail| untrusted(AMD_CHAIN, detail))?;
    let root = authority(&ark, &ask, roots, now_s)?;
    let unsigned = |detail| BadEvidence::Signature { what: VCEK, detail };
    chain::issued_by(&certificate, &ask).map_err(unsigned)?;
    let invalid = |detail| BadEvidence::Certificate { what: VCEK, detail };
    chain::in_dates(&certificate, now_s).map_err(invalid)?;
    chip(report, &vcek)?;
    let key = &certificate.public_key().subject_public_key.data;
    UnparsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, key)
        .verify(report::signed(raw)?, &report::signature(raw)?)
        .map_err(|_| BadEvidence::Signature {
            what: "the SEV-SNP report",
            detail: "the chip's key did not sign it".to_owned(),
        })?;
    // Last, so that evidence that is bad anyway is called bad even without a list.
    let (issued_s, next_update_s) =
        not_revoked(&collateral.crl, &ark, &[&ask, &certificate], now_s)?;
    let last_s = [&ark, &ask, &certificate].map(chain::last_second);
    let valid_until_s = last_s.into_iter().fold(next_update_s, u64::min);
    Ok(Genuine { vcek, root, valid_until_s, issued_s })
}

/// Returns what to fetch for a VCEK.
pub(crate) fn collateral_need(vcek_pem: &[u8]) -> Result<CollateralNeed, BadEvidence> {
    let der = vcek_der(vcek_pem)?;
    let vcek = Vcek::of(&vcek_certificate(&der)?)?;
    Ok(CollateralNeed::Snp { product: vcek.product })
}

/// Checks the dates of AMD's revocation list; its certificates live for decades.
pub(crate) fn collateral_dates(
    collateral: &SnpCollateral,
    now_s: u64,
) -> Result<CollateralDates, CannotCheck> {
    let list =
        chain::revocation_list(&collateral.crl).map_err(|detail| untrusted(AMD_CRL, detail))?;
    let (issued_s, next_update_s) = list_dates(&list, now_s)?;
    Ok(CollateralDates { issued_s, next_update_s })
}

fn vcek_der(pem: &[u8]) -> Result<Vec<u8>, BadEvidence> {
    if pem.len() > VCEK_LIMIT {
        return Err(BadEvidence::TooLong { what: VCEK, len: pem.len(), limit: VCEK_LIMIT });
    }
    let malformed = |detail| BadEvidence::Malformed { what: VCEK, detail };
    let mut certificates = chain::certificates_of_pem(pem).map_err(malformed)?;
    match (certificates.pop(), certificates.pop()) {
        (Some(only), None) => Ok(only),
        _ => Err(malformed("it holds more than one certificate".to_owned())),
    }
}

fn vcek_certificate(der: &[u8]) -> Result<X509Certificate<'_>, BadEvidence> {
    chain::certificate(der).map_err(|detail| BadEvidence::Malformed { what: VCEK, detail })
}

fn product(product: SnpProduct, rules: &SnpPolicy) -> Result<(), BadEvidence> {
    if rules.products.contains(&product) {
        return Ok(());
    }
    let reason = match product {
        SnpProduct::Milan => "the keys of this generation can be extracted in software",
        SnpProduct::Genoa | SnpProduct::Turin => "the policy does not list this generation",
    };
    Err(BadEvidence::Product { product, reason })
}

/// Checks that report and certificate name the same chip.
fn chip(report: &SnpReport, vcek: &Vcek) -> Result<(), BadEvidence> {
    if report.signing_key != 0 {
        return Err(BadEvidence::Attribute {
            what: "the signing key of the report",
            found: report.signing_key.to_string(),
            required: "0 (VCEK)".to_owned(),
        });
    }
    if report.chip_id_masked || !report.chip_id.starts_with(&vcek.hardware_id) {
        return Err(BadEvidence::Attribute {
            what: "the chip id of the report",
            found: hex::encode(report.chip_id),
            required: hex::encode(&vcek.hardware_id),
        });
    }
    Ok(())
}

/// Checks AMD's own certificates, without the peer's evidence; returns the root's digest.
fn authority(
    ark: &X509Certificate<'_>,
    ask: &X509Certificate<'_>,
    roots: &TrustRoots,
    now_s: u64,
) -> Result<Digest48, CannotCheck> {
    let fault = |detail| untrusted(AMD_CHAIN, detail);
    let root = chain::key_digest(ark);
    if !roots.snp.contains(&root) {
        return Err(fault(format!("it ends in the key {root}")));
    }
    chain::is_authority(ask).map_err(fault)?;
    chain::issued_by(ask, ark).map_err(fault)?;
    for certificate in [ark, ask] {
        chain::in_dates(certificate, now_s).map_err(fault)?;
    }
    Ok(root)
}

/// Checks the revocation list; returns its first and its last second.
fn not_revoked(
    crl: &[u8],
    ark: &X509Certificate<'_>,
    certificates: &[&X509Certificate<'_>; 2],
    now_s: u64,
) -> Result<(u64, u64), Obstacle> {
    let fault = |detail| untrusted(AMD_CRL, detail);
    if crl.is_empty() {
        return Err(CannotCheck::NoCollateral { what: AMD_CRL }.into());
    }
    let list = chain::revocation_list(crl).map_err(fault)?;
    let (issued_s, next_s) = list_dates(&list, now_s)?;
    chain::list_issued_by(&list, ark).map_err(fault)?;
    let listed = |certificate: &X509Certificate<'_>| {
        list.iter_revoked_certificates().any(|entry| entry.raw_serial() == certificate.raw_serial())
    };
    let [ask, vcek] = certificates;
    if listed(ask) {
        return Err(fault("it revokes the SEV key of this generation".to_owned()).into());
    }
    // VCEK certificates all have the serial number zero, so only a number of their own counts.
    let numbered = vcek.raw_serial().iter().any(|byte| *byte != 0);
    if numbered && listed(vcek) {
        let detail = "revoked".to_owned();
        return Err(BadEvidence::Certificate { what: VCEK, detail }.into());
    }
    Ok((issued_s, next_s))
}

fn list_dates(list: &CertificateRevocationList<'_>, now_s: u64) -> Result<(u64, u64), CannotCheck> {
    let issued_s = u64::try_from(list.last_update().timestamp()).unwrap_or(0);
    let next = list.next_update().ok_or_else(|| untrusted(AMD_CRL, "it has no nextUpdate"))?;
    let next_s = u64::try_from(next.timestamp()).unwrap_or(0);
    tdx::in_dates(AMD_CRL, issued_s, next_s, now_s)?;
    Ok((issued_s, next_s))
}

fn untrusted(what: &'static str, detail: impl Into<String>) -> CannotCheck {
    CannotCheck::UntrustedCollateral { what, detail: detail.into() }
}
