//! Requests on their way.

use cocoon_gateway::answer::Timings;
use cocoon_gateway::answer::WorkerSeen;
use cocoon_gateway::{
    AnswerFeed, AnswerHead, FinalRecord, InferenceStream, PushRefused, UpstreamError,
    answer_channel,
};
use cocoon_link::ConnId;
use cocoon_role_client::{AnswerEvent, Charge, WorkerReceipt};
use cocoon_units::{Nanoton, PriceTable, RequestId};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use std::collections::HashMap;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot;

use crate::failure::{Asked, reason};
use crate::receipts::{Expected, Received};

/// Bytes of an answer that wait for a slow reader before the request is given up. The connection
/// to the proxy is shared, so one slow reader cannot hold it back.
const WINDOW_LEN: usize = 8 << 20;
/// How long after its deadline the last message of a request is waited for.
const LAST_WORD_MS: u64 = 1_000;
/// Header in which a proxy of ours names the worker by its measurement: the proxy's word.
const WORKER_HEADER: &str = "x-cocoon-worker";
/// Headers of the protocol that the gateway reports by itself.
const OWN_HEADERS: [&str; 2] = [WORKER_HEADER, "x-cocoon-proxy"];

/// Where the head of an answer is waited for.
pub(crate) type HeadSender = oneshot::Sender<Result<InferenceStream, UpstreamError>>;

/// One request that was sent.
pub(crate) struct Request {
    pub(crate) conn: ConnId,
    pub(crate) asked: Asked,
    pub(crate) deadline_ms: u64,
    /// Who answers, as far as it is known.
    pub(crate) worker: WorkerSeen,
    pub(crate) head: Option<HeadSender>,
    pub(crate) feed: Option<AnswerFeed>,
    /// What a receipt must agree with, where one may come.
    pub(crate) expected: Option<Expected>,
    /// Id of the receipt, at the end.
    pub(crate) receipt_id: Option<String>,
    /// Why nobody waits for more of the answer. Its last message is waited for all the same: it
    /// says what was charged.
    pub(crate) cut: Option<UpstreamError>,
}

/// All open requests of this node.
pub(crate) struct Requests {
    open: HashMap<RequestId, Request>,
    cancels: UnboundedSender<RequestId>,
    tee_kind: &'static str,
    /// Receipts that came and agree, for the store.
    received: Vec<Received>,
    /// Receipts that were none.
    pub(crate) receipts_refused: u64,
}

/// What is left to do with a request whose time is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Late {
    /// Cancel it at the proxy, which then says what is charged.
    Cancel,
    /// Nothing more is waited for.
    Forget,
}

/// What an event leaves to do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Left {
    /// Nothing.
    Nothing,
    /// Nobody reads the answer any more: cancel at the proxy.
    Cancel,
}

impl Requests {
    /// None open. `cancels` learns of readers that went away; `tee_kind` is what the network's
    /// machines are, as far as this node's own evidence tells.
    pub(crate) fn new(cancels: UnboundedSender<RequestId>, tee_kind: &'static str) -> Self {
        Self { open: HashMap::new(), cancels, tee_kind, received: Vec::new(), receipts_refused: 0 }
    }

    /// What the network's machines are; empty when nothing is known.
    pub(crate) fn tee_kind(&self) -> &'static str {
        self.tee_kind
    }

    pub(crate) fn insert(&mut self, id: RequestId, request: Request) {
        self.open.insert(id, request);
    }

    /// Nobody waits for more of an answer: tells where to cancel it, unless that was done.
    pub(crate) fn cut(&mut self, id: RequestId, why: UpstreamError) -> Option<ConnId> {
        let request = self.open.get_mut(&id).filter(|request| request.cut.is_none())?;
        request.cut = Some(why);
        Some(request.conn)
    }

    pub(crate) fn len(&self) -> usize {
        self.open.len()
    }

    /// Whether a request runs on this connection.
    pub(crate) fn has_any_on(&self, conn: ConnId) -> bool {
        self.open.values().any(|request| request.conn == conn)
    }

    /// Takes what a proxy tells about a request on connection `conn`. A proxy cannot touch the
    /// requests of another.
    pub(crate) fn event(
        &mut self,
        conn: ConnId,
        id: RequestId,
        event: AnswerEvent,
        prices: &PriceTable,
        offered: &[String],
    ) -> Left {
        if self.open.get(&id).is_none_or(|request| request.conn != conn) {
            return Left::Nothing;
        }
        match event {
            AnswerEvent::Head { status, headers, payload, end } => {
                let left = self.head(id, status, &headers);
                self.part(id, payload, end, prices, left)
            }
            AnswerEvent::Part { bytes, end } => self.part(id, bytes, end, prices, Left::Nothing),
            AnswerEvent::Failed { refused, charge } => {
                if let Some(mut request) = self.open.remove(&id) {
                    // A cancelled answer was charged for and has its receipt, too.
                    request.receipt_id = self.settle(&mut request).unwrap_or_default();
                    let cut = request.cut.take();
                    let error = cut.unwrap_or_else(|| reason(&refused, &request.asked, offered));
                    end(request, Some(error), &charge, prices);
                }
                Left::Nothing
            }
        }
    }

    /// Takes the receipt that a proxy passed on.
    pub(crate) fn receipt(&mut self, conn: ConnId, id: RequestId, passed: &WorkerReceipt) {
        let request = self.open.get_mut(&id).filter(|request| request.conn == conn);
        if let Some(expected) = request.and_then(|request| request.expected.as_mut()) {
            expected.receipt(passed);
        }
    }

    /// The receipts that came since the last call.
    pub(crate) fn take_received(&mut self) -> Vec<Received> {
        std::mem::take(&mut self.received)
    }

    /// The answer has ended: gives the receipt's id, or why a demanded one is missing.
    fn settle(&mut self, request: &mut Request) -> Result<Option<String>, UpstreamError> {
        let Some(expected) = request.expected.take() else { return Ok(None) };
        let demanded = expected.is_demanded();
        let why = match expected.finish(request.conn) {
            Some(Ok(received)) => {
                let id = received.receipt.id();
                self.received.push(received);
                return Ok(Some(id));
            }
            Some(Err(why)) => {
                self.receipts_refused += 1;
                tracing::warn!(%why, "a worker's receipt was refused");
                why
            }
            None => "none came".to_owned(),
        };
        if demanded {
            let reason = format!("it gave no receipt, which the request demands: {why}");
            return Err(UpstreamError::WorkerLost { reason });
        }
        Ok(None)
    }

    /// Fails every request of a connection that ended.
    pub(crate) fn lost(&mut self, conn: ConnId, prices: &PriceTable) {
        let ids: Vec<RequestId> =
            self.open.iter().filter(|(_, r)| r.conn == conn).map(|(id, _)| *id).collect();
        for id in ids {
            if let Some(request) = self.open.remove(&id) {
                end(request, Some(UpstreamError::ProxyLost), &Charge::default(), prices);
            }
        }
    }

    /// Cuts requests whose time is over, and fails those whose last message did not come either.
    pub(crate) fn expire(
        &mut self,
        now_ms: u64,
        prices: &PriceTable,
    ) -> Vec<(ConnId, RequestId, Late)> {
        let mut late = Vec::new();
        for (id, request) in &mut self.open {
            if request.deadline_ms.saturating_add(LAST_WORD_MS) <= now_ms {
                late.push((request.conn, *id, Late::Forget));
            } else if request.deadline_ms <= now_ms && request.cut.is_none() {
                request.cut = Some(UpstreamError::Timeout { after: request.asked.timeout });
                late.push((request.conn, *id, Late::Cancel));
            }
        }
        for (_, id, _) in late.iter().filter(|(.., what)| *what == Late::Forget) {
            if let Some(mut request) = self.open.remove(id) {
                let after = request.asked.timeout;
                let error = request.cut.take().unwrap_or(UpstreamError::Timeout { after });
                end(request, Some(error), &Charge::default(), prices);
            }
        }
        late
    }

    fn head(&mut self, id: RequestId, status: u16, headers: &[(String, bytes::Bytes)]) -> Left {
        let request = self.open.get_mut(&id).filter(|request| request.cut.is_none());
        let Some(request) = request else { return Left::Nothing };
        let Some(sender) = request.head.take() else { return Left::Nothing };
        let (feed, parts) = answer_channel(WINDOW_LEN);
        let cancels = self.cancels.clone();
        feed.on_closed(move || {
            // The loop may have ended before its last reader.
            let _ = cancels.send(id);
        });
        request.feed = Some(feed);
        request.worker.measurement = text_of(headers, WORKER_HEADER);
        request.worker.tee_kind = self.tee_kind.to_owned();
        let head = AnswerHead {
            status: StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY),
            worker: request.worker.clone(),
            headers: header_map(headers),
        };
        match sender.send(Ok(InferenceStream { head, parts })) {
            Ok(()) => Left::Nothing,
            // Dropping the unread stream reports the cancellation.
            Err(_) => Left::Cancel,
        }
    }

    fn part(
        &mut self,
        id: RequestId,
        bytes: bytes::Bytes,
        charge: Option<Box<Charge>>,
        prices: &PriceTable,
        left: Left,
    ) -> Left {
        let Some(request) = self.open.get_mut(&id) else { return left };
        if let Some(expected) = &mut request.expected {
            expected.part(&bytes);
        }
        let unread = match &request.feed {
            _ if bytes.is_empty() || request.cut.is_some() => None,
            Some(feed) => feed.push(bytes).err(),
            // A part before the head: the proxy is wrong.
            None => Some(PushRefused::Full),
        };
        if let Some(charge) = charge {
            if let Some(mut request) = self.open.remove(&id) {
                let settled = self.settle(&mut request);
                let error = request.cut.take().or(settled.as_ref().err().cloned());
                request.receipt_id = settled.unwrap_or_default();
                end(request, error, &charge, prices);
            }
            return Left::Nothing;
        }
        let reason = match unread {
            None => return left,
            Some(PushRefused::Full) => "the answer was not read fast enough",
            Some(PushRefused::Gone) => "nobody reads the answer",
        };
        request.cut = Some(UpstreamError::WorkerLost { reason: reason.to_owned() });
        Left::Cancel
    }
}

/// Ends a request towards its reader, whatever it waits for.
fn end(request: Request, error: Option<UpstreamError>, charge: &Charge, prices: &PriceTable) {
    match (request.head, request.feed) {
        (Some(head), _) => {
            let error = error.unwrap_or(UpstreamError::WorkerLost {
                reason: "the answer ended before it began".into(),
            });
            // Its reader may be gone already.
            let _ = head.send(Err(error));
        }
        (None, Some(feed)) => {
            let receipt_id = request.receipt_id;
            let record = record(error, charge, prices);
            feed.finish(FinalRecord { worker: request.worker, receipt_id, ..record });
        }
        (None, None) => {}
    }
}

fn record(error: Option<UpstreamError>, charge: &Charge, prices: &PriceTable) -> FinalRecord {
    let timings = charge.times.map(|times| Timings {
        proxy_start_s: times.proxy_start,
        proxy_end_s: times.proxy_end,
        worker_start_s: times.worker_start,
        worker_end_s: times.worker_end,
    });
    FinalRecord {
        cost: prices.client_pays(charge.used.total).unwrap_or(Nanoton::MAX),
        charged_tokens: charge.used.total,
        timings: timings.unwrap_or_default(),
        debug: debug(charge),
        error,
        ..FinalRecord::default()
    }
}

/// The nodes' debug records as one JSON object; their own texts stay what they are.
fn debug(charge: &Charge) -> Option<String> {
    let member = |name: &str, text: &Option<String>| {
        text.as_deref().filter(|text| !text.is_empty()).map(|text| format!("\"{name}\":{text}"))
    };
    let members: Vec<String> =
        [member("proxy", &charge.proxy_debug), member("worker", &charge.worker_debug)]
            .into_iter()
            .flatten()
            .collect();
    (!members.is_empty()).then(|| format!("{{{}}}", members.join(",")))
}

fn text_of(headers: &[(String, bytes::Bytes)], name: &str) -> String {
    headers
        .iter()
        .find(|(found, _)| found.eq_ignore_ascii_case(name))
        .and_then(|(_, value)| std::str::from_utf8(value).ok())
        .filter(|value| value.len() <= 128 && value.chars().all(|c| c.is_ascii_graphic()))
        .unwrap_or_default()
        .to_owned()
}

fn header_map(headers: &[(String, bytes::Bytes)]) -> HeaderMap {
    let mut map = HeaderMap::with_capacity(headers.len().min(128));
    for (name, value) in headers.iter().take(128) {
        if OWN_HEADERS.iter().any(|own| name.eq_ignore_ascii_case(own)) {
            continue;
        }
        if let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_bytes(value))
        {
            map.append(name, value);
        }
    }
    map
}
