//! Keys go over connections with fresh evidence alone: what somebody tries who holds the key and the
//! certificate of a node that the registry lists, and who stands in the place of the key manager.

use cocoon_link::{
    Dialer, Event, LinkEvent, LinkHandle, LinkSettings, Links, Listener, PortLimits, Route, Tag,
};
use cocoon_wire::cocoon::{self, ATTESTED_CHANNEL, Introduce, Introduced};
use cocoon_wire::key_manager::{GetProxyPrivateKeys, Query};
use tokio::sync::mpsc;

use super::*;

/// One end of a connection, by hand.
struct End {
    links: Links,
    events: mpsc::Receiver<LinkEvent>,
    /// A connection ends with its last handle.
    kept: Vec<LinkHandle>,
}

impl End {
    fn new() -> Self {
        let (sender, events) = mpsc::channel(64);
        Self { links: Links::new(LinkSettings::default(), sender), events, kept: Vec::new() }
    }

    async fn next(&mut self) -> Event {
        let event = self.events.recv().await.unwrap().event;
        if let Event::Opened(opened) = &event {
            self.kept.push(opened.link.clone());
        }
        event
    }

    /// Sends these queries at once; what comes until the end, and why it ended.
    async fn try_all(&mut self, route: Route, at: SocketAddr, say: &[Vec<u8>]) -> Vec<Event> {
        let _ = Dialer::new(&self.links, route).dial(at, Tag(2));
        assert!(matches!(self.next().await, Event::Opened(_)));
        for (query, id) in say.iter().zip(1..) {
            self.kept[0].query(id, query.clone(), DEADLINE).unwrap();
        }
        let mut came = Vec::new();
        loop {
            came.push(self.next().await);
            if matches!(came.last(), Some(Event::Closed(_))) {
                return came;
            }
        }
    }
}

fn ask() -> Vec<u8> {
    tl::encode(&GetProxyPrivateKeys { proto_version: 0 })
}

fn introduce(role: Role, able: bool) -> Vec<u8> {
    let mut data = tl::encode(&Introduce::as_role(role));
    if able {
        cocoon::announce(&mut data, ATTESTED_CHANNEL);
    }
    data
}

/// No answer held keys.
fn no_keys(came: &[Event]) -> bool {
    let keys = |event: &Event| matches!(event, Event::Answer { data, .. } if tl::decode::<PrivateKeys>(data).is_ok());
    !came.iter().any(keys)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_alone_gets_no_keys() {
    within(async {
        let site = Site::new();
        let (running, stop) = site.start().await;
        // Somebody who took a proxy's key and certificate out of its machine, and has no TEE.
        let stolen = || {
            let shown = evidence(site.dir.path(), "proxy", 1);
            let presence = Presence::start(&keys::fresh(), &shown, &stop).unwrap();
            presence.route(&Transport::Direct, 8)
        };
        for say in [
            // As nodes of the reference ask.
            vec![ask()],
            vec![introduce(Role::Proxy, false), ask()],
            // As if evidence followed.
            vec![introduce(Role::Proxy, true), ask()],
            vec![introduce(Role::Proxy, true), introduce(Role::Proxy, false), ask()],
        ] {
            let came = End::new().try_all(stolen(), running.address, &say).await;
            assert!(no_keys(&came), "{came:?}");
        }
        // A machine with evidence that says it is something else than it introduces itself as.
        let route = site.node("proxy", Role::Proxy, &stop).route(&Transport::Direct, 8);
        let say = [introduce(Role::Worker, true)];
        let came = End::new().try_all(route, running.address, &say).await;
        assert!(no_keys(&came), "{came:?}");
        assert_eq!(lines(&site, "handed"), 0);
        // The same machine, honest.
        let at = KeyManagerAt { address: running.address, image_hash: site.image("key manager") };
        let mut proxy = site.ask("proxy", Role::Proxy, &at, &stop);
        assert_eq!(proxy.changed().await.len(), 1);
        assert_eq!(lines(&site, "\"fresh\":true"), 1);
        end(running, &stop).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_manager_without_fresh_evidence_is_asked_for_nothing() {
    within(async {
        let site = Site::new();
        let stop = Stop::new();
        // Somebody with its key and certificate.
        let shown = evidence(site.dir.path(), "key manager", 7);
        let presence = Presence::start(&keys::fresh(), &shown, &stop).unwrap();
        for (knows_introductions, asks_first) in [(true, false), (false, false), (true, true)] {
            let mut false_ = End::new();
            let entry = presence.entry(&Transport::Direct, 4, Admit::Attested);
            let limits = PortLimits::local();
            let port =
                Listener::bind(&false_.links, ANY_PORT, entry, limits, Tag(1)).await.unwrap();
            let at =
                KeyManagerAt { address: port.address(), image_hash: site.image("key manager") };
            let _asking = site.ask("proxy", Role::Proxy, &at, &stop);
            loop {
                match false_.next().await {
                    Event::Query { id, data } => {
                        let query = Query::decode(&data).unwrap();
                        assert!(matches!(query, Query::Introduce(_)), "{query:?}");
                        let link = false_.kept.last().unwrap();
                        match knows_introductions {
                            true => link.answer(id, tl::encode(&Introduced::default())),
                            false => link.answer_error(id, 601, "unknown query magic".to_owned()),
                        }
                        .unwrap();
                    }
                    // As if it were the one that dialled.
                    Event::Opened(opened) if asks_first => {
                        opened.link.query(7, introduce(Role::Proxy, true), DEADLINE).unwrap();
                    }
                    Event::Closed(_) => break,
                    _ => {}
                }
            }
        }
        stop.now();
    })
    .await;
}
