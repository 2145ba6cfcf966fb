//! What is acceptable, as data: read from the root contract and a local file, with dates.

use serde::{Deserialize, Serialize};

use crate::digest::{Digest32, Digest48};
use crate::endorsement::NamedOwner;
use crate::fault::PolicyFault;
use crate::gpu::GpuPolicy;
use crate::roots::TrustRoots;
use crate::snp::SnpPolicy;
use crate::tdx::TdxPolicy;
use crate::verdict::{ClaimKind, PlatformId};
use crate::vtpm::VtpmPolicy;

/// Which evidence a policy looks at (protocol notes 2.5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PolicyMode {
    /// No evidence is looked at; any Ed25519 key will do. Every claim is "not claimed".
    Any,
    /// TDX or SEV-SNP evidence is demanded and checked.
    #[default]
    Tee,
    /// The reference's evidence without hardware. Only in builds with the feature
    /// `dangerous-fake-evidence`; every other build refuses such a policy.
    FakeTee,
}

/// A platform that somebody vouches for from outside: its owner's contract or a registry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegisteredPlatform {
    /// The platform, as its maker names it.
    pub platform: PlatformId,
    /// Name of the site, for people.
    pub site: String,
    /// Contract or worker id that this platform may speak for; nothing means any.
    #[serde(default)]
    pub owner_id: Option<Digest32>,
}

/// What one role accepts from its peers.
///
/// An empty list means "not looked at": the claim is then "not claimed", never good.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    /// Name by which configurations choose it.
    pub name: String,
    /// Changes whenever anything below changes; part of the cache key.
    pub version: u64,
    /// First second of its force, Unix seconds.
    pub not_before_s: Option<u64>,
    /// Last second of its force, Unix seconds.
    pub not_after_s: Option<u64>,
    /// Which evidence is looked at.
    pub mode: PolicyMode,
    /// Claims without which a peer is refused.
    pub required: Vec<ClaimKind>,
    /// Image hashes of the root contract.
    pub image_hashes: Vec<Digest32>,
    /// Rules for TDX; nothing means TDX is refused. A written policy has to say `[tdx]`.
    #[serde(default)]
    pub tdx: Option<TdxPolicy>,
    /// Rules for SEV-SNP; nothing means SEV-SNP is refused. A written policy has to say
    /// `[snp]`.
    #[serde(default)]
    pub snp: Option<SnpPolicy>,
    /// What shows the image of a machine with a paravisor, such as Azure's.
    #[serde(skip_serializing_if = "VtpmPolicy::is_empty")]
    pub vtpm: VtpmPolicy,
    /// Rules for GPUs.
    pub gpu: GpuPolicy,
    /// Digests of models (SHA-256 of the full name with commit and root hash).
    pub models: Vec<Digest32>,
    /// Platforms registered from outside.
    pub platforms: Vec<RegisteredPlatform>,
    /// Owners whose endorsements tie ids to platforms. What `platforms` says goes first.
    pub owners: Vec<NamedOwner>,
    /// Platforms that are refused wherever they appear.
    pub revoked_platforms: Vec<PlatformId>,
    /// Public keys that end every chain.
    pub roots: TrustRoots,
}

impl Default for Policy {
    fn default() -> Self {
        Self::tee()
    }
}

impl Policy {
    /// Returns the strict policy: genuine hardware, patched, not debuggable, bound to the
    /// key. Image hashes have to be added by the caller.
    #[must_use]
    pub fn tee() -> Self {
        Self {
            name: "tee".to_owned(),
            version: 1,
            not_before_s: None,
            not_after_s: None,
            mode: PolicyMode::Tee,
            required: vec![
                ClaimKind::Hardware,
                ClaimKind::Tcb,
                ClaimKind::DebugOff,
                ClaimKind::KeyBinding,
            ],
            image_hashes: Vec::new(),
            tdx: Some(TdxPolicy::default()),
            snp: Some(SnpPolicy::default()),
            vtpm: VtpmPolicy::default(),
            gpu: GpuPolicy::default(),
            models: Vec::new(),
            platforms: Vec::new(),
            owners: Vec::new(),
            revoked_platforms: Vec::new(),
            roots: TrustRoots::production(),
        }
    }

    /// Returns the policy that looks at nothing, for the side that serves the public.
    #[must_use]
    pub fn any() -> Self {
        Self {
            name: "any".to_owned(),
            mode: PolicyMode::Any,
            required: Vec::new(),
            tdx: None,
            snp: None,
            roots: TrustRoots::default(),
            ..Self::tee()
        }
    }

    /// Returns the policy for the reference's test nodes: only the key has to match.
    #[cfg(feature = "dangerous-fake-evidence")]
    #[must_use]
    pub fn fake_tee() -> Self {
        Self {
            name: "fake_tee".to_owned(),
            mode: PolicyMode::FakeTee,
            required: vec![ClaimKind::KeyBinding],
            tdx: None,
            snp: None,
            roots: TrustRoots::default(),
            ..Self::tee()
        }
    }

    /// Adds the image hashes of the root contract and requires one of them.
    #[must_use]
    pub fn with_images(mut self, hashes: impl IntoIterator<Item = Digest32>) -> Self {
        self.image_hashes.extend(hashes);
        if !self.required.contains(&ClaimKind::Image) {
            self.required.push(ClaimKind::Image);
        }
        self
    }

    /// Returns the policy with other trusted roots, such as those of the simulated platform.
    #[must_use]
    pub fn with_roots(mut self, roots: TrustRoots) -> Self {
        self.roots = roots;
        self
    }

    /// Returns the policy with one more required claim.
    #[must_use]
    pub fn requiring(mut self, claim: ClaimKind) -> Self {
        if !self.required.contains(&claim) {
            self.required.push(claim);
        }
        self
    }

    /// Returns SHA-256 over everything the policy says: equal digests judge alike.
    #[must_use]
    pub fn digest(&self) -> Digest32 {
        // Writing plain data as JSON cannot fail; an empty text would only never be cached
        // together with another policy's, since it is mixed with the version.
        let text = serde_json::to_vec(self).unwrap_or_default();
        Digest32::sha256(&[b"cocoon.policy.v1", &self.version.to_be_bytes(), &text])
    }

    /// Says whether the policy is in force at `now_ms`.
    #[must_use]
    pub fn in_force(&self, now_ms: u64) -> bool {
        let now_s = now_ms / 1000;
        self.not_before_s.is_none_or(|first| first <= now_s)
            && self.not_after_s.is_none_or(|last| now_s <= last)
    }

    /// Checks the rules against each other. Call it once after reading a policy.
    ///
    /// # Errors
    /// Rules that contradict each other: the configuration must be mended, since such a
    /// policy would refuse or accept everybody.
    pub fn check(&self) -> Result<(), PolicyFault> {
        let contradiction = |detail| Err(PolicyFault::Contradiction { detail });
        if self.mode == PolicyMode::Any && !self.required.is_empty() {
            return contradiction("mode `any` looks at nothing, so it can require no claims");
        }
        if self.mode == PolicyMode::Any && !self.image_hashes.is_empty() {
            return contradiction("mode `any` looks at nothing, so it can list no image hashes");
        }
        if self.mode == PolicyMode::Tee && self.tdx.is_none() && self.snp.is_none() {
            return contradiction("mode `tee` admits neither tdx nor snp: nobody could pass");
        }
        if self.mode == PolicyMode::Tee && !self.required.contains(&ClaimKind::KeyBinding) {
            return contradiction(
                "mode `tee` must require key_binding: a report about another \
                                  key proves nothing about this peer",
            );
        }
        let names_no_image = self.image_hashes.is_empty() && self.vtpm.registers.is_empty();
        if self.required.contains(&ClaimKind::Image) && names_no_image {
            return contradiction("image is required but image_hashes is empty");
        }
        if let Some(detail) = self.vtpm.contradiction() {
            return contradiction(detail);
        }
        if self.required.contains(&ClaimKind::Weights) && self.models.is_empty() {
            return contradiction("weights is required but models is empty");
        }
        let names_nobody = self.platforms.is_empty() && self.owners.is_empty();
        if self.required.contains(&ClaimKind::Site) && names_nobody {
            return contradiction("site is required but platforms and owners are empty");
        }
        if self.owners.iter().any(|owner| owner.key.is_zero()) {
            return contradiction("the key of an owner is zero");
        }
        Ok(())
    }

    /// Returns SHA-384 digests accepted as the root of TDX chains, for the peer-info blob.
    #[must_use]
    pub fn tdx_roots(&self) -> &[Digest48] {
        &self.roots.tdx
    }
}
