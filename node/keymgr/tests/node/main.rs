//! The key manager over real sockets: simulated evidence, recorded peers, restarts, the trail.

#![allow(clippy::unwrap_used, reason = "a failure fails the test")]

mod channel;

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use cocoon_host::evidence::{EvidenceConfig, simulated_image_hash};
use cocoon_host::key_feed::{KeyFeed, KeyManagerAt};
use cocoon_host::keys;
use cocoon_host::peers::{Admit, Presence, Transport};
use cocoon_host::{ChannelRole, Stop, Subject};
use cocoon_keymgr::{KeyManagerConfig, RunFault, Running, Trail, start};
use cocoon_units::{Address, ImageHash, PublicKey, Role};
use cocoon_wire::frame::FrameReader;
use cocoon_wire::key_manager::PrivateKeys;
use cocoon_wire::{tcp, tl};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// A test that waits longer for anything has failed.
const DEADLINE: Duration = Duration::from_secs(120);
/// The network's root contract.
const ROOT: Address = Address { workchain: 0, hash: [9; 32] };
const ANY_PORT: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, Box::pin(work)).await.expect("in time")
}

struct Site {
    dir: TempDir,
    config: KeyManagerConfig,
}

impl Site {
    /// A network whose registry lists the images "proxy" and "worker".
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let roots = dir.path().join("roots.json");
        let network_file = dir.path().join("network.json");
        write_registry(&network_file, &roots, "proxy", 3);
        let config = KeyManagerConfig {
            listen: ANY_PORT,
            evidence: evidence(dir.path(), "key manager", 7),
            work_bits: 4,
            network_file,
            root: ROOT.to_string(),
            is_test: true,
            data_dir: dir.path().join("data"),
            http: None,
            ..KeyManagerConfig::default()
        };
        Self { dir, config }
    }

    fn image(&self, image: &str) -> String {
        let roots = self.dir.path().join("roots.json");
        ImageHash(simulated_image_hash(&roots, image).unwrap()).to_base64()
    }

    async fn start(&self) -> (Running, Stop) {
        let stop = Stop::new();
        (start(&self.config, &stop).await.unwrap(), stop)
    }

    /// A node of this image, whose connections say what it is.
    fn node(&self, image: &str, role: Role, stop: &Stop) -> Presence {
        let shown = match image {
            "" => EvidenceConfig::None,
            image => evidence(self.dir.path(), image, 1),
        };
        let presence = Presence::start(&keys::fresh(), &shown, stop).unwrap();
        let role = match role {
            Role::Proxy => ChannelRole::Proxy,
            _ => ChannelRole::Worker,
        };
        presence.speaking_for(Subject::new(role, false, ROOT, [1; 32])).unwrap()
    }

    /// A node of this image that asks for keys.
    fn ask(&self, image: &str, role: Role, at: &KeyManagerAt, stop: &Stop) -> KeyFeed {
        let presence = self.node(image, role, stop);
        KeyFeed::start(at, (role, true), (&presence, &Transport::Direct), stop).unwrap()
    }
}

/// A registry that lists this image of proxies, and the image "worker".
fn write_registry(path: &Path, roots: &Path, proxy: &str, version: u32) {
    let listed = |image| ImageHash(simulated_image_hash(roots, image).unwrap()).to_base64();
    let network = serde_json::json!({
        "@type": "rootConfig.pseudo",
        "proxy_hashes": [listed(proxy)],
        "worker_hashes": [listed("worker")],
        "version": version,
        "params_version": 1,
        "root_owner_address": Address::new(0, [3; 32]).to_string(),
    });
    std::fs::write(path, network.to_string()).unwrap();
}

fn evidence(dir: &Path, image: &str, machine: u64) -> EvidenceConfig {
    EvidenceConfig::Simulated {
        roots: dir.join("roots.json"),
        image: image.to_owned(),
        machine,
        gpu: false,
        snp: false,
        misbehave: None,
        dangerous_unchecked_peers: false,
    }
}

async fn end(running: Running, stop: &Stop) {
    stop.now();
    running.ended().await.unwrap();
}

/// Lines of the trail that hold this word.
fn lines(site: &Site, word: &str) -> usize {
    let text = std::fs::read_to_string(site.config.data_dir.join("audit.log")).unwrap();
    text.lines().filter(|line| line.contains(word)).count()
}

async fn until_line(site: &Site, word: &str, count: usize) {
    while lines(site, word) < count {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_registry_counts_without_a_restart_and_an_older_one_never() {
    within(async {
        let site = Site::new();
        let roots = site.dir.path().join("roots.json");
        let file = site.config.network_file.clone();
        let (running, stop) = site.start().await;
        let at = KeyManagerAt { address: running.address, image_hash: site.image("key manager") };
        let mut new = site.ask("new proxy", Role::Proxy, &at, &stop);
        until_line(&site, "unknown proxy hash", 1).await;
        // An older version and a broken file change nothing; the newer one is followed.
        write_registry(&file, &roots, "new proxy", 2);
        let waited = tokio::time::timeout(Duration::from_millis(1_500), new.changed()).await;
        assert!(waited.is_err());
        std::fs::write(&file, "{").unwrap();
        write_registry(&file, &roots, "new proxy", 4);
        assert_eq!(new.changed().await.len(), 1);
        // Whoever is listed no more gets nothing.
        let _old = site.ask("proxy", Role::Proxy, &at, &stop);
        until_line(&site, "unknown proxy hash", 2).await;
        end(running, &stop).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_go_to_attested_nodes_that_the_registry_lists() {
    within(async {
        let site = Site::new();
        let (running, stop) = site.start().await;
        let at = KeyManagerAt { address: running.address, image_hash: site.image("key manager") };
        let mut proxy = site.ask("proxy", Role::Proxy, &at, &stop);
        let mut worker = site.ask("worker", Role::Worker, &at, &stop);
        let (of_proxy, of_worker) = (proxy.changed().await, worker.changed().await);
        assert_eq!(of_proxy.len(), 1);
        let public: Vec<&PublicKey> = of_proxy.keys().collect();
        assert_eq!(of_worker.keys().collect::<Vec<_>>(), public);
        // Another image, and a proxy that says it is a worker.
        let _stranger = site.ask("stranger", Role::Proxy, &at, &stop);
        until_line(&site, "unknown proxy hash", 1).await;
        let _liar = site.ask("proxy", Role::Worker, &at, &stop);
        until_line(&site, "unknown worker hash", 1).await;
        // One that asks another image than ours to be there gets nothing, and asks nothing.
        let other = KeyManagerAt { image_hash: site.image("proxy"), ..at.clone() };
        let mut wrong = site.ask("proxy", Role::Proxy, &other, &stop);
        let waited = tokio::time::timeout(Duration::from_millis(500), wrong.changed()).await;
        assert!(waited.is_err());
        assert_eq!(lines(&site, "handed"), 2);
        assert_eq!(lines(&site, "\"fresh\":true"), 4, "refused ones were who they say, too");
        // A node without evidence does not even get in.
        let mut nobody = site.ask("", Role::Proxy, &at, &stop);
        let waited = tokio::time::timeout(Duration::from_millis(500), nobody.changed()).await;
        assert!(waited.is_err());
        end(running, &stop).await;
        let chain = Trail::check(&site.config.data_dir.join("audit.log")).unwrap();
        assert!(chain.lines() >= 6, "{} lines", chain.lines());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_keeps_the_keys_and_another_machine_cannot_open_them() {
    within(async {
        let mut site = Site::new();
        let (running, stop) = site.start().await;
        let at = KeyManagerAt { address: running.address, image_hash: String::new() };
        let before = site.ask("proxy", Role::Proxy, &at, &stop).changed().await;
        end(running, &stop).await;
        assert!(!site.config.data_dir.join("journal.key").exists(), "the machine seals the key");
        let (_, (private, _)) = before.first_key_value().unwrap();
        for entry in std::fs::read_dir(site.config.data_dir.join("journal")).unwrap() {
            let bytes = std::fs::read(entry.unwrap().path()).unwrap();
            assert!(!bytes.windows(32).any(|window| window == private.expose()), "in clear");
        }
        let trail = std::fs::read(site.config.data_dir.join("audit.log")).unwrap();
        assert!(!trail.windows(32).any(|window| window == private.expose()));

        let (running, stop) = site.start().await;
        let at = KeyManagerAt { address: running.address, ..at };
        let after = site.ask("proxy", Role::Proxy, &at, &stop).changed().await;
        assert_eq!(before.keys().collect::<Vec<_>>(), after.keys().collect::<Vec<_>>());
        end(running, &stop).await;

        site.config.evidence = evidence(site.dir.path(), "key manager", 8);
        let fault = start(&site.config, &Stop::new()).await.unwrap_err();
        assert!(matches!(fault, RunFault::Journal(_)), "{fault}");
        site.config.evidence = evidence(site.dir.path(), "changed image", 7);
        let fault = start(&site.config, &Stop::new()).await.unwrap_err();
        assert!(matches!(fault, RunFault::Journal(_)), "{fault}");
    })
    .await;
}

#[tokio::test]
async fn a_trail_that_was_changed_stops_the_start_and_a_torn_end_does_not() {
    within(async {
        let site = Site::new();
        let (running, stop) = site.start().await;
        until_line(&site, "drawn", 1).await;
        end(running, &stop).await;
        let path = site.config.data_dir.join("audit.log");
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, format!("{text}{{\"n\":3,\"at")).unwrap();
        let (running, stop) = site.start().await;
        end(running, &stop).await;
        Trail::check(&path).unwrap();
        std::fs::write(&path, text.replacen("\"keys\":0", "\"keys\":9", 1)).unwrap();
        let fault = start(&site.config, &Stop::new()).await.unwrap_err();
        assert!(fault.to_string().contains("line 2 of the audit trail"), "{fault}");
    })
    .await;
}

/// Queries that a recorded node of the reference asked, and the answers it gets from us.
async fn replay(c2s: &[u8]) -> (usize, Vec<PrivateKeys>) {
    let mut site = Site::new();
    site.config.add_test_key = true;
    site.config.check_images = false;
    site.config.evidence = EvidenceConfig::None;
    site.config.transport = Transport::Router(ANY_PORT);
    let (running, stop) = site.start().await;
    let mut peer = tokio::net::TcpStream::connect(running.address).await.unwrap();
    peer.write_all(c2s).await.unwrap();
    peer.shutdown().await.unwrap();
    let mut came = Vec::new();
    peer.read_to_end(&mut came).await.unwrap();
    end(running, &stop).await;
    let packets = |bytes: &[u8]| {
        let (mut reader, mut buffer) = (FrameReader::new(), bytes.into());
        let mut found = Vec::new();
        while let Some(payload) = reader.next_payload(&mut buffer).unwrap() {
            found.push(payload);
        }
        found
    };
    let (length, _) = c2s.split_first_chunk().unwrap();
    let (_, frames) = c2s.split_at(4 + u32::from_le_bytes(*length) as usize);
    let asked = packets(frames)
        .iter()
        .filter(|payload| matches!(tl::decode(payload), Ok(tcp::Packet::Query(_))))
        .count();
    let mut answers = Vec::new();
    for payload in packets(&came) {
        if let tcp::Packet::QueryAnswer(answer) = tl::decode(&payload).unwrap() {
            answers.push(tl::decode(answer.data.0).unwrap());
        }
    }
    (asked, answers)
}

#[tokio::test]
async fn recorded_nodes_of_the_reference_get_the_test_key() {
    within(async {
        for c2s in [
            include_bytes!("../../../../testdata/captures/live/A_122_13101.c2s.bin").as_slice(),
            include_bytes!("../../../../testdata/captures/live/C_010_13101.c2s.bin"),
        ] {
            let (asked, answers) = replay(c2s).await;
            assert_eq!(answers.len(), asked);
            for answer in answers {
                let test = answer.keys.iter().find(|key| key.valid_until_utime == 2_000_000_000);
                assert_eq!(test.unwrap().private_key.expose()[..2], [0x07, 0x0a]);
            }
        }
    })
    .await;
}
