//! A listening port: accepts, turns away, opens, runs.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::counters::count;
use crate::event::{Origin, Tag};
use crate::gate::{Gate, Pass, Turned};
use crate::links::{Inner, Links};
use crate::open::{self, Entry};
use crate::settings::PortLimits;

/// Pause after the system refused to accept, most often for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A port that accepts peers. Dropping it stops accepting; open connections stay.
#[derive(Debug)]
pub struct Listener {
    address: SocketAddr,
    _stop: DropGuard,
}

impl Listener {
    /// Listens on `address` (port 0 takes any) and opens what comes, with `tag` in the
    /// `Opened` events.
    ///
    /// # Errors
    /// The system's: the address is taken or not ours. Fix the configuration.
    pub async fn bind(
        links: &Links,
        address: SocketAddr,
        entry: Entry,
        limits: PortLimits,
        tag: Tag,
    ) -> io::Result<Self> {
        let socket = TcpListener::bind(address).await?;
        let address = socket.local_addr()?;
        let stop = links.inner.stop.child_token();
        let port =
            Arc::new(Port { inner: links.inner.clone(), entry, gate: Gate::new(limits), tag });
        links.inner.tasks.spawn(accept_all(port, socket, stop.clone()));
        Ok(Self { address, _stop: stop.drop_guard() })
    }

    /// The address that peers reach, with the real port.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

struct Port {
    inner: Arc<Inner>,
    entry: Entry,
    gate: Arc<Gate>,
    tag: Tag,
}

async fn accept_all(port: Arc<Port>, socket: TcpListener, stop: CancellationToken) {
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = socket.accept() => accepted,
        };
        let (tcp, remote) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept; trying again");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let counters = &port.inner.counters;
        count(&counters.accepted);
        match port.gate.enter(remote.ip()) {
            Ok(pass) => {
                port.inner.tasks.spawn(port.clone().serve(tcp, remote, pass));
            }
            // The socket closes without a word: a flood gets no work out of us.
            Err(Turned::Connections) => count(&counters.refused_connections),
            Err(Turned::Address) => count(&counters.refused_address),
            Err(Turned::Handshakes) => count(&counters.refused_handshakes),
        }
    }
}

impl Port {
    async fn serve(self: Arc<Self>, tcp: TcpStream, remote: SocketAddr, mut pass: Pass) {
        let stop = &self.inner.stop;
        let opening = open::accept(&self.entry, tcp, &self.inner.settings);
        let opened = tokio::select! {
            opened = Box::pin(opening) => opened,
            () = stop.cancelled() => return,
        };
        match opened {
            Ok(open) => {
                pass.handshake_over();
                let conn = self.inner.next_conn();
                self.inner.run(conn, open, remote, Origin::Accepted(self.tag), stop).await;
            }
            Err(fault) => {
                self.inner.count_failure(&fault);
                tracing::debug!(%remote, %fault, "a peer did not get in");
            }
        }
    }
}
