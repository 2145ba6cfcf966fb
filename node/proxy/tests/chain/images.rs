//! The registry lists an image of workers, takes it off, and lists it again, while the proxy runs.

use std::time::Duration;

use cocoon_contract::cell::Hash;
use cocoon_contract::message::RootAction;
use cocoon_host::evidence::{EvidenceConfig, simulated_image_hash};
use cocoon_host::peers::Transport;
use sha2::{Digest as _, Sha256};

use crate::peer::{Peer, worker_if_admitted};
use crate::site::{Node, Site};
use crate::town::Town;

const DEADLINE: Duration = Duration::from_secs(60);

/// The worker, once the proxy has seen that its image is listed.
async fn let_in(town: &Town, node: &Node, site: &Site) -> Peer {
    let wait = async {
        loop {
            match worker_if_admitted(node, site, 0).await {
                Some(peer) => return peer,
                None => town.blocks(1).await,
            }
        }
    };
    tokio::time::timeout(DEADLINE, wait).await.expect("let in in time")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_is_let_in_when_its_image_is_listed_and_thrown_out_when_it_is_taken_off() {
    let town = Town::found().await;
    let mut site = Site::on(&town);
    let roots = site.dir().join("roots");
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
    let listed = hash("worker");
    town.root_acts(RootAction::AddWorkerType(hash("other"))).await;
    let model = Hash(Sha256::digest("qwen@abc:00").into());
    town.root_acts(RootAction::AddModelType(model)).await;
    site.config.transport = Transport::Direct;
    site.config.check_worker_images = true;
    site.config.evidence = evidence("proxy");
    site.peers = evidence("worker");
    let node = site.start().await;
    node.ready().await;
    assert!(worker_if_admitted(&node, &site, 0).await.is_none(), "its image is not listed");

    // Its certificate and its fresh evidence are accepted as soon as the registry says so.
    town.root_acts(RootAction::AddWorkerType(listed)).await;
    let mut worker = let_in(&town, &node, &site).await;
    town.root_acts(RootAction::DelWorkerType(listed)).await;
    tokio::time::timeout(DEADLINE, worker.closed()).await.expect("thrown out in time");
    assert!(worker_if_admitted(&node, &site, 0).await.is_none(), "not any more");
    town.root_acts(RootAction::AddWorkerType(listed)).await;
    let_in(&town, &node, &site).await;
    node.stop().await;
}
