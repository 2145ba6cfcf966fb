//! The chain goes away while the node serves, and comes back.

use std::time::Duration;

use cocoon_client::Network;
use cocoon_gateway::{MoneyAct, MoneyOrder, MoneyRefusal, Upstream as _, UpstreamError};
use cocoon_host::Stop;

use crate::proxy::Proxy;
use crate::{Site, page, serve, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chain_that_goes_away_stops_new_requests_in_time_and_not_before() {
    let dir = tempfile::tempdir().unwrap();
    let stop = Stop::new();
    let mut proxy = Proxy::new().await;
    let mut site = Site::new(dir.path(), proxy.address, &stop).await;
    // So long that the first part of this test is over before, on any machine that passes at all.
    site.config.chain.away_max_s = 15;
    let network = Network::open(&site.config, &stop).await.unwrap().unwrap();
    let (identity, params) = (site.identity.clone(), site.state.network.clone());
    let met = proxy.meet(&identity, &params, site.wallet, 7).await;
    site.fund(site.wallet, 100);
    until("registration", async || site.is_registered(7).await).await;
    proxy.let_in(&met, 0).await;
    until("a proxy", async || network.models().await.is_ok()).await;

    let contract = site.client_of(&params);
    let order = MoneyOrder { act: MoneyAct::Withdraw, contract, is_dry_run: false };

    // Away: it says so, and goes on serving what needs no chain.
    let http = site.serving.http;
    site.serving.stop().await.unwrap();
    until("the page says so", async || page(&network).await["chain_fault"].is_string()).await;
    assert_eq!(page(&network).await["takes_nothing_new"], false);
    assert!(network.models().await.is_ok(), "requests go on");
    let asked = network.operate(order).await;
    assert!(matches!(asked, Err(MoneyRefusal::NotNow(_))), "{asked:?}");

    // For too long: no new requests, and the reason is told.
    until("nothing new is taken", async || page(&network).await["takes_nothing_new"] == true).await;
    let refused = network.models().await;
    assert!(
        matches!(&refused, Err(UpstreamError::ChainAway { away, .. }) if *away > Duration::from_secs(15)),
        "{refused:?}"
    );

    // Back: all as before.
    site.serving = serve(dir.path(), http).await;
    until("requests are taken again", async || network.models().await.is_ok()).await;
    until("the page is calm", async || page(&network).await["chain_away_s"].is_null()).await;
    until("the operator is heard again", async || network.operate(order).await.is_ok()).await;
    network.close().await;
    stop.now();
}
