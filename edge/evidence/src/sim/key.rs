//! Signing keys of the development PKI.

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256_SHA256_FIXED_SIGNING,
    ECDSA_P384_SHA384_ASN1_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _,
    RSA_PSS_SHA384, RsaKeyPair,
};

use super::der;
use crate::fault::{EvidenceFault, crypto};

/// Which kind of key a maker uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeyKind {
    /// ECDSA on P-256 with SHA-256: Intel.
    P256,
    /// ECDSA on P-384 with SHA-384: AMD's chips, NVIDIA.
    P384,
    /// RSASSA-PSS of 4096 bits with SHA-384: AMD's authorities.
    Rsa,
}

/// A key that signs.
pub(super) struct SigningKey {
    kind: KeyKind,
    pkcs8: Vec<u8>,
    public: Vec<u8>,
}

impl SigningKey {
    /// Draws a key.
    pub(super) fn generate(kind: KeyKind) -> Result<Self, EvidenceFault> {
        let random = SystemRandom::new();
        let ecdsa = |algorithm| EcdsaKeyPair::generate_pkcs8(algorithm, &random);
        let pkcs8 = match kind {
            KeyKind::P256 => {
                ecdsa(&ECDSA_P256_SHA256_FIXED_SIGNING).map_err(crypto)?.as_ref().to_vec()
            }
            KeyKind::P384 => {
                ecdsa(&ECDSA_P384_SHA384_FIXED_SIGNING).map_err(crypto)?.as_ref().to_vec()
            }
            KeyKind::Rsa => {
                let pair = RsaKeyPair::generate(KeySize::Rsa4096).map_err(crypto)?;
                pair.as_der().map_err(crypto)?.as_ref().to_vec()
            }
        };
        Self::from_pkcs8(kind, pkcs8)
    }

    /// Reads a key that [`SigningKey::pkcs8`] gave.
    pub(super) fn from_pkcs8(kind: KeyKind, pkcs8: Vec<u8>) -> Result<Self, EvidenceFault> {
        let public = match kind {
            KeyKind::P256 => EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &pkcs8)
                .map_err(crypto)?
                .public_key()
                .as_ref()
                .to_vec(),
            KeyKind::P384 => EcdsaKeyPair::from_pkcs8(&ECDSA_P384_SHA384_FIXED_SIGNING, &pkcs8)
                .map_err(crypto)?
                .public_key()
                .as_ref()
                .to_vec(),
            KeyKind::Rsa => {
                RsaKeyPair::from_pkcs8(&pkcs8).map_err(crypto)?.public_key().as_ref().to_vec()
            }
        };
        Ok(Self { kind, pkcs8, public })
    }

    /// Returns the private key, to be kept.
    pub(super) fn pkcs8(&self) -> &[u8] {
        &self.pkcs8
    }

    /// Returns the key bits: an uncompressed point, or an `RSAPublicKey`.
    pub(super) fn public(&self) -> &[u8] {
        &self.public
    }

    /// Signs for a certificate or a list: DER for ECDSA, raw for RSA.
    pub(super) fn sign_der(&self, message: &[u8]) -> Result<Vec<u8>, EvidenceFault> {
        let random = SystemRandom::new();
        let algorithm = match self.kind {
            KeyKind::P256 => &ECDSA_P256_SHA256_ASN1_SIGNING,
            KeyKind::P384 => &ECDSA_P384_SHA384_ASN1_SIGNING,
            KeyKind::Rsa => {
                let pair = RsaKeyPair::from_pkcs8(&self.pkcs8).map_err(crypto)?;
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PSS_SHA384, &random, message, &mut signature).map_err(crypto)?;
                return Ok(signature);
            }
        };
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, &self.pkcs8).map_err(crypto)?;
        Ok(pair.sign(&random, message).map_err(crypto)?.as_ref().to_vec())
    }

    /// Signs as `r ‖ s` of fixed length; only for ECDSA.
    pub(super) fn sign_fixed(&self, message: &[u8]) -> Result<Vec<u8>, EvidenceFault> {
        let algorithm = match self.kind {
            KeyKind::P256 => &ECDSA_P256_SHA256_FIXED_SIGNING,
            KeyKind::P384 => &ECDSA_P384_SHA384_FIXED_SIGNING,
            KeyKind::Rsa => return Err(EvidenceFault::Crypto),
        };
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, &self.pkcs8).map_err(crypto)?;
        Ok(pair.sign(&SystemRandom::new(), message).map_err(crypto)?.as_ref().to_vec())
    }

    /// Returns the `AlgorithmIdentifier` of signatures by this key.
    pub(super) fn algorithm(&self) -> Vec<u8> {
        match self.kind {
            KeyKind::P256 => der::sequence(&[der::oid(&[1, 2, 840, 10045, 4, 3, 2])]),
            KeyKind::P384 => der::sequence(&[der::oid(&[1, 2, 840, 10045, 4, 3, 3])]),
            KeyKind::Rsa => pss_sha384(),
        }
    }

    /// Returns the `SubjectPublicKeyInfo`.
    pub(super) fn spki(&self) -> Vec<u8> {
        let curve =
            |arcs: &[u64]| der::sequence(&[der::oid(&[1, 2, 840, 10045, 2, 1]), der::oid(arcs)]);
        let algorithm = match self.kind {
            KeyKind::P256 => curve(&[1, 2, 840, 10045, 3, 1, 7]),
            KeyKind::P384 => curve(&[1, 3, 132, 0, 34]),
            KeyKind::Rsa => der::sequence(&[der::oid(&[1, 2, 840, 113_549, 1, 1, 1]), der::null()]),
        };
        der::sequence(&[algorithm, der::bits(&self.public)])
    }
}

/// RSASSA-PSS with SHA-384, MGF1 of SHA-384 and a salt of 48 bytes (RFC 4055, 3.1).
fn pss_sha384() -> Vec<u8> {
    let sha384 = der::sequence(&[der::oid(&[2, 16, 840, 1, 101, 3, 4, 2, 2]), der::null()]);
    let mask = der::sequence(&[der::oid(&[1, 2, 840, 113_549, 1, 1, 8]), sha384.clone()]);
    let parameters = der::sequence(&[
        der::tagged(0, &sha384),
        der::tagged(1, &mask),
        der::tagged(2, &der::number(48)),
    ]);
    der::sequence(&[der::oid(&[1, 2, 840, 113_549, 1, 1, 10]), parameters])
}
