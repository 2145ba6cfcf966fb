//! The local chain over real sockets, seen through the one interface.

// A broken scenario shall panic.
#![allow(clippy::unwrap_used)]

#[path = "../../../core/localchain/tests/relay/mod.rs"]
mod relay;

use std::sync::Arc;
use std::time::Duration;

use cocoon_chain::{
    AccountStatus, Chain, ChainFault, Fallback, Follower, GlobalConfig, LiteServers, LocalNode,
    Network, NodeConfig, NodeFault, ServeConfig, Serving, Toncenter, Trust,
};
use cocoon_localchain::{Genesis, StackEntry};
use cocoon_units::{Address, Nanoton};
use relay::{PAY_FEES, address, order, transfer};

const TON: u64 = 1_000_000_000;
const DEADLINE: Duration = Duration::from_secs(20);

/// A chain whose blocks come by hand.
fn by_hand() -> NodeConfig {
    NodeConfig {
        genesis: Genesis::new([5; 32], 1_760_000_000_000),
        directory: None,
        beat_ms: 0,
        repair: false,
    }
}

async fn serving(node: NodeConfig) -> Serving {
    let http = "127.0.0.1:0".parse().unwrap();
    Serving::start(&ServeConfig { node, http, lite: Some(http) }).await.unwrap()
}

fn over_http(serving: &Serving) -> Toncenter {
    Toncenter::new(&format!("http://{}/api/v2/jsonRPC", serving.http)).unwrap()
}

/// Funds and deploys relay `number` on `node`.
fn deploy(node: &LocalNode, number: u32) {
    node.faucet(address(number), Nanoton(10 * TON)).unwrap().unwrap();
    node.advance(400).unwrap();
    let message = transfer(address(number), 1, false);
    node.submit(order(number, message, PAY_FEES, 0, true)).unwrap().unwrap();
    node.advance(400).unwrap();
}

/// What every chain must do, whichever it is.
async fn check_chain(chain: &dyn Chain, node: &LocalNode) {
    deploy(node, 1);
    let account = chain.account(address(1), None).await.unwrap();
    assert_eq!(account.status, AccountStatus::Active);
    assert_eq!(account.code, Some(relay::code()));
    assert!(account.balance > Nanoton(9 * TON));
    let start_lt = account.last.unwrap().lt;
    assert_eq!(chain.head().await.unwrap().seqno, account.head.seqno);

    let friend = Address::new(0, [9; 32]);
    for salt in 1..=40 {
        let message = order(1, transfer(friend, 1_000_000, false), PAY_FEES, salt, false);
        chain.send(message).await.unwrap();
        node.advance(400).unwrap();
    }
    let records = chain.transactions_since(address(1), start_lt, 1_000).await.unwrap();
    assert_eq!(records.len(), 40);
    assert_eq!(records[0].previous.unwrap().lt, start_lt);
    assert!(records.windows(2).all(|pair| pair[1].previous == Some(pair[0].id)));
    assert_eq!(records[0].out_msgs[0].destination, Some(friend));
    assert_eq!(records[0].out_msgs[0].value, Nanoton(1_000_000));
    assert_eq!((records[0].is_aborted, records[0].exit_code), (false, Some(0)));
    let some = chain.transactions_since(address(1), start_lt, 3).await.unwrap();
    assert_eq!(some, records[..3]);
    assert!(chain.transactions_since(address(7), 0, 3).await.unwrap().is_empty());
    let mut recent = chain.recent_transactions(address(1), 35).await.unwrap();
    recent.reverse();
    assert_eq!(recent, records[5..]);
    assert!(chain.recent_transactions(address(7), 3).await.unwrap().is_empty());
    let whole = node.read(|chain| chain.account(address(1)).cloned());
    assert_eq!(chain.shard_account(address(1)).await.unwrap(), whole);
    assert_eq!(chain.shard_account(address(7)).await.unwrap(), None);

    // The friend has no code: its transactions are recorded as aborted.
    let friends = chain.transactions_since(friend, 0, 1).await.unwrap();
    assert_eq!((friends[0].is_aborted, friends[0].exit_code), (true, None));
    let before = chain.account(friend, Some(account.head.seqno)).await.unwrap();
    assert_eq!(before.status, AccountStatus::Absent);
    let after = chain.account(friend, None).await.unwrap();
    assert_eq!(after.status, AccountStatus::Uninit);
    // A few nanoton went for storing it.
    assert!((39_999_000..=40_000_000).contains(&after.balance.0), "{:?}", after.balance);

    let tuple = StackEntry::Tuple(vec![StackEntry::Int((-5).into()), StackEntry::Null]);
    let arguments = [tuple, StackEntry::Slice(relay::code())];
    let output = chain.run_getter(address(1), "seqno", &arguments).await.unwrap();
    assert_eq!(output.stack[..2], arguments);
    assert_eq!(output.stack[2], StackEntry::Int(85_144.into()));
    let refused = chain.run_getter(friend, "seqno", &[]).await;
    assert!(matches!(refused, Err(ChainFault::Refused { .. })), "{refused:?}");
    let refused = chain.send(order(3, transfer(friend, 1, false), PAY_FEES, 1, true)).await;
    assert!(matches!(refused, Err(ChainFault::Refused { .. })), "{refused:?}");
}

#[tokio::test]
async fn the_chain_in_this_process_is_a_chain() {
    let node = LocalNode::open(&by_hand()).unwrap();
    check_chain(&node, &node).await;
}

#[tokio::test]
async fn the_chain_over_http_is_a_chain() {
    let serving = serving(by_hand()).await;
    check_chain(&over_http(&serving), &serving.node).await;
    serving.stop().await.unwrap();
}

#[tokio::test]
async fn the_chain_behind_lite_servers_is_a_chain() {
    let serving = serving(by_hand()).await;
    let config = GlobalConfig::parse(&serving.global_config()).unwrap();
    let chain = LiteServers::new(&config);
    check_chain(&chain, &serving.node).await;
    assert_eq!(chain.dropped(), []);
    serving.stop().await.unwrap();
    let fault = chain.head().await.unwrap_err();
    assert!(matches!(fault, ChainFault::Unreachable { .. }), "{fault}");
}

#[tokio::test]
async fn silent_and_dead_servers_are_passed_over_at_once() {
    let serving = serving(by_hand()).await;
    let mut config = GlobalConfig::parse(&serving.global_config()).unwrap();
    let honest = config.servers[0];
    // One takes connections and says nothing, one is not there.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let dead = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut at = honest;
    at.address = silent.local_addr().unwrap();
    config.servers.insert(0, at);
    at.address = dead.local_addr().unwrap();
    config.servers.insert(1, at);
    drop(dead);
    let chain = LiteServers::new(&config);
    // Nobody's silence was waited out: that is 15 s.
    let at_once = Duration::from_secs(10);
    let begun = std::time::Instant::now();
    chain.head().await.unwrap();
    assert!(begun.elapsed() < at_once, "{:?}", begun.elapsed());
    let begun = std::time::Instant::now();
    chain.head().await.unwrap();
    assert!(begun.elapsed() < at_once, "{:?}", begun.elapsed());
    assert_eq!(chain.dropped(), [], "silence is no lie");
    serving.stop().await.unwrap();
}

#[tokio::test]
async fn a_fallback_says_whom_it_believes() {
    let lite = serving(by_hand()).await;
    let http = serving(by_hand()).await;
    let config = GlobalConfig::parse(&lite.global_config()).unwrap();
    let chain = Fallback::new(Arc::new(LiteServers::new(&config)), Arc::new(over_http(&http)));
    chain.head().await.unwrap();
    assert_eq!(chain.trust(), Trust::Proven);
    // A refusal is an answer: the second way is not asked to overrule it.
    let message = order(3, transfer(address(2), 1, false), PAY_FEES, 1, true);
    let refused = chain.send(message).await;
    assert!(matches!(refused, Err(ChainFault::Refused { .. })), "{refused:?}");
    assert_eq!(chain.trust(), Trust::Proven);
    lite.stop().await.unwrap();
    chain.head().await.unwrap();
    assert_eq!(chain.trust(), Trust::Believed);
    http.stop().await.unwrap();
    let fault = chain.head().await.unwrap_err();
    assert!(matches!(fault, ChainFault::Unreachable { .. }), "{fault}");
}

#[test]
fn published_configurations_are_read() {
    for network in [Network::Mainnet, Network::Testnet] {
        let config = GlobalConfig::preset(network).unwrap();
        assert!(config.servers.len() >= 8);
        assert!(config.init_block.seqno > 1_000_000 && config.zero_state.seqno == 0);
    }
    assert!(GlobalConfig::parse("{}").is_err());
}

#[tokio::test]
async fn a_stopped_server_is_unreachable() {
    let serving = serving(by_hand()).await;
    let chain = over_http(&serving);
    chain.head().await.unwrap();
    serving.stop().await.unwrap();
    let fault = chain.head().await.unwrap_err();
    assert!(matches!(fault, ChainFault::Unreachable { .. }), "{fault}");
    assert!(fault.is_transient());
}

#[tokio::test]
async fn the_clock_beats_by_itself() {
    let mut config = by_hand();
    config.beat_ms = 10;
    let node = LocalNode::open(&config).unwrap();
    let first = node.head().await.unwrap().seqno;
    tokio::time::timeout(DEADLINE, node.moved_beyond(first + 3)).await.unwrap();
    assert!(node.head().await.unwrap().seqno > first + 3);
}

#[tokio::test]
async fn a_follower_sees_every_transaction_once() {
    let node = LocalNode::open(&by_hand()).unwrap();
    deploy(&node, 1);
    let poll = Duration::from_secs(3600);
    let mut follower = Follower::from_now(Arc::new(node.clone()), address(1), poll);
    assert!(follower.next().await.unwrap().transactions.is_empty());
    let mut seen = Vec::new();
    for round in 0..5_u64 {
        for salt in 0..round * 30 + 1 {
            let message = transfer(address(2), 1, false);
            node.submit(order(1, message, PAY_FEES, 1 + round * 1_000 + salt, false))
                .unwrap()
                .unwrap();
        }
        let next = async {
            let step = follower.next().await.unwrap();
            seen.extend(step.transactions.iter().map(|record| record.id.lt));
            assert_eq!(step.account.last.unwrap().lt, *seen.last().unwrap());
        };
        let advance = async { node.advance(400).unwrap() };
        tokio::time::timeout(DEADLINE, async { tokio::join!(next, advance) }).await.unwrap();
    }
    assert_eq!(seen.len(), 5 + 30 * 10);
    assert!(seen.is_sorted());
}

#[tokio::test]
async fn a_directory_keeps_the_chain() {
    let directory = tempfile::tempdir().unwrap();
    let mut config = by_hand();
    config.directory = Some(directory.path().to_owned());
    let node = LocalNode::open(&config).unwrap();
    deploy(&node, 1);
    node.save().unwrap();
    deploy(&node, 2);
    node.faucet(address(3), Nanoton(TON)).unwrap().unwrap();
    let again = LocalNode::open(&config);
    assert!(matches!(again, Err(NodeFault::InUse(_))));
    let before = node.read(|chain| chain.snapshot().unwrap());
    drop(node);

    let node = LocalNode::open(&config).unwrap();
    assert_eq!(node.read(|chain| chain.snapshot().unwrap()), before);
    drop(node);

    // A torn record at the end of the log is cut off, the rest stays.
    let log = directory.path().join("chain-2.log");
    let mut bytes = std::fs::read(&log).unwrap();
    bytes.extend_from_slice(&[0, 0, 0, 9, 1, 2, 3]);
    std::fs::write(&log, &bytes).unwrap();
    let node = LocalNode::open(&config).unwrap();
    assert_eq!(node.read(|chain| chain.snapshot().unwrap()), before);
    node.advance(400).unwrap();
    let after = node.read(|chain| chain.snapshot().unwrap());
    drop(node);
    let node = LocalNode::open(&config).unwrap();
    assert_eq!(node.read(|chain| chain.snapshot().unwrap()), after);
    drop(node);

    std::fs::write(directory.path().join("chain-2.snapshot"), b"nonsense").unwrap();
    assert!(matches!(LocalNode::open(&config), Err(NodeFault::Damaged { .. })));
}

/// A chain in a directory with three records in its log; its states after none, one, … of them.
fn kept(directory: &std::path::Path) -> (NodeConfig, Vec<Vec<u8>>) {
    let config = NodeConfig { directory: Some(directory.to_owned()), ..by_hand() };
    let node = LocalNode::open(&config).unwrap();
    deploy(&node, 1);
    node.save().unwrap();
    let shot = |node: &LocalNode| node.read(|chain| chain.snapshot().unwrap());
    let mut states = vec![shot(&node)];
    for _ in 0..3 {
        node.faucet(address(3), Nanoton(TON)).unwrap().unwrap();
        states.push(shot(&node));
    }
    (config, states)
}

#[tokio::test]
async fn a_log_torn_anywhere_comes_back_to_its_last_record() {
    let directory = tempfile::tempdir().unwrap();
    let (config, states) = kept(directory.path());
    let log = directory.path().join("chain-2.log");
    let whole = std::fs::read(&log).unwrap();
    let record = whole.len() / 3;
    for len in 0..whole.len() {
        std::fs::write(&log, &whole[..len]).unwrap();
        let node = LocalNode::open(&config).unwrap();
        let state = node.read(|chain| chain.snapshot().unwrap());
        assert_eq!(state, states[len / record], "torn at byte {len}");
        // What is written next stands behind the last whole record.
        node.advance(400).unwrap();
        let after = node.read(|chain| chain.snapshot().unwrap());
        drop(node);
        let node = LocalNode::open(&config).unwrap();
        assert_eq!(node.read(|chain| chain.snapshot().unwrap()), after, "torn at byte {len}");
    }
}

#[tokio::test]
async fn a_damaged_log_is_refused_and_repaired_on_request() {
    let directory = tempfile::tempdir().unwrap();
    let (config, states) = kept(directory.path());
    let log = directory.path().join("chain-2.log");
    let whole = std::fs::read(&log).unwrap();
    let record = whole.len() / 3;
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x40;
        std::fs::write(&log, &bytes).unwrap();
        let good = at / record;
        if good == 2 {
            // Nothing stands behind the last record: it may as well be a write cut short.
            let node = LocalNode::open(&config).unwrap();
            assert_eq!(node.read(|chain| chain.snapshot().unwrap()), states[2], "byte {at}");
            continue;
        }
        let Err(fault) = LocalNode::open(&config) else { panic!("byte {at} is not noticed") };
        let NodeFault::DamagedLog { byte, records, .. } = &fault else { panic!("{fault}") };
        assert_eq!((*byte, *records), ((good * record) as u64, good as u64), "byte {at}");
        assert_eq!(std::fs::read(&log).unwrap(), bytes, "a refusal changes nothing");
        let text = fault.to_string();
        assert!(text.contains("start with repair"), "{text}");

        let repairing = NodeConfig { repair: true, ..config.clone() };
        let node = LocalNode::open(&repairing).unwrap();
        assert_eq!(node.read(|chain| chain.snapshot().unwrap()), states[good], "byte {at}");
        drop(node);
        let aside = directory.path().join("chain-2.log.damaged");
        assert_eq!(std::fs::read(&aside).unwrap(), bytes, "the damaged file is kept");
        let node = LocalNode::open(&config).unwrap();
        assert_eq!(node.read(|chain| chain.snapshot().unwrap()), states[good], "byte {at}");
    }
}

#[tokio::test]
async fn a_damaged_snapshot_is_refused_wherever_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let (config, states) = kept(directory.path());
    let snapshot = directory.path().join("chain-2.snapshot");
    let whole = std::fs::read(&snapshot).unwrap();
    // Every byte counts; a few hundred of them are enough.
    for at in (0..whole.len()).step_by(whole.len() / 200 + 1) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x01;
        std::fs::write(&snapshot, &bytes).unwrap();
        let Err(fault) = LocalNode::open(&config) else { panic!("byte {at} is not noticed") };
        assert!(matches!(fault, NodeFault::Damaged { .. }), "byte {at}: {fault}");
        assert!(fault.to_string().contains("chain-2.snapshot"), "{fault}");
    }
    // An older pair beside it: only on request, because the newer log cannot follow it.
    std::fs::write(directory.path().join("chain-1.snapshot"), &whole).unwrap();
    std::fs::write(&snapshot, &whole[..whole.len() / 2]).unwrap();
    let Err(fault) = LocalNode::open(&config) else { panic!("half a snapshot is not noticed") };
    assert!(fault.to_string().contains("start with repair"), "{fault}");
    let repairing = NodeConfig { repair: true, ..config.clone() };
    let node = LocalNode::open(&repairing).unwrap();
    assert_eq!(node.read(|chain| chain.snapshot().unwrap()), states[0]);
    drop(node);
    assert!(directory.path().join("chain-2.snapshot.damaged").exists());
    assert!(directory.path().join("chain-2.log.damaged").exists());
    assert!(LocalNode::open(&config).is_ok());
}
