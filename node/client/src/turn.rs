//! The state behind the lock: sessions, requests, books. Every function is short and never waits.

use cocoon_attest::{Digest32, PeerEvidence};
use cocoon_channel::{ChannelRecord, Channels, Command};
use cocoon_gateway::{InferenceRequest, ModelOffer, UpstreamError};
use cocoon_host::{Books, clock};
use cocoon_link::{ConnId, Event, LinkEvent, LinkHandle, Opened, PeerVerdicts, SendFault};
use cocoon_openai::reference::{ReferenceLine, adapt};
use cocoon_proof::Bundle;
use cocoon_role_client::{
    AnswerEvent, Fault, Identity, Incoming, ModelWorkers, ProxySession, ReportQuestion, Turn,
};
use cocoon_settle::{SettleLog, SettleRecord};
use cocoon_units::{ImageHash, PriceTable, RequestId, SecretBytes};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

use crate::failure::{REFUSED_BY_WORKER, away};
use crate::funds::Desk;
use crate::offers;
use crate::proof::{AnswerSender, ShownProxy, Unvouched};
use crate::receipt_store::ReceiptStore;
use crate::requests::{Late, Left, Requests};
use crate::vet::Vetted;

/// How old the list of models may be before the proxies are asked again.
const MODELS_EVERY_MS: u64 = 2_000;
/// The same while nobody serves anything: workers come back one after the other.
const MODELS_EVERY_EMPTY_MS: u64 = 100;
/// How long a proxy that cannot take requests just now is left alone.
const AWAY_MS: u64 = 1_000;
/// A proxy that ends comes back on a new connection only.
const LEFT_FOR_GOOD: u64 = u64::MAX;
/// Most names of models that are remembered.
const SEEN_MODELS_MAX: usize = 4_096;
/// How long after a proxy became ready its workers may still be on their way to it.
const SETTLING_MS: u64 = 5_000;

/// One connection to a proxy.
pub(crate) struct Proxy {
    pub(crate) session: ProxySession,
    pub(crate) link: LinkHandle,
    /// The image that its certificate showed.
    pub(crate) image: Option<ImageHash>,
    /// What evidence says of it, once it gave any.
    pub(crate) verdicts: Option<Box<PeerVerdicts>>,
    /// What it showed in its certificate.
    evidence: Option<Arc<PeerEvidence>>,
    remote: SocketAddr,
    /// Takes no requests before this, on the node's steady clock: it ends or cannot work now.
    away_until_ms: u64,
    models: Vec<ModelWorkers>,
    models_asked_ms: u64,
    ready_at_ms: u64,
}

/// Most proxies whose failure to connect is remembered.
const UNREACHABLE_MAX: usize = 64;
/// Most keys of receipts whose reports are fetched at the same time.
const VOUCHING_MAX: usize = 16;

/// Everything that requests and connections share.
pub(crate) struct State {
    pub(crate) identity: Arc<Identity>,
    pub(crate) prices: PriceTable,
    pub(crate) channels: Channels,
    pub(crate) proxies: HashMap<ConnId, Proxy>,
    pub(crate) requests: Requests,
    pub(crate) books: Books,
    pub(crate) journal_bytes_max: u64,
    pub(crate) counts: Counts,
    /// Models that were ever offered here: their workers may come back.
    pub(crate) seen_models: HashSet<String>,
    pub(crate) funds: Desk,
    pub(crate) receipts: ReceiptStore,
    /// Questions about workers that are on their way.
    pub(crate) asked: HashMap<(ConnId, i64), AnswerSender>,
    /// Keys of receipts whose reports are being fetched.
    pub(crate) vouching: Vec<Digest32>,
    /// What is known of the machines at each connection; gone with it.
    pub(crate) vetted: HashMap<ConnId, Vetted>,
    /// Why proxies cannot be reached, by address; few, since few are dialled.
    pub(crate) unreachable: BTreeMap<SocketAddr, String>,
}

/// Totals for the status pages.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) asked: u64,
    /// Ends of requests that were not open.
    pub(crate) unasked: u64,
    pub(crate) faults: u64,
}

/// What the loop has to do after a batch.
#[derive(Debug, Default)]
pub(crate) struct After {
    /// A proxy became ready.
    pub(crate) ready: bool,
    /// Something that concerns the money on chain happened.
    pub(crate) money: bool,
    /// The journal is gone: end the node.
    pub(crate) journal: Option<cocoon_journal::Fault>,
    /// Keys of receipts for which a report is to be fetched.
    pub(crate) unvouched: Vec<Unvouched>,
}

impl Proxy {
    /// Whether requests may go there now.
    pub(crate) fn takes(&self, now_ms: u64) -> bool {
        self.session.is_ready() && self.away_until_ms <= now_ms
    }
}

impl State {
    /// The proxy that new requests go to: ready, and one that serves the model if there is one.
    pub(crate) fn ready_proxy(&self, model: &str, now_ms: u64) -> Option<(ConnId, &Proxy)> {
        let ready = || self.proxies.iter().filter(|(_, proxy)| proxy.takes(now_ms));
        let serves = |proxy: &Proxy| {
            proxy.models.iter().any(|known| known.name == model && !known.workers.is_empty())
        };
        ready()
            .find(|(_, proxy)| serves(proxy))
            .or_else(|| ready().next())
            .map(|(conn, proxy)| (*conn, proxy))
    }

    /// Whether a proxy became ready so lately that workers of this model may still be on their way:
    /// "no such model" is then not its last word.
    pub(crate) fn is_settling(&self, model: &str, now_ms: u64) -> bool {
        let lately = self.proxies.values().any(|proxy| {
            proxy.session.is_ready() && now_ms < proxy.ready_at_ms.saturating_add(SETTLING_MS)
        });
        lately && (self.seen_models.contains(model) || self.offers().is_empty())
    }

    /// The body in the words that workers of the reference accept (protocol notes, wire 4.5).
    ///
    /// # Errors
    /// [`UpstreamError::BadRequest`] when it cannot be said in them.
    pub(crate) fn adapt(&self, request: &InferenceRequest) -> Result<SecretBytes, UpstreamError> {
        let proxy = self.ready_proxy(&request.model, clock::steady_ms());
        let old = proxy.is_some_and(|(_, proxy)| proxy.session.version() <= 2);
        let line = if old { ReferenceLine::Base } else { ReferenceLine::Live };
        adapt(request.endpoint, line, request.body.expose())
            .map(|body| SecretBytes::new(body.into()))
            .map_err(|fault| UpstreamError::BadRequest {
                message: fault.message,
                param: fault.param.map(std::borrow::Cow::into_owned),
                code: Some(REFUSED_BY_WORKER.into()),
            })
    }

    /// Whether some proxy takes nothing just now, by its own word.
    pub(crate) fn is_somebody_away(&self, now_ms: u64) -> bool {
        self.proxies.values().any(|proxy| proxy.away_until_ms > now_ms)
    }

    pub(crate) fn offers(&self) -> Vec<ModelOffer> {
        let lists = self.proxies.values().map(|proxy| proxy.models.as_slice());
        offers::merge(lists, &self.prices, self.requests.tee_kind())
    }

    pub(crate) fn offered(&self) -> Vec<String> {
        self.offers().into_iter().take(32).map(|offer| offer.id).collect()
    }

    /// Takes one event of a connection.
    pub(crate) fn event(&mut self, event: LinkEvent, now_ms: u64, after: &mut After) {
        let conn = event.conn;
        match event.event {
            Event::Opened(opened) => self.opened(conn, opened, now_ms, after),
            Event::Attested(verdicts) => {
                if let Some(proxy) = self.proxies.get_mut(&conn) {
                    proxy.verdicts = Some(verdicts);
                }
            }
            Event::Closed(fault) => {
                tracing::info!(?conn, %fault, "proxy connection closed");
                self.proxies.remove(&conn);
                self.vetted.remove(&conn);
                self.requests.lost(conn, &self.prices);
                self.asked.retain(|(of, _), _| *of != conn);
            }
            Event::DialFailed { target, fault, .. } => {
                tracing::debug!(%target, %fault, "proxy cannot be reached");
                self.cannot_reach(target, &fault);
            }
            Event::Message(data) => {
                let Some(proxy) = self.proxies.get_mut(&conn) else { return };
                let turn = proxy.session.message(&mut self.channels, &data.0);
                self.turned(conn, turn, now_ms, after);
            }
            Event::Answer { id, data } => {
                if let Some(asked) = self.asked.remove(&(conn, id)) {
                    // Whoever asked may have left.
                    let _ = asked.send(Ok(data.to_vec()));
                    return;
                }
                let Some(proxy) = self.proxies.get_mut(&conn) else { return };
                let channels = &mut self.channels;
                let turn = proxy.session.answered(&self.identity, channels, now_ms, id, &data);
                self.turned(conn, turn, now_ms, after);
            }
            Event::QueryFailed { id, code, message } => {
                if let Some(asked) = self.asked.remove(&(conn, id)) {
                    let text = message.chars().take(200).collect::<String>();
                    let _ = asked.send(Err(format!("{text} ({code})")));
                    return;
                }
                let Some(proxy) = self.proxies.get_mut(&conn) else { return };
                let turn = proxy.session.failed(id, code, &message).map(|()| Turn::default());
                self.turned(conn, turn, now_ms, after);
            }
            // A proxy asks its clients nothing.
            Event::Query { id, .. } => {
                if let Some(proxy) = self.proxies.get(&conn) {
                    let _ = proxy.link.answer_error(id, 601, "unknown query magic");
                }
            }
        }
    }

    /// Time went by.
    pub(crate) fn tick(&mut self, now_ms: u64, after: &mut After) {
        for (conn, id, late) in self.requests.expire(now_ms, &self.prices) {
            match late {
                Late::Cancel => self.cancel(conn, id),
                Late::Forget => {
                    if let Some(proxy) = self.proxies.get_mut(&conn) {
                        proxy.session.forget(id);
                    }
                }
            }
        }
        let conns: Vec<ConnId> = self.proxies.keys().copied().collect();
        for conn in conns {
            let Some(proxy) = self.proxies.get_mut(&conn) else { continue };
            if (1..=now_ms).contains(&proxy.away_until_ms) {
                // Requests may wait for it.
                proxy.away_until_ms = 0;
                after.ready = true;
                after.money = true;
            }
            let turn = proxy.session.tick(now_ms);
            self.turned(conn, Ok(turn), now_ms, after);
            self.refresh_models(conn, now_ms, after);
            self.part_from(conn);
        }
    }

    /// Leaves proxies whose image the registry lists no more, or all of them. Their requests fail as
    /// with any lost connection; new ones go elsewhere at once.
    pub(crate) fn part_from_unlisted(&mut self, all: bool) {
        for (conn, proxy) in &mut self.proxies {
            let listed = self.identity.check_proxy_image(proxy.image);
            if let Err(fault) = &listed {
                tracing::warn!(?conn, %fault, "proxy left");
            }
            if all || listed.is_err() {
                proxy.away_until_ms = LEFT_FOR_GOOD;
                proxy.link.close();
            }
        }
    }

    /// Closes the connection to a proxy that ends, once nothing runs on it: the proxy waits for
    /// that, so that no request is lost on the way.
    fn part_from(&self, conn: ConnId) {
        let Some(proxy) = self.proxies.get(&conn) else { return };
        if proxy.away_until_ms == LEFT_FOR_GOOD && !self.requests.has_any_on(conn) {
            tracing::debug!(?conn, "the proxy ends, and nothing of ours runs there");
            proxy.link.close();
        }
    }

    /// Tells a proxy that nobody waits for an answer any more.
    pub(crate) fn cancel(&self, conn: ConnId, id: RequestId) {
        let Some(proxy) = self.proxies.get(&conn) else { return };
        if let Some(message) = proxy.session.cancel(id) {
            let _ = proxy.link.message(message);
        }
    }

    /// Remembers why, for whoever asks for the evidence of all proxies.
    fn cannot_reach(&mut self, target: SocketAddr, fault: &dyn std::fmt::Display) {
        if self.unreachable.len() < UNREACHABLE_MAX {
            self.unreachable.insert(target, fault.to_string());
        }
    }

    fn opened(&mut self, conn: ConnId, opened: Opened, now_ms: u64, after: &mut After) {
        let image = opened.identity.image_hash.map(ImageHash);
        if let Err(fault) = self.identity.check_proxy_image(image) {
            tracing::warn!(?conn, %fault, "proxy refused");
            self.cannot_reach(opened.remote, &fault);
            opened.link.close();
            return;
        }
        let first_query = i64::from_le_bytes(clock::random());
        let (session, turn) = ProxySession::open(&self.identity, first_query);
        self.unreachable.remove(&opened.remote);
        let proxy = Proxy {
            session,
            evidence: opened.identity.evidence.clone(),
            remote: opened.remote,
            link: opened.link,
            image,
            verdicts: None,
            away_until_ms: 0,
            models: Vec::new(),
            models_asked_ms: 0,
            ready_at_ms: 0,
        };
        self.proxies.insert(conn, proxy);
        self.turned(conn, Ok(turn), now_ms, after);
    }

    fn turned(&mut self, conn: ConnId, turn: Result<Turn, Fault>, now_ms: u64, after: &mut After) {
        let turn = match turn {
            Ok(turn) => turn,
            Err(fault) => {
                self.counts.faults += 1;
                tracing::warn!(?conn, %fault, "proxy connection ended by us");
                self.vetted.remove(&conn);
                if let Some(proxy) = self.proxies.remove(&conn) {
                    proxy.link.close();
                }
                self.requests.lost(conn, &self.prices);
                return;
            }
        };
        self.send(conn, turn.send);
        self.journal(&turn.records, after);
        match turn.incoming {
            None | Some(Incoming::Booked(..)) => {}
            Some(Incoming::Unasked(_)) => self.counts.unasked += 1,
            Some(Incoming::Receipt(id, passed)) => self.requests.receipt(conn, id, &passed),
            Some(Incoming::Leaving) => {
                tracing::info!(?conn, "the proxy ends soon");
                self.leave(conn, LEFT_FOR_GOOD);
            }
            Some(Incoming::Ready) => {
                after.ready = true;
                if let Some(proxy) = self.proxies.get_mut(&conn) {
                    proxy.ready_at_ms = now_ms;
                }
                self.refresh_models(conn, now_ms, after);
            }
            Some(Incoming::Models(models)) => {
                let served = models.iter().filter(|model| !model.workers.is_empty());
                let room = SEEN_MODELS_MAX.saturating_sub(self.seen_models.len());
                self.seen_models.extend(served.take(room).map(|model| model.name.clone()));
                if let Some(proxy) = self.proxies.get_mut(&conn) {
                    proxy.models = models;
                }
            }
            Some(Incoming::Register { nonce, contract, .. }) => {
                // A network without a chain accepts at once (protocol notes, chain 10).
                tracing::info!(contract = %contract.to_raw(), "long authorisation asked for");
                self.funds.register(contract, nonce);
                after.money = true;
            }
            Some(Incoming::Answer(id, event)) => {
                let mut offered = Vec::new();
                if let AnswerEvent::Failed { refused, .. } = &event {
                    offered = self.offered();
                    if away(refused) {
                        self.leave(conn, now_ms.saturating_add(AWAY_MS));
                    }
                }
                if self.requests.event(conn, id, event, &self.prices, &offered) == Left::Cancel {
                    self.cancel(conn, id);
                }
                self.keep_receipts(after);
            }
        }
    }

    /// Sends a proxy nothing new until then; an earlier word that lasts longer holds.
    fn leave(&mut self, conn: ConnId, until_ms: u64) {
        if let Some(proxy) = self.proxies.get_mut(&conn) {
            proxy.away_until_ms = proxy.away_until_ms.max(until_ms);
        }
    }

    /// Puts receipts into the store, and asks for the reports of keys that are new.
    fn keep_receipts(&mut self, after: &mut After) {
        for received in self.requests.take_received() {
            let key = received.receipt.receipt.receipt_key;
            self.receipts.keep(&received.receipt);
            let known = self.receipts.has_report(key) || self.vouching.contains(&key);
            if !known && self.vouching.len() < VOUCHING_MAX {
                self.vouching.push(key);
                let (conn, worker) = (received.conn, received.worker);
                after.unvouched.push(Unvouched { conn, worker, key });
            }
        }
    }

    /// A report for a key was fetched, or was not: the next receipt of that key tries again.
    pub(crate) fn vouched(&mut self, key: Digest32, report: Option<Bundle>) {
        self.vouching.retain(|open| *open != key);
        if let Some(report) = report {
            self.receipts.keep_report(key, &report);
        }
    }

    /// Asks a proxy about the workers behind it.
    ///
    /// # Errors
    /// The proxy is gone or carries no reports.
    pub(crate) fn ask_reports(
        &mut self,
        conn: ConnId,
        question: ReportQuestion,
    ) -> Result<oneshot::Receiver<Result<Vec<u8>, String>>, String> {
        let proxy = self.proxies.get_mut(&conn).ok_or("the proxy's connection is gone")?;
        let (query, turn) = proxy
            .session
            .ask_reports(question)
            .ok_or("the proxy in between carries no reports of workers")?;
        let (sender, answer) = oneshot::channel();
        self.asked.insert((conn, query), sender);
        self.send(conn, turn.send);
        Ok(answer)
    }

    /// Whether the proxy of this connection carries reports.
    pub(crate) fn carries_reports(&self, conn: ConnId) -> bool {
        self.proxies.get(&conn).is_some_and(|proxy| proxy.session.carries_reports())
    }

    /// The proxies of this node, for whoever wants to see their evidence.
    pub(crate) fn shown_proxies(&self) -> Vec<ShownProxy> {
        let mut shown: Vec<ShownProxy> = self
            .proxies
            .iter()
            .map(|(conn, proxy)| {
                let contract = proxy.session.proxy().map(|address| address.to_raw());
                let contract = contract.unwrap_or_else(|| "(not introduced)".to_owned());
                ShownProxy {
                    conn: *conn,
                    name: format!("{} {contract}", proxy.remote),
                    bundle: proxy.verdicts.as_ref().and_then(|known| known.bundle.clone()),
                    evidence: proxy.evidence.clone(),
                }
            })
            .collect();
        shown.sort_by(|left, right| left.name.cmp(&right.name));
        shown
    }

    fn refresh_models(&mut self, conn: ConnId, now_ms: u64, after: &mut After) {
        let Some(proxy) = self.proxies.get_mut(&conn) else { return };
        let empty = proxy.models.iter().all(|model| model.workers.is_empty());
        let every_ms = if empty { MODELS_EVERY_EMPTY_MS } else { MODELS_EVERY_MS };
        if !proxy.session.is_ready() || now_ms < proxy.models_asked_ms.saturating_add(every_ms) {
            return;
        }
        proxy.models_asked_ms = now_ms;
        let turn = proxy.session.ask_models();
        self.turned(conn, Ok(turn), now_ms, after);
    }

    fn send(&self, conn: ConnId, commands: Vec<Command>) {
        let Some(proxy) = self.proxies.get(&conn) else { return };
        for command in commands {
            let sent: Result<(), SendFault> = match command {
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

    fn journal(&mut self, records: &[ChannelRecord], after: &mut After) {
        if records.is_empty() {
            return;
        }
        let records = records.iter().map(ChannelRecord::encode).collect();
        let mut written = self.books.append(records).map(|_| ());
        if written.is_ok() && self.books.wants_snapshot(self.journal_bytes_max) {
            tracing::info!(len = self.books.segment_len(), "journal replaced by a snapshot");
            written = self.books.snapshot(snapshot(&self.channels, &self.funds.log));
        }
        if let Err(fault) = written {
            after.journal = Some(fault);
        }
    }
}

/// The channels as a journal's first records. A journal is never empty: its very first record
/// says whose it is.
pub(crate) fn snapshot(channels: &Channels, funds: &SettleLog) -> Vec<Vec<u8>> {
    let mut records = vec![b"cocoon-client".to_vec()];
    records.extend(channels.snapshot().iter().map(ChannelRecord::encode));
    records.extend(funds.snapshot().iter().map(SettleRecord::encode));
    records
}
