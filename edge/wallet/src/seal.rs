//! Sealing under a passphrase: Argon2id (RFC 9106), then XChaCha20-Poly1305.

use argon2::{Algorithm, Argon2, Params, Version};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use cocoon_units::Secret;
use serde::{Deserialize, Serialize};

/// Largest memory that a file may ask for, KiB: 1 GiB.
const MEMORY_MAX_KIB: u32 = 1 << 20;
/// Most passes that a file may ask for.
const PASSES_MAX: u32 = 64;

/// What a guess of the passphrase costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SealCost {
    /// Memory, KiB.
    pub memory_kib: u32,
    /// Passes over it.
    pub passes: u32,
}

impl Default for SealCost {
    /// 64 MiB and three passes: the second recommendation of RFC 9106, section 4.
    fn default() -> Self {
        Self { memory_kib: 64 * 1024, passes: 3 }
    }
}

/// A secret under a passphrase, in the form it has in a file.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Sealed {
    kdf: String,
    memory_kib: u32,
    passes: u32,
    salt: String,
    cipher: String,
    nonce: String,
    data: String,
}

const KDF: &str = "argon2id";
const CIPHER: &str = "xchacha20poly1305";

/// Why a seal does not open.
#[derive(Debug)]
pub(crate) enum SealFault {
    /// The fields are none that this program wrote.
    Form(&'static str),
    /// The passphrase is another one.
    Passphrase,
}

/// Salt, nonce, what is sealed.
type Parts = ([u8; 16], [u8; 24], Vec<u8>);

/// Fresh random bytes for one seal: salt, nonce.
pub(crate) type Fresh = ([u8; 16], [u8; 24]);

impl Sealed {
    /// Seals `secret`; `bound` are the bytes that must not change without notice.
    pub(crate) fn close(
        secret: &[u8],
        bound: &[u8],
        passphrase: &Secret<String>,
        cost: SealCost,
        (salt, nonce): Fresh,
    ) -> Result<Self, SealFault> {
        let key = stretch(passphrase, &salt, cost)?;
        let cipher = XChaCha20Poly1305::new(key.expose().into());
        let data = cipher
            .encrypt(XNonce::from_slice(&nonce), Payload { msg: secret, aad: bound })
            .map_err(|_| SealFault::Form("the secret is too long"))?;
        Ok(Self {
            kdf: KDF.into(),
            memory_kib: cost.memory_kib,
            passes: cost.passes,
            salt: STANDARD.encode(salt),
            cipher: CIPHER.into(),
            nonce: STANDARD.encode(nonce),
            data: STANDARD.encode(data),
        })
    }

    /// Opens the seal.
    pub(crate) fn open(
        &self,
        bound: &[u8],
        passphrase: &Secret<String>,
    ) -> Result<Secret<Vec<u8>>, SealFault> {
        let (salt, nonce, data) = self.fields()?;
        let cost = SealCost { memory_kib: self.memory_kib, passes: self.passes };
        let key = stretch(passphrase, &salt, cost)?;
        let cipher = XChaCha20Poly1305::new(key.expose().into());
        cipher
            .decrypt(XNonce::from_slice(&nonce), Payload { msg: &data, aad: bound })
            .map(Secret::new)
            .map_err(|_| SealFault::Passphrase)
    }

    /// Checks all that can be checked without the passphrase.
    pub(crate) fn check(&self) -> Result<(), SealFault> {
        self.fields().map(|_| ())
    }

    fn fields(&self) -> Result<Parts, SealFault> {
        if self.kdf != KDF || self.cipher != CIPHER {
            return Err(SealFault::Form("its way of sealing is unknown"));
        }
        if !(8..=MEMORY_MAX_KIB).contains(&self.memory_kib)
            || !(1..=PASSES_MAX).contains(&self.passes)
        {
            return Err(SealFault::Form("its cost is out of range"));
        }
        let bytes = |text: &str| STANDARD.decode(text).ok();
        let salt = bytes(&self.salt).and_then(|bytes| bytes.try_into().ok());
        let nonce = bytes(&self.nonce).and_then(|bytes| bytes.try_into().ok());
        match (salt, nonce, bytes(&self.data)) {
            (Some(salt), Some(nonce), Some(data)) => Ok((salt, nonce, data)),
            _ => Err(SealFault::Form("salt, nonce or data is no base64 of the right length")),
        }
    }
}

fn stretch(
    passphrase: &Secret<String>,
    salt: &[u8; 16],
    cost: SealCost,
) -> Result<Secret<[u8; 32]>, SealFault> {
    let params = Params::new(cost.memory_kib, cost.passes, 1, Some(32))
        .map_err(|_| SealFault::Form("its cost is out of range"))?;
    let mut key = [0; 32];
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(passphrase.expose().as_bytes(), salt, &mut key)
        .map_err(|_| SealFault::Form("the passphrase cannot be stretched"))?;
    Ok(Secret::new(key))
}
