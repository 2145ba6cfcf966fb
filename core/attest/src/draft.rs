//! A verdict in the making.

use crate::digest::{Digest32, Digest48};
use crate::fault::{BadEvidence, CannotCheck};
use crate::measurement::Measurement;
use crate::policy::Policy;
use crate::verdict::{Claim, ClaimKind, Finding, PlatformId, Source, Verdict};

/// Collects findings; whatever nobody decides stays "not claimed".
pub(crate) struct Draft {
    verdict: Verdict,
    now_ms: u64,
}

/// Why evidence could not be shown to be genuine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Obstacle {
    Bad(BadEvidence),
    Cannot(CannotCheck),
}

impl From<BadEvidence> for Obstacle {
    fn from(bad: BadEvidence) -> Self {
        Self::Bad(bad)
    }
}

impl From<CannotCheck> for Obstacle {
    fn from(cannot: CannotCheck) -> Self {
        Self::Cannot(cannot)
    }
}

impl Draft {
    pub(crate) fn new(
        evidence: Digest32,
        policy: &Policy,
        policy_digest: Digest32,
        now_ms: u64,
    ) -> Self {
        let claims = ClaimKind::ALL
            .into_iter()
            .map(|kind| Claim {
                kind,
                finding: Finding::NotClaimed,
                source: Source::Nothing,
                age_ms: None,
                reason: "nothing was offered for it, or the policy does not look at it".to_owned(),
            })
            .collect();
        let valid_until_ms = policy.not_after_s.map_or(u64::MAX, |s| s.saturating_mul(1000));
        let verdict = Verdict {
            claims,
            required: policy.required.clone(),
            evidence,
            policy: policy_digest,
            policy_version: policy.version,
            measurement: None,
            image: None,
            platform: None,
            root: None,
            decided_ms: now_ms,
            valid_until_ms,
        };
        Self { verdict, now_ms }
    }

    pub(crate) fn finish(self) -> Verdict {
        self.verdict
    }

    pub(crate) fn holds(&mut self, kind: ClaimKind, source: Source, reason: impl Into<String>) {
        self.set(kind, source, Finding::Holds, reason.into());
    }

    /// Like [`Draft::holds`], with the date of the oldest thing it rests on.
    pub(crate) fn holds_since(
        &mut self,
        kind: ClaimKind,
        source: Source,
        since_s: u64,
        reason: impl Into<String>,
    ) {
        self.holds(kind, source, reason);
        let age_ms = self.now_ms.saturating_sub(since_s.saturating_mul(1000));
        if let Some(claim) = self.claim(kind) {
            claim.age_ms = Some(age_ms);
        }
    }

    pub(crate) fn fails(&mut self, kind: ClaimKind, source: Source, bad: BadEvidence) {
        let reason = bad.to_string();
        self.set(kind, source, Finding::Fails(bad), reason);
    }

    /// Whether this claim cannot be decided now.
    pub(crate) fn is_unknown(&self, kind: ClaimKind) -> bool {
        matches!(self.verdict.finding(kind), Finding::Unknown(_))
    }

    pub(crate) fn silent(&mut self, kind: ClaimKind, source: Source, reason: impl Into<String>) {
        self.set(kind, source, Finding::NotClaimed, reason.into());
    }

    /// Records a result: holding with `reason`, or failing.
    pub(crate) fn judge(
        &mut self,
        kind: ClaimKind,
        source: Source,
        result: Result<String, BadEvidence>,
    ) {
        match result {
            Ok(reason) => self.holds(kind, source, reason),
            Err(bad) => self.fails(kind, source, bad),
        }
    }

    /// Records that several claims share one obstacle, since all rest on the same evidence.
    pub(crate) fn obstructed(&mut self, kinds: &[ClaimKind], source: Source, why: &Obstacle) {
        for kind in kinds {
            match why {
                Obstacle::Bad(bad) => self.fails(*kind, source, bad.clone()),
                Obstacle::Cannot(cannot) => {
                    let reason = cannot.to_string();
                    self.set(*kind, source, Finding::Unknown(cannot.clone()), reason);
                }
            }
        }
    }

    /// Takes back what holds only by the statement, or by a report that is not about this peer: where
    /// hardware or the binding of the key does not hold, these claims stand as that one does.
    pub(crate) fn unbind(&mut self, kinds: &[ClaimKind]) {
        let Some(Claim { finding, source, reason, .. }) = self.verdict.unbound().cloned() else {
            return;
        };
        for kind in kinds {
            if *self.verdict.finding(*kind) == Finding::Holds {
                self.set(*kind, source, finding.clone(), reason.clone());
            }
        }
    }

    pub(crate) fn measured(&mut self, measurement: Measurement) {
        self.verdict.measurement = Some(measurement);
    }

    pub(crate) fn image(&mut self, image: Digest32) {
        self.verdict.image = Some(image);
    }

    pub(crate) fn platform(&mut self, platform: PlatformId) {
        self.verdict.platform = Some(platform);
    }

    pub(crate) fn named_platform(&self) -> Option<&PlatformId> {
        self.verdict.platform.as_ref()
    }

    pub(crate) fn root(&mut self, root: Digest48) {
        self.verdict.root = Some(root);
    }

    /// Lowers the time until which the verdict may be reused.
    pub(crate) fn valid_until_s(&mut self, until_s: u64) {
        let until_ms = until_s.saturating_mul(1000);
        self.verdict.valid_until_ms = self.verdict.valid_until_ms.min(until_ms);
    }

    fn set(&mut self, kind: ClaimKind, source: Source, finding: Finding, reason: String) {
        if let Some(claim) = self.claim(kind) {
            *claim = Claim { kind, finding, source, age_ms: None, reason };
        }
    }

    fn claim(&mut self, kind: ClaimKind) -> Option<&mut Claim> {
        self.verdict.claims.iter_mut().find(|claim| claim.kind == kind)
    }
}
