//! Two routers and a program behind: SOCKS and forward on one side, reverse on the other.

use std::net::SocketAddr;
use std::time::Duration;

use cocoon_host::Stop;
use cocoon_role_router::{Destination, PortMode, PortSpec};
use cocoon_router::{RouterConfig, Running, start};
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, TcpStream};

/// A test that waits longer for anything has failed.
const DEADLINE: Duration = Duration::from_secs(60);

pub(crate) async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, Box::pin(work)).await.expect("in time")
}

pub(crate) async fn connect(to: SocketAddr) -> TcpStream {
    TcpStream::connect(to).await.unwrap()
}

pub(crate) async fn take(from: &mut TcpStream, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    from.read_exact(&mut bytes).await.unwrap();
    bytes
}

/// What a node says to its router: greeting and request.
pub(crate) fn greeting(to: SocketAddr) -> Vec<u8> {
    let SocketAddr::V4(to) = to else { panic!("IPv6") };
    [&cocoon_wire::socks::GREETING[..], &cocoon_wire::socks::encode_connect(to)].concat()
}

/// The configuration of both routers.
pub(crate) struct Both(pub(crate) RouterConfig);

impl Both {
    pub(crate) fn set_username(&mut self, policy_from_username: bool) {
        self.0.ports[0].mode = PortMode::Socks5 { policy_from_username };
    }

    pub(crate) fn set_info(&mut self) {
        self.0.ports.iter_mut().for_each(|port| port.serialize_info = true);
    }
}

fn port(mode: PortMode) -> PortSpec {
    PortSpec {
        port: 0,
        mode,
        policy: "any".to_owned(),
        serialize_info: false,
        work_bits: Some(4),
        work_bits_max: None,
    }
}

pub(crate) fn to(address: SocketAddr) -> Destination {
    Destination { host: address.ip().to_string(), port: address.port() }
}

pub(crate) struct Site {
    pub(crate) socks: SocketAddr,
    pub(crate) forward: SocketAddr,
    pub(crate) reverse: SocketAddr,
    pub(crate) stop: Stop,
    pub(crate) outer: Running,
    pub(crate) inner: Running,
    behind: TcpListener,
}

impl Site {
    pub(crate) async fn start(change: impl FnOnce(&mut Both)) -> Self {
        let behind = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut both = Both(RouterConfig {
            reverse_listen: [127, 0, 0, 1].into(),
            drain_s: 0,
            ports: vec![
                port(PortMode::Socks5 { policy_from_username: false }),
                port(PortMode::Forward(to(behind.local_addr().unwrap()))),
                port(PortMode::Reverse(to(behind.local_addr().unwrap()))),
            ],
            ..RouterConfig::default()
        });
        change(&mut both);
        let stop = Stop::new();
        let reverse = both.0.ports.pop().unwrap();
        let inner = RouterConfig { ports: vec![reverse], ..both.0.clone() };
        let inner = start(&inner, &stop).await.unwrap();
        let reverse = inner.ports[0];
        both.0.ports[1].mode = PortMode::Forward(to(reverse));
        let outer = start(&both.0, &stop).await.unwrap();
        let (socks, forward) = (outer.ports[0], outer.ports[1]);
        Self { socks, forward, reverse, stop, outer, inner, behind }
    }

    /// The next connection that came out.
    pub(crate) async fn accepted(&self) -> TcpStream {
        self.behind.accept().await.unwrap().0
    }

    /// Waits until the ports are closed.
    pub(crate) async fn refuses_new(&self) {
        while TcpStream::connect(self.forward).await.is_ok() {
            tokio::task::yield_now().await;
        }
    }

    pub(crate) async fn ended(self) {
        self.outer.ended().await;
        self.inner.ended().await;
    }

    pub(crate) async fn stop(self) {
        self.stop.now();
        self.ended().await;
    }
}

/// Waits until a count is there.
pub(crate) async fn until(running: &Running, enough: impl Fn(cocoon_router::Counts) -> bool) {
    while !enough(running.counts()) {
        tokio::task::yield_now().await;
    }
}
