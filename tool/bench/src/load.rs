//! A load generator for chat completions.
//!
//! Holds a number of connections busy: on each, one request after the other, as fast as answers
//! come (a closed loop). Everything runs on one thread, because it shares the machine with what
//! it measures.

mod connection;
mod reading;
mod report;

pub use reading::Broken;
pub use report::{Millis, Report};

use bytes::Bytes;
use connection::Driver;
use http::Uri;
use report::Recorder;
use serde::{Deserialize, Serialize};
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use thiserror::Error;
use tokio::task::JoinSet;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Shape {
    /// A stream of events, usage included.
    Stream,
    /// One small JSON answer.
    Small,
}

/// How connections are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Reuse {
    /// One TCP connection for many requests.
    KeepAlive,
    /// A new TCP connection for every request, with `Connection: close`.
    NewConnection,
}

/// What to do to whom.
#[derive(Clone, Debug)]
pub struct Options {
    /// `http://host:port`, with or without a path; without one, `/v1/chat/completions`.
    pub url: String,
    /// Requests in flight at any time.
    pub connections: usize,
    /// How long results count.
    pub duration: Duration,
    /// How long the load runs before results count.
    pub warm_up: Duration,
    /// Ends after so many requests, if that comes first. None are cut off then.
    pub requests: Option<u64>,
    /// What is asked for.
    pub shape: Shape,
    /// How connections are used.
    pub reuse: Reuse,
    /// Model asked for.
    pub model: String,
    /// Pause before each event that the mock is asked for (`mock_gap_ms`), so that a stream flows
    /// as from a model; zero for none. Other servers ignore it.
    pub pace: Duration,
    /// Sent as `Authorization: Bearer`, if the server wants one.
    pub key: Option<String>,
    /// A request that takes longer is an error.
    pub timeout: Duration,
    /// Pause of a connection after a refusal, as users keep who heed `Retry-After`.
    pub refusal_pause: Duration,
}

impl Options {
    /// The usual load on this address: one connection, kept alive, five seconds.
    #[must_use]
    pub fn new(url: impl Into<String>, shape: Shape) -> Self {
        Self {
            url: url.into(),
            connections: 1,
            duration: Duration::from_secs(5),
            warm_up: Duration::ZERO,
            requests: None,
            shape,
            reuse: Reuse::KeepAlive,
            model: "mock".into(),
            pace: Duration::ZERO,
            key: None,
            timeout: Duration::from_secs(20),
            refusal_pause: Duration::from_millis(5),
        }
    }
}

/// A load that cannot be made. What goes wrong with single requests is in the [`Report`].
#[derive(Debug, Error)]
pub enum Fault {
    /// Configuration: no address to connect to.
    #[error("{0:?} is not an address: write http://host:port")]
    Url(String),
    /// Configuration: something that cannot stand in a request.
    #[error("cannot make the request: {0}")]
    Request(#[from] http::Error),
    /// Environment: no event loop.
    #[error("cannot start an event loop: {0}")]
    Runtime(std::io::Error),
}

/// Makes the load and waits for its end. Blocks; call it from a thread of its own when in async
/// code.
///
/// # Errors
/// [`Fault`], before anything is sent.
pub fn run(options: &Options) -> Result<Report, Fault> {
    let target = Target::new(options)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Fault::Runtime)?;
    Ok(runtime.block_on(generate(options, target)))
}

async fn generate(options: &Options, target: Target) -> Report {
    let begin = Instant::now() + options.warm_up;
    let end = begin + options.duration;
    let recorder = Recorder::new(begin, end);
    let target = Arc::new(target);
    let tickets = Arc::new(Tickets(AtomicU64::new(options.requests.unwrap_or(u64::MAX))));
    let mut drivers = JoinSet::new();
    let connections = u32::try_from(options.connections.max(1)).unwrap_or(u32::MAX);
    for at in 0..connections {
        // Spread over the pause, as streams of different users are; else all their events would
        // come at the same moments.
        let delay = options.pace * at / connections;
        let driver = Driver::new(Arc::clone(&target), Arc::clone(&tickets), Arc::clone(&recorder));
        drivers.spawn(async move {
            tokio::time::sleep(delay).await;
            driver.run().await;
        });
    }
    let _ =
        tokio::time::timeout_at(end.into(), async { while drivers.join_next().await.is_some() {} })
            .await;
    // Requests in flight are dropped with the event loop: they count for nothing.
    recorder.report(options, Instant::now())
}

/// Requests still to be made.
struct Tickets(AtomicU64);

impl Tickets {
    fn take(&self) -> bool {
        let taken = |left: u64| left.checked_sub(1);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, taken).is_ok()
    }
}

/// Where requests go and what they are.
struct Target {
    address: SocketAddr,
    request: http::request::Parts,
    body: Bytes,
    shape: Shape,
    reuse: Reuse,
    timeout: Duration,
    refusal_pause: Duration,
}

impl Target {
    fn new(options: &Options) -> Result<Self, Fault> {
        let fault = || Fault::Url(options.url.clone());
        let uri: Uri = options.url.parse().map_err(|_| fault())?;
        let (Some("http"), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err(fault());
        };
        let port = authority.port_u16().unwrap_or(80);
        // Square brackets of an IPv6 address belong to the URL, not to the address.
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        let address = (host, port).to_socket_addrs().ok().and_then(|mut all| all.next());
        let path = match uri.path() {
            "" | "/" => "/v1/chat/completions",
            path => path,
        };
        let mut request = http::Request::post(path)
            .header(http::header::HOST, authority.as_str())
            .header(http::header::CONTENT_TYPE, "application/json");
        if options.reuse == Reuse::NewConnection {
            request = request.header(http::header::CONNECTION, "close");
        }
        if let Some(key) = &options.key {
            request = request.header(http::header::AUTHORIZATION, format!("Bearer {key}"));
        }
        Ok(Self {
            address: address.ok_or_else(fault)?,
            request: request.body(())?.into_parts().0,
            body: body(options).into(),
            shape: options.shape,
            reuse: options.reuse,
            timeout: options.timeout,
            refusal_pause: options.refusal_pause,
        })
    }
}

fn body(options: &Options) -> String {
    let mut body = serde_json::json!({
        "model": options.model,
        "messages": [{ "role": "user", "content": "Tell me a story about the sea." }],
        "max_tokens": 64,
        "temperature": 0,
    });
    if options.shape == Shape::Stream {
        body["stream"] = true.into();
        body["stream_options"] = serde_json::json!({ "include_usage": true });
    }
    if !options.pace.is_zero() {
        body["mock_gap_ms"] = u32::try_from(options.pace.as_millis()).unwrap_or(u32::MAX).into();
    }
    body.to_string()
}

#[cfg(test)]
mod tests {
    use super::{Fault, Options, Reuse, Shape, Target};

    #[test]
    fn addresses_are_checked_before_anything_is_sent() {
        for wrong in ["", "127.0.0.1:80", "https://127.0.0.1:80", "http://", "/v1"] {
            let options = Options::new(wrong, Shape::Small);
            assert!(matches!(Target::new(&options), Err(Fault::Url(_))), "{wrong:?}");
        }
    }

    #[test]
    fn path_is_kept_or_filled_in() {
        let path = |url: &str| Target::new(&Options::new(url, Shape::Small)).unwrap().request.uri;
        assert_eq!(path("http://127.0.0.1:80"), "/v1/chat/completions");
        assert_eq!(path("http://[::1]:80/other"), "/other");
    }

    #[test]
    fn new_connections_are_announced() {
        let mut options = Options::new("http://127.0.0.1:80", Shape::Stream);
        options.reuse = Reuse::NewConnection;
        let target = Target::new(&options).unwrap();
        assert_eq!(target.request.headers["connection"], "close");
    }
}
