//! The listener: connections in, limits kept, an orderly end.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use cocoon_http::{Crowd, CrowdLimits, Deadlines, Seat, Watched, Work};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use crate::config::{ConfigFault, GatewayConfig, Limits};
use crate::gateway::Gateway;
use crate::keys::KeysFault;
use crate::tls::{self, TlsFault};
use crate::upstream::Upstream;
use crate::vault::VaultFault;

/// Why a gateway cannot start.
#[derive(Debug, thiserror::Error)]
pub enum ServeFault {
    /// The settings cannot hold.
    #[error(transparent)]
    Config(#[from] ConfigFault),
    /// The certificate files cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsFault),
    /// The file of API keys cannot be used.
    #[error(transparent)]
    Keys(#[from] KeysFault),
    /// The files of batches or of kept answers cannot be used.
    #[error(transparent)]
    Vault(#[from] VaultFault),
    /// The address cannot be listened on: another program has it, or it is not ours.
    #[error("cannot listen on {address}: {reason}")]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// The system's reason.
        reason: io::Error,
    },
}

/// Runs a gateway until `shutdown` is ready, then lets running requests end for a while.
pub async fn serve<U: Upstream>(
    config: GatewayConfig,
    upstream: Arc<U>,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), ServeFault> {
    Server::bind(config, upstream).await?.run(shutdown).await;
    Ok(())
}

/// A gateway that listens but does not serve yet.
#[derive(Debug)]
pub struct Server<U> {
    /// Until the server ends.
    listener: Option<TcpListener>,
    address: SocketAddr,
    tls: Option<TlsAcceptorBox>,
    gateway: Arc<Gateway<U>>,
}

/// An acceptor without the noise of its `Debug`.
#[derive(Clone)]
struct TlsAcceptorBox(TlsAcceptor);

impl std::fmt::Debug for TlsAcceptorBox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TlsAcceptor")
    }
}

impl<U: Upstream> Server<U> {
    /// Checks the settings, reads the files and binds the address.
    pub async fn bind(config: GatewayConfig, upstream: Arc<U>) -> Result<Server<U>, ServeFault> {
        config.check()?;
        let tls = config.tls.as_ref().map(tls::acceptor).transpose()?.map(TlsAcceptorBox);
        let wanted = config.listen;
        let fault = |reason| ServeFault::Listen { address: wanted, reason };
        let listener = TcpListener::bind(wanted).await.map_err(fault)?;
        let address = listener.local_addr().map_err(fault)?;
        let gateway = Arc::new(Gateway::new(config, upstream)?);
        Ok(Server { listener: Some(listener), address, tls, gateway })
    }

    /// The address in use; tells the port when 0 was asked for.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `shutdown` is ready. Then no connection is accepted any more but those that the
    /// system holds already, idle ones are closed at once, and running requests may end within
    /// `limits.drain_ms`.
    pub async fn run(mut self, shutdown: impl Future<Output = ()> + Send) {
        let Some(listener) = self.listener.take() else { return };
        let limits = &self.gateway.config().limits;
        let crowd = Crowd::new(crowd_limits(limits));
        let drain = Duration::from_millis(limits.drain_ms);
        let (closing, closed) = watch::channel(Closing::Open);
        let upkeep = tokio::spawn(self.gateway.clone().upkeep());
        let batches = tokio::spawn(self.gateway.clone().run_batches());
        tokio::pin!(shutdown);
        loop {
            let accepted = tokio::select! {
                biased;
                () = &mut shutdown => break,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => self.admit(stream, peer.ip(), &crowd, &closed),
                Err(fault) => {
                    // Out of descriptors or a connection that died in the queue: breathe.
                    tracing::warn!(%fault, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
        self.admit_queued(listener, &crowd, &closed);
        self.gateway.close();
        // Requests of batches run again after a restart; people's requests go first.
        batches.abort();
        closing.send_replace(Closing::Drain);
        drop(closed);
        // Every connection holds a receiver: when the last is gone, all have ended.
        if tokio::time::timeout(drain, closing.closed()).await.is_err() {
            tracing::warn!("requests still ran at the end of the drain time; they are cut off");
            closing.send_replace(Closing::Cut);
            closing.closed().await;
        }
        upkeep.abort();
        self.gateway.flush_keys();
    }

    /// Ends the listener. Whoever the system has let in already is served: the connections in its
    /// queue would be reset with it, and their requests lost.
    fn admit_queued(
        &self,
        listener: TcpListener,
        crowd: &Arc<Crowd>,
        closed: &watch::Receiver<Closing>,
    ) {
        let queued = match listener.into_std() {
            Ok(queued) => queued,
            Err(fault) => return tracing::warn!(%fault, "cannot end the listener in order"),
        };
        // It does not block: an error means that the queue is empty, or that nobody can be let in.
        // No more than may be served at all, so that a flood cannot hold up the end.
        for _ in 0..self.gateway.config().limits.connections {
            let Ok((stream, peer)) = queued.accept() else { break };
            let is_ready = stream.set_nonblocking(true);
            match is_ready.and_then(|()| TcpStream::from_std(stream)) {
                Ok(stream) => self.admit(stream, peer.ip(), crowd, closed),
                Err(fault) => tracing::warn!(%fault, "cannot accept a connection"),
            }
        }
    }

    fn admit(
        &self,
        stream: TcpStream,
        peer: IpAddr,
        crowd: &Arc<Crowd>,
        closed: &watch::Receiver<Closing>,
    ) {
        // Small answers must not wait for more to come.
        let _ = stream.set_nodelay(true);
        // Whoever walks around the proxy learns nothing of what is here.
        let Ok(share) = self.gateway.addresses().share_of(peer) else {
            tracing::warn!(%peer, "refused a connection that is not the trusted proxy's");
            return;
        };
        let Ok(seat) = crowd.enter(share) else {
            self.gateway.metrics().connection_refused();
            // The socket's buffer is empty, so this cannot block; if it fails the user is gone.
            let _ = stream.try_write(FULL_HOUSE);
            return;
        };
        let (gateway, closed) = (self.gateway.clone(), closed.clone());
        let session = Session { gateway, peer, seat, closed };
        match self.tls.clone() {
            None => drop(tokio::spawn(session.run(stream))),
            Some(TlsAcceptorBox(acceptor)) => drop(tokio::spawn(session.run_tls(acceptor, stream))),
        }
    }
}

/// A user who takes nothing of an answer, or sends nothing of a body, for so long gives way to others
/// when the gateway is full.
const SLOW_AFTER: Duration = Duration::from_secs(5);

fn crowd_limits(limits: &Limits) -> CrowdLimits {
    let per_address_max = match limits.connections_per_address {
        0 => usize::MAX,
        some => some,
    };
    CrowdLimits { connections_max: limits.connections, per_address_max, slow_after: SLOW_AFTER }
}

fn deadlines(limits: &Limits) -> Deadlines {
    Deadlines {
        head: Duration::from_millis(limits.head_deadline_ms),
        idle: Duration::from_millis(limits.idle_ms),
        write_stall: Duration::from_millis(limits.write_stall_ms),
    }
}

/// What is sent to a connection above the limit.
const FULL_HOUSE: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\n\
Content-Length: 150\r\nRetry-After: 1\r\nConnection: close\r\n\r\n\
{\"error\":{\"message\":\"This gateway has no room for another connection. Try again in a second.\",\
\"type\":\"api_error\",\"param\":null,\"code\":\"gateway_busy\"}}\n";

/// How far the end of the server has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
enum Closing {
    /// Not begun.
    Open,
    /// No new requests; running ones may end.
    Drain,
    /// Running requests are cut off.
    Cut,
}

/// Waits until the end of the server has come that far.
async fn reached(closed: &mut watch::Receiver<Closing>, stage: Closing) {
    // An error means that the server is gone altogether.
    let _ = closed.wait_for(|closing| *closing >= stage).await;
}

/// Waits until the server ends and the connection has had its first request, or some time for it:
/// that request may be on its way to a connection which has just been let in.
async fn asked_and_closing(work: &Work, closed: &mut watch::Receiver<Closing>) {
    reached(closed, Closing::Drain).await;
    let _ = tokio::time::timeout(FIRST_REQUEST, work.asked()).await;
}

/// How long a gateway that ends waits for the first request of a connection.
const FIRST_REQUEST: Duration = Duration::from_millis(500);

/// One connection's life.
struct Session<U> {
    gateway: Arc<Gateway<U>>,
    peer: IpAddr,
    seat: Seat,
    closed: watch::Receiver<Closing>,
}

impl<U: Upstream> Session<U> {
    async fn run_tls(self, acceptor: TlsAcceptor, stream: TcpStream) {
        let wait = Duration::from_millis(self.gateway.config().limits.head_deadline_ms);
        let accepted = tokio::select! {
            accepted = tokio::time::timeout(wait, acceptor.accept(stream)) => accepted,
            () = self.seat.given_up() => return self.gateway.metrics().connection_given_up(),
        };
        match accepted {
            Ok(Ok(stream)) => self.run(stream).await,
            Ok(Err(fault)) => tracing::debug!(%fault, "a TLS handshake failed"),
            Err(_) => tracing::debug!("a TLS handshake took too long"),
        }
    }

    async fn run<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(mut self, stream: S) {
        let limits = &self.gateway.config().limits;
        let work = self.seat.work().clone();
        let io = TokioIo::new(Watched::new(stream, work.clone(), deadlines(limits)));
        let (gateway, peer) = (self.gateway.clone(), self.peer);
        let begun = work.clone();
        let service = service_fn(move |request| {
            let guard = begun.begin();
            let gateway = gateway.clone();
            async move { Ok::<_, std::convert::Infallible>(gateway.answer(request, peer, guard).await) }
        });
        let connection = http1::Builder::new()
            // Our own adapter keeps the deadlines: hyper's would also end idle connections.
            .header_read_timeout(None)
            .max_headers(limits.head_lines)
            .max_header_size(limits.head_bytes)
            .max_buf_size(limits.head_bytes.max(64 * 1024))
            // Not `pipeline_flush`: with it hyper keeps back its 400 and 431 to broken heads.
            .serve_connection(io, service);
        tokio::pin!(connection);
        let mut cut = self.closed.clone();
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = self.seat.given_up() => {
                self.gateway.metrics().connection_given_up();
                Ok(())
            }
            () = asked_and_closing(&work, &mut self.closed) => {
                connection.as_mut().graceful_shutdown();
                tokio::select! {
                    ended = connection.as_mut() => ended,
                    () = reached(&mut cut, Closing::Cut) => Ok(()),
                }
            }
        };
        if let Err(fault) = ended {
            tracing::debug!(%fault, "a connection ended early");
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_refusal_of_connections_is_well_formed() {
        let text = std::str::from_utf8(super::FULL_HOUSE).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{}", body.len());
        serde_json::from_str::<serde_json::Value>(body).unwrap();
    }
}
