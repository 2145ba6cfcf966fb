//! The client over real sockets, against a scripted proxy.

#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

mod journal;
mod last_word;
mod liars;

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use cocoon_client::ClientConfig;
use cocoon_contract::address::{self, ProxyIdentity};
use cocoon_contract::state::ClientConst;
use cocoon_host::network;
use cocoon_host::peers::Transport;
use cocoon_link::{
    ConnId, Entry, Event, LinkEvent, LinkHandle, LinkSettings, Links, Listener, PortLimits, Tag,
};
use cocoon_units::{Address, PublicKey};
use cocoon_wire::client::{self, ProxyConnectionAuth, ProxyConnectionAuthLong, Query};
use cocoon_wire::proxy;
use cocoon_wire::tl::{self, Extensions, Text};
use tokio::sync::mpsc;

/// A test that waits longer for anything has failed.
const DEADLINE: Duration = Duration::from_secs(60);
const KEY: PublicKey = PublicKey([7; 32]);
const WALLET: Address = Address::new(0, [20; 32]);

struct Proxy {
    events: mpsc::Receiver<LinkEvent>,
    texts: [String; 3],
    /// Totals that are told in the handshake.
    known: (i64, i64),
    /// Our additions to the protocol that it says it knows.
    extensions: Extensions,
    address: SocketAddr,
    _port: Listener,
    _links: Links,
}

impl Proxy {
    async fn new() -> Self {
        Self::behind(Entry::Plain).await
    }

    async fn behind(entry: Entry) -> Self {
        let (sender, events) = mpsc::channel(4_096);
        let links = Links::new(LinkSettings::default(), sender);
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let limits = PortLimits::public();
        let port = Listener::bind(&links, any, entry, limits, Tag(1)).await.unwrap();
        let address = port.address();
        Self {
            events,
            texts: Default::default(),
            known: (0, 0),
            extensions: Extensions::NONE,
            address,
            _port: port,
            _links: links,
        }
    }

    /// What this proxy and the client's contract there are called in the network.
    fn name(&mut self, network_file: &Path) {
        let network = network::load_pseudo(network_file).unwrap().network;
        let (owner, root) = (Address::new(0, [1; 32]), Address::new(0, [0; 32]));
        let identity = ProxyIdentity { owner, public_key: KEY, root };
        let contract = address::proxy(&identity, &network).unwrap();
        let constants = ClientConst { owner: WALLET, proxy: contract, public_key: KEY };
        let own = address::client(&constants, &network).unwrap();
        self.texts = [owner, contract, own].map(|address| address.to_string());
    }

    /// Meets clients until one asks for models, which it does when the handshake is complete, or
    /// closes its connection.
    async fn meet(&mut self) -> Option<LinkHandle> {
        let mut met: Option<(ConnId, LinkHandle)> = None;
        loop {
            let LinkEvent { conn, event } = self.events.recv().await.expect("an event");
            if let Event::Opened(opened) = event {
                met = Some((conn, opened.link));
                continue;
            }
            let Some((_, link)) = met.as_ref().filter(|(of, _)| *of == conn) else { continue };
            match event {
                Event::Closed(_) => return None,
                Event::Query { id, data } => match Query::decode(&data.0).unwrap() {
                    Query::GetWorkerTypesV2(_) => return Some(link.clone()),
                    query => link.answer(id, self.step(&query)).unwrap(),
                },
                _ => {}
            }
        }
    }

    fn step(&self, query: &Query<'_>) -> Vec<u8> {
        let [owner, contract, own] = &self.texts;
        match query {
            Query::ConnectToProxy(_) => tl::encode(&client::ConnectedToProxy {
                params: proxy::Params {
                    extensions: self.extensions,
                    proxy_public_key: KEY,
                    proxy_owner_address: Text::from(owner.as_str()),
                    proxy_sc_address: Text::from(contract.as_str()),
                    is_test: Some(true),
                    proto_version: Some(4),
                },
                client_sc_address: Text::from(own.as_str()),
                auth: ProxyConnectionAuth::Long(ProxyConnectionAuthLong { nonce: 1 }),
                signed_payment: proxy::SignedPayment::Empty,
            }),
            _ => tl::encode(&client::AuthorizationWithProxySuccess {
                signed_payment: proxy::SignedPayment::Empty,
                tokens_committed_to_db: self.known.0,
                max_tokens: self.known.1,
            }),
        }
    }
}

fn config(dir: &Path, proxy: SocketAddr) -> ClientConfig {
    let network_file = dir.join("network.json");
    let network = serde_json::json!({
        "@type": "rootConfig.pseudo",
        "registered_proxies": [
            {"@type": "rootConfig.registeredProxy", "seqno": 0, "address": format!("{proxy} {proxy}")}
        ],
        "price_per_token": 2,
        "worker_fee_per_token": 1,
        "version": 3,
        "params_version": 1,
        "root_owner_address": Address::new(0, [3; 32]).to_string(),
    });
    std::fs::write(&network_file, network.to_string()).unwrap();
    ClientConfig {
        wallet: WALLET.to_string(),
        transport: Transport::Plain,
        network_file,
        root: Address::new(0, [0; 32]).to_string(),
        is_test: true,
        check_proxy_images: false,
        data_dir: dir.join("data"),
        journal_bytes_max: 4_096,
        ..ClientConfig::default()
    }
}
