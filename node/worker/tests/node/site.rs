//! A worker in a directory of its own, in a network of one scripted proxy.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use cocoon_host::peers::Transport;
use cocoon_host::{Books, Stop, keys};
use cocoon_link::{Entry, LinkEvent, LinkSettings, Links, Listener, PortLimits, Tag};
use cocoon_units::Address;
use cocoon_worker::{WorkerConfig, WorkerFault, serve};
use tempfile::TempDir;
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinHandle;

use crate::server::Server;

pub(crate) struct Site {
    pub(crate) config: WorkerConfig,
    pub(crate) server: Arc<Server>,
    /// What happens on the proxy's port; one [`Proxy`](crate::proxy::Proxy) takes it.
    pub(crate) events: Arc<Mutex<mpsc::Receiver<LinkEvent>>>,
    dir: TempDir,
    _port: Listener,
    _links: Links,
}

/// A running worker.
pub(crate) struct Node {
    ended: JoinHandle<Result<(), WorkerFault>>,
    stop: Stop,
}

impl Site {
    pub(crate) async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (server, address) = Server::start().await;
        let (sender, events) = mpsc::channel(4_096);
        let links = Links::new(LinkSettings::default(), sender);
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let limits = PortLimits::public();
        let port = Listener::bind(&links, any, Entry::Plain, limits, Tag(1)).await.unwrap();
        let at = port.address();
        let network_file = dir.path().join("network.json");
        let network = serde_json::json!({
            "@type": "rootConfig.pseudo",
            "registered_proxies": [
                {"@type": "rootConfig.registeredProxy", "seqno": 0, "address": format!("{at} {at}")}
            ],
            "price_per_token": 2,
            "worker_fee_per_token": 1,
            "version": 3,
            "params_version": 1,
            "root_owner_address": Address::new(0, [3; 32]).to_string(),
        });
        std::fs::write(&network_file, network.to_string()).unwrap();
        let config = WorkerConfig {
            owner: Address::new(0, [30; 32]).to_string(),
            model: "qwen@abc:00".into(),
            forward_to: format!("http://{address}"),
            transport: Transport::Plain,
            network_file,
            root: Address::new(0, [0; 32]).to_string(),
            is_test: true,
            check_proxy_images: false,
            data_dir: dir.path().join("data"),
            http: None,
            drain_s: 30,
            ..WorkerConfig::default()
        };
        let events = Arc::new(Mutex::new(events));
        Self { config, server, events, dir, _port: port, _links: links }
    }

    pub(crate) fn start(&self) -> Node {
        let (config, stop) = (self.config.clone(), Stop::new());
        let asked = stop.clone();
        let ended = tokio::spawn(async move { Box::pin(serve(&config, &asked)).await });
        Node { ended, stop }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A program of the shell in this directory.
    pub(crate) fn script(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
        path
    }

    /// Names of the journal's segments; a snapshot begins a new one.
    pub(crate) fn segments(&self) -> BTreeSet<OsString> {
        let files = std::fs::read_dir(self.path("data/journal")).unwrap();
        files.map(|file| file.unwrap().file_name()).collect()
    }

    /// Records that a start would read.
    pub(crate) fn journal_records(&self) -> usize {
        let key = keys::load_or_make(&self.path("data/journal.key")).unwrap();
        Books::open(&self.path("data/journal"), &key, false).unwrap().records().len()
    }
}

impl Node {
    pub(crate) fn ask_to_stop(&self) {
        self.stop.now();
    }

    /// Waits until it ends by itself.
    pub(crate) async fn ended(self) -> Result<(), WorkerFault> {
        self.ended.await.unwrap()
    }

    pub(crate) async fn stop(self) {
        self.stop.now();
        self.ended.await.unwrap().expect("ends well");
    }
}
