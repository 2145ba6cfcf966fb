//! Real nodes with a key manager: a request that only an attested worker can read, while keys are
//! rotated.

use std::net::SocketAddr;

use cocoon_host::Stop;
use cocoon_host::evidence::simulated_image_hash;
use cocoon_host::key_feed::KeyManagerAt;
use cocoon_keymgr::{KeyManagerConfig, start};
use cocoon_units::{ImageHash, PublicKey, Secret};
use cocoon_wire::e2e_json;
use serde_json::Value;

use crate::site::{DEADLINE, Machine, Pair, Site, page};

const KEYS_IMAGE: &str = "proof-keys";
/// The shortest time that a key manager takes.
const ROTATE_EVERY_S: u64 = 60;

/// Public halves of the keys that the key manager holds, newest last.
async fn public_keys(pages: SocketAddr) -> Vec<PublicKey> {
    let text = page(pages, "/jsonstats").await.unwrap();
    let status: Value = serde_json::from_str(&text).unwrap();
    let keys = status["keys"].as_array().unwrap().iter();
    keys.map(|key| PublicKey::parse(key["public_key"].as_str().unwrap()).unwrap()).collect()
}

/// Asks in words that only the holder of the private half can read, until proxy and worker have the
/// key; gives the answer as it came and as it reads.
async fn ask(pair: &Pair, to: PublicKey) -> (Value, Value) {
    let own = Secret::new([3; 32]);
    let mut random = |bytes: &mut [u8]| {
        bytes.copy_from_slice(&cocoon_host::clock::random::<64>()[..bytes.len()])
    };
    loop {
        let mut body: Value = serde_json::from_str(crate::CHAT).unwrap();
        e2e_json::seal_request(&mut body, &own, to, &mut random).unwrap();
        assert!(!body.to_string().contains("2+2?"));
        let (head, answer) = pair.chat(&body.to_string(), "").await;
        if !head.starts_with("http/1.1 200") {
            // They may not have asked for keys since.
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
            continue;
        }
        let sealed: Value = serde_json::from_str(&answer).unwrap();
        let mut opened = sealed.clone();
        assert!(e2e_json::open_answer(&mut opened, &own, &to).unwrap());
        return (sealed, opened);
    }
}

fn key_manager(site: &Site) -> KeyManagerConfig {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    KeyManagerConfig {
        listen: any,
        http: Some(any),
        evidence: site.evidence(KEYS_IMAGE, 5, Machine::default()),
        work_bits: 4,
        network_file: site.registry(),
        root: crate::site::address(9).to_string(),
        is_test: true,
        check_images: true,
        data_dir: site.path("keys"),
        life_s: 10 * ROTATE_EVERY_S,
        rotate_every_s: ROTATE_EVERY_S,
        ..KeyManagerConfig::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn encrypted_requests_are_answered_over_a_change_of_keys() {
    let mut site = Site::checking(Machine::default()).await;
    let stop = Stop::new();
    let keys = start(&key_manager(&site), &stop).await.unwrap();
    let image = simulated_image_hash(&site.path("roots"), KEYS_IMAGE).unwrap();
    let at = KeyManagerAt { address: keys.address, image_hash: ImageHash(image).to_base64() };
    let pages = keys.http.unwrap();
    site.start_proxy(|config| config.key_manager = Some(at.clone())).await;
    let pair = site
        .pair_with("keyed", Machine::default(), |worker, _| worker.key_manager = Some(at.clone()))
        .await;
    pair.ready().await;
    let asked = async {
        let first = loop {
            if let [first] = public_keys(pages).await.as_slice() {
                break *first;
            }
        };
        let (sealed, opened) = ask(&pair, first).await;
        // The model server reads the question, nobody before it does; the answer likewise.
        assert!(pair.last_body().contains("2+2?"), "{}", pair.last_body());
        assert!(!sealed.to_string().contains("four"), "{sealed}");
        assert_eq!(opened["choices"][0]["message"]["content"], "four");
        for role in ["proxy", "worker"] {
            let was_handed = || {
                let trail = std::fs::read_to_string(site.path("keys/audit.log")).unwrap();
                trail.lines().any(|line| line.contains("handed") && line.contains(role))
            };
            while !was_handed() {
                tokio::task::yield_now().await;
            }
        }
        // A key is made while all of them run: both are good, and proxy and worker learn the new one.
        let mut every = tokio::time::interval(std::time::Duration::from_millis(200));
        let second = loop {
            every.tick().await;
            let all = public_keys(pages).await;
            if let Some(second) = all.iter().find(|key| **key != first) {
                break *second;
            }
        };
        for key in [second, first] {
            let (_, opened) = ask(&pair, key).await;
            assert_eq!(opened["choices"][0]["message"]["content"], "four");
        }
    };
    tokio::time::timeout(3 * DEADLINE, asked).await.expect("in time");
    // A key that nobody made opens nothing.
    let stranger = cocoon_wire::e2e::public_key(&Secret::new([8; 32]));
    let own = Secret::new([3; 32]);
    let mut body: Value = serde_json::from_str(crate::CHAT).unwrap();
    e2e_json::seal_request(&mut body, &own, stranger, &mut |bytes: &mut [u8]| bytes.fill(1))
        .unwrap();
    let before = pair.posts();
    let (head, answer) = pair.chat(&body.to_string(), "").await;
    assert!(!head.starts_with("http/1.1 200"), "{head} {answer}");
    assert_eq!(pair.posts(), before);
    pair.end().await;
    stop.now();
    keys.ended().await.unwrap();
}
