//! A proxy, its journal, and peers that say what the test wants.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use cocoon_contract::cell::Hash;
use cocoon_contract::pseudo::PseudoRoot;
use cocoon_contract::root::RootState;
use cocoon_ledger::{AccountId, Record};
use cocoon_role_proxy::{Act, ConnId, Identity, Now, Outbox, Proxy, Settings, Side};
use cocoon_units::{Address, ImageHash, Nanoton, RequestId};
use cocoon_wire::client::{self, VersionRange};
use cocoon_wire::proxy;
use cocoon_wire::tl::{self, Blob, Boxed, Extensions, Text};
use cocoon_wire::{http, worker};
use ed25519_dalek::SigningKey;
use sha2::{Digest as _, Sha256};

pub(crate) const PRICE: u64 = 2;

/// What a peer got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Got {
    Message(Bytes),
    Answer(i64, Bytes),
    Failed(i64, i32, String),
    Asked(i64, Bytes),
    Closed(String),
}

/// The proxy with a journal in memory.
pub(crate) struct Stage {
    pub(crate) proxy: Proxy,
    pub(crate) out: Outbox,
    pub(crate) now: Now,
    pub(crate) journal: Vec<Record>,
    /// Records handed out since the start.
    written: u64,
    /// Records on disk.
    pub(crate) durable: u64,
    /// Whether everything is on disk at once.
    pub(crate) flushes: bool,
    held: VecDeque<(u64, Act)>,
    inbox: BTreeMap<ConnId, VecDeque<Got>>,
    pub(crate) admin: Vec<(u64, Result<String, String>)>,
    pub(crate) orders: Vec<cocoon_role_proxy::ChainOrder>,
    pub(crate) notes: Vec<cocoon_role_proxy::Note>,
    /// The image of workers that come.
    pub(crate) image: Option<ImageHash>,
    next_conn: u64,
    next_query: i64,
}

pub(crate) fn root() -> RootState {
    pseudo_root(1, 3).root_state().expect("a sound root")
}

pub(crate) fn pseudo_root(params_version: u32, version: u32) -> PseudoRoot {
    PseudoRoot {
        proxy_hashes: BTreeSet::new(),
        worker_hashes: BTreeSet::from([Hash([9; 32])]),
        model_hashes: BTreeSet::new(),
        model_types: vec!["qwen".into()],
        registered_proxies: BTreeMap::new(),
        last_proxy_seqno: 0,
        version,
        params_version,
        price_per_token: Nanoton(PRICE),
        worker_fee_per_token: Nanoton(1),
        proxy_code_hex: String::new(),
        worker_code_hex: String::new(),
        client_code_hex: String::new(),
        owner: Address::new(0, [3; 32]),
    }
}

pub(crate) fn identity() -> Identity {
    Identity {
        owner: Address::new(0, [1; 32]),
        root: Address::new(0, [0; 32]),
        wallet: Address::new(0, [2; 32]),
        key: SigningKey::from_bytes(&[7; 32]),
        is_test: true,
        is_testnet: false,
    }
}

pub(crate) fn settings() -> Settings {
    Settings { check_hashes: false, ..Settings::default() }
}

impl Stage {
    pub(crate) fn new() -> Self {
        Self::with(settings())
    }

    pub(crate) fn with(settings: Settings) -> Self {
        Self::replay(settings, Vec::new())
    }

    pub(crate) fn replay(settings: Settings, history: Vec<Record>) -> Self {
        let now = Now { ms: 1_000, unix_us: 1_700_000_000_000_000 };
        // Every process draws its own seed.
        let mut seed = [5; 32];
        seed[..8].copy_from_slice(&history.len().to_le_bytes());
        let proxy =
            Proxy::open(identity(), settings, Arc::new(root()), history, seed).expect("opens");
        let journal = proxy.snapshot();
        let mut stage = Self {
            proxy,
            out: Outbox::new(),
            now,
            journal,
            written: 0,
            durable: 0,
            flushes: true,
            held: VecDeque::new(),
            inbox: BTreeMap::new(),
            admin: Vec::new(),
            orders: Vec::new(),
            notes: Vec::new(),
            image: None,
            next_conn: 1,
            next_query: 100,
        };
        stage.proxy.begin(stage.now, &mut stage.out);
        stage.perform();
        stage
    }

    /// Does what the outbox says, and checks the books.
    pub(crate) fn perform(&mut self) {
        loop {
            let records = self.out.records.len();
            self.journal.append(&mut self.out.records);
            self.written += records as u64;
            let written = self.written;
            for effect in std::mem::take(&mut self.out.effects) {
                if effect.after_durable && written > self.durable {
                    self.held.push_back((written, effect.act));
                } else {
                    self.act(effect.act);
                }
            }
            self.proxy.books().check().expect("books are sound");
            if !self.flushes || self.durable == written {
                return;
            }
            self.flush_now();
        }
    }

    fn flush_now(&mut self) {
        self.durable = self.written;
        self.proxy.durable(self.durable, self.now, &mut self.out);
        while self.held.front().is_some_and(|(at, _)| *at <= self.durable) {
            let (_, act) = self.held.pop_front().expect("looked at");
            self.act(act);
        }
    }

    /// Makes everything durable once.
    pub(crate) fn flush(&mut self) {
        self.flush_now();
        self.perform();
    }

    /// Records handed out since the start.
    pub(crate) fn written(&self) -> u64 {
        self.written
    }

    pub(crate) fn books(&self) -> &cocoon_ledger::Books {
        self.proxy.books()
    }

    pub(crate) fn held(&self) -> usize {
        self.held.len()
    }

    fn act(&mut self, act: Act) {
        let (conn, got) = match act {
            Act::Send { conn, data } => (conn, Got::Message(data)),
            Act::Answer { conn, query, data } => (conn, Got::Answer(query, data)),
            Act::AnswerError { conn, query, code, text } => (conn, Got::Failed(query, code, text)),
            Act::Ask { conn, query, data, .. } => (conn, Got::Asked(query, data)),
            Act::Close { conn, why } => (conn, Got::Closed(why)),
            Act::Chain(order) => return self.orders.push(order),
            Act::Note(note) => return self.notes.push(note),
            Act::Admin { command, result } => return self.admin.push((command, result)),
        };
        self.inbox.entry(conn).or_default().push_back(got);
    }

    pub(crate) fn open(&mut self, side: Side, image: Option<ImageHash>) -> ConnId {
        let conn = ConnId(self.next_conn);
        self.next_conn += 1;
        self.proxy.opened(conn, side, image, self.now, &mut self.out);
        self.perform();
        conn
    }

    /// The root lists these images and models for workers from now on.
    pub(crate) fn list(&mut self, images: &[u8], models: &[&str]) {
        let hash = |model: &&str| Hash(Sha256::digest(model).into());
        let root = PseudoRoot {
            worker_hashes: images.iter().map(|image| Hash([*image; 32])).collect(),
            model_hashes: models.iter().map(hash).collect(),
            ..pseudo_root(1, self.proxy.root().version + 1)
        };
        let root = Arc::new(root.root_state().expect("a sound root"));
        self.proxy.root_changed(root, self.now, &mut self.out).expect("followed");
        self.perform();
    }

    pub(crate) fn close(&mut self, conn: ConnId) {
        self.proxy.closed(conn, self.now, &mut self.out);
        self.perform();
    }

    pub(crate) fn send<'a, T: Boxed<'a>>(&mut self, conn: ConnId, object: &T) {
        self.send_raw(conn, tl::encode(object).into());
    }

    pub(crate) fn send_raw(&mut self, conn: ConnId, data: Bytes) {
        self.proxy.message(conn, &data, self.now, &mut self.out);
        self.perform();
    }

    pub(crate) fn ask<'a, T: Boxed<'a>>(&mut self, conn: ConnId, object: &T) -> i64 {
        self.ask_raw(conn, &tl::encode(object))
    }

    pub(crate) fn ask_raw(&mut self, conn: ConnId, data: &[u8]) -> i64 {
        self.next_query += 1;
        self.proxy.query(conn, self.next_query, data, self.now, &mut self.out);
        self.perform();
        self.next_query
    }

    pub(crate) fn wait(&mut self, ms: u64) {
        self.now.ms += ms;
        self.now.unix_us += ms * 1_000;
        self.proxy.tick(self.now, &mut self.out);
        self.perform();
    }

    /// The next thing a peer got.
    pub(crate) fn got(&mut self, conn: ConnId) -> Option<Got> {
        self.inbox.get_mut(&conn).and_then(VecDeque::pop_front)
    }

    /// The next message a peer got; panics when it is something else.
    pub(crate) fn message(&mut self, conn: ConnId) -> Bytes {
        match self.got(conn) {
            Some(Got::Message(data)) => data,
            other => panic!("{conn:?} got {other:?} instead of a message"),
        }
    }

    /// The answer to the last query; panics when it is something else.
    pub(crate) fn answer(&mut self, conn: ConnId) -> Bytes {
        match self.got(conn) {
            Some(Got::Answer(query, data)) if query == self.next_query => data,
            other => panic!("{conn:?} got {other:?} instead of an answer"),
        }
    }

    pub(crate) fn all(&mut self, conn: ConnId) -> Vec<Got> {
        self.inbox.remove(&conn).map(Vec::from).unwrap_or_default()
    }

    /// A client that went through the whole handshake.
    pub(crate) fn client(&mut self, owner: u8, version: i32) -> ConnId {
        self.client_with(owner, version, Extensions::NONE)
    }

    pub(crate) fn client_with(
        &mut self,
        owner: u8,
        version: i32,
        extensions: Extensions,
    ) -> ConnId {
        let conn = self.open(Side::Clients, None);
        let address = owner_text(owner);
        self.ask(conn, &client_hello(&address, version, extensions));
        self.answer(conn);
        self.ask(conn, &client::AuthorizeWithProxyShort { data: Blob(b"") });
        self.answer(conn);
        conn
    }

    /// A worker that went through the whole handshake.
    pub(crate) fn worker(&mut self, owner: u8, version: i32, slots: i32) -> ConnId {
        self.worker_with(owner, version, slots, 1_000, Extensions::NONE)
    }

    pub(crate) fn worker_with(
        &mut self,
        owner: u8,
        version: i32,
        slots: i32,
        coefficient: i32,
        extensions: Extensions,
    ) -> ConnId {
        let conn = self.open(Side::Workers, self.image);
        let address = owner_text(owner);
        let mut hello = worker_hello(&address, version);
        hello.params.coefficient = coefficient;
        hello.params.extensions = extensions;
        hello.params.load =
            Some(worker::Load { is_test: true, proxy_cnt: 1, max_active_requests: slots });
        self.ask(conn, &hello);
        self.answer(conn);
        let known = self.proxy.books().worker(account(owner)).map(|w| *w.counters());
        let known = known.unwrap_or_default();
        self.ask(
            conn,
            &worker::CompareBalanceWithProxy {
                tokens_committed_to_blockchain: known.committed().to_wire(),
                tokens_committed_to_db: known.durable().to_wire(),
                max_tokens: known.max().to_wire(),
            },
        );
        self.answer(conn);
        self.ask(conn, &worker::ProxyHandshakeComplete { is_disabled: false });
        self.answer(conn);
        conn
    }

    /// What the worker was asked to run; panics when it got something else.
    pub(crate) fn run_query(&mut self, conn: ConnId) -> RequestId {
        let data = self.message(conn);
        match proxy::ToWorker::decode(&data).expect("a message") {
            proxy::ToWorker::RunQueryEx(run) => run.request_id,
            proxy::ToWorker::RunQuery(run) => run.request_id,
            other => panic!("worker got {other:?}"),
        }
    }

    /// The worker answers completely: head, one part, final part.
    pub(crate) fn serve(&mut self, conn: ConnId, id: RequestId, tokens: i64) {
        self.send(conn, &head(id));
        self.send(conn, &part(id, b"hello"));
        self.send(conn, &last(id, tokens));
    }
}

pub(crate) fn account(owner: u8) -> AccountId {
    AccountId([owner; 32])
}

pub(crate) fn owner_text(owner: u8) -> String {
    Address::new(0, [owner; 32]).to_string()
}

pub(crate) fn client_hello(
    owner: &str,
    version: i32,
    extensions: Extensions,
) -> client::ConnectToProxy<'_> {
    client::ConnectToProxy {
        params: client::Params {
            extensions,
            client_owner_address: Text::from(owner),
            is_test: Some(true),
            versions: (version > 0).then_some(VersionRange { min: 0, max: version }),
        },
        min_config_version: 3,
    }
}

pub(crate) fn worker_hello(owner: &str, version: i32) -> worker::ConnectToProxy<'_> {
    worker::ConnectToProxy {
        params: worker::Params {
            extensions: Extensions::NONE,
            worker_owner_address: Text::from(owner),
            model: Text::from("qwen@abc:00"),
            coefficient: 1_000,
            load: Some(worker::Load { is_test: true, proxy_cnt: 1, max_active_requests: 4 }),
            versions: (version > 0).then_some(VersionRange { min: 0, max: version }),
            machine_description_json: None,
        },
    }
}

pub(crate) fn request(id: u8) -> client::RunQueryEx<'static> {
    client::RunQueryEx {
        model_name: Text::from("qwen"),
        query: Blob(b"query bytes"),
        max_coefficient: 4_000,
        max_tokens: 100,
        timeout: 114.0,
        request_id: RequestId([id; 32]),
        min_config_version: 3,
        extensions: Extensions::NONE,
        enable_debug: Some(false),
        public_key: None,
    }
}

pub(crate) fn response() -> http::Response<'static> {
    http::Response {
        http_version: Text::from("HTTP/1.1"),
        status_code: 200,
        reason: Text::from(""),
        headers: vec![http::Header { name: Text::from("server"), value: Blob(b"mock") }],
        payload: Blob(b""),
    }
}

pub(crate) fn head(id: RequestId) -> proxy::QueryAnswerEx<'static> {
    let answer = Box::leak(tl::encode(&response()).into_boxed_slice());
    proxy::QueryAnswerEx {
        request_id: id,
        answer: Blob(answer),
        extensions: Extensions::NONE,
        final_info: None,
    }
}

pub(crate) fn part(id: RequestId, data: &[u8]) -> proxy::QueryAnswerPartEx<'_> {
    proxy::QueryAnswerPartEx {
        request_id: id,
        answer: Blob(data),
        extensions: Extensions::NONE,
        final_info: None,
    }
}

pub(crate) fn used(tokens: i64) -> client::TokensUsed {
    client::TokensUsed {
        completion_tokens_used: tokens,
        total_tokens_used: tokens,
        ..client::TokensUsed::default()
    }
}

pub(crate) fn last(id: RequestId, tokens: i64) -> proxy::QueryAnswerPartEx<'static> {
    proxy::QueryAnswerPartEx {
        request_id: id,
        answer: Blob(b""),
        extensions: Extensions::NONE,
        final_info: Some(proxy::QueryFinalInfo {
            extensions: Extensions::NONE,
            tokens_used: used(tokens),
            worker_debug: None,
            times: Some(proxy::Times { worker_start: 1.5, worker_end: 2.5 }),
        }),
    }
}

pub(crate) fn failed(id: RequestId, code: i32, text: &str) -> proxy::QueryAnswerErrorEx<'_> {
    proxy::QueryAnswerErrorEx {
        request_id: id,
        error_code: code,
        error: Text::from(text),
        extensions: Extensions::NONE,
        final_info: None,
    }
}
