//! Claims that compare a report with this connection: key, freshness, image, model.

use sha2::{Digest as _, Sha512};
use subtle::ConstantTimeEq as _;

use crate::digest::Digest32;
use crate::draft::Draft;
use crate::evidence::{PeerEvidence, Stated};
use crate::fault::BadEvidence;
use crate::policy::Policy;
use crate::runtime::user_data;
use crate::verdict::{ClaimKind, Source};
use crate::vtpm::VtpmQuote;

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
    let chosen = match evidence.runtime_data.as_deref() {
        None => *report_data,
        Some(runtime_data) => match user_data(runtime_data, report_data) {
            Ok(chosen) => chosen,
            Err(bad) => {
                draft.fails(ClaimKind::Freshness, source, bad.clone());
                return draft.fails(ClaimKind::KeyBinding, source, bad);
            }
        },
    };
    let report_data = &chosen;
    match evidence.binding.stated() {
        None => {
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
        Some(stated) => statement(&stated, report_data, now_s, draft),
    }
}

fn statement(statement: &Stated, report_data: &[u8; 64], now_s: u64, draft: &mut Draft) {
    let source = statement.source;
    let over_channel = source == Source::ChannelStatement;
    if !bool::from(statement.report_data.ct_eq(report_data)) {
        for kind in [ClaimKind::KeyBinding, ClaimKind::Freshness] {
            let expected = if over_channel {
                "the statement expected on this connection"
            } else {
                "the statement of this report over our nonce"
            };
            draft.fails(kind, source, BadEvidence::NotBound { expected });
        }
        return;
    }
    let names = if over_channel { "the keys of this connection" } else { "the worker's keys" };
    draft.holds(ClaimKind::KeyBinding, source, format!("the statement names {names}"));
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
        let over = if over_channel { "our nonce and this connection" } else { "our nonce" };
        draft.holds(ClaimKind::Freshness, source, format!("signed over {over}"));
        draft.valid_until_s(statement.not_after_s);
    }
}

/// Judges the image of a report whose signature was verified; `listed` says that other lists of
/// measurements already passed.
pub(crate) fn image(
    evidence: &PeerEvidence,
    (report_data, hash): (&[u8; 64], Digest32),
    policy: &Policy,
    listed: bool,
    source: Source,
    draft: &mut Draft,
) {
    let kind = ClaimKind::Image;
    if evidence.runtime_data.is_some() || evidence.vtpm.is_some() {
        return match above_paravisor(evidence, report_data, policy) {
            Ok(Some(reason)) => draft.holds(kind, Source::Vtpm, reason),
            Ok(None) => {
                let reason = "the report measures the cloud's paravisor, not what the guest booted";
                draft.silent(kind, source, reason);
            }
            Err(bad) => draft.fails(kind, Source::Vtpm, bad),
        };
    }
    draft.image(hash);
    if let Some(stated) = evidence.binding.stated()
        && stated.image != hash
    {
        let register = "the image named in the statement";
        let found = stated.image.to_string();
        return draft.fails(kind, stated.source, BadEvidence::Measurement { register, found });
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

/// Says what shows the image of a guest above a paravisor: the registers of its vTPM, where the policy
/// lists them, and the paravisor, which alone vouches for them. What is shown must be true in any case.
fn above_paravisor(
    evidence: &PeerEvidence,
    report_data: &[u8; 64],
    policy: &Policy,
) -> Result<Option<String>, BadEvidence> {
    let Some(vtpm) = &evidence.vtpm else { return Ok(None) };
    let runtime_data = evidence.runtime_data.as_deref();
    let quote = VtpmQuote::read(vtpm, runtime_data)?;
    user_data(runtime_data.unwrap_or_default(), report_data)?;
    if policy.vtpm.registers.is_empty() || !policy.vtpm.lists_paravisor_of(evidence) {
        return Ok(None);
    }
    policy.vtpm.compare(&quote)?;
    let count = policy.vtpm.registers.len();
    Ok(Some(format!("the paravisor and {count} registers of its vTPM are on the policy's lists")))
}

/// Judges the model named in the statement.
pub(crate) fn weights(evidence: &PeerEvidence, policy: &Policy, draft: &mut Draft) {
    let kind = ClaimKind::Weights;
    let Some(statement) = evidence.binding.stated() else { return };
    let source = statement.source;
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
