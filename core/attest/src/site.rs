//! Who owns the platform, by registration or by an owner's signature from outside.
//!
//! An id inside a statement is worth nothing by itself: a cracked machine of another owner
//! states any id. It counts when the platform, named by its maker, is registered for it, or
//! when an owner that the policy names has signed that this platform speaks for it.

use crate::draft::Draft;
use crate::endorsement::{self, Endorsed};
use crate::evidence::PeerEvidence;
use crate::fault::BadEvidence;
use crate::policy::Policy;
use crate::verdict::{ClaimKind, Source};

/// Judges the platform that hardware evidence named.
pub(crate) fn judge(evidence: &PeerEvidence, policy: &Policy, now_s: u64, draft: &mut Draft) {
    let (kind, source) = (ClaimKind::Site, Source::Policy);
    let Some(platform) = draft.named_platform().cloned() else { return };
    let refused = |detail| BadEvidence::Site { platform: platform.hex().to_owned(), detail };
    if policy.revoked_platforms.contains(&platform) {
        return draft.fails(kind, source, refused("revoked"));
    }
    let stated = evidence.binding.stated();
    let shown = evidence.endorsement.as_deref();
    let owners = &policy.owners;
    let endorsed = match endorsement::judge(shown, stated.as_ref(), &platform, owners, now_s) {
        Ok(endorsed) => endorsed,
        Err(bad) => return draft.fails(kind, Source::Endorsement, bad),
    };
    let own_id = stated.map(|stated| stated.own_id).filter(|id| !id.is_zero());
    let entry = policy.platforms.iter().find(|entry| entry.platform == platform);
    let pinned_elsewhere = own_id.is_some()
        && policy
            .platforms
            .iter()
            .any(|entry| entry.owner_id == own_id && entry.platform != platform);
    let requires = policy.required.contains(&kind);
    match (entry, own_id, endorsed) {
        (Some(entry), Some(own_id), _) if entry.owner_id.is_some_and(|owner| owner != own_id) => {
            draft.fails(kind, source, refused("registered for another id than it states"));
        }
        (Some(entry), ..) => {
            draft.holds(kind, source, format!("the platform is registered at {}", entry.site));
        }
        (None, ..) if pinned_elsewhere => {
            draft.fails(kind, source, refused("not the one registered for the id it states"));
        }
        (None, _, Endorsed::By { owner, not_after_s }) => {
            draft.valid_until_s(not_after_s);
            let reason = format!("{} signed that {platform} speaks for this id", owner.site);
            draft.holds(kind, Source::Endorsement, reason);
        }
        (None, _, Endorsed::ByStranger(_)) if requires => {
            let detail = "endorsed by a key that the policy does not name, and not registered";
            draft.fails(kind, source, refused(detail));
        }
        (None, _, Endorsed::No) if requires => draft.fails(kind, source, refused("not registered")),
        (None, _, Endorsed::ByStranger(key)) => {
            let reason = format!("{platform} is endorsed by {key}, which the policy does not name");
            draft.silent(kind, source, reason);
        }
        (None, own_id, Endorsed::No) => {
            let id = own_id.map_or_else(|| "no id".to_owned(), |id| format!("the id {id}"));
            let reason = format!(
                "{platform} is in no registry of the policy; it states {id}, which nobody signed"
            );
            draft.silent(kind, source, reason);
        }
    }
}
