//! Who owns the platform, by registration from outside.
//!
//! An id inside a statement is worth nothing by itself: a cracked machine of another owner
//! states any id. It counts when the platform, named by its maker, is registered for it.

use crate::draft::Draft;
use crate::evidence::PeerEvidence;
use crate::fault::BadEvidence;
use crate::policy::Policy;
use crate::verdict::{ClaimKind, Source};

/// Judges the platform that hardware evidence named.
pub(crate) fn judge(evidence: &PeerEvidence, policy: &Policy, draft: &mut Draft) {
    let (kind, source) = (ClaimKind::Site, Source::Policy);
    let Some(platform) = draft.named_platform().cloned() else { return };
    let refused = |detail| BadEvidence::Site { platform: platform.hex().to_owned(), detail };
    if policy.revoked_platforms.contains(&platform) {
        return draft.fails(kind, source, refused("revoked"));
    }
    let own_id = evidence.binding.stated().map(|stated| stated.own_id).filter(|id| !id.is_zero());
    let entry = policy.platforms.iter().find(|entry| entry.platform == platform);
    let pinned_elsewhere = own_id.is_some()
        && policy
            .platforms
            .iter()
            .any(|entry| entry.owner_id == own_id && entry.platform != platform);
    match (entry, own_id) {
        (Some(entry), Some(own_id)) if entry.owner_id.is_some_and(|owner| owner != own_id) => {
            draft.fails(kind, source, refused("registered for another id than it states"));
        }
        (Some(entry), _) => {
            draft.holds(kind, source, format!("the platform is registered at {}", entry.site));
        }
        (None, _) if pinned_elsewhere => {
            draft.fails(kind, source, refused("not the one registered for the id it states"));
        }
        (None, _) if policy.required.contains(&kind) => {
            draft.fails(kind, source, refused("not registered"));
        }
        (None, _) => draft.silent(kind, source, "the platform is in no registry of the policy"),
    }
}
