//! Prints how many connections a second come to be with and without fresh evidence on both sides,
//! over real sockets on loopback, one at a time, and what the evidence adds to one connection. Run
//! with `cargo run --release -p cocoon-host --example attested_connections`.

#![allow(clippy::print_stdout, reason = "its output is a table for people")]

use std::error::Error;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use cocoon_host::evidence::EvidenceConfig;
use cocoon_host::peers::{Admit, Presence, Transport};
use cocoon_host::{ChannelRole, Stop, Subject};
use cocoon_link::{
    Dialer, Event, LinkEvent, LinkHandle, LinkSettings, Links, Listener, PortLimits, Tag,
};
use cocoon_units::{Address, Secret};
use cocoon_wire::tl::encode;
use cocoon_wire::worker;
use tokio::sync::mpsc::{Receiver, channel};

const ROUNDS: u32 = 300;
const PATIENCE: Duration = Duration::from_secs(60);

/// A worker and a proxy, in one process.
struct Pair {
    dialer: Dialer,
    target: SocketAddr,
    at_worker: Receiver<LinkEvent>,
    at_proxy: Receiver<LinkEvent>,
    _kept: (Links, Listener, Stop),
}

fn presence(roots: &Path, role: ChannelRole, stop: &Stop) -> Result<Presence, String> {
    let image = format!("{role:?}");
    let evidence = EvidenceConfig::Simulated {
        roots: roots.to_owned(),
        image,
        machine: role.byte().into(),
        gpu: role == ChannelRole::Worker,
        snp: false,
        misbehave: None,
        dangerous_unchecked_peers: false,
    };
    Presence::start(&Secret::new([role.byte(); 32]), &evidence, stop)
}

impl Pair {
    async fn new(roots: &Path, fresh: bool) -> Result<Self, Box<dyn Error>> {
        let stop = Stop::new();
        let present = |role| -> Result<Presence, String> {
            let presence = presence(roots, role, &stop)?;
            let root = Address::new(0, [5; 32]);
            let subject = Subject::new(role, true, root, [role.byte(); 32]);
            if fresh { presence.speaking_for(subject) } else { Ok(presence) }
        };
        let (sender, at_proxy) = channel(4_096);
        let accepted = Links::new(LinkSettings::default(), sender);
        let entry = present(ChannelRole::Proxy)?.entry(&Transport::Direct, 0, Admit::Attested);
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let listener = Listener::bind(&accepted, any, entry, PortLimits::local(), Tag(1)).await?;
        let (sender, at_worker) = channel(4_096);
        let links = Links::new(LinkSettings::default(), sender);
        let route = present(ChannelRole::Worker)?.route(&Transport::Direct, 8);
        Ok(Self {
            dialer: Dialer::new(&links, route),
            target: listener.address(),
            at_worker,
            at_proxy,
            _kept: (accepted, listener, stop),
        })
    }

    /// Dials once, introduces both sides, and waits until the worker's role has the answer.
    async fn meet(&mut self) -> Result<(), Box<dyn Error>> {
        let _ = self.dialer.dial(self.target, Tag(2));
        let to_proxy = opened(&mut self.at_worker).await?;
        let to_worker = opened(&mut self.at_proxy).await?;
        to_proxy.query_object(1, &worker::ConnectToProxy::default(), PATIENCE)?;
        let id = loop {
            if let Event::Query { id, .. } = next(&mut self.at_proxy).await? {
                break id;
            }
        };
        to_worker.answer(id, encode(&worker::ConnectedToProxy::default()))?;
        while !matches!(next(&mut self.at_worker).await?, Event::Answer { .. }) {}
        to_proxy.close();
        while !matches!(next(&mut self.at_worker).await?, Event::Closed(_)) {}
        while !matches!(next(&mut self.at_proxy).await?, Event::Closed(_)) {}
        Ok(())
    }
}

async fn next(events: &mut Receiver<LinkEvent>) -> Result<Event, Box<dyn Error>> {
    let event = tokio::time::timeout(PATIENCE, events.recv()).await?;
    match event.ok_or("the links are gone")?.event {
        Event::DialFailed { fault, .. } => Err(fault.to_string().into()),
        event => Ok(event),
    }
}

async fn opened(events: &mut Receiver<LinkEvent>) -> Result<LinkHandle, Box<dyn Error>> {
    match next(events).await? {
        Event::Opened(opened) => Ok(opened.link),
        other => Err(format!("{other:?}").into()),
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    let roots = directory.path().join("roots");
    let mut each_us = Vec::new();
    for (name, fresh) in [("certificates alone", false), ("fresh evidence of both", true)] {
        let mut pair = Pair::new(&roots, fresh).await?;
        for _ in 0..ROUNDS / 10 {
            pair.meet().await?;
        }
        let begun = Instant::now();
        for _ in 0..ROUNDS {
            pair.meet().await?;
        }
        let us = begun.elapsed().as_secs_f64() * 1e6 / f64::from(ROUNDS);
        println!("{name:<24} {:>8.0} connections/s {us:>8.0} us each", 1e6 / us);
        each_us.push(us);
    }
    if let [plain, fresh] = each_us.as_slice() {
        println!("what both proofs add     {:>34.0} us", fresh - plain);
    }
    Ok(())
}
