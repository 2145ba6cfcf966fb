//! What the nodes' pages for operators have in common.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;

/// Headers that only browsers send, each with every request that changes something. The nodes have
/// no web page of their own, so an order with one of them comes from somebody else's page: it sends
/// the browser of an operator to an address that only the operator can reach.
pub const BROWSER_HEADERS: [&str; 2] = ["origin", "sec-fetch-site"];

/// What such an order is answered, with 403.
pub const FROM_A_WEB_PAGE: &str = "orders are not taken from web pages\n";

/// Connections to the pages of one node. Whoever opens more gets none: a node must not run out of
/// file descriptors for its peers because of its pages.
const GUESTS_MAX: usize = 256;
/// Longest wait for the first byte of a connection.
const FIRST_BYTE: Duration = Duration::from_secs(30);
/// Pause after the system refused to accept, most often for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A listener of pages that lets in so many and no more.
#[derive(Debug)]
pub struct Door {
    listener: TcpListener,
    places: Arc<Semaphore>,
    first_byte: Duration,
}

/// One connection to the pages; gives its place back when it ends.
#[derive(Debug)]
pub struct Guest {
    tcp: TcpStream,
    /// Until the first byte came.
    waits: Option<Pin<Box<Sleep>>>,
    _place: OwnedSemaphorePermit,
}

impl Door {
    /// Lets 256 in at a time.
    #[must_use]
    pub fn new(listener: TcpListener) -> Self {
        let places = Arc::new(Semaphore::new(GUESTS_MAX));
        Self { listener, places, first_byte: FIRST_BYTE }
    }
}

impl axum::serve::Listener for Door {
    type Io = Guest;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Guest, SocketAddr) {
        loop {
            let (tcp, remote) = match self.listener.accept().await {
                Ok(accepted) => accepted,
                Err(fault) => {
                    tracing::warn!(%fault, "pages cannot accept; trying again");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            // Without a place the socket closes without a word.
            if let Ok(place) = Arc::clone(&self.places).try_acquire_owned() {
                let waits = Some(Box::pin(tokio::time::sleep(self.first_byte)));
                return (Guest { tcp, waits, _place: place }, remote);
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

impl AsyncRead for Guest {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.tcp).poll_read(cx, buf);
        if read.is_ready() {
            self.waits = None;
        } else if let Some(waits) = &mut self.waits
            && waits.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        read
    }
}

impl AsyncWrite for Guest {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use axum::serve::Listener as _;
    use tokio::io::AsyncReadExt as _;

    #[tokio::test]
    async fn whoever_comes_when_the_room_is_full_is_turned_away() {
        let mut door = Door::new(TcpListener::bind("127.0.0.1:0").await.unwrap());
        let address = door.local_addr().unwrap();
        let mut guests = Vec::new();
        for _ in 0..GUESTS_MAX {
            let visitor = TcpStream::connect(address).await.unwrap();
            guests.push((door.accept().await.0, visitor));
        }
        let mut late = TcpStream::connect(address).await.unwrap();
        let next = tokio::spawn(async move { door.accept().await.1 });
        assert_eq!(late.read(&mut [0]).await.unwrap(), 0, "closed at once");
        drop(guests.pop());
        let welcome = TcpStream::connect(address).await.unwrap();
        assert_eq!(next.await.unwrap(), welcome.local_addr().unwrap());
    }

    #[tokio::test]
    async fn whoever_asks_nothing_is_let_go() {
        let mut door = Door::new(TcpListener::bind("127.0.0.1:0").await.unwrap());
        door.first_byte = Duration::from_millis(20);
        let _silent = TcpStream::connect(door.local_addr().unwrap()).await.unwrap();
        let (mut guest, _) = door.accept().await;
        let fault = guest.read(&mut [0]).await.unwrap_err();
        assert_eq!(fault.kind(), io::ErrorKind::TimedOut);
    }
}
