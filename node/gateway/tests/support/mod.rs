//! A network that is none, and an HTTP client that shows every byte.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

pub mod batches;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use cocoon_gateway::answer::{AnswerFeed, AnswerHead, FinalRecord, InferenceStream, WorkerSeen};
use cocoon_gateway::upstream::{NetworkStatus, WorkerOffer};
use cocoon_gateway::{
    GatewayConfig, InferenceRequest, ModelOffer, Server, Upstream, UpstreamError, answer_channel,
};
use cocoon_units::{Coefficient, Nanoton, Tokens, Usage};
use http::{HeaderMap, HeaderValue, StatusCode};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};

/// Nothing in these tests may take longer.
pub const SOON: Duration = Duration::from_secs(60);

/// What the network was asked.
#[derive(Debug, Clone)]
pub struct Asked {
    pub model: String,
    pub path: &'static str,
    pub body: Bytes,
    pub headers: HeaderMap,
    pub max_tokens: u64,
    pub max_coefficient: u32,
    pub timeout: Duration,
    pub stream: bool,
    pub tee_kinds: Vec<String>,
}

/// A network whose behaviour depends on the model's name.
#[derive(Debug)]
pub struct MockNetwork {
    pub asked: Mutex<Vec<Asked>>,
    pub runs: AtomicUsize,
    cancelled: mpsc::UnboundedSender<String>,
    pub feeds: Mutex<Vec<AnswerFeed>>,
    fed: mpsc::UnboundedSender<()>,
}

/// What the network saw, as it happens.
pub struct Seen {
    pub cancelled: mpsc::UnboundedReceiver<String>,
    pub fed: mpsc::UnboundedReceiver<()>,
}

pub fn network() -> (Arc<MockNetwork>, Seen) {
    let (cancelled, was_cancelled) = mpsc::unbounded_channel();
    let (fed, was_fed) = mpsc::unbounded_channel();
    let network = MockNetwork {
        asked: Mutex::default(),
        runs: AtomicUsize::new(0),
        cancelled,
        feeds: Mutex::default(),
        fed,
    };
    (Arc::new(network), Seen { cancelled: was_cancelled, fed: was_fed })
}

pub const CHAT: &str = r#"{"id":"x","object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":"hello"},"finish_reason":"stop"}],"usage":{"prompt_tokens":7,"completion_tokens":3,"total_tokens":10}}"#;

pub fn chunk(text: &str) -> String {
    format!(
        "{{\"id\":\"x\",\"object\":\"chat.completion.chunk\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{text}\"}}}}]}}"
    )
}

pub const USAGE_CHUNK: &str = r#"{"id":"x","object":"chat.completion.chunk","choices":[],"usage":{"prompt_tokens":7,"completion_tokens":3}}"#;

pub fn record() -> FinalRecord {
    FinalRecord {
        usage: Some(Usage { prompt: 7, cached: 0, completion: 3, reasoning: 0 }),
        cost: Nanoton(1234),
        charged_tokens: Tokens(56),
        worker: WorkerSeen {
            measurement: "abcd".into(),
            tee_kind: "fake".into(),
            ..WorkerSeen::default()
        },
        receipt_id: Some("r-1".into()),
        ..FinalRecord::default()
    }
}

pub fn failed(error: UpstreamError) -> FinalRecord {
    FinalRecord { error: Some(error), ..FinalRecord::default() }
}

const WAIT: Duration = Duration::from_secs(3);

fn refusal(model: &str) -> Option<UpstreamError> {
    Some(match model {
        "no-proxy" => UpstreamError::NoProxy { retry_after: WAIT },
        "unknown" => UpstreamError::UnknownModel {
            model: model.to_owned(),
            offered: vec!["echo".to_owned()],
        },
        "no-worker" => UpstreamError::NoWorker { model: model.to_owned(), retry_after: WAIT },
        "dear" => UpstreamError::TooExpensive {
            cheapest: Coefficient::new(5000).unwrap(),
            cap: Coefficient::ONE,
        },
        "poor" => UpstreamError::NoMoney { needed: Nanoton::TON, available: Nanoton(1) },
        "busy" => UpstreamError::Busy { retry_after: WAIT },
        "late" => UpstreamError::Timeout { after: WAIT },
        "lost" => UpstreamError::ProxyLost,
        "refused" => UpstreamError::BadRequest {
            message: "The reference worker does not take 'tools'.".to_owned(),
            param: Some("tools".to_owned()),
            code: None,
        },
        _ => return None,
    })
}

impl MockNetwork {
    /// Ends or feeds the answers of the model `held`.
    pub fn take_feed(&self) -> AnswerFeed {
        self.feeds.lock().unwrap().remove(0)
    }

    pub fn last(&self) -> Asked {
        self.asked.lock().unwrap().last().unwrap().clone()
    }

    pub fn runs(&self) -> usize {
        self.runs.load(Ordering::SeqCst)
    }

    fn note(&self, request: &InferenceRequest) {
        self.runs.fetch_add(1, Ordering::SeqCst);
        self.asked.lock().unwrap().push(Asked {
            model: request.model.clone(),
            path: request.path,
            // Tests of memory must not see what is kept here.
            body: match request.model.as_str() {
                "large" => Bytes::new(),
                _ => request.body.expose().clone(),
            },
            headers: request.headers.clone(),
            max_tokens: request.max_tokens.0,
            max_coefficient: request.max_coefficient.milli(),
            timeout: request.timeout,
            stream: request.stream,
            tee_kinds: request.wishes.tee_kinds.clone(),
        });
    }

    fn feed(&self, model: &str, stream: bool, feed: AnswerFeed) {
        let push = |text: String| feed.push(Bytes::from(text)).unwrap();
        let event = |data: &str| push(format!("data: {data}\n\n"));
        match model {
            "lines" => {
                push(format!("{}\n{}", chunk("a"), &chunk("b")[..9]));
                push(format!("{}\n{USAGE_CHUNK}\n", &chunk("b")[9..]));
            }
            "empty" => {}
            "unfinished" => {
                event(&chunk("a"));
                return feed.finish(FinalRecord { usage: None, ..record() });
            }
            "server-400" => push(r#"{"object":"error","message":"bad prompt","code":400}"#.into()),
            "server-502" => {}
            "broken" => {
                event(&chunk("a"));
                return feed.finish(failed(UpstreamError::WorkerLost { reason: "gone".into() }));
            }
            "refused-late" => {
                return feed.finish(failed(UpstreamError::Busy { retry_after: WAIT }));
            }
            _ if stream => {
                event(&chunk("a"));
                event(&chunk("b"));
                event(USAGE_CHUNK);
                push("data: [DONE]\n\n".into());
            }
            "large" => push(CHAT.replace("hello", &"y".repeat(1 << 20))),
            "embedder" => push(r#"{"object":"list","data":[{"index":0,"embedding":[1]}]}"#.into()),
            _ => push(CHAT.to_owned()),
        }
        feed.finish(record());
    }
}

impl Upstream for MockNetwork {
    async fn run(&self, request: InferenceRequest) -> Result<InferenceStream, UpstreamError> {
        self.note(&request);
        let model = request.model.as_str();
        if let Some(failure) = refusal(model) {
            return Err(failure);
        }
        if model == "silent" {
            std::future::pending::<()>().await;
        }
        let (feed, parts) = answer_channel(1 << 20);
        let cancelled = self.cancelled.clone();
        let name = model.to_owned();
        feed.on_closed(move || drop(cancelled.send(name)));
        if model.starts_with("held") {
            self.feeds.lock().unwrap().push(feed);
            self.fed.send(()).unwrap();
        } else {
            self.feed(model, request.stream, feed);
        }
        let status = match model {
            "server-400" => StatusCode::BAD_REQUEST,
            "server-502" => StatusCode::BAD_GATEWAY,
            _ => StatusCode::OK,
        };
        let mut headers = HeaderMap::new();
        headers.insert("content-type", HeaderValue::from_static("application/json"));
        headers.insert("set-cookie", HeaderValue::from_static("a=b"));
        headers.insert("content-length", HeaderValue::from_static("99999"));
        headers.insert("x-cocoon-worker-start", HeaderValue::from_static("1.5"));
        let head = AnswerHead { status, headers, worker: record().worker };
        Ok(InferenceStream { head, parts })
    }

    async fn models(&self) -> Result<Vec<ModelOffer>, UpstreamError> {
        let worker = WorkerOffer {
            coefficient: Coefficient::ONE,
            running: 0,
            max_running: 60,
            tee_kind: Some("fake".into()),
        };
        let echo = ModelOffer {
            id: "org/echo".into(),
            workers: vec![worker.clone()],
            capabilities: vec!["chat".into()],
            context_tokens: Some(8192),
            price_in_per_million: Some(Nanoton(20_000_000)),
            ..ModelOffer::default()
        };
        let embedder = ModelOffer {
            id: "embedder".into(),
            workers: vec![worker],
            capabilities: vec!["embeddings".into()],
            ..ModelOffer::default()
        };
        Ok(vec![echo, embedder])
    }

    async fn status(&self) -> NetworkStatus {
        let sections = vec![("status".to_owned(), "{\"enabled\":true}".to_owned())];
        NetworkStatus { sections, ready_proxies: 1, fake_evidence: true }
    }
}

/// A running gateway. Dropping it stops it.
pub struct Running {
    pub address: SocketAddr,
    pub network: Arc<MockNetwork>,
    pub seen: Seen,
    stop: Option<oneshot::Sender<()>>,
    pub done: tokio::task::JoinHandle<()>,
}

impl Running {
    pub async fn start() -> Running {
        Running::start_with(|_| {}).await
    }

    pub async fn start_with(change: impl FnOnce(&mut GatewayConfig)) -> Running {
        let mut config =
            GatewayConfig { listen: ([127, 0, 0, 1], 0).into(), ..GatewayConfig::default() };
        change(&mut config);
        let (network, seen) = network();
        let server = Server::bind(config, network.clone()).await.unwrap();
        let address = server.local_addr();
        let (stop, stopped) = oneshot::channel::<()>();
        let done = tokio::spawn(server.run(async move { drop(stopped.await) }));
        Running { address, network, seen, stop: Some(stop), done }
    }

    pub fn stop(&mut self) {
        self.stop.take();
    }

    pub async fn connect(&self) -> Client {
        Client { stream: TcpStream::connect(self.address).await.unwrap(), buffer: Vec::new() }
    }

    /// One request on a connection of its own.
    pub async fn send(&self, text: &str) -> Answer {
        let mut client = self.connect().await;
        client.write(text.as_bytes()).await;
        client.answer().await
    }

    pub async fn send_owned(&self, text: String) -> Answer {
        self.send(&text).await
    }

    pub async fn post(&self, path: &str, body: &str) -> Answer {
        self.post_with(path, "", body).await
    }

    pub async fn post_with(&self, path: &str, headers: &str, body: &str) -> Answer {
        self.send(&post(path, headers, body)).await
    }

    pub async fn chat(&self, model: &str, rest: &str) -> Answer {
        self.post("/v1/chat/completions", &chat_body(model, rest)).await
    }
}

pub fn chat_body(model: &str, rest: &str) -> String {
    format!(
        "{{\"model\":\"{model}\",\"messages\":[{{\"role\":\"user\",\"content\":\"hi\"}}]{rest}}}"
    )
}

pub fn post(path: &str, headers: &str, body: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\n{headers}content-length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// An HTTP client that shows every byte.
pub struct Client {
    pub stream: TcpStream,
    pub buffer: Vec<u8>,
}

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: BTreeMap<String, String>,
    pub body: String,
    /// False when a chunked body was cut off.
    pub complete: bool,
}

impl Answer {
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("no JSON: {}", self.body))
    }

    pub fn code(&self) -> String {
        self.json()["error"]["code"].as_str().unwrap_or_default().to_owned()
    }
}

impl Client {
    pub async fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// Reads more; false at the end.
    pub async fn more(&mut self) -> bool {
        let mut bytes = vec![0; 65536];
        let read = tokio::time::timeout(SOON, self.stream.read(&mut bytes)).await;
        match read.expect("an answer in time") {
            Ok(0) | Err(_) => false,
            Ok(length) => {
                self.buffer.extend_from_slice(&bytes[..length]);
                true
            }
        }
    }

    /// Reads until the text has come.
    pub async fn until(&mut self, text: &str) {
        while !String::from_utf8_lossy(&self.buffer).contains(text) {
            assert!(self.more().await, "no {text:?} in {}", String::from_utf8_lossy(&self.buffer));
        }
    }

    pub async fn answer(&mut self) -> Answer {
        loop {
            self.until("\r\n\r\n").await;
            let text = String::from_utf8_lossy(&self.buffer).into_owned();
            let (head, _) = text.split_once("\r\n\r\n").unwrap();
            let mut lines = head.split("\r\n");
            let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
            let headers: BTreeMap<String, String> = lines
                .map(|line| line.split_once(':').unwrap())
                .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
                .collect();
            self.buffer.drain(..head.len() + 4);
            if status == 100 {
                continue;
            }
            let (body, complete) = if headers.contains_key("transfer-encoding") {
                self.chunked().await
            } else {
                let length = headers.get("content-length").map_or(0, |text| text.parse().unwrap());
                while self.buffer.len() < length && self.more().await {}
                let complete = self.buffer.len() >= length;
                (self.buffer.drain(..length.min(self.buffer.len())).collect(), complete)
            };
            let body = String::from_utf8(body).unwrap();
            return Answer { status, headers, body, complete };
        }
    }

    async fn chunked(&mut self) -> (Vec<u8>, bool) {
        let mut body = Vec::new();
        loop {
            let line_end = self.buffer.windows(2).position(|pair| pair == b"\r\n");
            let Some(line_end) = line_end else {
                if self.more().await {
                    continue;
                }
                return (body, false);
            };
            let line = std::str::from_utf8(&self.buffer[..line_end]).unwrap();
            let size = usize::from_str_radix(line, 16).unwrap();
            while self.buffer.len() < line_end + 2 + size + 2 {
                if !self.more().await {
                    return (body, false);
                }
            }
            body.extend_from_slice(&self.buffer[line_end + 2..line_end + 2 + size]);
            self.buffer.drain(..line_end + 2 + size + 2);
            if size == 0 {
                return (body, true);
            }
        }
    }
}
