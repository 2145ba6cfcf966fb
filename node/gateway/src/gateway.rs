//! The gateway's state, and the way of one HTTP request through it.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use cocoon_http::{Work, WorkGuard};
use http::header::{self, HeaderName, HeaderValue};
use http::request::Parts;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use hyper::body::Incoming;

use crate::address::Addresses;
use crate::batches::Batches;
use crate::body::{AnswerBody, Content};
use crate::config::GatewayConfig;
use crate::failure::Refusal;
use crate::idempotency::IdempotentAnswers;
use crate::intake;
use crate::keys::{KeyRing, KeyUse};
use crate::metrics::Metrics;
use crate::operator::Asker;
use crate::origin::OriginRule;
use crate::pages;
use crate::request_id::{self, RequestId};
use crate::route::{self, Page, Route};
use crate::serve::ServeFault;
use crate::upstream::Upstream;
use crate::verify_page;

/// A gateway: everything its connections share.
#[derive(Debug)]
pub(crate) struct Gateway<U> {
    upstream: Arc<U>,
    config: GatewayConfig,
    origins: OriginRule,
    addresses: Arc<Addresses>,
    metrics: Arc<Metrics>,
    keys: Option<Arc<KeyRing>>,
    idempotent: Arc<IdempotentAnswers>,
    batches: Option<Arc<Batches>>,
    closing: AtomicBool,
}

/// An answer before it gets the headers that all answers carry.
pub(crate) type Reply = Response<Content>;

/// What a handler knows of the request besides its parts.
#[derive(Debug)]
pub(crate) struct Context {
    /// The address at the other end of the connection.
    peer: IpAddr,
    /// What the connection is doing.
    pub(crate) work: Work,
    /// The request's id.
    pub(crate) id: RequestId,
    /// When its head was complete.
    pub(crate) began: Instant,
    /// The same moment in unix seconds.
    pub(crate) began_unix_s: f64,
}

impl<U: Upstream> Gateway<U> {
    pub(crate) fn new(config: GatewayConfig, upstream: Arc<U>) -> Result<Gateway<U>, ServeFault> {
        let keys = match &config.keys_file {
            Some(path) if config.keys_required() => Some(Arc::new(KeyRing::open(path)?)),
            _ => None,
        };
        let batches = config.batches.as_ref().map(Batches::open).transpose()?.map(Arc::new);
        let idempotent = Arc::new(IdempotentAnswers::open(&config)?);
        Ok(Gateway {
            upstream,
            origins: OriginRule::new(&config.allowed_origins, keys.is_some()),
            addresses: Arc::new(Addresses::new(&config)),
            metrics: Arc::new(Metrics::default()),
            keys,
            idempotent,
            batches,
            closing: AtomicBool::new(false),
            config,
        })
    }

    pub(crate) fn config(&self) -> &GatewayConfig {
        &self.config
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    pub(crate) fn upstream(&self) -> &Arc<U> {
        &self.upstream
    }

    pub(crate) fn metrics_shared(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// Checks the API key of a request, where keys are required.
    fn check_key(&self, headers: &HeaderMap) -> Result<Option<KeyUse>, Box<Refusal>> {
        let Some(keys) = &self.keys else { return Ok(None) };
        Ok(Some(KeyRing::check(keys, headers)?))
    }

    pub(crate) fn idempotent(&self) -> &Arc<IdempotentAnswers> {
        &self.idempotent
    }

    pub(crate) fn batches(&self) -> Option<&Arc<Batches>> {
        self.batches.as_ref()
    }

    pub(crate) fn addresses(&self) -> &Arc<Addresses> {
        &self.addresses
    }

    pub(crate) fn keys(&self) -> Option<&Arc<KeyRing>> {
        self.keys.as_ref()
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Relaxed)
    }

    pub(crate) fn close(&self) {
        self.closing.store(true, Ordering::Relaxed);
    }

    pub(crate) fn flush_keys(&self) {
        if let Some(keys) = &self.keys {
            keys.flush();
        }
    }

    /// Work that recurs: keys changed on disk, their use written down, old answers forgotten.
    pub(crate) async fn upkeep(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(Duration::from_secs(2));
        loop {
            ticks.tick().await;
            self.idempotent.forget_old(Instant::now());
            self.addresses.forget_idle(Instant::now());
            if self.keys.is_some() {
                let gateway = self.clone();
                // Files may be slow; connections must not wait for them.
                let _ = tokio::task::spawn_blocking(move || {
                    if let Some(keys) = &gateway.keys {
                        keys.reload();
                        keys.flush();
                    }
                })
                .await;
            }
        }
    }

    /// Answers one request, whatever it is.
    pub(crate) async fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
        peer: IpAddr,
        work: WorkGuard,
    ) -> Response<AnswerBody> {
        let (parts, body) = request.into_parts();
        let context = Context {
            peer,
            work: work.work(),
            id: request_id::of(&parts.headers),
            began: Instant::now(),
            began_unix_s: unix_seconds(),
        };
        let route = Route::of(&parts.method, parts.uri.path());
        let mut response = match self.dispatch(route, &parts, body, &context).await {
            Ok(reply) => reply,
            Err(refusal) => refuse(*refusal, anthropic(&parts)),
        };
        self.metrics.answered(response.status());
        self.origins.mark(&parts.headers, response.headers_mut());
        response.headers_mut().insert(X_REQUEST_ID, context.id.to_header());
        let hide_body = parts.method == Method::HEAD;
        response
            .map(|content| AnswerBody::new(if hide_body { Content::Empty } else { content }, work))
    }

    async fn dispatch(
        self: &Arc<Self>,
        route: Route,
        parts: &Parts,
        body: Incoming,
        context: &Context,
    ) -> Result<Reply, Box<Refusal>> {
        let permitted = if self.origins.allows(&parts.headers) {
            self.permit(&route, parts, context)
        } else {
            Err(Box::new(OriginRule::refusal()))
        };
        let result = match (permitted, route) {
            (Ok(key), Route::Inference(endpoint)) => {
                return Box::pin(self.infer(endpoint, parts, body, key, context)).await;
            }
            (Ok(key), Route::Batch(call)) => {
                return self.batch_call(call, parts, body, key, context).await;
            }
            (Err(refusal), _) => Err(refusal),
            (Ok(_), Route::Preflight) => Ok(pages::empty(StatusCode::NO_CONTENT)),
            (Ok(_), Route::Unknown) => {
                Err(Box::new(Refusal::unknown_path(route::meant(parts.uri.path()).as_deref())))
            }
            (Ok(_), Route::WrongMethod(allow)) => Err(Box::new(Refusal::wrong_method(allow))),
            (Ok(_), Route::Page(Page::Attestation)) => self.attestation_page(&parts.uri).await,
            (Ok(_), Route::Page(page)) => self.page(page).await,
            (Ok(_), Route::Operator(path)) => {
                let query = parts.uri.query().unwrap_or_default();
                let asker = Asker { peer: context.peer, headers: &parts.headers, query };
                self.operate(path, asker).await
            }
        };
        // An unread body would stand where the connection's next request is expected.
        // Reading it would ask a user who waits for our consent to send it.
        let waits = parts.headers.contains_key(header::EXPECT);
        let read = !waits && intake::discard(body).await;
        result.map_err(|mut refusal| {
            refusal.close |= !read;
            refusal
        })
    }

    /// Checks who asks, before anything is read.
    fn permit(
        &self,
        route: &Route,
        parts: &Parts,
        context: &Context,
    ) -> Result<Option<KeyUse>, Box<Refusal>> {
        let headers = &parts.headers;
        if matches!(route, Route::Inference(_) | Route::Batch(_)) {
            self.addresses.admit(context.peer, headers, context.began)?;
        }
        match route {
            // What monitors ask for is open, and what is in every copy of Cocoon; the rest tells of
            // the operator's business.
            Route::Page(Page::Health | Page::Ready | Page::OpenApi | Page::Verify) => Ok(None),
            Route::Page(Page::JsonStats | Page::Stats | Page::Metrics)
                if self.has_access_word(parts.uri.query().unwrap_or_default()) =>
            {
                Ok(None)
            }
            Route::Inference(_) | Route::Page(_) | Route::Batch(_) => self.check_key(headers),
            // Operators are known by another word.
            Route::Operator(_) | Route::Preflight | Route::Unknown | Route::WrongMethod(_) => {
                Ok(None)
            }
        }
    }

    async fn page(&self, page: Page) -> Result<Reply, Box<Refusal>> {
        match page {
            Page::Attestation => self.attestation_page(&http::Uri::default()).await,
            Page::Receipt(id) => self.receipt_page(&id).await,
            Page::Verify => Ok(verify_page::reply()),
            Page::Models => self.models_page().await,
            Page::Model(name) => self.model_page(&name).await,
            Page::Health => Ok(pages::json(StatusCode::OK, "{\"status\":\"ok\"}".into())),
            Page::Ready => self.ready_page().await,
            Page::Metrics => {
                let network = self.upstream.status().await;
                let text = self.metrics.prometheus(&network);
                Ok(pages::text("text/plain; version=0.0.4; charset=utf-8", text.into()))
            }
            Page::OpenApi => Ok(pages::json(StatusCode::OK, crate::openapi::DOCUMENT.into())),
            Page::JsonStats => {
                let network = self.upstream.status().await;
                Ok(pages::json(StatusCode::OK, self.metrics.jsonstats(&network).into()))
            }
            Page::Stats => {
                let network = self.upstream.status().await;
                let text = self.metrics.html(&network);
                Ok(pages::text("text/html; charset=utf-8", text.into()))
            }
        }
    }
}

/// The answer to a refused request.
fn refuse(refusal: Refusal, anthropic: bool) -> Reply {
    let status =
        StatusCode::from_u16(refusal.error.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let body = if anthropic { refusal.error.to_anthropic_json() } else { refusal.error.to_json() };
    let mut reply = pages::json(status, body.into());
    let headers = reply.headers_mut();
    if let Some(wait) = refusal.retry_after {
        headers.insert(header::RETRY_AFTER, whole_seconds(wait).into());
    }
    if let Some(allow) = refusal.allow {
        headers.insert(header::ALLOW, HeaderValue::from_static(allow));
    }
    if refusal.close {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    reply
}

/// Seconds for `Retry-After`, rounded up and at least 1.
fn whole_seconds(wait: Duration) -> u64 {
    wait.as_millis().div_ceil(1000).clamp(1, 86_400) as u64
}

/// Clients of Anthropic's API expect its error shape.
fn anthropic(parts: &Parts) -> bool {
    parts.uri.path() == "/v1/messages"
}

/// Unix time with fractions, as in the nodes' start and end marks.
pub(crate) fn unix_seconds() -> f64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0.0, |since| since.as_secs_f64())
}

/// Reads a header as text; `None` when absent or not visible ASCII.
pub(crate) fn header_text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// `x-request-id`, on every answer.
pub(crate) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
