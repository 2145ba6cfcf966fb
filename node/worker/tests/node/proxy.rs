//! A scripted proxy over `cocoon_link`.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cocoon_contract::address::{self, ProxyIdentity};
use cocoon_host::network;
use cocoon_link::{ConnId, Event, LinkEvent, LinkHandle};
use cocoon_units::{Address, PublicKey, RequestId};
use cocoon_wire::proxy::{self, RunQueryEx, SignedPayment, WorkerRequestPayment};
use cocoon_wire::tl::{self, Blob, Extensions, SecretKey, Text};
use cocoon_wire::worker::{self, Message, Query};
use cocoon_wire::{client, cocoon, http};
use serde_json::Value;
use tokio::sync::{Mutex, mpsc};

use crate::site::Site;

pub(crate) struct Proxy {
    pub(crate) link: LinkHandle,
    conn: ConnId,
    events: Arc<Mutex<mpsc::Receiver<LinkEvent>>>,
    /// Messages that came while something else was waited for.
    kept: VecDeque<Bytes>,
    texts: [String; 3],
    key: PublicKey,
    /// Totals that are told in the handshake, and those that the worker claimed there.
    pub(crate) known: (i64, i64),
    pub(crate) claim: (i64, i64),
    pub(crate) model: String,
    disabled: bool,
}

/// What came of a query.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    pub(crate) status: i32,
    pub(crate) body: Vec<u8>,
    pub(crate) total: i64,
    pub(crate) code: Option<i32>,
    pub(crate) error: String,
}

/// Bytes that differ enough for a test.
pub(crate) fn random(out: &mut [u8]) {
    for (byte, at) in out.iter_mut().zip(1u8..) {
        *byte = at.wrapping_mul(77);
    }
}

async fn opened(events: &Mutex<mpsc::Receiver<LinkEvent>>) -> (ConnId, LinkHandle) {
    loop {
        let event = events.lock().await.recv().await.expect("an event");
        if let Event::Opened(opened) = event.event {
            return (event.conn, opened.link);
        }
    }
}

impl Proxy {
    /// With a worker that has met it and takes queries.
    pub(crate) async fn ready(site: &Site) -> Self {
        let (conn, link) = opened(&site.events).await;
        let network = network::load_pseudo(&site.config.network_file).unwrap().network;
        let root = Address::new(0, [0; 32]);
        let owner = Address::new(0, [1; 32]);
        let key = PublicKey([7; 32]);
        let identity = ProxyIdentity { owner, public_key: key, root };
        let contract = address::proxy(&identity, &network).unwrap();
        let worker = address::worker(Address::new(0, [30; 32]), contract, key, &network).unwrap();
        let mut proxy = Self {
            link,
            conn,
            events: site.events.clone(),
            kept: VecDeque::new(),
            texts: [owner, contract, worker].map(|address| address.to_string()),
            key,
            known: (0, 0),
            claim: (0, 0),
            model: String::new(),
            disabled: true,
        };
        proxy.handshake().await;
        proxy.told_disabled(false).await;
        proxy
    }

    /// Meets the worker on a new connection.
    pub(crate) async fn accept(&mut self) {
        (self.conn, self.link) = opened(&self.events).await;
        self.handshake().await;
    }

    async fn event(&self) -> Event {
        loop {
            let event = self.events.lock().await.recv().await.expect("an event");
            if event.conn == self.conn {
                return event.event;
            }
        }
    }

    async fn handshake(&mut self) {
        loop {
            let Event::Query { id, data } = self.event().await else { panic!("no query") };
            let answer = match Query::decode(&data.0).unwrap() {
                Query::ConnectToProxy(hello) => {
                    self.model = hello.params.model.to_string();
                    let [owner, contract, worker] = &self.texts;
                    tl::encode(&worker::ConnectedToProxy {
                        params: proxy::Params {
                            extensions: cocoon::ANNOUNCED,
                            proxy_public_key: self.key,
                            proxy_owner_address: Text::from(owner.as_str()),
                            proxy_sc_address: Text::from(contract.as_str()),
                            is_test: Some(true),
                            proto_version: Some(4),
                        },
                        worker_sc_address: Text::from(worker.as_str()),
                    })
                }
                Query::CompareBalanceWithProxy(claim) => {
                    self.claim = (claim.tokens_committed_to_db, claim.max_tokens);
                    tl::encode(&worker::CompareBalanceWithProxyResult {
                        tokens_committed_to_db: self.known.0,
                        max_tokens: self.known.1,
                        ..Default::default()
                    })
                }
                Query::ProxyHandshakeComplete(done) => {
                    self.disabled = done.is_disabled;
                    let data = tl::encode(&worker::ProxyHandshakeCompleted {});
                    self.link.answer(id, data).unwrap();
                    return;
                }
                other => panic!("{other:?}"),
            };
            self.link.answer(id, answer).unwrap();
        }
    }

    /// Waits until the worker has said whether it takes queries.
    pub(crate) async fn told_disabled(&mut self, disabled: bool) {
        while self.disabled != disabled {
            let data = self.message().await;
            match Message::decode(&data).unwrap() {
                Message::EnabledDisabled(told) => self.disabled = told.disabled != 0,
                _ => self.kept.push_back(data),
            }
        }
    }

    async fn message(&mut self) -> Bytes {
        match self.event().await {
            Event::Message(data) => data.0,
            other => panic!("{other:?} instead of a message"),
        }
    }

    pub(crate) fn run(&self, id: RequestId, body: &Value, private_key: Option<SecretKey>) {
        let body = body.to_string();
        let query = tl::encode(&http::Request {
            method: "POST".into(),
            url: "/v1/chat/completions".into(),
            http_version: "HTTP/1.0".into(),
            headers: Vec::new(),
            payload: Blob(body.as_bytes()),
        });
        let run = RunQueryEx {
            query: Blob(&query),
            signed_payment: SignedPayment::Empty,
            coefficient: 1_000,
            timeout: 60.0,
            request_id: id,
            extensions: Extensions::NONE,
            enable_debug: Some(false),
            private_key,
        };
        self.link.message_object(&run).unwrap();
    }

    pub(crate) fn pay(&self, durable: i64, max: i64) {
        let paid = WorkerRequestPayment {
            db_tokens: durable,
            max_tokens: max,
            ..WorkerRequestPayment::default()
        };
        self.link.message_object(&paid).unwrap();
    }

    /// Waits for the first part of an answer; everything stays to be read by `answer`.
    pub(crate) async fn part(&mut self, id: RequestId) {
        loop {
            let data = self.message().await;
            let message = Message::decode(&data).unwrap();
            let is_part = matches!(&message, Message::QueryAnswerPartEx(m) if m.request_id == id);
            self.kept.push_back(data.clone());
            if is_part {
                return;
            }
        }
    }

    /// Waits for the end of an answer.
    pub(crate) async fn answer(&mut self, id: RequestId) -> Answer {
        let mut answer = Answer::default();
        let mut kept = std::mem::take(&mut self.kept);
        loop {
            let data = match kept.pop_front() {
                Some(data) => data,
                None => self.message().await,
            };
            let total = |info: proxy::QueryFinalInfo<'_>| {
                let client::TokensUsed { total_tokens_used, .. } = info.tokens_used;
                total_tokens_used
            };
            match Message::decode(&data).unwrap() {
                Message::QueryAnswerEx(m) if m.request_id == id => {
                    let head: http::Response<'_> = tl::decode(m.answer.0).unwrap();
                    answer.status = head.status_code;
                }
                Message::QueryAnswerPartEx(m) if m.request_id == id => {
                    answer.body.extend_from_slice(m.answer.0);
                    if let Some(info) = m.final_info {
                        answer.total = total(info);
                        break;
                    }
                }
                Message::QueryAnswerErrorEx(m) if m.request_id == id => {
                    answer.total = total(m.final_info.unwrap());
                    (answer.code, answer.error) = (Some(m.error_code), m.error.to_string());
                    break;
                }
                Message::EnabledDisabled(told) => self.disabled = told.disabled != 0,
                _ => self.kept.push_back(data),
            }
        }
        self.kept.extend(kept);
        answer
    }

    /// Asks the worker something.
    pub(crate) async fn ask(&mut self, function: Vec<u8>) -> Result<Bytes, (i32, String)> {
        self.link.query(9, function, Duration::from_secs(30)).unwrap();
        loop {
            match self.event().await {
                Event::Answer { data, .. } => return Ok(data.0),
                Event::QueryFailed { code, message, .. } => return Err((code, message)),
                Event::Message(data) => self.kept.push_back(data.0),
                other => panic!("{other:?} instead of an answer"),
            }
        }
    }
}
