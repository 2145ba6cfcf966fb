//! The typed statement that report data cover, and its one encoding.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha512};

use crate::digest::Digest32;

/// First bytes of every statement; another purpose needs another tag.
pub const STATEMENT_TAG: &[u8] = b"cocoon.channel.v1";

/// Longest dialled address in bytes.
pub const ADDRESS_LIMIT: usize = 255;

/// Label of the TLS exporter (RFC 8446, 7.5).
pub const EXPORTER_LABEL: &[u8] = b"EXPORTER-cocoon-attest-v1";

/// `SubjectPublicKeyInfo` of an Ed25519 key without the key (RFC 8410, 4).
const ED25519_SPKI: [u8; 12] =
    [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// Returns the context of the TLS exporter: the verifier's nonce and the role of the side
/// that attests, so that the two directions differ.
#[must_use]
pub fn exporter_context(verifier_nonce: &[u8; 32], attester: ChannelRole) -> [u8; 33] {
    let mut context = [attester.byte(); 33];
    if let Some(nonce) = context.first_chunk_mut::<32>() {
        *nonce = *verifier_nonce;
    }
    context
}

/// Returns SHA-256 of the `SubjectPublicKeyInfo` of an Ed25519 leaf key.
#[must_use]
pub fn leaf_key_digest(public_key: &[u8; 32]) -> Digest32 {
    Digest32::sha256(&[&ED25519_SPKI, public_key])
}

/// What a node is to its peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChannelRole {
    /// A client gateway or a program of a user.
    Client,
    /// A proxy.
    Proxy,
    /// A worker.
    Worker,
    /// A key manager.
    KeyManager,
}

impl ChannelRole {
    /// Returns the byte of the encoding.
    #[must_use]
    pub const fn byte(self) -> u8 {
        match self {
            Self::Client => 1,
            Self::Proxy => 2,
            Self::Worker => 3,
            Self::KeyManager => 4,
        }
    }

    /// Returns the role of a byte of the encoding.
    #[must_use]
    pub const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Client),
            2 => Some(Self::Proxy),
            3 => Some(Self::Worker),
            4 => Some(Self::KeyManager),
            _ => None,
        }
    }
}

/// What one side states about itself over one connection.
///
/// The side that attests builds it to be signed; the side that verifies builds its own
/// expectation of it. The two must agree in every byte.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Statement {
    /// Role of the side that attests.
    pub role: ChannelRole,
    /// Role of the side that verifies.
    pub peer_role: ChannelRole,
    /// Nonce drawn by the side that verifies.
    pub verifier_nonce: [u8; 32],
    /// TLS exporter of this connection, from both ends the same.
    pub exporter: [u8; 32],
    /// SHA-256 of the attesting side's leaf key.
    pub own_key: Digest32,
    /// SHA-256 of the verifying side's leaf key; zero when it shows no certificate.
    pub peer_key: Digest32,
    /// Network, such as TON's global id.
    pub network_id: i32,
    /// Hash part of the root contract's address.
    pub root_contract: Digest32,
    /// Own contract or worker id of the attesting side.
    pub own_id: Digest32,
    /// Address that the connecting side dialled, as it wrote it; at most 255 bytes.
    pub dialled_address: String,
    /// Digest of the keys the attesting side uses for anything else.
    pub keyset: Digest32,
    /// Image hash of the attesting side.
    pub image: Digest32,
    /// Digest of the model it serves; zero for none.
    pub model: Digest32,
    /// Digest of its GPU evidence; zero for none.
    pub gpu: Digest32,
    /// A recent block of the chain, as a lower bound of the time of signing.
    pub beacon: Digest32,
    /// Last second in which the statement counts, Unix seconds.
    pub not_after_s: u64,
}

impl Statement {
    /// Returns the canonical encoding: the tag, then every field in the order of the
    /// structure, integers big endian, the address with a length of one byte. No two
    /// statements share an encoding.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let address = self.dialled_address.as_bytes();
        // Longer addresses are refused where they enter; here only the encoding is kept sound.
        let address = address.get(..ADDRESS_LIMIT).unwrap_or(address);
        let mut out = Vec::with_capacity(400);
        out.extend_from_slice(STATEMENT_TAG);
        out.push(self.role.byte());
        out.push(self.peer_role.byte());
        out.extend_from_slice(&self.verifier_nonce);
        out.extend_from_slice(&self.exporter);
        out.extend_from_slice(&self.own_key.0);
        out.extend_from_slice(&self.peer_key.0);
        out.extend_from_slice(&self.network_id.to_be_bytes());
        out.extend_from_slice(&self.root_contract.0);
        out.extend_from_slice(&self.own_id.0);
        out.push(u8::try_from(address.len()).unwrap_or(u8::MAX));
        out.extend_from_slice(address);
        for digest in [&self.keyset, &self.image, &self.model, &self.gpu, &self.beacon] {
            out.extend_from_slice(&digest.0);
        }
        out.extend_from_slice(&self.not_after_s.to_be_bytes());
        out
    }

    /// Returns what the report data must be: SHA-512 of the encoding.
    #[must_use]
    pub fn report_data(&self) -> [u8; 64] {
        Sha512::digest(self.encode()).into()
    }
}
