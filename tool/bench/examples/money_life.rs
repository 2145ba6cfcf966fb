//! The full life of money with the real programs on a local chain: `money_life` (`COCOON_BIN` names
//! the program when it is not beside this one).
//!
//! Deposit, thousands of requests, charges, payouts, a price that changes and moves everybody, a
//! proxy killed for good, a forced refund, the close. At the end a spreadsheet is filled from the
//! transactions of every account, and every wallet must hold what it says, to the nanoton.

#![allow(clippy::unwrap_used, reason = "a life that breaks shall stop here")]
#![allow(clippy::print_stdout, reason = "the sheet is what this program is for")]

#[path = "money_life/hand.rs"]
mod hand;
#[path = "money_life/nodes.rs"]
mod nodes;
#[path = "money_life/sheet.rs"]
mod sheet;
#[path = "money_life/site.rs"]
mod site;

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use cocoon_bench::load::{self, Shape};
use cocoon_contract::state::Phase;
use hand::Hand;
use nodes::{Nodes, page};
use serde_json::Value;
use sheet::Sheet;
use site::{CLIENT_STAKE, FEES, PRICES, Site};

/// Requests before the price changes; half as many follow. The first argument says another number.
const REQUESTS: u64 = 2_000;
/// How often a worker renews its page.
const PAGE_EVERY: Duration = Duration::from_millis(250);
/// All of it must end within this, also on a busy machine.
const PATIENCE: Duration = Duration::from_secs(400);

fn main() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        tokio::time::timeout(PATIENCE, Box::pin(life()))
            .await
            .map_err(|_| anyhow::anyhow!("the life did not end within {} s", PATIENCE.as_secs()))?
    })
}

async fn life() -> Result<()> {
    let began = Instant::now();
    let say = |what: &str| println!("{:6.1} s  {what}", began.elapsed().as_secs_f64());
    let requests = std::env::args().nth(1).map_or(Ok(REQUESTS), |text| text.parse())?;
    let dir = tempfile::tempdir()?;
    let mut site = Site::new(dir.path()).await?;
    say("a chain, its root contract, wallets with coins");
    let mut nodes = Nodes::start(&site).await?;
    say("proxy, worker and gateway run");
    site.stake(0).await?;
    say("the proxy contract has its stake");
    nodes.ready().await?;
    say("the client's contract is open: deposit and registration are on chain");

    let used = [ask(&nodes, requests).await?, 0];
    say(&format!("{requests} requests answered, {} tokens", used[0]));
    nodes.collect().await?;
    settled(&mut site, &nodes, 0, used[0]).await?;
    say("the worker has been paid for every token");

    let hand = Hand::new(&mut site)?;
    hand.client(site.proxy())?;
    say("by hand, through the running gateway: topped up, taken out");

    let old = (site.client(), site.worker(), site.proxy());
    site.change_price().await?;
    say("the price has changed");
    site.until("the new proxy contract", async |site| site.seen(site.proxy()).await).await?;
    site.stake(1).await?;
    // A deposit is made of whole tokens.
    let deposited = CLIENT_STAKE - CLIENT_STAKE % PRICES[1];
    site.until("the new client contract", async |site| {
        site.client_state(site.client()).await.is_some_and(|state| state.balance.0 >= deposited)
    })
    .await?;
    site.until("the old client contract's end", async |site| {
        site.client_state(old.0).await.is_some_and(|state| state.phase == Phase::Closed)
    })
    .await?;
    say("everybody has moved; the old contract is closed and paid back");
    nodes.ready().await?;

    let more = requests / 2;
    let used = [used[0], ask(&nodes, more).await?];
    say(&format!("{more} requests answered at the new price, {} tokens", used[1]));
    signed(&site, &nodes, used[1]).await?;
    nodes.kill("proxy")?;
    nodes.kill("worker")?;
    say("the proxy is killed for good, and the worker's machine is gone as well");
    hand.worker(site.proxy())?;
    let paid = site.worker_state(site.worker()).await.map(|state| state.tokens.0);
    ensure!(paid == Some(used[1]), "paid out {paid:?} of {}", used[1]);
    say("by hand, from the worker's books: its owner is paid for every token");
    site.until("the forced refund", async |site| {
        site.skip(&nodes).await;
        site.client_state(site.client()).await.is_some_and(|state| state.phase == Phase::Closed)
    })
    .await?;
    site.until("the gateway's word", async |_| {
        page(nodes.gateway)
            .await
            .is_ok_and(|page| page.to_string().contains("everything came back"))
    })
    .await?;
    say("the client has taken everything back");
    nodes.end()?;
    site.quiet().await?;

    let sheet = Sheet::read(&site, old).await?;
    print!("{sheet}");
    sheet.check(used, [PRICES, FEES])?;
    say("every wallet holds what the sheet says");
    println!("1 passed, 0 failed");
    Ok(())
}

/// Sends requests; how many tokens the worker was told they are.
async fn ask(nodes: &Nodes, requests: u64) -> Result<u64> {
    let before = earned(&page(nodes.worker).await?);
    let mut options = load::Options::new(format!("http://{}", nodes.gateway), Shape::Small);
    options.connections = 16;
    options.requests = Some(requests);
    options.duration = PATIENCE;
    let report = tokio::task::spawn_blocking(move || load::run(&options)).await??;
    ensure!(report.requests == requests, "{} of {requests} requests answered", report.requests);
    // The last answers may be on their way to the worker's books, and its page is renewed slowly.
    let mut after = earned(&page(nodes.worker).await?);
    loop {
        tokio::time::sleep(PAGE_EVERY * 4).await;
        let now = earned(&page(nodes.worker).await?);
        if now == after {
            return Ok(after - before);
        }
        after = now;
    }
}

/// Tokens that the worker counted at all its proxies.
fn earned(page: &Value) -> u64 {
    let proxies = page["proxies"].as_array().into_iter().flatten();
    proxies.filter_map(|proxy| proxy["earned_tokens_own_count"].as_u64()).sum()
}

/// Waits until the proxy has signed for all tokens.
async fn signed(site: &Site, nodes: &Nodes, tokens: u64) -> Result<()> {
    let contract = site.worker();
    site.until(&format!("a signed payment for {tokens} tokens"), async |_| {
        let page = page(nodes.worker).await.unwrap_or_default();
        let proxies = page["proxies"].as_array().into_iter().flatten();
        let is_it = |text: &str| cocoon_units::Address::parse(text).ok() == Some(contract);
        proxies.into_iter().any(|proxy| {
            proxy["sc_address"].as_str().is_some_and(is_it)
                && proxy["earned_tokens_committed_to_blockchain"] == tokens
        })
    })
    .await
}

/// Waits until the worker's contract has been paid for all tokens.
async fn settled(site: &mut Site, nodes: &Nodes, epoch: usize, tokens: u64) -> Result<()> {
    let worker = site.worker();
    site.until(&format!("payout of {tokens} tokens in epoch {epoch}"), async |site| {
        if site.worker_state(worker).await.is_some_and(|state| state.tokens.0 == tokens) {
            return true;
        }
        let _ = nodes.collect().await;
        // The pause between two payouts, and nothing else, is skipped.
        let page = page(nodes.worker).await.unwrap_or_default();
        let contracts = page["money"]["contracts"].as_array().into_iter().flatten();
        let said = contracts.filter_map(|contract| contract["doing"].as_str());
        if said.into_iter().any(|doing| doing.contains("still owed")) {
            site.later(100);
        }
        false
    })
    .await
}
