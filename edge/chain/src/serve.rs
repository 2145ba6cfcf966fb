//! A whole local network as one call: machine, clock, directory, servers.

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::NodeFault;
use crate::http;
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
}

/// A local network that runs.
pub struct Serving {
    /// The chain, for use in this process.
    pub node: LocalNode,
    /// Where the HTTP interface listens.
    pub http: SocketAddr,
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
        let (listener, http) = listen(config.http).await?;
        let tasks = vec![tokio::spawn(serve_http(listener, node.clone(), stopped))];
        Ok(Self { node, http, stop, tasks })
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

async fn serve_http(listener: TcpListener, node: LocalNode, mut stopped: watch::Receiver<bool>) {
    let service = http::router(node).into_make_service_with_connect_info::<SocketAddr>();
    let shutdown = async move {
        let _gone = stopped.wait_for(|stopped| *stopped).await;
    };
    if let Err(error) = axum::serve(listener, service).with_graceful_shutdown(shutdown).await {
        tracing::error!(%error, "the HTTP interface stops");
    }
}
