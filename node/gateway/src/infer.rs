//! The way of one inference request: admit, read, run, show.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use cocoon_openai::{Endpoint, Marks};
use http::header::{self, HeaderName, HeaderValue};
use http::request::Parts;
use http::{HeaderMap, Response, StatusCode};
use hyper::body::Incoming;

use crate::answer::{AnswerHead, AnswerPart, InferenceStream};
use crate::body::Content;
use crate::failure::Refusal;
use crate::filter::StreamFilter;
use crate::gateway::{Context, Gateway, Reply, header_text};
use crate::idempotency::{self, Claim};
use crate::intake;
use crate::keys::KeyUse;
use crate::order::{Order, Shape};
use crate::relay::Relay;
use crate::reply::{self, Gathered};
use crate::report;
use crate::sense;
use crate::ticket::{Running, Ticket};
use crate::upstream::{InferenceRequest, Upstream, UpstreamError};

/// How much longer than the user's deadline the network may take to say that it passed.
const GRACE: Duration = Duration::from_secs(2);

/// When an answer must be complete, and the time that was granted for it.
pub(crate) type Deadline = (tokio::time::Instant, Duration);

impl<U: Upstream> Gateway<U> {
    /// Answers a request that goes to a model server.
    pub(crate) async fn infer(
        self: &Arc<Self>,
        endpoint: Endpoint,
        parts: &Parts,
        body: Incoming,
        key: Option<KeyUse>,
        context: &Context,
    ) -> Result<Reply, Box<Refusal>> {
        let limits = &self.config().limits;
        let body = intake::read_body(&parts.headers, body, limits, &context.work).await?;
        let scope = key.as_ref().map(KeyUse::id).unwrap_or_default();
        let claim_name = header_text(&parts.headers, "idempotency-key")
            .map(|name| idempotency::name(&scope, endpoint, name))
            .transpose()?;
        let id = context.id.as_str();
        let order = Order::read(endpoint, &parts.headers, body, id, self.config())?;
        if let Some(key) = &key {
            key.admit(&order.shape.model)?;
        }
        self.check_capability(endpoint, &order.request.model).await?;
        let ticket = Ticket::take(self.metrics_shared(), key, endpoint, limits.requests)
            .ok_or_else(|| Box::new(Refusal::too_many_requests(limits.requests)))?;
        let timeout = order.request.timeout;
        let deadline = deadline(timeout);
        let shape = order.shape;
        let (head, running) = self.start(ticket, order.request, claim_name, deadline).await?;
        let marks = Marks {
            id: context.id.as_str().trim_start_matches("req_").to_owned(),
            created_unix_s: context.began_unix_s as u64,
        };
        let mut reply = if shape.stream && head.status.is_success() {
            self.show_stream(&shape, marks, head, running, deadline).await?
        } else {
            self.show_whole(&shape, marks, head, running, deadline).await?
        };
        let start = HeaderName::from_static("x-cocoon-client-start");
        reply.headers_mut().insert(start, seconds(context.began_unix_s));
        tracing::debug!(
            id = context.id.as_str(),
            status = reply.status().as_u16(),
            took_us = context.began.elapsed().as_micros() as u64,
            "answered"
        );
        Ok(reply)
    }

    /// Runs a request, once however often it is sent with the same key.
    async fn start(
        &self,
        ticket: Ticket,
        request: InferenceRequest,
        claim_name: Option<String>,
        deadline: Deadline,
    ) -> Result<(AnswerHead, Running), Box<Refusal>> {
        let claim =
            |name| self.idempotent().clone().claim(name, request.body.expose(), Instant::now());
        let (started, mut ticket) = match claim_name.map(claim).transpose() {
            Ok(None) => {
                (run(self.upstream(), request, deadline).await.map_err(Refusal::from), ticket)
            }
            Ok(Some(Claim::Follow(follower))) => {
                (follower.wait(deadline).await, ticket.of_replay())
            }
            Ok(Some(Claim::Lead(leader))) => {
                let upstream = self.upstream().clone();
                // The task goes on when the user's connection breaks: the retry finds its answer.
                let request = async move { run(&upstream, request, deadline).await };
                let InferenceStream { head, parts } = leader.run(ticket, deadline, request).await?;
                return Ok((head, Running::new(None, parts)));
            }
            Err(error) => (Err(error.into()), ticket),
        };
        match started {
            Ok(InferenceStream { head, parts }) => Ok((head, Running::new(Some(ticket), parts))),
            Err(refusal) => {
                ticket.refused();
                Err(Box::new(refusal))
            }
        }
    }

    async fn show_stream(
        &self,
        shape: &Shape,
        marks: Marks,
        head: AnswerHead,
        mut running: Running,
        deadline: Deadline,
    ) -> Result<Reply, Box<Refusal>> {
        let defaults = &self.config().defaults;
        let wait = Duration::from_millis(defaults.head_wait_ms);
        let first = match tokio::time::timeout(wait, running.next()).await {
            Ok(AnswerPart::Bytes(part)) => {
                if let Err(refusal) = sense::check_beginning(shape.endpoint, &part) {
                    running.give_up();
                    return Err(refusal);
                }
                Some(part)
            }
            Ok(AnswerPart::End(record)) => {
                return Err(Box::new(reply::no_stream(*record).into()));
            }
            Err(_) => None,
        };
        let filter = StreamFilter::new(shape, marks, self.config().limits.event_bytes);
        let keepalive = defaults.keepalive_ms;
        let keepalive = (keepalive > 0).then(|| Duration::from_millis(keepalive));
        let mut relay = Relay::events(running, filter, deadline, keepalive);
        if let Some(part) = first {
            relay.preload(part);
        }
        let mut reply = Response::new(Content::Relay(Box::new(relay)));
        *reply.status_mut() = head.status;
        let headers = reply.headers_mut();
        let kind = HeaderValue::from_static("text/event-stream; charset=utf-8");
        headers.insert(header::CONTENT_TYPE, kind);
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        // nginx would keep the events until they fill a buffer.
        headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
        keep_node_headers(&head.headers, headers);
        report::worker_headers(headers, &head.worker);
        Ok(reply)
    }

    async fn show_whole(
        &self,
        shape: &Shape,
        marks: Marks,
        head: AnswerHead,
        mut running: Running,
        deadline: Deadline,
    ) -> Result<Reply, Box<Refusal>> {
        let limit = self.config().limits.kept_answer_bytes;
        let gathering = reply::gather(&mut running, limit);
        let gathered = match tokio::time::timeout_at(deadline.0, gathering).await {
            Ok(gathered) => gathered,
            Err(_) => {
                running.give_up();
                let failure = UpstreamError::Timeout { after: deadline.1 };
                return Err(Box::new(failure.into()));
            }
        };
        let mut reply = match gathered {
            Gathered::Whole(body, record) => {
                let (status, body) = reply::whole(shape, &marks, head.status, body, &record)?;
                let mut reply = content(status, Content::Full(body));
                report::final_headers(reply.headers_mut(), &record);
                reply
            }
            Gathered::TooLong(_) if shape.dialect.is_some() || !head.status.is_success() => {
                running.give_up();
                let reason = format!("its answer is longer than {limit} bytes");
                return Err(Box::new(UpstreamError::WorkerLost { reason }.into()));
            }
            Gathered::TooLong(parts) => {
                let mut relay = Relay::plain(running, deadline);
                parts.into_iter().for_each(|part| relay.preload(part));
                content(head.status, Content::Relay(Box::new(relay)))
            }
        };
        let headers = reply.headers_mut();
        let json = HeaderValue::from_static("application/json");
        let told = head.headers.get(header::CONTENT_TYPE).cloned();
        let kind = told.filter(|_| shape.dialect.is_none()).unwrap_or(json);
        headers.insert(header::CONTENT_TYPE, kind);
        for name in [header::CONTENT_DISPOSITION, header::RETRY_AFTER] {
            if let Some(value) = head.headers.get(&name) {
                headers.insert(name, value.clone());
            }
        }
        keep_node_headers(&head.headers, headers);
        headers.insert("x-cocoon-client-end", seconds(crate::gateway::unix_seconds()));
        Ok(reply)
    }
}

/// The deadline of a request that begins now.
pub(crate) fn deadline(timeout: Duration) -> Deadline {
    (tokio::time::Instant::now() + timeout + GRACE, timeout)
}

/// What a passed deadline is told as.
pub(crate) fn out_of_time((_, after): Deadline) -> UpstreamError {
    UpstreamError::Timeout { after }
}

fn content(status: StatusCode, content: Content) -> Reply {
    let mut reply = Response::new(content);
    *reply.status_mut() = status;
    reply
}

/// Runs a request under the gateway's own clock, in case the network forgets its own.
pub(crate) async fn run<U: Upstream>(
    upstream: &Arc<U>,
    request: InferenceRequest,
    (until, timeout): Deadline,
) -> Result<InferenceStream, UpstreamError> {
    match tokio::time::timeout_at(until, upstream.run(request)).await {
        Ok(result) => result,
        Err(_) => Err(UpstreamError::Timeout { after: timeout }),
    }
}

/// Of the nodes' headers, those that the reference shows too (protocol notes 3.7, 4.6). All
/// others stay here: a node has no say over cookies, origins or caches of the user.
fn keep_node_headers(from: &HeaderMap, to: &mut HeaderMap) {
    const KEPT: [&str; 4] = [
        "x-cocoon-proxy-start",
        "x-cocoon-proxy-end",
        "x-cocoon-worker-start",
        "x-cocoon-worker-end",
    ];
    for name in KEPT {
        if let Some(value) = from.get(name) {
            to.insert(HeaderName::from_static(name), value.clone());
        }
    }
}

fn seconds(unix_s: f64) -> HeaderValue {
    HeaderValue::from_str(&format!("{unix_s:.6}")).unwrap_or(HeaderValue::from_static("0"))
}

/// Bytes of an answer as one piece; not copied when there is one.
pub(crate) fn join(mut parts: Vec<Bytes>) -> Bytes {
    if parts.len() == 1 {
        return parts.pop().unwrap_or_default();
    }
    Bytes::from(parts.concat())
}
