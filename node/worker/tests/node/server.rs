//! A small model server.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use futures_util::{StreamExt as _, stream};
use serde_json::{Value, json};
use tokio::sync::Notify;

/// Bytes of a large answer: sealed they are more than a frame of the protocol may have.
pub(crate) const LARGE: usize = 9 << 20;

/// A server whose state the test holds.
#[derive(Default)]
pub(crate) struct Server {
    up: AtomicBool,
    /// Lets a slow answer end.
    pub(crate) release: Notify,
    /// A slow answer was dropped or ended.
    pub(crate) gone: Notify,
}

struct Gone(Arc<Server>);

impl Drop for Gone {
    fn drop(&mut self) {
        self.0.gone.notify_one();
    }
}

impl Server {
    pub(crate) async fn start() -> (Arc<Self>, SocketAddr) {
        let server = Arc::new(Self::default());
        server.set_up(true);
        let pages = Router::new()
            .route("/v1/models", get(models))
            .route("/v1/chat/completions", post(chat))
            .with_state(server.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, pages).await.unwrap() });
        (server, address)
    }

    pub(crate) fn set_up(&self, up: bool) {
        self.up.store(up, Ordering::SeqCst);
    }
}

async fn models(State(server): State<Arc<Server>>) -> Response {
    if server.up.load(Ordering::SeqCst) {
        return json!({"data": [{"id": "qwen"}]}).to_string().into_response();
    }
    StatusCode::SERVICE_UNAVAILABLE.into_response()
}

fn word() -> Bytes {
    let event = json!({"choices": [{"delta": {"content": "words"}}]});
    Bytes::from(format!("data: {event}\n\n"))
}

fn last() -> Bytes {
    let event = json!({"choices": [], "usage": usage()});
    Bytes::from(format!("data: {event}\n\ndata: [DONE]\n\n"))
}

fn usage() -> Value {
    json!({"prompt_tokens": 7, "completion_tokens": 17})
}

/// Does what the first message says. Only a request that is plain and asks for usage is served.
async fn chat(State(server): State<Arc<Server>>, body: Bytes) -> Response {
    let request: Value = serde_json::from_slice(&body).unwrap();
    let streams = request["stream"] == true;
    if streams && request["stream_options"]["include_usage"] != true {
        return StatusCode::BAD_REQUEST.into_response();
    }
    match request["messages"][0]["content"].as_str() {
        Some("plain") => {
            let choices = json!([{"message": {"content": "words"}}]);
            json!({"choices": choices, "usage": usage()}).to_string().into_response()
        }
        Some("large") => {
            let choices = json!([{"message": {"content": "x".repeat(LARGE)}}]);
            json!({"choices": choices, "usage": usage()}).to_string().into_response()
        }
        Some("stream") => {
            let parts = [word(), word(), last()].map(Ok::<_, Infallible>);
            Body::from_stream(stream::iter(parts)).into_response()
        }
        Some("slow") => {
            let gone = Gone(server.clone());
            let end = stream::once(async move {
                server.release.notified().await;
                drop(gone);
                Ok(last())
            });
            let begin = stream::once(async { Ok::<_, Infallible>(word()) });
            Body::from_stream(begin.chain(end)).into_response()
        }
        _ => StatusCode::BAD_REQUEST.into_response(),
    }
}
