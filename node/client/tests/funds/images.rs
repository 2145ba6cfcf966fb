//! The registry lists a proxy's image, takes it off, and lists it again, while the node runs.

use cocoon_client::Network;
use cocoon_contract::cell::Hash;
use cocoon_contract::message::RootAction;
use cocoon_contract::root::{ProxyEndpoint, RegisteredProxy};
use cocoon_gateway::upstream::Wishes;
use cocoon_gateway::{InferenceRequest, Upstream as _, UpstreamError};
use cocoon_host::evidence::{EvidenceConfig, simulated_image_hash};
use cocoon_host::peers::{Admit, Presence, Transport};
use cocoon_host::{ChannelRole, Stop, Subject};
use cocoon_openai::Endpoint;
use cocoon_units::{Coefficient, Secret, SecretBytes, Tokens};

use crate::proxy::{Proxy, Waiting};
use crate::{DEADLINE, Site, until};

fn request() -> InferenceRequest {
    InferenceRequest {
        request_id: "r".to_owned(),
        endpoint: Endpoint::ChatCompletions,
        model: "m".to_owned(),
        method: http::Method::POST,
        path: "/v1/chat/completions",
        headers: http::HeaderMap::new(),
        body: SecretBytes::new(b"{}".as_slice().into()),
        stream: false,
        max_coefficient: Coefficient::ONE,
        max_tokens: Tokens(10),
        timeout: DEADLINE,
        debug: false,
        request_guid: None,
        encryption_key: None,
        wishes: Wishes::default(),
    }
}

/// Why the node does not talk to the proxy, as it tells whoever asks for the evidence of all.
async fn refused(network: &Network) {
    until("the reason is told", async || {
        let shown = network.attestation([7; 32]).await.unwrap();
        String::from_utf8_lossy(&shown).contains("is not in the root contract")
    })
    .await;
}

/// Meets the client once it has accepted the proxy's fresh evidence: it goes on then.
async fn meet(proxy: &mut Proxy, site: &Site) -> Waiting {
    let (identity, network) = (site.identity.clone(), site.state.network.clone());
    let meeting = proxy.meet(&identity, &network, site.wallet, 7);
    tokio::time::timeout(DEADLINE, meeting).await.expect("met in time")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_is_met_when_its_image_is_listed_and_left_when_it_is_taken_off() {
    let (dir, stop) = (tempfile::tempdir().unwrap(), Stop::new());
    let roots = dir.path().join("roots");
    let evidence = |image: &str| EvidenceConfig::Simulated {
        roots: roots.clone(),
        image: image.to_owned(),
        machine: 1,
        gpu: false,
        snp: false,
        misbehave: None,
        dangerous_unchecked_peers: false,
    };
    let hash = |image: &str| Hash(simulated_image_hash(&roots, image).unwrap());
    let listed = hash("proxy");

    // The proxy states which network it serves, so that comes first.
    let mut site = Site::new(dir.path(), "127.0.0.1:9".parse().unwrap(), &stop).await;
    let own_id = site.proxy().hash;
    let subject = Subject::new(ChannelRole::Proxy, false, site.root, own_id);
    let presence = Presence::start(&Secret::new([81; 32]), &evidence("proxy"), &stop)
        .and_then(|presence| presence.speaking_for(subject))
        .unwrap();
    let mut proxy = Proxy::behind(presence.entry(&Transport::Direct, 0, Admit::Anybody)).await;
    let at = ProxyEndpoint::parse(&format!("{0} {0}", proxy.address)).unwrap();
    site.root_acts(RootAction::UpdateProxy { seqno: 1, entry: RegisteredProxy::new(&at) }).await;
    site.root_acts(RootAction::AddProxyType(hash("other"))).await;
    site.config.transport = Transport::Direct;
    site.config.check_proxy_images = true;
    site.config.evidence = evidence("gateway");
    site.config.proxy_wait_ms = 100;
    let network = Network::open(&site.config, &stop).await.unwrap().unwrap();
    refused(&network).await;

    // Listed while the node runs: its certificate and its fresh evidence are accepted.
    site.root_acts(RootAction::AddProxyType(listed)).await;
    let met = meet(&mut proxy, &site).await;
    site.fund(site.wallet, 100);
    until("registration", async || site.is_registered(7).await).await;
    proxy.let_in(&met, 0).await;
    until("a proxy", async || network.models().await.is_ok()).await;

    // Taken off: the connection ends at once, what ran there with the error of a lost proxy.
    let asking = tokio::spawn({
        let network = network.clone();
        async move { network.run(request()).await.map(drop) }
    });
    tokio::time::timeout(DEADLINE, proxy.asked(&met)).await.expect("asked in time");
    site.root_acts(RootAction::DelProxyType(listed)).await;
    tokio::time::timeout(DEADLINE, proxy.gone(&met)).await.expect("left in time");
    assert!(matches!(asking.await.unwrap(), Err(UpstreamError::ProxyLost)));
    assert!(matches!(network.run(request()).await, Err(UpstreamError::NoProxy { .. })));
    refused(&network).await;

    site.root_acts(RootAction::AddProxyType(listed)).await;
    meet(&mut proxy, &site).await;
    network.close().await;
    stop.now();
}
