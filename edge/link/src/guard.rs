//! Who attests on a connection, and by what the peer is judged: given by the node.

use std::fmt;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use cocoon_attest::channel::{HandshakeFault, Local, Nonce, Offer, Statement};
use cocoon_attest::{EvidenceBundle, PeerEvidence, PeerVerdicts, Verdict};
use cocoon_ratls::PeerIdentity;
use cocoon_units::Role;
use cocoon_wire::tl::Extensions;

/// A value that a thread of its own, or a service, gives later.
pub type Later<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// One connection, as its guard sees it.
#[derive(Clone, Debug)]
pub struct Facing {
    /// The address we dialled; nothing when the peer came to us.
    pub dialled: Option<SocketAddr>,
    /// The address at which the peer reached us, where it came to us.
    pub reached: Option<SocketAddr>,
    /// What the TLS handshake showed of the peer.
    pub identity: PeerIdentity,
    /// What the peer announced in its introduction; nothing before it.
    pub announced: Extensions,
    /// As what the peer introduced itself, where it came to us.
    pub introduced_as: Option<Role>,
}

/// What a guard found about fresh evidence.
#[derive(Clone, Debug)]
pub struct Judgement {
    /// The claims with their findings.
    pub verdict: Verdict,
    /// What was judged, for later readers.
    pub bundle: Option<Arc<EvidenceBundle>>,
}

/// Makes a node's evidence for a connection and judges the peer's.
///
/// Called on the runtime's threads: what takes time goes into the returned futures.
pub trait Guard: Send + Sync + fmt::Debug {
    /// Returns what this side knows and wants of the peer, and a nonce drawn for one handshake.
    fn begin(&self, facing: &Facing) -> (Local, Nonce);

    /// Has the own TEE sign a statement. Nothing means that it failed: the connection ends.
    fn quote(&self, statement: Box<Statement>) -> Later<Option<Offer>>;

    /// Judges fresh evidence of the peer.
    fn judge(&self, facing: &Facing, evidence: Box<PeerEvidence>) -> Later<Judgement>;

    /// Says what is known of the peer now that introductions and handshake are over. `address` is
    /// the one dialled, empty where the peer does not know the addition; `judged` is nothing where
    /// the peer gave no fresh evidence.
    ///
    /// # Errors
    /// This peer will not do: the connection ends.
    fn settled(
        &self,
        facing: &Facing,
        address: &str,
        judged: Option<Judgement>,
    ) -> Result<PeerVerdicts, HandshakeFault>;
}
