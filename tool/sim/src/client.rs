//! A client's process and its users.

use std::collections::BTreeMap;

use bytes::Bytes;
use cocoon_contract::payment::PaymentKind;
use cocoon_role_client::{
    AnswerEvent, Ask as Request, Fault, Identity, Incoming, ProxySession, Turn,
};
use cocoon_session::Event as Heard;
use cocoon_units::{Address, Coefficient, RequestId, Secret, SecretBytes, Tokens};

use crate::contracts::{Purse, wallet_address};
use crate::mutant::Mutant;
use crate::net::PEER;
use crate::node::Base;
use crate::peer::PeerBooks;
use crate::plan::{Ask, Lie, NodeId, Point};
use crate::world::{Event, World};

/// What the client is granted beyond the proxy's own time before a missing end counts as lost.
const GRACE_MS: u64 = 4_000;
/// Model that everybody serves.
pub(crate) const MODEL: &str = "qwen";

/// A client.
pub(crate) struct ClientNode {
    pub(crate) base: Base,
    pub(crate) books: PeerBooks,
    pub(crate) identity: Identity,
    sessions: BTreeMap<u64, ProxySession>,
    open: BTreeMap<RequestId, Open>,
}

/// A request that has not ended.
struct Open {
    ask: usize,
    link: u64,
    proxy: u8,
    sent_ms: u64,
    deadline_ms: u64,
    begun: bool,
    text: Vec<u8>,
}

/// How a request ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Whole,
    Failed { code: i32, text: String },
    NoProxy,
    Lost,
    Died,
}

/// The client's account and address.
pub(crate) fn owner(c: u8) -> Address {
    wallet_address(Purse::Client(c))
}

/// What a worker says in the n-th part of an answer.
pub(crate) fn part_text(ask: usize, part: u64) -> String {
    format!("[{ask}:{part}]")
}

pub(crate) fn identity(c: u8, root: &cocoon_contract::root::RootState) -> Identity {
    Identity {
        wallet: owner(c),
        secret: Secret::new(Vec::new()),
        is_test: true,
        is_testnet: false,
        root: Address::new(0, [0; 32]),
        root_version: i32::try_from(root.version).unwrap_or(i32::MAX),
        network: root.network.clone(),
        proxy_images: None,
    }
}

impl ClientNode {
    pub(crate) fn new(c: u8, root: &cocoon_contract::root::RootState) -> Self {
        Self {
            base: Base::default(),
            books: PeerBooks::new(PaymentKind::ClientCharge),
            identity: identity(c, root),
            sessions: BTreeMap::new(),
            open: BTreeMap::new(),
        }
    }
}

impl World {
    pub(crate) fn start_client(&mut self, c: u8) {
        let node = NodeId::Client(c);
        self.peer_recovers(node);
        let root = std::sync::Arc::clone(&self.root);
        if let Some(client) = self.clients.get_mut(usize::from(c)) {
            client.identity = identity(c, &root);
            client.base.up = true;
        }
        self.note(node, "starts", 0, 0);
        for proxy in 0..self.plan.proxies {
            self.dial(node, proxy);
        }
        self.tick_soon(node);
    }

    pub(crate) fn client_died(&mut self, c: u8) {
        let Some(client) = self.clients.get_mut(usize::from(c)) else { return };
        client.sessions.clear();
        for open in std::mem::take(&mut client.open).into_values() {
            self.ended(open.ask, End::Died);
        }
    }

    pub(crate) fn client_hears(&mut self, c: u8, id: u64, event: Heard) {
        if self.dies_at(NodeId::Client(c), Point::Input) {
            return;
        }
        let now_ms = self.wall_ms(NodeId::Client(c));
        let Some(client) = self.clients.get_mut(usize::from(c)) else { return };
        let channels = &mut client.books.channels;
        let turn = match event {
            Heard::Ready { .. } => {
                let (session, turn) = ProxySession::open(&client.identity, 1);
                client.sessions.insert(id, session);
                Ok(turn)
            }
            Heard::Closed(_) => return self.client_lost(c, id),
            Heard::Query { .. } => return,
            Heard::Message(data) => return self.client_message(c, id, &data),
            Heard::Answer { id: query, data } => match client.sessions.get_mut(&id) {
                Some(session) => session.answered(&client.identity, channels, now_ms, query, &data),
                None => return,
            },
            Heard::QueryFailed { id: query, code, message } => match client.sessions.get_mut(&id) {
                Some(session) => session.failed(query, code, &message).map(|()| Turn::default()),
                None => return,
            },
        };
        self.client_turned(c, id, turn);
    }

    fn client_message(&mut self, c: u8, id: u64, data: &Bytes) {
        let again = self.mutant == Some(Mutant::LastPartTwice);
        let Some(client) = self.clients.get_mut(usize::from(c)) else { return };
        let Some(session) = client.sessions.get_mut(&id) else { return };
        let turn = session.message(&mut client.books.channels, data);
        if again
            && let Ok(Turn { incoming: Some(Incoming::Answer(_, event)), .. }) = &turn
            && let (Some(charge), Some(proxy)) = (event.charge(), session.proxy())
        {
            // The second time its record is forgotten.
            let _ = client.books.channels.finished(proxy, charge.used.total);
        }
        self.client_turned(c, id, turn);
    }

    fn client_turned(&mut self, c: u8, id: u64, turn: Result<Turn, Fault>) {
        let node = NodeId::Client(c);
        let turn = match turn {
            Ok(turn) => turn,
            Err(fault) => {
                self.peer_refuses(node, id, &fault.to_string());
                return self.close_link(id);
            }
        };
        for command in &turn.send {
            self.command(id, command);
        }
        self.peer_writes(node, &turn.records);
        if self.dies_at(node, Point::Written) {
            return;
        }
        match turn.incoming {
            Some(Incoming::Answer(request, event)) => self.client_answer(c, id, request, event),
            Some(Incoming::Register { nonce, .. }) => {
                if let Some(proxy) = self.links.get(&id).map(|link| link.proxy) {
                    self.register(c, proxy, nonce);
                }
            }
            Some(Incoming::Ready) => self.note(node, "ready", id, 0),
            Some(Incoming::Unasked(request)) => {
                if self.honest_answers(node) && self.truth.ended_asks.contains_key(&request) {
                    let text = format!("{node}: a second end of a request");
                    self.fail("an answer after its end", text);
                }
            }
            Some(Incoming::Booked(request, _)) => self.client_booked(c, request),
            // No proxy of the simulator drains.
            Some(Incoming::Leaving) => {}
            // No worker of the simulator signs.
            Some(Incoming::Receipt(..) | Incoming::Models(_)) | None => {}
        }
    }

    /// The statement about a request follows the end of its answer.
    fn client_booked(&mut self, c: u8, request: RequestId) {
        let node = NodeId::Client(c);
        let honest = self.honest_answers(node);
        let Some(client) = self.clients.get(usize::from(c)) else { return };
        if honest && client.open.contains_key(&request) {
            self.fail("a statement before the end it is about", format!("{node}, {request}"));
        }
    }

    fn client_lost(&mut self, c: u8, id: u64) {
        let proxy = self.links.get(&id).map(|link| link.proxy);
        let Some(client) = self.clients.get_mut(usize::from(c)) else { return };
        client.sessions.remove(&id);
        let lost: Vec<RequestId> =
            client.open.iter().filter(|(_, o)| o.link == id).map(|(r, _)| *r).collect();
        let asks: Vec<usize> =
            lost.iter().filter_map(|r| client.open.remove(r)).map(|o| o.ask).collect();
        for ask in asks {
            self.ended(ask, End::Lost);
        }
        if let Some(proxy) = proxy.or_else(|| self.proxy_of(id)) {
            self.dial_later(NodeId::Client(c), proxy);
        }
    }

    /// A user asks.
    pub(crate) fn ask(&mut self, number: usize, ask: &Ask, give_up_ms: u64) {
        let node = NodeId::Client(ask.client);
        if !self.is_up(node) {
            return self.ended(number, End::Died);
        }
        let Some(id) = self.ready_link(ask) else {
            if self.now_ms >= give_up_ms {
                return self.ended(number, End::NoProxy);
            }
            return self.at(self.now_ms + 500, Event::Ask { number, give_up_ms });
        };
        let now_ms = self.now_ms;
        let request = RequestId(self.chance.bytes());
        let body = SecretBytes::new(Bytes::from(format!("{{\"ask\":{number}}}")));
        let odd = self.plan.liar == Some((node, Lie::ClientOdd)) && !self.quiet;
        let odd = if odd { self.chance.index(6) } else { 0 };
        let Some(client) = self.clients.get_mut(usize::from(ask.client)) else { return };
        let Some(session) = client.sessions.get_mut(&id) else { return };
        let request = match client.open.keys().next() {
            Some(repeated) if odd == 1 => *repeated,
            _ => request,
        };
        let message = session.ask(
            &client.identity,
            &Request {
                request,
                model: if odd == 2 { "nothing" } else { MODEL },
                path: if odd == 3 { "/" } else { "/v1/chat/completions" },
                headers: &[],
                body: &body,
                max_coefficient: Coefficient::clamped(2_000),
                max_tokens: Tokens(if odd == 4 { u64::MAX } else { ask.tokens_max }),
                timeout_ms: if odd == 5 { 0 } else { ask.timeout_ms },
                debug: false,
            },
        );
        let proxy = self.links.get(&id).map_or(0, |link| link.proxy);
        let open = Open {
            ask: number,
            link: id,
            proxy,
            sent_ms: now_ms,
            deadline_ms: now_ms + ask.timeout_ms + GRACE_MS,
            begun: false,
            text: Vec::new(),
        };
        let client = self.clients.get_mut(usize::from(ask.client));
        if let Some(replaced) = client.and_then(|client| client.open.insert(request, open)) {
            self.ended(replaced.ask, End::Lost);
        }
        self.note(node, "asks", number as u64, id);
        self.truth.asked.insert(request, number);
        self.send(id, PEER, &message);
        if let Some(after_ms) = ask.cancel_after_ms {
            self.at(now_ms + after_ms, Event::Cancel { client: ask.client, request });
        }
    }

    fn ready_link(&mut self, ask: &Ask) -> Option<u64> {
        let client = self.clients.get(usize::from(ask.client))?;
        let ready: Vec<u64> = client
            .sessions
            .iter()
            .filter(|(_, session)| session.is_ready())
            .map(|(id, _)| *id)
            .filter(|id| {
                let proxy = self.links.get(id).map(|link| link.proxy);
                ask.proxy.is_none() || ask.proxy == proxy
            })
            .collect();
        let at = self.chance.index(ready.len());
        ready.get(at).copied()
    }

    /// A user gives up.
    pub(crate) fn cancel(&mut self, c: u8, request: RequestId) {
        let Some(client) = self.clients.get(usize::from(c)) else { return };
        let Some(open) = client.open.get(&request) else { return };
        let (ask, link) = (open.ask, open.link);
        let message = client.sessions.get(&link).and_then(|session| session.cancel(request));
        self.note(NodeId::Client(c), "cancels", ask as u64, link);
        if let Some(message) = message {
            self.send(link, PEER, &message);
        }
    }

    /// Whether all who have a part in this client's answers are honest.
    fn honest_answers(&self, node: NodeId) -> bool {
        !self.plan.lies(node) && !self.truth.liar_answers(&self.plan)
    }

    fn client_answer(&mut self, c: u8, id: u64, request: RequestId, event: AnswerEvent) {
        let node = NodeId::Client(c);
        let honest = self.honest_answers(node);
        let Some(client) = self.clients.get_mut(usize::from(c)) else { return };
        let Some(open) = client.open.get_mut(&request).filter(|open| open.link == id) else {
            if honest && self.truth.ended_asks.contains_key(&request) {
                let text = format!("{node}: {event:?} for a request that has ended");
                self.fail("an answer after its end", text);
            }
            return;
        };
        let (ask, proxy) = (open.ask, open.proxy);
        let (end, charge) = match event {
            AnswerEvent::Head { end, .. } => {
                if std::mem::replace(&mut open.begun, true) && honest {
                    return self.fail("two heads", format!("{node}, request {ask}"));
                }
                (end.is_some().then_some(End::Whole), end)
            }
            AnswerEvent::Part { bytes, end } => {
                open.text.extend_from_slice(&bytes);
                if !open.begun && honest {
                    return self.fail("a part before the head", format!("{node}, request {ask}"));
                }
                (end.is_some().then_some(End::Whole), end)
            }
            AnswerEvent::Failed { refused, charge } => {
                let end = End::Failed { code: refused.code, text: refused.message };
                (Some(end), Some(charge))
            }
        };
        let text = open.text.clone();
        if honest {
            self.check_text(node, ask, &text, end == Some(End::Whole));
        }
        let Some(end) = end else { return };
        if let Some(client) = self.clients.get_mut(usize::from(c)) {
            client.open.remove(&request);
        }
        self.truth.ended_asks.insert(request, ask);
        let charged = charge.map_or(0, |charge| charge.used.total.0);
        self.check_charge(c, proxy, ask, charged);
        self.ended(ask, end);
    }

    /// The answer is the one to this request, whole and in order.
    fn check_text(&mut self, node: NodeId, ask: usize, text: &[u8], whole: bool) {
        let Some(parts) = self.ask_of(ask).map(|ask| ask.parts) else { return };
        let expected: String = (0..parts).map(|part| part_text(ask, part)).collect();
        let fits = expected.as_bytes().starts_with(text);
        if !fits || whole && text.len() != expected.len() {
            let text = format!(
                "{node}, request {ask}: got '{}', expected '{expected}'",
                String::from_utf8_lossy(text)
            );
            self.fail("the wrong answer", text);
        }
    }

    pub(crate) fn tick_client(&mut self, c: u8) {
        let node = NodeId::Client(c);
        let now_ms = self.now_ms;
        let wall_ms = self.wall_ms(node);
        let Some(client) = self.clients.get_mut(usize::from(c)) else { return };
        let over: Vec<RequestId> = client
            .open
            .iter()
            .filter(|(_, open)| open.deadline_ms <= now_ms)
            .map(|(request, _)| *request)
            .collect();
        for request in over {
            self.expired(c, request);
        }
        let Some(client) = self.clients.get_mut(usize::from(c)) else { return };
        let ids: Vec<u64> = client.sessions.keys().copied().collect();
        for id in ids {
            let Some(client) = self.clients.get_mut(usize::from(c)) else { return };
            let Some(session) = client.sessions.get_mut(&id) else { continue };
            let turn = session.tick(wall_ms);
            self.client_turned(c, id, Ok(turn));
        }
        self.client_watches_chain(c);
    }

    /// No end came in time: lost with its connection, or a promise broken.
    fn expired(&mut self, c: u8, request: RequestId) {
        let node = NodeId::Client(c);
        let Some(client) = self.clients.get_mut(usize::from(c)) else { return };
        let Some(open) = client.open.remove(&request) else { return };
        let since = open.sent_ms;
        let excused = [node, NodeId::Proxy(open.proxy)]
            .iter()
            .any(|node| self.base(*node).is_none_or(|base| base.excused_until_ms >= since))
            || self.links.get(&open.link).is_none_or(|link| link.excused_until_ms >= since)
            || self.plan.lies(node)
            || self.plan.lies(NodeId::Proxy(open.proxy));
        if !excused {
            let text = format!("{node}, request {}, connection {}", open.ask, open.link);
            self.fail("a request never ended", text);
        }
        self.ended(open.ask, End::Lost);
    }
}
