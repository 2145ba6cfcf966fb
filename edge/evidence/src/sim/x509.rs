//! Certificates and revocation lists of the development PKI.

use base64::Engine as _;

use super::der;
use super::key::SigningKey;
use crate::fault::EvidenceFault;

/// A certificate in the making.
pub(super) struct CertificateForm<'a> {
    /// Common name of the subject.
    pub subject: &'a str,
    /// Serial number.
    pub serial: u64,
    /// First second, Unix.
    pub from_s: u64,
    /// Last second, Unix.
    pub until_s: u64,
    /// Whether it may issue others.
    pub authority: bool,
    /// Extensions of its maker: object identifier and content.
    pub extensions: Vec<(Vec<u64>, Vec<u8>)>,
}

/// Returns the DER of a certificate over `key`, issued by `issuer`.
pub(super) fn certificate(
    form: &CertificateForm<'_>,
    key: &SigningKey,
    issuer: &str,
    issuer_key: &SigningKey,
) -> Result<Vec<u8>, EvidenceFault> {
    let extensions: Vec<Vec<u8>> = standard(form.authority)
        .into_iter()
        .chain(
            form.extensions
                .iter()
                .map(|(oid, content)| der::sequence(&[der::oid(oid), der::octets(content)])),
        )
        .collect();
    let body = der::sequence(&[
        der::tagged(0, &der::number(2)),
        der::number(form.serial),
        issuer_key.algorithm(),
        name(issuer),
        der::sequence(&[der::time(form.from_s), der::time(form.until_s)]),
        name(form.subject),
        key.spki(),
        der::tagged(3, &der::sequence(&extensions)),
    ]);
    signed(body, issuer_key)
}

/// Returns the DER of a revocation list.
pub(super) fn revocation_list(
    issuer: &str,
    issuer_key: &SigningKey,
    (from_s, until_s): (u64, u64),
    revoked: &[u64],
) -> Result<Vec<u8>, EvidenceFault> {
    let mut fields = vec![
        der::number(1),
        issuer_key.algorithm(),
        name(issuer),
        der::time(from_s),
        der::time(until_s),
    ];
    if !revoked.is_empty() {
        let entries: Vec<Vec<u8>> = revoked
            .iter()
            .map(|serial| der::sequence(&[der::number(*serial), der::time(from_s)]))
            .collect();
        fields.push(der::sequence(&entries));
    }
    let number = extension(&[2, 5, 29, 20], false, &der::number(1));
    fields.push(der::tagged(0, &der::sequence(&[number])));
    signed(der::sequence(&fields), issuer_key)
}

/// Returns the PEM of one certificate.
pub(crate) fn pem_of(der: &[u8]) -> String {
    pem(&[der])
}

/// Returns the PEM of certificates, in their order.
pub(super) fn pem(ders: &[&[u8]]) -> String {
    let mut out = String::new();
    for bytes in ders {
        out.push_str("-----BEGIN CERTIFICATE-----\n");
        let body = base64::engine::general_purpose::STANDARD.encode(bytes);
        for line in body.as_bytes().chunks(64) {
            out.push_str(&String::from_utf8_lossy(line));
            out.push('\n');
        }
        out.push_str("-----END CERTIFICATE-----\n");
    }
    out
}

/// Basic constraints and key usage.
fn standard(authority: bool) -> [Vec<u8>; 2] {
    let basic = if authority { der::sequence(&[der::boolean(true)]) } else { der::sequence(&[]) };
    // keyCertSign and cRLSign, or digitalSignature.
    let usage = if authority { [1, 0x06] } else { [7, 0x80] };
    [
        extension(&[2, 5, 29, 19], true, &basic),
        extension(&[2, 5, 29, 15], true, &der::element(0x03, &usage)),
    ]
}

fn extension(oid: &[u64], critical: bool, content: &[u8]) -> Vec<u8> {
    if critical {
        der::sequence(&[der::oid(oid), der::boolean(true), der::octets(content)])
    } else {
        der::sequence(&[der::oid(oid), der::octets(content)])
    }
}

fn name(common: &str) -> Vec<u8> {
    let attribute =
        |oid: &[u64], value: &str| der::set(&der::sequence(&[der::oid(oid), der::text(value)]));
    der::sequence(&[
        attribute(&[2, 5, 4, 10], "Cocoon Simulated Platform"),
        attribute(&[2, 5, 4, 3], common),
    ])
}

fn signed(body: Vec<u8>, key: &SigningKey) -> Result<Vec<u8>, EvidenceFault> {
    let signature = key.sign_der(&body)?;
    Ok(der::sequence(&[body, key.algorithm(), der::bits(&signature)]))
}
