//! Prints what links carry over TLS on loopback, both ends in this process.
//!
//! Usage: `link_bench [SECONDS]`. Three figures: one-way messages a second, queries answered
//! a second with many under way, and the round trip of a lone query.

#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a measuring program")]

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use cocoon_link::{
    Dialer, Entry, Event, LinkEvent, LinkHandle, LinkSettings, Links, Listener, PortLimits, Route,
    SendFault, Tag,
};
use cocoon_ratls::{
    Acceptor, AnyPeer, CertificateRequest, Connector, Credentials, CredentialsHolder, NodeKey,
    Security,
};
use tokio::sync::mpsc;

/// Events that a node takes at once.
const BATCH: usize = 256;
const TIMEOUT: Duration = Duration::from_secs(60);

#[tokio::main]
async fn main() {
    let seconds = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(3);
    let limit = Duration::from_secs(seconds);
    for (connections, len) in [(1, 200), (8, 200), (1, 16_384)] {
        let mut pair = Pair::open(connections).await;
        let (count, elapsed) = pair.one_way(len, limit).await;
        let per_second = count as f64 / elapsed.as_secs_f64();
        println!(
            "one way, {connections} connections, {len} bytes: {per_second:.0} frames/s, {:.0} MB/s",
            per_second * len as f64 / 1e6
        );
    }
    for under_way in [1, 64] {
        let mut pair = Pair::open(1).await;
        let (count, elapsed) = pair.round_trips(under_way, limit).await;
        let per_second = count as f64 / elapsed.as_secs_f64();
        println!(
            "queries, {under_way} under way, 200 bytes: {per_second:.0} answers/s, {:.0} us each",
            1e6 * under_way as f64 / per_second
        );
    }
}

struct Pair {
    client: mpsc::Receiver<LinkEvent>,
    proxy: Option<mpsc::Receiver<LinkEvent>>,
    ours: Vec<LinkHandle>,
    theirs: Vec<LinkHandle>,
    _listener: Listener,
}

impl Pair {
    async fn open(connections: usize) -> Self {
        let (proxy_sender, mut proxy) = mpsc::channel(4_096);
        let (client_sender, mut client) = mpsc::channel(4_096);
        let proxy_links = Links::new(LinkSettings::default(), proxy_sender);
        let client_links = Links::new(LinkSettings::default(), client_sender);
        let acceptor = Acceptor { work_bits: 0, ..Acceptor::new(security(1)) };
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let entry = Entry::Direct(Box::new(acceptor));
        let limits = PortLimits::local();
        let listener = Listener::bind(&proxy_links, address, entry, limits, Tag(0)).await.unwrap();
        let route = Route::Direct(Box::new(Connector::new(security(2))));
        let dialer = Dialer::new(&client_links, route);
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..connections {
            let _ = dialer.dial(listener.address(), Tag(0));
            ours.push(opened(&mut client).await);
            theirs.push(opened(&mut proxy).await);
        }
        Self { client, proxy: Some(proxy), ours, theirs, _listener: listener }
    }

    /// Sends messages as fast as the links take them; returns how many arrived, and the time.
    async fn one_way(&mut self, len: usize, limit: Duration) -> (u64, Duration) {
        let mut proxy = self.proxy.take().unwrap();
        let start = Instant::now();
        let receiver = tokio::spawn(async move {
            let (mut batch, mut count) = (Vec::with_capacity(BATCH), 0);
            while proxy.recv_many(&mut batch, BATCH).await > 0 && start.elapsed() < limit {
                count += batch.len() as u64;
                batch.clear();
            }
            (count, start.elapsed())
        });
        let data = Bytes::from(vec![1; len]);
        while !receiver.is_finished() {
            let mut sent = false;
            for link in &self.ours {
                for _ in 0..64 {
                    match link.message(data.clone()) {
                        Ok(()) => sent = true,
                        Err(SendFault::Stuck { .. } | SendFault::Closed) => break,
                        Err(fault @ SendFault::TooLong { .. }) => panic!("{fault}"),
                    }
                }
            }
            if sent {
                tokio::task::yield_now().await;
            } else {
                tokio::time::sleep(Duration::from_micros(100)).await;
            }
        }
        receiver.await.unwrap()
    }

    /// Keeps `under_way` queries open; returns how many were answered, and the time.
    async fn round_trips(&mut self, under_way: i64, limit: Duration) -> (u64, Duration) {
        let mut proxy = self.proxy.take().unwrap();
        let answering = self.theirs[0].clone();
        let server = tokio::spawn(async move {
            let mut batch = Vec::with_capacity(BATCH);
            while proxy.recv_many(&mut batch, BATCH).await > 0 {
                for event in batch.drain(..) {
                    if let Event::Query { id, data } = event.event {
                        answering.answer(id, data.0).unwrap();
                    }
                }
            }
        });
        let data = Bytes::from(vec![1; 200]);
        for id in 0..under_way {
            self.ours[0].query(id, data.clone(), TIMEOUT).unwrap();
        }
        let start = Instant::now();
        let (mut batch, mut count) = (Vec::with_capacity(BATCH), 0);
        while start.elapsed() < limit && self.client.recv_many(&mut batch, BATCH).await > 0 {
            for event in batch.drain(..) {
                if let Event::Answer { id, .. } = event.event {
                    count += 1;
                    self.ours[0].query(id, data.clone(), TIMEOUT).unwrap();
                }
            }
        }
        let elapsed = start.elapsed();
        server.abort();
        (count, elapsed)
    }
}

async fn opened(events: &mut mpsc::Receiver<LinkEvent>) -> LinkHandle {
    match events.recv().await.map(|event| event.event) {
        Some(Event::Opened(opened)) => opened.link,
        other => panic!("expected Opened, got {other:?}"),
    }
}

fn security(seed: u8) -> Security {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let key = NodeKey::from_seed(&[seed; 32]).unwrap();
    let request = CertificateRequest::new(now.as_secs(), 60);
    let credentials = CredentialsHolder::new(Credentials::make(key, &request).unwrap());
    Security::new(credentials, Arc::new(AnyPeer))
}
