//! Honest peers: what they learn of each other, and of peers that know less.

use std::sync::Arc;

use cocoon_attest::{ClaimKind, Digest32, Endorsement, Finding, NamedOwner, Policy};
use cocoon_evidence::sim::{DevPki, SimulatedPlatform, SimulatedPlatformForm};
use cocoon_host::evidence::{EvidenceConfig, simulated_image_hash};
use cocoon_host::peers::{Admit, Presence, Transport};
use cocoon_host::{ChannelRole, Stop, Subject};
use cocoon_link::{Entry, Event};
use cocoon_units::Secret;
use cocoon_wire::cocoon::{self, ATTESTED_CHANNEL, CancelQuery, ENDORSEMENTS};
use cocoon_wire::tl::encode;
use ed25519_dalek::SigningKey;

use crate::party::{Node, WORKER_SEED, World, introduce, introduced, subject};

#[tokio::test(flavor = "multi_thread")]
async fn both_sides_show_fresh_evidence_before_the_first_request() {
    let world = World::new();
    let (mut proxy, mut worker) = (Node::new(), Node::new());
    let listener = proxy.listen(world.proxy()).await;
    worker.dial(world.worker(), listener.address());
    let to_worker = proxy.opened().await;
    let to_proxy = worker.opened().await;
    introduce(&to_proxy);
    // What is queued behind the introduction waits for the evidence.
    let request = encode(&CancelQuery::default());
    let (id, query) = proxy.query().await;
    assert!(cocoon::introduction(&query).unwrap().1.contains(ATTESTED_CHANNEL));
    to_worker.answer(id, introduced()).unwrap();
    to_worker.message(request.clone()).unwrap();
    let of_proxy = worker.attested().await;
    let of_worker = proxy.attested().await;
    assert_eq!(worker.answer().await.len(), introduced().len());
    assert_eq!(worker.message().await, request);
    for (known, role) in [(&of_proxy, ChannelRole::Proxy), (&of_worker, ChannelRole::Worker)] {
        assert!(known.is_fresh());
        assert_eq!((known.role, &known.address), (role, &listener.address().to_string()));
        assert_eq!(known.stated_id(), Some(Digest32::from([role.byte(); 32])));
        for claim in
            [ClaimKind::Hardware, ClaimKind::Tcb, ClaimKind::DebugOff, ClaimKind::KeyBinding]
        {
            assert_eq!(*known.verdict.finding(claim), Finding::Holds, "{claim:?}");
        }
        // A saved bundle gives the same verdict by itself.
        let bundle = Arc::clone(known.bundle.as_ref().unwrap());
        let saved = serde_json::to_string(&*bundle).unwrap();
        let read: cocoon_attest::EvidenceBundle = serde_json::from_str(&saved).unwrap();
        assert_eq!(read.verify(), *known.verdict);
    }
    // The worker's GPU was checked at its boot; no registry says which site this is.
    assert_eq!(*of_worker.verdict.finding(ClaimKind::Gpu), Finding::Holds);
    assert_eq!(*of_proxy.verdict.finding(ClaimKind::Gpu), Finding::NotClaimed);
    assert_eq!(*of_worker.verdict.finding(ClaimKind::Site), Finding::NotClaimed);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owners_endorsement_is_shown_to_peers_that_announce_to_read_it() {
    let world = World::new();
    let now_s = cocoon_host::clock::now_ms() / 1_000;
    let pki = DevPki::load_or_generate(&world.roots(), now_s).unwrap();
    let form = SimulatedPlatformForm { number: 2, ..SimulatedPlatformForm::default() };
    let machine = SimulatedPlatform::boot(Arc::new(pki), form).unwrap();
    let owner = SigningKey::from_bytes(&[9; 32]);
    let endorsement = Endorsement {
        owner: Digest32::ZERO,
        network_id: -3,
        root_contract: Digest32::from([5; 32]),
        id: Digest32::from([ChannelRole::Worker.byte(); 32]),
        platform: machine.platform_id(),
        not_after_s: now_s + 600,
    };
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), endorsement.sign(&owner).to_text()).unwrap();
    for reads in [true, false] {
        let (mut proxy, mut worker) = (Node::new(), Node::new());
        let listener = proxy.listen(world.proxy()).await;
        worker.dial(world.endorsed_worker(file.path()), listener.address());
        let to_worker = proxy.opened().await;
        introduce(&worker.opened().await);
        let (id, _) = proxy.query().await;
        let mut introduced = introduced();
        if reads {
            cocoon::announce(&mut introduced, ENDORSEMENTS);
        }
        to_worker.answer(id, introduced).unwrap();
        let of_worker = proxy.attested().await;
        assert!(of_worker.is_fresh());
        let bundle = of_worker.bundle.as_ref().unwrap();
        assert_eq!(bundle.evidence.endorsement.is_some(), reads);
        // A reader that names the owner has the id tied to the machine.
        let named = NamedOwner {
            key: Digest32::from(owner.verifying_key().to_bytes()),
            site: "Example Owner".to_owned(),
            owner_id: None,
        };
        let policy = Policy { owners: vec![named], ..bundle.policy.clone() };
        let wanted = if reads { Finding::Holds } else { Finding::NotClaimed };
        assert_eq!(*bundle.verify_by(&policy).finding(ClaimKind::Site), wanted);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_without_a_machine_of_its_own_verifies_and_shows_nothing() {
    let world = World::new();
    let (mut proxy, mut client) = (Node::new(), Node::new());
    let stop = Stop::new();
    let seed = Secret::new([1; 32]);
    let presence = Presence::start(&seed, &world.evidence("proxy", 1, false), &stop).unwrap();
    let presence = presence.speaking_for(subject(ChannelRole::Proxy)).unwrap();
    let entry = presence.entry(&Transport::Direct, 0, Admit::Anybody);
    let listener = proxy.listen(entry).await;
    let seed = Secret::new([3; 32]);
    let presence = Presence::start(&seed, &EvidenceConfig::None, &stop).unwrap();
    let presence = presence.speaking_for(subject(ChannelRole::Client)).unwrap();
    client.dial(presence.route(&Transport::Direct, 8), listener.address());
    let (to_client, to_proxy) = (proxy.opened().await, client.opened().await);
    introduce(&to_proxy);
    let (id, _) = proxy.query().await;
    to_client.answer(id, introduced()).unwrap();
    let (of_proxy, of_client) = (client.attested().await, proxy.attested().await);
    assert_eq!(client.answer().await.len(), introduced().len());
    // It asks for nothing, so it learns nothing; and the proxy asks nothing of clients.
    for known in [of_proxy, of_client] {
        assert!(!known.is_fresh() && known.bundle.is_none());
        assert!(known.verdict.claims.iter().all(|claim| claim.finding == Finding::NotClaimed));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_without_the_addition_is_refused_where_fresh_evidence_is_required() {
    let world = World::new();
    // Behind a reverse router a node has no TLS session to bind evidence to: it announces
    // nothing, and so does a node of the reference.
    let (mut proxy, mut worker) = (Node::new(), Node::new());
    let listener = proxy.listen(world.false_proxy()).await;
    worker.dial(world.worker(), listener.address());
    let (to_worker, to_proxy) = (proxy.opened().await, worker.opened().await);
    introduce(&to_proxy);
    let (id, _) = proxy.query().await;
    to_worker.answer(id, introduced()).unwrap();
    assert!(worker.refused().await.contains("offers no fresh evidence"));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_announced_on_plain_connections() {
    let (mut proxy, mut worker) = (Node::new(), Node::new());
    let listener = proxy.listen(Entry::Plain).await;
    worker.dial(cocoon_link::Route::Plain, listener.address());
    let (to_worker, to_proxy) = (proxy.opened().await, worker.opened().await);
    introduce(&to_proxy);
    let (id, query) = proxy.query().await;
    assert!(!cocoon::introduction(&query).unwrap().1.contains(ATTESTED_CHANNEL));
    to_worker.answer(id, introduced()).unwrap();
    let Event::Answer { data, .. } = worker.next().await else { panic!("an answer") };
    assert!(!cocoon::introduction(&data).unwrap().1.contains(ATTESTED_CHANNEL));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_images_that_is_replaced_counts_for_whoever_comes_next() {
    let (world, stop) = (World::new(), Stop::new());
    let hash = |image: &str| simulated_image_hash(&world.roots(), image).unwrap();
    let other = hash("other");
    // One of them dials and the other one listens: both have made their ways in before.
    let seed = Secret::new([WORKER_SEED; 32]);
    let worker = Presence::start(&seed, &world.evidence("worker", 2, true), &stop).unwrap();
    let subject = Subject { peer_images: vec![other], ..subject(ChannelRole::Worker) };
    let worker = worker.speaking_for(subject).unwrap();
    for (listed, is_let_in) in [
        (None, false),
        (Some(vec![hash("proxy")]), true),
        (Some(vec![other]), false),
        (Some(vec![other, hash("proxy")]), true),
        (Some(Vec::new()), false),
    ] {
        let route = worker.route(&Transport::Direct, 8);
        if let Some(listed) = &listed {
            worker.admit_images(listed).unwrap();
        }
        let (mut proxy, mut dialler) = (Node::new(), Node::new());
        let listener = proxy.listen(world.proxy()).await;
        dialler.dial(route, listener.address());
        let to_worker = proxy.opened().await;
        introduce(&dialler.opened().await);
        let (id, _) = proxy.query().await;
        to_worker.answer(id, introduced()).unwrap();
        match is_let_in {
            true => assert!(dialler.attested().await.is_fresh()),
            false => {
                let reason = dialler.refused().await;
                assert!(reason.contains("image"), "{listed:?}: {reason}");
            }
        }
    }
    // Who looks at no images goes on so.
    let indifferent = Presence::start(&seed, &world.evidence("worker", 2, true), &stop).unwrap();
    let indifferent = indifferent.speaking_for(crate::party::subject(ChannelRole::Worker)).unwrap();
    indifferent.admit_images(&[other]).unwrap();
    let (mut proxy, mut dialler) = (Node::new(), Node::new());
    let listener = proxy.listen(world.proxy()).await;
    dialler.dial(indifferent.route(&Transport::Direct, 8), listener.address());
    let to_worker = proxy.opened().await;
    introduce(&dialler.opened().await);
    let (id, _) = proxy.query().await;
    to_worker.answer(id, introduced()).unwrap();
    assert!(dialler.attested().await.is_fresh());
}
