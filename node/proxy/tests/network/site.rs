//! A proxy in a directory of its own.

use std::net::SocketAddr;

use cocoon_host::Stop;
use cocoon_host::evidence::EvidenceConfig;
use cocoon_host::peers::{Presence, Transport};
use cocoon_link::Route;
use cocoon_proxy::{ProxyConfig, Running, start};
use cocoon_units::{Address, Secret};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// A network without a chain, and a proxy's directory.
pub(crate) struct Site {
    pub(crate) config: ProxyConfig,
    pub(crate) presence_stop: Stop,
    /// Version of the registry that clients ask for at least.
    pub(crate) version: i32,
    _dir: TempDir,
}

/// A running proxy.
pub(crate) struct Node {
    running: Running,
    stop: Stop,
}

/// What a page said.
pub(crate) struct Page {
    pub(crate) code: u16,
    pub(crate) body: String,
}

impl Site {
    pub(crate) fn new(transport: Transport) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let network_file = dir.path().join("network.json");
        let network = serde_json::json!({
            "@type": "rootConfig.pseudo",
            "registered_proxies": [],
            "price_per_token": 2,
            "worker_fee_per_token": 1,
            "version": 3,
            "params_version": 1,
            "root_owner_address": Address::new(0, [3; 32]).to_string(),
        });
        std::fs::write(&network_file, network.to_string()).expect("written");
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let config = ProxyConfig {
            owner: Address::new(0, [1; 32]).to_string(),
            listen_workers: any,
            listen_clients: any,
            http: Some(any),
            transport,
            work_bits: 4,
            network_file,
            root: Address::new(0, [0; 32]).to_string(),
            is_test: true,
            check_worker_images: false,
            data_dir: dir.path().join("data"),
            drain_s: 10,
            // These tests are about what is served; `overload.sh` is about what is refused.
            waiting_per_slot_milli: u32::MAX,
            ..ProxyConfig::default()
        };
        Self { config, presence_stop: Stop::new(), version: 3, _dir: dir }
    }

    pub(crate) async fn start(&self) -> Node {
        let stop = Stop::new();
        let running = start(self.config.clone(), stop.clone()).await.expect("starts");
        Node { running, stop }
    }

    /// The way of a peer to the proxy.
    pub(crate) fn route(&self) -> Route {
        let presence =
            Presence::start(&Secret::new([8; 32]), &EvidenceConfig::None, &self.presence_stop)
                .expect("a key");
        presence.route(&self.config.transport, 8)
    }
}

impl Node {
    pub(crate) fn workers(&self) -> SocketAddr {
        self.running.workers
    }

    pub(crate) fn clients(&self) -> SocketAddr {
        self.running.clients
    }

    pub(crate) fn ask_to_stop(&self) {
        self.stop.now();
    }

    pub(crate) async fn stop(self) {
        self.stop.now();
        self.running.ended().await.expect("ends well");
    }

    pub(crate) async fn page(&self, path: &str) -> Page {
        self.http("GET", path, "").await
    }

    pub(crate) async fn post(&self, path: &str) -> Page {
        self.http("POST", path, "").await
    }

    /// What a page of this origin gets when it sends its reader's browser here.
    pub(crate) async fn post_from(&self, origin: &str, path: &str) -> Page {
        self.http("POST", path, &format!("Origin: {origin}\r\n")).await
    }

    /// Commits that were confirmed.
    pub(crate) async fn commits(&self) -> u64 {
        let page = self.page("/metrics").await;
        let value = |line: &str| line.strip_prefix("cocoon_proxy_commits_total ")?.parse().ok();
        page.body.lines().find_map(value).expect("counted")
    }

    async fn http(&self, method: &str, path: &str, header: &str) -> Page {
        let address = self.running.http.expect("pages are on");
        let mut tcp = TcpStream::connect(address).await.expect("connects");
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: proxy\r\n{header}Content-Length: 0\r\n\
             Connection: close\r\n\r\n"
        );
        tcp.write_all(request.as_bytes()).await.expect("written");
        let mut text = String::new();
        tcp.read_to_string(&mut text).await.expect("read");
        let (head, body) = text.split_once("\r\n\r\n").expect("an answer");
        let code = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
        Page { code, body: body.to_owned() }
    }
}
