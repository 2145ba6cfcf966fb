//! Which request goes where, and what all of them have in common.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::{HeaderValue, Method, Request, Response, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Body as _, Incoming};
use serde_json::{Map, Value, json};
use subtle::ConstantTimeEq;

use crate::http::body::{AnswerBody, full, json as json_answer, refusal};
use crate::http::served::{Phase, Served, Shared};
use crate::http::{chat, completion, embeddings};
use crate::openai::chat_answer::{Envelope, random_id};
use crate::openai::error::ApiError;
use crate::openai::fields::parse_body;
use crate::openai::options::Options;

const REQUEST_ID: &str = "x-request-id";

/// Answers one request. Nothing of its body is logged.
pub(crate) async fn answer(
    shared: Arc<Shared>,
    request: Request<Incoming>,
) -> Result<Response<AnswerBody>, Infallible> {
    let begin = std::time::Instant::now();
    let request_id = request.headers().get(REQUEST_ID).cloned().unwrap_or_else(|| {
        HeaderValue::from_str(&random_id()).unwrap_or(HeaderValue::from_static("none"))
    });
    let method = request.method().clone();
    let endpoint = endpoint_of(request.uri().path());
    // A body that nobody reads would stand where the next request is expected.
    let read = method == Method::POST && endpoint.is_some_and(Endpoint::takes_post);
    let unread = !read && !request.body().is_end_stream();
    let mut response = match dispatch(&shared, endpoint, request).await {
        Ok(response) => response,
        Err(error) => refusal(&error),
    };
    let status = response.status().as_u16();
    shared.metrics.add_answer(status);
    tracing::debug!(
        %method,
        endpoint = endpoint.map_or("unknown", Endpoint::name),
        status,
        elapsed_ms = begin.elapsed().as_millis(),
        "answered"
    );
    response.headers_mut().insert(REQUEST_ID, request_id);
    if unread {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response)
}

/// The addresses that are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Endpoint {
    Chat,
    Completion,
    Embeddings,
    Models,
    Model,
    Health,
    Metrics,
}

impl Endpoint {
    const fn name(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Completion => "completion",
            Self::Embeddings => "embeddings",
            Self::Models => "models",
            Self::Model => "model",
            Self::Health => "health",
            Self::Metrics => "metrics",
        }
    }

    const fn takes_post(self) -> bool {
        matches!(self, Self::Chat | Self::Completion | Self::Embeddings)
    }
}

fn endpoint_of(path: &str) -> Option<Endpoint> {
    match path.strip_suffix('/').unwrap_or(path) {
        "/v1/chat/completions" => Some(Endpoint::Chat),
        "/v1/completions" => Some(Endpoint::Completion),
        "/v1/embeddings" => Some(Endpoint::Embeddings),
        "/v1/models" => Some(Endpoint::Models),
        "/health" => Some(Endpoint::Health),
        "/metrics" => Some(Endpoint::Metrics),
        other => other.starts_with("/v1/models/").then_some(Endpoint::Model),
    }
}

async fn dispatch(
    shared: &Arc<Shared>,
    endpoint: Option<Endpoint>,
    request: Request<Incoming>,
) -> Result<Response<AnswerBody>, ApiError> {
    if endpoint != Some(Endpoint::Health) {
        check_key(shared, &request)?;
    }
    let endpoint = endpoint.ok_or_else(ApiError::unknown_path)?;
    if endpoint.takes_post() {
        if request.method() != Method::POST {
            return Err(ApiError::wrong_method("POST"));
        }
        let body = read_body(shared, request).await?;
        return match endpoint {
            Endpoint::Chat => chat::chat(shared, body).await,
            Endpoint::Completion => completion::completion(shared, body).await,
            _ => embeddings::embeddings(shared, body).await,
        };
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return Err(ApiError::wrong_method("GET"));
    }
    match endpoint {
        Endpoint::Health => Ok(health(shared)),
        Endpoint::Metrics => {
            let text = shared.metrics.render().into_bytes();
            Ok(full(200, "text/plain; version=0.0.4; charset=utf-8", text))
        }
        Endpoint::Model => one_model(shared, request.uri().path()),
        _ => {
            let data: Vec<Value> =
                shared.config.model_names.iter().map(|name| shared.model_entry(name)).collect();
            Ok(json_answer(200, &json!({"object": "list", "data": data})))
        }
    }
}

fn check_key(shared: &Shared, request: &Request<Incoming>) -> Result<(), ApiError> {
    let Some(key) = &shared.config.api_key else { return Ok(()) };
    let given = request
        .headers()
        .get(header::AUTHORIZATION)
        .and_then(|value| value.as_bytes().strip_prefix(b"Bearer "))
        .unwrap_or_default();
    if bool::from(given.ct_eq(key.expose().as_bytes())) {
        Ok(())
    } else {
        Err(ApiError::unauthorized())
    }
}

async fn read_body(
    shared: &Shared,
    request: Request<Incoming>,
) -> Result<Map<String, Value>, ApiError> {
    let (limit_bytes, limit_ms) = (shared.config.max_body_bytes, shared.config.request_timeout_ms);
    let collected = Limited::new(request.into_body(), limit_bytes).collect();
    let bytes = tokio::time::timeout(Duration::from_millis(limit_ms), collected)
        .await
        .map_err(|_| ApiError::body_timeout(limit_ms))?
        .map_err(|fault| {
            if fault.is::<LengthLimitError>() {
                ApiError::body_too_large(limit_bytes)
            } else {
                ApiError::malformed("The body of the request broke off.")
            }
        })?
        .to_bytes();
    parse_body(&bytes)
}

fn health(shared: &Shared) -> Response<AnswerBody> {
    match &*shared.phase.borrow() {
        Phase::Ready(_) => {
            let (active, waiting) = shared.metrics.load();
            json_answer(200, &json!({"status": "ok", "active": active, "waiting": waiting}))
        }
        Phase::Loading(fraction) => {
            json_answer(503, &json!({"status": "loading", "progress": fraction}))
        }
        Phase::Stopping => json_answer(503, &json!({"status": "stopping"})),
    }
}

/// Names may hold slashes, so everything after `/v1/models/` is the name.
fn one_model(shared: &Shared, path: &str) -> Result<Response<AnswerBody>, ApiError> {
    let name = percent_decoded(path.strip_prefix("/v1/models/").unwrap_or_default());
    shared.check_model(&name)?;
    Ok(json_answer(200, &shared.model_entry(&name)))
}

/// RFC 3986 section 2.1; what is no escape stays as it is.
fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let escaped = (*first == b'%')
            .then(|| after.get(..2))
            .flatten()
            .and_then(|digits| hex::decode(digits).ok());
        match escaped {
            Some(decoded) => {
                bytes.extend(decoded);
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Runs work that takes more than a moment beside the network threads.
pub(crate) async fn off_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    let task: Box<dyn Future<Output = _> + Send + Unpin> =
        Box::new(tokio::task::spawn_blocking(work));
    task.await.unwrap_or_else(|_| Err(ApiError::internal("Preparing the request failed.")))
}

/// What stands in every piece of an answer.
pub(crate) fn envelope(prefix: &str, options: &Options, served: &Served) -> Envelope {
    Envelope {
        id: format!("{prefix}-{}", random_id()),
        model: options.model.clone(),
        created: now_s(),
        fingerprint: served.fingerprint.clone(),
        include_usage: options.include_usage,
    }
}

/// Seconds since 1970.
pub(crate) fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn addresses_are_known_with_and_without_a_slash() {
        assert_eq!(endpoint_of("/v1/chat/completions"), Some(Endpoint::Chat));
        assert_eq!(endpoint_of("/v1/models/"), Some(Endpoint::Models));
        assert_eq!(endpoint_of("/v1/models/a/b"), Some(Endpoint::Model));
        assert_eq!(endpoint_of("/v2"), None);
    }

    #[test]
    fn escapes_in_names_are_read() {
        assert_eq!(percent_decoded("a%2Fb%20c%"), "a/b c%");
        assert_eq!(percent_decoded("%zz"), "%zz");
    }

    proptest! {
        #[test]
        fn any_path_is_decoded_without_a_panic(text in ".{0,60}") {
            let _ = (endpoint_of(&text), percent_decoded(&text));
        }
    }
}
