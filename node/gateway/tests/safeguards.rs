//! Idempotency keys, API keys and TLS.
#![allow(clippy::unwrap_used)]

mod support;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use cocoon_gateway::config::TlsFiles;
use cocoon_gateway::keys::{KeyFile, KeyLimits};
use cocoon_gateway::{GatewayConfig, IdempotencyConfig, UpstreamError};
use support::{CHAT, Client, Running, chat_body, failed, post, record};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const KEYED: &str = "idempotency-key: k1\r\n";
const STREAM: &str = ",\"stream\":true";

async fn keyed(gateway: &Running, body: &str) -> Client {
    let mut client = gateway.connect().await;
    client.write(post("/v1/chat/completions", KEYED, body).as_bytes()).await;
    client
}

#[tokio::test]
async fn the_same_key_runs_once() {
    let mut gateway = Running::start().await;
    let body = chat_body("held", STREAM);
    let mut first = keyed(&gateway, &body).await;
    gateway.seen.fed.recv().await.unwrap();
    let feed = gateway.network.take_feed();
    feed.push(Bytes::from_static(b"data: {\"one\":1}\n\n")).unwrap();
    first.until("one").await;
    let mut second = keyed(&gateway, &body).await;
    second.until("one").await;
    drop(first);
    feed.push(Bytes::from_static(b"data: [DONE]\n\n")).unwrap();
    feed.finish(record());
    assert!(second.answer().await.body.ends_with("data: [DONE]\n\n"));
    let third = keyed(&gateway, &body).await.answer().await;
    assert_eq!(third.body, "data: {\"one\":1}\n\ndata: [DONE]\n\n");
    assert_eq!(gateway.network.runs(), 1);
    assert!(gateway.seen.cancelled.try_recv().is_err(), "the first user's leaving cancels nothing");
    let other = keyed(&gateway, &chat_body("echo", "")).await.answer().await;
    assert_eq!((other.status, other.code().as_str()), (422, "idempotency_conflict"));
}

#[tokio::test]
async fn unpaid_failures_may_be_tried_again() {
    let mut gateway = Running::start().await;
    let body = chat_body("held", "");
    let mut first = keyed(&gateway, &body).await;
    gateway.seen.fed.recv().await.unwrap();
    let reason = "gone".to_owned();
    gateway.network.take_feed().finish(failed(UpstreamError::WorkerLost { reason }));
    assert_eq!(first.answer().await.status, 502);
    let mut again = keyed(&gateway, &body).await;
    gateway.seen.fed.recv().await.unwrap();
    let feed = gateway.network.take_feed();
    feed.push(Bytes::from_static(CHAT.as_bytes())).unwrap();
    feed.finish(record());
    assert_eq!(again.answer().await.status, 200);
    assert_eq!(gateway.network.runs(), 2);
    assert_eq!(keyed(&gateway, &body).await.answer().await.body, CHAT);
    assert_eq!(gateway.network.runs(), 2);
    let busy = chat_body("busy", "");
    let headers = "idempotency-key: k2\r\n";
    for runs in 3..5 {
        assert_eq!(gateway.post_with("/v1/chat/completions", headers, &busy).await.status, 429);
        assert_eq!(gateway.network.runs(), runs);
    }
}

/// Where the end of a request was not heard, the proxy may have charged what was made.
#[tokio::test]
async fn failures_that_may_be_paid_are_not_tried_again() {
    let mut gateway = Running::start().await;
    for (key, failure) in
        [("k1", UpstreamError::ProxyLost), ("k2", UpstreamError::Timeout { after: support::SOON })]
    {
        let request = post(
            "/v1/chat/completions",
            &format!("idempotency-key: {key}\r\n"),
            &chat_body("held", ""),
        );
        let mut first = gateway.connect().await;
        first.write(request.as_bytes()).await;
        gateway.seen.fed.recv().await.unwrap();
        gateway.network.take_feed().finish(failed(failure));
        assert!(first.answer().await.status >= 502);
        // Shown as it was, as long as the gateway lives.
        assert!(gateway.send(&request).await.status >= 502);
    }
    for (model, key) in [("lost", "k3"), ("late", "k4")] {
        let headers = format!("idempotency-key: {key}\r\n");
        let body = chat_body(model, "");
        let first = gateway.post_with("/v1/chat/completions", &headers, &body).await;
        assert!(first.status >= 502, "{first:?}");
        let again = gateway.post_with("/v1/chat/completions", &headers, &body).await;
        assert_eq!((again.status, again.code().as_str()), (409, "idempotency_conflict"));
    }
    assert_eq!(gateway.network.runs(), 4);
}

/// The folder of an earlier gateway is all that a killed one leaves behind.
#[tokio::test]
async fn keys_outlive_the_gateway() {
    let folder = tempfile::tempdir().unwrap();
    let config = IdempotencyConfig { folder: folder.path().join("keyed"), key_file: None };
    let with_folder = |http: &mut GatewayConfig| {
        http.idempotency = Some(config.clone());
        http.limits.kept_answer_bytes = 1000;
    };
    let send = |model: &str, key: &str| {
        post("/v1/chat/completions", &format!("idempotency-key: {key}\r\n"), &chat_body(model, ""))
    };
    let mut killed = Running::start_with(with_folder).await;
    let answered = killed.send(&send("echo", "answered")).await;
    assert_eq!(answered.status, 200);
    let streamed = keyed(&killed, &chat_body("echo", STREAM)).await.answer().await;
    assert_eq!(killed.send(&send("busy", "unpaid")).await.status, 429);
    let mut client = killed.connect().await;
    client.write(send("held", "running").as_bytes()).await;
    killed.seen.fed.recv().await.unwrap();
    let mut client = killed.connect().await;
    client.write(send("held", "long").as_bytes()).await;
    killed.seen.fed.recv().await.unwrap();
    let feed = killed.network.feeds.lock().unwrap().pop().unwrap();
    feed.push(Bytes::from(format!("{CHAT}{}", " ".repeat(1000)))).unwrap();
    feed.finish(record());
    assert_eq!(client.answer().await.status, 200);

    // The file of the unpaid one goes after its answer.
    let deadline = tokio::time::Instant::now() + support::SOON;
    let kept = |entry: std::io::Result<std::fs::DirEntry>| {
        entry.unwrap().file_name().to_string_lossy().starts_with("answer-")
    };
    while std::fs::read_dir(&config.folder).unwrap().map(kept).filter(|kept| *kept).count() > 4 {
        assert!(tokio::time::Instant::now() < deadline, "the file of the unpaid request stays");
        tokio::task::yield_now().await;
    }

    // Nothing of the first gateway's memory is there, and it never shut down.
    let gateway = Running::start_with(with_folder).await;
    let again = gateway.send(&send("echo", "answered")).await;
    assert_eq!((again.status, &again.body), (200, &answered.body));
    for name in ["x-cocoon-cost-nanoton", "x-cocoon-worker", "content-type"] {
        assert_eq!(again.headers.get(name), answered.headers.get(name), "{name}");
    }
    let again = keyed(&gateway, &chat_body("echo", STREAM)).await.answer().await;
    assert_eq!((again.complete, again.body), (true, streamed.body));
    for key in ["running", "long"] {
        let refused = gateway.send(&send("held", key)).await;
        assert_eq!((refused.status, refused.code().as_str()), (409, "idempotency_conflict"));
    }
    assert_eq!(gateway.send(&send("other", "answered")).await.status, 422);
    assert_eq!(gateway.network.runs(), 0);
    assert_eq!(gateway.send(&send("busy", "unpaid")).await.status, 429);
    assert_eq!(gateway.network.runs(), 1);

    // What is too old or too much is forgotten, on disk too.
    let older = Running::start_with(|http| {
        with_folder(http);
        http.limits.idempotent_answers = 1;
    })
    .await;
    assert_eq!(older.send(&send("echo", "answered")).await.status, 200);
    assert_eq!(older.network.runs(), 1);
    drop(
        Running::start_with(|http| {
            with_folder(http);
            http.limits.idempotent_ms = 0;
        })
        .await,
    );
    let left = std::fs::read_dir(&config.folder).unwrap();
    let left: Vec<String> =
        left.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(left, ["key"]);
}

/// A request that cannot be written down is not sent.
#[tokio::test]
async fn without_a_disk_nothing_keyed_runs() {
    let folder = tempfile::tempdir().unwrap();
    let config = IdempotencyConfig { folder: folder.path().join("keyed"), key_file: None };
    let gateway = Running::start_with(|http| http.idempotency = Some(config.clone())).await;
    std::fs::remove_dir_all(&config.folder).unwrap();
    assert_eq!(keyed(&gateway, &chat_body("echo", "")).await.answer().await.status, 500);
    assert_eq!(gateway.network.runs(), 0);
    std::fs::create_dir(&config.folder).unwrap();
    assert_eq!(keyed(&gateway, &chat_body("echo", "")).await.answer().await.status, 200);
}

#[tokio::test]
async fn answers_too_long_to_keep_are_not_paid_twice_either() {
    let gateway = Running::start_with(|config| config.limits.kept_answer_bytes = 10).await;
    let body = chat_body("echo", STREAM);
    assert_eq!(keyed(&gateway, &body).await.answer().await.status, 200);
    assert_eq!(keyed(&gateway, &body).await.answer().await.status, 409);
    assert_eq!(gateway.network.runs(), 1);
}

/// Users with an API key each, all limits at their defaults.
struct Users {
    file: PathBuf,
    bearers: Vec<String>,
    ids: Vec<String>,
}

impl Users {
    fn new(folder: &Path, names: &[&str]) -> Users {
        let file = folder.join("keys.json");
        let create = |name: &&str| {
            let made = KeyFile::open(&file).unwrap().create(name, KeyLimits::default(), 1).unwrap();
            (format!("authorization: Bearer {}\r\n", made.0), made.1.id)
        };
        let (bearers, ids) = names.iter().map(create).unzip();
        Users { bearers, ids, file }
    }

    fn are_required(&self, config: &mut GatewayConfig) {
        config.require_keys = Some(true);
        config.keys_file = Some(self.file.clone());
    }

    fn post(&self, user: usize, key: &str, model: &str) -> String {
        let headers = format!("{}idempotency-key: {key}\r\n", self.bearers[user]);
        post("/v1/chat/completions", &headers, &chat_body(model, ""))
    }

    /// Requests and nanoTON of a user; ends the gateway, which writes them down.
    async fn used(&self, user: usize, mut gateway: Running) -> (u64, u64) {
        gateway.stop();
        (&mut gateway.done).await.unwrap();
        let totals = KeyFile::usage(&self.file).unwrap()[&self.ids[user]];
        (totals.requests, totals.cost_nanoton)
    }

    /// One figure of the gateway.
    async fn metric(&self, gateway: &Running, name: &str) -> u64 {
        let get = format!("GET /metrics HTTP/1.1\r\nhost: t\r\n{}\r\n", self.bearers[0]);
        let text = gateway.send(&get).await.body;
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
        line.unwrap_or_else(|| panic!("no {name} in {text}")).parse().unwrap()
    }
}

const COST: &str = "cocoon_gateway_cost_nanoton_total";

#[tokio::test]
async fn an_answer_is_paid_once_however_often_it_is_shown() {
    let folder = tempfile::tempdir().unwrap();
    let users = Users::new(folder.path(), &["team"]);
    let gateway = Running::start_with(|config| users.are_required(config)).await;
    for _ in 0..3 {
        let shown = gateway.send(&users.post(0, "k", "echo")).await;
        assert_eq!((shown.status, &*shown.headers["x-cocoon-cost-nanoton"]), (200, "1234"));
    }
    assert_eq!(gateway.network.runs(), 1);
    assert_eq!(users.metric(&gateway, COST).await, 1234);
    assert_eq!(users.used(0, gateway).await, (1, 1234));
}

#[tokio::test]
async fn a_keyed_request_whose_user_left_is_paid_and_counts_as_running() {
    let folder = tempfile::tempdir().unwrap();
    let users = Users::new(folder.path(), &["team"]);
    let mut gateway = Running::start_with(|config| {
        users.are_required(config);
        config.limits.requests = 1;
    })
    .await;
    let mut client = gateway.connect().await;
    client.write(users.post(0, "k", "held").as_bytes()).await;
    gateway.seen.fed.recv().await.unwrap();
    drop(client);
    for _ in 0..50 {
        let other = gateway.send(&users.post(0, "other", "echo")).await;
        assert_eq!(other.status, 429, "the one that runs takes the only place");
    }
    let feed = gateway.network.take_feed();
    feed.push(Bytes::from_static(CHAT.as_bytes())).unwrap();
    feed.finish(record());
    let deadline = tokio::time::Instant::now() + support::SOON;
    while users.metric(&gateway, COST).await != 1234 {
        assert!(tokio::time::Instant::now() < deadline, "nobody pays");
    }
    assert_eq!(gateway.network.runs(), 1);
    assert_eq!(users.used(0, gateway).await, (1, 1234));
}

#[tokio::test]
async fn one_key_cannot_push_out_the_answers_of_others() {
    let folder = tempfile::tempdir().unwrap();
    let users = Users::new(folder.path(), &["modest", "greedy"]);
    for own in [2, 0] {
        let mut gateway = Running::start_with(|config| {
            users.are_required(config);
            config.limits.idempotent_answers = 4;
            config.limits.idempotent_answers_per_key = own;
        })
        .await;
        assert_eq!(gateway.send(&users.post(0, "mine", "echo")).await.status, 200);
        for key in ["1", "2", "3", "4", "5", "6"] {
            assert_eq!(gateway.send(&users.post(1, key, "echo")).await.status, 200);
        }
        assert_eq!(gateway.send(&users.post(0, "mine", "echo")).await.status, 200);
        assert_eq!(gateway.network.runs(), 7, "the modest one's answer is still there");
        assert_eq!(gateway.send(&users.post(1, "6", "echo")).await.status, 200);
        assert_eq!(gateway.network.runs(), 7, "and the greedy one's last");
        assert_eq!(gateway.send(&users.post(1, "1", "echo")).await.status, 200);
        assert_eq!(gateway.network.runs(), 8, "but not its first");
        if own == 0 {
            continue;
        }
        let mut clients = Vec::new();
        for key in ["a", "b"] {
            let mut client = gateway.connect().await;
            client.write(users.post(1, key, "held").as_bytes()).await;
            gateway.seen.fed.recv().await.unwrap();
            clients.push(client);
        }
        let full = gateway.send(&users.post(1, "c", "echo")).await;
        assert_eq!((full.status, full.body.contains("of this API key")), (429, true), "{full:?}");
        assert_eq!(gateway.send(&users.post(0, "other", "echo")).await.status, 200);
    }
}

#[tokio::test]
async fn keys_are_required_where_they_are_set() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys.json");
    let limits = KeyLimits {
        models: vec!["echo".into(), "held".into()],
        budget_nanoton: Some(2000),
        ..KeyLimits::default()
    };
    let (key, _) = KeyFile::open(&path).unwrap().create("team", limits, 1).unwrap();
    let mut gateway = Running::start_with(|config| {
        config.require_keys = Some(true);
        config.keys_file = Some(path.clone());
    })
    .await;
    let send = |headers: String, model: &str| {
        post("/v1/chat/completions", &headers, &chat_body(model, ""))
    };
    assert_eq!(gateway.send(&send(String::new(), "echo")).await.status, 401);
    let wrong = gateway.send(&send("authorization: Bearer sk-no\r\n".into(), "echo")).await;
    assert_eq!((wrong.status, wrong.code().as_str()), (401, "invalid_api_key"));
    let bearer = format!("authorization: Bearer {key}\r\n");
    assert_eq!(gateway.send(&send(bearer.clone(), "other")).await.status, 403);
    assert_eq!(gateway.send("GET /v1/models HTTP/1.1\r\nhost: t\r\n\r\n").await.status, 401);
    assert_eq!(gateway.send("GET /health HTTP/1.1\r\nhost: t\r\n\r\n").await.status, 200);
    assert_eq!(gateway.send(&send(format!("x-api-key: {key}\r\n"), "echo")).await.status, 200);
    // A user who leaves is charged for what was made.
    let mut client = gateway.connect().await;
    client.write(send(bearer.clone(), "held").as_bytes()).await;
    gateway.seen.fed.recv().await.unwrap();
    drop(client);
    assert_eq!(gateway.seen.cancelled.recv().await.as_deref(), Some("held"));
    gateway.network.take_feed().finish(record());
    let deadline = tokio::time::Instant::now() + support::SOON;
    loop {
        let answer = gateway.send(&send(bearer.clone(), "echo")).await;
        if (answer.status, answer.code().as_str()) == (402, "key_budget_used") {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "{answer:?}");
    }
}

#[tokio::test]
async fn own_certificates_serve_tls() {
    let folder = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let files = TlsFiles {
        certificates: folder.path().join("cert.pem"),
        private_key: folder.path().join("key.pem"),
    };
    std::fs::write(&files.certificates, made.cert.pem()).unwrap();
    std::fs::write(&files.private_key, made.signing_key.serialize_pem()).unwrap();
    let gateway = Running::start_with(|config| config.tls = Some(files)).await;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let client = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(client));
    let stream = gateway.connect().await.stream;
    let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
    let mut stream = connector.connect(name, stream).await.unwrap();
    stream
        .write_all(b"GET /health HTTP/1.1\r\nhost: t\r\nconnection: close\r\n\r\n")
        .await
        .unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    assert!(text.ends_with("{\"status\":\"ok\"}"), "{text}");
}

#[tokio::test]
async fn only_the_operator_moves_money() {
    let path = format!("/request/withdraw?proxy=0:{}", "03".repeat(32));
    // Whoever passes is told by this network that it holds no money.
    let told = |answer: &support::Answer| (answer.status, answer.code());
    let passed = (409, "money_refused".to_owned());
    let barred = (403, "operator_only".to_owned());

    let own = Running::start().await;
    assert_eq!(told(&own.post(&path, "").await), passed, "a program on this machine");
    let page = own.post_with(&path, "origin: http://localhost:3000\r\n", "").await;
    assert_eq!(told(&page), barred, "a web page may chat, not move money");
    assert_eq!(own.post("/request/withdraw", "").await.status, 400, "no proxy is named");
    let get = format!("GET {path} HTTP/1.1\r\nhost: test\r\n\r\n");
    assert_eq!(own.send_owned(get).await.status, 405);

    let word = Running::start_with(|config| config.http_access_hash = "sesame".into()).await;
    assert_eq!(told(&word.post(&path, "").await), barred);
    assert_eq!(told(&word.post(&format!("{path}&access_hash=sesam"), "").await), barred);
    assert_eq!(told(&word.post(&format!("{path}&access_hash=sesame"), "").await), passed);

    let proxied = Running::start_with(|config| config.behind_trusted_proxy = true).await;
    assert_eq!(told(&proxied.post(&path, "").await), barred, "everybody comes from there");

    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("keys.json");
    let limits = KeyLimits::default();
    let (secret, _) = KeyFile::open(&file).unwrap().create("somebody", limits, 1).unwrap();
    let shared = Running::start_with(|config| {
        config.require_keys = Some(true);
        config.keys_file = Some(file);
    })
    .await;
    let key = format!("authorization: Bearer {secret}\r\n");
    assert_eq!(told(&shared.post_with(&path, &key, "").await), barred, "a user is no operator");
}
