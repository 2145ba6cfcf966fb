//! The answer of a verification: one finding for each claim, never a bare yes.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::digest::{Digest32, Digest48};
use crate::fault::{BadEvidence, CannotCheck, PolicyFault};
use crate::measurement::Measurement;

/// A statement about a peer that evidence can support.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClaimKind {
    /// The peer runs inside a genuine TEE of a known maker.
    Hardware,
    /// The TEE's firmware and microcode are at an acceptable level.
    Tcb,
    /// The software that booted is on the list.
    Image,
    /// The host cannot look into the guest by debugging.
    DebugOff,
    /// The accelerator is genuine, in confidential mode, and this machine's own.
    Gpu,
    /// The model's weights are the named ones.
    Weights,
    /// The evidence was made for this connection.
    Freshness,
    /// The evidence is about the key of this connection.
    KeyBinding,
    /// The platform is registered and not revoked.
    Site,
}

impl ClaimKind {
    /// All claims, in the order of a verdict.
    pub const ALL: [Self; 9] = [
        Self::Hardware,
        Self::Tcb,
        Self::Image,
        Self::DebugOff,
        Self::Gpu,
        Self::Weights,
        Self::Freshness,
        Self::KeyBinding,
        Self::Site,
    ];
}

/// What was found about one claim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Finding {
    /// Shown by evidence.
    Holds,
    /// Evidence was offered and is wrong.
    Fails(BadEvidence),
    /// It cannot be decided now; never to be shown as good.
    Unknown(CannotCheck),
    /// The peer offers nothing for it, or the policy does not look at it.
    NotClaimed,
}

/// Where a finding comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// The TDX quote and Intel's collateral.
    TdxQuote,
    /// The SEV-SNP report and AMD's certificates.
    SnpReport,
    /// The GPU's measurement report and NVIDIA's certificates.
    GpuReport,
    /// The replayed event log.
    EventLog,
    /// The firmware's boot log, replayed.
    BootLog,
    /// The registers that the vTPM beside a paravisor signed.
    Vtpm,
    /// The statement signed over this connection.
    ChannelStatement,
    /// The statement of a report, signed over our nonce.
    Report,
    /// The certificate of the TLS handshake alone.
    Certificate,
    /// The policy of this side.
    Policy,
    /// The endorsement by the machine's owner.
    Endorsement,
    /// The reference's evidence without hardware.
    FakeEvidence,
    /// Nothing was looked at.
    Nothing,
}

/// One claim with what was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Claim {
    /// Which claim.
    pub kind: ClaimKind,
    /// What was found.
    pub finding: Finding,
    /// Where the finding comes from.
    pub source: Source,
    /// How old the collateral is that the finding comes from, in milliseconds, where it does: what was
    /// found is as of then. Certificates and roots, which are good for years, do not count.
    pub age_ms: Option<u64>,
    /// The finding in plain words.
    pub reason: String,
}

/// What a caller has to do with the peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Every required claim holds and none fails.
    Accept,
    /// The peer is to be refused; the first reason in the order of the claims.
    Refuse(BadEvidence),
    /// Nothing is known to be bad, but a required claim cannot be decided now.
    Undecided(CannotCheck),
}

/// The result of a verification.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// One entry for each of [`ClaimKind::ALL`], in that order.
    pub claims: Vec<Claim>,
    /// Claims without which the peer is refused, from the policy.
    pub required: Vec<ClaimKind>,
    /// SHA-256 over all evidence that was looked at.
    pub evidence: Digest32,
    /// Digest of the policy that judged, see [`crate::Policy::digest`].
    pub policy: Digest32,
    /// Version of the policy that judged, for people.
    pub policy_version: u64,
    /// What was measured, when hardware (or the fake) vouches for it.
    pub measurement: Option<Measurement>,
    /// Image hash that was compared with the lists: that of the measurement, less the events
    /// that differ between machines of one image.
    pub image: Option<Digest32>,
    /// Identity of the platform, for registries and revocation.
    pub platform: Option<PlatformId>,
    /// SHA-384 of the trusted root's public key the evidence ends in.
    pub root: Option<Digest48>,
    /// When it was decided, Unix milliseconds.
    pub decided_ms: u64,
    /// Until when the verdict may be reused, Unix milliseconds: the earliest date of
    /// certificates, collateral, policy and statement.
    pub valid_until_ms: u64,
}

/// A name of a platform that its maker vouches for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "maker", content = "id", try_from = "WrittenId")]
pub enum PlatformId {
    /// Intel's platform provisioning id from the PCK certificate, hex.
    IntelPpid(String),
    /// AMD's chip id from the VCEK certificate, hex.
    AmdChip(String),
}

/// A platform's id as somebody wrote it: in capitals, perhaps, or no id at all.
#[derive(Deserialize)]
struct WrittenId {
    maker: String,
    id: String,
}

impl TryFrom<WrittenId> for PlatformId {
    type Error = PolicyFault;

    fn try_from(written: WrittenId) -> Result<Self, PolicyFault> {
        format!("{}:{}", written.maker, written.id).parse()
    }
}

impl PlatformId {
    /// Longest id in bytes: AMD's.
    pub(crate) const LEN_MAX: usize = 64;

    /// Returns the id in hex without the maker.
    #[must_use]
    pub fn hex(&self) -> &str {
        match self {
            Self::IntelPpid(id) | Self::AmdChip(id) => id,
        }
    }
}

impl fmt::Display for PlatformId {
    /// Writes the maker and the id, as [`PlatformId::from_str`] reads them.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let maker = match self {
            Self::IntelPpid(_) => "intel_ppid",
            Self::AmdChip(_) => "amd_chip",
        };
        write!(out, "{maker}:{}", self.hex())
    }
}

impl FromStr for PlatformId {
    type Err = PolicyFault;

    /// Reads `intel_ppid:HEX` or `amd_chip:HEX`, 1 to 64 bytes that are not all zero.
    fn from_str(text: &str) -> Result<Self, PolicyFault> {
        let fault = || PolicyFault::Platform { value: text.chars().take(200).collect() };
        let (maker, id) = text.split_once(':').ok_or_else(fault)?;
        let bytes = hex::decode(id).map_err(|_| fault())?;
        if bytes.len() > Self::LEN_MAX || bytes.iter().all(|byte| *byte == 0) {
            return Err(fault());
        }
        match maker {
            "intel_ppid" => Ok(Self::IntelPpid(hex::encode(bytes))),
            "amd_chip" => Ok(Self::AmdChip(hex::encode(bytes))),
            _ => Err(fault()),
        }
    }
}

impl Verdict {
    /// Returns the finding for `kind`.
    #[must_use]
    pub fn finding(&self, kind: ClaimKind) -> &Finding {
        self.claims
            .iter()
            .find(|claim| claim.kind == kind)
            .map_or(&Finding::NotClaimed, |claim| &claim.finding)
    }

    /// Returns the whole entry for `kind`.
    #[must_use]
    pub fn claim(&self, kind: ClaimKind) -> Option<&Claim> {
        self.claims.iter().find(|claim| claim.kind == kind)
    }

    /// Returns the claim that keeps the peer's own words from being a genuine TEE's: `hardware` or
    /// `key_binding`, whichever does not hold. Until both hold, nobody verified the bytes of the
    /// statement, and nothing in it may be shown as good.
    #[must_use]
    pub fn unbound(&self) -> Option<&Claim> {
        let holds = |kind| *self.finding(kind) == Finding::Holds;
        [ClaimKind::Hardware, ClaimKind::KeyBinding]
            .into_iter()
            .find(|kind| !holds(*kind))
            .and_then(|kind| self.claim(kind))
    }

    /// Says what to do with the peer.
    ///
    /// A claim that fails refuses the peer whether or not it is required: nobody has to
    /// offer evidence, but evidence that is offered must be true. An unknown or absent claim
    /// matters only where the policy requires it.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        let mut undecided = None;
        for claim in &self.claims {
            let required = self.required.contains(&claim.kind);
            match &claim.finding {
                Finding::Holds => {}
                Finding::Fails(bad) => return Outcome::Refuse(bad.clone()),
                Finding::Unknown(obstacle) if required => {
                    undecided.get_or_insert_with(|| obstacle.clone());
                }
                Finding::NotClaimed if required => {
                    return Outcome::Refuse(BadEvidence::NotClaimed { claim: claim.kind });
                }
                Finding::Unknown(_) | Finding::NotClaimed => {}
            }
        }
        undecided.map_or(Outcome::Accept, Outcome::Undecided)
    }

    /// Returns the image hash of the protocol (protocol notes 2.7), when something was
    /// measured.
    #[must_use]
    pub fn image_hash(&self) -> Option<Digest32> {
        self.image.or_else(|| self.measurement.as_ref().map(Measurement::image_hash))
    }
}
