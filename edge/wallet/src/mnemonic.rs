//! The 24 words of TON wallets (TON documentation, "TON wallet mnemonics").
//!
//! The words are those of BIP-39, but the check and the derivation are TON's own: the entropy is
//! HMAC-SHA512 keyed with the words, the key is PBKDF2-HMAC-SHA512 of it.

use bip39::Language;
use cocoon_units::Secret;
use ed25519_dalek::SigningKey;
use hmac::{Hmac, Mac as _};
use pbkdf2::pbkdf2;
use sha2::Sha512;
use zeroize::Zeroize as _;

use crate::WordsFault;

/// How many words a wallet has.
const WORDS: usize = 24;
/// Rounds of the derivation of the key.
const ROUNDS: u32 = 100_000;
const SALT_KEY: &[u8] = b"TON default seed";
/// Words without a password: the first byte of this derivation is 0.
const SALT_CHECK: &[u8] = b"TON seed version";
const ROUNDS_CHECK: u32 = 390;
/// Words with a password: the first byte of this derivation is 1.
const SALT_PASSWORD: &[u8] = b"TON fast seed version";

type HmacSha512 = Hmac<Sha512>;

/// 24 words that belong together; wiped when dropped, never printed.
#[derive(Clone, Debug)]
pub struct Mnemonic(Secret<String>);

impl Mnemonic {
    /// Reads words as a person types them: any spacing, any case.
    ///
    /// # Errors
    /// [`WordsFault`] says which word to look at.
    pub fn parse(text: &str) -> Result<Self, WordsFault> {
        let mut words: Vec<&'static str> = Vec::with_capacity(WORDS);
        let found = text.split_whitespace().count();
        if found != WORDS {
            return Err(WordsFault::Count { found });
        }
        for (index, word) in text.split_whitespace().enumerate() {
            let mut lower = word.to_lowercase();
            let known = Language::English.find_word(&lower);
            lower.zeroize();
            let number = known.ok_or(WordsFault::Unknown { position: index + 1 })?;
            words.push(word_at(number));
        }
        let candidate = Self(Secret::new(words.join(" ")));
        let entropy = candidate.entropy();
        if is_basic(&entropy) {
            return Ok(candidate);
        }
        if first_byte(&entropy, SALT_PASSWORD, 1) == 1 {
            return Err(WordsFault::NeedPassword);
        }
        Err(WordsFault::Mismatch)
    }

    /// Draws new words; `random` gives 48 uniform bytes, freshly each time. About 256 draws are
    /// needed, a few tenths of a second.
    #[must_use]
    pub fn generate(mut random: impl FnMut(&mut [u8; WORDS * 2])) -> Self {
        let mut bytes = [0; WORDS * 2];
        loop {
            random(&mut bytes);
            let words: Vec<&str> = bytes
                .chunks_exact(2)
                .map(|pair| u16::from_be_bytes([pair[0], pair[1]]))
                // 2048 divides 65536: every word is as likely as another.
                .map(|number| word_at(number % 2048))
                .collect();
            let candidate = Self(Secret::new(words.join(" ")));
            if is_basic(&candidate.entropy()) {
                bytes.zeroize();
                return candidate;
            }
        }
    }

    /// The words with one space between them: show them only to whoever asked.
    #[must_use]
    pub fn words(&self) -> &str {
        self.0.expose()
    }

    /// The wallet's key.
    #[must_use]
    pub fn key(&self) -> SigningKey {
        let mut seed = [0; 64];
        derive(&self.entropy(), SALT_KEY, ROUNDS, &mut seed);
        let mut secret = [0; 32];
        secret.copy_from_slice(&seed[..32]);
        let key = SigningKey::from_bytes(&secret);
        seed.zeroize();
        secret.zeroize();
        key
    }

    fn entropy(&self) -> Secret<[u8; 64]> {
        Secret::new(hmac(self.0.expose().as_bytes()))
    }
}

/// The text of a word; numbers come from the list itself or are below its length.
fn word_at(number: u16) -> &'static str {
    Language::English.word_list().get(usize::from(number)).copied().unwrap_or_default()
}

/// HMAC of nothing under `key`: TON's entropy of words without a password.
fn hmac(key: &[u8]) -> [u8; 64] {
    // Every key length is accepted by HMAC; the empty result would fail every later check.
    HmacSha512::new_from_slice(key).map_or([0; 64], |mac| mac.finalize().into_bytes().into())
}

fn derive(entropy: &Secret<[u8; 64]>, salt: &[u8], rounds: u32, into: &mut [u8; 64]) {
    if pbkdf2::<HmacSha512>(entropy.expose(), salt, rounds, into).is_err() {
        into.zeroize();
    }
}

fn first_byte(entropy: &Secret<[u8; 64]>, salt: &[u8], rounds: u32) -> u8 {
    let mut out = [0; 64];
    derive(entropy, salt, rounds, &mut out);
    let first = out[0];
    out.zeroize();
    first
}

fn is_basic(entropy: &Secret<[u8; 64]>) -> bool {
    first_byte(entropy, SALT_CHECK, ROUNDS_CHECK) == 0
}
