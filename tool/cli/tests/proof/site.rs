//! A small network on sockets of this machine: a proxy, workers on simulated machines, a gateway.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
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
const PROXY_IMAGE: &str = "proof-proxy";
const WORKER_IMAGE: &str = "proof-worker";
/// Number of the machine that lies. The gateway's collateral is about this one.
const MACHINE: u64 = 7;
/// Longest wait for anything.
const DEADLINE: Duration = Duration::from_secs(60);
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
    for_clients: SocketAddr,
    stop: Stop,
}

/// A worker and a gateway of a site.
pub(crate) struct Pair {
    stop: Stop,
    network: Network,
    worker: JoinHandle<()>,
    gateway: JoinHandle<()>,
    posts: Arc<AtomicUsize>,
    pub(crate) url: String,
    pub(crate) config: PathBuf,
}

#[derive(Serialize)]
struct GatewayNode {
    http: GatewayConfig,
    network: ClientConfig,
}

fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn address(byte: u8) -> Address {
    Address::new(0, [byte; 32])
}

impl Site {
    pub(crate) async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (for_workers, for_clients) = (free(), free());
        let site = Self { stop: Stop::new(), dir, for_workers, for_clients };
        site.write_registry();
        let config = ProxyConfig {
            owner: address(1).to_string(),
            listen_workers: for_workers,
            listen_clients: for_clients,
            work_bits: 4,
            evidence: site.evidence(PROXY_IMAGE, 1, Machine::default()),
            network_file: site.registry(),
            root: address(9).to_string(),
            is_test: true,
            check_worker_images: false,
            data_dir: site.path("proxy"),
            http: None,
            drain_s: 0,
            ..ProxyConfig::default()
        };
        let stop = site.stop.clone();
        tokio::spawn(async move { cocoon_proxy::run(config, stop).await.unwrap() });
        site
    }

    /// Starts a worker on this machine, and a gateway whose collateral is about it.
    pub(crate) async fn pair(&self, name: &str, machine: Machine) -> Pair {
        let stop = Stop::new();
        let posts = Arc::default();
        let model_server = model_server(Arc::clone(&posts)).await;
        let worker = WorkerConfig {
            owner: address(4).to_string(),
            model: MODEL.into(),
            forward_to: format!("http://{model_server}"),
            network_file: self.registry(),
            root: address(9).to_string(),
            is_test: true,
            check_proxy_images: false,
            evidence: self.evidence(WORKER_IMAGE, MACHINE, machine),
            data_dir: self.path(&format!("{name}-worker")),
            http: None,
            drain_s: 0,
            ..WorkerConfig::default()
        };
        let worker_stop = stop.clone();
        let worker = tokio::spawn(async move {
            cocoon_worker::serve(&worker, &worker_stop).await.unwrap();
        });
        let listen = free();
        let http = GatewayConfig { listen, ..GatewayConfig::default() };
        let network = ClientConfig {
            wallet: address(5).to_raw(),
            network_file: self.registry(),
            root: address(9).to_string(),
            is_test: true,
            check_proxy_images: false,
            evidence: self.evidence("proof-gateway", MACHINE, machine),
            data_dir: self.path(&format!("{name}-gateway")),
            ..ClientConfig::default()
        };
        let config = self.path(&format!("{name}-gateway.toml"));
        let node = GatewayNode { http: http.clone(), network: network.clone() };
        std::fs::write(&config, toml::to_string_pretty(&node).unwrap()).unwrap();
        let network = Network::start(&network, &stop).unwrap();
        let server = Server::bind(http, Arc::new(network.clone())).await.unwrap();
        let gateway_stop = stop.clone();
        let gateway = tokio::spawn(async move { server.run(gateway_stop.asked()).await });
        let url = format!("http://{listen}");
        Pair { stop, network, worker, gateway, posts, url, config }
    }

    fn evidence(&self, image: &str, number: u64, machine: Machine) -> EvidenceConfig {
        EvidenceConfig::Simulated {
            roots: self.path("roots"),
            image: image.to_owned(),
            machine: number,
            gpu: machine.gpu,
            snp: machine.snp,
            misbehave: machine.lie,
            dangerous_unchecked_peers: true,
        }
    }

    /// Lists the images that both kinds of worker machines boot.
    fn write_registry(&self) {
        let hash = |image: &str| simulated_image_hash(&self.path("roots"), image).unwrap();
        let text = |hash: [u8; 32]| PublicKey(hash).to_base64();
        let snp = snp_image_hash(&self.path("roots"));
        let network = serde_json::json!({
            "@type": "rootConfig.pseudo",
            "proxy_hashes": [text(hash(PROXY_IMAGE))],
            "worker_hashes": [text(hash(WORKER_IMAGE)), text(snp)],
            "model_hashes": [text(ModelName::new(MODEL).unwrap().hash())],
            "registered_proxies": [{
                "@type": "rootConfig.registeredProxy",
                "seqno": 1,
                "address": format!("{} {}", self.for_workers, self.for_clients),
            }],
            "last_proxy_seqno": 1,
            "price_per_token": 20,
            "worker_fee_per_token": 19,
            "version": 3,
            "params_version": 1,
            "root_owner_address": address(9).to_string(),
        });
        std::fs::write(self.registry(), network.to_string()).unwrap();
    }

    fn registry(&self) -> PathBuf {
        self.path("network.json")
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.stop.now();
    }
}

fn snp_image_hash(roots: &Path) -> [u8; 32] {
    use cocoon_attest::snp::SnpProduct;
    use cocoon_evidence::sim::{DevPki, SimulatedPlatform, SimulatedPlatformForm};
    let now_s = cocoon_host::clock::now_ms() / 1000;
    let pki = DevPki::load_or_generate(roots, now_s).unwrap();
    let form = SimulatedPlatformForm {
        snp: Some(SnpProduct::Genoa),
        image: WORKER_IMAGE.to_owned(),
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
        self.posts.load(Ordering::SeqCst)
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

/// Answers every POST with [`ANSWER`] and everything else with an empty list.
async fn model_server(posts: Arc<AtomicUsize>) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            tokio::spawn(serve(tcp, Arc::clone(&posts)));
        }
    });
    address
}

async fn serve(mut tcp: tokio::net::TcpStream, posts: Arc<AtomicUsize>) -> std::io::Result<()> {
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
        seen.drain(..whole);
        posts.fetch_add(usize::from(head.starts_with("post")), Ordering::SeqCst);
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
