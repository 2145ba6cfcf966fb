//! Who is admitted: the policies of protocol notes 2.5, and what they find out about a peer.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cocoon_attest::{
    Collateral, Outcome, PeerEvidence, PlatformId, Policy, PolicyFault, Verdict, Verifier,
};

use crate::certificate::PeerCertificate;
use crate::fault::PolicyRefusal;

/// Decides whether a peer with a well-formed certificate is admitted.
///
/// Called inside the TLS handshake, on the runtime's thread: it must not block. A policy that
/// lacks collateral says so with [`PolicyRefusal::CannotDecide`] and fetches elsewhere.
pub trait PeerPolicy: Send + Sync + fmt::Debug {
    /// Judges `peer` at `now_unix_s`. The certificate's own rules hold already.
    ///
    /// # Errors
    /// The refusal ends the handshake with an alert to the peer.
    fn check(&self, peer: &PeerCertificate, now_unix_s: u64)
    -> Result<PeerIdentity, PolicyRefusal>;
}

/// Who vouches for what is known about a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Voucher {
    /// The peer proved its key to us in the TLS handshake.
    Handshake,
    /// A router on this machine says so (protocol notes 2.6).
    Router,
    /// Nobody: a plain connection on an inner port.
    Nobody,
}

/// What is known about a peer once its connection stands.
#[derive(Clone, Debug, PartialEq)]
pub struct PeerIdentity {
    /// Ed25519 key of its certificate.
    pub public_key: Option<[u8; 32]>,
    /// Image hash of protocol notes 2.7, if evidence for it was checked.
    pub image_hash: Option<[u8; 32]>,
    /// Who vouches for it.
    pub voucher: Voucher,
    /// Every claim with its finding, if a policy that looks at evidence judged.
    pub verdict: Option<Arc<Verdict>>,
    /// The evidence itself, where the policy keeps it ([`KeepingPeer`]).
    pub evidence: Option<Arc<PeerEvidence>>,
    /// Identifies this TLS connection: the `tls-exporter` binding of RFC 9266. Both ends see
    /// the same 32 bytes, nobody else can.
    pub channel_binding: Option<[u8; 32]>,
}

impl PeerIdentity {
    /// A peer of a plain connection, about whom nothing is known.
    #[must_use]
    pub fn unknown() -> Self {
        Self {
            public_key: None,
            image_hash: None,
            voucher: Voucher::Nobody,
            verdict: None,
            evidence: None,
            channel_binding: None,
        }
    }

    /// A peer that showed `peer`'s key in the handshake and nothing else.
    #[must_use]
    pub fn of_key(public_key: [u8; 32]) -> Self {
        Self { public_key: Some(public_key), voucher: Voucher::Handshake, ..Self::unknown() }
    }
}

/// The policy `any`: every Ed25519 key is admitted, evidence is not looked at.
#[derive(Clone, Copy, Debug, Default)]
pub struct AnyPeer;

impl PeerPolicy for AnyPeer {
    fn check(
        &self,
        peer: &PeerCertificate,
        _now_unix_s: u64,
    ) -> Result<PeerIdentity, PolicyRefusal> {
        Ok(PeerIdentity::of_key(peer.public_key))
    }
}

/// Another policy that also keeps what the peer showed, for whoever wants to show it on. For the
/// side that dials: its peers are few.
#[derive(Clone, Debug)]
pub struct KeepingPeer(pub Arc<dyn PeerPolicy>);

impl PeerPolicy for KeepingPeer {
    fn check(
        &self,
        peer: &PeerCertificate,
        now_unix_s: u64,
    ) -> Result<PeerIdentity, PolicyRefusal> {
        let identity = self.0.check(peer, now_unix_s)?;
        Ok(PeerIdentity { evidence: Some(Arc::new(peer.evidence.clone())), ..identity })
    }
}

/// Collateral that is at hand when a handshake needs it.
pub trait CollateralSource: Send + Sync {
    /// Returns what is kept for this peer's platform; what is absent makes claims unknown.
    /// Called inside the handshake: it must not block. A source that fetches starts to do so
    /// here and has it for the next attempt.
    fn at_hand(&self, evidence: &PeerEvidence) -> Collateral;
}

/// The same collateral for everybody, such as that of the simulated platform.
impl CollateralSource for Collateral {
    fn at_hand(&self, _evidence: &PeerEvidence) -> Collateral {
        self.clone()
    }
}

/// Verdicts kept by one [`AttestedPeer`].
const VERDICTS_MAX: usize = 10_000;

/// Milliseconds after which a kept verdict is made anew, whatever its own dates say.
const VERDICT_AGE_MS_MAX: u64 = 3_600_000;

/// A policy of `cocoon-attest`: `any`, `tee`, and `fake_tee` in builds that have the feature.
/// Remembers its verdicts. Cheap to clone; the policy may be replaced while peers come in.
#[derive(Clone)]
pub struct AttestedPeer {
    verifier: Arc<Mutex<Verifier>>,
    collateral: Arc<dyn CollateralSource>,
}

impl AttestedPeer {
    /// Judges by `policy` with what `collateral` has at hand.
    ///
    /// # Errors
    /// The policy contradicts itself: fix the configuration.
    pub fn new(policy: Policy, collateral: Arc<dyn CollateralSource>) -> Result<Self, PolicyFault> {
        let verifier = Verifier::new(policy, VERDICTS_MAX, VERDICT_AGE_MS_MAX)?;
        Ok(Self { verifier: Arc::new(Mutex::new(verifier)), collateral })
    }

    /// Judges new peers by `policy` from now on; open connections stay.
    ///
    /// # Errors
    /// The policy contradicts itself: the old one stays in use.
    pub fn replace_policy(&self, policy: Policy) -> Result<(), PolicyFault> {
        self.verifier().replace_policy(policy)
    }

    /// Refuses a platform from now on; open connections stay.
    pub fn revoke_platform(&self, platform: PlatformId) {
        self.verifier().revoke_platform(platform);
    }

    /// Judges evidence with this collateral: fresh evidence over a connection, where there is
    /// time to get it.
    #[must_use]
    pub fn verdict(
        &self,
        evidence: &PeerEvidence,
        collateral: &Collateral,
        now_ms: u64,
    ) -> Verdict {
        self.verifier().judge(evidence, collateral, now_ms)
    }

    /// The policy in use.
    #[must_use]
    pub fn current_policy(&self) -> Policy {
        self.verifier().policy().clone()
    }

    fn verifier(&self) -> MutexGuard<'_, Verifier> {
        self.verifier.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for AttestedPeer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.verifier().policy().name.clone();
        formatter.debug_struct("AttestedPeer").field("policy", &name).finish_non_exhaustive()
    }
}

impl PeerPolicy for AttestedPeer {
    fn check(
        &self,
        peer: &PeerCertificate,
        now_unix_s: u64,
    ) -> Result<PeerIdentity, PolicyRefusal> {
        let now_ms = now_unix_s.saturating_mul(1_000);
        let collateral = self.collateral.at_hand(&peer.evidence);
        let mut verifier = self.verifier();
        let verdict = verifier.judge(&peer.evidence, &collateral, now_ms);
        let policy = || verifier.policy().name.clone();
        match verdict.outcome() {
            Outcome::Accept => Ok(PeerIdentity {
                image_hash: verdict.image_hash().map(|hash| hash.0),
                verdict: Some(Arc::new(verdict)),
                ..PeerIdentity::of_key(peer.public_key)
            }),
            Outcome::Refuse(bad) => {
                Err(PolicyRefusal::Refused { policy: policy(), reason: bad.to_string() })
            }
            Outcome::Undecided(obstacle) => {
                Err(PolicyRefusal::CannotDecide { policy: policy(), reason: obstacle.to_string() })
            }
        }
    }
}
