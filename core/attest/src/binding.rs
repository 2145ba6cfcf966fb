//! Claims that compare a report with this connection: key, freshness, image, model.

use sha2::{Digest as _, Sha512};
use subtle::ConstantTimeEq as _;

use crate::channel::Statement;
use crate::digest::Digest32;
use crate::draft::Draft;
use crate::evidence::{Binding, PeerEvidence};
use crate::fault::BadEvidence;
use crate::policy::Policy;
use crate::verdict::{ClaimKind, Source};

/// Returns the report data of a certificate (protocol notes 2.4).
#[must_use]
pub fn certificate_report_data(public_key: &[u8; 32]) -> [u8; 64] {
    Sha512::digest(public_key).into()
}

/// Judges key binding and freshness of a report whose signature was verified.
pub(crate) fn judge(
    evidence: &PeerEvidence,
    report_data: &[u8; 64],
    source: Source,
    now_s: u64,
    draft: &mut Draft,
) {
    match &evidence.binding {
        Binding::CertificateKey => {
            let expected = certificate_report_data(&evidence.public_key);
            if bool::from(expected.ct_eq(report_data)) {
                draft.holds(
                    ClaimKind::KeyBinding,
                    source,
                    "the report covers the key of this certificate",
                );
            } else {
                let expected = "the key of this certificate";
                draft.fails(ClaimKind::KeyBinding, source, BadEvidence::NotBound { expected });
            }
            draft.silent(
                ClaimKind::Freshness,
                Source::Certificate,
                "a certificate carries no nonce: its evidence may be as old as the certificate",
            );
        }
        Binding::Channel(statement) => channel(statement, report_data, now_s, draft),
    }
}

fn channel(statement: &Statement, report_data: &[u8; 64], now_s: u64, draft: &mut Draft) {
    let source = Source::ChannelStatement;
    if !bool::from(statement.report_data().ct_eq(report_data)) {
        for kind in [ClaimKind::KeyBinding, ClaimKind::Freshness] {
            let expected = "the statement expected on this connection";
            draft.fails(kind, source, BadEvidence::NotBound { expected });
        }
        return;
    }
    draft.holds(ClaimKind::KeyBinding, source, "the statement names the keys of this connection");
    if now_s > statement.not_after_s {
        draft.fails(
            ClaimKind::Freshness,
            source,
            BadEvidence::Certificate {
                what: "the statement",
                detail: format!("it expired at {} (Unix seconds)", statement.not_after_s),
            },
        );
    } else {
        draft.holds(ClaimKind::Freshness, source, "signed over our nonce and this connection");
        draft.valid_until_s(statement.not_after_s);
    }
}

/// Judges the image hash; `listed` says that other lists of measurements already passed.
pub(crate) fn image(
    evidence: &PeerEvidence,
    hash: Digest32,
    policy: &Policy,
    listed: bool,
    source: Source,
    draft: &mut Draft,
) {
    let kind = ClaimKind::Image;
    draft.image(hash);
    if let Binding::Channel(statement) = &evidence.binding
        && statement.image != hash
    {
        return draft.fails(
            kind,
            Source::ChannelStatement,
            BadEvidence::Measurement {
                register: "the image named in the statement",
                found: statement.image.to_string(),
            },
        );
    }
    if !policy.image_hashes.is_empty() {
        if policy.image_hashes.contains(&hash) {
            draft.holds(kind, source, format!("the image {hash} is on the list"));
        } else {
            draft.fails(
                kind,
                source,
                BadEvidence::Measurement { register: "the image hash", found: hash.to_string() },
            );
        }
    } else if listed {
        draft.holds(kind, source, "the measurements are on the lists of the policy");
    } else {
        draft.silent(kind, source, format!("the policy lists no images; this one is {hash}"));
    }
}

/// Judges the model named in the statement.
pub(crate) fn weights(evidence: &PeerEvidence, policy: &Policy, draft: &mut Draft) {
    let (kind, source) = (ClaimKind::Weights, Source::ChannelStatement);
    let Binding::Channel(statement) = &evidence.binding else { return };
    if statement.model.is_zero() {
        draft.silent(kind, source, "the peer names no model");
    } else if policy.models.is_empty() {
        let model = statement.model;
        draft.silent(kind, source, format!("the policy lists no models; the peer names {model}"));
    } else if policy.models.contains(&statement.model) {
        draft.holds(kind, source, format!("the model {} is on the list", statement.model));
    } else {
        draft.fails(
            kind,
            source,
            BadEvidence::Measurement { register: "the model", found: statement.model.to_string() },
        );
    }
}
