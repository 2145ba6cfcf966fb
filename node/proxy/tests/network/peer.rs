//! Scripted peers over `cocoon_link`.

use std::time::Duration;

use bytes::Bytes;
use cocoon_link::{Dialer, Event, LinkEvent, LinkHandle, LinkSettings, Links, Tag};
use cocoon_units::{Address, RequestId};
use cocoon_wire::client::{self, TokensUsed, VersionRange};
use cocoon_wire::tl::{self, Blob, Boxed, Extensions, Text};
use cocoon_wire::{http, proxy, worker};
use tokio::sync::mpsc;

use crate::site::{Node, Site};

/// Tokens of every answer.
pub(crate) const TOKENS: u64 = 44;
/// Messages of every answer: head, three parts, the last one.
pub(crate) const MESSAGES: usize = 5;

/// One end of one connection.
pub(crate) struct Peer {
    pub(crate) link: LinkHandle,
    events: mpsc::Receiver<LinkEvent>,
    queries: i64,
    // The connection lives as long as its links.
    _links: Links,
}

impl Peer {
    async fn dial(site: &Site, target: std::net::SocketAddr) -> Self {
        let (events_in, mut events) = mpsc::channel(1_024);
        let links = Links::new(LinkSettings::default(), events_in);
        let dialer = Dialer::new(&links, site.route());
        let _conn = dialer.dial(target, Tag(9));
        loop {
            match events.recv().await.expect("an event").event {
                Event::Opened(opened) => {
                    return Self { link: opened.link, events, queries: 0, _links: links };
                }
                Event::DialFailed { fault, .. } => panic!("{fault}"),
                _ => {}
            }
        }
    }

    /// Asks and waits for the answer; `None` when it is refused.
    async fn ask<'a, T: Boxed<'a>>(&mut self, function: &T) -> Option<Bytes> {
        self.queries += 1;
        let timeout = Duration::from_secs(30);
        // It may have been let go meanwhile.
        self.link.query_object(self.queries, function, timeout).ok()?;
        loop {
            match self.events.recv().await.expect("an event").event {
                Event::Answer { data, .. } => return Some(data.0),
                Event::QueryFailed { .. } | Event::Closed(_) => return None,
                Event::Attested(_) => {}
                other => panic!("{other:?} instead of an answer"),
            }
        }
    }

    /// Waits until the proxy has closed the connection.
    #[allow(dead_code, reason = "of use on a chain, whose registry changes")]
    pub(crate) async fn closed(&mut self) {
        while !matches!(self.events.recv().await.expect("an event").event, Event::Closed(_)) {}
    }

    /// The next message.
    pub(crate) async fn message(&mut self) -> Bytes {
        match self.events.recv().await.expect("an event").event {
            Event::Message(data) => data.0,
            other => panic!("{other:?} instead of a message"),
        }
    }
}

/// A client that may send requests.
pub(crate) async fn client(node: &Node, site: &Site) -> Peer {
    client_of(node, site, Address::new(0, [20; 32]), b"").await.expect("admitted")
}

/// The client whose wallet is `owner`, with its secret; `None` when the proxy does not know it by
/// its secret.
pub(crate) async fn client_of(
    node: &Node,
    site: &Site,
    owner: Address,
    secret: &'static [u8],
) -> Option<Peer> {
    let mut peer = Peer::dial(site, node.clients()).await;
    let owner = owner.to_string();
    peer.ask(&client::ConnectToProxy {
        params: client::Params {
            extensions: Extensions::NONE,
            client_owner_address: Text::from(owner.as_str()),
            is_test: Some(true),
            versions: Some(VersionRange { min: 1, max: 4 }),
        },
        min_config_version: site.version,
    })
    .await?;
    let data = peer.ask(&client::AuthorizeWithProxyShort { data: Blob(secret) }).await?;
    let result: client::AuthorizationWithProxy<'_> = tl::decode(&data).expect("a result");
    matches!(result, client::AuthorizationWithProxy::Success(_)).then_some(peer)
}

/// A worker that gets requests; `known` is the total that it remembers.
pub(crate) async fn worker(node: &Node, site: &Site, known: i64) -> Peer {
    worker_if_admitted(node, site, known).await.expect("admitted")
}

/// A worker that gets requests; `None` when the proxy does not want it.
pub(crate) async fn worker_if_admitted(node: &Node, site: &Site, known: i64) -> Option<Peer> {
    let mut peer = Peer::dial(site, node.workers()).await;
    let owner = Address::new(0, [30; 32]).to_string();
    peer.ask(&worker::ConnectToProxy {
        params: worker::Params {
            extensions: Extensions::NONE,
            worker_owner_address: Text::from(owner.as_str()),
            model: Text::from("qwen@abc:00"),
            coefficient: 1_000,
            load: Some(worker::Load { is_test: true, proxy_cnt: 1, max_active_requests: 16 }),
            versions: Some(VersionRange { min: 3, max: 4 }),
            machine_description_json: None,
        },
    })
    .await?;
    let data = peer
        .ask(&worker::CompareBalanceWithProxy {
            tokens_committed_to_blockchain: 0,
            tokens_committed_to_db: known,
            max_tokens: known,
        })
        .await?;
    let result: worker::CompareBalanceWithProxyResult<'_> = tl::decode(&data).expect("a result");
    assert_eq!((result.error_code, result.max_tokens), (0, known));
    peer.ask(&worker::ProxyHandshakeComplete { is_disabled: false }).await?;
    Some(peer)
}

/// The messages of one answer.
pub(crate) fn answer(id: RequestId) -> Vec<Vec<u8>> {
    let head = tl::encode(&http::Response {
        http_version: Text::from("HTTP/1.1"),
        status_code: 200,
        reason: Text::from(""),
        headers: Vec::new(),
        payload: Blob(b""),
    });
    let part = |data: &'static [u8], info| proxy::QueryAnswerPartEx {
        request_id: id,
        answer: Blob(data),
        extensions: Extensions::NONE,
        final_info: info,
    };
    let total = i64::try_from(TOKENS).expect("small");
    let info = proxy::QueryFinalInfo {
        extensions: Extensions::NONE,
        tokens_used: TokensUsed {
            completion_tokens_used: total,
            total_tokens_used: total,
            ..TokensUsed::default()
        },
        worker_debug: None,
        times: Some(proxy::Times { worker_start: 1.0, worker_end: 2.0 }),
    };
    let mut messages = vec![tl::encode(&proxy::QueryAnswerEx {
        request_id: id,
        answer: Blob(&head),
        extensions: Extensions::NONE,
        final_info: None,
    })];
    messages.extend((0..3).map(|_| tl::encode(&part(b"data: {\"delta\":1}\n\n", None))));
    messages.push(tl::encode(&part(b"", Some(info))));
    messages
}
