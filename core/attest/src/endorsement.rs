//! An owner's word for a machine: this platform speaks for this id.
//!
//! An id inside a TEE's statement is worth nothing by itself, since a cracked machine of another
//! owner states any id. An endorsement (the word of RFC 9334, 2.1) ties it to the platform from
//! outside: the owner signs both together, and whoever verifies names the owners it believes
//! ([`crate::Policy::owners`]). It is not bound to a connection, and need not be: the quote that
//! comes beside it is, and names platform and id.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::codec::{Malformed, Reader};
use crate::digest::Digest32;
use crate::evidence::Stated;
use crate::fault::{BadEvidence, EndorsementFault};
use crate::verdict::PlatformId;

/// First bytes of every endorsement; no other signed thing begins with them.
pub const ENDORSEMENT_TAG: &[u8] = b"cocoon.endorsement.v1";

/// Longest endorsement in bytes.
pub const ENDORSEMENT_LIMIT: usize = 512;

/// Longest file of an endorsement in bytes: base64 and an end of line.
pub const ENDORSEMENT_TEXT_LIMIT: usize = 1024;

/// Length of the signature at the end.
const SIGNATURE_LEN: usize = 64;

/// An owner whose endorsements the policy believes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NamedOwner {
    /// Its Ed25519 key.
    pub key: Digest32,
    /// Name of the owner or its site, for people.
    pub site: String,
    /// The contract or worker id that this owner may speak for; nothing means any.
    #[serde(default)]
    pub owner_id: Option<Digest32>,
}

/// What an owner says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endorsement {
    /// The owner's Ed25519 key.
    pub owner: Digest32,
    /// Network, such as TON's global id.
    pub network_id: i32,
    /// Hash part of the root contract's address.
    pub root_contract: Digest32,
    /// Contract or worker id that the platform may state: hash part of an address.
    pub id: Digest32,
    /// The platform, as its maker names it.
    pub platform: PlatformId,
    /// Last second in which it counts, Unix seconds.
    pub not_after_s: u64,
}

/// An endorsement with its signature, which nobody has checked yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedEndorsement {
    /// What is said.
    pub endorsement: Endorsement,
    signature: [u8; SIGNATURE_LEN],
}

/// A file that holds no endorsement. The user has to give another one.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum EndorsementFileFault {
    /// It is too long.
    #[error("{len} bytes are no endorsement, the limit is {ENDORSEMENT_TEXT_LIMIT}")]
    TooLong {
        /// Its length.
        len: usize,
    },
    /// It is no base64.
    #[error("it is not the base64 text that `cocoon endorsement sign` writes")]
    NoText,
    /// The bytes are something else.
    #[error("it is no endorsement: {0}")]
    Malformed(#[from] Malformed),
}

impl Endorsement {
    /// Returns what is signed: the tag, then every field in the order of the structure, integers
    /// big endian; of the platform a byte for its maker (1 Intel, 2 AMD), a byte for the length
    /// and the bytes. No two endorsements share an encoding.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(300);
        out.extend_from_slice(ENDORSEMENT_TAG);
        out.extend_from_slice(&self.owner.0);
        out.extend_from_slice(&self.network_id.to_be_bytes());
        out.extend_from_slice(&self.root_contract.0);
        out.extend_from_slice(&self.id.0);
        let maker = match &self.platform {
            PlatformId::IntelPpid(_) => 1,
            PlatformId::AmdChip(_) => 2,
        };
        // What is no name of a platform becomes an empty one, which nobody reads.
        let name = hex::decode(self.platform.hex()).unwrap_or_default();
        let name = name.get(..PlatformId::LEN_MAX).unwrap_or(&name);
        out.extend_from_slice(&[maker, u8::try_from(name.len()).unwrap_or(0)]);
        out.extend_from_slice(name);
        out.extend_from_slice(&self.not_after_s.to_be_bytes());
        out
    }

    /// Signs it. The key's public half takes the place of [`Endorsement::owner`].
    #[must_use]
    pub fn sign(self, key: &SigningKey) -> SignedEndorsement {
        let endorsement = Self { owner: Digest32::from(key.verifying_key().to_bytes()), ..self };
        let signature = key.sign(&endorsement.encode()).to_bytes();
        SignedEndorsement { endorsement, signature }
    }
}

impl SignedEndorsement {
    /// Writes it: the encoding, then 64 bytes of signature.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = self.endorsement.encode();
        out.extend_from_slice(&self.signature);
        out
    }

    /// Reads it; it must fill `bytes` exactly. The signature is not checked.
    ///
    /// # Errors
    /// [`Malformed`]: it is none. From a peer, its claim `site` fails.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        if bytes.len() > ENDORSEMENT_LIMIT {
            return Err(Malformed("it is too long"));
        }
        let mut reader = Reader::new(bytes);
        if reader.take(ENDORSEMENT_TAG.len())? != ENDORSEMENT_TAG {
            return Err(Malformed("it does not begin like an endorsement of version 1"));
        }
        // Fields of a structure expression are read in the order they stand here.
        let endorsement = Endorsement {
            owner: Digest32::from(reader.array()?),
            network_id: i32::from_be_bytes(reader.array()?),
            root_contract: Digest32::from(reader.array()?),
            id: Digest32::from(reader.array()?),
            platform: platform(&mut reader)?,
            not_after_s: reader.u64()?,
        };
        let signature = reader.array()?;
        reader.finish()?;
        Ok(Self { endorsement, signature })
    }

    /// Writes it as a file: one line of base64.
    #[must_use]
    pub fn to_text(&self) -> String {
        format!("{}\n", STANDARD.encode(self.encode()))
    }

    /// Reads a file.
    ///
    /// # Errors
    /// [`EndorsementFileFault`]: it is none.
    pub fn of_text(text: &[u8]) -> Result<Self, EndorsementFileFault> {
        if text.len() > ENDORSEMENT_TEXT_LIMIT {
            return Err(EndorsementFileFault::TooLong { len: text.len() });
        }
        let text = text.trim_ascii();
        let bytes = STANDARD.decode(text).map_err(|_| EndorsementFileFault::NoText)?;
        Ok(Self::decode(&bytes)?)
    }

    /// Whether the key inside signed it. Keys of small order, under which anything verifies, count
    /// as a wrong signature.
    #[must_use]
    pub fn is_signed(&self) -> bool {
        let signature = Signature::from_bytes(&self.signature);
        VerifyingKey::from_bytes(&self.endorsement.owner.0)
            .is_ok_and(|key| key.verify_strict(&self.endorsement.encode(), &signature).is_ok())
    }

    /// Checks signature, network and date: everything that needs no evidence beside it.
    ///
    /// # Errors
    /// The first thing that is wrong, as [`EndorsementFault`] says whose matter it is.
    pub fn check(
        &self,
        network_id: i32,
        root_contract: Digest32,
        now_s: u64,
    ) -> Result<(), EndorsementFault> {
        let said = &self.endorsement;
        if !self.is_signed() {
            return Err(EndorsementFault::Signature);
        }
        if said.network_id != network_id || said.root_contract != root_contract {
            let (network_id, root_contract) = (said.network_id, said.root_contract.to_string());
            return Err(EndorsementFault::OtherNetwork { network_id, root_contract });
        }
        if said.not_after_s < now_s {
            return Err(EndorsementFault::Expired { not_after_s: said.not_after_s });
        }
        Ok(())
    }
}

fn platform(reader: &mut Reader<'_>) -> Result<PlatformId, Malformed> {
    let maker = reader.byte()?;
    let len = usize::from(reader.byte()?);
    if len == 0 || len > PlatformId::LEN_MAX {
        return Err(Malformed("the length of its platform"));
    }
    let name = reader.take(len)?;
    if name.iter().all(|byte| *byte == 0) {
        return Err(Malformed("zeros name no platform"));
    }
    match maker {
        1 => Ok(PlatformId::IntelPpid(hex::encode(name))),
        2 => Ok(PlatformId::AmdChip(hex::encode(name))),
        _ => Err(Malformed("the maker of its platform")),
    }
}

/// What became of an endorsement.
pub(crate) enum Endorsed<'a> {
    /// None was shown, or the policy names no owners.
    No,
    /// A key signed it that the policy does not name.
    ByStranger(Digest32),
    /// It holds.
    By {
        /// Who signed.
        owner: &'a NamedOwner,
        /// Last second in which it counts, Unix seconds.
        not_after_s: u64,
    },
}

/// Judges the endorsement that came beside genuine evidence of `platform`.
pub(crate) fn judge<'a>(
    bytes: Option<&[u8]>,
    stated: Option<&Stated>,
    platform: &PlatformId,
    owners: &'a [NamedOwner],
    now_s: u64,
) -> Result<Endorsed<'a>, BadEvidence> {
    let Some(bytes) = bytes.filter(|_| !owners.is_empty()) else { return Ok(Endorsed::No) };
    let what = "the owner's endorsement";
    let malformed = |fault: Malformed| BadEvidence::Malformed { what, detail: fault.0.to_owned() };
    let signed = SignedEndorsement::decode(bytes).map_err(malformed)?;
    let said = &signed.endorsement;
    let Some(owner) = owners.iter().find(|owner| owner.key == said.owner) else {
        return Ok(Endorsed::ByStranger(said.owner));
    };
    let refused = |fault| BadEvidence::Endorsement { fault };
    let stated = stated.ok_or_else(|| refused(EndorsementFault::NoStatement))?;
    signed.check(stated.network_id, stated.root_contract, now_s).map_err(refused)?;
    let (endorsed, found) = (said.id.to_string(), stated.own_id.to_string());
    if said.id != stated.own_id {
        return Err(refused(EndorsementFault::OtherId { endorsed, stated: found }));
    }
    if said.platform != *platform {
        let (endorsed, found) = (said.platform.to_string(), platform.to_string());
        return Err(refused(EndorsementFault::OtherPlatform { endorsed, found }));
    }
    if owner.owner_id.is_some_and(|id| id != said.id) {
        let site = owner.site.clone();
        return Err(refused(EndorsementFault::NotItsId { site, endorsed }));
    }
    Ok(Endorsed::By { owner, not_after_s: said.not_after_s })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said() -> Endorsement {
        Endorsement {
            owner: Digest32::ZERO,
            network_id: -3,
            root_contract: Digest32::from([5; 32]),
            id: Digest32::from([6; 32]),
            platform: PlatformId::IntelPpid("ab".repeat(16)),
            not_after_s: 1_000,
        }
    }

    fn key() -> SigningKey {
        SigningKey::from_bytes(&[7; 32])
    }

    #[test]
    fn endorsements_are_read_as_written_and_never_otherwise() {
        let chip = Endorsement { platform: PlatformId::AmdChip("0c".repeat(64)), ..said() };
        for endorsement in [said(), chip] {
            let signed = endorsement.sign(&key());
            let bytes = signed.encode();
            assert!(bytes.len() <= ENDORSEMENT_LIMIT);
            assert_eq!(SignedEndorsement::decode(&bytes), Ok(signed.clone()));
            assert_eq!(SignedEndorsement::of_text(signed.to_text().as_bytes()), Ok(signed));
            for len in 0..bytes.len() {
                assert!(SignedEndorsement::decode(&bytes[..len]).is_err(), "cut to {len}");
            }
            assert!(SignedEndorsement::decode(&[bytes.as_slice(), &[0]].concat()).is_err());
        }
        let nowhere = Endorsement { platform: PlatformId::AmdChip("00".repeat(64)), ..said() };
        assert!(SignedEndorsement::decode(&nowhere.sign(&key()).encode()).is_err());
        for text in [&b""[..], b"no base64", b"AAAA", &[b'A'; 2_000]] {
            assert!(SignedEndorsement::of_text(text).is_err());
        }
    }

    #[test]
    fn every_flipped_bit_breaks_reading_or_the_signature() {
        let signed = said().sign(&key());
        assert!(signed.is_signed());
        let bytes = signed.encode();
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            let passes = SignedEndorsement::decode(&changed).is_ok_and(|read| read.is_signed());
            assert!(!passes, "bit {bit}");
        }
    }

    #[test]
    fn a_key_under_which_anything_verifies_counts_as_no_signature() {
        // The neutral element: R = identity and s = 0 satisfy the equation for every message.
        let mut identity = [0; 32];
        identity[0] = 1;
        let mut signature = [0; SIGNATURE_LEN];
        signature[0] = 1;
        let endorsement = Endorsement { owner: Digest32::from(identity), ..said() };
        assert!(!SignedEndorsement { endorsement, signature }.is_signed());
    }

    #[test]
    fn network_and_date_are_compared() {
        let signed = said().sign(&key());
        let root = Digest32::from([5; 32]);
        assert_eq!(signed.check(-3, root, 1_000), Ok(()));
        assert_eq!(
            signed.check(-3, root, 1_001),
            Err(EndorsementFault::Expired { not_after_s: 1_000 })
        );
        for (network_id, root) in [(-239, root), (-3, Digest32::from([4; 32]))] {
            let fault = signed.check(network_id, root, 0);
            assert!(matches!(fault, Err(EndorsementFault::OtherNetwork { .. })), "{fault:?}");
        }
    }
}
