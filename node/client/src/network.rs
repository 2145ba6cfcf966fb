//! The client node: its loop, and the requests of its users.

use cocoon_channel::{ChannelRecord, Channels, Compaction};
use cocoon_contract::payment::PaymentKind;
use cocoon_contract::root::RootState;
use cocoon_gateway::answer::WorkerSeen;
use cocoon_gateway::upstream::NetworkStatus;
use cocoon_gateway::{InferenceRequest, InferenceStream, ModelOffer, Upstream, UpstreamError};
use cocoon_host::config::ConfigFault;
use cocoon_host::peers::Presence;
use cocoon_host::{Books, BooksEvent, BooksEvents, Stop, clock, keys, network};
use cocoon_link::{Dialer, KeptLink, LinkEvent, LinkSettings, Links, Tag};
use cocoon_role_client::{Ask, Identity};
use cocoon_units::{ImageHash, RequestId};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use thiserror::Error;
use tokio::sync::mpsc::{Receiver, UnboundedReceiver, channel, unbounded_channel};
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;

use crate::config::ClientConfig;
use crate::failure::{Asked, REFUSED_BY_WORKER};
use crate::requests::{HeadSender, Request, Requests};
use crate::turn::{self, After, Counts, State};

/// Events taken in one turn of the loop.
const BATCH: usize = 256;
/// How often sessions look at the clock.
const TICK: Duration = Duration::from_millis(100);
/// Events that wait for the loop before connections stop reading.
const EVENTS_MAX: usize = 4096;
/// Pause between attempts while workers come back to a proxy that just became ready, or while a
/// proxy ends.
const SETTLE_PAUSE: Duration = Duration::from_millis(50);
/// When to try again after "no proxy".
const AWAY_RETRY: Duration = Duration::from_secs(2);

/// A client node that cannot run.
#[derive(Debug, Error)]
pub enum NetworkFault {
    /// The user's configuration.
    #[error(transparent)]
    Config(#[from] ConfigFault),
    /// Key files.
    #[error(transparent)]
    Key(#[from] keys::KeyFault),
    /// The journal.
    #[error("journal: {0}")]
    Journal(#[from] cocoon_journal::Fault),
    /// The node's own certificate.
    #[error("certificate: {0}")]
    Certificate(String),
    /// The registry lists no proxy that can be reached.
    #[error("{0} lists no proxy with a readable address")]
    NoProxies(String),
}

/// The client node. Clones share it.
#[derive(Clone)]
pub struct Network {
    shared: Arc<Shared>,
    task: Arc<Mutex<Option<JoinHandle<()>>>>,
}

struct Shared {
    /// Ends the loop; asked for when nobody needs the network any more.
    ending: Stop,
    state: Mutex<State>,
    ready: Notify,
    proxy_wait: Duration,
    tee_kind: &'static str,
    links: Links,
}

impl Network {
    /// Connects to the network and returns at once; requests wait a moment for the first proxy.
    /// A fault that ends the node asks `stop` to end it all; [`Self::close`] ends the network.
    ///
    /// # Errors
    /// [`NetworkFault`]: nothing was started.
    pub fn start(config: &ClientConfig, stop: &Stop) -> Result<Self, NetworkFault> {
        let checked = config.check()?;
        let root = network::load_pseudo(&config.network_file)?;
        let key = keys::load_or_make(&config.data_dir.join("node.key"))?;
        let journal_key = keys::load_or_make(&config.data_dir.join("journal.key"))?;
        let opening = Books::open(&config.data_dir.join("journal"), &journal_key, false)?;
        let mut channels = Channels::new(PaymentKind::ClientCharge);
        for record in opening.records().iter().filter_map(|bytes| ChannelRecord::decode(bytes)) {
            channels.apply(&record);
        }
        let (books, book_events) = opening.start(turn::snapshot(&channels))?;

        let presence =
            Presence::start(&key, &config.evidence, stop).map_err(NetworkFault::Certificate)?;
        let (sender, events) = channel(EVENTS_MAX);
        let links = Links::new(LinkSettings::default(), sender);
        let route = presence.route(&config.transport, config.work_bits_max);
        let kept = dial(&Dialer::new(&links, route), &root, config)?;

        let (cancels, cancelled) = unbounded_channel();
        let state = State {
            prices: root.network.params.price_table(),
            identity: Arc::new(identity(config, checked, root)),
            channels,
            proxies: Default::default(),
            requests: Requests::new(cancels, config.evidence.tee_kind()),
            books,
            compaction: Compaction::above(config.journal_bytes_max),
            counts: Counts::default(),
            seen_models: Default::default(),
        };
        let shared = Arc::new(Shared {
            ending: Stop::new(),
            state: Mutex::new(state),
            ready: Notify::new(),
            proxy_wait: Duration::from_millis(config.proxy_wait_ms),
            tee_kind: config.evidence.tee_kind(),
            links,
        });
        let inputs = Inputs { events, cancelled, book_events };
        let task = tokio::spawn(run(Arc::clone(&shared), inputs, kept, stop.clone()));
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
        head: HeadSender,
    ) -> Result<(), Submitted> {
        let mut state = self.shared.lock();
        let now_ms = clock::steady_ms();
        let Some((conn, proxy)) = state.ready_proxy(&request.model, now_ms) else {
            return Err(Submitted::NoProxy(head));
        };
        let headers: Vec<(&str, &[u8])> =
            request.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
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
        let message = proxy.session.ask(&state.identity, &ask);
        let measurement = proxy.measurement.clone();
        match proxy.link.message(message) {
            Ok(()) => {}
            Err(cocoon_link::SendFault::TooLong { .. }) => return Err(Submitted::TooLong),
            Err(_) => return Err(Submitted::NoProxy(head)),
        }
        let asked = Asked {
            model: request.model.clone(),
            max_coefficient: request.max_coefficient,
            timeout: request.timeout,
            price: state.prices.price_per_token,
        };
        state.counts.asked += 1;
        state.requests.insert(
            id,
            Request {
                conn,
                asked,
                deadline_ms: now_ms.saturating_add(timeout_ms),
                worker: WorkerSeen { proxy_measurement: measurement, ..WorkerSeen::default() },
                head: Some(head),
                feed: None,
            },
        );
        Ok(())
    }

    /// Sends the request and waits for the head of its answer.
    async fn attempt(&self, request: &InferenceRequest) -> Result<InferenceStream, UpstreamError> {
        let id = RequestId(clock::random());
        let (sender, head) = oneshot::channel();
        let mut guard = CancelOnDrop { shared: &self.shared, id: Some(id) };
        self.submit_in_time(id, request, sender).await?;
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
        mut head: HeadSender,
    ) -> Result<(), UpstreamError> {
        let deadline = tokio::time::Instant::now() + self.shared.proxy_wait.min(request.timeout);
        loop {
            // Armed before the look, so that no readiness between look and wait is missed.
            let ready = self.shared.ready.notified();
            head = match self.submit(id, request, head) {
                Ok(()) => return Ok(()),
                Err(Submitted::NoProxy(head)) => head,
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
    TooLong,
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
        crate::demands::check(&request.wishes, self.shared.tee_kind)?;
        let mut adapted = false;
        loop {
            let answer = self.attempt(&request).await;
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
        if state.proxies.values().any(|proxy| proxy.session.is_ready()) {
            return Ok(state.offers());
        }
        Err(UpstreamError::NoProxy { retry_after: AWAY_RETRY })
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
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cancel(&self, id: RequestId) {
        let request = {
            let mut state = self.lock();
            let request = state.requests.remove(id);
            if let Some(request) = &request {
                state.cancel(request.conn, id);
            }
            request
        };
        // Dropped outside the lock: its reader may be told.
        drop(request);
    }
}

/// What the loop listens to.
struct Inputs {
    events: Receiver<LinkEvent>,
    cancelled: UnboundedReceiver<RequestId>,
    book_events: BooksEvents,
}

async fn run(shared: Arc<Shared>, inputs: Inputs, kept: Vec<KeptLink>, stop: Stop) {
    let Inputs { mut events, mut cancelled, mut book_events } = inputs;
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
                BooksEvent::Durable(_) => {}
                BooksEvent::Stalled(fault) => tracing::error!(%fault, "journal waits"),
                BooksEvent::Failed(fault) => after.journal = Some(fault),
            },
            _ = ticks.tick() => shared.lock().tick(clock::steady_ms(), &mut after),
        }
        if after.ready {
            shared.ready.notify_waiters();
        }
        if let Some(fault) = after.journal {
            tracing::error!(%fault, "the journal is gone, the node ends");
            stop.now();
            shared.ending.now();
        }
    }
    drop(kept);
    let links = shared.links.clone();
    // Events that still come are dropped with their channel.
    drop(events);
    links.close().await;
}

fn dial(
    dialer: &Dialer,
    root: &RootState,
    config: &ClientConfig,
) -> Result<Vec<KeptLink>, NetworkFault> {
    let mut endpoints: Vec<(u32, SocketAddr)> = root
        .endpoints()
        .map(|(seqno, endpoint)| (seqno, SocketAddr::V4(endpoint.clients)))
        .collect();
    if endpoints.is_empty() {
        return Err(NetworkFault::NoProxies(config.network_file.display().to_string()));
    }
    // A random start spreads clients over proxies.
    let start = usize::from_le_bytes(clock::random()) % endpoints.len();
    endpoints.rotate_left(start);
    Ok(endpoints
        .into_iter()
        .take(config.proxy_connections as usize)
        .map(|(seqno, target)| dialer.keep(target, Tag(seqno.into())))
        .collect())
}

fn identity(config: &ClientConfig, checked: crate::Checked, root: RootState) -> Identity {
    let check = config.check_proxy_images || !config.is_test;
    Identity {
        wallet: checked.wallet,
        secret: checked.secret,
        is_test: config.is_test,
        is_testnet: config.is_testnet,
        root: checked.root,
        root_version: i32::try_from(root.version).unwrap_or(i32::MAX),
        proxy_images: check
            .then(|| root.proxy_hashes.iter().map(|hash| ImageHash(hash.0)).collect()),
        network: root.network,
    }
}
