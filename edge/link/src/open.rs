//! From a TCP connection to a stream of frames with a known peer.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use cocoon_ratls::{Acceptor, Connector, PeerIdentity, Secured, Voucher};
use cocoon_wire::peer_info::{Attestation, BLOB_BYTES_MAX, Line, PeerInfo};
use cocoon_wire::{PeerInfoFault, socks};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::fault::OpenFault;
use crate::guard::Guard;
use crate::settings::LinkSettings;
use crate::stream::Stream;

/// How to reach a peer.
#[derive(Clone, Debug)]
pub enum Route {
    /// TCP, work, TLS: no router in between.
    Direct(Box<Connector>),
    /// The same, and both sides show fresh evidence over the connection when the peer can.
    Attested {
        /// Work and TLS.
        connector: Box<Connector>,
        /// Makes and judges evidence.
        guard: Arc<dyn Guard>,
    },
    /// Through a router on this machine (protocol notes 2.9), which tells who the peer is.
    Router {
        /// Address of its SOCKS port.
        socks: SocketAddr,
    },
    /// TCP alone, to an inner port on this machine.
    Plain,
}

/// What stands in front of a listening port.
#[derive(Clone, Debug)]
pub enum Entry {
    /// Peers come directly: work and TLS are ours.
    Direct(Box<Acceptor>),
    /// The same, and both sides show fresh evidence over the connection when the peer can.
    Attested {
        /// Work and TLS.
        acceptor: Box<Acceptor>,
        /// Makes and judges evidence.
        guard: Arc<dyn Guard>,
    },
    /// A reverse router on this machine does work and TLS, and tells who the peer is
    /// (protocol notes 2.10). Listen on loopback only: whoever connects is believed.
    Router,
    /// Nothing: peers on this machine, about whom nothing is known.
    Plain,
}

/// A stream of frames and what is known about its other end.
pub(crate) struct Open {
    pub(crate) stream: Stream,
    pub(crate) identity: PeerIdentity,
    /// Who attests on it.
    pub(crate) guard: Option<Arc<dyn Guard>>,
}

impl Open {
    fn secured(peer: Secured<TcpStream>, guard: Option<Arc<dyn Guard>>) -> Self {
        Self { stream: Stream::Tls(Box::new(peer.stream)), identity: peer.identity, guard }
    }

    fn plain(tcp: TcpStream, identity: PeerIdentity) -> Self {
        Self { stream: Stream::Plain(tcp), identity, guard: None }
    }
}

/// Dials `target`.
pub(crate) async fn dial(
    route: &Route,
    target: SocketAddr,
    settings: &LinkSettings,
) -> Result<Open, OpenFault> {
    match route {
        Route::Direct(connector) => {
            let tcp = connect(target, settings.connect_deadline).await?;
            Ok(Open::secured(connector.connect(tcp).await?, None))
        }
        Route::Attested { connector, guard } => {
            let tcp = connect(target, settings.connect_deadline).await?;
            Ok(Open::secured(connector.connect(tcp).await?, Some(Arc::clone(guard))))
        }
        Route::Router { socks } => {
            let SocketAddr::V4(target) = target else {
                return Err(OpenFault::NotIpv4 { target });
            };
            let mut tcp = connect(*socks, settings.connect_deadline).await?;
            let asked = ask_router(&mut tcp, target);
            let identity = within("the router's work", settings.router_deadline, asked).await?;
            Ok(Open::plain(tcp, identity))
        }
        Route::Plain => {
            let tcp = connect(target, settings.connect_deadline).await?;
            Ok(Open::plain(tcp, PeerIdentity::unknown()))
        }
    }
}

/// Takes an accepted connection through what stands in front of the port.
pub(crate) async fn accept(
    entry: &Entry,
    mut tcp: TcpStream,
    settings: &LinkSettings,
) -> Result<Open, OpenFault> {
    set_options(&tcp);
    match entry {
        Entry::Direct(acceptor) => Ok(Open::secured(acceptor.accept(tcp).await?, None)),
        Entry::Attested { acceptor, guard } => {
            Ok(Open::secured(acceptor.accept(tcp).await?, Some(Arc::clone(guard))))
        }
        Entry::Router => {
            let read = read_peer_info(&mut tcp);
            let identity = within("the router's word", settings.peer_info_deadline, read).await?;
            Ok(Open::plain(tcp, identity))
        }
        Entry::Plain => Ok(Open::plain(tcp, PeerIdentity::unknown())),
    }
}

async fn connect(target: SocketAddr, limit: Duration) -> Result<TcpStream, OpenFault> {
    let connecting = async {
        TcpStream::connect(target).await.map_err(|source| OpenFault::Connect { target, source })
    };
    let tcp = within("connecting", limit, connecting).await?;
    set_options(&tcp);
    Ok(tcp)
}

/// Frames go out at once: they are coalesced before the socket, not in it.
fn set_options(tcp: &TcpStream) {
    // Fails only on a socket that is gone already, which the next read tells.
    let _ = tcp.set_nodelay(true);
}

/// Asks the router for `target` and waits until it says who that is. The reply "granted"
/// alone means nothing: the router sends it before work and TLS are done.
async fn ask_router(
    tcp: &mut TcpStream,
    target: std::net::SocketAddrV4,
) -> Result<PeerIdentity, OpenFault> {
    let broken = |source| OpenFault::Broken { stage: "asking the router", source };
    tcp.write_all(&socks::GREETING).await.map_err(broken)?;
    let mut method = [0; socks::METHOD_BYTES];
    tcp.read_exact(&mut method).await.map_err(broken)?;
    socks::decode_method(method)?;
    tcp.write_all(&socks::encode_connect(target)).await.map_err(broken)?;
    let mut granted = [0; socks::REQUEST_BYTES];
    tcp.read_exact(&mut granted).await.map_err(broken)?;
    socks::decode_granted(&granted)?;
    read_peer_info(tcp).await
}

/// Reads the router's blob about the peer and not one byte more (protocol notes 1.2).
async fn read_peer_info(tcp: &mut TcpStream) -> Result<PeerIdentity, OpenFault> {
    let broken = |source| OpenFault::Broken { stage: "the router's word", source };
    let mut length = [0; 4];
    tcp.read_exact(&mut length).await.map_err(broken)?;
    let length = u32::from_le_bytes(length) as usize;
    if length > BLOB_BYTES_MAX {
        return Err(PeerInfoFault::TooLarge { length }.into());
    }
    let mut blob = vec![0; length];
    tcp.read_exact(&mut blob).await.map_err(broken)?;
    identity_of(&blob)
}

/// Reads the blob in the form it announces: its first number is 2 in the present line, 0 or
/// 1 in the older one (protocol notes 2.6).
fn identity_of(blob: &[u8]) -> Result<PeerIdentity, OpenFault> {
    let line = if blob.first_chunk() == Some(&[2, 0, 0, 0]) { Line::Live } else { Line::Base };
    let info = PeerInfo::decode(blob, line)?;
    let image_hash = match &info.attestation {
        Attestation::None => None,
        attested => Some(attested.image_hash().0),
    };
    Ok(PeerIdentity {
        public_key: Some(info.public_key.0),
        image_hash,
        voucher: Voucher::Router,
        ..PeerIdentity::unknown()
    })
}

async fn within<T>(
    stage: &'static str,
    limit: Duration,
    work: impl Future<Output = Result<T, OpenFault>>,
) -> Result<T, OpenFault> {
    tokio::time::timeout(limit, work).await.unwrap_or(Err(OpenFault::TooSlow { stage, limit }))
}
