//! How a node meets its peers: transport, own key and certificate.

use cocoon_attest::channel::{ChannelRole, leaf_key_digest};
use cocoon_attest::{Collateral, PeerEvidence, TrustRoots};
use cocoon_link::{Entry, Guard, Route};
use cocoon_ratls::{
    Acceptor, AnyPeer, CertificateRequest, CollateralSource, Connector, Credentials,
    CredentialsHolder, KeepingPeer, NodeKey, Security,
};
use cocoon_units::Secret;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

use crate::config::ConfigFault;
use crate::evidence::{EvidenceConfig, Trust};
use crate::guard::{Able, ChannelGuard, Peers, QUOTES_MAX, Subject};
use crate::witness::Witness;
use crate::{Stop, clock};

/// How far a certificate's start is set back: peers of the reference compare it with their own
/// clock to the second.
const BACKDATE_S: u32 = 3_600;
/// How often the certificate is made anew; it lasts a day.
const RENEW_EVERY: Duration = Duration::from_secs(6 * 3_600);

/// How a node comes to its proxies, or its peers to it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Transport {
    /// Proof of work and attested TLS by the node itself.
    #[default]
    Direct,
    /// Through the SOCKS5 port of a router on this machine, which does work and TLS and tells the
    /// peer's evidence.
    Router(SocketAddr),
    /// Plain TCP, for tests on loopback.
    Plain,
}

impl Transport {
    /// Reads `connect_to_proxy_via` of the reference's configuration: a router, or nothing.
    ///
    /// # Errors
    /// [`ConfigFault::Member`] when it is no `ip:port`.
    pub fn from_reference(via: &str) -> Result<Self, ConfigFault> {
        if via.is_empty() {
            return Ok(Self::Direct);
        }
        via.parse().map(Self::Router).map_err(|_| ConfigFault::Member {
            member: "connect_to_proxy_via",
            reason: format!("{via:?} is not ip:port"),
        })
    }
}

/// Whom a listening port admits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admit {
    /// Whoever shows a key: clients, who prove nothing about their machines.
    Anybody,
    /// Peers whose evidence the node's rule accepts.
    Attested,
}

/// A node's own key with a certificate that is renewed while the node runs.
#[derive(Clone, Debug)]
pub struct Presence {
    credentials: CredentialsHolder,
    trust: Trust,
    subject: Option<Subject>,
    /// What is at the end of its routes.
    dials: ChannelRole,
    able: Able,
    quotes: Arc<Semaphore>,
}

impl Presence {
    /// Makes the certificate, with the node's evidence, and keeps both fresh until `stop`.
    ///
    /// # Errors
    /// The text says what is wrong with the key or the evidence.
    pub fn start(
        seed: &Secret<[u8; 32]>,
        evidence: &EvidenceConfig,
        stop: &Stop,
    ) -> Result<Self, String> {
        let key = NodeKey::from_seed(seed.expose()).map_err(|fault| fault.to_string())?;
        let trust = Trust::new(evidence)?;
        let credentials = CredentialsHolder::new(certificate(&key, &trust)?);
        let quotes = Arc::new(Semaphore::new(QUOTES_MAX));
        let (subject, dials, able) = (None, ChannelRole::Proxy, Able::default());
        let presence = Self { credentials, trust, subject, dials, able, quotes };
        tokio::spawn(presence.clone().renew_for_ever(key, stop.clone()));
        Ok(presence)
    }

    /// Shows fresh evidence about `subject` on every direct connection to peers that can, and
    /// demands theirs. Routes and entries made before do not.
    ///
    /// # Errors
    /// The images to admit contradict the policy: correct the policy.
    pub fn speaking_for(mut self, subject: Subject) -> Result<Self, String> {
        self.trust.admit_images(&subject.peer_images)?;
        Ok(Self { subject: Some(subject), ..self })
    }

    /// The root contract lists other images for peers now: who comes from now on is judged by them,
    /// on routes and entries made before too, and so is evidence that is renewed. Open connections
    /// stay; whoever holds them closes those that the list no longer allows. Where the subject named
    /// no images they are still not looked at.
    ///
    /// # Errors
    /// The images contradict the policy: the list before it stays in use.
    pub fn admit_images(&self, images: &[[u8; 32]]) -> Result<(), String> {
        self.trust.replace_images(images)
    }

    /// The same node towards a key manager, which has to show fresh evidence of this image instead of
    /// those of proxies; without one its image is not looked at.
    ///
    /// # Errors
    /// The image contradicts the policy: correct the policy.
    pub(crate) fn asking_for_keys(&self, image: Option<[u8; 32]>) -> Result<Self, String> {
        let mut asking = Self { dials: ChannelRole::KeyManager, ..self.clone() };
        if let Some(subject) = &mut asking.subject {
            subject.requires_fresh = true;
        }
        asking.trust.look_at_no_images();
        asking.trust.admit_images(image.as_slice())?;
        Ok(asking)
    }

    fn guard(&self, admit: Option<Admit>) -> Option<Arc<dyn Guard>> {
        let subject = self.subject.clone()?;
        let peers = match admit {
            None => Peers::Dialled(self.dials),
            Some(Admit::Anybody) => Peers::Anybody,
            Some(Admit::Attested) => Peers::Attested,
        };
        Some(Arc::new(ChannelGuard {
            trust: self.trust.clone(),
            subject,
            own_key: *self.credentials.current().key().public_key(),
            peers,
            able: self.able.clone(),
            quotes: Arc::clone(&self.quotes),
        }))
    }

    async fn renew_for_ever(self, key: NodeKey, stop: Stop) {
        loop {
            tokio::select! {
                () = stop.asked() => return,
                () = tokio::time::sleep(RENEW_EVERY) => {}
            }
            let (key, trust) = (key.clone(), self.trust.clone());
            // A quote takes a platform tens of milliseconds.
            let fresh = tokio::task::spawn_blocking(move || {
                trust.renew()?;
                certificate(&key, &trust)
            });
            match fresh.await {
                Ok(Ok(fresh)) => self.credentials.replace(fresh),
                Ok(Err(fault)) => tracing::error!(%fault, "certificate was not renewed"),
                Err(fault) => tracing::error!(%fault, "certificate was not renewed"),
            }
        }
    }

    /// What this node's TEE says to clients behind a proxy.
    #[must_use]
    pub fn witness(&self) -> Witness {
        let own_key = leaf_key_digest(self.credentials.current().key().public_key());
        let endorsement = self.subject.as_ref().map(|subject| subject.endorsement.clone());
        let provider = self.trust.provider().cloned();
        Witness::new(provider, own_key, endorsement.unwrap_or_default())
    }

    /// The rules for machines, without the registry's lists; none where evidence is not looked at.
    #[must_use]
    pub fn rules(&self) -> Option<cocoon_attest::Policy> {
        self.trust.rules()
    }

    /// What is at hand to judge a machine's evidence with.
    #[must_use]
    pub fn collateral_of(&self, evidence: &PeerEvidence) -> Collateral {
        self.trust.keeper().at_hand(evidence)
    }

    fn security(&self, admit: Admit) -> Security {
        let policy = match admit {
            Admit::Anybody => Arc::new(AnyPeer),
            Admit::Attested => self.trust.policy(),
        };
        Security::new(self.credentials.clone(), policy)
    }

    /// Key and certificate, for a service that does its own handshakes.
    #[must_use]
    pub fn credentials(&self) -> CredentialsHolder {
        self.credentials.clone()
    }

    /// The key of this name that this machine and image always get again; none without a TEE.
    /// Blocks for as long as the machine takes.
    ///
    /// # Errors
    /// The text says what failed: do not go on with another key, what it sealed would be lost.
    pub fn lasting_key(&self, name: &str) -> Result<Option<Secret<[u8; 32]>>, String> {
        self.trust.lasting_key(name)
    }

    /// What ends the chains of evidence on this network: the makers' roots, or those of the
    /// simulated platform.
    #[must_use]
    pub fn roots(&self) -> TrustRoots {
        self.trust.roots()
    }

    /// Collateral of the simulated platform, kept fresh; none where hardware is real.
    #[must_use]
    pub fn collateral(&self) -> Option<Arc<dyn CollateralSource>> {
        self.trust.collateral()
    }

    /// The way to proxies. `work_bits_max` bounds the proof of work done for one.
    #[must_use]
    pub fn route(&self, transport: &Transport, work_bits_max: u8) -> Route {
        match transport {
            Transport::Direct => {
                let policy = Arc::new(KeepingPeer(self.trust.policy()));
                let mut connector = Connector::new(Security::new(self.credentials.clone(), policy));
                connector.work_bits_max = work_bits_max;
                let connector = Box::new(connector);
                match self.guard(None) {
                    Some(guard) => Route::Attested { connector, guard },
                    None => Route::Direct(connector),
                }
            }
            Transport::Router(socks) => Route::Router { socks: *socks },
            Transport::Plain => Route::Plain,
        }
    }

    /// What stands before a listening port. `work_bits` is demanded of every peer.
    #[must_use]
    pub fn entry(&self, transport: &Transport, work_bits: u8, admit: Admit) -> Entry {
        match transport {
            Transport::Direct => {
                let mut acceptor = Acceptor::new(self.security(admit));
                acceptor.work_bits = work_bits;
                let acceptor = Box::new(acceptor);
                match self.guard(Some(admit)) {
                    Some(guard) => Entry::Attested { acceptor, guard },
                    None => Entry::Direct(acceptor),
                }
            }
            Transport::Router(_) => Entry::Router,
            Transport::Plain => Entry::Plain,
        }
    }
}

fn certificate(key: &NodeKey, trust: &Trust) -> Result<Credentials, String> {
    let request = CertificateRequest {
        evidence: trust.evidence(key.public_key())?,
        ..CertificateRequest::new(clock::now_ms() / 1000, BACKDATE_S)
    };
    Credentials::make(key.clone(), &request).map_err(|fault| fault.to_string())
}
