//! Certificate chains and revocation lists of hardware makers.
//!
//! Only what the makers use is accepted: ECDSA on P-256 with SHA-256 (Intel), ECDSA on P-384
//! with SHA-384 (NVIDIA), RSASSA-PSS with SHA-384 (AMD). Everything here reads bytes of
//! strangers: every reason is a sentence for a person, and nothing panics.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;
use x509_parser::revocation_list::CertificateRevocationList;
use x509_parser::x509::{AlgorithmIdentifier, SubjectPublicKeyInfo};

use crate::digest::Digest48;
use crate::signature::{self, UnparsedPublicKey, VerificationAlgorithm};

/// Most certificates of one chain.
const CHAIN_LIMIT: usize = 8;

/// Longest certificate in bytes.
const CERTIFICATE_LIMIT: usize = 16 * 1024;

const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";

const ECDSA_SHA256: &str = "1.2.840.10045.4.3.2";
const ECDSA_SHA384: &str = "1.2.840.10045.4.3.3";
const RSASSA_PSS: &str = "1.2.840.113549.1.1.10";
const SHA384: &str = "2.16.840.1.101.3.4.2.2";

/// Splits PEM (RFC 7468) into the DER of its certificates, in their order.
///
/// Strict: only certificates, nothing between them but blank lines, labels that match. What
/// one reader overlooks and another trips over would blur whose fault a failure is.
pub(crate) fn certificates_of_pem(pem: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    let text = std::str::from_utf8(pem).map_err(|_| "not PEM: not text".to_owned())?;
    let mut found = Vec::new();
    let mut body: Option<String> = None;
    for line in text.lines().map(str::trim_end).filter(|line| !line.is_empty()) {
        body = match (body, line) {
            (None, BEGIN) if found.len() == CHAIN_LIMIT => {
                return Err(format!("more than {CHAIN_LIMIT} certificates"));
            }
            (None, BEGIN) => Some(String::new()),
            (None, _) => return Err("not PEM: a line outside of a certificate".to_owned()),
            (Some(base64), END) => {
                found.push(STANDARD.decode(base64).map_err(|error| format!("not PEM: {error}"))?);
                None
            }
            (Some(mut base64), line) => {
                base64.push_str(line);
                Some(base64)
            }
        };
    }
    match (body, found.is_empty()) {
        (Some(_), _) => Err("not PEM: a certificate does not end".to_owned()),
        (None, true) => Err("no certificate inside".to_owned()),
        (None, false) => Ok(found),
    }
}

/// Reads one certificate, which must fill `der` exactly.
pub(crate) fn certificate(der: &[u8]) -> Result<X509Certificate<'_>, String> {
    if der.len() > CERTIFICATE_LIMIT {
        return Err(format!("{} bytes, at most {CERTIFICATE_LIMIT} are accepted", der.len()));
    }
    signed_in_three_parts(der)?;
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        Ok((rest, _)) => Err(format!("{} bytes follow the certificate", rest.len())),
        Err(error) => Err(format!("not a certificate: {error}")),
    }
}

/// Reads one revocation list, which must fill `der` exactly.
pub(crate) fn revocation_list(der: &[u8]) -> Result<CertificateRevocationList<'_>, String> {
    signed_in_three_parts(der)?;
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

/// Checks that a signed object is one SEQUENCE of exactly three elements and names one
/// signature algorithm, inside as outside (RFC 5280, 4.1.1), which the parser does not insist
/// on.
fn signed_in_three_parts(der: &[u8]) -> Result<(), String> {
    let fault = || "not a signed object in DER".to_owned();
    let (0x30, content, []) = element(der).ok_or_else(fault)? else { return Err(fault()) };
    let (0x30, body, rest) = element(content).ok_or_else(fault)? else { return Err(fault()) };
    let (0x30, outside, rest) = element(rest).ok_or_else(fault)? else { return Err(fault()) };
    let (0x03, _, []) = element(rest).ok_or_else(fault)? else { return Err(fault()) };
    // Version and serial number come before it; neither is a SEQUENCE.
    let mut body = body;
    let inside = loop {
        match element(body).ok_or_else(fault)? {
            (0x30, inside, _) => break inside,
            (_, _, rest) => body = rest,
        }
    };
    if inside == outside { Ok(()) } else { Err("it names two signature algorithms".to_owned()) }
}

/// Takes one element with a tag of one byte: tag, content, what follows.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, rest) = der.split_first()?;
    let (first, rest) = rest.split_first()?;
    let (len, rest) = if *first < 0x80 {
        (usize::from(*first), rest)
    } else {
        let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
        if digits.is_empty() || digits.len() > 3 || digits.first() == Some(&0) {
            return None;
        }
        let len = digits.iter().fold(0, |len, digit| len << 8 | usize::from(*digit));
        (len, rest)
    };
    let (content, rest) = rest.split_at_checked(len)?;
    Some((*tag, content, rest))
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
