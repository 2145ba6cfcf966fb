//! The key manager's loop.

use cocoon_contract::root::RootState;
use cocoon_host::chain::RootFault;
use cocoon_host::config::ConfigFault;
use cocoon_host::pages::PageSettings;
use cocoon_host::peers::{Admit, Presence, Transport};
use cocoon_host::{Books, BooksEvent, BooksEvents, ChannelRole, Stop, Subject, clock, keys};
use cocoon_link::{Event, LinkEvent, LinkHandle, LinkSettings, Links, Listener, PortLimits, Tag};
use cocoon_role_keymgr::{
    Act, Asker, AuditEntry, ConnId, KeyManager, KeyPeer, KeyRecord, KeyRegistry, KeySettings,
    RecordFault,
};
use cocoon_units::{ImageHash, PublicKey, Secret};
use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;
use thiserror::Error;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::config::KeyManagerConfig;
use crate::pages::Pages;
use crate::registry::{self, Registry};
use crate::trail::{Trail, TrailFault};

/// Events that may wait for the loop; beyond that, connections stop reading.
const EVENTS_MAX: usize = 1_024;
/// How often the machine looks at the clock.
const TICK: Duration = Duration::from_secs(1);
/// Journal length from which a snapshot replaces it, bytes; a key takes about 100.
const JOURNAL_BYTES_MAX: u64 = 1 << 20;
/// Name under which the machine seals the journal's key.
const SEAL_NAME: &str = "cocoon key manager journal";
/// Private half of the key that everybody knows (protocol notes, wire 4.8).
const TEST_KEY: [u8; 32] = [
    0x07, 0x0a, 0xd8, 0x2e, 0x61, 0x32, 0xda, 0xb3, 0x20, 0x67, 0xfb, 0x72, 0x0a, 0xfd, 0x00, 0x60,
    0x55, 0x5a, 0x64, 0xf9, 0x05, 0xbb, 0xec, 0x0d, 0xc2, 0x84, 0x90, 0x88, 0x95, 0x1b, 0x3a, 0x63,
];
/// Unix seconds until which it holds.
const TEST_KEY_UNTIL_S: u64 = 2_000_000_000;

/// Why the node does not start, or ends.
#[derive(Debug, Error)]
pub enum RunFault {
    /// The user's configuration.
    #[error(transparent)]
    Config(#[from] ConfigFault),
    /// Key files.
    #[error(transparent)]
    Key(#[from] keys::KeyFault),
    /// The journal.
    #[error("journal: {0}")]
    Journal(#[from] cocoon_journal::Fault),
    /// The journal holds something this version does not know.
    #[error(transparent)]
    Record(#[from] RecordFault),
    /// The root contract.
    #[error(transparent)]
    Root(#[from] RootFault),
    /// The node was asked to stop before the chain answered; nothing is wrong.
    #[error("the node was asked to stop before the chain answered")]
    Stopped,
    /// The audit trail.
    #[error(transparent)]
    Trail(#[from] TrailFault),
    /// The node's own evidence, or the key that its machine seals.
    #[error("evidence: {0}")]
    Evidence(String),
    /// Environment: the data directory cannot be made.
    #[error("{path}: {source}")]
    DataDir {
        /// Which.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A port cannot be opened.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
}

/// A key manager that runs.
#[derive(Debug)]
pub struct Running {
    /// Where peers come in, with the real port.
    pub address: SocketAddr,
    /// Where pages are served.
    pub http: Option<SocketAddr>,
    task: JoinHandle<Result<(), RunFault>>,
}

impl Running {
    /// Waits for the end.
    ///
    /// # Errors
    /// [`RunFault`]: why it ended by itself.
    pub async fn ended(self) -> Result<(), RunFault> {
        match self.task.await {
            Ok(result) => result,
            Err(fault) if fault.is_panic() => std::panic::resume_unwind(fault.into_panic()),
            Err(_) => Ok(()),
        }
    }
}

/// Runs a key manager until `stop`.
///
/// # Errors
/// [`RunFault`] says what to correct.
pub async fn run(config: &KeyManagerConfig, stop: &Stop) -> Result<(), RunFault> {
    match start(config, stop).await {
        Err(RunFault::Stopped) => Ok(()),
        started => started?.ended().await,
    }
}

/// Starts a key manager; when this returns, peers can come in.
///
/// # Errors
/// [`RunFault`] says what to correct; nothing runs then.
pub async fn start(config: &KeyManagerConfig, stop: &Stop) -> Result<Running, RunFault> {
    config.check()?;
    let Some(root) = registry::follow(config, stop).await? else {
        return Err(RunFault::Stopped);
    };
    let dir = &config.data_dir;
    let made = std::fs::create_dir_all(dir);
    made.map_err(|source| RunFault::DataDir { path: dir.display().to_string(), source })?;
    let tls_key = keys::load_or_make(&dir.join("tls.key"))?;
    let presence = presence(config, &tls_key, stop)?;
    let trail = Trail::open(&dir.join("audit.log"))?;
    let mut out = Vec::new();
    let (machine, books, disk) = open_books(config, &root.borrow().clone(), &presence, &mut out)?;
    let (events_in, events) = mpsc::channel(EVENTS_MAX);
    let links = Links::new(LinkSettings::default(), events_in);
    let entry = presence.entry(&config.transport, config.work_bits, admit(config));
    let limits = match config.transport {
        Transport::Direct if !config.listen.ip().is_loopback() => PortLimits::public(),
        _ => PortLimits::local(),
    };
    let address = config.listen;
    let fault = |source| RunFault::Listen { address, source };
    let port = Listener::bind(&links, address, entry, limits, Tag(1)).await.map_err(fault)?;
    let pages = Pages::default();
    let http = listen(config.http, &pages, stop).await?;
    let address = port.address();
    tracing::info!(%address, ?http, "key manager listens");
    let held = VecDeque::new();
    let mut node = Node { machine, books, trail, links: HashMap::new(), held, pages, root };
    node.perform(out)?;
    let stop = stop.clone();
    let task = tokio::spawn(async move {
        let result = node.run(events, disk, &stop).await;
        drop(port);
        links.close().await;
        stop.now();
        result
    });
    Ok(Running { address, http, task })
}

/// The node as its peers meet it, with fresh evidence over each connection.
fn presence(
    config: &KeyManagerConfig,
    key: &Secret<[u8; 32]>,
    stop: &Stop,
) -> Result<Presence, RunFault> {
    let presence = Presence::start(key, &config.evidence, stop).map_err(RunFault::Evidence)?;
    let Some(subject) = subject(config)? else { return Ok(presence) };
    presence.speaking_for(subject).map_err(RunFault::Evidence)
}

/// What it states over its connections; nothing without evidence or TLS of its own.
fn subject(config: &KeyManagerConfig) -> Result<Option<Subject>, ConfigFault> {
    if !config.speaks() {
        return Ok(None);
    }
    // It has no contract that could stand for it. Images are not compared here: fresh evidence is of
    // the machine that the certificate shows, and about that one's image the machine decides, and
    // writes its refusals into the trail.
    let (role, own_id) = (ChannelRole::KeyManager, [0; 32]);
    Ok(Some(Subject {
        addresses: config.public_addresses.clone(),
        requires_fresh: !config.certificates_suffice,
        ..Subject::new(role, config.is_testnet, config.root_address()?, own_id)
    }))
}

/// Without images to compare, evidence is not asked for either.
fn admit(config: &KeyManagerConfig) -> Admit {
    if config.check_images { Admit::Attested } else { Admit::Anybody }
}

async fn listen(
    http: Option<SocketAddr>,
    pages: &Pages,
    stop: &Stop,
) -> Result<Option<SocketAddr>, RunFault> {
    let Some(address) = http else { return Ok(None) };
    let fault = |source| RunFault::Listen { address, source };
    let socket = tokio::net::TcpListener::bind(address).await.map_err(fault)?;
    let bound = socket.local_addr().map_err(fault)?;
    let (router, stop) = (pages.clone().router(), stop.clone());
    tokio::spawn(async move {
        cocoon_host::pages::serve(socket, router, PageSettings::default(), stop.asked()).await;
    });
    Ok(Some(bound))
}

fn listed(root: &RootState) -> KeyRegistry {
    KeyRegistry {
        version: root.version,
        proxies: root.proxy_hashes.iter().map(|hash| ImageHash(hash.0)).collect(),
        workers: root.worker_hashes.iter().map(|hash| ImageHash(hash.0)).collect(),
    }
}

fn open_books(
    config: &KeyManagerConfig,
    root: &RootState,
    presence: &Presence,
    out: &mut Vec<Act>,
) -> Result<(KeyManager, Books, BooksEvents), RunFault> {
    let dir = &config.data_dir;
    let key = match presence.lasting_key(SEAL_NAME).map_err(RunFault::Evidence)? {
        Some(sealed) => sealed,
        None => {
            tracing::warn!("this machine seals nothing: the journal's key lies beside it");
            keys::load_or_make(&dir.join("journal.key"))?
        }
    };
    let opening = Books::open(&dir.join("journal"), &key, false)?;
    let history = opening.records().iter().map(|bytes| KeyRecord::decode(bytes));
    let history = history.collect::<Result<Vec<_>, _>>()?;
    let settings = KeySettings {
        life_s: config.life_s,
        rotate_every_s: config.rotate_every_s,
        check: config.check_images,
    };
    let now_s = clock::now_ms() / 1000;
    let mut machine = KeyManager::open(settings, listed(root), history, now_s, out)?;
    let newest = machine.newest_version();
    if newest > root.version {
        let version = root.version;
        tracing::warn!(version, newest, "the registry is older than one believed before: no keys");
    }
    let (books, disk) = opening.start(snapshot(&machine))?;
    if config.add_test_key {
        tracing::warn!("handing out the test key that everybody knows");
        machine.add_test_key(Secret::new(TEST_KEY), TEST_KEY_UNTIL_S);
    }
    Ok((machine, books, disk))
}

fn snapshot(machine: &KeyManager) -> Vec<Vec<u8>> {
    machine.snapshot().iter().map(KeyRecord::encode).collect()
}

struct Node {
    machine: KeyManager,
    books: Books,
    trail: Trail,
    links: HashMap<ConnId, LinkHandle>,
    /// Tickets of the journal, and up to which number they make durable.
    held: VecDeque<(u64, u64)>,
    pages: Pages,
    root: Registry,
}

impl Node {
    async fn run(
        &mut self,
        mut events: mpsc::Receiver<LinkEvent>,
        mut disk: BooksEvents,
        stop: &Stop,
    ) -> Result<(), RunFault> {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let mut out = Vec::new();
            tokio::select! {
                () = stop.asked() => return Ok(()),
                event = events.recv() => match event {
                    None => return Ok(()),
                    Some(LinkEvent { conn, event }) => self.event(ConnId(conn.0), event, &mut out),
                },
                event = disk.recv() => match event {
                    Some(BooksEvent::Durable(ticket)) => self.durable(ticket),
                    Some(BooksEvent::Stalled(fault)) => tracing::error!(%fault, "journal waits"),
                    Some(BooksEvent::Failed(fault)) => return Err(fault.into()),
                    None => return Err(cocoon_journal::Fault::Stopped.into()),
                },
                Ok(()) = self.root.changed() => {
                    let root = self.root.borrow_and_update().clone();
                    self.machine.registry_changed(listed(&root), &mut out);
                }
                _ = ticks.tick() => {
                    let fresh = Secret::new(clock::random());
                    self.machine.tick(clock::now_ms() / 1000, &fresh, &mut out);
                    self.compact()?;
                }
            }
            self.perform(out)?;
        }
    }

    fn event(&mut self, conn: ConnId, event: Event, out: &mut Vec<Act>) {
        match event {
            Event::Opened(opened) => {
                let peer = KeyPeer {
                    image: opened.identity.image_hash.map(ImageHash),
                    key: opened.identity.public_key.map(PublicKey),
                    fresh: false,
                };
                self.links.insert(conn, opened.link);
                self.machine.opened(conn, peer);
            }
            Event::Attested(verdicts) if verdicts.is_fresh() => self.machine.attested(conn),
            Event::Query { id, data } => {
                let asker = Asker { conn, query: id };
                self.machine.query(asker, &data, clock::now_ms() / 1000, out);
            }
            Event::Closed(_) => {
                self.links.remove(&conn);
                self.machine.closed(conn);
            }
            _ => {}
        }
    }

    fn durable(&mut self, ticket: u64) {
        while let Some((held, number)) = self.held.front().copied() {
            if held > ticket {
                return;
            }
            self.held.pop_front();
            self.machine.durable(number);
        }
    }

    fn compact(&mut self) -> Result<(), RunFault> {
        if self.books.segment_len() > JOURNAL_BYTES_MAX {
            self.books.snapshot(snapshot(&self.machine))?;
        }
        Ok(())
    }

    /// First the journal and the trail, then what may be answered.
    fn perform(&mut self, out: Vec<Act>) -> Result<(), RunFault> {
        let mut audit: Vec<AuditEntry> = Vec::new();
        let mut answers = Vec::new();
        for act in out {
            match act {
                Act::Record { number, record } => {
                    let ticket = self.books.append(vec![record.encode()])?;
                    self.held.push_back((ticket, number));
                }
                Act::Audit(entry) => audit.push(entry),
                Act::Answer { .. } | Act::Refuse { .. } => answers.push(act),
            }
        }
        if !audit.is_empty() {
            // A few milliseconds, a few times an hour: peers that ask again add no line.
            self.trail.add(&audit)?;
        }
        for act in answers {
            match act {
                Act::Answer { to, data } => {
                    self.send(to.conn, |link| link.answer(to.query, data));
                }
                Act::Refuse { to, code, message } => {
                    self.send(to.conn, |link| {
                        link.answer_error(to.query, code, message.to_owned())
                    });
                }
                Act::Record { .. } | Act::Audit(_) => {}
            }
        }
        let chain = self.trail.chain();
        let keys = self.machine.keys().cloned().collect();
        self.pages.publish(keys, self.links.len(), (chain.lines(), chain.head()));
        Ok(())
    }

    fn send(
        &self,
        conn: ConnId,
        send: impl FnOnce(&LinkHandle) -> Result<(), cocoon_link::SendFault>,
    ) {
        let Some(link) = self.links.get(&conn) else { return };
        if let Err(fault) = send(link) {
            tracing::warn!(conn = conn.0, %fault, "peer does not take its answer");
            link.close();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cocoon_host::evidence::EvidenceConfig;

    #[test]
    fn fresh_evidence_is_required_unless_the_operator_says_otherwise() {
        let config = KeyManagerConfig {
            evidence: EvidenceConfig::Hardware(Box::default()),
            root: cocoon_units::Address::new(0, [9; 32]).to_string(),
            ..KeyManagerConfig::default()
        };
        assert!(subject(&config).unwrap().unwrap().requires_fresh);
        let lax = KeyManagerConfig { certificates_suffice: true, ..config };
        assert!(!subject(&lax).unwrap().unwrap().requires_fresh);
    }
}
