//! One query of a proxy (protocol notes, wire 3.7, 3.8, 4.5, 4.6).

use bytes::Bytes;
use cocoon_openai::{Changes, Endpoint, RequestView};
use cocoon_units::{Coefficient, PriceTable, RequestId, SecretBytes};
use cocoon_wire::tl::SecretKey;
use cocoon_wire::{http, proxy, tl};
use memchr::memmem;

use crate::answer::AnswerWriter;
use crate::fault::Reject;
use crate::identity::Identity;
use crate::seal::{self, AnswerSeal};

/// Part of the proxy's time that the model server gets (protocol notes, wire 3.8).
const BACKEND_SHARE: f64 = 0.95;
/// Longest time a proxy may ask for, seconds: a day.
const TIMEOUT_MAX_S: f64 = 86_400.0;
/// Headers that belong to one connection, or to the user alone.
const DROPPED_HEADERS: [&str; 13] = [
    "authorization",
    "connection",
    "content-length",
    "cookie",
    "expect",
    "host",
    "keep-alive",
    "proxy-authorization",
    "te",
    "transfer-encoding",
    "upgrade",
    "x-api-key",
    NONCE_HEADER,
];
/// Header in which a client sends the nonce of its receipt, 64 hex digits.
pub(crate) const NONCE_HEADER: &str = "x-cocoon-nonce";

/// What goes to the model server.
#[derive(Clone, Debug)]
pub struct BackendRequest {
    /// Path of an endpoint, without query.
    pub path: &'static str,
    /// Headers, hop-by-hop ones and the user's credentials taken out.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The body, as the user sent it but for a request for usage.
    pub body: SecretBytes,
}

/// A query that may run.
#[derive(Debug)]
pub struct Run {
    /// The proxy's id of the query.
    pub request: RequestId,
    /// What to ask the model server.
    pub backend: BackendRequest,
    /// The body exactly as it came, which the receipt is about.
    pub received: SecretBytes,
    /// The client's nonce for the receipt; zero for none.
    pub nonce: [u8; 32],
    /// Of an encrypted query: what its answer passes before it is sent.
    pub seal: Option<AnswerSeal>,
    /// When the proxy gives up, unix milliseconds.
    pub deadline_ms: u64,
    /// When the model server must be done, unix milliseconds.
    pub backend_deadline_ms: u64,
    /// Writes the answer.
    pub answer: AnswerWriter,
}

/// The members that both forms of the message have.
struct Query<'tl> {
    request: RequestId,
    query: &'tl [u8],
    coefficient: i64,
    timeout_s: f64,
    debug: bool,
    version: i32,
    private: Option<&'tl SecretKey>,
}

impl Run {
    /// Reads `proxy.runQueryEx`. `data` is the message that `query` borrows from.
    ///
    /// # Errors
    /// [`Reject`]: answer the proxy with it.
    pub fn read_ex(
        data: &Bytes,
        query: &proxy::RunQueryEx<'_>,
        version: i32,
        identity: &Identity,
        now_ms: u64,
    ) -> Result<Self, Reject> {
        let common = Query {
            request: query.request_id,
            query: query.query.0,
            coefficient: query.coefficient,
            timeout_s: query.timeout,
            debug: query.enable_debug.unwrap_or(false),
            version,
            private: query.private_key.as_ref(),
        };
        Self::read(data, &common, identity, now_ms)
    }

    /// Reads `proxy.runQuery` of version 0.
    ///
    /// # Errors
    /// [`Reject`]: answer the proxy with it.
    pub fn read_old(
        data: &Bytes,
        query: &proxy::RunQuery<'_>,
        identity: &Identity,
        now_ms: u64,
    ) -> Result<Self, Reject> {
        let common = Query {
            request: query.request_id,
            query: query.query.0,
            coefficient: query.coefficient,
            timeout_s: query.timeout,
            debug: false,
            version: 0,
            private: None,
        };
        Self::read(data, &common, identity, now_ms)
    }

    fn read(
        data: &Bytes,
        query: &Query<'_>,
        identity: &Identity,
        now_ms: u64,
    ) -> Result<Self, Reject> {
        let request: http::Request<'_> = tl::decode(query.query).map_err(Reject::request)?;
        if !request.method.as_bytes().eq_ignore_ascii_case(b"POST") {
            return Err(Reject::request("unsupported method"));
        }
        let endpoint = endpoint(&request.url.sanitized())?;
        let timeout_ms = milliseconds(query.timeout_s)?;
        let mut body = slice(data, request.payload.0);
        let received = SecretBytes::new(body.clone());
        let mut seal = None;
        if let Some((opened, answer)) =
            seal::open(&body, query.private, &identity.keys, now_ms / 1000)?
        {
            (body, seal) = (opened, Some(answer));
        }
        let backend = BackendRequest {
            path: endpoint.path(),
            headers: headers(&request.headers),
            body: SecretBytes::new(with_usage(endpoint, body)?),
        };
        let prices: PriceTable = identity.network.params.price_table();
        let coefficient = Coefficient::clamped(query.coefficient);
        Ok(Self {
            request: query.request,
            backend,
            received,
            nonce: nonce(&request.headers),
            seal,
            deadline_ms: now_ms.saturating_add(timeout_ms),
            backend_deadline_ms: now_ms.saturating_add(share(timeout_ms)),
            answer: AnswerWriter::new(
                query.request,
                query.version,
                query.debug,
                coefficient,
                prices,
                now_ms,
            ),
        })
    }
}

/// The endpoint of a URL: everything from the first `/`, without query.
fn endpoint(url: &str) -> Result<Endpoint, Reject> {
    let path = match url.split_once("://") {
        Some((_, rest)) => rest.find('/').map_or("/", |at| &rest[at..]),
        None => url,
    };
    let path = path.split('?').next().unwrap_or_default();
    Endpoint::of_path(path)
        .ok_or_else(|| Reject::request(format_args!("unsupported path '{}'", shown(path))))
}

fn shown(text: &str) -> String {
    text.chars().take(80).collect()
}

fn headers(headers: &[http::Header<'_>]) -> Vec<(String, Vec<u8>)> {
    headers
        .iter()
        .map(|header| (header.name.sanitized().to_ascii_lowercase(), header.value.0.to_vec()))
        .filter(|(name, _)| !DROPPED_HEADERS.contains(&name.as_str()))
        .collect()
}

/// The client's nonce; zero when there is none that can be read.
fn nonce(headers: &[http::Header<'_>]) -> [u8; 32] {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let read = |text: &[u8]| {
        let text: &[u8; 64] = text.try_into().ok()?;
        let mut nonce = [0; 32];
        for (byte, pair) in nonce.iter_mut().zip(text.chunks_exact(2)) {
            let [high, low] = pair else { return None };
            *byte = digit(*high)? << 4 | digit(*low)?;
        }
        Some(nonce)
    };
    headers
        .iter()
        .find(|header| header.name.as_bytes().eq_ignore_ascii_case(NONCE_HEADER.as_bytes()))
        .and_then(|header| read(header.value.0))
        .unwrap_or_default()
}

/// Asks the model server for the usage of a stream when nobody did: without it the work would be
/// free. Our own gateways ask already, which the first look finds without parsing.
fn with_usage(endpoint: Endpoint, body: Bytes) -> Result<Bytes, Reject> {
    let counts = matches!(endpoint, Endpoint::ChatCompletions | Endpoint::Completions);
    if !counts
        || memmem::find(&body, b"\"include_usage\":true").is_some()
        || memmem::find(&body, b"\"stream\"").is_none()
    {
        return Ok(body);
    }
    let view = RequestView::parse(endpoint, &body)
        .map_err(|fault| Reject::request(fault.message.as_ref() as &str))?;
    Ok(view.outgoing(&body, &Changes { ask_usage: true, ..Changes::default() }))
}

fn slice(data: &Bytes, part: &[u8]) -> Bytes {
    if part.is_empty() { Bytes::new() } else { data.slice_ref(part) }
}

fn milliseconds(seconds: f64) -> Result<u64, Reject> {
    if !seconds.is_finite() || seconds <= 0.0 {
        return Err(Reject::timeout());
    }
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between 0 and a day in milliseconds"
    )]
    let milliseconds = (seconds.min(TIMEOUT_MAX_S) * 1000.0) as u64;
    Ok(milliseconds)
}

fn share(timeout_ms: u64) -> u64 {
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "at most a day in milliseconds"
    )]
    let share = (timeout_ms as f64 * BACKEND_SHARE) as u64;
    share
}
