//! Slow strangers at a port of pages, over real sockets: somebody new always gets in.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::routing::{get, post};
use bytes::Bytes;
use cocoon_http::{PageSettings, serve};
use futures_util::stream::{self, Stream, StreamExt as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;

/// Nothing in these tests may take longer.
const SOON: Duration = Duration::from_secs(10);
const PLACES: usize = 8;

/// More than the system's buffers of a connection hold, made as it is taken.
fn large() -> impl Stream<Item = Result<Bytes, Infallible>> {
    stream::repeat_with(|| Ok(Bytes::from_static(&[b'x'; 1 << 16]))).take(512)
}

struct Port {
    address: SocketAddr,
    /// A request is in the handler of `/held`.
    held: Arc<Notify>,
    go_on: Arc<Notify>,
    stop: Option<oneshot::Sender<()>>,
    done: JoinHandle<()>,
}

impl Port {
    async fn open(change: impl FnOnce(&mut PageSettings)) -> Port {
        let (held, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (here, goes_on) = (held.clone(), go_on.clone());
        let waits = move || async move {
            here.notify_one();
            goes_on.notified().await;
            "held\n"
        };
        let pages = Router::new()
            .route(
                "/",
                get(|ConnectInfo(peer): ConnectInfo<SocketAddr>| async move { peer.to_string() }),
            )
            .route("/held", get(waits))
            .route("/large", get(|| async { Body::from_stream(large()) }))
            .route("/order", post(|body: String| async move { body }));
        let mut settings = PageSettings::default();
        settings.crowd.connections_max = PLACES;
        settings.crowd.slow_after = Duration::ZERO;
        change(&mut settings);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let done = tokio::spawn(serve(listener, pages, settings, async { drop(stopped.await) }));
        Port { address, held, go_on, stop: Some(stop), done }
    }

    /// A connection on which this is sent and nothing is read.
    async fn stranger(&self, sent: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(sent.as_bytes()).await.unwrap();
        stream
    }

    /// What somebody new is answered.
    async fn visit(&self) -> String {
        let mut stream =
            self.stranger("GET / HTTP/1.1\r\nhost: t\r\nconnection: close\r\n\r\n").await;
        let expected = stream.local_addr().unwrap().to_string();
        let answer = rest_of(&mut stream).await;
        assert!(answer.is_empty() || answer.ends_with(&expected), "{answer}");
        answer
    }
}

/// What comes until the end of the connection, however it ends.
async fn rest_of(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let _ended = tokio::time::timeout(SOON, stream.read_to_end(&mut bytes)).await.expect("an end");
    String::from_utf8(bytes).unwrap()
}

/// Strangers that hold all places with this, and as many again, keep nobody out.
async fn keep_nobody_out(sent: &str) {
    let port = Port::open(|_| {}).await;
    let mut strangers = Vec::new();
    for _ in 0..PLACES * 2 {
        strangers.push(port.stranger(sent).await);
        assert!(port.visit().await.starts_with("HTTP/1.1 200 "), "somebody new gets in");
    }
    let mut first = strangers.swap_remove(0);
    rest_of(&mut first).await;
}

#[tokio::test]
async fn silent_ones_keep_nobody_out() {
    keep_nobody_out("").await;
}

#[tokio::test]
async fn half_a_head_keeps_nobody_out() {
    keep_nobody_out("GET / HTTP/1.1\r\nhost: ").await;
}

#[tokio::test]
async fn half_a_body_keeps_nobody_out() {
    keep_nobody_out("POST /order HTTP/1.1\r\nhost: t\r\ncontent-length: 1000\r\n\r\nx").await;
}

#[tokio::test]
async fn answers_that_are_not_taken_keep_nobody_out() {
    keep_nobody_out("GET /large HTTP/1.1\r\nhost: t\r\n\r\n").await;
}

#[tokio::test]
async fn whoever_is_being_served_is_not_given_up() {
    let port = Port::open(|settings| settings.crowd.connections_max = 1).await;
    let mut first =
        port.stranger("GET /held HTTP/1.1\r\nhost: t\r\nconnection: close\r\n\r\n").await;
    port.held.notified().await;
    assert_eq!(port.visit().await, "", "there is no room");
    port.go_on.notify_one();
    assert!(rest_of(&mut first).await.ends_with("held\n"));
}

#[tokio::test]
async fn deadlines_end_what_goes_on_for_ever() {
    let moment = Duration::from_millis(50);
    let port = Port::open(|settings| {
        settings.body = moment;
        settings.deadlines.head = moment;
        settings.deadlines.idle = moment;
        settings.deadlines.write_stall = moment;
    })
    .await;
    for (sent, told) in [
        ("", ""),
        ("GET / HTTP/1.1\r\nho", ""),
        ("POST /order HTTP/1.1\r\nhost: t\r\ncontent-length: 9\r\n\r\nx", "HTTP/1.1 400 "),
    ] {
        let answer = rest_of(&mut port.stranger(sent).await).await;
        assert!(answer.starts_with(told) && (told.is_empty() == answer.is_empty()), "{answer}");
    }
    // Dribbling does not begin a head anew.
    let mut slow = port.stranger("GET / HTTP/1.1\r\n").await;
    let dribbles = async {
        while slow.write_all(b"x: y\r\n").await.is_ok() {
            tokio::task::yield_now().await
        }
    };
    tokio::time::timeout(SOON, dribbles).await.expect("an end");
}

#[tokio::test]
async fn the_end_answers_what_runs_and_closes_the_rest() {
    let mut port = Port::open(|_| {}).await;
    let mut idle = port.stranger("").await;
    let mut held = port.stranger("GET /held HTTP/1.1\r\nhost: t\r\n\r\n").await;
    port.held.notified().await;
    port.stop.take();
    assert_eq!(rest_of(&mut idle).await, "");
    port.go_on.notify_one();
    assert!(rest_of(&mut held).await.ends_with("held\n"));
    tokio::time::timeout(SOON, port.done).await.expect("an end").unwrap();
}
