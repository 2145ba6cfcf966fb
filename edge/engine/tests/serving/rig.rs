//! An engine with the tiny model, and a small HTTP client for it.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cocoon_engine::tiny_gguf::TinyModel;
use cocoon_engine::{EngineConfig, EngineEvent, EngineFault, run};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

/// Longer than anything here takes, even on a machine that is busy with other work.
pub(crate) const DEADLINE: Duration = Duration::from_secs(120);

/// A running engine.
pub(crate) struct Rig {
    pub(crate) addr: SocketAddr,
    pub(crate) events: Arc<Mutex<Vec<EngineEvent>>>,
    stop: Option<oneshot::Sender<()>>,
    engine: JoinHandle<Result<(), EngineFault>>,
    _dir: tempfile::TempDir,
}

pub(crate) fn tiny_config(dir: &std::path::Path, model: &TinyModel) -> EngineConfig {
    let path = dir.join("tiny.gguf");
    model.write_to(&path).unwrap();
    EngineConfig { threads: 1, context_tokens: 2048, ..EngineConfig::new(path, "tiny") }
}

impl Rig {
    /// Starts an engine and waits until it is ready.
    pub(crate) async fn start() -> Self {
        Self::start_with(&TinyModel::default(), |_| {}).await
    }

    pub(crate) async fn start_with(
        model: &TinyModel,
        adjust: impl FnOnce(&mut EngineConfig),
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = tiny_config(dir.path(), model);
        adjust(&mut config);
        let events = Arc::new(Mutex::new(Vec::new()));
        let (told, mut ready) = mpsc::unbounded_channel();
        let seen = Arc::clone(&events);
        let observer = Arc::new(move |event: EngineEvent| {
            seen.lock().unwrap().push(event.clone());
            if let EngineEvent::Ready { addr, .. } = event {
                let _ = told.send(addr);
            }
        });
        let (stop, stopped) = oneshot::channel();
        let engine = tokio::spawn(run(config, observer, async {
            let _ = stopped.await;
        }));
        let addr = within(ready.recv()).await.expect("the engine becomes ready");
        Self { addr, events, stop: Some(stop), engine, _dir: dir }
    }

    /// Stops the engine and answers how it ended.
    pub(crate) async fn stop(mut self) -> Result<(), EngineFault> {
        drop(self.stop.take());
        within(&mut self.engine).await.unwrap()
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        self.raw(&format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Reply {
        self.raw(&post_text(path, &body.to_string())).await
    }

    pub(crate) async fn raw(&self, request: &str) -> Reply {
        let mut stream = TcpStream::connect(self.addr).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut bytes = Vec::new();
        within(stream.read_to_end(&mut bytes)).await.unwrap();
        Reply::parse(&bytes)
    }

    /// Sends a request and leaves the answer to be read.
    pub(crate) async fn open(&self, path: &str, body: &Value) -> BufReader<TcpStream> {
        let mut stream = TcpStream::connect(self.addr).await.unwrap();
        stream.write_all(post_text(path, &body.to_string()).as_bytes()).await.unwrap();
        BufReader::new(stream)
    }

    /// A chat with one message of the user and more members.
    pub(crate) async fn chat(&self, text: &str, more: Value) -> Reply {
        self.post("/v1/chat/completions", &chat_body(text, more)).await
    }

    /// The value of a line of `/metrics`.
    pub(crate) async fn metric(&self, name: &str) -> u64 {
        let text = self.get("/metrics").await.text;
        let line = text.lines().find(|line| line.starts_with(name)).expect("the metric exists");
        line.rsplit(' ').next().unwrap().parse().unwrap()
    }

    /// Asks for a metric until it has the value.
    pub(crate) async fn wait_for_metric(&self, name: &str, value: u64) {
        let wait = async {
            while self.metric(name).await != value {
                tokio::task::yield_now().await;
            }
        };
        within(wait).await;
    }
}

pub(crate) fn chat_body(text: &str, more: Value) -> Value {
    let mut body = json!({
        "model": "tiny",
        "messages": [{"role": "user", "content": text}],
        "max_tokens": 16,
        "temperature": 0,
    });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

fn post_text(path: &str, body: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Waits for a future, but not for ever.
pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future).await.expect("it takes too long")
}

/// Reads lines until one begins with `data: ` and answers what follows.
pub(crate) async fn next_event(stream: &mut BufReader<TcpStream>) -> Option<String> {
    loop {
        let mut line = String::new();
        if within(stream.read_line(&mut line)).await.unwrap() == 0 {
            return None;
        }
        if let Some(data) = line.strip_prefix("data: ") {
            return Some(data.trim_end().to_owned());
        }
    }
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) text: String,
}

impl Reply {
    fn parse(bytes: &[u8]) -> Self {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").expect("a head");
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap().to_ascii_lowercase();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let body = &bytes[end + 4..];
        let body = if head.contains("transfer-encoding: chunked") {
            dechunked(body)
        } else {
            body.to_vec()
        };
        Self { status, head, text: String::from_utf8(body).unwrap() }
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("no JSON: {}", self.text))
    }

    /// The body of an answer that must be a success.
    pub(crate) fn ok(&self) -> Value {
        assert_eq!(self.status, 200, "{}", self.text);
        self.json()
    }

    /// The chunks of a stream that must end as it should.
    pub(crate) fn chunks(&self) -> Vec<Value> {
        assert_eq!(self.status, 200, "{}", self.text);
        assert!(self.head.contains("content-type: text/event-stream"), "{}", self.head);
        let events: Vec<&str> = self.text.split("\n\n").filter(|event| !event.is_empty()).collect();
        let (last, chunks) = events.split_last().expect("events");
        assert_eq!(*last, "data: [DONE]");
        chunks
            .iter()
            .map(|event| serde_json::from_str(event.strip_prefix("data: ").unwrap()).unwrap())
            .collect()
    }
}

fn dechunked(mut body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let end = body.windows(2).position(|window| window == b"\r\n").expect("a chunk's size");
        let size = usize::from_str_radix(std::str::from_utf8(&body[..end]).unwrap(), 16).unwrap();
        if size == 0 {
            return bytes;
        }
        bytes.extend_from_slice(&body[end + 2..end + 2 + size]);
        body = &body[end + 4 + size..];
    }
}

/// The text of all deltas of a choice.
pub(crate) fn joined_content(chunks: &[Value], index: u64) -> String {
    chunks
        .iter()
        .flat_map(|chunk| chunk["choices"].as_array().unwrap().clone())
        .filter(|choice| choice["index"] == index)
        .filter_map(|choice| choice["delta"]["content"].as_str().map(str::to_owned))
        .collect()
}
