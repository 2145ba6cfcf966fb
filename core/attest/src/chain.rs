//! Certificate chains and revocation lists of hardware makers.
//!
//! Only what the makers use is accepted: ECDSA on P-256 with SHA-256 (Intel), ECDSA on P-384
//! with SHA-384 (NVIDIA), RSASSA-PSS with SHA-384 (AMD). Everything here reads bytes of
//! strangers: every reason is a sentence for a person, and nothing panics.

use ring::signature::{self, UnparsedPublicKey, VerificationAlgorithm};
use x509_parser::certificate::X509Certificate;
use x509_parser::pem::Pem;
use x509_parser::prelude::FromDer as _;
use x509_parser::revocation_list::CertificateRevocationList;
use x509_parser::x509::{AlgorithmIdentifier, SubjectPublicKeyInfo};

use crate::digest::Digest48;

/// Most certificates of one chain.
const CHAIN_LIMIT: usize = 8;

/// Longest certificate in bytes.
const CERTIFICATE_LIMIT: usize = 16 * 1024;

const ECDSA_SHA256: &str = "1.2.840.10045.4.3.2";
const ECDSA_SHA384: &str = "1.2.840.10045.4.3.3";
const RSASSA_PSS: &str = "1.2.840.113549.1.1.10";
const SHA384: &str = "2.16.840.1.101.3.4.2.2";

/// Splits PEM into the DER of its certificates, in their order.
pub(crate) fn certificates_of_pem(pem: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    let mut found = Vec::new();
    for block in Pem::iter_from_buffer(pem) {
        let block = block.map_err(|error| format!("not PEM: {error}"))?;
        if block.label != "CERTIFICATE" {
            return Err(format!("a PEM block is a {}, not a CERTIFICATE", block.label));
        }
        if found.len() == CHAIN_LIMIT {
            return Err(format!("more than {CHAIN_LIMIT} certificates"));
        }
        found.push(block.contents);
    }
    if found.is_empty() { Err("no certificate inside".to_owned()) } else { Ok(found) }
}

/// Reads one certificate, which must fill `der` exactly.
pub(crate) fn certificate(der: &[u8]) -> Result<X509Certificate<'_>, String> {
    if der.len() > CERTIFICATE_LIMIT {
        return Err(format!("{} bytes, at most {CERTIFICATE_LIMIT} are accepted", der.len()));
    }
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        Ok((rest, _)) => Err(format!("{} bytes follow the certificate", rest.len())),
        Err(error) => Err(format!("not a certificate: {error}")),
    }
}

/// Reads one revocation list, which must fill `der` exactly.
pub(crate) fn revocation_list(der: &[u8]) -> Result<CertificateRevocationList<'_>, String> {
    match CertificateRevocationList::from_der(der) {
        Ok(([], list)) => Ok(list),
        Ok((rest, _)) => Err(format!("{} bytes follow the revocation list", rest.len())),
        Err(error) => Err(format!("not a revocation list: {error}")),
    }
}

/// Checks that `issuer` signed `child` and is its named issuer.
pub(crate) fn issued_by(
    child: &X509Certificate<'_>,
    issuer: &X509Certificate<'_>,
) -> Result<(), String> {
    if child.issuer().as_raw() != issuer.subject().as_raw() {
        return Err(format!("{} names another issuer", child.subject()));
    }
    signature(
        &child.signature_algorithm,
        issuer.public_key(),
        child.tbs_certificate.as_ref(),
        &child.signature_value.data,
    )
    .map_err(|reason| format!("{}: {reason}", child.subject()))
}

/// Checks that `issuer` signed `list` and is its named issuer.
pub(crate) fn list_issued_by(
    list: &CertificateRevocationList<'_>,
    issuer: &X509Certificate<'_>,
) -> Result<(), String> {
    if list.issuer().as_raw() != issuer.subject().as_raw() {
        return Err("the revocation list names another issuer".to_owned());
    }
    signature(
        &list.signature_algorithm,
        issuer.public_key(),
        list.tbs_cert_list.as_ref(),
        &list.signature_value.data,
    )
    .map_err(|reason| format!("the revocation list: {reason}"))
}

/// Checks the dates of a certificate.
pub(crate) fn in_dates(certificate: &X509Certificate<'_>, now_s: u64) -> Result<(), String> {
    let now = i64::try_from(now_s).unwrap_or(i64::MAX);
    let validity = certificate.validity();
    if now < validity.not_before.timestamp() {
        return Err(format!(
            "{} is not valid before {}",
            certificate.subject(),
            validity.not_before
        ));
    }
    if now > validity.not_after.timestamp() {
        return Err(format!("{} expired at {}", certificate.subject(), validity.not_after));
    }
    Ok(())
}

/// Checks that a certificate may issue others.
pub(crate) fn is_authority(certificate: &X509Certificate<'_>) -> Result<(), String> {
    let basic = certificate.basic_constraints().map_err(|error| error.to_string())?;
    match basic {
        Some(basic) if basic.value.ca => Ok(()),
        _ => Err(format!("{} may not issue certificates", certificate.subject())),
    }
}

/// Returns the last second of a certificate, Unix seconds.
pub(crate) fn last_second(certificate: &X509Certificate<'_>) -> u64 {
    u64::try_from(certificate.validity().not_after.timestamp()).unwrap_or(0)
}

/// Returns SHA-384 of the `SubjectPublicKeyInfo`.
pub(crate) fn key_digest(certificate: &X509Certificate<'_>) -> Digest48 {
    Digest48::sha384(&[certificate.public_key().raw])
}

/// Returns SHA-384 of the key bits alone; for EC keys the uncompressed point.
pub(crate) fn point_digest(certificate: &X509Certificate<'_>) -> Digest48 {
    Digest48::sha384(&[&certificate.public_key().subject_public_key.data])
}

/// Checks one signature of a certificate or a revocation list.
fn signature(
    algorithm: &AlgorithmIdentifier<'_>,
    key: &SubjectPublicKeyInfo<'_>,
    message: &[u8],
    signature: &[u8],
) -> Result<(), String> {
    let verifier: &dyn VerificationAlgorithm = match algorithm.algorithm.to_id_string().as_str() {
        ECDSA_SHA256 => &signature::ECDSA_P256_SHA256_ASN1,
        ECDSA_SHA384 => &signature::ECDSA_P384_SHA384_ASN1,
        RSASSA_PSS if pss_is_sha384(algorithm) => &signature::RSA_PSS_2048_8192_SHA384,
        other => return Err(format!("signature algorithm {other} is not accepted")),
    };
    UnparsedPublicKey::new(verifier, &key.subject_public_key.data)
        .verify(message, signature)
        .map_err(|_| "the signature does not verify".to_owned())
}

/// Says whether the parameters of RSASSA-PSS name SHA-384; mask and salt follow from it and
/// are enforced by the verification itself.
fn pss_is_sha384(algorithm: &AlgorithmIdentifier<'_>) -> bool {
    let Some(parameters) = algorithm.parameters.as_ref() else { return false };
    x509_parser::signature_algorithm::RsaSsaPssParams::try_from(parameters)
        .is_ok_and(|params| params.hash_algorithm_oid().to_id_string() == SHA384)
}
