//! Evidence with everything that a later reader needs to judge it again.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::channel::ChannelRole;
use crate::collateral::Collateral;
use crate::evidence::{Binding, PeerEvidence};
use crate::policy::Policy;
use crate::verdict::{ClaimKind, Finding, Verdict};
use crate::verifier::verify;

/// A peer's evidence as it was judged: saved, it gives the same verdict years later, at its own
/// date.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvidenceBundle {
    /// What the peer offered, with the statement this side expected.
    pub evidence: PeerEvidence,
    /// What the makers of its platform said at that time.
    pub collateral: Collateral,
    /// What this side accepts.
    pub policy: Policy,
    /// When it was judged, Unix milliseconds.
    pub judged_ms: u64,
}

impl EvidenceBundle {
    /// Judges it again at its own date.
    #[must_use]
    pub fn verify(&self) -> Verdict {
        self.verify_by(&self.policy)
    }

    /// Judges it by a policy of the reader's own, at its own date: the writer of a bundle chose
    /// the policy inside, so only this one says anything to somebody else.
    #[must_use]
    pub fn verify_by(&self, policy: &Policy) -> Verdict {
        verify(&self.evidence, &self.collateral, policy, self.judged_ms)
    }
}

/// What this node knows of the peer at the other end of one connection.
#[derive(Clone, Debug, Serialize)]
pub struct PeerVerdicts {
    /// What the peer is to us.
    pub role: ChannelRole,
    /// Address that the connecting side dialled.
    pub address: String,
    /// Its Ed25519 leaf key, hex; empty when it showed none.
    pub public_key: String,
    /// The claims with their findings. Over fresh evidence of this connection when the peer gave
    /// it, otherwise over its certificate: then the claim `freshness` is "not claimed".
    pub verdict: Arc<Verdict>,
    /// The evidence itself; nothing where only the verdict is kept.
    #[serde(skip)]
    pub bundle: Option<Arc<EvidenceBundle>>,
}

impl PeerVerdicts {
    /// Whether the peer proved itself over this very connection.
    #[must_use]
    pub fn is_fresh(&self) -> bool {
        *self.verdict.finding(ClaimKind::Freshness) == Finding::Holds
    }

    /// The id of the peer's contract or worker as it stated it. Worth nothing unless the claim
    /// `site` holds: see [`crate::RegisteredPlatform`].
    #[must_use]
    pub fn stated_id(&self) -> Option<crate::Digest32> {
        match &self.bundle.as_ref()?.evidence.binding {
            Binding::Channel(statement) => Some(statement.own_id),
            Binding::CertificateKey | Binding::Report(_) => None,
        }
    }
}
