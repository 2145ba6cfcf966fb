//! Connections and requests of the mock.

use super::counts::{Counters, Request, count};
use super::events::{Answer, Ending, Events};
use super::misbehaviour::Misbehaviour;
use super::script::{JSON, Script};
use bytes::Bytes;
use http::{HeaderValue, Method, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use std::borrow::Cow;
use std::convert::Infallible;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::watch;

/// Largest request that is read, bytes: what the gateway lets through by default, and some more.
const REQUEST_LEN_MAX: usize = 20 << 20;
/// Pause after a failed accept (no descriptors left), so that it does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// What every connection shares.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) script: Arc<Script>,
    pub(crate) counters: Arc<Counters>,
}

/// Accepts connections until `stop` turns true.
pub(crate) async fn serve(
    listener: TcpListener,
    service: Arc<Service>,
    mut stop: watch::Receiver<bool>,
) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.wait_for(|stop| *stop) => return,
        };
        match accepted {
            Ok((stream, _)) => {
                count(&service.counters.connections);
                tokio::spawn(connection(stream, Arc::clone(&service)));
            }
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

async fn connection(stream: TcpStream, service: Arc<Service>) {
    let _ = stream.set_nodelay(true);
    let answer = hyper::service::service_fn(move |request| {
        let service = Arc::clone(&service);
        async move { Ok::<_, Infallible>(service.answer(request).await) }
    });
    // An error here is a caller that hung up; the request in progress counts it.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
}

/// The members of a request that the mock looks at.
#[derive(Debug, Default, Deserialize)]
struct Asked<'a> {
    #[serde(borrow, default)]
    model: Option<Cow<'a, str>>,
    #[serde(default)]
    stream: Option<bool>,
    #[serde(default)]
    stream_options: Option<StreamOptions>,
    #[serde(borrow, default)]
    mock_fault: Option<Cow<'a, str>>,
    #[serde(default)]
    mock_gap_ms: Option<u32>,
}

#[derive(Debug, Deserialize)]
struct StreamOptions {
    #[serde(default)]
    include_usage: Option<bool>,
}

impl Service {
    async fn answer(&self, request: http::Request<Incoming>) -> Response<Answer> {
        match (request.method(), request.uri().path()) {
            (&Method::POST, "/v1/chat/completions") => self.chat(request).await,
            (&Method::GET, "/v1/models") => {
                count(&self.counters.probes);
                whole(StatusCode::OK, JSON, self.script.models.clone())
            }
            (&Method::GET, "/health") => {
                count(&self.counters.probes);
                whole(StatusCode::OK, JSON, Bytes::from_static(b"{\"status\":\"ok\"}"))
            }
            (&Method::GET, "/counts") => {
                let counts = serde_json::to_vec(&self.counters.read()).unwrap_or_default();
                whole(StatusCode::OK, JSON, counts.into())
            }
            _ => fault(StatusCode::NOT_FOUND, "the mock has no such page"),
        }
    }

    async fn chat(&self, request: http::Request<Incoming>) -> Response<Answer> {
        let mut running = Request::new(&self.counters);
        let (head, body) = request.into_parts();
        let Ok(body) = Limited::new(body, REQUEST_LEN_MAX).collect().await else {
            running.refused();
            return fault(StatusCode::PAYLOAD_TOO_LARGE, "the body is too large or broke off");
        };
        let body = body.to_bytes();
        let asked = match serde_json::from_slice::<Asked<'_>>(&body) {
            Ok(asked) => asked,
            Err(wrong) => {
                running.refused();
                return fault(StatusCode::BAD_REQUEST, &wrong.to_string());
            }
        };
        let header = head.headers.get("x-mock-fault").and_then(|value| value.to_str().ok());
        match Misbehaviour::asked_for(header, asked.mock_fault.as_deref(), asked.model.as_deref()) {
            Ok(None) => self.behave(running, &asked),
            Ok(Some(how)) => self.misbehave(running, &asked, how).await,
            Err(wrong) => {
                running.refused();
                fault(StatusCode::BAD_REQUEST, &wrong.to_string())
            }
        }
    }

    fn behave(&self, mut running: Request, asked: &Asked<'_>) -> Response<Answer> {
        if asked.stream == Some(true) {
            return self.stream(running, asked, Ending::Whole);
        }
        running.completed();
        whole(StatusCode::OK, JSON, self.script.whole.clone())
    }

    async fn misbehave(
        &self,
        mut running: Request,
        asked: &Asked<'_>,
        how: Misbehaviour,
    ) -> Response<Answer> {
        let ending = match how {
            Misbehaviour::Stall => Ending::Stalled,
            Misbehaviour::Die => Ending::Broken,
            Misbehaviour::Silent => {
                // Dropped with `running` when the caller hangs up.
                std::future::pending::<Infallible>().await;
                Ending::Stalled
            }
            Misbehaviour::Error => {
                running.misbehaved();
                return fault(StatusCode::INTERNAL_SERVER_ERROR, "failed as asked for");
            }
            Misbehaviour::Busy => {
                running.misbehaved();
                let mut answer = fault(StatusCode::SERVICE_UNAVAILABLE, "busy as asked for");
                answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
                return answer;
            }
            Misbehaviour::Garbage => {
                running.misbehaved();
                let kind = if asked.stream == Some(true) { self.script.content_type } else { JSON };
                return whole(StatusCode::OK, kind, Bytes::from_static(GARBAGE));
            }
        };
        self.stream(running, asked, ending)
    }

    fn stream(&self, running: Request, asked: &Asked<'_>, ending: Ending) -> Response<Answer> {
        count(&self.counters.streams);
        let with_usage = asked
            .stream_options
            .as_ref()
            .is_some_and(|options| options.include_usage == Some(true));
        let gap = asked.mock_gap_ms.map(|ms| Duration::from_millis(ms.into()));
        let gap = gap.unwrap_or(self.script.gap);
        let events = Events::new(&self.script, running, ending, with_usage, gap);
        response(StatusCode::OK, self.script.content_type, Answer::Events(Box::new(events)))
    }
}

/// No JSON, no event, no UTF-8.
const GARBAGE: &[u8] = b"\xff\xfe{]:data \x00\x01}\n\n[";

fn whole(status: StatusCode, content_type: &'static str, body: Bytes) -> Response<Answer> {
    response(status, content_type, Answer::Whole(Some(body)))
}

fn fault(status: StatusCode, message: &str) -> Response<Answer> {
    let body = serde_json::json!({
        "error": { "message": message, "type": "mock_error", "param": null, "code": null },
    });
    whole(status, JSON, body.to_string().into())
}

fn response(status: StatusCode, content_type: &'static str, body: Answer) -> Response<Answer> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
