//! A proxy that gives a request to another worker than the one whose report it passed on.
//!
//! It stands between the gateway and a real proxy, on a machine whose evidence is in order: somebody
//! has cracked it. It reads everything, since clients' connections end at proxies, and changes what
//! it likes.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use cocoon_host::evidence::EvidenceConfig;
use cocoon_host::peers::{Admit, Presence, Transport};
use cocoon_host::{ChannelRole, Stop, Subject};
use cocoon_link::{
    ConnId, Dialer, Event, LinkEvent, LinkHandle, LinkSettings, Links, Listener, Opaque,
    PortLimits, Route, Tag,
};
use cocoon_units::Secret;
use cocoon_wire::client::RunQueryEx;
use cocoon_wire::cocoon::{GetEndorsedReport, GetReport, OnlyWorkers, Receipt, Worker, Workers};
use cocoon_wire::tl::{decode, encode};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::site::{ANSWER, MODEL, Machine, OTHER_MODEL, PROXY_IMAGE, Pair, Site, address};
use crate::{CHAT, verify_until};

/// Time for a query that is passed on.
const QUERY_WAIT: Duration = Duration::from_secs(60);
/// Demanded of the worker that answers.
const GPU: &str = "x-cocoon-verdicts: worker.gpu\r\n";

/// What it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lie {
    /// Nothing, so that the tests are about the lies.
    None,
    /// Names another worker to the proxy than the client named.
    OtherWorker,
    /// Shows the report of the good worker for all, and gives the request to another one.
    OtherReport,
    /// Does the same and keeps the receipt, which would tell.
    KeptReceipt,
    /// Says that a worker of another model, which the registry lists too, serves the one asked for,
    /// and gives it the request.
    OtherModel,
}

/// One way through: the client's connection and ours to the proxy.
struct Way {
    client: LinkHandle,
    proxy: LinkHandle,
}

struct Liar {
    lie: Lie,
    ways: Vec<Way>,
    /// Workers that the proxy lists; the first one is the good one.
    listed: Vec<i64>,
    good: Option<i64>,
}

impl Liar {
    /// Starts it; gives the address for clients.
    async fn start(site: &Site, lie: Lie, stop: &Stop) -> (SocketAddr, JoinHandle<()>) {
        let presence = |seed: u8, evidence: &EvidenceConfig, role| {
            let presence = Presence::start(&Secret::new([seed; 32]), evidence, stop).unwrap();
            presence.speaking_for(Subject::new(role, false, address(9), [1; 32])).unwrap()
        };
        let machine = site.evidence(PROXY_IMAGE, 99, Machine::default());
        let entry =
            presence(81, &machine, ChannelRole::Proxy).entry(&Transport::Direct, 4, Admit::Anybody);
        let client = presence(82, &EvidenceConfig::None, ChannelRole::Client);
        let route = client.route(&Transport::Direct, 28);
        let (front_in, front) = mpsc::channel(1_024);
        let (back_in, back) = mpsc::channel(1_024);
        let settings = LinkSettings::default;
        let (front_links, back_links) =
            (Links::new(settings(), front_in), Links::new(settings(), back_in));
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let limits = PortLimits::local();
        let port = Listener::bind(&front_links, any, entry, limits, Tag(1)).await.unwrap();
        let at = port.address();
        let liar = Self { lie, ways: Vec::new(), listed: Vec::new(), good: None };
        let (proxy, stop) = (site.for_clients, stop.clone());
        let run = tokio::spawn(async move {
            tokio::select! {
                () = stop.asked() => {}
                () = liar.run(front, back, &back_links, route, proxy) => {}
            }
            drop((port, front_links, back_links));
        });
        (at, run)
    }

    async fn run(
        mut self,
        mut front: mpsc::Receiver<LinkEvent>,
        mut back: mpsc::Receiver<LinkEvent>,
        links: &Links,
        route: Route,
        proxy: SocketAddr,
    ) {
        let dialer = Dialer::new(links, route);
        let mut front_of = HashMap::<ConnId, usize>::new();
        let mut back_of = HashMap::<ConnId, usize>::new();
        loop {
            tokio::select! {
                Some(LinkEvent { conn, event }) = front.recv() => match event {
                    Event::Opened(opened) => {
                        let _ = dialer.dial(proxy, Tag(2));
                        let to_proxy = loop {
                            let Some(came) = back.recv().await else { return };
                            if let Event::Opened(opened) = came.event {
                                back_of.insert(came.conn, self.ways.len());
                                break opened.link;
                            }
                        };
                        front_of.insert(conn, self.ways.len());
                        self.ways.push(Way { client: opened.link, proxy: to_proxy });
                    }
                    event => {
                        let Some(&way) = front_of.get(&conn) else { continue };
                        let event = self.client_says(event);
                        pass(&self.ways[way].proxy, event);
                    }
                },
                Some(LinkEvent { conn, event }) = back.recv() => {
                    let Some(&way) = back_of.get(&conn) else { continue };
                    if let Some(event) = self.proxy_says(event) {
                        pass(&self.ways[way].client, event);
                    }
                }
                else => return,
            }
        }
    }

    fn client_says(&self, event: Event) -> Event {
        match event {
            Event::Message(data) if self.lie == Lie::OtherModel => {
                let Ok(query) = decode::<RunQueryEx<'_>>(&data) else {
                    return Event::Message(data);
                };
                let base = OTHER_MODEL.split('@').next().unwrap();
                let query = RunQueryEx { model_name: base.into(), ..query };
                Event::Message(Opaque(encode(&query).into()))
            }
            Event::Message(data) if self.lie != Lie::None => {
                let Ok(only) = decode::<OnlyWorkers>(&data) else { return Event::Message(data) };
                let good = self.good;
                let workers = self.listed.iter().copied().filter(|name| Some(*name) != good);
                let only = OnlyWorkers { workers: workers.collect(), ..only };
                Event::Message(Opaque(encode(&only).into()))
            }
            Event::Query { id, data }
                if matches!(self.lie, Lie::OtherReport | Lie::KeptReceipt) =>
            {
                let Some(good) = self.good else { return Event::Query { id, data } };
                let data = if let Ok(get) = decode::<GetEndorsedReport>(&data) {
                    Opaque(encode(&GetEndorsedReport { worker: good, ..get }).into())
                } else if let Ok(get) = decode::<GetReport>(&data) {
                    Opaque(encode(&GetReport { worker: good, ..get }).into())
                } else {
                    data
                };
                Event::Query { id, data }
            }
            event => event,
        }
    }

    fn proxy_says(&mut self, event: Event) -> Option<Event> {
        match &event {
            Event::Answer { data, .. } => {
                if let Ok(found) = decode::<Workers<'_>>(data) {
                    self.listed = found.workers.iter().map(|worker| worker.worker).collect();
                    // Connections are named in their order, and the good worker came first.
                    self.good = self.listed.iter().copied().min();
                }
                if self.lie == Lie::OtherModel
                    && let Some(swapped) = self.swapped()
                    && let Event::Answer { id, data } = &event
                    && decode::<Workers<'_>>(data).is_ok()
                {
                    return Some(Event::Answer { id: *id, data: Opaque(swapped.into()) });
                }
            }
            Event::Message(data)
                if self.lie == Lie::KeptReceipt && decode::<Receipt<'_>>(data).is_ok() =>
            {
                return None;
            }
            _ => {}
        }
        Some(event)
    }

    /// The list of workers, where each is said to serve the other's model.
    fn swapped(&self) -> Option<Vec<u8>> {
        let good = self.good?;
        let model = |name: i64| if name == good { OTHER_MODEL } else { MODEL };
        let worker = |&worker: &i64| Worker { worker, model: model(worker).into() };
        Some(encode(&Workers { workers: self.listed.iter().map(worker).collect() }))
    }
}

/// Passes an event on; the other side may have gone.
fn pass(to: &LinkHandle, event: Event) {
    let _ = match event {
        Event::Query { id, data } => to.query(id, data.0, QUERY_WAIT),
        Event::Answer { id, data } => to.answer(id, data.0),
        Event::Message(data) => to.message(data.0),
        Event::QueryFailed { id, code, message } => to.answer_error(id, code, message),
        Event::Closed(_) => {
            to.close();
            Ok(())
        }
        Event::Opened(_) | Event::Attested(_) | Event::DialFailed { .. } => Ok(()),
    };
}

/// A good worker with a GPU, another one without, and a gateway that comes to the liar.
struct Town {
    stop: Stop,
    liar: JoinHandle<()>,
    good: Pair,
    other: Pair,
}

impl Town {
    async fn start(site: &Site, lie: Lie) -> Self {
        let good = site.pair("good", Machine { gpu: true, ..Machine::default() }).await;
        good.ready().await;
        let stop = Stop::new();
        let (at, liar) = Liar::start(site, lie, &stop).await;
        let registry = site.path("lying-network.json");
        site.write_registry(&registry, at);
        let other = site
            .pair_with("other", Machine::default(), |worker, gateway| {
                gateway.network_file = registry;
                if lie == Lie::OtherModel {
                    worker.model = OTHER_MODEL.into();
                }
            })
            .await;
        other.ready().await;
        let town = Self { stop, liar, good, other };
        // The gateway behind the liar knows of both workers.
        verify_until(&town.other, "worker 2").await;
        town
    }

    async fn end(self) {
        self.other.end().await;
        self.stop.now();
        self.liar.await.unwrap();
        self.good.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_by_another_worker_than_the_one_checked_is_not_accepted() {
    for (lie, words) in [
        (Lie::None, ""),
        (Lie::OtherWorker, "signed by a worker whose evidence was not checked"),
        (Lie::OtherReport, "signed by a worker whose evidence was not checked"),
        (Lie::KeptReceipt, "receipt"),
    ] {
        let site = Site::checking(Machine::default()).await;
        let town = Town::start(&site, lie).await;
        let (head, answer) = town.other.chat(CHAT, GPU).await;
        if lie == Lie::None {
            assert!(head.starts_with("http/1.1 200"), "{head} {answer}");
            assert_eq!((answer.as_str(), town.good.posts(), town.other.posts()), (ANSWER, 1, 0));
        } else {
            // The other worker has read the request: what is refused is its answer.
            assert!(!head.starts_with("http/1.1 200"), "{lie:?}: {head} {answer}");
            assert!(answer.contains(words), "{lie:?}: {answer}");
            assert!(!answer.contains("four"), "{lie:?}: {answer}");
            assert_eq!((town.good.posts(), town.other.posts()), (0, 1), "{lie:?}");
            assert!(!head.contains("x-cocoon-receipt: rcpt_"), "{lie:?}: {head}");
        }
        town.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_by_another_model_than_the_one_asked_for_is_not_accepted() {
    let site = Site::checking(Machine::default()).await;
    let town = Town::start(&site, Lie::OtherModel).await;
    // The report is genuine and its model is listed; it is only not the one asked for.
    let (head, answer) = town.other.chat(CHAT, "x-cocoon-verdicts: worker.weights\r\n").await;
    assert!(!head.starts_with("http/1.1 200"), "{head} {answer}");
    assert!(answer.contains("demand_not_met") && answer.contains(OTHER_MODEL), "{answer}");
    assert_eq!((town.good.posts(), town.other.posts()), (0, 0), "nothing was sent");
    // Without a look at the report it is the receipt that tells.
    let (head, answer) = town.other.chat(CHAT, "x-cocoon-receipt: on\r\n").await;
    assert!(!head.starts_with("http/1.1 200"), "{head} {answer}");
    assert!(answer.contains("another model") && !answer.contains("four"), "{answer}");
    assert!(!head.contains("x-cocoon-receipt: rcpt_"), "{head}");
    assert_eq!((town.good.posts(), town.other.posts()), (0, 1));
    town.end().await;
}
