//! A proxy over real sockets that answers handshakes when the test says so.

use std::net::SocketAddr;

use cocoon_contract::address::{self, Network, ProxyIdentity};
use cocoon_contract::state::ClientConst;
use cocoon_link::{
    ConnId, Entry, Event, LinkEvent, LinkHandle, LinkSettings, Links, Listener, PortLimits, Tag,
};
use cocoon_units::Address;
use cocoon_wire::client::{self, ProxyConnectionAuth, ProxyConnectionAuthLong, Query};
use cocoon_wire::proxy;
use cocoon_wire::tl::{self, Extensions, Text};
use tokio::sync::mpsc;

pub(crate) struct Proxy {
    events: mpsc::Receiver<LinkEvent>,
    pub(crate) address: SocketAddr,
    _port: Listener,
    _links: Links,
}

/// A client that waits for the proxy's word on its long authorisation.
pub(crate) struct Waiting {
    link: LinkHandle,
    query: i64,
    conn: ConnId,
}

impl Proxy {
    pub(crate) async fn new() -> Self {
        Self::behind(Entry::Plain).await
    }

    pub(crate) async fn behind(entry: Entry) -> Self {
        let (sender, events) = mpsc::channel(4_096);
        let links = Links::new(LinkSettings::default(), sender);
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let limits = PortLimits::local();
        let port = Listener::bind(&links, any, entry, limits, Tag(1)).await.unwrap();
        let address = port.address();
        Self { events, address, _port: port, _links: links }
    }

    /// Meets a client and asks for a sign of its wallet. Other connections are let go.
    pub(crate) async fn meet(
        &mut self,
        identity: &ProxyIdentity,
        network: &Network,
        wallet: Address,
        nonce: i64,
    ) -> Waiting {
        let contract = address::proxy(identity, network).unwrap();
        let constants =
            ClientConst { owner: wallet, proxy: contract, public_key: identity.public_key };
        let own = address::client(&constants, network).unwrap();
        let [owner, contract, own] = [identity.owner, contract, own].map(|a| a.to_string());
        let mut links = std::collections::HashMap::new();
        loop {
            let LinkEvent { conn, event } = self.events.recv().await.expect("an event");
            match event {
                Event::Opened(opened) => {
                    links.insert(conn, opened.link);
                }
                Event::Query { id, data } => {
                    let Some(link) = links.get(&conn).cloned() else { continue };
                    if !matches!(Query::decode(&data.0).unwrap(), Query::ConnectToProxy(_)) {
                        return Waiting { link, query: id, conn };
                    }
                    let answer = tl::encode(&client::ConnectedToProxy {
                        params: proxy::Params {
                            extensions: Extensions::NONE,
                            proxy_public_key: identity.public_key,
                            proxy_owner_address: Text::from(owner.as_str()),
                            proxy_sc_address: Text::from(contract.as_str()),
                            is_test: Some(true),
                            proto_version: Some(4),
                        },
                        client_sc_address: Text::from(own.as_str()),
                        auth: ProxyConnectionAuth::Long(ProxyConnectionAuthLong { nonce }),
                        signed_payment: proxy::SignedPayment::Empty,
                    });
                    link.answer(id, answer).unwrap();
                }
                _ => {}
            }
        }
    }

    /// Lets a client in, and answers nothing else it asks until it is gone.
    pub(crate) async fn let_in(&mut self, waiting: &Waiting, max: i64) {
        let success = client::AuthorizationWithProxySuccess {
            signed_payment: proxy::SignedPayment::Empty,
            tokens_committed_to_db: max,
            max_tokens: max,
        };
        waiting.link.answer(waiting.query, tl::encode(&success)).unwrap();
    }

    /// Waits until a client has sent a request.
    pub(crate) async fn asked(&mut self, waiting: &Waiting) {
        self.until(waiting, |event| matches!(event, Event::Message(_))).await;
    }

    /// Waits until a client has left.
    pub(crate) async fn gone(&mut self, waiting: &Waiting) {
        self.until(waiting, |event| matches!(event, Event::Closed(_))).await;
    }

    async fn until(&mut self, waiting: &Waiting, is_it: impl Fn(&Event) -> bool) {
        loop {
            let LinkEvent { conn, event } = self.events.recv().await.expect("an event");
            if conn == waiting.conn && is_it(&event) {
                return;
            }
        }
    }
}
