//! End-to-end encryption of requests and answers (protocol notes 4.8).
//!
//! Strings inside the JSON are encrypted to a public key of the root contract; keys,
//! numbers and the fields in [`CLEAR_FIELDS`] stay readable. This module holds the
//! cryptography of one string; [`crate::e2e_json`] walks the JSON.

use aes::cipher::generic_array::GenericArray;
use aes::cipher::{BlockDecryptMut as _, BlockEncryptMut as _, KeyIvInit as _};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cocoon_units::{PublicKey, Secret};
use curve25519_dalek::edwards::{CompressedEdwardsY, EdwardsPoint};
use hmac::{Hmac, Mac as _};
use sha2::{Digest as _, Sha256, Sha512};
use subtle::ConstantTimeEq as _;
use zeroize::{Zeroize as _, Zeroizing};

use crate::E2eFault;
use crate::tl::SecretKey;

/// Fields whose content is never encrypted, at any depth.
pub const CLEAR_FIELDS: [&str; 12] = [
    "model",
    "max_completion_tokens",
    "max_tokens",
    "max_coefficient",
    "timeout",
    "debug",
    "enable_debug",
    "request_guid",
    "is_encrypted",
    "sender_public_key",
    "receiver_public_key",
    "encryption_nonce",
];

/// Start of an encrypted string.
const ENCRYPTED: &str = "ENC_";
/// Start of a string that the sender left readable.
const PLAIN: &str = "DEC_";
/// Bytes of the message id in front of the ciphertext.
const ID_BYTES: usize = 16;
/// Bytes of a cipher block.
const BLOCK_BYTES: usize = 16;

type Encryptor = cbc::Encryptor<aes::Aes256>;
type Decryptor = cbc::Decryptor<aes::Aes256>;

/// Which way a text travels; each way has its own secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the worker.
    ToWorker,
    /// From the worker to the client.
    ToClient,
}

/// Source of random bytes; it must be a cryptographic one.
pub type Random<'a> = dyn FnMut(&mut [u8]) + 'a;

/// The Ed25519 public key of a seed.
#[must_use]
pub fn public_key(seed: &SecretKey) -> PublicKey {
    let scalar = clamped_scalar(seed);
    PublicKey(EdwardsPoint::mul_base_clamped(*scalar).compress().0)
}

/// First half of SHA-512 of a seed; clamping happens at its use.
fn clamped_scalar(seed: &SecretKey) -> Zeroizing<[u8; 32]> {
    let mut hash = Sha512::digest(seed.expose());
    let mut scalar = Zeroizing::new([0; 32]);
    scalar.copy_from_slice(&hash[..32]);
    hash.as_mut_slice().zeroize();
    scalar
}

/// Reads a public key: 32 raw bytes, 64 hex digits or 44 base64 characters.
///
/// # Errors
/// [`E2eFault::PublicKey`]: the sender of the field is guilty.
pub fn parse_public_key(text: &str) -> Result<PublicKey, E2eFault> {
    let bytes = match text.len() {
        32 => text.as_bytes().to_vec(),
        64 => hex::decode(text).map_err(|_| E2eFault::PublicKey)?,
        44 => STANDARD.decode(text).map_err(|_| E2eFault::PublicKey)?,
        _ => return Err(E2eFault::PublicKey),
    };
    bytes.try_into().map(PublicKey).map_err(|_| E2eFault::PublicKey)
}

/// Secret of one request in one direction.
#[derive(Clone, Debug)]
pub struct DirectionSecret(Secret<[u8; 32]>);

impl DirectionSecret {
    /// Derives the secret from one side's seed, the other side's key and the nonce **as the
    /// text of its field**.
    ///
    /// # Errors
    /// [`E2eFault::PublicKey`] when the key is no point of the curve or of small order.
    pub fn derive(
        own: &SecretKey,
        peer: &PublicKey,
        nonce: &str,
        direction: Direction,
    ) -> Result<Self, E2eFault> {
        let point = CompressedEdwardsY(peer.0).decompress().ok_or(E2eFault::PublicKey)?;
        let shared = point.to_montgomery().mul_clamped(*clamped_scalar(own));
        let shared = Zeroizing::new(shared.0);
        if bool::from(shared.ct_eq(&[0; 32])) {
            return Err(E2eFault::PublicKey);
        }
        let direction: &[u8] = match direction {
            Direction::ToWorker => b"c",
            Direction::ToClient => b"w",
        };
        let hash = Sha256::new()
            .chain_update(shared.as_slice())
            .chain_update(nonce.as_bytes())
            .chain_update(direction);
        Ok(Self(Secret::new(hash.finalize().into())))
    }

    /// Encrypts bytes; the output is at most 47 bytes longer.
    #[must_use]
    pub fn encrypt(&self, plain: &[u8], random: &mut Random<'_>) -> Vec<u8> {
        let prefix = BLOCK_BYTES + plain.len().wrapping_neg() % BLOCK_BYTES;
        let mut padded = Zeroizing::new(vec![0; prefix + plain.len()]);
        let (head, body) = padded.split_at_mut(prefix);
        if let Some((first, rest)) = head.split_first_mut() {
            *first = u8::try_from(prefix).unwrap_or(u8::MAX);
            random(rest);
        }
        body.copy_from_slice(plain);
        let (encryption_key, id_key) = self.keys();
        let id = message_id(&id_key, &padded);
        let (key, iv) = block_key(&encryption_key, &id);
        let mut out = Vec::with_capacity(ID_BYTES + padded.len());
        out.extend_from_slice(&id);
        out.extend_from_slice(&padded);
        let mut cipher = Encryptor::new((&*key).into(), &iv.into());
        for block in out[ID_BYTES..].chunks_exact_mut(BLOCK_BYTES) {
            cipher.encrypt_block_mut(GenericArray::from_mut_slice(block));
        }
        out
    }

    /// Decrypts bytes and checks that they were not changed.
    ///
    /// # Errors
    /// [`E2eFault::Length`] or [`E2eFault::Changed`]: wrong key or a guilty sender.
    pub fn decrypt(&self, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, E2eFault> {
        let length = E2eFault::Length { length: sealed.len() };
        let (id, body) = sealed.split_first_chunk::<ID_BYTES>().ok_or(length)?;
        if body.is_empty() || !body.len().is_multiple_of(BLOCK_BYTES) {
            return Err(length);
        }
        let (encryption_key, id_key) = self.keys();
        let (key, iv) = block_key(&encryption_key, id);
        let mut cipher = Decryptor::new((&*key).into(), &iv.into());
        let mut padded = Zeroizing::new(body.to_vec());
        for block in padded.chunks_exact_mut(BLOCK_BYTES) {
            cipher.decrypt_block_mut(GenericArray::from_mut_slice(block));
        }
        if !bool::from(message_id(&id_key, &padded).ct_eq(id)) {
            return Err(E2eFault::Changed);
        }
        let prefix = padded.first().copied().map_or(0, usize::from);
        match padded.get(prefix..) {
            Some(plain) if prefix >= BLOCK_BYTES => Ok(Zeroizing::new(plain.to_vec())),
            _ => Err(E2eFault::Changed),
        }
    }

    /// Encrypts a text into the form of a JSON string.
    #[must_use]
    pub fn encrypt_text(&self, plain: &str, random: &mut Random<'_>) -> String {
        format!("{ENCRYPTED}{}", hex::encode(self.encrypt(plain.as_bytes(), random)))
    }

    /// Reads a JSON string: encrypted, or marked as plain.
    ///
    /// # Errors
    /// [`E2eFault`]: the sender is guilty, or the key is another one.
    pub fn decrypt_text(&self, text: &str) -> Result<String, E2eFault> {
        if let Some(plain) = text.strip_prefix(PLAIN) {
            return Ok(plain.to_owned());
        }
        let digits = text.strip_prefix(ENCRYPTED).ok_or(E2eFault::Method)?;
        let sealed = hex::decode(digits).map_err(|_| E2eFault::Hex)?;
        let plain = self.decrypt(&sealed)?;
        std::str::from_utf8(&plain).map(str::to_owned).map_err(|_| E2eFault::NotText)
    }

    /// Keys for the cipher and for the message id.
    fn keys(&self) -> (Zeroizing<[u8; 32]>, Zeroizing<[u8; 32]>) {
        let large = hmac_sha512(self.0.expose(), b"tde2e_encrypt_data");
        let mut keys = (Zeroizing::new([0; 32]), Zeroizing::new([0; 32]));
        keys.0.copy_from_slice(&large[..32]);
        keys.1.copy_from_slice(&large[32..]);
        keys
    }
}

/// First 16 bytes of HMAC-SHA256 over the padded text and four zero bytes.
fn message_id(key: &[u8; 32], padded: &[u8]) -> [u8; ID_BYTES] {
    // HMAC pads a short key with zeros to the block size, so this is the same key.
    let mut block = Zeroizing::new([0u8; 64]);
    block[..32].copy_from_slice(key);
    let mut mac = Hmac::<Sha256>::new((&*block).into());
    mac.update(padded);
    mac.update(&0i32.to_le_bytes());
    let mut id = [0; ID_BYTES];
    id.copy_from_slice(&mac.finalize().into_bytes()[..ID_BYTES]);
    id
}

/// Key and initial vector of one message.
fn block_key(key: &[u8; 32], id: &[u8; ID_BYTES]) -> (Zeroizing<[u8; 32]>, [u8; BLOCK_BYTES]) {
    let large = hmac_sha512(key, id);
    let mut cipher_key = Zeroizing::new([0; 32]);
    cipher_key.copy_from_slice(&large[..32]);
    let mut iv = [0; BLOCK_BYTES];
    iv.copy_from_slice(&large[32..48]);
    (cipher_key, iv)
}

/// HMAC-SHA512.
fn hmac_sha512(key: &[u8; 32], message: &[u8]) -> Zeroizing<[u8; 64]> {
    let mut block = Zeroizing::new([0u8; 128]);
    block[..32].copy_from_slice(key);
    let mut mac = Hmac::<Sha512>::new((&*block).into());
    mac.update(message);
    Zeroizing::new(mac.finalize().into_bytes().into())
}
