//! The Ed25519 key of a node's certificate, and its PKCS#8 PEM form (RFC 8410 7).

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use sha2::{Digest as _, Sha512};
use zeroize::{Zeroize as _, Zeroizing};

use crate::fault::Fault;

/// The DER of an Ed25519 PKCS#8 version 1 key up to the 32 seed bytes.
const PKCS8_PREFIX: [u8; 16] =
    [0x30, 0x2e, 2, 1, 0, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

/// An Ed25519 key pair; the seed is wiped when it is dropped and never printed.
#[derive(Clone)]
pub struct NodeKey {
    seed: Zeroizing<[u8; 32]>,
    public_key: [u8; 32],
}

impl NodeKey {
    /// Makes the key of a 32-byte seed. The seed must come from a secure source; this crate
    /// draws none for keys itself.
    ///
    /// # Errors
    /// [`Fault::Internal`] if the library refuses a seed, which it never should.
    pub fn from_seed(seed: &[u8; 32]) -> Result<Self, Fault> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed)
            .map_err(|_| Fault::Internal("an Ed25519 seed was refused"))?;
        let public_key = pair
            .public_key()
            .as_ref()
            .try_into()
            .map_err(|_| Fault::Internal("an Ed25519 key is not 32 bytes long"))?;
        Ok(Self { seed: Zeroizing::new(*seed), public_key })
    }

    /// Reads a PKCS#8 PEM file's contents (`PRIVATE KEY`), version 1 as OpenSSL writes it or
    /// version 2 with the public key appended.
    ///
    /// # Errors
    /// [`Fault::Credentials`] when the text is no PEM or the key no Ed25519 key.
    pub fn from_pkcs8_pem(pem: &[u8]) -> Result<Self, Fault> {
        let unusable = |detail: &str| Fault::Credentials { what: "key", detail: detail.to_owned() };
        let mut key = PrivateKeyDer::from_pem_slice(pem)
            .map_err(|_| unusable("there is no PRIVATE KEY block in it"))?;
        let seed = match &key {
            PrivateKeyDer::Pkcs8(key) => seed_of_pkcs8(key.secret_pkcs8_der()),
            _ => None,
        };
        key.zeroize();
        let seed = seed.ok_or_else(|| unusable("it is not an Ed25519 key in PKCS#8 form"))?;
        Self::from_seed(&seed)
    }

    /// The key in PKCS#8 version 1 PEM, as OpenSSL writes it.
    #[must_use]
    pub fn to_pkcs8_pem(&self) -> Zeroizing<String> {
        let der = self.pkcs8_der();
        let body = Zeroizing::new(base64::engine::general_purpose::STANDARD.encode(&*der));
        // 48 bytes are 64 characters: exactly one line.
        Zeroizing::new(format!(
            "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
            *body
        ))
    }

    /// The raw public key.
    #[must_use]
    pub fn public_key(&self) -> &[u8; 32] {
        &self.public_key
    }

    /// The report data that binds evidence to this key (protocol notes 2.4).
    #[must_use]
    pub fn report_data(&self) -> [u8; 64] {
        report_data(&self.public_key)
    }

    pub(crate) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Fault> {
        let pair = Ed25519KeyPair::from_seed_unchecked(&*self.seed)
            .map_err(|_| Fault::Internal("an Ed25519 seed was refused"))?;
        Ok(pair.sign(message).as_ref().to_vec())
    }

    pub(crate) fn tls_key(&self) -> Result<std::sync::Arc<dyn rustls::sign::SigningKey>, Fault> {
        let mut der = PrivatePkcs8KeyDer::from(self.pkcs8_der().to_vec());
        let key = rustls::crypto::aws_lc_rs::sign::any_eddsa_type(&der);
        der.zeroize();
        key.map_err(Fault::Tls)
    }

    fn pkcs8_der(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new([&PKCS8_PREFIX[..], &self.seed[..]].concat())
    }
}

impl std::fmt::Debug for NodeKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("NodeKey").finish_non_exhaustive()
    }
}

/// SHA-512 of an Ed25519 public key: the report data of evidence bound to a certificate
/// (protocol notes 2.4).
#[must_use]
pub fn report_data(public_key: &[u8; 32]) -> [u8; 64] {
    Sha512::digest(public_key).into()
}

/// The seed inside a PKCS#8 key: `SEQUENCE { INTEGER 0 or 1, Ed25519, OCTET STRING { OCTET
/// STRING seed }, .. }`.
fn seed_of_pkcs8(der: &[u8]) -> Option<Zeroizing<[u8; 32]>> {
    use crate::der::{INTEGER, OCTET_STRING, OID, Reader, SEQUENCE};
    let mut outer = Reader::new(der);
    let mut fields = Reader::new(outer.expect(SEQUENCE, "key").ok()?.contents);
    let version = fields.expect(INTEGER, "key version").ok()?.contents;
    let algorithm = fields.expect(SEQUENCE, "key algorithm").ok()?.contents;
    let algorithm = Reader::new(algorithm).expect(OID, "key algorithm").ok()?.contents;
    let wrapped = fields.expect(OCTET_STRING, "key").ok()?.contents;
    let seed = Reader::new(wrapped).expect(OCTET_STRING, "key").ok()?.contents;
    let known = matches!(version, [0 | 1]) && algorithm == crate::certificate::oid::ED25519;
    if known { seed.try_into().ok().map(Zeroizing::new) } else { None }
}
