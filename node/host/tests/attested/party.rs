//! Nodes of these tests: a loop that is driven by hand, with a deadline for every wait.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cocoon_evidence::sim::DevPki;
use cocoon_host::evidence::EvidenceConfig;
use cocoon_host::peers::{Admit, Presence, Transport};
use cocoon_host::{ChannelRole, Stop, Subject};
use cocoon_link::{
    Dialer, Entry, Event, LinkEvent, LinkHandle, LinkSettings, Links, Listener, PeerVerdicts,
    PortLimits, Route, SessionFault, Tag,
};
use cocoon_units::{Address, Secret};
use cocoon_wire::cocoon::Attest;
use cocoon_wire::tl::{Blob, encode};
use cocoon_wire::worker;
use tokio::sync::mpsc;

/// For a machine that is very busy; everything here takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) const PROXY_SEED: u8 = 1;
pub(crate) const WORKER_SEED: u8 = 2;

/// What the nodes of one test share. The development roots take seconds to draw, so all tests of
/// one day share them.
pub(crate) struct World {
    roots: PathBuf,
    stop: Stop,
}

impl World {
    pub(crate) fn new() -> Self {
        let now_s = cocoon_host::clock::now_ms() / 1_000;
        let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
        let roots = directory.join(format!("attested-roots-{}", now_s / 86_400));
        // Tests run side by side: one of them draws the roots, the others wait.
        let lock = std::fs::File::create(directory.join("attested-roots.lock")).unwrap();
        lock.lock().unwrap();
        DevPki::load_or_generate(&roots, now_s).unwrap();
        Self { roots, stop: Stop::new() }
    }

    pub(crate) fn roots(&self) -> PathBuf {
        self.roots.clone()
    }

    pub(crate) fn evidence(&self, image: &str, machine: u64, gpu: bool) -> EvidenceConfig {
        EvidenceConfig::Simulated {
            roots: self.roots(),
            image: image.to_owned(),
            machine,
            gpu,
            snp: false,
            misbehave: None,
            dangerous_unchecked_peers: false,
        }
    }

    fn presence(&self, seed: u8, evidence: &EvidenceConfig) -> Presence {
        Presence::start(&Secret::new([seed; 32]), evidence, &self.stop).unwrap()
    }

    /// An honest proxy's entry for workers.
    pub(crate) fn proxy(&self) -> Entry {
        let presence = self.presence(PROXY_SEED, &self.evidence("proxy", 1, false));
        let presence = presence.speaking_for(subject(ChannelRole::Proxy)).unwrap();
        presence.entry(&Transport::Direct, 0, Admit::Attested)
    }

    /// An honest worker's way to proxies.
    pub(crate) fn worker(&self) -> Route {
        let presence = self.presence(WORKER_SEED, &self.evidence("worker", 2, true));
        let subject = subject(ChannelRole::Worker);
        subject.model.set("model@commit:root");
        presence.speaking_for(subject).unwrap().route(&Transport::Direct, 8)
    }

    /// An honest worker that shows this endorsement.
    pub(crate) fn endorsed_worker(&self, file: &Path) -> Route {
        let presence = self.presence(WORKER_SEED, &self.evidence("worker", 2, true));
        let subject = subject(ChannelRole::Worker).endorsed_by(file).unwrap();
        presence.speaking_for(subject).unwrap().route(&Transport::Direct, 8)
    }

    /// Somebody who stole the proxy's key and its certificate, and does what the test says.
    pub(crate) fn false_proxy(&self) -> Entry {
        let presence = self.presence(PROXY_SEED, &self.evidence("proxy", 1, false));
        presence.entry(&Transport::Direct, 0, Admit::Attested)
    }

    /// Somebody who stole the worker's key and its certificate.
    pub(crate) fn false_worker(&self) -> Route {
        let presence = self.presence(WORKER_SEED, &self.evidence("worker", 2, true));
        presence.route(&Transport::Direct, 8)
    }
}

pub(crate) fn subject(role: ChannelRole) -> Subject {
    Subject::new(role, true, Address::new(0, [5; 32]), [role.byte(); 32])
}

/// One node's end.
pub(crate) struct Node {
    pub(crate) links: Links,
    events: mpsc::Receiver<LinkEvent>,
    /// A connection closes when its last handle is dropped.
    kept: Vec<LinkHandle>,
}

impl Node {
    pub(crate) fn new() -> Self {
        let (sender, events) = mpsc::channel(1_024);
        Self { links: Links::new(LinkSettings::default(), sender), events, kept: Vec::new() }
    }

    pub(crate) async fn listen(&self, entry: Entry) -> Listener {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        Listener::bind(&self.links, any, entry, PortLimits::local(), Tag(1)).await.unwrap()
    }

    pub(crate) fn dial(&self, route: Route, target: SocketAddr) {
        let _ = Dialer::new(&self.links, route).dial(target, Tag(2));
    }

    pub(crate) async fn next(&mut self) -> Event {
        let event = tokio::time::timeout(PATIENCE, self.events.recv()).await;
        event.expect("no event came in time").expect("the links are gone").event
    }

    pub(crate) async fn opened(&mut self) -> LinkHandle {
        match self.next().await {
            Event::Opened(opened) => {
                self.kept.push(opened.link.clone());
                opened.link
            }
            other => panic!("expected Opened, got {other:?}"),
        }
    }

    pub(crate) async fn attested(&mut self) -> Box<PeerVerdicts> {
        match self.next().await {
            Event::Attested(verdicts) => verdicts,
            other => panic!("expected Attested, got {other:?}"),
        }
    }

    pub(crate) async fn query(&mut self) -> (i64, Vec<u8>) {
        match self.next().await {
            Event::Query { id, data } => (id, data.to_vec()),
            other => panic!("expected Query, got {other:?}"),
        }
    }

    pub(crate) async fn answer(&mut self) -> Vec<u8> {
        match self.next().await {
            Event::Answer { data, .. } => data.to_vec(),
            other => panic!("expected Answer, got {other:?}"),
        }
    }

    pub(crate) async fn message(&mut self) -> Vec<u8> {
        match self.next().await {
            Event::Message(data) => data.to_vec(),
            other => panic!("expected Message, got {other:?}"),
        }
    }

    /// Why the connection ended; nothing of the peer may have come before.
    pub(crate) async fn refused(&mut self) -> String {
        match self.next().await {
            Event::Closed(SessionFault::Attestation(reason)) => reason,
            other => panic!("expected the handshake to fail, got {other:?}"),
        }
    }
}

/// Introduces a worker.
pub(crate) fn introduce(link: &LinkHandle) {
    link.query_object(7, &worker::ConnectToProxy::default(), PATIENCE).unwrap();
}

/// Introduces a proxy.
pub(crate) fn introduced() -> Vec<u8> {
    encode(&worker::ConnectedToProxy::default())
}

/// A message of the handshake, as a node that runs it by hand sends it.
pub(crate) fn attest(message: &[u8]) -> Vec<u8> {
    encode(&Attest { data: Blob(message) })
}
