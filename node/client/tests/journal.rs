//! The client's journal over real sockets, against a scripted proxy: it stays small while the
//! node runs, and a restart knows what the proxy had told.

#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use cocoon_client::{ClientConfig, Network};
use cocoon_contract::address::{self, ProxyIdentity};
use cocoon_contract::state::ClientConst;
use cocoon_host::peers::Transport;
use cocoon_host::{Books, Stop, keys, network};
use cocoon_link::{
    ConnId, Entry, Event, LinkEvent, LinkHandle, LinkSettings, Links, Listener, PortLimits,
    SendFault, Tag,
};
use cocoon_units::{Address, PublicKey};
use cocoon_wire::client::{self, ProxyConnectionAuth, ProxyConnectionAuthLong, Query};
use cocoon_wire::proxy::{self, ClientRequestPayment};
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
    address: SocketAddr,
    _port: Listener,
    _links: Links,
}

impl Proxy {
    async fn new() -> Self {
        let (sender, events) = mpsc::channel(4_096);
        let links = Links::new(LinkSettings::default(), sender);
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let limits = PortLimits::public();
        let port = Listener::bind(&links, any, Entry::Plain, limits, Tag(1)).await.unwrap();
        let address = port.address();
        Self {
            events,
            texts: Default::default(),
            known: (0, 0),
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
                    extensions: Extensions::NONE,
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

/// Tells the client what was booked; waits while its connection does not keep up.
async fn pay(link: &LinkHandle, durable: i64, max: i64) {
    let paid = ClientRequestPayment { db_tokens: durable, max_tokens: max, ..Default::default() };
    while let Err(fault) = link.message_object(&paid) {
        assert!(matches!(fault, SendFault::Stuck { .. }), "{fault}");
        tokio::task::yield_now().await;
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

fn segments(dir: &Path) -> BTreeSet<OsString> {
    let files = std::fs::read_dir(dir.join("data/journal")).unwrap();
    files.map(|file| file.unwrap().file_name()).collect()
}

/// Records that a start would read.
fn records(dir: &Path) -> usize {
    let key = keys::load_or_make(&dir.join("data/journal.key")).unwrap();
    Books::open(&dir.join("data/journal"), &key, false).unwrap().records().len()
}

/// Starts again as soon as the node before has let go of the journal.
async fn start_again(config: &ClientConfig, stop: &Stop) -> Network {
    loop {
        match Network::start(config, stop) {
            Ok(network) => return network,
            Err(_) => tokio::task::yield_now().await,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_journal_stays_small_and_a_restart_knows_the_books() {
    let test = async {
        let dir = tempfile::tempdir().unwrap();
        let mut proxy = Proxy::new().await;
        let config = config(dir.path(), proxy.address);
        proxy.name(&config.network_file);
        let stop = Stop::new();
        let network = Network::start(&config, &stop).unwrap();
        let first = segments(dir.path());
        let link = proxy.meet().await.expect("a client");
        let mut total = 0;
        while segments(dir.path()) == first {
            total += 1;
            pay(&link, total, total + 1).await;
            tokio::task::yield_now().await;
        }
        network.close().await;
        drop((network, link));

        let stop = Stop::new();
        let network = start_again(&config, &stop).await;
        let kept = records(dir.path());
        assert!(kept < 10, "{kept} records of one channel");
        // A proxy that forgot is left; one that knows its last word is not.
        assert!(proxy.meet().await.is_none());
        proxy.known = (total, total + 1);
        while proxy.meet().await.is_none() {}
        network.close().await;
    };
    tokio::time::timeout(DEADLINE, Box::pin(test)).await.expect("in time");
}
