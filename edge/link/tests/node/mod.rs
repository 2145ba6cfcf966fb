//! A node's loop for tests: takes events with a deadline instead of sleeping.

#![allow(dead_code, reason = "each test file uses its own part")]
#![allow(clippy::unwrap_used, reason = "a failure fails the test")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use cocoon_link::{
    ConnId, CounterValues, Entry, Event, LinkEvent, LinkHandle, LinkSettings, Links, Listener,
    Opened, PortLimits, Tag,
};
use cocoon_ratls::{
    Acceptor, AnyPeer, CertificateRequest, Connector, Credentials, CredentialsHolder, NodeKey,
    Security,
};
use tokio::sync::mpsc;

/// For a machine that is very busy; everything here takes milliseconds.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) const ANY_PORT: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

pub(crate) struct Node {
    pub(crate) links: Links,
    pub(crate) events: mpsc::Receiver<LinkEvent>,
}

impl Node {
    pub(crate) fn new() -> Self {
        Self::with(LinkSettings::default(), 1_024)
    }

    pub(crate) fn with(settings: LinkSettings, room: usize) -> Self {
        let (sender, events) = mpsc::channel(room);
        Self { links: Links::new(settings, sender), events }
    }

    pub(crate) async fn listen(&self, entry: Entry) -> Listener {
        self.listen_with(entry, PortLimits::local()).await
    }

    pub(crate) async fn listen_with(&self, entry: Entry, limits: PortLimits) -> Listener {
        Listener::bind(&self.links, ANY_PORT, entry, limits, Tag(1)).await.unwrap()
    }

    pub(crate) async fn next(&mut self) -> (ConnId, Event) {
        let event = tokio::time::timeout(PATIENCE, self.events.recv()).await;
        let event = event.expect("no event came in time").expect("the links are gone");
        (event.conn, event.event)
    }

    pub(crate) async fn opened(&mut self) -> (ConnId, Opened) {
        match self.next().await {
            (conn, Event::Opened(opened)) => (conn, opened),
            other => panic!("expected Opened, got {other:?}"),
        }
    }

    pub(crate) async fn link(&mut self) -> LinkHandle {
        self.opened().await.1.link
    }

    pub(crate) async fn message(&mut self) -> Vec<u8> {
        match self.next().await {
            (_, Event::Message(data)) => data.to_vec(),
            other => panic!("expected Message, got {other:?}"),
        }
    }

    pub(crate) async fn closed(&mut self) -> cocoon_link::SessionFault {
        match self.next().await {
            (_, Event::Closed(fault)) => fault,
            other => panic!("expected Closed, got {other:?}"),
        }
    }

    /// Waits until the counters satisfy `wanted`.
    pub(crate) async fn counted(&self, wanted: impl Fn(&CounterValues) -> bool) -> CounterValues {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let values = self.links.counters();
            if wanted(&values) {
                return values;
            }
            assert!(tokio::time::Instant::now() < deadline, "counters stay at {values:?}");
            tokio::task::yield_now().await;
        }
    }
}

pub(crate) fn security(seed: u8) -> Security {
    let key = NodeKey::from_seed(&[seed; 32]).unwrap();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let request = CertificateRequest::new(now.as_secs(), 60);
    let credentials = Credentials::make(key, &request).unwrap();
    Security::new(CredentialsHolder::new(credentials), Arc::new(AnyPeer))
}

pub(crate) fn acceptor() -> Acceptor {
    Acceptor { work_bits: 8, ..Acceptor::new(security(1)) }
}

pub(crate) fn connector() -> Connector {
    Connector::new(security(2))
}

pub(crate) fn key(seed: u8) -> [u8; 32] {
    *NodeKey::from_seed(&[seed; 32]).unwrap().public_key()
}

/// A frame of a hand-made peer.
pub(crate) fn frame(sequence: i32, id: u32, rest: &[u8]) -> Vec<u8> {
    let mut frame = (rest.len() as u32 + 4).to_le_bytes().to_vec();
    frame.extend(sequence.to_le_bytes());
    frame.extend(id.to_le_bytes());
    frame.extend(rest);
    frame
}

pub(crate) const CONNECT: u32 = 0xa57c_4261;
pub(crate) const CONNECTED: u32 = 0x636d_41d6;
pub(crate) const PING: u32 = 0xbbe9_627c;
pub(crate) const PACKET: u32 = 0x9c17_baf8;
