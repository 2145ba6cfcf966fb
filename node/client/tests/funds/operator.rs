//! The operator's hand at a running node: what is told is what happens, once, also over a restart.

use cocoon_client::{ClientConfig, Network};
use cocoon_contract::state::Phase;
use cocoon_gateway::{MoneyAct, MoneyOrder, MoneyRefusal, TopUp, Upstream as _};
use cocoon_host::Stop;
use cocoon_settle::ClientPolicy;
use cocoon_units::{Address, Nanoton};
use serde_json::Value;

use crate::proxy::Proxy;
use crate::{Site, TON, page, start_again, until};

async fn ask(network: &Network, contract: Address, act: MoneyAct) -> Result<Value, MoneyRefusal> {
    network.operate(MoneyOrder { act, contract, is_dry_run: false }).await
}

/// The wish is over, and how.
async fn over(network: &Network) -> String {
    let mut last = String::new();
    until("the wish is over", async || {
        let page = page(network).await["contracts"][0].clone();
        last = page["last_wish"].as_str().unwrap_or_default().to_owned();
        page["wished"].is_null() && !last.is_empty()
    })
    .await;
    last
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_tops_up_takes_out_and_closes_while_the_node_runs() {
    let dir = tempfile::tempdir().unwrap();
    let stop = Stop::new();
    let mut proxy = Proxy::new().await;
    let site = Site::new(dir.path(), proxy.address, &stop).await;
    let network = Network::open(&site.config, &stop).await.unwrap().unwrap();
    let unknown = ask(&network, Address::new(0, [9; 32]), MoneyAct::Withdraw).await;
    assert!(matches!(unknown, Err(MoneyRefusal::Unknown(_))), "{unknown:?}");

    let (identity, params) = (site.identity.clone(), site.state.network.clone());
    let met = proxy.meet(&identity, &params, site.wallet, 7).await;
    let (contract, at) = (site.client(), site.proxy());
    until("the contract is known", async || {
        !matches!(ask(&network, at, MoneyAct::Withdraw).await, Err(MoneyRefusal::Unknown(_)))
    })
    .await;
    let early = ask(&network, at, MoneyAct::Withdraw).await.unwrap_err().to_string();
    assert!(early.contains("not on chain yet"), "{early}");
    site.fund(site.wallet, 100);
    until("registration", async || site.is_registered(7).await).await;
    proxy.let_in(&met, 0).await;

    // Only looked at: told to the coin, and nothing moves.
    let add = MoneyAct::TopUp(TopUp::By(Nanoton(4 * TON)));
    let order = MoneyOrder { act: add, contract: at, is_dry_run: true };
    let mut shown = Value::Null;
    until("it is seen on chain", async || {
        shown = network.operate(order).await.unwrap();
        shown["balance_nanoton"] == 3 * TON
    })
    .await;
    assert_eq!(shown["accepted"], false);
    assert_eq!(shown["step"]["becomes_a_deposit_nanoton"], 4 * TON);
    assert_eq!(shown["until_paid_in_nanoton"], 7 * TON);
    assert_eq!(site.state_of(contract).await.balance.0, 3 * TON);

    // Asked for twice by its total, it happens once; the node dies in between.
    let until_seven = MoneyAct::TopUp(TopUp::Until(Nanoton(7 * TON)));
    let told = ask(&network, at, until_seven).await.unwrap();
    assert_eq!(told["accepted"], true);
    network.close().await;
    proxy.gone(&met).await;
    stop.now();
    drop(network);
    let stop = Stop::new();
    let network = start_again(&site.config, &stop).await;
    until("the top-up", async || site.state_of(contract).await.balance.0 == 7 * TON).await;
    assert!(over(&network).await.ends_with("done"));
    let again = ask(&network, at, until_seven).await.unwrap();
    assert_eq!((&again["step"], &again["next"]), (&Value::Null, &"done".into()));
    assert_eq!(site.state_of(contract).await.balance.0, 7 * TON);

    // A charge without a payment has nothing to do; more than the wallet holds is refused.
    assert_eq!(ask(&network, at, MoneyAct::Charge).await.unwrap()["next"], "done");
    let much = MoneyAct::TopUp(TopUp::By(Nanoton(5_000 * TON)));
    let refused = ask(&network, at, much).await.unwrap_err().to_string();
    assert!(refused.contains("the wallet has"), "{refused}");

    let told = ask(&network, contract, MoneyAct::Withdraw).await.unwrap();
    assert_eq!(told["step"]["comes_back_from_the_contract_nanoton"], 4 * TON);
    until("the withdrawal", async || site.paid_back(at).await == 4 * TON).await;
    assert_eq!(site.state_of(contract).await.balance.0, 3 * TON);
    until("its end", async || over(&network).await.contains("exceeds the stake")).await;

    let told = ask(&network, at, MoneyAct::Close).await.unwrap();
    assert!(told["note"].as_str().unwrap().contains("3600 s"), "{told}");
    let late = ask(&network, at, add).await.unwrap_err().to_string();
    assert!(late.contains("closed"), "{late}");
    until("everything is back", async || {
        site.skip(&network).await;
        site.paid_back(at).await == 7 * TON
    })
    .await;
    let state = site.state_of(contract).await;
    assert_eq!((state.phase, state.balance.0), (Phase::Closed, 0));
    network.close().await;
    stop.now();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_top_up_of_a_proxy_without_stake_is_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let stop = Stop::new();
    let mut proxy = Proxy::new().await;
    let mut site = Site::new(dir.path(), proxy.address, &stop).await;
    let policy = ClientPolicy { least_proxy_stake: Some(Nanoton(50 * TON)), ..Default::default() };
    let config = site.config.clone();
    let network = Network::open(&config, &stop).await.unwrap().unwrap();
    let (identity, params) = (site.identity.clone(), site.state.network.clone());
    let met = proxy.meet(&identity, &params, site.wallet, 7).await;
    site.fund(site.wallet, 100);
    until("registration", async || site.is_registered(7).await).await;
    proxy.let_in(&met, 0).await;
    network.close().await;
    stop.now();
    drop(network);
    let stop = Stop::new();
    site.config = ClientConfig { money: policy, ..config };
    let network = start_again(&site.config, &stop).await;
    let mut refused = String::new();
    until("the refusal", async || {
        let act = MoneyAct::TopUp(TopUp::Stake);
        match ask(&network, site.proxy(), act).await {
            Err(MoneyRefusal::Refused(text)) => refused = text,
            other => panic!("{other:?}"),
        }
        refused.contains("stake is 1 TON, asked for are 50 TON")
    })
    .await;
    network.close().await;
    stop.now();
}
