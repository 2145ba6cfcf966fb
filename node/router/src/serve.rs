//! Ports and connections.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cocoon_host::config::ConfigFault;
use cocoon_host::peers::Presence;
use cocoon_host::{Stop, clock};
use cocoon_link::{Gate, Pass, PortLimits};
use cocoon_ratls::{
    Acceptor, CollateralSource, Connector, CredentialsHolder, PeerCertificate, PeerPolicy, Secured,
    Security,
};
use cocoon_role_router::{
    Destination, Ends, PortMode, PortSpec, RouterFault, SocksServer, SocksStep, reply, word,
};
use cocoon_wire::peer_info::Line;
use thiserror::Error;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::collateral::Fetched;
use crate::config::{LineConfig, RouterConfig, RouterLimits};
use crate::credentials::Pair;
use crate::judge::Judges;
use crate::pump::{Ended, PumpLimits, pump};

/// Pause when the system gives no more sockets.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A router that cannot run.
#[derive(Debug, Error)]
pub enum RunFault {
    /// The user's configuration.
    #[error(transparent)]
    Config(#[from] ConfigFault),
    /// The user's policies or ports.
    #[error(transparent)]
    Router(#[from] RouterFault),
    /// Certificate and key.
    #[error("certificate: {0}")]
    Certificate(String),
    /// A port cannot be opened.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
}

/// What happened since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Connections that came.
    pub accepted: u64,
    /// Turned away because a port or an address had its share.
    pub turned_away: u64,
    /// Ended before the peer was known: SOCKS, TCP, work, TLS or policy.
    pub failed: u64,
    /// Carried bytes.
    pub opened: u64,
    /// Ended because somebody did not take bytes or said nothing for too long.
    pub timed_out: u64,
    /// Ended, however.
    pub closed: u64,
}

#[derive(Debug, Default)]
struct Counters {
    accepted: AtomicU64,
    turned_away: AtomicU64,
    failed: AtomicU64,
    opened: AtomicU64,
    timed_out: AtomicU64,
    closed: AtomicU64,
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// A router that runs.
#[derive(Debug)]
pub struct Running {
    /// Where it listens, in the order of the configuration's ports.
    pub ports: Vec<SocketAddr>,
    counters: Arc<Counters>,
    ended: tokio::task::JoinHandle<()>,
}

impl Running {
    /// What happened until now.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            accepted: of(&self.counters.accepted),
            turned_away: of(&self.counters.turned_away),
            failed: of(&self.counters.failed),
            opened: of(&self.counters.opened),
            timed_out: of(&self.counters.timed_out),
            closed: of(&self.counters.closed),
        }
    }

    /// Waits for the end.
    pub async fn ended(self) {
        if let Err(fault) = self.ended.await
            && fault.is_panic()
        {
            std::panic::resume_unwind(fault.into_panic());
        }
    }
}

/// Runs a router until `stop`: then nobody new comes in, and open connections get the configured
/// time to end.
///
/// # Errors
/// [`RunFault`] says what to correct.
pub async fn run(config: &RouterConfig, stop: &Stop) -> Result<(), RunFault> {
    start(config, stop).await?.ended().await;
    Ok(())
}

/// Starts a router; when this returns, its ports are open.
///
/// # Errors
/// [`RunFault`] says what to correct; nothing runs then.
pub async fn start(config: &RouterConfig, stop: &Stop) -> Result<Running, RunFault> {
    let table = config.check()?;
    let seed = cocoon_host::keys::fresh();
    let presence = Presence::start(&seed, &config.evidence, stop).map_err(RunFault::Certificate)?;
    let credentials = credentials(config, &presence, stop)?;
    let collateral: Arc<dyn CollateralSource> = match presence.collateral() {
        Some(simulated) => simulated,
        None if config.collateral_url.is_empty() => Arc::new(cocoon_attest::Collateral::default()),
        None => Arc::new(Fetched::new(&config.collateral_url).map_err(RunFault::Certificate)?),
    };
    let mut judges = Judges::new(table, presence.roots(), collateral);
    let mut listening = Vec::with_capacity(config.ports.len());
    for spec in &config.ports {
        let policy = judges.of_port(&spec.policy)?;
        listening.push((spec, policy, bind(config, spec).await?));
    }
    let (judges, counters) = (Arc::new(judges), Arc::new(Counters::default()));
    let (tasks, cut) = (TaskTracker::new(), CancellationToken::new());
    let mut ports = Vec::with_capacity(listening.len());
    for (spec, policy, (address, socket)) in listening {
        ports.push(address);
        tracing::info!(%address, policy = spec.policy, mode = ?spec.mode, "router listens");
        let port = Arc::new(Port {
            spec: spec.clone(),
            policy,
            judges: Arc::clone(&judges),
            credentials: credentials.clone(),
            config: config.clone(),
            gate: Gate::new(limits(&config.limits, &spec.mode)),
            counters: Arc::clone(&counters),
            cut: cut.clone(),
            tasks: tasks.clone(),
        });
        tasks.spawn(port.accept(socket, stop.clone()));
    }
    let (stop, drain) = (stop.clone(), Duration::from_secs(config.drain_s));
    let ended = tokio::spawn(async move {
        stop.asked().await;
        tasks.close();
        if tokio::time::timeout(drain, tasks.wait()).await.is_err() {
            tracing::warn!(connections = tasks.len(), "drain time is over, closing what is open");
            cut.cancel();
            tasks.wait().await;
        }
    });
    Ok(Running { ports, counters, ended })
}

fn credentials(
    config: &RouterConfig,
    presence: &Presence,
    stop: &Stop,
) -> Result<CredentialsHolder, RunFault> {
    if config.cert_base_name.is_empty() {
        return Ok(presence.credentials());
    }
    let pair = Pair::new(&config.cert_base_name);
    let holder = CredentialsHolder::new(pair.read().map_err(RunFault::Certificate)?);
    let every = Duration::from_secs(config.reload_every_s);
    tokio::spawn(pair.reload(holder.clone(), every, stop.clone()));
    Ok(holder)
}

async fn bind(
    config: &RouterConfig,
    spec: &PortSpec,
) -> Result<(SocketAddr, TcpListener), RunFault> {
    let ip = match spec.mode {
        PortMode::Reverse(_) => config.reverse_listen,
        PortMode::Socks5 { .. } | PortMode::Forward(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
    };
    let address = SocketAddr::new(ip, spec.port);
    let fault = |source| RunFault::Listen { address, source };
    let socket = TcpListener::bind(address).await.map_err(fault)?;
    Ok((socket.local_addr().map_err(fault)?, socket))
}

fn limits(limits: &RouterLimits, mode: &PortMode) -> PortLimits {
    let connections_max = limits.connections;
    match mode {
        PortMode::Reverse(_) => PortLimits {
            connections_max,
            connections_per_address_max: limits.connections_per_address,
            handshakes_max: limits.handshakes,
            handshakes_per_address_max: limits.handshakes_per_address,
        },
        // All programs here share one address.
        PortMode::Socks5 { .. } | PortMode::Forward(_) => PortLimits {
            connections_max,
            connections_per_address_max: connections_max,
            handshakes_max: connections_max,
            handshakes_per_address_max: connections_max,
        },
    }
}

struct Port {
    spec: PortSpec,
    policy: Arc<dyn PeerPolicy>,
    judges: Arc<Judges>,
    credentials: CredentialsHolder,
    config: RouterConfig,
    gate: Arc<Gate>,
    counters: Arc<Counters>,
    cut: CancellationToken,
    tasks: TaskTracker,
}

/// Why a connection did not come to carry bytes. For the log.
type Failure = String;

impl Port {
    async fn accept(self: Arc<Self>, socket: TcpListener, stop: Stop) {
        loop {
            let accepted = tokio::select! {
                () = stop.asked() => return,
                accepted = socket.accept() => accepted,
            };
            let (tcp, remote) = match accepted {
                Ok(accepted) => accepted,
                Err(fault) => {
                    tracing::warn!(%fault, "cannot accept; trying again");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            count(&self.counters.accepted);
            match self.gate.enter(remote.ip()) {
                Ok(pass) => {
                    self.tasks.spawn(Arc::clone(&self).serve(tcp, remote, pass));
                }
                // The socket closes without a word: a flood gets no work out of us.
                Err(_) => count(&self.counters.turned_away),
            }
        }
    }

    async fn serve(self: Arc<Self>, tcp: TcpStream, remote: SocketAddr, pass: Pass) {
        // Fails only on a socket that is gone already, which the next read tells.
        let _ = tcp.set_nodelay(true);
        let served = async {
            match &self.spec.mode {
                PortMode::Socks5 { policy_from_username } => {
                    self.socks(tcp, *policy_from_username, pass).await
                }
                PortMode::Forward(to) => self.forward(tcp, to, pass).await,
                PortMode::Reverse(to) => self.reverse(tcp, remote, to, pass).await,
            }
        };
        let ended = tokio::select! {
            ended = Box::pin(served) => ended,
            () = self.cut.cancelled() => Ok(Ended::Broken),
        };
        match ended {
            Ok(Ended::Stalled | Ended::Idle) => count(&self.counters.timed_out),
            Ok(Ended::Whole | Ended::Broken) => {}
            Err(failure) => {
                count(&self.counters.failed);
                tracing::debug!(port = self.spec.port, %remote, failure, "connection failed");
            }
        }
        count(&self.counters.closed);
    }

    /// A program says where it wants to go.
    async fn socks(
        &self,
        mut app: TcpStream,
        take_user: bool,
        pass: Pass,
    ) -> Result<Ended, Failure> {
        let mut server = SocksServer::new(take_user);
        let asked = within(self.config.limits.socks_ms, "the SOCKS request", async {
            converse(&mut app, &mut server).await
        });
        let (target, user) = asked.await?;
        let policy = match user {
            None => Some(Arc::clone(&self.policy)),
            Some(user) if user.is_empty() => Some(Arc::clone(&self.policy)),
            Some(user) => self.judges.of_user(&user),
        };
        let Some(policy) = policy else {
            refuse(&mut app, reply::NOT_ALLOWED).await;
            return Err("no policy of the user's name".to_owned());
        };
        let net = match self.dial(target.into()).await {
            Ok(net) => net,
            Err(failure) => {
                refuse(&mut app, reply::HOST_UNREACHABLE).await;
                return Err(failure);
            }
        };
        // Granted means connected; whether the peer is admitted shows by the word, or the end.
        let bound = match net.local_addr() {
            Ok(SocketAddr::V4(bound)) => bound,
            _ => SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0),
        };
        app.write_all(&SocksServer::granted(bound)).await.map_err(text)?;
        let first = server.rest();
        self.outgoing(app, net, policy, &first, pass).await
    }

    /// A program that comes out at a fixed place.
    async fn forward(
        &self,
        app: TcpStream,
        to: &Destination,
        pass: Pass,
    ) -> Result<Ended, Failure> {
        let target = self.look_up(to).await?;
        let net = self.dial(target).await?;
        self.outgoing(app, net, Arc::clone(&self.policy), &[], pass).await
    }

    async fn outgoing(
        &self,
        mut app: TcpStream,
        net: TcpStream,
        policy: Arc<dyn PeerPolicy>,
        first: &[u8],
        mut pass: Pass,
    ) -> Result<Ended, Failure> {
        let ends = Ends {
            source: net.local_addr().map_err(text)?,
            destination: net.peer_addr().map_err(text)?,
        };
        let mut connector = Connector::new(self.security(policy));
        connector.work_bits_max = self.spec.work_bits_max.unwrap_or(self.config.work_bits_max);
        connector.deadline = Duration::from_millis(self.config.limits.dial_ms);
        let peer = tokio::select! {
            peer = connector.connect(net) => peer.map_err(text)?,
            // A program that gave up wants no work done.
            () = gone(&app) => return Err("the program left".to_owned()),
        };
        self.tell(&mut app, &peer, ends).await?;
        pass.handshake_over();
        count(&self.counters.opened);
        Ok(pump(app, peer.stream, first, self.pump_limits()).await)
    }

    /// A peer of the network comes in.
    async fn reverse(
        &self,
        net: TcpStream,
        remote: SocketAddr,
        to: &Destination,
        mut pass: Pass,
    ) -> Result<Ended, Failure> {
        let ends = Ends { source: remote, destination: net.local_addr().map_err(text)? };
        let mut acceptor = Acceptor::new(self.security(Arc::clone(&self.policy)));
        acceptor.work_bits = self.spec.work_bits.unwrap_or(self.config.work_bits);
        acceptor.deadline = Duration::from_millis(self.config.limits.accept_ms);
        let peer = acceptor.accept(net).await.map_err(text)?;
        let target = self.look_up(to).await?;
        let mut app = self.dial(target).await?;
        self.tell(&mut app, &peer, ends).await?;
        pass.handshake_over();
        count(&self.counters.opened);
        Ok(pump(app, peer.stream, &[], self.pump_limits()).await)
    }

    fn security(&self, policy: Arc<dyn PeerPolicy>) -> Security {
        let mut security = Security::new(self.credentials.clone(), policy);
        security.clock = cocoon_ratls::Clock::new(|| clock::now_ms() / 1000);
        security
    }

    async fn look_up(&self, to: &Destination) -> Result<SocketAddr, Failure> {
        let found = tokio::net::lookup_host((to.host.as_str(), to.port));
        within(self.config.limits.connect_ms, "the name", async {
            let mut found = found.await.map_err(text)?;
            found.next().ok_or_else(|| format!("{} has no address", to.host))
        })
        .await
    }

    async fn dial(&self, target: SocketAddr) -> Result<TcpStream, Failure> {
        let connected = within(self.config.limits.connect_ms, "connecting", async {
            TcpStream::connect(target).await.map_err(|fault| format!("{target}: {fault}"))
        });
        let tcp = connected.await?;
        let _ = tcp.set_nodelay(true);
        Ok(tcp)
    }

    /// Tells the program who its peer is, where the port says so.
    async fn tell(
        &self,
        app: &mut TcpStream,
        peer: &Secured<TcpStream>,
        ends: Ends,
    ) -> Result<(), Failure> {
        if !self.spec.serialize_info {
            return Ok(());
        }
        let key = peer.identity.public_key.ok_or("a peer without a key")?;
        let (_, tls) = peer.stream.get_ref();
        let shown = tls.peer_certificates().and_then(|list| list.first());
        let is_sev = shown
            .and_then(|der| PeerCertificate::read(der).ok())
            .is_some_and(|read| read.evidence.claims_sev());
        let line = match self.config.line {
            LineConfig::Base => Line::Base,
            LineConfig::Live => Line::Live,
        };
        let verdict = peer.identity.verdict.as_deref();
        let blob = word(verdict, (&key, is_sev), ends, line).map_err(text)?;
        within(self.config.limits.stall_ms, "the word", async {
            app.write_all(&blob).await.map_err(text)
        })
        .await
    }

    fn pump_limits(&self) -> PumpLimits {
        let limits = &self.config.limits;
        PumpLimits {
            stall: Duration::from_millis(limits.stall_ms),
            half_closed: Duration::from_millis(limits.half_closed_ms),
            idle: Duration::from_millis(limits.idle_ms),
        }
    }
}

/// Talks SOCKS until the program has said where it wants to go.
async fn converse(
    app: &mut TcpStream,
    server: &mut SocksServer,
) -> Result<(SocketAddrV4, Option<Vec<u8>>), Failure> {
    let mut bytes = [0; 600];
    loop {
        match server.step() {
            SocksStep::More => {
                let room = server.room().min(bytes.len());
                let place = bytes.get_mut(..room).unwrap_or_default();
                let count = app.read(place).await.map_err(text)?;
                if count == 0 {
                    return Err("the program left".to_owned());
                }
                server.push(bytes.get(..count).unwrap_or_default());
            }
            SocksStep::Write(message) => app.write_all(&message).await.map_err(text)?,
            SocksStep::Connect { target, user } => return Ok((target, user)),
            SocksStep::Refuse(message, fault) => {
                // The reason is told; whether it is heard does not matter.
                let _ = app.write_all(&message).await;
                return Err(fault.to_string());
            }
        }
    }
}

async fn refuse(app: &mut TcpStream, code: u8) {
    // The reason is told; whether it is heard does not matter.
    let _ = app.write_all(&SocksServer::refused(code)).await;
}

/// Ends when the program is gone; its first bytes stay unread.
async fn gone(app: &TcpStream) {
    let mut byte = [0];
    if matches!(app.peek(&mut byte).await, Ok(0) | Err(_)) {
        return;
    }
    // It has sent something already: what follows is found when it is read.
    std::future::pending::<()>().await;
}

async fn within<T>(
    limit_ms: u64,
    what: &str,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let limit = Duration::from_millis(limit_ms);
    match tokio::time::timeout(limit, work).await {
        Ok(done) => done,
        Err(_) => Err(format!("{what} took longer than {limit_ms} ms")),
    }
}

fn text(fault: impl std::fmt::Display) -> Failure {
    fault.to_string()
}
