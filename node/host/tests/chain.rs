//! The node's line to a chain over real sockets: purse, root contract, silence.

// A broken scenario shall panic.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Duration;

use cocoon_chain::{Chain, NodeConfig, ServeConfig, Serving};
use cocoon_contract::address::{Network, StateInit};
use cocoon_contract::code::{self, Codes};
use cocoon_contract::message::{Body, RootAction, RootRequest};
use cocoon_contract::params::Params;
use cocoon_contract::root::RootState;
use cocoon_contract::wallet::Outgoing;
use cocoon_host::Stop;
use cocoon_host::chain::{
    ChainConfig, ChainKind, ChainLine, PurseHand, Reports, RootFault, RootNews, RootRules,
    RootWatch, first_root, follow_root, node_wallet, open_purse, read_root,
};
use cocoon_purse::{Label, Order, Outcome, Settings};
use cocoon_settle::{SettleLog, SettleRecord};
use cocoon_units::{Address, Multiplier, Nanoton, Secret};

const TON: u64 = 1_000_000_000;
const DEADLINE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(20);

async fn serving() -> Serving {
    let any = "127.0.0.1:0".parse().unwrap();
    let node = NodeConfig { beat_ms: 20, ..NodeConfig::in_memory([5; 32]) };
    Serving::start(&ServeConfig { node, http: any, lite: Some(any) }).await.unwrap()
}

fn over_http(serving: &Serving) -> ChainConfig {
    let url = format!("http://{}", serving.http);
    ChainConfig { kind: ChainKind::Local, url, poll_ms: 20, ..ChainConfig::default() }
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
        proxy_delay_s: 600,
        client_delay_s: 300,
        min_proxy_stake: Nanoton(TON),
        min_client_stake: Nanoton(TON),
    };
    RootState {
        owner,
        version: 0,
        proxy_hashes: Default::default(),
        registered_proxies: Default::default(),
        last_proxy_seqno: 0,
        worker_hashes: Default::default(),
        model_hashes: Default::default(),
        network: Network { params, codes: Codes::ours().unwrap() },
        key_manager: None,
    }
}

fn purse(chain: &Arc<dyn Chain>, dir: &std::path::Path, stop: &Stop) -> (PurseHand, Reports) {
    let wallet = node_wallet(Address::new(0, [0x44; 32]), &Secret::new([3; 32])).unwrap();
    let file = dir.join("purse");
    let purse = open_purse(wallet, Settings::default(), &file).unwrap();
    PurseHand::start(Arc::clone(chain), purse, file, POLL, stop.clone())
}

/// The last report of an order.
async fn ended(reports: &mut Reports, label: u64) -> Outcome {
    let last = async {
        loop {
            let report = reports.recv().await.unwrap();
            if report.label == Label(label) && report.outcome.is_final() {
                return report.outcome;
            }
        }
    };
    tokio::time::timeout(DEADLINE, last).await.expect("a report in time")
}

async fn story(serving: &Serving, config: ChainConfig) {
    let dir = tempfile::tempdir().unwrap();
    let stop = Stop::new();
    let chain: Arc<dyn Chain> = Arc::new(ChainLine::new(config.open().unwrap().unwrap()));
    let (hand, mut reports) = purse(&chain, dir.path(), &stop);
    let wallet = hand.address();
    let init = StateInit { code: code::root().unwrap(), data: root_state(wallet).cell().unwrap() };
    let root = init.address();
    let absent = first_root(chain.as_ref(), root, true, POLL, &stop).await;
    assert!(matches!(absent, Err(RootFault::Absent { .. })), "{absent:?}");

    let deploy = Outgoing::deploy(init, Nanoton(TON));
    hand.order(Order { label: Label(1), message: deploy });
    assert!(tokio::time::timeout(DEADLINE, hand.wait_for(|s| s.lacking.is_some())).await.unwrap());
    serving.node.faucet(wallet, Nanoton(10 * TON)).unwrap().unwrap();
    assert!(ended(&mut reports, 1).await.is_success());

    let first = first_root(chain.as_ref(), root, true, POLL, &stop).await.unwrap().unwrap();
    assert_eq!((first.version, first.owner), (0, wallet));
    let other_mode = read_root(chain.as_ref(), root, false).await;
    assert_eq!(other_mode, Err(RootFault::TestMode { ours: false, theirs: true }));
    let senseless = read_root(chain.as_ref(), wallet, true).await;
    assert!(matches!(senseless, Err(RootFault::Senseless { .. })), "{senseless:?}");

    let mut roots = follow_root(Arc::clone(&chain), root, first, POLL, stop.clone());
    let (price_per_token, worker_fee_per_token) = (Nanoton(30), Nanoton(29));
    let action = RootAction::ChangePrice { price_per_token, worker_fee_per_token };
    let body = Body::Root(RootRequest { query_id: 7, action }).cell().unwrap();
    let message = Outgoing::to_contract(root, Nanoton(TON / 10), body);
    hand.order(Order { label: Label(2), message });
    assert!(ended(&mut reports, 2).await.is_success());
    tokio::time::timeout(DEADLINE, roots.changed()).await.unwrap().unwrap();
    let newer = roots.borrow().clone();
    assert_eq!((newer.version, newer.network.params.params_version), (1, 2));
    stop.now();

    // After a restart nothing is on the way, and the purse goes on.
    let stop = Stop::new();
    let (hand, mut reports) = purse(&chain, dir.path(), &stop);
    let message = Outgoing::to_contract(
        root,
        Nanoton(TON / 10),
        Body::Root(RootRequest { query_id: 8, action: RootAction::Reset }).cell().unwrap(),
    );
    hand.order(Order { label: Label(3), message });
    assert!(ended(&mut reports, 3).await.is_success());
    stop.now();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_the_http_interface() {
    let serving = serving().await;
    story(&serving, over_http(&serving)).await;
    serving.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_the_light_protocol() {
    let serving = serving().await;
    let dir = tempfile::tempdir().unwrap();
    let global_config = dir.path().join("global.json");
    std::fs::write(&global_config, serving.global_config()).unwrap();
    let kind = ChainKind::LiteServers;
    story(&serving, ChainConfig { kind, global_config, poll_ms: 20, ..ChainConfig::default() })
        .await;
    serving.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_chain_is_noticed() {
    let serving = serving().await;
    let line = ChainLine::new(over_http(&serving).open().unwrap().unwrap());
    line.head().await.unwrap();
    assert_eq!((line.away(), line.status().away), (Duration::ZERO, None));
    let root = Address::new(0, [1; 32]);
    // A refusal is an answer.
    assert!(line.run_getter(root, "seqno", &[]).await.is_err());
    assert_eq!(line.status().fault, None);
    serving.stop().await.unwrap();
    assert!(line.head().await.is_err());
    let status = line.status();
    assert!(status.away.is_some() && status.fault.is_some(), "{status:?}");
    assert!(status.head.is_some(), "what was known stays known");
}

/// A root contract on chain, and the wallet that owns it.
async fn found(
    serving: &Serving,
    chain: &Arc<dyn Chain>,
    dir: &std::path::Path,
    stop: &Stop,
) -> (Address, PurseHand, Reports) {
    let (hand, mut reports) = purse(chain, dir, stop);
    let wallet = hand.address();
    serving.node.faucet(wallet, Nanoton(10 * TON)).unwrap().unwrap();
    let init = StateInit { code: code::root().unwrap(), data: root_state(wallet).cell().unwrap() };
    let root = init.address();
    hand.order(Order { label: Label(1), message: Outgoing::deploy(init, Nanoton(TON)) });
    assert!(ended(&mut reports, 1).await.is_success());
    (root, hand, reports)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_of_the_root_waits_also_over_restarts() {
    let (dir, stop, serving) = (tempfile::tempdir().unwrap(), Stop::new(), serving().await);
    let line = Arc::new(ChainLine::new(over_http(&serving).open().unwrap().unwrap()));
    let chain: Arc<dyn Chain> = Arc::clone(&line) as _;
    let (root, hand, mut reports) = found(&serving, &chain, dir.path(), &stop).await;
    let rules = RootRules { root, is_test: true, notice_s: 1_000 };
    let mut log = SettleLog::default();
    let mut keep = |news: RootNews| {
        news.record.iter().for_each(|record| log.apply(record));
        (news, log.clone())
    };
    let begin = async |log: &SettleLog, stop: &Stop| {
        RootWatch::begin(Arc::clone(&line), rules, POLL, log, stop).await.unwrap().unwrap()
    };

    // What is seen first is believed, and written down.
    let mut watch = begin(&SettleLog::default(), &stop).await;
    let (news, log) = keep(watch.look(10).await.unwrap());
    assert!(matches!(news.record, Some(SettleRecord::RootBelieved { .. })) && log.root().is_some());

    let (price_per_token, worker_fee_per_token) = (Nanoton(30), Nanoton(29));
    let action = RootAction::ChangePrice { price_per_token, worker_fee_per_token };
    let body = Body::Root(RootRequest { query_id: 7, action }).cell().unwrap();
    let message = Outgoing::to_contract(root, Nanoton(TON / 10), body);
    hand.order(Order { label: Label(2), message });
    assert!(ended(&mut reports, 2).await.is_success());
    let log = tokio::time::timeout(DEADLINE, async {
        loop {
            let (news, log) = keep(watch.look(20).await.unwrap());
            if let Some(SettleRecord::RootSeen { at_s, .. }) = news.record {
                assert_eq!(at_s, 20);
                break log;
            }
            tokio::time::sleep(POLL).await;
        }
    })
    .await
    .expect("the change is seen");
    let held = watch.held().cloned().unwrap();
    assert_eq!((held.version, held.until_s), (1, 1_020));
    assert!(held.changes.iter().any(|change| change.contains("price")), "{held:?}");
    assert_eq!(watch.followed().network.params.price_per_token, Nanoton(20));
    let (again, _) = keep(watch.look(500).await.unwrap());
    assert!(again.record.is_none() && again.believed.is_none(), "written down once");

    // A restart neither believes it at once nor begins the wait again.
    let mut watch = begin(&log, &stop).await;
    assert_eq!(watch.followed().network.params.price_per_token, Nanoton(20));
    let (early, _) = keep(watch.look(1_019).await.unwrap());
    assert!(early.record.is_none() && watch.held().is_some());
    let (due, log) = keep(watch.look(1_020).await.unwrap());
    assert!(matches!(due.record, Some(SettleRecord::RootBelieved { .. })));
    assert_eq!(due.believed.unwrap().network.params.price_per_token, Nanoton(30));
    assert!(watch.held().is_none() && log.root_seen().is_none());

    // Without the chain the next start goes on with what was believed.
    serving.stop().await.unwrap();
    let watch = begin(&log, &stop).await;
    assert_eq!(watch.followed().network.params.price_per_token, Nanoton(30));
    stop.now();
}
