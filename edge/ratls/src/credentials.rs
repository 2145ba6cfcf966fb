//! Our own certificate: made here, byte for byte as the reference makes it apart from the
//! version (protocol notes 2.4), and replaced while connections are open.

use std::sync::{Arc, RwLock};

use base64::Engine as _;
use rustls::client::ResolvesClientCert;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use sha1::{Digest as _, Sha1};

use crate::certificate::{ED25519_SPKI_PREFIX, PeerCertificate, oid};
use crate::der;
use crate::fault::Fault;
use crate::key::NodeKey;
use cocoon_attest::ExtensionKind;

/// Lifetime of a certificate the reference makes, in seconds.
pub const LIFETIME_S: u32 = 86_400;

/// Longest lifetime the reference makes, in seconds (protocol notes 2.4).
pub const LIFETIME_S_MAX: u32 = 1 << 30;

/// Evidence to put into our certificate; it must be bound to the certificate's key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum OwnEvidence {
    /// None: accepted by peers with the policy `any`.
    #[default]
    None,
    /// A TDX quote whose report data is [`crate::report_data`] of the key.
    Tdx {
        /// The quote, raw.
        quote: Vec<u8>,
    },
    /// An SEV-SNP report whose report data is [`crate::report_data`] of the key.
    Sev {
        /// The report, 1184 bytes.
        report: Vec<u8>,
        /// The VCEK certificate, PEM.
        vcek_pem: Vec<u8>,
    },
}

/// What to write into a certificate.
#[derive(Clone, Debug)]
pub struct CertificateRequest {
    /// Start of the validity, Unix seconds. Reference peers compare it strictly with their
    /// own clock, so set it back by as much as clocks may differ.
    pub not_before_unix_s: i64,
    /// Length of the validity, at most [`LIFETIME_S_MAX`].
    pub lifetime_s: u32,
    /// Serial number, random; its top bit is cleared to keep it positive.
    pub serial: [u8; 16],
    /// Evidence bound to the key.
    pub evidence: OwnEvidence,
}

impl CertificateRequest {
    /// A certificate without evidence that was valid `backdate_s` before `now_unix_s` and
    /// lasts the usual day from then, with a serial number of the system's random source.
    #[must_use]
    pub fn new(now_unix_s: u64, backdate_s: u32) -> Self {
        let now_s = i64::try_from(now_unix_s).unwrap_or(i64::MAX);
        Self {
            not_before_unix_s: now_s.saturating_sub(i64::from(backdate_s)),
            lifetime_s: LIFETIME_S,
            serial: rand::random(),
            evidence: OwnEvidence::None,
        }
    }
}

/// The first certificate of a PEM text.
///
/// # Errors
/// [`Fault::Credentials`]: there is none in it.
pub fn certificate_der(pem: &[u8]) -> Result<CertificateDer<'static>, Fault> {
    CertificateDer::from_pem_slice(pem).map_err(|_| Fault::Credentials {
        what: "certificate",
        detail: "there is no CERTIFICATE block in it".to_owned(),
    })
}

/// A key and the certificate that shows it.
#[derive(Clone, Debug)]
pub struct Credentials {
    key: NodeKey,
    certificate: CertificateDer<'static>,
    not_after_unix_s: i64,
    certified: Arc<CertifiedKey>,
}

impl Credentials {
    /// Makes a self-signed certificate for `key`.
    ///
    /// # Errors
    /// [`Fault::Credentials`] when the evidence or the lifetime is beyond what peers accept.
    pub fn make(key: NodeKey, request: &CertificateRequest) -> Result<Self, Fault> {
        if request.lifetime_s > LIFETIME_S_MAX {
            return Err(Fault::Credentials {
                what: "certificate",
                detail: format!("its lifetime is {} s", request.lifetime_s),
            });
        }
        let body = certificate_body(&key, request);
        let signature = key.sign(&body)?;
        let algorithm = der::element(der::SEQUENCE, &[&der::element(der::OID, &[oid::ED25519])]);
        let signature = der::element(der::BIT_STRING, &[&[0], &signature]);
        let certificate = der::element(der::SEQUENCE, &[&body, &algorithm, &signature]);
        Self::from_parts(key, certificate.into())
    }

    /// Takes a key and a certificate from PEM texts, such as the reference's `gen-cert`
    /// writes.
    ///
    /// # Errors
    /// [`Fault::Credentials`] when either cannot be read or they do not belong together.
    pub fn from_pem(certificate_pem: &[u8], key_pem: &[u8]) -> Result<Self, Fault> {
        let key = NodeKey::from_pkcs8_pem(key_pem)?;
        Self::from_parts(key, certificate_der(certificate_pem)?)
    }

    fn from_parts(key: NodeKey, certificate: CertificateDer<'static>) -> Result<Self, Fault> {
        let unusable = |detail: String| Fault::Credentials { what: "certificate", detail };
        let read =
            PeerCertificate::read(&certificate).map_err(|fault| unusable(fault.to_string()))?;
        if read.public_key != *key.public_key() {
            return Err(unusable("it belongs to another key".to_owned()));
        }
        // Not `CertifiedKey::from_der` nor the configuration's `with_single_cert`: both run a
        // strict parser that refuses critical evidence extensions.
        let certified = Arc::new(CertifiedKey::new(vec![certificate.clone()], key.tls_key()?));
        Ok(Self { key, certificate, not_after_unix_s: read.not_after_unix_s, certified })
    }

    /// The certificate in DER.
    #[must_use]
    pub fn certificate_der(&self) -> &[u8] {
        &self.certificate
    }

    /// The certificate in PEM, 64 characters a line.
    #[must_use]
    pub fn certificate_pem(&self) -> String {
        let body = base64::engine::general_purpose::STANDARD.encode(&self.certificate);
        let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
        let mut rest = body.as_str();
        while !rest.is_empty() {
            let (line, after) = rest.split_at(rest.len().min(64));
            pem.push_str(line);
            pem.push('\n');
            rest = after;
        }
        pem.push_str("-----END CERTIFICATE-----\n");
        pem
    }

    /// The key.
    #[must_use]
    pub fn key(&self) -> &NodeKey {
        &self.key
    }

    /// End of the certificate's validity, Unix seconds; renew well before it.
    #[must_use]
    pub fn not_after_unix_s(&self) -> i64 {
        self.not_after_unix_s
    }
}

/// The credentials new connections use; replacing them leaves open connections alone.
///
/// Cheap to clone: all clones show the same credentials.
#[derive(Clone, Debug)]
pub struct CredentialsHolder {
    current: Arc<RwLock<Credentials>>,
}

impl CredentialsHolder {
    /// Holds `credentials` until they are replaced.
    #[must_use]
    pub fn new(credentials: Credentials) -> Self {
        Self { current: Arc::new(RwLock::new(credentials)) }
    }

    /// Uses `credentials` for every handshake that starts from now on.
    pub fn replace(&self, credentials: Credentials) {
        let mut current = self.current.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        *current = credentials;
    }

    /// A copy of the credentials in use.
    #[must_use]
    pub fn current(&self) -> Credentials {
        self.current.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    fn certified(&self) -> Arc<CertifiedKey> {
        let current = self.current.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        current.certified.clone()
    }
}

impl ResolvesServerCert for CredentialsHolder {
    fn resolve(&self, _client_hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.certified())
    }
}

impl ResolvesClientCert for CredentialsHolder {
    fn resolve(
        &self,
        _root_hint_subjects: &[&[u8]],
        _signature_schemes: &[rustls::SignatureScheme],
    ) -> Option<Arc<CertifiedKey>> {
        Some(self.certified())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// The part of the certificate that is signed.
fn certificate_body(key: &NodeKey, request: &CertificateRequest) -> Vec<u8> {
    let version = der::element(0xa0, &[&[der::INTEGER, 1, 2]]);
    let serial = positive_integer(request.serial);
    let algorithm = der::element(der::SEQUENCE, &[&der::element(der::OID, &[oid::ED25519])]);
    let name = name();
    let not_after_s = request.not_before_unix_s.saturating_add(i64::from(request.lifetime_s));
    let validity = der::element(
        der::SEQUENCE,
        &[&der::time(request.not_before_unix_s), &der::time(not_after_s)],
    );
    let key_info = [&ED25519_SPKI_PREFIX[..], key.public_key()].concat();
    let extensions =
        der::element(0xa3, &[&der::element(der::SEQUENCE, &[&extensions(key, &request.evidence)])]);
    der::element(
        der::SEQUENCE,
        &[&version, &serial, &algorithm, &name, &validity, &name, &key_info, &extensions],
    )
}

/// A DER INTEGER: top bit clear, no redundant leading zeros.
fn positive_integer(mut serial: [u8; 16]) -> Vec<u8> {
    serial[0] &= 0x7f;
    let zeros = serial.iter().take_while(|byte| **byte == 0).count().min(15);
    let digits = serial.get(zeros..).unwrap_or_default();
    let sign: &[u8] = if digits.first().is_some_and(|byte| byte & 0x80 != 0) { &[0] } else { &[] };
    der::element(der::INTEGER, &[sign, digits])
}

/// Subject and issuer: the reference's values in its order, one attribute per set.
fn name() -> Vec<u8> {
    let attribute = |arc: u8, tag: u8, value: &str| {
        let pair = der::element(
            der::SEQUENCE,
            &[
                &der::element(der::OID, &[&[0x55, 0x04, arc]]),
                &der::element(tag, &[value.as_bytes()]),
            ],
        );
        der::element(der::SET, &[&pair])
    };
    der::element(
        der::SEQUENCE,
        &[
            &attribute(6, der::PRINTABLE_STRING, "AE"),
            &attribute(8, der::UTF8_STRING, "DUBAI"),
            &attribute(10, der::UTF8_STRING, "TDLib Development"),
            &attribute(11, der::UTF8_STRING, "Security"),
            &attribute(3, der::UTF8_STRING, "localhost"),
        ],
    )
}

/// The extensions in the reference's order: evidence first.
fn extensions(key: &NodeKey, evidence: &OwnEvidence) -> Vec<u8> {
    let mut out = Vec::new();
    let mut push = |id: &[u8], critical: bool, value: &[u8]| {
        let critical: &[u8] = if critical { &[der::BOOLEAN, 1, 0xff] } else { &[] };
        let id = der::element(der::OID, &[id]);
        let value = der::element(der::OCTET_STRING, &[value]);
        out.extend(der::element(der::SEQUENCE, &[&id, critical, &value]));
    };
    match evidence {
        OwnEvidence::None => {}
        OwnEvidence::Tdx { quote } => {
            push(&ExtensionKind::TdxQuote.oid(), true, quote);
            push(&ExtensionKind::UserClaims.oid(), true, key.public_key());
        }
        OwnEvidence::Sev { report, vcek_pem } => {
            push(&ExtensionKind::SevReportData.oid(), true, &key.report_data());
            push(&ExtensionKind::SevReport.oid(), true, report);
            push(&ExtensionKind::SevVcek.oid(), true, vcek_pem);
        }
    }
    push(oid::BASIC_CONSTRAINTS, true, &der::element(der::SEQUENCE, &[]));
    push(oid::KEY_USAGE, true, &der::element(der::BIT_STRING, &[&[7, 0x80]]));
    let purposes =
        [der::element(der::OID, &[oid::SERVER_AUTH]), der::element(der::OID, &[oid::CLIENT_AUTH])];
    push(
        oid::EXTENDED_KEY_USAGE,
        true,
        &der::element(der::SEQUENCE, &[&purposes[0], &purposes[1]]),
    );
    let key_id = Sha1::digest(key.public_key());
    push(oid::SUBJECT_KEY_IDENTIFIER, false, &der::element(der::OCTET_STRING, &[&key_id]));
    let names = [
        der::element(0x82, &[b"localhost"]),
        der::element(0x82, &[b"127.0.0.1"]),
        der::element(0x87, &[&std::net::Ipv6Addr::LOCALHOST.octets()]),
    ];
    push(
        oid::SUBJECT_ALT_NAME,
        false,
        &der::element(der::SEQUENCE, &[&names[0], &names[1], &names[2]]),
    );
    out
}
