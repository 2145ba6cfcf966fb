//! The worker's side of a chain, over real sockets: a root that changes without notice, images that
//! it lists and takes off, and a chain that goes away and comes back.

#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

mod images;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use cocoon_chain::{NodeConfig, ServeConfig, Serving};
use cocoon_contract::address::{Network, StateInit};
use cocoon_contract::code::{self, Codes};
use cocoon_contract::message::{Body, RootAction, RootRequest};
use cocoon_contract::params::Params;
use cocoon_contract::root::{ProxyEndpoint, RegisteredProxy, RootState};
use cocoon_contract::wallet::Outgoing;
use cocoon_host::Stop;
use cocoon_host::chain::{ChainConfig, ChainKind, PurseHand, Reports, node_wallet, open_purse};
use cocoon_host::peers::Transport;
use cocoon_purse::{Label, Order, Settings};
use cocoon_units::{Address, Multiplier, Nanoton, Secret};
use cocoon_worker::{WorkerConfig, serve};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const TON: u64 = 1_000_000_000;
const DEADLINE: Duration = Duration::from_secs(120);

/// An address that stays this test's while nobody listens there: of the whole net of loopback
/// addresses this process uses one of its own.
fn own() -> SocketAddr {
    let [_, high, middle, low] = std::process::id().to_be_bytes();
    let address = Ipv4Addr::new(127, high | 64, middle, low);
    std::net::TcpListener::bind((address, 0)).unwrap().local_addr().unwrap()
}

async fn serve_chain(dir: &Path, http: SocketAddr) -> Serving {
    let directory = Some(dir.join("chain"));
    let node = NodeConfig { directory, beat_ms: 20, ..NodeConfig::in_memory([5; 32]) };
    Serving::start(&ServeConfig { node, http, lite: None }).await.unwrap()
}

fn root_state(owner: Address) -> RootState {
    let params = Params {
        struct_version: 3,
        params_version: 1,
        unique_id: 17,
        is_test: true,
        price_per_token: Nanoton(20),
        worker_fee_per_token: Nanoton(19),
        prompt_multiplier: Multiplier::ONE,
        cached_multiplier: Multiplier::ONE,
        completion_multiplier: Multiplier::ONE,
        reasoning_multiplier: Multiplier::ONE,
        proxy_delay_s: 7_200,
        client_delay_s: 3_600,
        min_proxy_stake: Nanoton(TON),
        min_client_stake: Nanoton(TON),
    };
    // Nobody answers there: this is about the chain.
    let endpoint = ProxyEndpoint::parse("127.0.0.1:9 127.0.0.1:9").unwrap();
    RootState {
        owner,
        version: 1,
        proxy_hashes: Default::default(),
        registered_proxies: [(1, RegisteredProxy::new(&endpoint))].into(),
        last_proxy_seqno: 1,
        worker_hashes: Default::default(),
        model_hashes: Default::default(),
        network: Network { params, codes: Codes::ours().unwrap() },
        key_manager: None,
    }
}

async fn send(hand: &PurseHand, reports: &mut Reports, label: u64, message: Outgoing) {
    hand.order(Order { label: Label(label), message });
    loop {
        let report = reports.recv().await.unwrap();
        if report.label == Label(label) && report.outcome.is_final() {
            assert!(report.outcome.is_success(), "{report:?}");
            return;
        }
    }
}

async fn page(node: SocketAddr) -> Option<Value> {
    let mut stream = tokio::net::TcpStream::connect(node).await.ok()?;
    let head = format!("GET /jsonstats HTTP/1.1\r\nhost: {node}\r\nconnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await.ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await.ok()?;
    serde_json::from_str(text.split_once("\r\n\r\n")?.1).ok()
}

async fn until(node: SocketAddr, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    let mut last = Value::Null;
    let waiting = async {
        loop {
            if let Some(page) = page(node).await {
                last = page;
                if is_so(&last) {
                    return;
                }
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let waited = tokio::time::timeout(DEADLINE, waiting).await;
    assert!(waited.is_ok(), "waited in vain for {what}: {last}");
    last
}

/// The wallet that owns the root contract.
fn operator(
    serving: &Serving,
    chain: &ChainConfig,
    dir: &Path,
    stop: &Stop,
) -> (PurseHand, Reports) {
    let wallet = node_wallet(Address::new(0, [0x44; 32]), &Secret::new([3; 32])).unwrap();
    let file = dir.join("operator");
    let purse = open_purse(wallet, Settings::default(), &file).unwrap();
    let (poll, line) = (Duration::from_millis(20), chain.open().unwrap().unwrap());
    let (hand, reports) = PurseHand::start(line, purse, file, poll, stop.clone());
    serving.node.faucet(hand.address(), Nanoton(50 * TON)).unwrap().unwrap();
    (hand, reports)
}

/// A worker in front of a model server that is there.
async fn config(chain: ChainConfig, root: Address, data_dir: &Path) -> WorkerConfig {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let forward_to = format!("http://{}", listener.local_addr().unwrap());
    let models = Router::new().fallback(get(async || "{\"data\":[{\"id\":\"qwen\"}]}"));
    tokio::spawn(async move { axum::serve(listener, models).await });
    WorkerConfig {
        owner: Address::new(0, [30; 32]).to_string(),
        model: "qwen@abc:00".into(),
        forward_to,
        transport: Transport::Plain,
        chain,
        root: root.to_string(),
        root_notice_s: 100_000,
        is_test: true,
        check_proxy_images: false,
        data_dir: data_dir.to_owned(),
        http: Some(own()),
        ..WorkerConfig::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sudden_root_waits_and_a_chain_that_is_away_stops_new_work() {
    let (dir, stop) = (tempfile::tempdir().unwrap(), Stop::new());
    let serving = serve_chain(dir.path(), own()).await;
    let at = serving.http;
    let chain = ChainConfig {
        kind: ChainKind::Local,
        url: format!("http://{at}"),
        poll_ms: 20,
        away_max_s: 8,
        ..ChainConfig::default()
    };
    let (hand, mut reports) = operator(&serving, &chain, dir.path(), &stop);
    let state = root_state(hand.address());
    let init = StateInit { code: code::root().unwrap(), data: state.cell().unwrap() };
    let root = init.address();
    send(&hand, &mut reports, 1, Outgoing::deploy(init, Nanoton(TON))).await;

    let config = config(chain, root, &dir.path().join("data")).await;
    let free = config.http.unwrap();
    let begin = || {
        let (config, stop) = (config.clone(), Stop::new());
        let asked = stop.clone();
        (tokio::spawn(async move { Box::pin(serve(&config, &asked)).await }), stop)
    };
    let (node, node_stop) = begin();
    until(free, "work is taken", |page| page["status"]["enabled"] == true).await;

    // Prices change without notice: they wait, and a restart does not forget since when.
    let (price_per_token, worker_fee_per_token) = (Nanoton(30), Nanoton(1));
    let action = RootAction::ChangePrice { price_per_token, worker_fee_per_token };
    let body = Body::Root(RootRequest { query_id: 7, action }).cell().unwrap();
    send(&hand, &mut reports, 2, Outgoing::to_contract(root, Nanoton(TON / 10), body)).await;
    let waits = |page: &Value| page["money"]["root_change_waits"]["until_s"].is_u64();
    let seen = until(free, "the change is seen", waits).await;
    assert_eq!(seen["money"]["root_version"], 1);
    node_stop.now();
    node.await.unwrap().unwrap();
    let (node, node_stop) = begin();
    let again = until(free, "the change is seen again", waits).await;
    assert_eq!(again["money"]["root_change_waits"], seen["money"]["root_change_waits"]);
    assert_eq!(again["money"]["root_version"], 1);
    serving.node.advance(100_000_000).unwrap();
    until(free, "the change is followed", |page| page["money"]["root_version"] == 2).await;

    // Away for a moment: it says so and goes on. Away for too long: nothing new.
    until(free, "work is taken", |page| page["status"]["enabled"] == true).await;
    serving.stop().await.unwrap();
    let told =
        until(free, "the page says so", |page| page["money"]["chain_fault"].is_string()).await;
    assert_eq!(told["status"]["enabled"], true, "{told}");
    let off = until(free, "nothing new", |page| page["status"]["enabled"] == false).await;
    assert_eq!(
        (&off["status"]["chain_away"], &off["money"]["takes_nothing_new"]),
        (&true.into(), &true.into())
    );
    let _serving = serve_chain(dir.path(), at).await;
    until(free, "work is taken again", |page| page["status"]["enabled"] == true).await;
    node_stop.now();
    node.await.unwrap().unwrap();
    stop.now();
}
