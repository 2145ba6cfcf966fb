//! The worker's loop.

use cocoon_attest::report::Keyset;
use cocoon_channel::{ChannelRecord, Channels};
use cocoon_contract::payment::PaymentKind;
use cocoon_contract::root::RootState;
use cocoon_host::chain::{RootFault, WalletFault};
use cocoon_host::config::ConfigFault;
use cocoon_host::key_feed::KeyFeed;
use cocoon_host::peers::{Presence, Transport};
use cocoon_host::{
    Books, BooksEvent, BooksEvents, ChannelRole, Stop, Subject, clock, keys, network,
};
use cocoon_link::{Dialer, KeptLink, LinkEvent, LinkSettings, Links, Tag};
use cocoon_proof::ReceiptKey;
use cocoon_role_worker::Identity;
use cocoon_settle::{SettleLog, SettleRecord};
use cocoon_units::{Coefficient, ImageHash, Role};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;
use tokio::sync::mpsc::{Receiver, UnboundedReceiver, channel, unbounded_channel};
use tokio::sync::watch;

use crate::admin::{self, Admin, Order};
use crate::backend::{Backend, BackendFault};
use crate::config::{Checked, WorkerConfig};
use crate::funds::{Ground, Standing};
use crate::model::ModelChange;
use crate::notary::Notary;
use crate::state::{self, State, Told};
use crate::weights::{Weights, WeightsEvent, WeightsFault};

/// Events taken in one turn of the loop.
const BATCH: usize = 256;
/// Events that wait for the loop before connections stop reading.
const EVENTS_MAX: usize = 4096;
/// How often sessions look at the clock and status pages are renewed.
const TICK: Duration = Duration::from_millis(250);
/// Pause between two probes of the model server (protocol notes, wire 4.9), and while it is away.
const PROBE_EVERY: Duration = Duration::from_millis(1_500);
const PROBE_AWAY: Duration = Duration::from_millis(200);

/// A worker that cannot run.
#[derive(Debug, Error)]
pub enum WorkerFault {
    /// The user's configuration.
    #[error(transparent)]
    Config(#[from] ConfigFault),
    /// The model server's address.
    #[error(transparent)]
    Backend(#[from] BackendFault),
    /// The model's bytes.
    #[error(transparent)]
    Weights(#[from] WeightsFault),
    /// Key files.
    #[error(transparent)]
    Key(#[from] keys::KeyFault),
    /// The journal.
    #[error("journal: {0}")]
    Journal(#[from] cocoon_journal::Fault),
    /// The node's own certificate.
    #[error("certificate: {0}")]
    Certificate(String),
    /// The root contract.
    #[error(transparent)]
    Root(#[from] RootFault),
    /// The node's wallet.
    #[error(transparent)]
    Wallet(#[from] WalletFault),
    /// The registry lists no proxy that can be reached.
    #[error("{0} lists no proxy with a readable address")]
    NoProxies(String),
    /// Status pages cannot be served.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
}

/// Runs the worker until `stop`: then no new queries are taken, running ones get the configured
/// time to end, and connections are closed.
///
/// # Errors
/// [`WorkerFault`]: the node could not start, or its journal is gone.
pub async fn serve(config: &WorkerConfig, stop: &Stop) -> Result<(), WorkerFault> {
    let mut checked = config.check()?;
    let (channels, settled, books, book_events) = open_books(&config.data_dir)?;
    let ground = Ground::find(config, &mut checked, &settled, stop).await?;
    let root = match &ground {
        Some(ground) => ground.root(),
        None if config.chain.is_real() => return Ok(()),
        None => network::load_pseudo(&config.network_file)?,
    };
    let backend = Backend::new(&config.forward_to)?;
    let weights = Weights::new(&config.model_path);
    weights.check(&checked.model).await?;
    let key = keys::load_or_make(&config.data_dir.join("node.key"))?;

    let receipt_key = ReceiptKey::from_seed(&clock::random());
    let subject = subject(config, &checked, &root, &receipt_key)?;
    let served = subject.model.clone();
    served.set(checked.model.as_str());
    let presence = Presence::start(&key, &config.evidence, stop)
        .and_then(|presence| presence.speaking_for(subject))
        .map_err(WorkerFault::Certificate)?;
    let (sender, events) = channel(EVENTS_MAX);
    let links = Links::new(LinkSettings::default(), sender);
    let dialer = Dialer::new(&links, presence.route(&config.transport, config.work_bits_max));
    let connections = config.proxy_connections as usize;
    let kept = dial(&dialer, &root, connections);
    if kept.is_empty() {
        return Err(no_proxies(config, &checked));
    }

    let keys = ask_for_keys(config, &presence, stop)?;
    let (tell, told) = unbounded_channel();
    let models = (config.check_proxy_images || !config.is_test).then(|| root.model_hashes.clone());
    let weights_events = weights.watch();
    let model_change =
        ModelChange::new(&config.change_model_script, models, weights).stating(served);
    let kept_books = (channels, books, config.journal_bytes_max);
    let standing = watch::Sender::new(Standing::default());
    if let Some(ground) = ground {
        let owner = (checked.owner, config.money.clone());
        ground.look_after(owner, &settled, standing.subscribe(), tell.clone(), stop.clone());
    }
    let identity = identity(config, checked, root);
    let notary = Notary::new(presence.witness(), &identity, receipt_key)
        .map_err(WorkerFault::Certificate)?;
    let means = (backend.clone(), model_change, Arc::new(notary));
    let mut state = State::new(identity, kept_books, means, tell);
    state.settled = settled;
    let (admin, orders) = Admin::new(config);
    if let Some(address) = config.http {
        admin::listen(address, admin.clone(), stop)
            .await
            .map_err(|source| WorkerFault::Listen { address, source })?;
    }
    let node = Node {
        state,
        links,
        events,
        told,
        orders,
        book_events,
        admin,
        kept,
        weights_events,
        standing,
        dialer,
        connections,
        keys,
        presence,
    };
    node.run(backend, Duration::from_secs(config.drain_s), stop).await
}

/// Asks the key manager, where there is one. A router goes to proxies; the key manager is reached
/// directly.
fn ask_for_keys(
    config: &WorkerConfig,
    presence: &Presence,
    stop: &Stop,
) -> Result<KeyFeed, ConfigFault> {
    let Some(at) = &config.key_manager else { return Ok(KeyFeed::default()) };
    let transport = match config.transport {
        Transport::Plain => Transport::Plain,
        Transport::Direct | Transport::Router(_) => Transport::Direct,
    };
    KeyFeed::start(at, (Role::Worker, config.is_test), (presence, &transport), stop)
}

/// What the node's evidence speaks about.
fn subject(
    config: &WorkerConfig,
    checked: &Checked,
    root: &RootState,
    receipt_key: &ReceiptKey,
) -> Result<Subject, ConfigFault> {
    let (role, owner) = (ChannelRole::Worker, checked.owner.hash);
    let mut subject = Subject::new(role, config.is_testnet, checked.root, owner);
    if config.check_proxy_images || !config.is_test {
        subject.peer_images = root.proxy_hashes.iter().map(|hash| hash.0).collect();
    }
    subject.keyset = Keyset { receipt_key: receipt_key.public() }.digest().0;
    subject.endorsed_by(&config.endorsement_file)
}

fn no_proxies(config: &WorkerConfig, checked: &Checked) -> WorkerFault {
    WorkerFault::NoProxies(match config.chain.is_real() {
        true => checked.root.to_raw(),
        false => config.network_file.display().to_string(),
    })
}

struct Node {
    state: State,
    links: Links,
    events: Receiver<LinkEvent>,
    told: UnboundedReceiver<Told>,
    orders: Receiver<Order>,
    book_events: BooksEvents,
    admin: Admin,
    kept: Vec<KeptLink>,
    weights_events: Receiver<WeightsEvent>,
    /// What the task that collects earnings looks at.
    standing: watch::Sender<Standing>,
    dialer: Dialer,
    connections: usize,
    keys: KeyFeed,
    presence: Presence,
}

impl Node {
    async fn run(
        mut self,
        backend: Backend,
        drain: Duration,
        stop: &Stop,
    ) -> Result<(), WorkerFault> {
        let mut probes = probe_for_ever(backend, stop.clone());
        let mut batch = Vec::with_capacity(BATCH);
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut drained_by: Option<tokio::time::Instant> = None;
        loop {
            tokio::select! {
                () = stop.asked(), if drained_by.is_none() => {
                    drained_by = Some(tokio::time::Instant::now() + drain);
                    self.state.ending = true;
                    self.state.announce();
                }
                count = self.events.recv_many(&mut batch, BATCH) => {
                    let now_ms = clock::now_ms();
                    for event in batch.drain(..) {
                        self.state.event(event, now_ms);
                    }
                    if count == 0 {
                        break;
                    }
                }
                Some(told) = self.told.recv() => {
                    if let Told::Root(root) = &told {
                        self.admit(root);
                        self.redial(root);
                    }
                    self.state.told(told);
                }
                Some(up) = probes.recv() => {
                    if up != self.state.backend_up {
                        tracing::info!(up, "model server");
                        self.state.backend_up = up;
                        self.state.announce();
                    }
                }
                Some(event) = self.book_events.recv() => match event {
                    BooksEvent::Durable(ticket) => self.state.durable(ticket),
                    BooksEvent::Stalled(fault) => tracing::error!(%fault, "journal waits"),
                    BooksEvent::Failed(fault) => return Err(fault.into()),
                },
                Some(event) = self.weights_events.recv() => {
                    self.state.weights_suspect = match event {
                        WeightsEvent::Suspect => true,
                        WeightsEvent::Confirmed => false,
                        WeightsEvent::Lost(fault) => return Err(fault.into()),
                    };
                    self.state.announce();
                }
                held = self.keys.changed() => self.state.identity.keys = held,
                Some(order) = self.orders.recv() => self.order(order),
                _ = ticks.tick() => self.beat(),
            }
            if let Some(fault) = self.state.take_journal_fault() {
                return Err(fault.into());
            }
            let over = |deadline| tokio::time::Instant::now() >= deadline;
            if drained_by.is_some_and(|deadline| self.state.running() == 0 || over(deadline)) {
                break;
            }
        }
        drop(self.kept);
        drop(self.events);
        self.links.close().await;
        Ok(())
    }

    /// What happens at every beat: time passes, and what the node is known by is told.
    fn beat(&mut self) {
        self.state.tick(clock::now_ms());
        self.admin.publish(&self.state);
        if self.standing.receiver_count() > 0 {
            self.standing.send_replace(self.state.standing());
        }
    }

    fn order(&mut self, order: Order) {
        match order {
            Order::Enable => self.state.admin_disabled = false,
            Order::Disable => self.state.admin_disabled = true,
            Order::Coefficient(coefficient) => self.state.set_coefficient(coefficient),
            Order::Collect(proxy) => self.state.collects = (self.state.collects.0 + 1, proxy),
        }
        self.state.announce();
    }

    /// Lets in proxies of the images listed now, where images are looked at.
    fn admit(&self, root: &RootState) {
        let images: Vec<[u8; 32]> = root.proxy_hashes.iter().map(|hash| hash.0).collect();
        if let Err(fault) = self.presence.admit_images(&images) {
            tracing::error!(%fault, "the registry's images are refused; those before stay in use");
        }
    }

    /// Keeps connections to the proxies that the registry lists now.
    fn redial(&mut self, root: &RootState) {
        let listed: Vec<SocketAddr> =
            root.endpoints().map(|(_, endpoint)| SocketAddr::V4(endpoint.workers)).collect();
        self.kept.retain(|link| listed.contains(&link.target()));
        if self.kept.len() < self.connections.min(listed.len()) {
            self.kept = dial(&self.dialer, root, self.connections);
        }
    }
}

/// Tells after each probe whether the model server is there.
fn probe_for_ever(backend: Backend, stop: Stop) -> Receiver<bool> {
    let (sender, probes) = channel(1);
    tokio::spawn(async move {
        loop {
            let up = match backend.probe().await {
                Ok(_) => true,
                Err(fault) => {
                    tracing::debug!(%fault, "probe of the model server");
                    false
                }
            };
            let pause = if up { PROBE_EVERY } else { PROBE_AWAY };
            if sender.send(up).await.is_err() {
                return;
            }
            tokio::select! {
                () = stop.asked() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    });
    probes
}

fn open_books(data_dir: &Path) -> Result<(Channels, SettleLog, Books, BooksEvents), WorkerFault> {
    let key = keys::load_or_make(&data_dir.join("journal.key"))?;
    let opening = Books::open(&data_dir.join("journal"), &key, false)?;
    let mut channels = Channels::new(PaymentKind::WorkerPayout);
    let mut settled = SettleLog::default();
    for bytes in opening.records() {
        if let Some(record) = SettleRecord::decode(bytes) {
            settled.apply(&record);
        } else if let Some(record) = ChannelRecord::decode(bytes) {
            channels.apply(&record);
        }
    }
    let (books, events) = opening.start(state::snapshot(&channels, &settled))?;
    Ok((channels, settled, books, events))
}

fn dial(dialer: &Dialer, root: &RootState, connections: usize) -> Vec<KeptLink> {
    let mut endpoints: Vec<(u32, SocketAddr)> = root
        .endpoints()
        .map(|(seqno, endpoint)| (seqno, SocketAddr::V4(endpoint.workers)))
        .collect();
    // A random start spreads workers over proxies.
    let start = usize::from_le_bytes(clock::random()).checked_rem(endpoints.len());
    endpoints.rotate_left(start.unwrap_or(0));
    endpoints
        .into_iter()
        .take(connections)
        .map(|(seqno, target)| dialer.keep(target, Tag(seqno.into())))
        .collect()
}

fn identity(config: &WorkerConfig, checked: Checked, root: RootState) -> Identity {
    let check = config.check_proxy_images || !config.is_test;
    Identity {
        owner: checked.owner,
        wallet: checked.wallet,
        model: checked.model,
        coefficient: checked.coefficient,
        max_active_requests: config.max_active_requests,
        proxy_count: config.proxy_connections,
        is_test: config.is_test,
        is_testnet: config.is_testnet,
        root: checked.root,
        proxy_images: check
            .then(|| root.proxy_hashes.iter().map(|hash| ImageHash(hash.0)).collect()),
        network: root.network,
        keys: Arc::default(),
    }
}

/// A price factor from the admin page's text, `1.5` for 1500 thousandths.
pub(crate) fn coefficient(text: &str) -> Option<Coefficient> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let part: String = part.chars().chain("000".chars()).take(3).collect();
    let milli = whole.parse::<i64>().ok()?.checked_mul(1000)?.checked_add(part.parse().ok()?)?;
    Coefficient::new(milli).ok()
}
