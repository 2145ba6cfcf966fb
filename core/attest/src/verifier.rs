//! The one entry: evidence, collateral, policy and time in; a verdict out.

use crate::collateral::Collateral;
use crate::evidence::PeerEvidence;
use crate::policy::Policy;
use crate::verdict::Verdict;

/// Judges `evidence` by `policy` at `now_ms` (Unix milliseconds).
///
/// Never fails: what is wrong or missing is part of the verdict; ask [`Verdict::outcome`]
/// what to do with the peer.
#[must_use]
pub fn verify(
    evidence: &PeerEvidence,
    collateral: &Collateral,
    policy: &Policy,
    now_ms: u64,
) -> Verdict {
    let _ = collateral;
    crate::verdict::nothing_claimed(evidence, policy, now_ms)
}
