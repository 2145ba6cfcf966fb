//! Sessions with proxies, running queries, the worker's books.

use cocoon_channel::{ChannelRecord, Channels, Command};
use cocoon_contract::root::RootState;
use cocoon_host::{Books, clock};
use cocoon_link::{ConnId, Event, LinkEvent, LinkHandle, Opened, PeerVerdicts, SendFault};
use cocoon_role_worker::{Fault, Identity, Incoming, ProxySession, Reject, Run, Turn};
use cocoon_settle::{SettleLog, SettleRecord};
use cocoon_units::{Address, Coefficient, ImageHash, ModelName, RequestId, Tokens};
use cocoon_wire::tl::{self, Extensions};
use cocoon_wire::{cocoon, worker};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::{Semaphore, oneshot};

use crate::backend::Backend;
use crate::funds::{Earned, Standing};
use crate::model::{ModelChange, ModelFault};
use crate::notary::{AskedBy, Notary};
use crate::query::{self, Ended, Sink};

/// Pause before a message is tried again on a connection that does not keep up.
const STUCK_PAUSE: Duration = Duration::from_millis(5);

/// Reports for clients that are made at once.
const REPORTS_MAX: usize = 64;

/// One connection to a proxy.
struct Proxy {
    session: ProxySession,
    link: LinkHandle,
    /// What evidence says of it, once it gave any.
    verdicts: Option<Box<PeerVerdicts>>,
    /// The image its certificate's evidence showed.
    image: Option<ImageHash>,
}

/// A query that ended, told by its task.
#[derive(Debug)]
pub(crate) struct Finished {
    conn: ConnId,
    request: RequestId,
    proxy: Option<Address>,
    ended: Ended,
}

/// A change of the model that ended, told by its task.
#[derive(Debug)]
pub(crate) struct ModelChanged {
    conn: ConnId,
    query: i64,
    outcome: Result<ModelName, ModelFault>,
}

/// A report for a client, or why there is none, told by its task.
#[derive(Debug)]
pub(crate) struct Reported {
    conn: ConnId,
    query: i64,
    report: Result<Vec<u8>, String>,
}

/// What tasks tell the loop.
#[derive(Debug)]
pub(crate) enum Told {
    Reported(Reported),
    Finished(Finished),
    ModelChanged(ModelChanged),
    /// A record about money has to be on disk before something leaves; `written` says when.
    WriteDown {
        record: SettleRecord,
        written: oneshot::Sender<()>,
    },
    /// The root contract changed.
    Root(Arc<RootState>),
    /// The chain is away for too long, or is back.
    ChainAway(bool),
    /// What the status pages show of the money.
    Money(serde_json::Value),
}

/// Totals for the status pages.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) queries: u64,
    pub(crate) complete: u64,
    pub(crate) failed: u64,
    pub(crate) refused: u64,
    pub(crate) tokens: u64,
    pub(crate) faults: u64,
}

/// Everything the worker's loop owns.
pub(crate) struct State {
    pub(crate) identity: Identity,
    pub(crate) channels: Channels,
    pub(crate) books: Books,
    pub(crate) counts: Counts,
    pub(crate) backend_up: bool,
    pub(crate) admin_disabled: bool,
    /// The model's files changed and it is not clear yet what they are.
    pub(crate) weights_suspect: bool,
    proxies: HashMap<ConnId, Proxy>,
    running: HashMap<(ConnId, RequestId), oneshot::Sender<()>>,
    /// As many as queries may run at once.
    places: Arc<Semaphore>,
    /// As many as may run or still be telling a proxy their end, which a proxy that reads nothing
    /// can hold up: twice as many.
    tasks: Arc<Semaphore>,
    /// As many as reports may be made at once.
    reports: Arc<Semaphore>,
    backend: Backend,
    tell: UnboundedSender<Told>,
    model_change: ModelChange,
    notary: Arc<Notary>,
    journal_bytes_max: u64,
    journal_fault: Option<cocoon_journal::Fault>,
    /// What the journal says of contracts on chain.
    pub(crate) settled: SettleLog,
    /// Who waits for which ticket of the journal.
    unwritten: VecDeque<(u64, oneshot::Sender<()>)>,
    /// What the status pages show of the money; null without a chain.
    pub(crate) money: serde_json::Value,
    /// How often the operator asked to collect, and at which proxy the last time.
    pub(crate) collects: (u64, Option<Address>),
    /// The chain is away for so long that no new work is taken.
    pub(crate) chain_away: bool,
    /// The node ends: nothing new is wanted, whoever comes.
    pub(crate) ending: bool,
}

impl State {
    pub(crate) fn new(
        identity: Identity,
        (channels, books, journal_bytes_max): (Channels, Books, u64),
        (backend, model_change, notary): (Backend, ModelChange, Arc<Notary>),
        tell: UnboundedSender<Told>,
    ) -> Self {
        let queries_max = identity.max_active_requests as usize;
        Self {
            identity,
            channels,
            books,
            counts: Counts::default(),
            backend_up: false,
            admin_disabled: false,
            weights_suspect: false,
            proxies: HashMap::new(),
            running: HashMap::new(),
            places: Arc::new(Semaphore::new(queries_max)),
            tasks: Arc::new(Semaphore::new(2 * queries_max)),
            reports: Arc::new(Semaphore::new(REPORTS_MAX)),
            backend,
            tell,
            model_change,
            notary,
            journal_bytes_max,
            journal_fault: None,
            settled: SettleLog::default(),
            unwritten: VecDeque::new(),
            money: serde_json::Value::Null,
            collects: (0, None),
            chain_away: false,
            ending: false,
        }
    }

    /// Queries running now.
    pub(crate) fn running(&self) -> usize {
        self.running.len()
    }

    /// Proxies with a finished handshake.
    pub(crate) fn ready_proxies(&self) -> usize {
        self.proxies.values().filter(|proxy| proxy.session.is_ready()).count()
    }

    /// What evidence says of each proxy connection; nothing where none was looked at.
    pub(crate) fn verdicts(&self) -> impl Iterator<Item = Option<&PeerVerdicts>> {
        self.proxies.values().map(|proxy| proxy.verdicts.as_deref())
    }

    /// The journal's fault, when there was one: the node must end.
    pub(crate) fn take_journal_fault(&mut self) -> Option<cocoon_journal::Fault> {
        self.journal_fault.take()
    }

    /// Takes one event of a connection.
    pub(crate) fn event(&mut self, event: LinkEvent, now_ms: u64) {
        let conn = event.conn;
        match event.event {
            Event::Opened(opened) => self.opened(conn, opened),
            Event::Attested(verdicts) => {
                if let Some(proxy) = self.proxies.get_mut(&conn) {
                    proxy.verdicts = Some(verdicts);
                }
            }
            Event::Closed(fault) => {
                tracing::info!(?conn, %fault, "proxy connection closed");
                self.forget(conn);
            }
            Event::DialFailed { target, fault, .. } => {
                tracing::debug!(%target, %fault, "proxy cannot be reached");
            }
            Event::Message(data) => {
                let Some(proxy) = self.proxies.get_mut(&conn) else { return };
                let channels = &mut self.channels;
                let turn = proxy.session.message(&self.identity, channels, now_ms, &data.0);
                self.turned(conn, turn);
            }
            Event::Query { id, data } => {
                let Some(proxy) = self.proxies.get(&conn) else { return };
                let turn = proxy.session.queried(id, &data);
                self.turned(conn, Ok(turn));
            }
            Event::Answer { id, data } => {
                let Some(proxy) = self.proxies.get_mut(&conn) else { return };
                let channels = &mut self.channels;
                let turn = proxy.session.answered(&self.identity, channels, now_ms, id, &data);
                self.turned(conn, turn);
            }
            Event::QueryFailed { id, code, message } => {
                let Some(proxy) = self.proxies.get_mut(&conn) else { return };
                let channels = &mut self.channels;
                let turn = proxy.session.failed(channels, id, code, &message);
                self.turned(conn, turn.map(|()| Turn::default()));
            }
        }
    }

    /// Time went by.
    pub(crate) fn tick(&mut self, now_ms: u64) {
        let conns: Vec<ConnId> = self.proxies.keys().copied().collect();
        for conn in conns {
            if let Some(proxy) = self.proxies.get_mut(&conn) {
                let turn = proxy.session.tick(now_ms);
                self.turned(conn, Ok(turn));
            }
        }
    }

    /// A task has ended.
    pub(crate) fn told(&mut self, told: Told) {
        match told {
            Told::Finished(finished) => self.finished(&finished),
            Told::ModelChanged(changed) => self.model_changed(changed),
            Told::WriteDown { record, written } => self.write_down(&record, written),
            Told::Root(root) => self.adopt(&root),
            Told::ChainAway(is_away) => {
                self.chain_away = is_away;
                self.announce();
            }
            Told::Money(page) => self.money = page,
            Told::Reported(reported) => self.reported(reported),
        }
    }

    fn write_down(&mut self, record: &SettleRecord, written: oneshot::Sender<()>) {
        self.settled.apply(record);
        match self.books.append(vec![record.encode()]) {
            Ok(ticket) => self.unwritten.push_back((ticket, written)),
            Err(fault) => self.journal_fault = Some(fault),
        }
    }

    /// All records up to `ticket` are on disk.
    pub(crate) fn durable(&mut self, ticket: u64) {
        while self.unwritten.front().is_some_and(|(waits, _)| *waits <= ticket) {
            if let Some((_, written)) = self.unwritten.pop_front() {
                // The task may have ended first.
                let _ = written.send(());
            }
        }
    }

    /// Moves to another state of the root contract. New parameters mean new contracts: all proxies
    /// are met again. Proxies whose image is no longer listed are left at once.
    fn adopt(&mut self, root: &RootState) {
        let moves = self.identity.network != root.network;
        self.identity.network = root.network.clone();
        self.identity.proxy_images = self
            .identity
            .proxy_images
            .as_ref()
            .map(|_| root.proxy_hashes.iter().map(|hash| ImageHash(hash.0)).collect());
        for (conn, proxy) in &self.proxies {
            let listed = self.identity.check_proxy_image(proxy.image);
            if let Err(fault) = &listed {
                tracing::warn!(?conn, %fault, "proxy left");
            }
            if moves || listed.is_err() {
                proxy.link.close();
            }
        }
    }

    /// What the proxies have signed, for the task that collects it.
    pub(crate) fn standing(&self) -> Standing {
        let earned = |(proxy, channel): (&Address, &cocoon_channel::Channel)| Earned {
            proxy: *proxy,
            proxy_key: channel.proxy_key,
            contract: channel.own_contract,
            payment: channel.payment.clone(),
        };
        let channels = self.channels.channels().map(earned).collect();
        Standing { channels, collects: self.collects }
    }

    fn finished(&mut self, finished: &Finished) {
        self.running.remove(&(finished.conn, finished.request));
        if finished.ended.complete {
            self.counts.complete += 1;
        } else {
            self.counts.failed += 1;
        }
        self.counts.tokens = self.counts.tokens.saturating_add(finished.ended.claimed.0);
        if finished.ended.claimed > Tokens::ZERO
            && let Some(proxy) = finished.proxy
        {
            let record = self.channels.finished(proxy, finished.ended.claimed);
            self.journal(record.as_slice());
        }
    }

    /// Tells all proxies whether queries are wanted: not while the model server is away, the chain
    /// is away for too long, the operator says so, or the node ends.
    pub(crate) fn announce(&mut self) {
        let disabled = self.is_off();
        for proxy in self.proxies.values_mut() {
            if let Some(Command::Message(data)) = proxy.session.set_disabled(disabled) {
                let _ = proxy.link.message(data);
            }
        }
    }

    /// Whether proxies are told to send nothing.
    pub(crate) fn is_off(&self) -> bool {
        self.ending
            || self.admin_disabled
            || self.weights_suspect
            || self.chain_away
            || !self.backend_up
    }

    /// Changes the price factor for later queries.
    pub(crate) fn set_coefficient(&mut self, coefficient: Coefficient) {
        self.identity.coefficient = coefficient;
        for proxy in self.proxies.values() {
            if let Some(Command::Message(data)) = proxy.session.new_coefficient(coefficient) {
                let _ = proxy.link.message(data);
            }
        }
    }

    fn opened(&mut self, conn: ConnId, opened: Opened) {
        if let Err(fault) =
            self.identity.check_proxy_image(opened.identity.image_hash.map(ImageHash))
        {
            tracing::warn!(?conn, %fault, "proxy refused");
            opened.link.close();
            return;
        }
        let first_query = i64::from_le_bytes(clock::random());
        let disabled = self.is_off();
        let (session, turn) = ProxySession::open(&self.identity, first_query, disabled);
        let image = opened.identity.image_hash.map(ImageHash);
        self.proxies.insert(conn, Proxy { session, link: opened.link, verdicts: None, image });
        self.turned(conn, Ok(turn));
    }

    /// Ends what hangs on a connection that is gone. Dropping the senders cancels the queries:
    /// nobody can take their answers any more.
    fn forget(&mut self, conn: ConnId) {
        if let Some(proxy) = self.proxies.remove(&conn) {
            proxy.session.closed(&mut self.channels);
            proxy.link.close();
        }
        self.running.retain(|(of, _), _| *of != conn);
    }

    fn turned(&mut self, conn: ConnId, turn: Result<Turn, Fault>) {
        let turn = match turn {
            Ok(turn) => turn,
            Err(fault) => {
                self.counts.faults += 1;
                tracing::warn!(?conn, %fault, "proxy connection ended by us");
                self.forget(conn);
                return;
            }
        };
        self.send(conn, turn.send);
        self.journal(&turn.records);
        match turn.incoming {
            None => {}
            Some(Incoming::Ready) => {
                tracing::info!(?conn, "proxy ready");
                // The model server's state may have changed during the handshake.
                self.announce();
            }
            Some(Incoming::Run(run)) => self.start(conn, *run),
            Some(Incoming::Refuse(answer)) => {
                self.counts.refused += 1;
                self.send(conn, vec![Command::Message(answer)]);
            }
            Some(Incoming::Cancel(request)) => {
                self.running.remove(&(conn, request));
            }
            Some(Incoming::ChangeModel { query, model }) => self.change_model(conn, query, &model),
            Some(Incoming::Report { query, nonce, reads }) => {
                self.make_report(conn, query, nonce, reads);
            }
        }
    }

    fn start(&mut self, conn: ConnId, run: Run) {
        let Some(proxy) = self.proxies.get(&conn) else { return };
        self.counts.queries += 1;
        let free = |of: &Arc<Semaphore>| Arc::clone(of).try_acquire_owned();
        let (Ok(place), Ok(task)) = (free(&self.places), free(&self.tasks)) else {
            self.counts.refused += 1;
            let mut answer = Vec::new();
            let usage = cocoon_units::Usage::default();
            run.answer.fail(&mut answer, &Reject::busy(), &usage, clock::now_ms());
            self.send(conn, vec![Command::Message(answer)]);
            return;
        };
        let (cancel, cancelled) = oneshot::channel::<()>();
        let request = run.request;
        self.running.insert((conn, request), cancel);
        let mut sink = LinkSink(proxy.link.clone());
        let contract = proxy.session.proxy();
        let by = AskedBy { image: proxy.image, contract: contract.map(|address| address.hash) };
        let carries = proxy.session.extensions().contains(cocoon::RECEIPTS);
        let receipted = carries.then(|| (Arc::clone(&self.notary), self.identity.model.clone()));
        let (backend, tell) = (self.backend.clone(), self.tell.clone());
        tokio::spawn(async move {
            let cancelled = async {
                // Sent or dropped: nobody wants the answer.
                let _ = cancelled.await;
            };
            let record = receipted.map(|(notary, model)| notary.follow(&run, model, by));
            let ended = query::run(run, &backend, &mut sink, record, (place, cancelled)).await;
            // The loop may have ended first.
            let finished = Finished { conn, request, proxy: contract, ended };
            let _ = tell.send(Told::Finished(finished));
            drop(task);
        });
    }

    fn make_report(&self, conn: ConnId, query: i64, nonce: [u8; 32], reads: Extensions) {
        let Ok(place) = Arc::clone(&self.reports).try_acquire_owned() else {
            let message = "too many reports are being made: ask again later".to_owned();
            self.send(conn, vec![Command::AnswerError { id: query, code: 603, message }]);
            return;
        };
        let (notary, model) = (Arc::clone(&self.notary), self.identity.model.clone());
        let tell = self.tell.clone();
        tokio::spawn(async move {
            let _place = place;
            let report = notary.report(model, nonce, reads).await;
            // The loop may have ended first.
            let _ = tell.send(Told::Reported(Reported { conn, query, report }));
        });
    }

    fn reported(&mut self, Reported { conn, query, report }: Reported) {
        let command = match report {
            Ok(report) => {
                let data = tl::encode(&cocoon::Report { report: tl::Blob(&report) });
                Command::Answer { id: query, data }
            }
            Err(message) => Command::AnswerError { id: query, code: 603, message },
        };
        self.send(conn, vec![command]);
    }

    fn change_model(&mut self, conn: ConnId, query: i64, model: &str) {
        let (script, model) = match self.model_change.begin(model) {
            Ok(begun) => begun,
            Err(fault) => return self.refuse_model(conn, query, fault),
        };
        tracing::info!(model = model.as_str(), "changing the model");
        let (tell, weights) = (self.tell.clone(), self.model_change.weights());
        tokio::spawn(async move {
            let outcome = crate::model::change(&script, &model, &weights).await.map(|()| model);
            // The loop may have ended first.
            let _ = tell.send(Told::ModelChanged(ModelChanged { conn, query, outcome }));
        });
    }

    fn model_changed(&mut self, changed: ModelChanged) {
        self.model_change.ended();
        let model = match changed.outcome {
            Ok(model) => model,
            Err(fault) => return self.refuse_model(changed.conn, changed.query, fault),
        };
        tracing::info!(model = model.as_str(), "model changed; meeting the proxies again");
        self.model_change.serves(&model);
        self.identity.model = model;
        let data = tl::encode(&worker::ChangedModel {});
        self.send(changed.conn, vec![Command::Answer { id: changed.query, data }]);
        // A proxy learns the name in the handshake. Kept links dial again by themselves.
        for proxy in self.proxies.values() {
            proxy.link.close();
        }
    }

    fn refuse_model(&self, conn: ConnId, query: i64, fault: ModelFault) {
        let message = fault.to_string();
        self.send(conn, vec![Command::AnswerError { id: query, code: 602, message }]);
    }

    fn send(&self, conn: ConnId, commands: Vec<Command>) {
        let Some(proxy) = self.proxies.get(&conn) else { return };
        for command in commands {
            let sent = match command {
                Command::Query { id, data, timeout_ms } => {
                    proxy.link.query(id, data, Duration::from_millis(timeout_ms))
                }
                Command::Message(data) => proxy.link.message(data),
                Command::Answer { id, data } => proxy.link.answer(id, data),
                Command::AnswerError { id, code, message } => {
                    proxy.link.answer_error(id, code, message)
                }
            };
            if let Err(fault) = sent {
                tracing::warn!(?conn, %fault, "proxy does not take our messages");
                proxy.link.close();
            }
        }
    }

    fn journal(&mut self, records: &[ChannelRecord]) {
        if records.is_empty() {
            return;
        }
        let records = records.iter().map(ChannelRecord::encode).collect();
        let mut written = self.books.append(records).map(|_| ());
        if written.is_ok() && self.books.wants_snapshot(self.journal_bytes_max) {
            tracing::info!(len = self.books.segment_len(), "journal replaced by a snapshot");
            written = self.books.snapshot(snapshot(&self.channels, &self.settled));
        }
        if let Err(fault) = written {
            self.journal_fault = Some(fault);
        }
    }
}

/// The channels as a journal's first records. A journal is never empty: its very first record
/// says whose it is.
pub(crate) fn snapshot(channels: &Channels, settled: &SettleLog) -> Vec<Vec<u8>> {
    let mut records = vec![b"cocoon-worker".to_vec()];
    records.extend(channels.snapshot().iter().map(ChannelRecord::encode));
    records.extend(settled.snapshot().iter().map(SettleRecord::encode));
    records
}

/// Sends a query's messages to its proxy; waits while the connection does not keep up. The
/// query's own deadline bounds the wait.
struct LinkSink(LinkHandle);

impl Sink for LinkSink {
    async fn send(&mut self, message: Vec<u8>) -> bool {
        let message = bytes::Bytes::from(message);
        loop {
            match self.0.message(message.clone()) {
                Ok(()) => return true,
                Err(SendFault::Stuck { .. }) => tokio::time::sleep(STUCK_PAUSE).await,
                Err(_) => return false,
            }
        }
    }
}
