//! The proxy node on a chain, over real sockets: deposit, requests, charges, payouts, refund,
//! new parameters, the old contract wound down to the last coin, to the nanoTON.

#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

mod images;
#[allow(dead_code, reason = "shared with the tests without a chain")]
#[path = "../network/peer.rs"]
mod peer;
mod site;
mod town;

use std::time::Duration;

use cocoon_contract::cell::Hash;
use cocoon_contract::message::{ClientAction, RootAction, SaveState};
use cocoon_contract::state::Phase;
use cocoon_contract::wallet::Outgoing;
use cocoon_units::{Nanoton, RequestId, Tokens};
use cocoon_wire::client::{FromProxy, RunQueryEx};
use cocoon_wire::proxy::ToWorker;
use cocoon_wire::tl::{Blob, Extensions, Text};

use crate::peer::{Peer, TOKENS, answer, client_of, worker};
use crate::site::Site;
use crate::town::{CLIENT_SECRET, PRICE, TON, Town, WORKER_FEE, settled};

/// A test that runs longer hangs. What is waited for has its own patience, counted in blocks.
const DEADLINE: Duration = Duration::from_secs(600);
const DEPOSIT: Nanoton = Nanoton(20 * TON);

/// Serves requests until it is dropped.
async fn serve(mut worker: Peer) {
    loop {
        let data = worker.message().await;
        if let ToWorker::RunQueryEx(run) = ToWorker::decode(&data).unwrap() {
            for message in answer(run.request_id) {
                let _ = worker.link.message(message);
            }
        }
    }
}

/// Asks so many requests, one after the other.
async fn ask(client: &mut Peer, count: usize) {
    for number in 0..count {
        let mut id = [7; 32];
        id[..8].copy_from_slice(&number.to_le_bytes());
        let request = RunQueryEx {
            model_name: Text::from("qwen"),
            query: Blob(b"the request"),
            max_coefficient: 4_000,
            max_tokens: 100,
            timeout: 60.0,
            request_id: RequestId(id),
            min_config_version: 0,
            extensions: Extensions::NONE,
            enable_debug: Some(false),
            public_key: None,
        };
        client.link.message_object(&request).unwrap();
        loop {
            let data = client.message().await;
            match FromProxy::decode(&data).unwrap() {
                FromProxy::ClientRequestPayment(_) => break,
                FromProxy::QueryAnswerEx(_) | FromProxy::QueryAnswerPartEx(_) => {}
                other => panic!("client got {other:?}"),
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_the_deposit_to_the_last_coin() {
    let run = async {
        let town = Town::found().await;
        let site = Site::on(&town);
        let node = site.start().await;
        node.ready().await;
        let deposited = town.client_pays_in(&site, DEPOSIT).await;
        assert_eq!(deposited, DEPOSIT);
        town.worker_moves_in(&site).await;

        let working = tokio::spawn(serve(worker(&node, &site, 0).await));
        let mut client = node.client(&site, &town).await;
        ask(&mut client, 100).await;
        let total = Tokens(100 * TOKENS);
        // Charged and paid while it runs, as thresholds say.
        town.until("a charge", async || {
            town.client_state(&site).await.is_some_and(|state| state.tokens_used > Tokens::ZERO)
        })
        .await;
        town.until("a payout", async || {
            town.worker_state(&site).await.is_some_and(|state| state.tokens > Tokens::ZERO)
        })
        .await;
        let stake = node.post("/request/stake?amount=1.5").await;
        assert_eq!(stake.code, 200, "{}", stake.body);
        let withdrawn = node.post("/request/withdraw").await;
        assert_eq!(withdrawn.code, 200, "{}", withdrawn.body);

        // New prices: a new contract is used, the old one is wound down; the process dies at once.
        let (old, old_site) = (site.contract(&town).await, site.again());
        town.root_acts(RootAction::ChangePrice {
            price_per_token: Nanoton(PRICE * 2),
            worker_fee_per_token: Nanoton(WORKER_FEE * 2),
        })
        .await;
        town.until("the new parameters", async || node.params_version().await == 2).await;
        working.abort();
        drop(client);
        node.stop().await;
        let node = old_site.start().await;
        town.until("the old contract to close", async || {
            town.proxy_state(old).await.is_some_and(|state| state.phase == Phase::Closed)
        })
        .await;
        town.until("the end of it", async || node.old_contracts().await == 0).await;
        node.ready().await;
        assert_ne!(site.contract(&town).await, old, "a new contract is in use");
        let left = town.client_state_at(&site, old).await.unwrap();
        assert_eq!((left.phase, left.balance), (Phase::Closed, Nanoton::ZERO));
        assert_eq!(left.tokens_used, total);
        node.stop().await;

        // To the nanoTON: what was paid in went to three places.
        let paid = town.payouts(old).await;
        let (spent, earned) = (total.0 * PRICE, total.0 * WORKER_FEE);
        assert_eq!(paid[&town.worker_owner], earned, "the worker's");
        assert_eq!(paid[&town.client.address()], DEPOSIT.0 - spent, "the client's rest");
        let stake = TON * 3 / 2;
        assert_eq!(paid[&town.proxy_owner], spent - earned + stake, "the proxy's, and its stake");
        let coins = town.serving.node.read(|chain| chain.coins());
        let accounted = coins.held + coins.waiting + coins.fees + coins.burned;
        assert_eq!(coins.minted, accounted);
    };
    tokio::time::timeout(DEADLINE, run).await.expect("in time");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closing_client_is_refunded_and_a_restart_knows_everybody() {
    let run = async {
        let town = Town::found().await;
        let mut site = Site::on(&town);
        site.config.stake = Nanoton(TON);
        let node = site.start().await;
        node.ready().await;
        let contract = site.contract(&town).await;
        let has_stake = async || {
            town.proxy_state(contract).await.is_some_and(|state| state.stake == Nanoton(TON))
        };
        town.until("the stake", has_stake).await;
        town.client_pays_in(&site, DEPOSIT).await;
        let working = tokio::spawn(serve(worker(&node, &site, 0).await));
        let mut client = node.client(&site, &town).await;
        ask(&mut client, 3).await;
        drop(client);
        working.abort();
        node.stop().await;

        let node = site.again().start().await;
        node.ready().await;
        let known = client_of(&node, &site, town.client.address(), CLIENT_SECRET).await;
        assert!(known.is_some(), "its secret is remembered");
        let stranger = client_of(&node, &site, town.client.address(), b"guessed").await;
        assert!(stranger.is_none());
        town.client_asks(&site, ClientAction::RequestRefund).await;
        town.until("the grant", async || {
            town.client_state(&site).await.is_some_and(|state| state.phase == Phase::Closed)
        })
        .await;
        let spent = 3 * TOKENS * PRICE;
        let client = town.client.address();
        town.until("the refund", async || {
            town.payouts(contract).await.get(&client) == Some(&(DEPOSIT.0 - spent))
        })
        .await;
        assert!(client_of(&node, &site, client, CLIENT_SECRET).await.is_none(), "closed is closed");
        assert!(has_stake().await, "filled up once");
        node.stop().await;
    };
    tokio::time::timeout(DEADLINE, run).await.expect("in time");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_proxy_with_the_key_and_an_old_journal_are_found_out() {
    let run = async {
        let town = Town::found().await;
        let site = Site::on(&town);
        let node = site.start().await;
        node.ready().await;
        let contract = site.contract(&town).await;
        node.stop().await;

        // The journal is lost: the chain shows a commit that nobody remembers.
        let again = site.again();
        std::fs::rename(again.config.data_dir.join("journal"), again.dir().join("lost")).unwrap();
        let node = again.start().await;
        town.until("the sentence", async || {
            let stopped = node.status().await["status"]["stopped"].clone();
            stopped.as_str().is_some_and(|text| text.contains("not in this journal"))
        })
        .await;
        assert_eq!(node.page("/ready").await.code, 503);
        node.stop().await;

        // The right journal is back; then another program with the wallet's key commits.
        std::fs::remove_dir_all(again.config.data_dir.join("journal")).unwrap();
        std::fs::rename(again.dir().join("lost"), again.config.data_dir.join("journal")).unwrap();
        let node = again.start().await;
        node.ready().await;
        let clone = SaveState { query_id: 9, seqno: 900, session_hash: Hash([9; 32]) };
        let message = Outgoing::to_contract(contract, Nanoton(1), clone.cell().unwrap());
        let (hand, mut reports) = town.purse_of(site.wallet(), "clone");
        settled(&hand, &mut reports, message).await;
        town.until("the sentence", async || {
            let stopped = node.status().await["status"]["stopped"].clone();
            stopped.as_str().is_some_and(|text| text.contains("same key"))
        })
        .await;
        node.stop().await;
    };
    tokio::time::timeout(DEADLINE, run).await.expect("in time");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_proxy_commits_once_and_a_silent_chain_stops_new_promises() {
    let run = async {
        let town = Town::found().await;
        let mut site = Site::on(&town);
        site.config.chain.away_max_s = 1;
        let node = site.start().await;
        node.ready().await;
        let before = town.commits(site.contract(&town).await).await;
        assert_eq!(before, 1, "the session's own");
        town.blocks(100).await;
        assert_eq!(town.commits(site.contract(&town).await).await, 1, "idle costs nothing");
        town.serving.stop().await.unwrap();
        // No blocks come any more to count.
        loop {
            let status = node.status().await;
            if status["status"]["chain_away"] == true {
                assert!(status["chain"]["fault"].is_string(), "{status}");
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(node.page("/ready").await.code, 503);
        assert_eq!(node.page("/health").await.code, 200, "it lives on");
        node.stop().await;
    };
    tokio::time::timeout(DEADLINE, run).await.expect("in time");
}
