//! The one entry: evidence, collateral, policy and time in; a verdict out.

use crate::binding;
use crate::cache::VerdictCache;
use crate::collateral::Collateral;
use crate::digest::Digest32;
use crate::draft::{Draft, Obstacle};
use crate::evidence::{Binding, PeerEvidence};
use crate::fault::{BadEvidence, CannotCheck, PolicyFault};
use crate::gpu::KnownGpus;
use crate::policy::{Policy, PolicyMode};
use crate::verdict::{ClaimKind, PlatformId, Source, Verdict};
use crate::{gpu, site, snp, tdx};

/// Judges `evidence` by `policy` at `now_ms` (Unix milliseconds).
///
/// Never fails: what is wrong or missing is part of the verdict; ask [`Verdict::outcome`]
/// what to do with the peer. Costs about a dozen signature checks; a [`Verifier`] remembers.
#[must_use]
pub fn verify(
    evidence: &PeerEvidence,
    collateral: &Collateral,
    policy: &Policy,
    now_ms: u64,
) -> Verdict {
    judge((evidence, evidence.digest()), collateral, (policy, policy.digest()), now_ms, None)
}

/// Judges peers by one policy and remembers the verdicts.
#[derive(Debug)]
pub struct Verifier {
    policy: Policy,
    policy_digest: Digest32,
    cache: VerdictCache,
    known_gpus: KnownGpus,
}

impl Verifier {
    /// Returns a verifier that keeps at most `capacity` verdicts for at most `max_age_ms`.
    ///
    /// # Errors
    /// The policy contradicts itself: fix the configuration.
    pub fn new(policy: Policy, capacity: usize, max_age_ms: u64) -> Result<Self, PolicyFault> {
        policy.check()?;
        let policy_digest = policy.digest();
        Ok(Self {
            policy,
            policy_digest,
            cache: VerdictCache::new(capacity, max_age_ms),
            known_gpus: KnownGpus::new(capacity, max_age_ms),
        })
    }

    /// Returns the policy in use.
    #[must_use]
    pub const fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Replaces the policy; every kept verdict is forgotten.
    ///
    /// # Errors
    /// The policy contradicts itself: the old one stays in use.
    pub fn replace_policy(&mut self, policy: Policy) -> Result<(), PolicyFault> {
        policy.check()?;
        self.policy_digest = policy.digest();
        self.policy = policy;
        self.cache.clear();
        self.known_gpus.clear();
        Ok(())
    }

    /// Refuses a platform from now on, whatever was decided about it before. Every kept
    /// verdict is forgotten, since the policy is another one now.
    pub fn revoke_platform(&mut self, platform: PlatformId) {
        self.policy.revoked_platforms.push(platform);
        self.policy_digest = self.policy.digest();
        self.cache.clear();
        self.known_gpus.clear();
    }

    /// Returns a kept verdict over this evidence, so that nothing need be fetched for it.
    pub fn known(&mut self, evidence: &PeerEvidence, now_ms: u64) -> Option<Verdict> {
        self.cache.find(evidence.digest(), self.policy_digest, now_ms).cloned()
    }

    /// Judges evidence like [`verify`], from memory where the verdict still counts.
    pub fn judge(
        &mut self,
        evidence: &PeerEvidence,
        collateral: &Collateral,
        now_ms: u64,
    ) -> Verdict {
        let digest = evidence.digest();
        if let Some(verdict) = self.cache.find(digest, self.policy_digest, now_ms) {
            return verdict.clone();
        }
        let policy = (&self.policy, self.policy_digest);
        let known_gpus = Some(&mut self.known_gpus);
        let verdict = judge((evidence, digest), collateral, policy, now_ms, known_gpus);
        // Evidence over a connection is never seen a second time.
        if evidence.binding == Binding::CertificateKey {
            self.cache.keep(verdict.clone());
        }
        verdict
    }
}

fn judge(
    (evidence, evidence_digest): (&PeerEvidence, Digest32),
    collateral: &Collateral,
    (policy, policy_digest): (&Policy, Digest32),
    now_ms: u64,
    known_gpus: Option<&mut KnownGpus>,
) -> Verdict {
    let mut draft = Draft::new(evidence_digest, policy, policy_digest, now_ms);
    if !policy.in_force(now_ms) {
        let why = CannotCheck::PolicyDates { version: policy.version };
        draft.obstructed(&ClaimKind::ALL, Source::Policy, &Obstacle::Cannot(why));
        return draft.finish();
    }
    match policy.mode {
        PolicyMode::Any => {}
        PolicyMode::Tee => tee(evidence, collateral, policy, now_ms, known_gpus, &mut draft),
        PolicyMode::FakeTee => fake(evidence, policy, &mut draft),
    }
    draft.finish()
}

fn tee(
    evidence: &PeerEvidence,
    collateral: &Collateral,
    policy: &Policy,
    now_ms: u64,
    known_gpus: Option<&mut KnownGpus>,
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
    gpu::judge(evidence, log.as_ref(), policy, now_s, known_gpus, draft);
    draft.unbind(&[ClaimKind::Weights, ClaimKind::Gpu]);
    site::judge(evidence, policy, now_s, draft);
}

/// Returns the quote; of a certificate only when both TDX extensions are there and the
/// claims name the key (protocol notes 2.8).
fn tdx_parts(evidence: &PeerEvidence) -> Result<&[u8], BadEvidence> {
    let quote =
        evidence.tdx_quote.as_deref().ok_or(BadEvidence::Missing { what: "the TDX quote" })?;
    if evidence.binding != Binding::CertificateKey {
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
