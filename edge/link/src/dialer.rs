//! Dialling: once, or again and again with growing pauses.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio_util::sync::{CancellationToken, DropGuard};

use crate::backoff::Backoff;
use crate::counters::count;
use crate::event::{ConnId, Event, LinkEvent, Origin, Tag};
use crate::fault::OpenFault;
use crate::links::{Inner, Links};
use crate::open::{self, Route};
use crate::task::Ended;

/// Dials peers over one route. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Dialer {
    inner: Arc<Inner>,
    route: Arc<Route>,
}

/// A connection that is made again whenever it is lost. Dropping this closes it for good.
#[derive(Debug)]
pub struct KeptLink {
    target: SocketAddr,
    _stop: DropGuard,
}

impl KeptLink {
    /// Whom it dials.
    #[must_use]
    pub fn target(&self) -> SocketAddr {
        self.target
    }
}

impl Dialer {
    /// Dials over `route`.
    #[must_use]
    pub fn new(links: &Links, route: Route) -> Self {
        Self { inner: links.inner.clone(), route: Arc::new(route) }
    }

    /// Keeps a connection to `target`: dials now, and again after each failure or end, with
    /// pauses that grow from 100 ms to 10 s. Every attempt has an id of its own and ends in
    /// `Opened` … `Closed`, or in `DialFailed`, each with `tag`.
    #[must_use]
    pub fn keep(&self, target: SocketAddr, tag: Tag) -> KeptLink {
        let stop = self.inner.stop.child_token();
        let dialer = self.clone();
        self.inner.tasks.spawn(dialer.dial_for_ever(target, tag, stop.clone()));
        KeptLink { target, _stop: stop.drop_guard() }
    }

    /// Dials `target` once. Returns the attempt's id at once; its events tell the rest.
    #[must_use]
    pub fn dial(&self, target: SocketAddr, tag: Tag) -> ConnId {
        let conn = self.inner.next_conn();
        let dialer = self.clone();
        let stop = self.inner.stop.clone();
        self.inner.tasks.spawn(async move { dialer.attempt(conn, target, tag, &stop).await });
        conn
    }

    async fn dial_for_ever(self, target: SocketAddr, tag: Tag, stop: CancellationToken) {
        let mut backoff = Backoff::new(self.inner.settings.backoff.clone());
        loop {
            let conn = self.inner.next_conn();
            let ended = self.attempt(conn, target, tag, &stop).await;
            if let Some(Ended { ready_for: Some(lived), .. }) = ended {
                backoff.held(lived);
            }
            let pause = backoff.next(rand::random());
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// One attempt and, if it succeeds, the whole life of the connection.
    async fn attempt(
        &self,
        conn: ConnId,
        target: SocketAddr,
        tag: Tag,
        stop: &CancellationToken,
    ) -> Option<Ended> {
        let inner = &self.inner;
        count(&inner.counters.dialled);
        let opening = open::dial(&self.route, target, &inner.settings);
        let opened = tokio::select! {
            opened = Box::pin(opening) => opened,
            () = stop.cancelled() => return None,
        };
        let fault = match opened {
            Ok(open) => {
                let ended = inner.run(conn, open, target, Origin::Dialled(tag), stop).await;
                if ended.ready_for.is_some() || stop.is_cancelled() {
                    return Some(ended);
                }
                OpenFault::Session(ended.fault)
            }
            Err(fault) => fault,
        };
        self.failed(conn, target, tag, fault).await;
        None
    }

    async fn failed(&self, conn: ConnId, target: SocketAddr, tag: Tag, fault: OpenFault) {
        count(&self.inner.counters.dial_failures);
        self.inner.count_failure(&fault);
        tracing::debug!(%target, %fault, "dialling failed");
        let event = Event::DialFailed { tag, target, fault: Arc::new(fault) };
        // A node loop that is over has no use for it.
        let _ = self.inner.events.send(LinkEvent { conn, event }).await;
    }
}
