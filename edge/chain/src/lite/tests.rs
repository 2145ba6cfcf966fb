//! Lite servers that lie, and bytes that are none.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use cocoon_localchain::{Genesis, bag_of, prove, prove_header};
use cocoon_units::{Address, Nanoton};
use ed25519_dalek::SigningKey;
use proptest::prelude::*;
use tl_proto::TlWrite as _;
use tokio::net::TcpListener;
use tycho_types::models::ShardIdent;

use super::answer::answer;
use super::channel;
use super::client::LiteServers;
use super::global::{GlobalConfig, LiteServer};
use super::server::Request;
use super::wire::{ADNL_ANSWER, AccountState, MasterchainInfo, Query};
use crate::account::AccountStatus;
use crate::node::{LocalNode, NodeConfig};
use crate::{Chain as _, ChainFault};

/// What a liar makes of a true answer.
type Twist = Box<dyn FnMut(&LocalNode, &Query, Vec<u8>) -> Vec<u8> + Send>;

const RICH: Address = Address::new(0, [0x11; 32]);
const POOR: Address = Address::new(0, [0x12; 32]);

fn node() -> LocalNode {
    let genesis = Genesis::new([9; 32], 1_760_000_000_000);
    let node = LocalNode::open(&NodeConfig { genesis, directory: None, beat_ms: 0, repair: false })
        .unwrap();
    for _ in 0..3 {
        node.faucet(RICH, Nanoton::TON).unwrap().unwrap();
        node.faucet(Address::new(0, [0x77; 32]), Nanoton::TON).unwrap().unwrap();
        node.advance(400).unwrap();
    }
    node
}

/// A server on a free port whose answers go through `twist`.
async fn liar(node: &LocalNode, seed: u8, twist: Twist) -> LiteServer {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address: SocketAddr = listener.local_addr().unwrap();
    let key = SigningKey::from_bytes(&[seed; 32]);
    let public = key.verifying_key();
    let node = node.clone();
    let twist = Arc::new(Mutex::new(twist));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (read, write) = stream.into_split();
            let accepted = channel::accept(read, write, &key, 1 << 20).await;
            let Ok((mut receiver, mut sender)) = accepted else { continue };
            let (node, twist) = (node.clone(), twist.clone());
            tokio::spawn(async move {
                while let Ok(payload) = receiver.receive().await {
                    let Some(Request::Query { id, query: Some(query), .. }) =
                        Request::read(&payload)
                    else {
                        continue;
                    };
                    let truth = answer(&node, *query.clone());
                    let told = twist.lock().unwrap()(&node, &query, truth);
                    let mut reply = tl_proto::serialize(ADNL_ANSWER);
                    id.write_to(&mut reply);
                    told.write_to(&mut reply);
                    if sender.send(&reply).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    LiteServer { address, key: public }
}

fn config(node: &LocalNode, servers: Vec<LiteServer>) -> GlobalConfig {
    let (zero_state, init_block) =
        node.read(|chain| (chain.zero_states().1.id, chain.master_id(1).unwrap()));
    GlobalConfig { servers, zero_state, init_block }
}

fn honest() -> Twist {
    Box::new(|_, _, truth| truth)
}

#[tokio::test]
async fn a_liar_is_dropped_and_named_and_another_asked() {
    let node = node();
    // Hides the account: claims with true but cut proofs that it is not there.
    let hide: Twist = Box::new(|node, query, truth| {
        let Query::GetAccountState { id, .. } = query else { return truth };
        let mut told: AccountState = tl_proto::deserialize(&truth).unwrap();
        told.proof = node.read(|chain| {
            let shard = chain.block(ShardIdent::BASECHAIN, id.seqno).unwrap();
            let cut = prove(&shard.state, |root| root.as_slice()?.load_u32()).unwrap().0;
            bag_of(&[prove_header(shard).unwrap(), cut])
        });
        told.state = Vec::new();
        tl_proto::serialize(told)
    });
    let liar = liar(&node, 1, hide).await;
    let alone = LiteServers::new(&config(&node, vec![liar]));
    let fault = alone.account(RICH, None).await.unwrap_err();
    assert!(matches!(fault, ChainFault::Unverifiable { .. }), "{fault}");
    assert_eq!(alone.dropped()[0].0, liar.address);
    let fault = alone.account(RICH, None).await.unwrap_err();
    assert!(matches!(fault, ChainFault::Unreachable { .. }), "it is asked no more: {fault}");

    let other = self::liar(&node, 2, honest()).await;
    let both = LiteServers::new(&config(&node, vec![liar, other]));
    let account = both.account(RICH, None).await.unwrap();
    assert_eq!(account, node.read_account(RICH, None).unwrap());
    assert_eq!(account.status, AccountStatus::Uninit);
    assert_eq!(both.dropped().len(), 1);
    let absent = both.account(POOR, None).await.unwrap();
    assert_eq!(absent.status, AccountStatus::Absent);
}

#[tokio::test]
async fn another_network_is_found_out() {
    let mine = node();
    let genesis = Genesis::new([10; 32], 1_760_000_000_000);
    let other =
        LocalNode::open(&NodeConfig { genesis, directory: None, beat_ms: 0, repair: false })
            .unwrap();
    let server = liar(&other, 1, honest()).await;
    let chain = LiteServers::new(&config(&mine, vec![server]));
    let fault = chain.head().await.unwrap_err();
    assert!(matches!(fault, ChainFault::Unverifiable { .. }), "{fault}");

    // The same, pretending to be mine: its validator is another one.
    let zero = mine.read(|chain| chain.zero_states().1.id);
    let pretend: Twist = Box::new(move |_, query, truth| {
        let Query::GetMasterchainInfo = query else { return truth };
        let mut told: MasterchainInfo = tl_proto::deserialize(&truth).unwrap();
        told.init.root_hash = zero.root_hash.0;
        told.init.file_hash = zero.file_hash.0;
        tl_proto::serialize(told)
    });
    let server = liar(&other, 2, pretend).await;
    let chain = LiteServers::new(&config(&mine, vec![server]));
    let fault = chain.head().await.unwrap_err();
    assert!(!matches!(fault, ChainFault::Refused { .. }), "{fault}");
}

#[tokio::test]
async fn what_was_seen_once_is_not_unseen() {
    let node = node();
    let early = Arc::new(Mutex::new(None));
    let remembered = early.clone();
    let replay: Twist = Box::new(move |_, query, truth| match query {
        Query::GetMasterchainInfo => remembered.lock().unwrap().clone().unwrap_or(truth),
        _ => truth,
    });
    let chain = LiteServers::new(&config(&node, vec![liar(&node, 1, replay).await]));
    let before = chain.head().await.unwrap();
    *early.lock().unwrap() = Some(answer(&node, Query::GetMasterchainInfo));
    node.advance(400).unwrap();
    assert_eq!(chain.head().await.unwrap().seqno, before.seqno);
    let held_back = early.lock().unwrap().take();
    assert_eq!(chain.head().await.unwrap().seqno, before.seqno + 1);
    *early.lock().unwrap() = held_back;
    let fault = chain.head().await.unwrap_err();
    assert!(matches!(fault, ChainFault::Unreachable { .. }), "{fault}");
}

/// Every answer with one bit flipped either gives the same facts or none.
#[tokio::test]
async fn a_flipped_bit_never_becomes_a_fact() {
    let node = node();
    let truth = {
        let server = liar(&node, 1, honest()).await;
        let chain = LiteServers::new(&config(&node, vec![server]));
        let account = chain.account(RICH, Some(3)).await.unwrap();
        (account, chain.transactions_since(RICH, 0, 10).await.unwrap())
    };
    let mut caught = 0;
    for round in 0..160_u32 {
        let mut number = 0;
        let flip: Twist = Box::new(move |_, _, mut told| {
            // A place that differs from answer to answer and from round to round.
            number += 1;
            let bits = u32::try_from(told.len() * 8).unwrap();
            let bit = round.wrapping_mul(2_654_435_761).wrapping_add(number * 40_503) % bits;
            if number % 5 == round % 5 {
                told[usize::try_from(bit / 8).unwrap()] ^= 1 << (bit % 8);
            }
            told
        });
        let server = liar(&node, 2, flip).await;
        let chain = LiteServers::new(&config(&node, vec![server]));
        match chain.account(RICH, Some(3)).await {
            Ok(account) => assert_eq!(account, truth.0),
            Err(_) => caught += 1,
        }
        match chain.transactions_since(RICH, 0, 10).await {
            Ok(transactions) => assert_eq!(transactions, truth.1),
            Err(_) => caught += 1,
        }
    }
    assert!(caught > 40, "flips must have been noticed: {caught}");
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _fits = super::decode_lite(&bytes);
        let _query: Result<Query, _> = tl_proto::deserialize(&bytes);
        let _global = GlobalConfig::parse(&String::from_utf8_lossy(&bytes));
    }
}
