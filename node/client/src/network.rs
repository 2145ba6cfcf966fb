//! The client node: its loop, and the requests of its users.

use cocoon_attest::Digest32;
use cocoon_contract::cell::Hash;
use cocoon_contract::root::RootState;
use cocoon_gateway::answer::WorkerSeen;
use cocoon_gateway::upstream::NetworkStatus;
use cocoon_gateway::{
    InferenceRequest, InferenceStream, ModelOffer, MoneyOrder, MoneyRefusal, Upstream,
    UpstreamError,
};
use cocoon_host::peers::Presence;
use cocoon_host::{BooksEvent, BooksEvents, ChannelRole, Stop, Subject, clock, keys, network};
use cocoon_link::{Dialer, KeptLink, LinkEvent, LinkSettings, Links};
use cocoon_proof::{Body, RootView};
use cocoon_role_client::Ask;
use cocoon_settle::SettleRecord;
use cocoon_units::{ImageHash, RequestId};
use std::collections::{BTreeSet, HashSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc::{Receiver, UnboundedReceiver, channel, unbounded_channel};
use tokio::sync::{Notify, oneshot, watch};
use tokio::task::JoinHandle;

use crate::config::{Checked, ClientConfig};
use crate::contract_view::WalletView;
use crate::demands::Demands;
use crate::failure::{Asked, REFUSED_BY_WORKER};
use crate::fault::NetworkFault;
use crate::funds::{Desk, Funds, Parts};
use crate::ground::{Ground, Journal};
use crate::proof::{Proofs, root_view};
use crate::receipt_store::ReceiptStore;
use crate::receipts::Expected;
use crate::registry::{dial, identity, images};
use crate::requests::{HeadSender, Request, Requests};
use crate::turn::{After, Counts, State};
use crate::vet::Chosen;

/// Events taken in one turn of the loop.
const BATCH: usize = 256;
/// How often sessions look at the clock.
const TICK: Duration = Duration::from_millis(100);
/// Events that wait for the loop before connections stop reading.
const EVENTS_MAX: usize = 4096;
/// Pause between attempts while workers come back to a proxy that just became ready, or while a
/// proxy ends.
const SETTLE_PAUSE: Duration = Duration::from_millis(50);
/// Header in which a worker finds the nonce of its receipt.
const NONCE_HEADER: &str = "x-cocoon-nonce";
/// When to try again after "no proxy".
const AWAY_RETRY: Duration = Duration::from_secs(2);
/// When to try again while the chain is away.
const CHAIN_RETRY: Duration = Duration::from_secs(30);

/// The client node. Clones share it.
#[derive(Clone)]
pub struct Network {
    pub(crate) shared: Arc<Shared>,
    task: Arc<Mutex<Option<JoinHandle<()>>>>,
}

pub(crate) struct Shared {
    /// Ends the loop; asked for when nobody needs the network any more.
    ending: Stop,
    state: Mutex<State>,
    pub(crate) ready: Notify,
    pub(crate) proxy_wait: Duration,
    pub(crate) tee_kind: &'static str,
    pub(crate) verdict_life_ms: u64,
    links: Links,
    /// Something that concerns the money on chain happened.
    pub(crate) money: Notify,
    /// Counts the looks at the money on chain that were published.
    pub(crate) looked: watch::Sender<u64>,
    /// The last ticket of the journal that is on disk.
    durable: watch::Sender<u64>,
    dialing: Dialing,
    pub(crate) proofs: Proofs,
}

/// Whom this node keeps connections to.
struct Dialing {
    dialer: Dialer,
    connections: usize,
    kept: Mutex<Vec<KeptLink>>,
}

impl Network {
    /// The registry as this node believes it now: images and models that are allowed.
    #[must_use]
    pub fn registry(&self) -> RootView {
        self.shared.proofs.root()
    }

    /// Connects to the network of the configuration: as [`Self::start`] where there is no chain.
    /// On a chain it reads the root contract first, and looks after this client's money from then
    /// on. `None` when the node was asked to stop meanwhile.
    ///
    /// # Errors
    /// [`NetworkFault`]: nothing was started.
    pub async fn open(config: &ClientConfig, stop: &Stop) -> Result<Option<Self>, NetworkFault> {
        if !config.chain.is_real() {
            return Self::start(config, stop).map(Some);
        }
        let mut checked = config.check()?;
        let journal = Journal::open(config)?;
        let ground = Ground::find(config, &mut checked, &journal.log, stop).await?;
        let Some(ground) = ground else { return Ok(None) };
        let root = ground.root.followed().clone();
        let network = Self::begin(config, checked, journal, root, stop)?;
        let address = ground.purse.address();
        network.shared.lock().funds.wallet =
            Some(WalletView { address, balance: None, lacks: None });
        let secret_hash = Hash(network.shared.lock().identity.secret_hash());
        let parts = Parts {
            shared: Arc::clone(&network.shared),
            line: ground.line,
            purse: ground.purse,
            reports: ground.reports,
            root: ground.root,
            policy: config.money.clone(),
            leave: config.leave,
            secret_hash,
            durable: network.shared.durable.subscribe(),
            poll: config.chain.poll(),
            away_max: config.chain.away_max(),
            known: ground.known,
        };
        network.shared.lock().funds.is_open = true;
        tokio::spawn(Funds::run(parts, stop.clone()));
        Ok(Some(network))
    }

    /// Connects to a network without a chain and returns at once; requests wait a moment for the first proxy.
    /// A fault that ends the node asks `stop` to end it all; [`Self::close`] ends the network.
    ///
    /// # Errors
    /// [`NetworkFault`]: nothing was started.
    pub fn start(config: &ClientConfig, stop: &Stop) -> Result<Self, NetworkFault> {
        let checked = config.check()?;
        let root = network::load_pseudo(&config.network_file)?;
        Self::begin(config, checked, Journal::open(config)?, root, stop)
    }

    fn begin(
        config: &ClientConfig,
        checked: Checked,
        journal: Journal,
        root: RootState,
        stop: &Stop,
    ) -> Result<Self, NetworkFault> {
        let key = keys::load_or_make(&config.data_dir.join("node.key"))?;
        let journal_key = keys::load_or_make(&config.data_dir.join("journal.key"))?;
        let receipts = config.data_dir.join("receipts");
        let receipts_max = config.receipts_max as usize;
        let (receipts, receipt_events) = ReceiptStore::open(&receipts, &journal_key, receipts_max)?;

        let own_id = checked.wallet.hash;
        let mut subject =
            Subject::new(ChannelRole::Client, config.is_testnet, checked.root, own_id);
        if config.check_proxy_images || !config.is_test {
            subject.peer_images = root.proxy_hashes.iter().map(|hash| hash.0).collect();
        }
        let presence = Presence::start(&key, &config.evidence, stop)
            .and_then(|presence| presence.speaking_for(subject))
            .map_err(NetworkFault::Certificate)?;
        let (sender, events) = channel(EVENTS_MAX);
        let links = Links::new(LinkSettings::default(), sender);
        let route = presence.route(&config.transport, config.work_bits_max);
        let dialer = Dialer::new(&links, route);
        let connections = config.proxy_connections as usize;
        let kept = dial(&dialer, &root, connections);
        if kept.is_empty() {
            let place = match config.chain.is_real() {
                true => checked.root.to_raw(),
                false => config.network_file.display().to_string(),
            };
            return Err(NetworkFault::NoProxies(place));
        }
        let dialing = Dialing { dialer, connections, kept: Mutex::new(kept) };

        let (cancels, cancelled) = unbounded_channel();
        let view = root_view(&root, checked.root.hash, config.is_testnet);
        let state = State {
            prices: root.network.params.price_table(),
            identity: Arc::new(identity(config, checked, root)),
            channels: journal.channels,
            proxies: Default::default(),
            requests: Requests::new(cancels, config.evidence.tee_kind()),
            books: journal.books,
            journal_bytes_max: config.journal_bytes_max,
            counts: Counts::default(),
            seen_models: Default::default(),
            funds: Desk { log: journal.log, ..Desk::default() },
            receipts,
            asked: Default::default(),
            vouching: Vec::new(),
            vetted: Default::default(),
            unreachable: Default::default(),
        };
        let shared = Arc::new(Shared {
            ending: Stop::new(),
            state: Mutex::new(state),
            ready: Notify::new(),
            proxy_wait: Duration::from_millis(config.proxy_wait_ms),
            tee_kind: config.evidence.tee_kind(),
            verdict_life_ms: u64::from(config.verdict_life_s).saturating_mul(1_000),
            links,
            money: Notify::new(),
            looked: watch::Sender::new(0),
            durable: watch::Sender::new(0),
            dialing,
            proofs: Proofs::new(presence, view),
        });
        let book_events = journal.events;
        let inputs = Inputs { events, cancelled, book_events, receipt_events };
        let task = tokio::spawn(run(Arc::clone(&shared), inputs, stop.clone()));
        Ok(Self { shared, task: Arc::new(Mutex::new(Some(task))) })
    }

    /// Ends the network: what was written goes out and connections close. The journal is complete
    /// when the last clone is dropped. Call it when the last answer has been taken; requests that
    /// still run fail.
    pub async fn close(&self) {
        self.shared.ending.now();
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = task {
            // A panic in the loop was reported by its own task.
            let _ = task.await;
        }
    }

    /// Sends a request when a proxy is ready; otherwise gives the head's sender back.
    fn submit(
        &self,
        id: RequestId,
        request: &InferenceRequest,
        chosen: Option<&Chosen>,
        head: HeadSender,
    ) -> Result<(), Submitted> {
        // Hashed before the lock is taken: bodies may be long.
        let body = Body::of(request.body.expose());
        let mut state = self.shared.lock();
        let now_ms = clock::steady_ms();
        state.funds.away.map_or(Ok(()), |away| Err(Submitted::ChainAway(away)))?;
        let found = state.proxy_of(&request.model, chosen, id, now_ms);
        let Some((conn, named)) = found else { return Err(Submitted::NoProxy(head)) };
        let identity = Arc::clone(&state.identity);
        let Some(proxy) = state.proxies.get_mut(&conn) else {
            return Err(Submitted::NoProxy(head));
        };
        let mut headers: Vec<(&str, &[u8])> =
            request.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
        let carries = proxy.session.carries_receipts();
        if request.wishes.receipt && !carries {
            return Err(Submitted::NoReceipt);
        }
        let nonce: [u8; 32] = clock::random();
        let nonce_text = Digest32::from(nonce).to_string();
        if carries {
            headers.push((NONCE_HEADER, nonce_text.as_bytes()));
        }
        let timeout_ms = u64::try_from(request.timeout.as_millis()).unwrap_or(u64::MAX);
        let ask = Ask {
            request: id,
            model: &request.model,
            path: request.path,
            headers: &headers,
            body: &request.body,
            max_coefficient: request.max_coefficient,
            max_tokens: request.max_tokens,
            timeout_ms,
            debug: request.debug,
        };
        let message = proxy.session.ask(&identity, &ask);
        let measurement = proxy.image.map(|image| image.to_string()).unwrap_or_default();
        // Names go out directly before their request, or not at all.
        let sent = match named {
            Some(named) => proxy.link.messages(named, message),
            None => proxy.link.message(message),
        };
        if let Err(fault) = sent {
            proxy.session.forget(id);
            return Err(match fault {
                cocoon_link::SendFault::TooLong { .. } => Submitted::TooLong,
                _ => Submitted::NoProxy(head),
            });
        }
        let asked = Asked::of(request, state.prices.price_per_token);
        state.counts.asked += 1;
        let (root, is_testnet) = (state.identity.root.hash, state.identity.is_testnet);
        let demanded = request.wishes.receipt || chosen.is_some();
        let expected = carries.then(|| {
            Expected::new(nonce, (network::network_id(is_testnet), root), request, body, demanded)
                .signed_by(chosen.map(|c| c.keys.clone()))
        });
        state.requests.insert(
            id,
            Request {
                expected,
                receipt_id: None,
                conn,
                asked,
                deadline_ms: now_ms.saturating_add(timeout_ms),
                worker: WorkerSeen { proxy_measurement: measurement, ..WorkerSeen::default() },
                head: Some(head),
                feed: None,
                cut: None,
            },
        );
        Ok(())
    }

    /// Sends the request and waits for the head of its answer.
    async fn attempt(
        &self,
        request: &InferenceRequest,
        demands: Option<&Demands>,
    ) -> Result<InferenceStream, UpstreamError> {
        let chosen = match demands {
            None => None,
            Some(demands) => {
                let chosen = self.shared.choose(demands, &request.model);
                let chosen = tokio::time::timeout(request.timeout, chosen).await;
                Some(chosen.unwrap_or(Err(UpstreamError::Timeout { after: request.timeout }))?)
            }
        };
        let id = RequestId(clock::random());
        let (sender, head) = oneshot::channel();
        let mut guard = CancelOnDrop { shared: &self.shared, id: Some(id) };
        self.submit_in_time(id, request, chosen.as_ref(), sender).await?;
        let answer = head.await.unwrap_or(Err(UpstreamError::ProxyLost));
        // From here on the stream's own end cancels.
        guard.id = None;
        answer
    }

    /// Waits until a proxy is ready and takes the request.
    async fn submit_in_time(
        &self,
        id: RequestId,
        request: &InferenceRequest,
        chosen: Option<&Chosen>,
        mut head: HeadSender,
    ) -> Result<(), UpstreamError> {
        let deadline = tokio::time::Instant::now() + self.shared.proxy_wait.min(request.timeout);
        loop {
            // Armed before the look, so that no readiness between look and wait is missed.
            let ready = self.shared.ready.notified();
            head = match self.submit(id, request, chosen, head) {
                Ok(()) => return Ok(()),
                Err(Submitted::NoProxy(head)) => head,
                Err(Submitted::ChainAway(away)) => {
                    return Err(UpstreamError::ChainAway { away, retry_after: CHAIN_RETRY });
                }
                Err(Submitted::NoReceipt) => return Err(crate::demands::no_receipt()),
                Err(Submitted::TooLong) => {
                    return Err(UpstreamError::BadRequest {
                        message: "The request is larger than 16 MiB, the most that the network's \
                                  protocol carries in one message."
                            .into(),
                        param: None,
                        code: Some("request_too_large".into()),
                    });
                }
            };
            if tokio::time::timeout_at(deadline, ready).await.is_err() {
                return Err(UpstreamError::NoProxy { retry_after: AWAY_RETRY });
            }
        }
    }
}

enum Submitted {
    NoProxy(HeadSender),
    NoReceipt,
    TooLong,
    ChainAway(Duration),
}

/// Cancels a request whose head nobody waits for any more.
struct CancelOnDrop<'a> {
    shared: &'a Shared,
    id: Option<RequestId>,
}

impl Drop for CancelOnDrop<'_> {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.shared.cancel(id);
        }
    }
}

impl Upstream for Network {
    async fn run(&self, mut request: InferenceRequest) -> Result<InferenceStream, UpstreamError> {
        let deadline = tokio::time::Instant::now() + self.shared.proxy_wait.min(request.timeout);
        let demands = Demands::read(&request.wishes)?;
        let mut adapted = false;
        loop {
            let answer = self.attempt(&request, demands.as_ref()).await;
            match &answer {
                // Workers come back to a proxy one after the other.
                Err(UpstreamError::UnknownModel { .. } | UpstreamError::NoWorker { .. })
                    if tokio::time::Instant::now() < deadline
                        && self.shared.lock().is_settling(&request.model, clock::steady_ms()) =>
                {
                    tokio::time::sleep(SETTLE_PAUSE).await;
                }
                // The proxy ends or cannot write, and has begun nothing: another may be there.
                Err(UpstreamError::NoProxy { .. })
                    if tokio::time::Instant::now() < deadline
                        && self.shared.lock().is_somebody_away(clock::steady_ms()) =>
                {
                    tokio::time::sleep(SETTLE_PAUSE).await;
                }
                // A worker of the reference refuses what it does not list: say it in its words.
                // Its refusal has cost nothing.
                Err(UpstreamError::BadRequest { code, .. })
                    if !adapted && code.as_deref() == Some(REFUSED_BY_WORKER) =>
                {
                    adapted = true;
                    request.body = self.shared.lock().adapt(&request)?;
                }
                _ => return answer,
            }
        }
    }

    async fn models(&self) -> Result<Vec<ModelOffer>, UpstreamError> {
        let state = self.shared.lock();
        if let Some(away) = state.funds.away {
            return Err(UpstreamError::ChainAway { away, retry_after: CHAIN_RETRY });
        }
        if state.proxies.values().any(|proxy| proxy.session.is_ready()) {
            return Ok(state.offers());
        }
        Err(UpstreamError::NoProxy { retry_after: AWAY_RETRY })
    }

    async fn attestation(&self, nonce: [u8; 32]) -> Result<Vec<u8>, UpstreamError> {
        let bundle = self.shared.bundle(nonce).await?;
        bundle.write().map_err(|fault| UpstreamError::Internal { message: fault.to_string() })
    }

    async fn receipt(&self, id: &str) -> Result<Option<Vec<u8>>, UpstreamError> {
        let Some(file) = self.shared.lock().receipts.file(id) else { return Ok(None) };
        let internal = |message: String| UpstreamError::Internal { message };
        file.write().map(Some).map_err(|fault| internal(fault.to_string()))
    }

    async fn operate(&self, order: MoneyOrder) -> Result<serde_json::Value, MoneyRefusal> {
        self.demand(order).await.map(|plan| plan.to_json())
    }

    async fn status(&self) -> NetworkStatus {
        let state = self.shared.lock();
        let ready = state.proxies.values().filter(|proxy| proxy.session.is_ready()).count();
        NetworkStatus {
            ready_proxies: u32::try_from(ready).unwrap_or(u32::MAX),
            sections: crate::status::sections(&state),
            ..NetworkStatus::default()
        }
    }
}

impl Shared {
    /// A panic elsewhere cannot leave the state half changed in a way that matters here.
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues records about money; the ticket that says when they are on disk.
    pub(crate) fn write_down(&self, records: &[SettleRecord]) -> Option<u64> {
        let mut state = self.lock();
        for record in records {
            state.funds.log.apply(record);
        }
        state.books.append(records.iter().map(SettleRecord::encode).collect()).ok()
    }

    /// Moves to a state of the root contract that is believed. New parameters mean new contracts:
    /// all proxies are met again. Proxies whose image is no longer listed are left at once.
    pub(crate) fn adopt(&self, root: &RootState) {
        let mut state = self.lock();
        let old = &state.identity;
        let images: BTreeSet<ImageHash> = images(root);
        let moves = old.network != root.network;
        let mut identity = old.as_ref().clone();
        identity.root_version = i32::try_from(root.version).unwrap_or(i32::MAX);
        identity.proxy_images = old.proxy_images.as_ref().map(|_| images);
        identity.network = root.network.clone();
        state.prices = root.network.params.price_table();
        self.proofs.adopt(root_view(root, identity.root.hash, identity.is_testnet));
        state.identity = Arc::new(identity);
        crate::registry::admit(self.proofs.presence(), root);
        state.part_from_unlisted(moves);
        drop(state);
        let listed: HashSet<SocketAddr> =
            root.endpoints().map(|(_, endpoint)| SocketAddr::V4(endpoint.clients)).collect();
        let mut kept = self.dialing.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = self.dialing.connections.min(listed.len());
        kept.retain(|link| listed.contains(&link.target()));
        if kept.len() < wanted {
            kept.clear();
            kept.extend(dial(&self.dialing.dialer, root, self.dialing.connections));
        }
    }

    fn cancel(&self, id: RequestId) {
        let mut state = self.lock();
        if let Some(conn) = state.requests.cut(id, UpstreamError::ProxyLost) {
            state.cancel(conn, id);
        }
    }
}

/// What the loop listens to.
struct Inputs {
    events: Receiver<LinkEvent>,
    cancelled: UnboundedReceiver<RequestId>,
    book_events: BooksEvents,
    receipt_events: BooksEvents,
}

async fn run(shared: Arc<Shared>, inputs: Inputs, stop: Stop) {
    let Inputs { mut events, mut cancelled, mut book_events, mut receipt_events } = inputs;
    let mut batch = Vec::with_capacity(BATCH);
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let mut after = After::default();
        tokio::select! {
            () = shared.ending.asked() => break,
            count = events.recv_many(&mut batch, BATCH) => {
                if count == 0 {
                    break;
                }
                let now_ms = clock::steady_ms();
                let mut state = shared.lock();
                for event in batch.drain(..) {
                    state.event(event, now_ms, &mut after);
                }
            }
            Some(id) = cancelled.recv() => shared.cancel(id),
            Some(event) = book_events.recv() => match event {
                BooksEvent::Durable(ticket) => {
                    shared.durable.send_replace(ticket);
                }
                BooksEvent::Stalled(fault) => tracing::error!(%fault, "journal waits"),
                BooksEvent::Failed(fault) => after.journal = Some(fault),
            },
            Some(event) = receipt_events.recv() => {
                if let BooksEvent::Failed(fault) = event {
                    tracing::error!(%fault, "receipts are kept in memory only from now on");
                }
            }
            _ = ticks.tick() => shared.lock().tick(clock::steady_ms(), &mut after),
        }
        if after.ready {
            shared.ready.notify_waiters();
        }
        for unvouched in after.unvouched {
            let shared = Arc::clone(&shared);
            tokio::spawn(async move { shared.vouch(unvouched).await });
        }
        if after.money {
            shared.money.notify_one();
        }
        if let Some(fault) = after.journal {
            tracing::error!(%fault, "the journal is gone, the node ends");
            stop.now();
            shared.ending.now();
        }
    }
    shared.dialing.kept.lock().unwrap_or_else(PoisonError::into_inner).clear();
    let links = shared.links.clone();
    // Events that still come are dropped with their channel.
    drop(events);
    links.close().await;
}
