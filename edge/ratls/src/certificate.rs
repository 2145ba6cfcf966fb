//! A peer's certificate: read leniently, judged exactly (protocol notes 2.4 and 2.5).
//!
//! Reading takes what deployed peers send, version 1 with extensions included. Judging is
//! stricter than reading: only an Ed25519 key, subject equal to issuer, dates by the clock
//! given, purposes where stated, no unknown critical extension, no two kinds of TEE.
//!
//! The self-signature is not checked, as the reference does not check it: a self-signed
//! certificate vouches for nothing. What counts is that the peer holds the key, which the TLS
//! `CertificateVerify` proves, and that the evidence covers the key, which the policy checks.

use cocoon_attest::{ExtensionUse, PeerEvidence};

use crate::der::{self, Element, Reader};
use crate::fault::CertificateFault;

/// Longest certificate read, in bytes: a quote of 32 KiB, a VCEK certificate of 16 KiB and
/// room for the rest.
pub const CERTIFICATE_LIMIT: usize = 64 * 1024;

/// Most extensions a certificate may carry; honest ones carry at most ten.
const EXTENSIONS_MAX: usize = 32;

/// The DER of an Ed25519 `SubjectPublicKeyInfo` up to the 32 key bytes (RFC 8410 4).
pub(crate) const ED25519_SPKI_PREFIX: [u8; 12] =
    [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// Object identifiers of RFC 5280, content bytes only.
pub(crate) mod oid {
    pub(crate) const SUBJECT_KEY_IDENTIFIER: &[u8] = &[0x55, 0x1d, 0x0e];
    pub(crate) const KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x0f];
    pub(crate) const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];
    pub(crate) const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x13];
    pub(crate) const EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x25];
    pub(crate) const SERVER_AUTH: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 1];
    pub(crate) const CLIENT_AUTH: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 2];
    pub(crate) const ED25519: &[u8] = &[0x2b, 0x65, 0x70];
}

/// What the peer did to reach us, hence which purpose its certificate must serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PeerSide {
    /// The peer connected to us: it is a TLS client.
    Connecting,
    /// The peer accepted our connection: it is a TLS server.
    Accepting,
}

/// How strictly certificates are judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateRules {
    /// Seconds by which the peer's clock may differ from ours at either end of the validity.
    /// The reference allows none; 60 s keeps peers without good time.
    pub skew_s: u32,
    /// DNS name an accepting peer's certificate must carry, compared without case. The
    /// reference asks for `127.0.0.1` from everybody, which proves nothing; `None` skips the
    /// check.
    pub server_name: Option<String>,
}

impl Default for CertificateRules {
    fn default() -> Self {
        Self { skew_s: 60, server_name: None }
    }
}

/// What was read from a peer's certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerCertificate {
    /// Raw Ed25519 public key.
    pub public_key: [u8; 32],
    /// Start of the validity, Unix seconds.
    pub not_before_unix_s: i64,
    /// End of the validity, Unix seconds.
    pub not_after_unix_s: i64,
    /// The evidence in the certificate's extensions.
    pub evidence: PeerEvidence,
    /// DNS names of the subject alternative name, in order.
    pub dns_names: Vec<String>,
    subject_is_issuer: bool,
    /// Bit 0 of the key usage, if the extension is there.
    digital_signature: Option<bool>,
    /// Server and client purpose, if the extension is there.
    purposes: Option<(bool, bool)>,
    unknown_critical: Option<String>,
}

impl PeerCertificate {
    /// Reads a DER certificate. Usable as a fuzz target: any input gives a value or a fault.
    ///
    /// # Errors
    /// Every fault is the peer's: refuse the connection.
    pub fn read(certificate_der: &[u8]) -> Result<Self, CertificateFault> {
        if certificate_der.len() > CERTIFICATE_LIMIT {
            return Err(CertificateFault::TooLong { len: certificate_der.len() });
        }
        let mut outer = Reader::new(certificate_der);
        let certificate = outer.expect(der::SEQUENCE, "certificate")?;
        outer.finish("bytes after the certificate")?;
        let mut fields = Reader::new(certificate.contents);
        let body = fields.expect(der::SEQUENCE, "certificate body")?;
        fields.expect(der::SEQUENCE, "signature algorithm")?;
        fields.expect(der::BIT_STRING, "signature")?;
        fields.finish("bytes after the signature")?;
        Self::read_body(body)
    }

    fn read_body(body: Element<'_>) -> Result<Self, CertificateFault> {
        let mut fields = Reader::new(body.contents);
        // [0] version: absent means 1, which OpenSSL 3.0 writes. No number is refused.
        fields.optional(0xa0)?;
        fields.expect(der::INTEGER, "serial number")?;
        fields.expect(der::SEQUENCE, "signature algorithm")?;
        let issuer = fields.expect(der::SEQUENCE, "issuer")?;
        let validity = fields.expect(der::SEQUENCE, "validity")?;
        let subject = fields.expect(der::SEQUENCE, "subject")?;
        let key = fields.expect(der::SEQUENCE, "public key")?;
        let public_key = ed25519_key(key)?;
        // [1] and [2] are unique ids of issuer and subject, which nobody uses any more.
        fields.optional(0x81)?;
        fields.optional(0x82)?;
        let extensions = fields.optional(0xa3)?;
        fields.finish("bytes after the extensions")?;

        let mut dates = Reader::new(validity.contents);
        let not_before_unix_s = der::unix_time_s(dates.next()?)?;
        let not_after_unix_s = der::unix_time_s(dates.next()?)?;
        dates.finish("bytes after the validity")?;

        let mut peer = Self {
            public_key,
            not_before_unix_s,
            not_after_unix_s,
            evidence: PeerEvidence::new(public_key),
            dns_names: Vec::new(),
            // Compared byte by byte: a self-signed certificate copies the name.
            subject_is_issuer: subject.whole == issuer.whole,
            digital_signature: None,
            purposes: None,
            unknown_critical: None,
        };
        if let Some(extensions) = extensions {
            peer.read_extensions(extensions)?;
        }
        Ok(peer)
    }

    fn read_extensions(&mut self, wrapper: Element<'_>) -> Result<(), CertificateFault> {
        let mut wrapped = Reader::new(wrapper.contents);
        let list = wrapped.expect(der::SEQUENCE, "extensions")?;
        wrapped.finish("bytes after the extensions")?;
        let mut list = Reader::new(list.contents);
        let mut seen: Vec<&[u8]> = Vec::new();
        while !list.is_empty() {
            let mut extension = Reader::new(list.expect(der::SEQUENCE, "extension")?.contents);
            let id = extension.expect(der::OID, "extension id")?.contents;
            let critical = match extension.optional(der::BOOLEAN)? {
                Some(flag) => flag.contents != [0],
                None => false,
            };
            let value = extension.expect(der::OCTET_STRING, "extension value")?.contents;
            extension.finish("bytes after an extension")?;
            if seen.contains(&id) {
                return Err(CertificateFault::DuplicateExtension { oid: dotted(id) });
            }
            if seen.len() == EXTENSIONS_MAX {
                return Err(CertificateFault::TooManyExtensions { limit: EXTENSIONS_MAX });
            }
            seen.push(id);
            self.take_extension(id, critical, value)?;
        }
        Ok(())
    }

    fn take_extension(
        &mut self,
        id: &[u8],
        critical: bool,
        value: &[u8],
    ) -> Result<(), CertificateFault> {
        match id {
            oid::KEY_USAGE => self.digital_signature = Some(digital_signature(value)?),
            oid::EXTENDED_KEY_USAGE => self.purposes = Some(purposes(value)?),
            oid::SUBJECT_ALT_NAME => self.dns_names = dns_names(value)?,
            // A leaf that signs only itself: CA or not changes nothing.
            oid::BASIC_CONSTRAINTS => {}
            _ => {
                let foreign =
                    self.evidence.take_extension(id, critical, value)? == ExtensionUse::Foreign;
                if foreign && critical && self.unknown_critical.is_none() {
                    self.unknown_critical = Some(dotted(id));
                }
            }
        }
        Ok(())
    }

    /// Judges the certificate at `now_unix_s` for a peer on `side`, everything but the
    /// evidence's truth: that is the policy's.
    ///
    /// # Errors
    /// Every fault is the peer's: refuse the connection.
    pub fn judge(
        &self,
        side: PeerSide,
        now_unix_s: u64,
        rules: &CertificateRules,
    ) -> Result<(), CertificateFault> {
        let now_s = i64::try_from(now_unix_s).unwrap_or(i64::MAX);
        let skew_s = i64::from(rules.skew_s);
        if now_s.saturating_add(skew_s) < self.not_before_unix_s {
            return Err(CertificateFault::NotYetValid {
                not_before_unix_s: self.not_before_unix_s,
                now_unix_s,
            });
        }
        if now_s.saturating_sub(skew_s) > self.not_after_unix_s {
            return Err(CertificateFault::Expired {
                not_after_unix_s: self.not_after_unix_s,
                now_unix_s,
            });
        }
        if !self.subject_is_issuer {
            return Err(CertificateFault::NotSelfIssued);
        }
        if self.digital_signature == Some(false) {
            return Err(CertificateFault::WrongPurpose { wanted: "digitalSignature" });
        }
        match (side, self.purposes) {
            (PeerSide::Accepting, Some((false, _))) => {
                return Err(CertificateFault::WrongPurpose { wanted: "serverAuth" });
            }
            (PeerSide::Connecting, Some((_, false))) => {
                return Err(CertificateFault::WrongPurpose { wanted: "clientAuth" });
            }
            _ => {}
        }
        if let Some(oid) = &self.unknown_critical {
            return Err(CertificateFault::UnknownCritical { oid: oid.clone() });
        }
        if self.evidence.claims_tdx() && self.evidence.claims_sev() {
            return Err(CertificateFault::TwoPlatforms);
        }
        match (&rules.server_name, side) {
            (Some(wanted), PeerSide::Accepting) => {
                let matches = self.dns_names.iter().any(|name| name.eq_ignore_ascii_case(wanted));
                if matches {
                    Ok(())
                } else {
                    Err(CertificateFault::WrongName { wanted: wanted.clone() })
                }
            }
            _ => Ok(()),
        }
    }

    /// The DER `SubjectPublicKeyInfo` of the key.
    #[must_use]
    pub fn public_key_info_der(&self) -> Vec<u8> {
        [&ED25519_SPKI_PREFIX[..], &self.public_key].concat()
    }
}

fn ed25519_key(key_info: Element<'_>) -> Result<[u8; 32], CertificateFault> {
    let raw = key_info.whole.strip_prefix(&ED25519_SPKI_PREFIX[..]);
    raw.and_then(|raw| raw.try_into().ok()).ok_or(CertificateFault::NotEd25519)
}

/// Bit 0 of a key usage bit string: the top bit of its first octet.
fn digital_signature(value: &[u8]) -> Result<bool, CertificateFault> {
    let mut reader = Reader::new(value);
    let bits = reader.expect(der::BIT_STRING, "key usage")?;
    reader.finish("bytes after the key usage")?;
    match bits.contents {
        [unused @ 0..=7, first, ..] => Ok(*unused < 8 && first & 0x80 != 0),
        [0] => Ok(false),
        _ => Err(CertificateFault::Malformed("key usage")),
    }
}

fn purposes(value: &[u8]) -> Result<(bool, bool), CertificateFault> {
    let mut reader = Reader::new(value);
    let list = reader.expect(der::SEQUENCE, "extended key usage")?;
    reader.finish("bytes after the extended key usage")?;
    let mut list = Reader::new(list.contents);
    let (mut server, mut client) = (false, false);
    while !list.is_empty() {
        let purpose = list.expect(der::OID, "extended key usage")?.contents;
        server |= purpose == oid::SERVER_AUTH;
        client |= purpose == oid::CLIENT_AUTH;
    }
    Ok((server, client))
}

/// The `dNSName` entries of a subject alternative name; other kinds of names are skipped.
fn dns_names(value: &[u8]) -> Result<Vec<String>, CertificateFault> {
    let mut reader = Reader::new(value);
    let list = reader.expect(der::SEQUENCE, "subject alternative name")?;
    reader.finish("bytes after the subject alternative name")?;
    let mut list = Reader::new(list.contents);
    let mut names = Vec::new();
    while !list.is_empty() {
        let name = list.next()?;
        if let (0x82, Ok(text)) = (name.tag, std::str::from_utf8(name.contents)) {
            names.push(text.to_owned());
        }
    }
    Ok(names)
}

/// An object identifier in dotted form for messages; hex if its encoding is broken or has
/// arcs beyond 32 bits.
fn dotted(content: &[u8]) -> String {
    let mut arcs: Vec<u32> = Vec::new();
    let mut arc: u32 = 0;
    for byte in content.iter().take(32) {
        let Some(shifted) = arc.checked_mul(128) else { return hex_of(content) };
        arc = shifted | u32::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            if arcs.is_empty() {
                let first = (arc / 40).min(2);
                arcs.extend([first, arc - 40 * first]);
            } else {
                arcs.push(arc);
            }
            arc = 0;
        }
    }
    if content.len() > 32 || content.last().is_none_or(|byte| byte & 0x80 != 0) {
        return hex_of(content);
    }
    arcs.iter().map(u32::to_string).collect::<Vec<_>>().join(".")
}

fn hex_of(content: &[u8]) -> String {
    content.iter().take(32).map(|byte| format!("{byte:02x}")).collect()
}
