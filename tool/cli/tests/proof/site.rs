//! A small network on sockets of this machine: a proxy, workers on simulated machines, a gateway.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cocoon_client::{ClientConfig, Network};
use cocoon_evidence::sim::Misbehave;
use cocoon_gateway::{GatewayConfig, Server, Upstream as _};
use cocoon_host::Stop;
use cocoon_host::evidence::{EvidenceConfig, simulated_image_hash};
use cocoon_proxy::ProxyConfig;
use cocoon_units::{Address, ModelName, PublicKey};
use cocoon_worker::WorkerConfig;
use serde::Serialize;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinHandle;

pub(crate) const MODEL: &str = "mock@0000:1111";
/// Listed, too.
pub(crate) const OTHER_MODEL: &str = "tiny@0000:2222";
pub(crate) const PROXY_IMAGE: &str = "proof-proxy";
pub(crate) const WORKER_IMAGE: &str = "proof-worker";
/// Number of the machine that lies. The gateway's collateral is about this one.
const MACHINE: u64 = 7;
/// Longest wait for anything.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);
/// The mock model server's answer.
pub(crate) const ANSWER: &str = r#"{"id":"c","object":"chat.completion","created":1,"model":"mock","choices":[{"index":0,"message":{"role":"assistant","content":"four"},"finish_reason":"stop"}],"usage":{"prompt_tokens":5,"completion_tokens":1,"total_tokens":6}}"#;

/// How the worker's machine is.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Machine {
    pub(crate) lie: Option<Misbehave>,
    pub(crate) snp: bool,
    pub(crate) gpu: bool,
}

/// A network with one honest proxy that lets everybody in, so that only the client's own check
/// can notice a lie.
pub(crate) struct Site {
    dir: TempDir,
    for_workers: SocketAddr,
    pub(crate) for_clients: SocketAddr,
    /// Nodes check each other, as they do outside of these tests.
    checks: bool,
    proxy_machine: Machine,
    proxy: Option<(Stop, JoinHandle<()>)>,
}

/// A worker and a gateway of a site.
pub(crate) struct Pair {
    stop: Stop,
    network: Network,
    worker: JoinHandle<()>,
    gateway: JoinHandle<()>,
    served: Arc<Served>,
    pub(crate) url: String,
    pub(crate) config: PathBuf,
}

/// What came to a model server.
#[derive(Default)]
struct Served {
    posts: AtomicUsize,
    last: Mutex<String>,
}

#[derive(Serialize)]
struct GatewayNode {
    http: GatewayConfig,
    network: ClientConfig,
}

/// An address that stays free until its node has it: of the whole net of loopback addresses this
/// process uses one of its own.
pub(crate) fn free() -> SocketAddr {
    let [_, high, middle, low] = std::process::id().to_be_bytes();
    let own = Ipv4Addr::new(127, high | 64, middle, low);
    TcpListener::bind((own, 0)).unwrap().local_addr().unwrap()
}

pub(crate) fn address(byte: u8) -> Address {
    Address::new(0, [byte; 32])
}

impl Site {
    pub(crate) async fn start() -> Self {
        let mut site = Self::found(Machine::default(), false);
        site.start_proxy(|_| {}).await;
        site
    }

    /// A network whose nodes check each other; its proxy runs on this machine.
    pub(crate) async fn checking(proxy: Machine) -> Self {
        let mut site = Self::found(proxy, true);
        site.start_proxy(|_| {}).await;
        site
    }

    fn found(proxy_machine: Machine, checks: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (for_workers, for_clients) = (free(), free());
        let site = Self { dir, for_workers, for_clients, checks, proxy_machine, proxy: None };
        site.write_registry(&site.registry(), for_clients);
        site
    }

    /// Starts the proxy, in place of the one that runs.
    pub(crate) async fn start_proxy(&mut self, change: impl FnOnce(&mut ProxyConfig)) {
        if let Some((stop, ended)) = self.proxy.take() {
            stop.now();
            tokio::time::timeout(DEADLINE, ended).await.expect("in time").unwrap();
        }
        let mut config = ProxyConfig {
            owner: address(1).to_string(),
            listen_workers: self.for_workers,
            listen_clients: self.for_clients,
            work_bits: 4,
            evidence: self.evidence(PROXY_IMAGE, 1, self.proxy_machine),
            network_file: self.registry(),
            root: address(9).to_string(),
            is_test: true,
            check_worker_images: self.checks,
            data_dir: self.path("proxy"),
            http: None,
            drain_s: 0,
            ..ProxyConfig::default()
        };
        change(&mut config);
        let stop = Stop::new();
        let asked = stop.clone();
        let run = async move { cocoon_proxy::run(config, asked).await.unwrap() };
        self.proxy = Some((stop, tokio::spawn(run)));
    }

    /// Starts a worker on this machine, and a gateway whose collateral is about it.
    pub(crate) async fn pair(&self, name: &str, machine: Machine) -> Pair {
        self.pair_with(name, machine, |_, _| {}).await
    }

    /// The same with other settings of worker and gateway.
    pub(crate) async fn pair_with(
        &self,
        name: &str,
        machine: Machine,
        change: impl FnOnce(&mut WorkerConfig, &mut ClientConfig),
    ) -> Pair {
        let stop = Stop::new();
        let served = Arc::new(Served::default());
        let model_server = model_server(Arc::clone(&served)).await;
        let mut worker = WorkerConfig {
            owner: address(4).to_string(),
            model: MODEL.into(),
            forward_to: format!("http://{model_server}"),
            network_file: self.registry(),
            root: address(9).to_string(),
            is_test: true,
            check_proxy_images: self.checks,
            evidence: self.evidence(WORKER_IMAGE, MACHINE, machine),
            data_dir: self.path(&format!("{name}-worker")),
            http: None,
            drain_s: 0,
            ..WorkerConfig::default()
        };
        let listen = free();
        let http = GatewayConfig { listen, ..GatewayConfig::default() };
        // A gateway that looks at nobody's evidence tells of its worker's collateral; one that checks
        // does not lie itself.
        let lie = machine.lie.filter(|_| !self.checks);
        let mut network = ClientConfig {
            wallet: address(5).to_raw(),
            network_file: self.registry(),
            root: address(9).to_string(),
            is_test: true,
            check_proxy_images: self.checks,
            evidence: self.evidence("proof-gateway", MACHINE, Machine { lie, ..machine }),
            data_dir: self.path(&format!("{name}-gateway")),
            ..ClientConfig::default()
        };
        change(&mut worker, &mut network);
        let worker_stop = stop.clone();
        let worker = tokio::spawn(async move {
            cocoon_worker::serve(&worker, &worker_stop).await.unwrap();
        });
        let config = self.path(&format!("{name}-gateway.toml"));
        let node = GatewayNode { http: http.clone(), network: network.clone() };
        std::fs::write(&config, toml::to_string_pretty(&node).unwrap()).unwrap();
        let network = Network::start(&network, &stop).unwrap();
        let server = Server::bind(http, Arc::new(network.clone())).await.unwrap();
        let gateway_stop = stop.clone();
        let gateway = tokio::spawn(async move { server.run(gateway_stop.asked()).await });
        let url = format!("http://{listen}");
        Pair { stop, network, worker, gateway, served, url, config }
    }

    pub(crate) fn evidence(&self, image: &str, number: u64, machine: Machine) -> EvidenceConfig {
        EvidenceConfig::Simulated {
            roots: self.path("roots"),
            image: image.to_owned(),
            machine: number,
            gpu: machine.gpu,
            snp: machine.snp,
            misbehave: machine.lie,
            dangerous_unchecked_peers: !self.checks,
        }
    }

    /// Writes a registry that lists the images of machines of both makers, and this port of the
    /// proxy for clients.
    pub(crate) fn write_registry(&self, path: &Path, for_clients: SocketAddr) {
        let roots = self.path("roots");
        let listed = |image: &str| {
            let both =
                [simulated_image_hash(&roots, image).unwrap(), snp_image_hash(&roots, image)];
            both.map(|hash| PublicKey(hash).to_base64())
        };
        let models = [MODEL, OTHER_MODEL]
            .map(|name| PublicKey(ModelName::new(name).unwrap().hash()).to_base64());
        let network = serde_json::json!({
            "@type": "rootConfig.pseudo",
            "proxy_hashes": listed(PROXY_IMAGE),
            "worker_hashes": listed(WORKER_IMAGE),
            "model_hashes": models,
            "registered_proxies": [{
                "@type": "rootConfig.registeredProxy",
                "seqno": 1,
                "address": format!("{} {for_clients}", self.for_workers),
            }],
            "last_proxy_seqno": 1,
            "price_per_token": 20,
            "worker_fee_per_token": 19,
            "version": 3,
            "params_version": 1,
            "root_owner_address": address(9).to_string(),
        });
        std::fs::write(path, network.to_string()).unwrap();
    }

    pub(crate) fn registry(&self) -> PathBuf {
        self.path("network.json")
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if let Some((stop, _)) = &self.proxy {
            stop.now();
        }
    }
}

fn snp_image_hash(roots: &Path, image: &str) -> [u8; 32] {
    use cocoon_attest::snp::SnpProduct;
    use cocoon_evidence::sim::{DevPki, SimulatedPlatform, SimulatedPlatformForm};
    let now_s = cocoon_host::clock::now_ms() / 1000;
    let pki = DevPki::load_or_generate(roots, now_s).unwrap();
    let form = SimulatedPlatformForm {
        snp: Some(SnpProduct::Genoa),
        image: image.to_owned(),
        ..SimulatedPlatformForm::default()
    };
    SimulatedPlatform::boot(Arc::new(pki), form).unwrap().image_hash().0
}

impl Pair {
    /// Waits until the worker can be asked.
    pub(crate) async fn ready(&self) {
        let offered = async {
            loop {
                if self.network.models().await.is_ok_and(|models| !models.is_empty()) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(DEADLINE, offered).await.expect("a worker in time");
    }

    /// Requests that came to this worker's model server.
    pub(crate) fn posts(&self) -> usize {
        self.served.posts.load(Ordering::SeqCst)
    }

    /// The body of the last of them.
    pub(crate) fn last_body(&self) -> String {
        self.served.last.lock().unwrap().clone()
    }

    /// Models that somebody serves now.
    pub(crate) async fn models(&self) -> usize {
        self.network.models().await.map_or(0, |models| models.len())
    }

    pub(crate) async fn end(self) {
        self.stop.now();
        self.gateway.await.unwrap();
        self.network.close().await;
        self.worker.await.unwrap();
    }

    /// Runs the command itself.
    pub(crate) async fn cocoon(&self, arguments: &[&str]) -> Output {
        let arguments: Vec<String> = arguments.iter().map(|&text| text.to_owned()).collect();
        let config = self.config.display().to_string();
        let run = tokio::task::spawn_blocking(move || {
            std::process::Command::new(env!("CARGO_BIN_EXE_cocoon"))
                .args(&arguments)
                .args(["--gateway-config", &config])
                .output()
                .unwrap()
        });
        tokio::time::timeout(DEADLINE, run).await.expect("in time").unwrap()
    }

    /// Asks the gateway; the head's lines in lower case, and the body.
    pub(crate) async fn chat(&self, body: &str, headers: &str) -> (String, String) {
        let host = self.url.trim_start_matches("http://");
        let mut tcp = tokio::net::TcpStream::connect(host).await.unwrap();
        let request = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n{headers}\r\n{body}",
            body.len()
        );
        tcp.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        let read = tcp.read_to_string(&mut answer);
        tokio::time::timeout(DEADLINE, read).await.expect("in time").unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.to_ascii_lowercase(), body.to_owned())
    }
}

/// A page of a node, without its head; nothing while the node does not listen.
pub(crate) async fn page(at: SocketAddr, path: &str) -> Option<String> {
    let mut tcp = tokio::net::TcpStream::connect(at).await.ok()?;
    let ask = format!("GET {path} HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n");
    tcp.write_all(ask.as_bytes()).await.ok()?;
    let mut text = String::new();
    tcp.read_to_string(&mut text).await.ok()?;
    Some(text.split_once("\r\n\r\n")?.1.to_owned())
}

/// Answers every POST with [`ANSWER`] and everything else with an empty list.
async fn model_server(served: Arc<Served>) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            tokio::spawn(serve(tcp, Arc::clone(&served)));
        }
    });
    address
}

async fn serve(mut tcp: tokio::net::TcpStream, served: Arc<Served>) -> std::io::Result<()> {
    let mut seen = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let head_len = loop {
            if let Some(at) = seen.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            match tcp.read(&mut piece).await? {
                0 => return Ok(()),
                len => seen.extend_from_slice(&piece[..len]),
            }
        };
        let head = String::from_utf8_lossy(&seen[..head_len]).to_ascii_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let whole = head_len + length.map_or(0, |text| text.trim().parse().unwrap_or(0));
        while seen.len() < whole {
            match tcp.read(&mut piece).await? {
                0 => return Ok(()),
                len => seen.extend_from_slice(&piece[..len]),
            }
        }
        if head.starts_with("post") {
            let body = String::from_utf8_lossy(&seen[head_len..whole]).into_owned();
            *served.last.lock().unwrap() = body;
            served.posts.fetch_add(1, Ordering::SeqCst);
        }
        seen.drain(..whole);
        let body = if head.starts_with("post") { ANSWER } else { r#"{"object":"list","data":[]}"# };
        // The nonce of a receipt is between client and worker.
        assert!(!head.contains("x-cocoon-nonce"));
        let answer = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        tcp.write_all(answer.as_bytes()).await?;
    }
}
