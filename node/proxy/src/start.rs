//! From a configuration to a running node.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cocoon_contract::address::{self, ProxyIdentity};
use cocoon_host::key_feed::KeyFeed;
use cocoon_host::pages::PageSettings;
use cocoon_host::peers::{Admit, Presence, Transport};
use cocoon_host::{Books, BooksEvent, ChannelRole, Stop, Subject, clock, keys};
use cocoon_ledger::Record;
use cocoon_link::{LinkSettings, Links, Listener, PortLimits};
use cocoon_role_proxy::{ChainMode, Identity, Proxy, Settings, StartFault};
use cocoon_units::{PublicKey, Role, Secret};
use ed25519_dalek::SigningKey;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::chain::{self, ChainSide, Ground, RealGround};
use crate::config::{Checked, ProxyConfig};
use crate::desk::Desk;
use crate::fault::RunFault;
use crate::pages;
use crate::turn::{self, Turn};

/// Events that may wait for the loop; beyond that, connections stop reading.
const EVENTS_MAX: usize = 4_096;

/// A proxy that runs.
#[derive(Debug)]
pub struct Running {
    /// Where workers come in, with the real port.
    pub workers: SocketAddr,
    /// Where clients come in, with the real port.
    pub clients: SocketAddr,
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
            // A panic in the loop is ours; it is not swallowed.
            Err(fault) if fault.is_panic() => std::panic::resume_unwind(fault.into_panic()),
            Err(_) => Ok(()),
        }
    }
}

/// Runs a proxy until `stop` is asked for: then takes nothing new, ends what runs, and returns.
///
/// # Errors
/// [`RunFault`] says what to correct.
pub async fn run(config: ProxyConfig, stop: Stop) -> Result<(), RunFault> {
    start(config, stop).await?.ended().await
}

/// Starts a proxy; when this returns, peers can come in.
///
/// # Errors
/// [`RunFault`] says what to correct; nothing runs then.
pub async fn start(config: ProxyConfig, stop: Stop) -> Result<Running, RunFault> {
    let checked = config.check()?;
    let ground = chain::ground(&config, &checked, &stop).await?;
    let root = Arc::clone(&ground.root);
    let seed = proxy_key(&config)?;
    let (machine, (books, mut disk)) = open_books(&config, &checked, &ground, &seed)?;
    let subject = subject(&config, &checked, &root, &seed)?;
    let (events_in, events) = mpsc::channel(EVENTS_MAX);
    let links = Links::new(LinkSettings::default(), events_in);
    // The chain is needed until what runs has ended.
    let chain_stop = Stop::new();
    let side = ground.chain.map(|ground| {
        let root = (checked.root, Arc::clone(&root));
        ChainSide::start(ground, &config, root, &chain_stop)
    });
    let mut turn = Turn::new(machine, books, links.clone(), root, side, config.journal_bytes_max);
    turn.begin(&mut disk).await?;
    let tls_key = keys::load_or_make(&config.data_dir.join("tls.key"))?;
    let presence = Presence::start(&tls_key, &config.evidence, &stop)
        .and_then(|presence| presence.speaking_for(subject))
        .map_err(RunFault::Certificate)?;
    if let Some(at) = &config.key_manager {
        let route = (&presence, &config.key_transport());
        turn.keys = KeyFeed::start(at, (Role::Proxy, config.is_test), route, &stop)?;
    }
    let ports = Ports { links: &links, presence: &presence, config: &config };
    let workers =
        ports.open(config.listen_workers, turn::WORKERS, Admit::Attested, "workers").await?;
    let clients =
        ports.open(config.listen_clients, turn::CLIENTS, Admit::Anybody, "clients").await?;
    turn.presence = Some(presence.clone());
    let (desk, questions) = Desk::new();
    // Pages outlive the request to stop: they show how the end goes.
    let pages_stop = Stop::new();
    let http = serve_pages(&config, desk, &pages_stop).await?;
    let (workers_at, clients_at) = (workers.address(), clients.address());
    tracing::info!(workers = %workers_at, clients = %clients_at, ?http, "proxy listens");
    let drain = Duration::from_secs(config.drain_s);
    let task = tokio::spawn(async move {
        let result = turn.run(events, disk, questions, stop.clone(), drain).await;
        // From here on nobody comes in; what was written to links goes out.
        drop((workers, clients));
        links.close().await;
        pages_stop.now();
        chain_stop.now();
        stop.now();
        result
    });
    Ok(Running { workers: workers_at, clients: clients_at, http, task })
}

fn proxy_key(config: &ProxyConfig) -> Result<Secret<[u8; 32]>, RunFault> {
    match &config.proxy_key {
        Some(key) => Ok(key.clone()),
        None => Ok(keys::load_or_make(&config.data_dir.join("proxy.key"))?),
    }
}

/// What this proxy states over its connections: its contract's address stands for it.
fn subject(
    config: &ProxyConfig,
    checked: &Checked,
    root: &cocoon_contract::root::RootState,
    seed: &Secret<[u8; 32]>,
) -> Result<Subject, RunFault> {
    let key = SigningKey::from_bytes(seed.expose());
    let public_key = PublicKey(key.verifying_key().to_bytes());
    let identity = ProxyIdentity { owner: checked.owner, public_key, root: checked.root };
    let contract = address::proxy(&identity, &root.network).map_err(StartFault::Address)?;
    let checks = config.check_worker_images || !config.is_test;
    let peer_images = root.worker_hashes.iter().filter(|_| checks).map(|hash| hash.0).collect();
    let subject = Subject {
        peer_images,
        addresses: config.public_addresses.clone(),
        ..Subject::new(ChannelRole::Proxy, config.is_testnet, checked.root, contract.hash)
    };
    Ok(subject.endorsed_by(&config.endorsement_file)?)
}

/// The journal, and what it reports.
type Written = (Books, mpsc::UnboundedReceiver<BooksEvent>);

fn open_books(
    config: &ProxyConfig,
    checked: &Checked,
    ground: &Ground,
    seed: &Secret<[u8; 32]>,
) -> Result<(Proxy, Written), RunFault> {
    let journal_key = keys::load_or_make(&config.data_dir.join("journal.key"))?;
    let dir = config.data_dir.join("journal");
    let opening = Books::open(Path::new(&dir), &journal_key, config.repair_journal)?;
    let history = opening.records().iter().map(|bytes| Record::decode(bytes));
    let history = history.collect::<Result<Vec<Record>, _>>()?;
    let identity = Identity {
        owner: checked.owner,
        root: checked.root,
        wallet: ground.chain.as_ref().map_or(checked.wallet, RealGround::wallet),
        key: SigningKey::from_bytes(seed.expose()),
        is_test: config.is_test,
        is_testnet: config.is_testnet,
    };
    let mut pool = Settings::default().pool;
    pool.waiting_per_slot_milli = config.waiting_per_slot_milli;
    let settings = Settings {
        chain: if ground.chain.is_some() { ChainMode::Real } else { ChainMode::Pseudo },
        charge_min: config.charge_at,
        payout_min: config.payout_at,
        check_hashes: config.check_worker_images,
        queue_wait_max_ms: config.queue_wait_ms,
        pool,
        commit_every_ms: config.commit_every_ms,
        commit_at_risk: config.commit_at_risk,
        ..Settings::default()
    };
    let root = Arc::clone(&ground.root);
    let machine = Proxy::open(identity, settings, root, history, clock::random())?;
    let books = opening.start(turn::encode(&machine.snapshot()))?;
    Ok((machine, books))
}

struct Ports<'a> {
    links: &'a Links,
    presence: &'a Presence,
    config: &'a ProxyConfig,
}

impl Ports<'_> {
    async fn open(
        &self,
        address: SocketAddr,
        tag: cocoon_link::Tag,
        admit: Admit,
        what: &'static str,
    ) -> Result<Listener, RunFault> {
        let entry = self.presence.entry(&self.config.transport, self.config.work_bits, admit);
        let limits = match self.config.transport {
            Transport::Direct if !address.ip().is_loopback() => PortLimits::public(),
            _ => PortLimits::local(),
        };
        Listener::bind(self.links, address, entry, limits, tag)
            .await
            .map_err(|source| RunFault::Listen { address, what, source })
    }
}

async fn serve_pages(
    config: &ProxyConfig,
    desk: Desk,
    stop: &Stop,
) -> Result<Option<SocketAddr>, RunFault> {
    let Some(address) = config.http else { return Ok(None) };
    let fault = |source| RunFault::Listen { address, what: "pages", source };
    let socket = TcpListener::bind(address).await.map_err(fault)?;
    let bound = socket.local_addr().map_err(fault)?;
    let pages = pages::router(pages::Pages::new(desk, config));
    let stop = stop.clone();
    tokio::spawn(async move {
        cocoon_host::pages::serve(socket, pages, PageSettings::default(), stop.asked()).await;
    });
    Ok(Some(bound))
}
