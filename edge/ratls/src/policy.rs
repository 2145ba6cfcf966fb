//! Who is admitted: the policies of protocol notes 2.5, and what they find out about a peer.

use std::fmt;
use std::sync::{Arc, RwLock};

use cocoon_attest::{Collateral, Outcome, Policy, Verdict};

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

/// A policy of `cocoon-attest` (`any`, `tee`, and `fake_tee` in builds that have the feature),
/// with the collateral at hand. Both may be replaced while connections come in.
#[derive(Clone)]
pub struct AttestedPeer {
    state: Arc<RwLock<(Arc<Policy>, Arc<Collateral>)>>,
}

impl AttestedPeer {
    /// Judges by `policy` with `collateral`.
    #[must_use]
    pub fn new(policy: Policy, collateral: Collateral) -> Self {
        Self { state: Arc::new(RwLock::new((Arc::new(policy), Arc::new(collateral)))) }
    }

    /// Judges new peers by `policy` from now on.
    pub fn replace_policy(&self, policy: Policy) {
        self.state.write().unwrap_or_else(std::sync::PoisonError::into_inner).0 = Arc::new(policy);
    }

    /// Judges new peers with `collateral` from now on.
    pub fn replace_collateral(&self, collateral: Collateral) {
        let mut state = self.state.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        state.1 = Arc::new(collateral);
    }

    fn current(&self) -> (Arc<Policy>, Arc<Collateral>) {
        self.state.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }
}

impl fmt::Debug for AttestedPeer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("AttestedPeer").field("policy", &self.current().0.name).finish()
    }
}

impl PeerPolicy for AttestedPeer {
    fn check(
        &self,
        peer: &PeerCertificate,
        now_unix_s: u64,
    ) -> Result<PeerIdentity, PolicyRefusal> {
        let (policy, collateral) = self.current();
        let now_ms = now_unix_s.saturating_mul(1_000);
        let verdict = cocoon_attest::verify(&peer.evidence, &collateral, &policy, now_ms);
        match verdict.outcome() {
            Outcome::Accept => Ok(PeerIdentity {
                image_hash: verdict.image_hash().map(|hash| hash.0),
                verdict: Some(Arc::new(verdict)),
                ..PeerIdentity::of_key(peer.public_key)
            }),
            Outcome::Refuse(bad) => {
                Err(PolicyRefusal::Refused { policy: policy.name.clone(), reason: bad.to_string() })
            }
            Outcome::Undecided(obstacle) => Err(PolicyRefusal::CannotDecide {
                policy: policy.name.clone(),
                reason: obstacle.to_string(),
            }),
        }
    }
}
