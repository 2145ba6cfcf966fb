//! The one entry: evidence, collateral, policy and time in; a verdict out.

use crate::binding;
use crate::collateral::Collateral;
use crate::draft::{Draft, Obstacle};
use crate::evidence::{Binding, PeerEvidence};
use crate::fault::{BadEvidence, CannotCheck};
use crate::policy::{Policy, PolicyMode};
use crate::verdict::{ClaimKind, Source, Verdict};
use crate::{gpu, site, snp, tdx};

/// Judges `evidence` by `policy` at `now_ms` (Unix milliseconds).
///
/// Never fails: what is wrong or missing is part of the verdict; ask [`Verdict::outcome`]
/// what to do with the peer. Costs at most a few signature checks; keep the verdict in a
/// [`crate::VerdictCache`].
#[must_use]
pub fn verify(
    evidence: &PeerEvidence,
    collateral: &Collateral,
    policy: &Policy,
    now_ms: u64,
) -> Verdict {
    let mut draft = Draft::new(evidence.digest(), policy, now_ms);
    if !policy.in_force(now_ms) {
        let why = CannotCheck::PolicyDates { version: policy.version };
        draft.obstructed(&ClaimKind::ALL, Source::Policy, &Obstacle::Cannot(why));
        return draft.finish();
    }
    match policy.mode {
        PolicyMode::Any => {}
        PolicyMode::Tee => tee(evidence, collateral, policy, now_ms, &mut draft),
        PolicyMode::FakeTee => fake(evidence, policy, &mut draft),
    }
    draft.finish()
}

fn tee(
    evidence: &PeerEvidence,
    collateral: &Collateral,
    policy: &Policy,
    now_ms: u64,
    draft: &mut Draft,
) {
    let now_s = now_ms / 1000;
    if evidence.claims_tdx() && evidence.claims_sev() {
        let why = Obstacle::Bad(BadEvidence::TwoPlatforms);
        return draft.obstructed(&[ClaimKind::Hardware], Source::Certificate, &why);
    }
    let mut log = None;
    if evidence.claims_tdx() {
        match tdx_parts(evidence) {
            Ok(quote) => {
                let collateral = collateral.tdx.as_ref();
                log = tdx::judge(evidence, quote, collateral, policy, now_s, draft);
            }
            Err(bad) => {
                let why = Obstacle::Bad(bad);
                draft.obstructed(&[ClaimKind::Hardware], Source::Certificate, &why);
            }
        }
    } else if evidence.claims_sev() {
        snp::judge(evidence, collateral.snp.as_ref(), policy, now_s, draft);
    } else {
        let what = "evidence of a TEE";
        let why = Obstacle::Bad(BadEvidence::Missing { what });
        draft.obstructed(&[ClaimKind::Hardware], Source::Certificate, &why);
    }
    binding::weights(evidence, policy, draft);
    gpu::judge(evidence, log.as_ref(), policy, now_s, draft);
    site::judge(evidence, policy, draft);
}

/// Returns the quote; of a certificate only when both TDX extensions are there and the
/// claims name the key (protocol notes 2.8).
fn tdx_parts(evidence: &PeerEvidence) -> Result<&[u8], BadEvidence> {
    let quote = evidence.tdx_quote.as_deref().ok_or(BadEvidence::Missing { what: "the TDX quote" })?;
    if matches!(evidence.binding, Binding::Channel(_)) {
        return Ok(quote);
    }
    let claims =
        evidence.user_claims.as_deref().ok_or(BadEvidence::Missing { what: "the user claims" })?;
    if claims != evidence.public_key {
        let expected = "the user claims beside the quote";
        return Err(BadEvidence::NotBound { expected });
    }
    Ok(quote)
}

#[cfg(feature = "dangerous-fake-evidence")]
fn fake(evidence: &PeerEvidence, policy: &Policy, draft: &mut Draft) {
    crate::fake::judge(evidence, policy, draft);
}

#[cfg(not(feature = "dangerous-fake-evidence"))]
fn fake(_evidence: &PeerEvidence, _policy: &Policy, draft: &mut Draft) {
    let why = Obstacle::Bad(BadEvidence::PlatformRefused { platform: "the fake TEE" });
    draft.obstructed(&[ClaimKind::Hardware], Source::Policy, &why);
}
