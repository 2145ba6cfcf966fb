//! A port that serves pages: for monitors, people, wallets.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Sleep;
use tower_service::Service as _;

use crate::crowd::{Crowd, CrowdLimits, Seat};
use crate::stream::{Deadlines, Watched};
use crate::work::{PeerWait, Work, WorkGuard};

/// Pause after the system refused to accept, most often for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Most header lines of a request.
const HEAD_LINES_MAX: usize = 64;
/// Largest head of a request, bytes.
const HEAD_BYTES_MAX: usize = 32 << 10;

/// How a port of pages treats whoever comes.
#[derive(Clone, Copy, Debug)]
pub struct PageSettings {
    /// How many may be connected. Loopback has no share of its own.
    pub crowd: CrowdLimits,
    /// Around heads and answers.
    pub deadlines: Deadlines,
    /// Longest time for a whole body.
    pub body: Duration,
}

impl Default for PageSettings {
    /// 256 connections, 32 of one address; 10 s for a head, 30 s for a body or without a request, 30 s
    /// without taking anything of an answer.
    fn default() -> Self {
        let crowd = CrowdLimits {
            connections_max: 256,
            per_address_max: 32,
            slow_after: Duration::from_secs(1),
        };
        let deadlines = Deadlines {
            head: Duration::from_secs(10),
            idle: Duration::from_secs(30),
            write_stall: Duration::from_secs(30),
        };
        Self { crowd, deadlines, body: Duration::from_secs(30) }
    }
}

/// Serves pages until `stop` is ready; then requests under way are answered and connections closed.
/// Handlers find the other side's address as [`ConnectInfo<SocketAddr>`].
///
/// Dropping the future ends all connections.
pub async fn serve(
    listener: TcpListener,
    pages: Router,
    settings: PageSettings,
    stop: impl Future<Output = ()> + Send,
) {
    let crowd = Crowd::new(settings.crowd);
    let (closing, closed) = watch::channel(false);
    let mut visits = JoinSet::new();
    let mut stop = pin!(stop);
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut stop => break,
            Some(_ended) = visits.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((tcp, remote)) => {
                let ip = remote.ip().to_canonical();
                let address = (!ip.is_loopback()).then_some(ip);
                // Without a seat the socket closes without a word.
                let Ok(seat) = crowd.enter(address) else { continue };
                let visit = Visit { pages: pages.clone(), remote, seat, settings };
                visits.spawn(visit.run(tcp, closed.clone()));
            }
            Err(fault) => {
                tracing::warn!(%fault, "pages cannot accept; trying again");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    closing.send_replace(true);
    while visits.join_next().await.is_some() {}
}

/// One connection's life.
struct Visit {
    pages: Router,
    remote: SocketAddr,
    seat: Seat,
    settings: PageSettings,
}

impl Visit {
    async fn run(self, tcp: TcpStream, mut closed: watch::Receiver<bool>) {
        // Fails only on a socket that is gone already, which the next read tells.
        let _ = tcp.set_nodelay(true);
        let Visit { pages, remote, seat, settings } = self;
        let work = seat.work().clone();
        let io = TokioIo::new(Watched::new(tcp, work.clone(), settings.deadlines));
        let service = service_fn(move |request: Request<Incoming>| {
            let guard = work.begin();
            let mut request = request.map(|body| Expected::new(body, &work, settings.body));
            request.extensions_mut().insert(ConnectInfo(remote));
            // A router is always ready.
            let answered = pages.clone().call(request);
            async move {
                let answer = answered.await?;
                Ok::<_, Infallible>(answer.map(|body| Answer { body, _guard: guard }))
            }
        });
        let connection = http1::Builder::new()
            // The stream keeps the deadlines.
            .header_read_timeout(None)
            .max_headers(HEAD_LINES_MAX)
            .max_header_size(HEAD_BYTES_MAX)
            .max_buf_size(HEAD_BYTES_MAX * 2)
            .serve_connection(io, service);
        let mut connection = pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = seat.given_up() => {
                tracing::debug!(%remote, "a slow connection to pages was given up for a new one");
                return;
            }
            () = async { drop(closed.wait_for(|closed| *closed).await) } => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(fault) = ended {
            tracing::debug!(%fault, "a connection to pages ended early");
        }
    }
}

/// A request's body, which must come within its time.
struct Expected {
    body: Incoming,
    work: Work,
    wait: Option<PeerWait>,
    until: Pin<Box<Sleep>>,
}

impl Expected {
    fn new(body: Incoming, work: &Work, within: Duration) -> Self {
        let until = Box::pin(tokio::time::sleep(within));
        Self { body, work: work.clone(), wait: None, until }
    }
}

impl http_body::Body for Expected {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = &mut *self;
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) {
            this.wait = None;
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        if this.until.as_mut().poll(cx).is_ready() {
            this.wait = None;
            return Poll::Ready(Some(Err(io::Error::from(io::ErrorKind::TimedOut).into())));
        }
        if this.wait.is_none() {
            this.wait = Some(this.work.wait_for_peer());
        }
        Poll::Pending
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// An answer's body; its connection counts as busy until it is handed to the socket.
struct Answer {
    body: Body,
    _guard: WorkGuard,
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
