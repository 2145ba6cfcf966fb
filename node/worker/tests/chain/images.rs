//! The registry lists a proxy's image, takes it off, and lists it again, while the worker runs.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use cocoon_contract::address::{self, ProxyIdentity, StateInit};
use cocoon_contract::cell::Hash;
use cocoon_contract::code;
use cocoon_contract::message::{Body, RootAction, RootRequest};
use cocoon_contract::root::{ProxyEndpoint, RegisteredProxy, RootState};
use cocoon_contract::wallet::Outgoing;
use cocoon_host::chain::{ChainConfig, ChainKind};
use cocoon_host::evidence::{EvidenceConfig, simulated_image_hash};
use cocoon_host::peers::{Admit, Presence, Transport};
use cocoon_host::{ChannelRole, Stop, Subject};
use cocoon_link::{
    ConnId, Entry, Event, LinkEvent, LinkHandle, LinkSettings, Links, Listener, PortLimits, Tag,
};
use cocoon_units::{Address, Nanoton, PublicKey, Secret};
use cocoon_wire::proxy;
use cocoon_wire::tl::{self, Extensions, Text};
use cocoon_wire::worker::{self, Query};
use cocoon_worker::{WorkerConfig, serve};
use tokio::sync::mpsc;

use crate::{TON, config, operator, own, root_state, send, serve_chain};

const DEADLINE: Duration = Duration::from_secs(60);
const OWNER: Address = Address::new(0, [1; 32]);
const KEY: PublicKey = PublicKey([7; 32]);

/// A proxy that introduces itself, and answers nothing else.
struct Proxy {
    events: mpsc::Receiver<LinkEvent>,
    links: HashMap<ConnId, LinkHandle>,
    introduction: Vec<u8>,
    _port: Listener,
    _links: Links,
}

impl Proxy {
    async fn open(at: SocketAddr, entry: Entry, root: Address, state: &RootState) -> Self {
        let (sender, events) = mpsc::channel(1_024);
        let links = Links::new(LinkSettings::default(), sender);
        let port = Listener::bind(&links, at, entry, PortLimits::local(), Tag(1)).await.unwrap();
        let identity = ProxyIdentity { owner: OWNER, public_key: KEY, root };
        let contract = address::proxy(&identity, &state.network).unwrap();
        let owner = Address::new(0, [30; 32]);
        let worker = address::worker(owner, contract, KEY, &state.network).unwrap();
        let [owner, contract, worker] = [OWNER, contract, worker].map(|a| a.to_string());
        let introduction = tl::encode(&worker::ConnectedToProxy {
            params: proxy::Params {
                extensions: Extensions::NONE,
                proxy_public_key: KEY,
                proxy_owner_address: Text::from(owner.as_str()),
                proxy_sc_address: Text::from(contract.as_str()),
                is_test: Some(true),
                proto_version: Some(4),
            },
            worker_sc_address: Text::from(worker.as_str()),
        });
        Self { events, links: HashMap::new(), introduction, _port: port, _links: links }
    }

    /// The next event that is asked for. Whoever comes meanwhile stays connected.
    async fn next(&mut self, is_it: impl Fn(&LinkEvent) -> bool) -> LinkEvent {
        loop {
            let found = self.events.recv().await.unwrap();
            if is_it(&found) {
                return found;
            }
            if let Event::Opened(opened) = found.event {
                self.links.insert(found.conn, opened.link);
            }
        }
    }

    /// Meets the worker once it has accepted our fresh evidence: it goes on then.
    async fn meet(&mut self) -> ConnId {
        loop {
            let found = self.next(|found| matches!(found.event, Event::Query { .. })).await;
            let Event::Query { id, data } = found.event else { continue };
            if !matches!(Query::decode(&data.0).unwrap(), Query::ConnectToProxy(_)) {
                return found.conn;
            }
            // It may have left meanwhile.
            let _ = self.links[&found.conn].answer(id, self.introduction.clone());
        }
    }

    /// Waits until the worker has left: this connection, or any.
    async fn gone(&mut self, conn: Option<ConnId>) {
        let is_it = |found: &LinkEvent| conn.is_none_or(|conn| found.conn == conn);
        self.next(|found| is_it(found) && matches!(found.event, Event::Closed(_))).await;
    }
}

async fn in_time<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, what).await.expect("in time")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_is_met_when_its_image_is_listed_and_left_when_it_is_taken_off() {
    let (dir, stop) = (tempfile::tempdir().unwrap(), Stop::new());
    let roots = dir.path().join("roots");
    let evidence = |image: &str| EvidenceConfig::Simulated {
        roots: roots.clone(),
        image: image.to_owned(),
        machine: 1,
        gpu: false,
        snp: false,
        misbehave: None,
        dangerous_unchecked_peers: false,
    };
    let hash = |image: &str| Hash(simulated_image_hash(&roots, image).unwrap());
    let listed = hash("proxy");

    let serving = serve_chain(dir.path(), own()).await;
    let (kind, url) = (ChainKind::Local, format!("http://{}", serving.http));
    let chain = ChainConfig { kind, url, poll_ms: 20, ..ChainConfig::default() };
    let (hand, mut reports) = operator(&serving, &chain, dir.path(), &stop);
    let at = own();
    let endpoint = ProxyEndpoint::parse(&format!("{at} {at}")).unwrap();
    let state = RootState {
        proxy_hashes: [hash("other")].into(),
        registered_proxies: [(1, RegisteredProxy::new(&endpoint))].into(),
        ..root_state(hand.address())
    };
    let init = StateInit { code: code::root().unwrap(), data: state.cell().unwrap() };
    let root = init.address();
    send(&hand, &mut reports, 1, Outgoing::deploy(init, Nanoton(TON))).await;

    let subject = Subject::new(ChannelRole::Proxy, false, root, [9; 32]);
    let presence = Presence::start(&Secret::new([81; 32]), &evidence("proxy"), &stop)
        .and_then(|presence| presence.speaking_for(subject))
        .unwrap();
    let entry = presence.entry(&Transport::Direct, 0, Admit::Attested);
    let mut proxy = Proxy::open(at, entry, root, &state).await;
    let config = WorkerConfig {
        transport: Transport::Direct,
        evidence: evidence("worker"),
        check_proxy_images: true,
        root_notice_s: 0,
        ..config(chain, root, &dir.path().join("data")).await
    };
    let node_stop = stop.clone();
    let node = tokio::spawn(async move { Box::pin(serve(&config, &node_stop)).await });

    // Refused while it is not listed; let in, its fresh evidence too, once it is.
    in_time(proxy.gone(None)).await;
    let order = |action| {
        let body = Body::Root(RootRequest { query_id: 7, action }).cell().unwrap();
        Outgoing::to_contract(root, Nanoton(TON / 10), body)
    };
    send(&hand, &mut reports, 2, order(RootAction::AddProxyType(listed))).await;
    let conn = in_time(proxy.meet()).await;
    send(&hand, &mut reports, 3, order(RootAction::DelProxyType(listed))).await;
    in_time(proxy.gone(Some(conn))).await;
    send(&hand, &mut reports, 4, order(RootAction::AddProxyType(listed))).await;
    in_time(proxy.meet()).await;
    stop.now();
    node.await.unwrap().unwrap();
}
