//! What a worker's TEE says about the worker to a client behind a proxy.
//!
//! No TLS session joins the two, so the statement names no exporter: it binds the client's nonce
//! to the worker's keys, image and model. A proxy may carry a report of another machine, but then
//! the receipts of the answers are not signed by the key of this report, and the client sees it.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha512};

use crate::channel::{Announcement, ChannelRole, Message, Offer};
use crate::codec::{Malformed, Reader};
use crate::digest::Digest32;
use crate::evidence::{Binding, PeerEvidence};

/// First bytes of every statement of a report; no other statement begins with them.
pub const REPORT_TAG: &[u8] = b"cocoon.report.v1";

/// First bytes of what a keyset's digest covers.
pub const KEYSET_TAG: &[u8] = b"cocoon.keyset.v1";

/// Longest report in bytes.
pub const REPORT_LIMIT: usize = 256 * 1024;

/// Longest full name of a model in bytes.
pub const MODEL_NAME_LIMIT: usize = 1024;

/// Version of the encoding.
const VERSION: u8 = 1;

/// Purpose of the only key of a keyset so far: Ed25519, signs receipts.
const RECEIPT_KEY: u8 = 1;

/// The keys that a node uses for anything but its connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Keyset {
    /// Ed25519 key that signs receipts; drawn inside the TEE when the node starts.
    pub receipt_key: Digest32,
}

impl Keyset {
    /// Returns the digest that statements name: SHA-256 of the tag and of each key, with its
    /// purpose in one byte before it.
    #[must_use]
    pub fn digest(&self) -> Digest32 {
        Digest32::sha256(&[KEYSET_TAG, &[1, RECEIPT_KEY], &self.receipt_key.0])
    }
}

/// What a report's quote covers. The verifying side builds it from its own nonce and what the
/// report says, and compares it with the quote.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReportStatement {
    /// Role of the side that attests.
    pub role: ChannelRole,
    /// Nonce drawn by the side that verifies.
    pub verifier_nonce: Digest32,
    /// SHA-256 of the attesting side's leaf key (SPKI), by which its peers know it.
    pub own_key: Digest32,
    /// Network, such as TON's global id.
    pub network_id: i32,
    /// Hash part of the root contract's address.
    pub root_contract: Digest32,
    /// Hash part of the address of the attesting side's owner.
    pub own_id: Digest32,
    /// [`Keyset::digest`].
    pub keyset: Digest32,
    /// Its image hash.
    pub image: Digest32,
    /// SHA-256 of the full name of the model it serves; zero for none.
    pub model: Digest32,
    /// Digest of its GPU evidence; zero for none.
    pub gpu: Digest32,
    /// A recent block of the chain; zero when it reads none.
    pub beacon: Digest32,
    /// Last second in which the statement counts, Unix seconds.
    pub not_after_s: u64,
}

impl ReportStatement {
    /// Returns the canonical encoding: the tag, then every field in the order of the structure,
    /// integers big endian. All fields have fixed lengths, so no two statements share one.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(320);
        out.extend_from_slice(REPORT_TAG);
        out.push(self.role.byte());
        out.extend_from_slice(&self.verifier_nonce.0);
        out.extend_from_slice(&self.own_key.0);
        out.extend_from_slice(&self.network_id.to_be_bytes());
        let digests = [
            &self.root_contract,
            &self.own_id,
            &self.keyset,
            &self.image,
            &self.model,
            &self.gpu,
            &self.beacon,
        ];
        for digest in digests {
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

/// A report as it travels: everything of the statement but the nonce, and the evidence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Role of the side that attests.
    pub role: ChannelRole,
    /// See [`ReportStatement::own_key`].
    pub own_key: Digest32,
    /// See [`ReportStatement::network_id`].
    pub network_id: i32,
    /// See [`ReportStatement::root_contract`].
    pub root_contract: Digest32,
    /// The keys themselves.
    pub keyset: Keyset,
    /// Full name of the model, `name@commit:root`; empty for none.
    pub model_name: String,
    /// The rest of the statement and the evidence. Its `keyset` and `model` are derived from
    /// the members above and not read.
    pub offer: Offer,
}

impl Report {
    /// Returns the statement that the quote has to cover for this nonce.
    #[must_use]
    pub fn statement(&self, verifier_nonce: Digest32) -> ReportStatement {
        let said = &self.offer.announcement;
        ReportStatement {
            role: self.role,
            verifier_nonce,
            own_key: self.own_key,
            network_id: self.network_id,
            root_contract: self.root_contract,
            own_id: said.own_id,
            keyset: self.keyset.digest(),
            image: said.image,
            model: self.model(),
            gpu: said.gpu,
            beacon: said.beacon,
            not_after_s: said.not_after_s,
        }
    }

    /// Returns the digest by which registries list the model; zero for none.
    #[must_use]
    pub fn model(&self) -> Digest32 {
        if self.model_name.is_empty() {
            return Digest32::ZERO;
        }
        Digest32::sha256(&[self.model_name.as_bytes()])
    }

    /// Returns the evidence, bound to the statement that this side expects.
    #[must_use]
    pub fn to_peer_evidence(&self, verifier_nonce: Digest32) -> PeerEvidence {
        let expected = self.statement(verifier_nonce);
        let offer = &self.offer;
        PeerEvidence {
            sev_report_data: offer.sev_report.is_some().then(|| expected.report_data().to_vec()),
            binding: Binding::Report(Box::new(expected)),
            tdx_quote: offer.tdx_quote.clone(),
            sev_report: offer.sev_report.clone(),
            sev_vcek_pem: offer.sev_vcek_pem.clone(),
            gpu: offer.gpu.clone(),
            event_log: offer.event_log.clone(),
            runtime_data: offer.runtime_data.clone(),
            boot_log: offer.boot_log.clone(),
            endorsement: offer.endorsement.clone(),
            vtpm: offer.vtpm.clone(),
            ..PeerEvidence::default()
        }
    }

    /// Writes the report: version, role, fixed fields, the model's name with a length of two
    /// bytes, then the encoding of a channel offer.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION, self.role.byte()];
        out.extend_from_slice(&self.own_key.0);
        out.extend_from_slice(&self.network_id.to_be_bytes());
        out.extend_from_slice(&self.root_contract.0);
        out.extend_from_slice(&self.keyset.receipt_key.0);
        let name = self.model_name.as_bytes();
        // Longer names are refused where they enter; here only the encoding is kept sound.
        let name = name.get(..MODEL_NAME_LIMIT).unwrap_or(name);
        out.extend_from_slice(&u16::try_from(name.len()).unwrap_or(0).to_be_bytes());
        out.extend_from_slice(name);
        let offer = Offer { announcement: self.announcement(), ..self.offer.clone() };
        out.extend_from_slice(&Message::Offer(Box::new(offer)).encode());
        out
    }

    /// Reads a report, which must fill `bytes` exactly.
    ///
    /// # Errors
    /// [`Malformed`]: count the worker as one without evidence.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        if bytes.len() > REPORT_LIMIT {
            return Err(Malformed("it is too long"));
        }
        let mut reader = Reader::new(bytes);
        if reader.byte()? != VERSION {
            return Err(Malformed("its version is unknown"));
        }
        let role = ChannelRole::from_byte(reader.byte()?).ok_or(Malformed("its role"))?;
        let own_key = Digest32::from(reader.array()?);
        let network_id = i32::from_be_bytes(reader.array()?);
        let root_contract = Digest32::from(reader.array()?);
        let keyset = Keyset { receipt_key: Digest32::from(reader.array()?) };
        let model_name = reader.text(MODEL_NAME_LIMIT)?;
        let Ok(Message::Offer(offer)) = Message::decode(reader.rest()) else {
            return Err(Malformed("its offer cannot be read"));
        };
        let report =
            Self { role, own_key, network_id, root_contract, keyset, model_name, offer: *offer };
        if report.offer.announcement != report.announcement() {
            return Err(Malformed("its offer names another keyset or model"));
        }
        Ok(report)
    }

    /// The announcement with what is derived.
    fn announcement(&self) -> Announcement {
        Announcement {
            keyset: self.keyset.digest(),
            model: self.model(),
            ..self.offer.announcement.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let mut report = Report {
            role: ChannelRole::Worker,
            own_key: Digest32::from([1; 32]),
            network_id: -3,
            root_contract: Digest32::from([2; 32]),
            keyset: Keyset { receipt_key: Digest32::from([3; 32]) },
            model_name: "model@commit:root".to_owned(),
            offer: Offer { tdx_quote: Some(vec![4; 100]), ..Offer::default() },
        };
        report.offer.announcement.image = Digest32::from([5; 32]);
        report.offer.announcement.not_after_s = 7;
        report.offer.announcement = report.announcement();
        report
    }

    #[test]
    fn reports_are_read_as_written_and_never_otherwise() {
        let report = report();
        let bytes = report.encode();
        assert_eq!(Report::decode(&bytes).as_ref(), Ok(&report));
        for len in 0..bytes.len() {
            assert!(Report::decode(&bytes[..len]).is_err(), "cut to {len}");
        }
        let longer = [bytes.as_slice(), &[0]].concat();
        assert!(Report::decode(&longer).is_err());
        // Another key with the old digest beside it.
        let mut other = bytes;
        other[2 + 32 + 4 + 32] ^= 1;
        assert!(Report::decode(&other).is_err());
    }

    #[test]
    fn statements_differ_in_every_field() {
        let base = report().statement(Digest32::from([9; 32]));
        let other = |change: fn(&mut ReportStatement)| {
            let mut statement = base.clone();
            change(&mut statement);
            assert_ne!(statement.report_data(), base.report_data(), "{statement:?}");
        };
        other(|s| s.role = ChannelRole::Proxy);
        other(|s| s.verifier_nonce.0[0] ^= 1);
        other(|s| s.own_key.0[0] ^= 1);
        other(|s| s.network_id += 1);
        other(|s| s.root_contract.0[0] ^= 1);
        other(|s| s.own_id.0[0] ^= 1);
        other(|s| s.keyset.0[0] ^= 1);
        other(|s| s.image.0[0] ^= 1);
        other(|s| s.model.0[0] ^= 1);
        other(|s| s.gpu.0[0] ^= 1);
        other(|s| s.beacon.0[0] ^= 1);
        other(|s| s.not_after_s += 1);
    }
}
