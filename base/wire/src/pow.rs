//! Proof of work before the TLS handshake (protocol notes 2.2).
//!
//! The accepting side sends a [`Challenge`] at once, the connecting side answers with a
//! [`Response`]. Each challenge is for one connection.

use sha2::{Digest as _, Sha256};

use crate::PowFault;

/// Magic number of a challenge.
const CHALLENGE_MAGIC: u32 = 0x418e_1291;
/// Magic number of a response.
const RESPONSE_MAGIC: u32 = 0x0182_7319;
/// Bytes of a challenge.
pub const CHALLENGE_BYTES: usize = 24;
/// Bytes of a response.
pub const RESPONSE_BYTES: usize = 12;
/// What the reference demands: about a million hashes.
pub const DIFFICULTY_DEFAULT: u32 = 20;
/// What the reference solves at most: about a quarter of a billion hashes.
pub const DIFFICULTY_MAX: u32 = 28;

/// What the accepting side demands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Challenge {
    /// Leading zero bits, 0..=64.
    pub difficulty: u32,
    /// Random bytes, fresh for each connection.
    pub salt: [u8; 16],
}

/// What the connecting side found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Response {
    /// The number that does the work.
    pub nonce: u64,
}

impl Challenge {
    /// Writes the 24 bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; CHALLENGE_BYTES] {
        let mut bytes = [0; CHALLENGE_BYTES];
        bytes[..4].copy_from_slice(&CHALLENGE_MAGIC.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.difficulty.to_le_bytes());
        bytes[8..].copy_from_slice(&self.salt);
        bytes
    }

    /// Reads the 24 bytes and refuses work above `difficulty_max`.
    ///
    /// # Errors
    /// [`PowFault`]: the peer is no such server or demands too much; close the connection.
    pub fn decode(bytes: &[u8; CHALLENGE_BYTES], difficulty_max: u32) -> Result<Self, PowFault> {
        let [m0, m1, m2, m3, d0, d1, d2, d3, salt @ ..] = *bytes;
        let magic = u32::from_le_bytes([m0, m1, m2, m3]);
        if magic != CHALLENGE_MAGIC {
            return Err(PowFault::Magic { found: magic, expected: CHALLENGE_MAGIC });
        }
        let demanded = i32::from_le_bytes([d0, d1, d2, d3]);
        match u32::try_from(demanded) {
            Ok(difficulty) if difficulty <= difficulty_max => Ok(Self { difficulty, salt }),
            _ => Err(PowFault::Difficulty { demanded, maximum: difficulty_max }),
        }
    }

    /// Whether `response` does the work.
    #[must_use]
    pub fn accepts(&self, response: Response) -> bool {
        self.zero_bits(response.nonce) >= self.difficulty
    }

    /// Leading zero bits of the first 8 hash bytes, read as a little-endian number.
    fn zero_bits(&self, nonce: u64) -> u32 {
        let hash =
            Sha256::new().chain_update(self.salt).chain_update(nonce.to_le_bytes()).finalize();
        hash.first_chunk().map_or(0, |head| u64::from_le_bytes(*head).leading_zeros())
    }
}

impl Response {
    /// Writes the 12 bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; RESPONSE_BYTES] {
        let mut bytes = [0; RESPONSE_BYTES];
        bytes[..4].copy_from_slice(&RESPONSE_MAGIC.to_le_bytes());
        bytes[4..].copy_from_slice(&self.nonce.to_le_bytes());
        bytes
    }

    /// Reads the 12 bytes; the work is checked by [`Challenge::accepts`].
    ///
    /// # Errors
    /// [`PowFault::Magic`]: close the connection without a word.
    pub fn decode(bytes: &[u8; RESPONSE_BYTES]) -> Result<Self, PowFault> {
        let [m0, m1, m2, m3, nonce @ ..] = *bytes;
        let magic = u32::from_le_bytes([m0, m1, m2, m3]);
        if magic != RESPONSE_MAGIC {
            return Err(PowFault::Magic { found: magic, expected: RESPONSE_MAGIC });
        }
        Ok(Self { nonce: u64::from_le_bytes(nonce) })
    }
}

/// Searches a nonce upwards from 0, a bounded number of tries per step, so that the caller
/// can yield, stop or count between the steps.
#[derive(Clone, Debug)]
pub struct Solver {
    challenge: Challenge,
    next_nonce: u64,
}

impl Solver {
    /// Starts the search.
    #[must_use]
    pub const fn new(challenge: Challenge) -> Self {
        Self { challenge, next_nonce: 0 }
    }

    /// Makes at most `tries` tries; `None` when none of them did the work.
    pub fn step(&mut self, tries: u64) -> Option<Response> {
        for _ in 0..tries {
            let response = Response { nonce: self.next_nonce };
            self.next_nonce = self.next_nonce.wrapping_add(1);
            if self.challenge.accepts(response) {
                return Some(response);
            }
        }
        None
    }

    /// Tries made so far.
    #[must_use]
    pub const fn tries(&self) -> u64 {
        self.next_nonce
    }
}
