//! A whole local network as one call: machine, clock, directory, servers.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cocoon_http::PageSettings;
use ed25519_dalek::SigningKey;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tycho_types::models::BlockId;

use crate::NodeFault;
use crate::http;
use crate::lite::server as lite_server;
use crate::node::{LocalNode, NodeConfig};

/// How long requests in flight may take to end.
const DRAIN: Duration = Duration::from_secs(3);

/// What a local network offers and where.
#[derive(Clone, Debug)]
pub struct ServeConfig {
    /// The chain.
    pub node: NodeConfig,
    /// Where the HTTP interface listens; port 0 takes a free one.
    pub http: SocketAddr,
    /// Where the lite server listens; `None` for none.
    pub lite: Option<SocketAddr>,
}

/// A local network that runs.
pub struct Serving {
    /// The chain, for use in this process.
    pub node: LocalNode,
    /// Where the HTTP interface listens.
    pub http: SocketAddr,
    /// Where the lite server listens.
    pub lite: Option<SocketAddr>,
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Serving {
    /// Opens the chain and begins to serve.
    ///
    /// # Errors
    /// [`NodeFault`]: the chain cannot be opened or an address cannot be listened on.
    pub async fn start(config: &ServeConfig) -> Result<Self, NodeFault> {
        let node = LocalNode::open(&config.node)?;
        let (stop, stopped) = watch::channel(false);
        let mut tasks = Vec::new();
        let mut lite = None;
        if let Some(address) = config.lite {
            let (listener, bound) = listen(address).await?;
            lite = Some(bound);
            let key = lite_key(&node);
            let server = lite_server::run(listener, node.clone(), key, stopped.clone());
            tasks.push(tokio::spawn(server));
        }
        let (listener, http) = listen(config.http).await?;
        let global = global_config(&node, lite);
        tasks.push(tokio::spawn(serve_http(listener, node.clone(), global, stopped)));
        Ok(Self { node, http, lite, stop, tasks })
    }

    /// The network's configuration file in the form published for TON's networks, from which
    /// light clients start. The HTTP interface gives it as `/global.config.json`.
    #[must_use]
    pub fn global_config(&self) -> String {
        global_config(&self.node, self.lite)
    }

    /// Stops serving: requests in flight are answered, then the chain is saved.
    ///
    /// # Errors
    /// [`NodeFault::File`] when the chain cannot be saved; its log still holds everything.
    pub async fn stop(self) -> Result<(), NodeFault> {
        self.stop.send_replace(true);
        for mut task in self.tasks {
            // A task that panicked has said so already; one that waits for a peer is cut off.
            if tokio::time::timeout(DRAIN, &mut task).await.is_err() {
                task.abort();
            }
        }
        self.node.save()
    }
}

/// Serves a local network until `shutdown` completes.
///
/// # Errors
/// As [`Serving::start`] and [`Serving::stop`].
pub async fn serve(
    config: &ServeConfig,
    shutdown: impl Future<Output = ()>,
) -> Result<(), NodeFault> {
    let serving = Serving::start(config).await?;
    tracing::info!(http = %serving.http, "local chain is up");
    shutdown.await;
    serving.stop().await
}

async fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr), NodeFault> {
    let fault = |source| NodeFault::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(fault)?;
    let bound = listener.local_addr().map_err(fault)?;
    Ok((listener, bound))
}

async fn serve_http(
    listener: TcpListener,
    node: LocalNode,
    global: String,
    mut stopped: watch::Receiver<bool>,
) {
    let shutdown = async move {
        let _gone = stopped.wait_for(|stopped| *stopped).await;
    };
    let pages = http::router(node, global);
    cocoon_http::serve(listener, pages, PageSettings::default(), shutdown).await;
}

/// The lite server's key comes from the chain's seed, so that configuration files stay good.
fn lite_key(node: &LocalNode) -> SigningKey {
    let mut hasher = Sha256::new();
    hasher.update(b"cocoon local chain: lite server key");
    node.read(|chain| hasher.update(chain.genesis().seed));
    SigningKey::from_bytes(&hasher.finalize().into())
}

fn global_config(node: &LocalNode, lite: Option<SocketAddr>) -> String {
    let key = STANDARD.encode(lite_key(node).verifying_key().as_bytes());
    let servers: Vec<_> = lite
        .iter()
        .map(|address| {
            let ip = match address.ip() {
                IpAddr::V4(ip) => ip.to_bits().cast_signed(),
                // The form knows IPv4 only.
                IpAddr::V6(_) => 0,
            };
            json!({"ip": ip, "port": address.port(), "id": {"@type": "pub.ed25519", "key": key}})
        })
        .collect();
    let block = |id: BlockId| {
        json!({
            "workchain": id.shard.workchain(),
            "shard": id.shard.prefix().cast_signed(),
            "seqno": id.seqno,
            "root_hash": STANDARD.encode(id.root_hash.0),
            "file_hash": STANDARD.encode(id.file_hash.0),
        })
    };
    let (zero, init) =
        node.read(|chain| (chain.zero_states().1.id, chain.master_id(1).unwrap_or_default()));
    let config = json!({
        "@type": "config.global",
        "liteservers": servers,
        "validator": {
            "@type": "validator.config.global",
            "zero_state": block(zero),
            "init_block": block(init),
        },
    });
    config.to_string()
}
