//! What a node states about itself over its connections, and how it judges fresh evidence.

use cocoon_attest::channel::{
    Announcement, ChannelRole, Demand, Dialled, HandshakeFault, Local, Nonce, Offer, Statement,
};
use cocoon_attest::{
    Collateral, CollateralNeed, Digest32, EvidenceBundle, PeerEvidence, PeerVerdicts, Policy,
    Verdict, verify,
};
use cocoon_evidence::EvidenceFault;
use cocoon_link::{Facing, Guard, Judgement, Later};
use cocoon_units::{Address, Role};
use cocoon_wire::cocoon::{ENDORSEMENTS, VTPM_QUOTES};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use tokio::sync::Semaphore;

use crate::clock;
use crate::config::ConfigFault;
use crate::endorsement::EndorsementFile;
use crate::evidence::Trust;
use crate::network::network_id;

/// How long a statement counts; the peer asks for a new one when half of it is over.
const STATEMENT_LIFE_S: u64 = 3_600;

/// Most quotes at once.
pub(crate) const QUOTES_MAX: usize = 4;

/// Most peers that are remembered as able to attest.
const ABLE_MAX: usize = 10_000;

/// Who a node is, as it states over every connection.
#[derive(Clone, Debug)]
pub struct Subject {
    /// What it is to its peers.
    pub role: ChannelRole,
    /// TON's test network.
    pub is_testnet: bool,
    /// The root contract.
    pub root: Address,
    /// Hash part of its own contract's or owner's address; zero for a key manager, which has none.
    pub own_id: [u8; 32],
    /// Digest of the keys it uses for anything else; zero for none.
    pub keyset: [u8; 32],
    /// Addresses at which peers reach it; empty when it does not know them.
    pub addresses: Vec<String>,
    /// The model it serves now.
    pub model: ServedModel,
    /// Image hashes of the root contract that its peers may have; empty does not look at them.
    pub peer_images: Vec<[u8; 32]>,
    /// What its owner signed about this machine.
    pub endorsement: EndorsementFile,
    /// Peers must show fresh evidence, whatever the settings of evidence say, but for those that the
    /// operator named as standing behind routers.
    pub requires_fresh: bool,
}

impl Subject {
    /// A node that serves no model, has no other keys and does not know its addresses.
    #[must_use]
    pub fn new(role: ChannelRole, is_testnet: bool, root: Address, own_id: [u8; 32]) -> Self {
        let (keyset, model) = ([0; 32], ServedModel::default());
        let (addresses, peer_images) = (Vec::new(), Vec::new());
        let (endorsement, requires_fresh) = (EndorsementFile::default(), false);
        Self {
            role,
            is_testnet,
            root,
            own_id,
            keyset,
            addresses,
            model,
            peer_images,
            endorsement,
            requires_fresh,
        }
    }

    /// Shows the endorsement in this file to peers that read it; an empty path shows none.
    ///
    /// # Errors
    /// The file cannot be used for this node: the operator has to name another one.
    pub fn endorsed_by(mut self, path: &Path) -> Result<Self, ConfigFault> {
        let network = (network_id(self.is_testnet), Digest32::from(self.root.hash));
        self.endorsement = EndorsementFile::open(path, network, Digest32::from(self.own_id))?;
        Ok(self)
    }
}

/// The model that a worker serves, shared between the worker and what it states. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct ServedModel(Arc<RwLock<Digest32>>);

impl ServedModel {
    /// States this model from now on: the full name with commit and root hash.
    pub fn set(&self, name: &str) {
        let digest = Digest32::sha256(&[name.as_bytes()]);
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = digest;
    }

    fn digest(&self) -> Digest32 {
        *self.0.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long a peer is remembered as able to attest after it last did.
const ABLE_LIFE_MS: u64 = 7 * 24 * 3_600_000;

/// Peers that showed fresh evidence before, by key and by address, and when they last did: whoever
/// takes the offer away from them is somebody in between. What the operator says of a peer counts
/// more (decision 13).
#[derive(Clone, Debug, Default)]
pub(crate) struct Able(Arc<Mutex<BTreeMap<Vec<u8>, u64>>>);

impl Able {
    fn names(facing: &Facing) -> impl Iterator<Item = Vec<u8>> {
        let key = facing.identity.public_key.map(|key| key.to_vec());
        let address = facing.dialled.map(|address| address.to_string().into_bytes());
        [key, address].into_iter().flatten()
    }

    fn contains(&self, facing: &Facing, now_ms: u64) -> bool {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let lately = |at_ms: &u64| now_ms < at_ms.saturating_add(ABLE_LIFE_MS);
        Self::names(facing).any(|name| known.get(&name).is_some_and(lately))
    }

    /// When it is full the one that was silent longest gives way: whoever wants to push a peer out
    /// has to pass verification thousands of times meanwhile.
    fn remember(&self, facing: &Facing, now_ms: u64) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.extend(Self::names(facing).map(|name| (name, now_ms)));
        if known.len() > ABLE_MAX {
            known.retain(|_, at_ms| now_ms < at_ms.saturating_add(ABLE_LIFE_MS));
        }
        while known.len() > ABLE_MAX {
            let oldest = known.iter().min_by_key(|(_, at_ms)| **at_ms);
            let Some(name) = oldest.map(|(name, _)| name.clone()) else { return };
            known.remove(&name);
        }
    }
}

/// Attests on the connections of one route or port.
#[derive(Debug)]
pub(crate) struct ChannelGuard {
    pub(crate) trust: Trust,
    pub(crate) subject: Subject,
    pub(crate) own_key: [u8; 32],
    pub(crate) peers: Peers,
    pub(crate) able: Able,
    /// Strangers make us quote; a TEE does so tens of times a second.
    pub(crate) quotes: Arc<Semaphore>,
}

/// Whom a route or a port is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peers {
    /// Proxies, or a key manager: the node dials them.
    Dialled(ChannelRole),
    /// Whoever shows a key: clients, who prove nothing about their machines, and in test mode
    /// those who ask a key manager that looks at no images.
    Anybody,
    /// Nodes with evidence. They are workers, or what they introduce themselves as.
    Attested,
}

impl ChannelGuard {
    fn peer_role(&self, facing: &Facing) -> ChannelRole {
        let default = match self.peers {
            Peers::Dialled(role) => return role,
            Peers::Anybody => ChannelRole::Client,
            Peers::Attested => ChannelRole::Worker,
        };
        // Only a key manager has a port for several roles.
        match facing.introduced_as.filter(|_| self.subject.role == ChannelRole::KeyManager) {
            Some(Role::Proxy) => ChannelRole::Proxy,
            Some(Role::Worker) => ChannelRole::Worker,
            _ => default,
        }
    }

    fn demand(&self, facing: &Facing) -> Demand {
        match self.peers {
            Peers::Anybody => Demand::Nothing,
            _ if self.trust.judge().is_none() => Demand::Nothing,
            // The operator knows that nobody there can.
            _ if self.is_behind_router(facing) => Demand::IfAble,
            _ if self.trust.requires_fresh() || self.subject.requires_fresh => Demand::Always,
            _ if self.able.contains(facing, clock::steady_ms()) => Demand::Always,
            _ => Demand::IfAble,
        }
    }

    /// Whether the operator named this peer as one that stands behind a router of its own.
    fn is_behind_router(&self, facing: &Facing) -> bool {
        let named = self.trust.behind_router();
        facing.dialled.is_some_and(|address| named.addresses.contains(&address))
            || facing.identity.public_key.is_some_and(|key| named.keys.contains(&key))
    }

    /// Addresses at which peers may have reached this port. On loopback nobody translates them.
    fn addresses(&self, facing: &Facing) -> Vec<String> {
        let reached = facing.reached.filter(|address| address.ip().is_loopback());
        match reached {
            Some(address) if self.subject.addresses.is_empty() => vec![address.to_string()],
            _ => self.subject.addresses.clone(),
        }
    }

    fn announcement(&self) -> Option<Announcement> {
        let provider = self.trust.provider()?;
        Some(Announcement {
            own_id: Digest32::from(self.subject.own_id),
            keyset: Digest32::from(self.subject.keyset),
            image: self.trust.image(),
            model: self.subject.model.digest(),
            gpu: provider.gpu().map(|gpu| gpu.digest()).unwrap_or_default(),
            // No chain is followed here that could give a recent block.
            beacon: Digest32::ZERO,
            not_after_s: clock::now_ms() / 1000 + STATEMENT_LIFE_S,
        })
    }
}

impl Guard for ChannelGuard {
    fn begin(&self, facing: &Facing) -> (Local, Nonce) {
        let dialled = match facing.dialled {
            Some(address) => Dialled::ByUs(address.to_string()),
            None => Dialled::ByPeer { ours: self.addresses(facing) },
        };
        let local = Local {
            role: self.subject.role,
            peer_role: self.peer_role(facing),
            own_key: Some(self.own_key),
            peer_key: facing.identity.public_key,
            network_id: network_id(self.subject.is_testnet),
            root_contract: Digest32::from(self.subject.root.hash),
            dialled,
            announcement: self.announcement(),
            demand: self.demand(facing),
            reads_endorsements: facing.announced.contains(ENDORSEMENTS),
            reads_vtpm_quotes: facing.announced.contains(VTPM_QUOTES),
            wanted_id: None,
        };
        (local, clock::random())
    }

    fn quote(&self, statement: Box<Statement>) -> Later<Option<Offer>> {
        let Some(provider) = self.trust.provider().cloned() else {
            return Box::pin(std::future::ready(None));
        };
        let (quotes, endorsement) = (Arc::clone(&self.quotes), self.subject.endorsement.clone());
        Box::pin(async move {
            let _permit = quotes.acquire_owned().await.ok()?;
            // A quote takes a platform tens of milliseconds.
            let offered = tokio::task::spawn_blocking(move || {
                let offer = provider.offer(&statement)?;
                // The handshake leaves it out where the peer does not read it.
                Ok::<_, EvidenceFault>(Offer { endorsement: endorsement.bytes(), ..offer })
            })
            .await;
            match offered {
                Ok(Ok(offer)) => Some(offer),
                Ok(Err(fault)) => {
                    tracing::error!(%fault, "the TEE gave no evidence");
                    None
                }
                Err(fault) => {
                    tracing::error!(%fault, "the TEE gave no evidence");
                    None
                }
            }
        })
    }

    fn judge(&self, _facing: &Facing, evidence: Box<PeerEvidence>) -> Later<Judgement> {
        let judge = self.trust.judge().cloned();
        let keeper = Arc::clone(self.trust.keeper());
        Box::pin(async move {
            let Some(judge) = judge else { return unasked() };
            // What cannot even be read needs no collateral to be refused.
            let need = CollateralNeed::of(&evidence).unwrap_or(CollateralNeed::Nothing);
            let collateral = keeper.find(need).await;
            let judged_ms = clock::now_ms();
            let verdict = judge.verdict(&evidence, &collateral, judged_ms);
            let policy = judge.current_policy();
            let evidence = *evidence;
            let bundle = EvidenceBundle { evidence, collateral, policy, judged_ms };
            Judgement { verdict, bundle: Some(Arc::new(bundle)) }
        })
    }

    fn settled(
        &self,
        facing: &Facing,
        address: &str,
        judged: Option<Judgement>,
    ) -> Result<PeerVerdicts, HandshakeFault> {
        let by_certificate = facing.identity.verdict.clone();
        let (verdict, bundle) = match judged {
            Some(Judgement { verdict, bundle }) => {
                if let Some(certificate) = &by_certificate {
                    same_machine(certificate, &verdict)?;
                }
                self.able.remember(facing, clock::steady_ms());
                (Arc::new(verdict), bundle)
            }
            None if self.demand(facing) == Demand::Always => {
                return Err(HandshakeFault::Downgraded);
            }
            None => (by_certificate.unwrap_or_else(|| Arc::new(unasked().verdict)), None),
        };
        let dialled = || facing.dialled.map(|address| address.to_string()).unwrap_or_default();
        Ok(PeerVerdicts {
            role: self.peer_role(facing),
            address: if address.is_empty() { dialled() } else { address.to_owned() },
            public_key: facing.identity.public_key.map(hex::encode).unwrap_or_default(),
            verdict,
            bundle,
        })
    }
}

/// Fresh evidence has to come from the machine that the certificate shows: the roles have checked
/// the image of that one.
fn same_machine(certificate: &Verdict, fresh: &Verdict) -> Result<(), HandshakeFault> {
    let differ = |what| Err(HandshakeFault::OtherMachine { what });
    if certificate.platform != fresh.platform {
        return differ("platform");
    }
    // What a log leaves out of the image hash stands in the registers of both.
    if certificate.measurement != fresh.measurement {
        return differ("image");
    }
    Ok(())
}

/// The verdict where nothing is asked: every claim is "not claimed".
fn unasked() -> Judgement {
    let (nothing, policy) = (PeerEvidence::default(), Policy::any());
    let verdict = verify(&nothing, &Collateral::default(), &policy, clock::now_ms());
    Judgement { verdict, bundle: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::EvidenceConfig;
    use crate::hardware::BehindRouter;
    use cocoon_link::PeerIdentity;
    use cocoon_wire::tl::Extensions;

    #[test]
    fn bits_stripped_from_a_peer_that_was_able_before() {
        let roots = tempfile::tempdir().unwrap();
        let evidence = EvidenceConfig::Simulated {
            roots: roots.path().join("roots"),
            image: "worker".to_owned(),
            machine: 1,
            gpu: false,
            snp: false,
            misbehave: None,
            dangerous_unchecked_peers: false,
        };
        let subject = Subject::new(ChannelRole::Worker, true, Address::new(0, [5; 32]), [6; 32]);
        let guard = |trust: Trust| ChannelGuard {
            trust,
            subject: subject.clone(),
            own_key: [1; 32],
            peers: Peers::Dialled(ChannelRole::Proxy),
            able: Able::default(),
            quotes: Arc::new(Semaphore::new(1)),
        };
        let facing = |key, port: u16| Facing {
            dialled: Some(([192, 0, 2, 1], port).into()),
            reached: None,
            identity: PeerIdentity::of_key([key; 32]),
            announced: Extensions::NONE,
            introduced_as: None,
        };
        let strict = guard(Trust::new(&evidence).unwrap());
        // Where keys are handed out it does not matter what the settings of evidence say.
        let keys = Subject { requires_fresh: true, ..subject.clone() };
        let keys =
            ChannelGuard { subject: keys, ..guard(Trust::new(&evidence).unwrap().wishing()) };
        for strict in [strict, keys] {
            let refused = strict.settled(&facing(2, 1), "", None).unwrap_err();
            assert_eq!(refused, HandshakeFault::Downgraded);
        }
        let lax = guard(Trust::new(&evidence).unwrap().wishing());
        // A node of the reference: admitted, and the verdict says what is missing.
        let known = lax.settled(&facing(2, 1), "", None).unwrap();
        assert!(!known.is_fresh());
        assert_eq!(lax.begin(&facing(2, 1)).0.demand, Demand::IfAble);
        // Once it has shown fresh evidence it has to, by its key and by its address.
        lax.settled(&facing(2, 1), "192.0.2.1:1", Some(unasked())).unwrap();
        for again in [facing(2, 9), facing(9, 1)] {
            assert_eq!(lax.settled(&again, "", None).unwrap_err(), HandshakeFault::Downgraded);
            assert_eq!(lax.begin(&again).0.demand, Demand::Always);
        }
        assert!(lax.settled(&facing(9, 9), "", None).is_ok());
    }

    #[test]
    fn only_the_operator_lets_a_peer_go_behind_a_router() {
        let roots = tempfile::tempdir().unwrap();
        let evidence = EvidenceConfig::Simulated {
            roots: roots.path().join("roots"),
            image: "worker".to_owned(),
            machine: 1,
            gpu: false,
            snp: false,
            misbehave: None,
            dangerous_unchecked_peers: false,
        };
        let by_address = BehindRouter::read(&["192.0.2.1:1".to_owned()]).unwrap();
        let by_key = BehindRouter::read(&["02".repeat(32)]).unwrap();
        let facing = |key, port: u16| Facing {
            dialled: Some(([192, 0, 2, 1], port).into()),
            reached: None,
            identity: PeerIdentity::of_key([key; 32]),
            announced: Extensions::NONE,
            introduced_as: None,
        };
        for (named, other) in [(by_address, facing(2, 2)), (by_key, facing(3, 1))] {
            let guard = ChannelGuard {
                trust: Trust::new(&evidence).unwrap().naming(named),
                subject: Subject::new(ChannelRole::Worker, true, Address::new(0, [5; 32]), [6; 32]),
                own_key: [1; 32],
                peers: Peers::Dialled(ChannelRole::Proxy),
                able: Able::default(),
                quotes: Arc::new(Semaphore::new(1)),
            };
            // It was able, and others have to be, also those that share its key or its address.
            guard.settled(&facing(2, 1), "", Some(unasked())).unwrap();
            let known = guard.settled(&facing(2, 1), "", None).unwrap();
            assert!(!known.is_fresh(), "the verdict says what is missing");
            let refused = guard.settled(&other, "", None).unwrap_err();
            assert_eq!(refused, HandshakeFault::Downgraded);
        }
        for wrong in ["here", "192.0.2.1", "zz"] {
            assert!(BehindRouter::read(&[wrong.to_owned()]).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_memory_of_able_peers_is_bounded_and_forgets_the_silent_ones_first() {
        let able = Able::default();
        let peer = |number: u32| {
            let [a, b, c, d] = number.to_be_bytes();
            let mut key = [9; 32];
            key[..4].copy_from_slice(&[a, b, c, d]);
            let (identity, announced) = (PeerIdentity::of_key(key), Extensions::NONE);
            Facing { dialled: None, reached: None, identity, announced, introduced_as: None }
        };
        for number in 0..ABLE_MAX as u32 + 3 {
            able.remember(&peer(number), u64::from(number));
        }
        let now_ms = ABLE_MAX as u64 + 3;
        assert_eq!(able.0.lock().unwrap().len(), ABLE_MAX);
        assert!(!able.contains(&peer(2), now_ms) && able.contains(&peer(3), now_ms));
        let over_ms = 3 + ABLE_LIFE_MS;
        assert!(!able.contains(&peer(3), over_ms) && able.contains(&peer(4), over_ms));
    }
}
