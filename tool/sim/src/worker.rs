//! A worker's process and its model server.

use std::collections::BTreeMap;

use cocoon_contract::payment::PaymentKind;
use cocoon_role_worker::{
    AnswerWriter, Fault, Identity, Incoming, ProxySession, Reject, Run, Turn,
};
use cocoon_session::Event as Heard;
use cocoon_units::{Address, Coefficient, ModelName, RequestId, Tokens, Usage};
use cocoon_wire::tl;

use crate::client::part_text;
use crate::net::PEER;
use crate::node::Base;
use crate::peer::PeerBooks;
use crate::plan::{Lie, NodeId, Point};
use crate::world::{Event, World};

/// A worker.
pub(crate) struct WorkerNode {
    pub(crate) base: Base,
    pub(crate) books: PeerBooks,
    pub(crate) identity: Identity,
    /// Version of the root contract that it knows.
    pub(crate) root_version: u32,
    pub(crate) disabled: bool,
    sessions: BTreeMap<u64, ProxySession>,
    runs: BTreeMap<(u64, RequestId), Running>,
}

/// A query under way.
struct Running {
    ask: usize,
    answer: AnswerWriter,
    ends_by_ms: u64,
    begun: bool,
    said: u64,
}

/// Whom the worker's earnings belong to.
pub(crate) fn owner(w: u8) -> Address {
    Address::new(0, [0x40 + w; 32])
}

fn identity(w: u8, proxies: u8, root: &cocoon_contract::root::RootState) -> Option<Identity> {
    Some(Identity {
        owner: owner(w),
        wallet: Address::new(0, [0x50 + w; 32]),
        model: ModelName::new("qwen@abc:00".to_owned()).ok()?,
        coefficient: Coefficient::clamped(1_000),
        max_active_requests: 4,
        proxy_count: u32::from(proxies),
        is_test: true,
        is_testnet: false,
        root: Address::new(0, [0; 32]),
        network: root.network.clone(),
        proxy_images: None,
        keys: Default::default(),
    })
}

impl WorkerNode {
    pub(crate) fn new(w: u8, proxies: u8, root: &cocoon_contract::root::RootState) -> Option<Self> {
        Some(Self {
            base: Base::default(),
            books: PeerBooks::new(PaymentKind::WorkerPayout),
            identity: identity(w, proxies, root)?,
            root_version: root.version,
            disabled: false,
            sessions: BTreeMap::new(),
            runs: BTreeMap::new(),
        })
    }
}

impl World {
    pub(crate) fn start_worker(&mut self, w: u8) {
        let node = NodeId::Worker(w);
        self.peer_recovers(node);
        let root = std::sync::Arc::clone(&self.root);
        if let Some(worker) = self.workers.get_mut(usize::from(w)) {
            worker.identity.network = root.network.clone();
            worker.root_version = root.version;
            worker.base.up = true;
        }
        self.note(node, "starts", 0, 0);
        for proxy in 0..self.plan.proxies {
            self.dial(node, proxy);
        }
        self.tick_soon(node);
    }

    pub(crate) fn worker_died(&mut self, w: u8) {
        if let Some(worker) = self.workers.get_mut(usize::from(w)) {
            worker.sessions.clear();
            worker.runs.clear();
        }
    }

    pub(crate) fn worker_hears(&mut self, w: u8, id: u64, event: Heard) {
        if self.dies_at(NodeId::Worker(w), Point::Input) {
            return;
        }
        let now_ms = self.wall_ms(NodeId::Worker(w));
        let Some(worker) = self.workers.get_mut(usize::from(w)) else { return };
        let channels = &mut worker.books.channels;
        if matches!(event, Heard::Ready { .. }) {
            let (session, turn) = ProxySession::open(&worker.identity, 1, worker.disabled);
            worker.sessions.insert(id, session);
            return self.worker_turned(w, id, Ok(turn));
        }
        let Some(session) = worker.sessions.get_mut(&id) else {
            if matches!(event, Heard::Closed(_)) {
                self.worker_lost(w, id);
            }
            return;
        };
        let turn = match event {
            Heard::Ready { .. } => return,
            Heard::Closed(_) => return self.worker_lost(w, id),
            Heard::Message(data) => session.message(&worker.identity, channels, now_ms, &data),
            Heard::Query { id: query, data } => Ok(session.queried(query, &data)),
            Heard::Answer { id: query, data } => {
                session.answered(&worker.identity, channels, now_ms, query, &data)
            }
            Heard::QueryFailed { id: query, code, message } => {
                session.failed(channels, query, code, &message).map(|()| Turn::default())
            }
        };
        self.worker_turned(w, id, turn);
    }

    fn worker_turned(&mut self, w: u8, id: u64, turn: Result<Turn, Fault>) {
        let node = NodeId::Worker(w);
        let turn = match turn {
            Ok(turn) => turn,
            Err(fault) => {
                self.peer_refuses(node, id, &fault.to_string());
                return self.close_link(id);
            }
        };
        for command in &turn.send {
            let command = self.twist_balance(node, command);
            self.command(id, &command);
        }
        self.peer_writes(node, &turn.records);
        if self.dies_at(node, Point::Written) {
            return;
        }
        match turn.incoming {
            Some(Incoming::Run(run)) => self.start_run(w, id, *run),
            Some(Incoming::Refuse(answer)) => self.send(id, PEER, &answer),
            Some(Incoming::Cancel(request)) => {
                let reject = Reject { code: 653, message: "cancelled".into() };
                self.end_run(w, (id, request), Some(&reject));
            }
            Some(Incoming::Ready) => self.note(node, "ready", id, 0),
            Some(Incoming::ChangeModel { .. } | Incoming::Report { .. }) | None => {}
        }
    }

    fn worker_lost(&mut self, w: u8, id: u64) {
        let proxy = self.proxy_of(id);
        let Some(worker) = self.workers.get_mut(usize::from(w)) else { return };
        if let Some(session) = worker.sessions.remove(&id) {
            session.closed(&mut worker.books.channels);
        }
        worker.runs.retain(|(link, _), _| *link != id);
        if let Some(proxy) = proxy {
            self.dial_later(NodeId::Worker(w), proxy);
        }
    }

    fn start_run(&mut self, w: u8, id: u64, run: Run) {
        let node = NodeId::Worker(w);
        let wall_ms = self.wall_ms(node);
        let text = String::from_utf8_lossy(run.backend.body.expose()).into_owned();
        let ask = text.trim_start_matches("{\"ask\":").trim_end_matches('}').parse().ok();
        let proxy = self.links.get(&id).map_or(0, |link| link.proxy);
        let Some(ask) = ask.filter(|ask| self.ask_of(*ask).is_some()) else {
            return self.fail("a request was damaged", format!("{node}: '{text}'"));
        };
        self.truth_given(proxy, run.request, ask, node, id);
        let ends_by_ms = self.now_ms + run.backend_deadline_ms.saturating_sub(wall_ms);
        let Some(worker) = self.workers.get_mut(usize::from(w)) else { return };
        if worker.runs.len() >= worker.identity.max_active_requests as usize {
            let mut answer = Vec::new();
            run.answer.fail(&mut answer, &Reject::busy(), &Usage::default(), wall_ms);
            return self.send(id, PEER, &answer);
        }
        let request = run.request;
        let running = Running { ask, answer: run.answer, ends_by_ms, begun: false, said: 0 };
        worker.runs.insert((id, request), running);
        self.note(node, "runs", ask as u64, id);
        self.work_later(w, (id, request));
    }

    fn work_later(&mut self, w: u8, key: (u64, RequestId)) {
        let pace_ms = self
            .workers
            .get(usize::from(w))
            .and_then(|worker| worker.runs.get(&key))
            .and_then(|run| self.ask_of(run.ask))
            .map_or(1, |ask| ask.pace_ms);
        let life = self.life(NodeId::Worker(w));
        let at_ms = self.now_ms + self.chance.between(1, pace_ms.max(1));
        self.at(at_ms, Event::Work { worker: w, life, key });
    }

    /// The model server makes the next piece of an answer.
    pub(crate) fn work(&mut self, w: u8, key: (u64, RequestId)) {
        let node = NodeId::Worker(w);
        if self.dies_at(node, Point::Effect) {
            return;
        }
        let (now_ms, wall_ms) = (self.now_ms, self.wall_ms(node));
        let silent = self.lie(node) == Some(Lie::WorkerSilent);
        let parts = |world: &Self, ask| world.ask_of(ask).map_or(0, |ask| ask.parts);
        let Some(run) = self.workers.get(usize::from(w)).and_then(|x| x.runs.get(&key)) else {
            return;
        };
        let (ask, said) = (run.ask, run.said);
        let parts = parts(self, ask);
        if now_ms >= run.ends_by_ms {
            return self.end_run(w, key, Some(&Reject::timeout()));
        }
        if silent {
            return self.work_later(w, key);
        }
        if run.begun && said >= parts {
            return self.end_run(w, key, None);
        }
        let mut message = Vec::new();
        let Some(worker) = self.workers.get_mut(usize::from(w)) else { return };
        let Some(run) = worker.runs.get_mut(&key) else { return };
        if run.begun {
            run.answer.part(&mut message, part_text(ask, said).as_bytes());
            run.said += 1;
        } else {
            run.answer.head(&mut message, 200, std::iter::empty(), wall_ms);
            run.begun = true;
        }
        self.send(key.0, PEER, &message);
        self.work_later(w, key);
    }

    /// What an answer has used so far.
    fn usage(&self, run: &Running, whole: bool) -> Usage {
        let ask = self.ask_of(run.ask);
        let (tokens, parts) = ask.map_or((0, 1), |ask| (ask.tokens, ask.parts));
        let completion = if whole { tokens } else { tokens * run.said / parts.max(1) };
        Usage { prompt: 10, completion, ..Usage::default() }
    }

    fn end_run(&mut self, w: u8, key: (u64, RequestId), reject: Option<&Reject>) {
        let node = NodeId::Worker(w);
        let wall_ms = self.wall_ms(node);
        let lie = self.lie(node);
        let factor = self.chance.between(2, 100);
        let Some(worker) = self.workers.get_mut(usize::from(w)) else { return };
        let Some(run) = worker.runs.remove(&key) else { return };
        let contract = worker.sessions.get(&key.0).and_then(ProxySession::proxy);
        let mut usage = self.usage(&run, reject.is_none());
        if lie == Some(Lie::WorkerClaims) {
            usage.completion = usage.completion.saturating_mul(factor);
        }
        let mut message = Vec::new();
        let claimed = match reject {
            Some(reject) => run.answer.fail(&mut message, reject, &usage, wall_ms),
            None => run.answer.finish(&mut message, &usage, wall_ms),
        };
        self.truth_claimed(key.1, key.0, claimed.0, reject.map(|reject| reject.code));
        self.note(node, "ends", run.ask as u64, claimed.0);
        self.send(key.0, PEER, &message);
        if lie == Some(Lie::WorkerTwice) {
            self.send(key.0, PEER, &message);
        }
        if lie == Some(Lie::WorkerSteals) {
            self.steal(key.0);
        }
        if self.dies_at(node, Point::Released) {
            return;
        }
        if claimed > Tokens::ZERO
            && let Some(contract) = contract
        {
            self.peer_finished(node, contract, claimed);
        }
    }

    /// Answers, over this connection, a request that runs on another worker.
    fn steal(&mut self, id: u64) {
        let Some(proxy) = self.links.get(&id).map(|link| link.proxy) else { return };
        let others = self.workers.iter().flat_map(|worker| worker.runs.iter());
        let victim = others
            .filter(|((link, _), _)| {
                *link != id && self.links.get(link).is_some_and(|link| link.proxy == proxy)
            })
            .map(|((_, request), run)| (*request, run.begun))
            .next();
        let Some((request, begun)) = victim else { return };
        let stolen = crate::liar::stolen_answer(request, begun);
        for message in stolen {
            self.send(id, PEER, &message);
        }
    }

    pub(crate) fn tick_worker(&mut self, w: u8) {
        let wall_ms = self.wall_ms(NodeId::Worker(w));
        let Some(worker) = self.workers.get(usize::from(w)) else { return };
        let ids: Vec<u64> = worker.sessions.keys().copied().collect();
        for id in ids {
            let Some(worker) = self.workers.get_mut(usize::from(w)) else { return };
            let Some(session) = worker.sessions.get_mut(&id) else { continue };
            let turn = session.tick(wall_ms);
            self.worker_turned(w, id, Ok(turn));
        }
    }

    /// Tells all proxies whether queries are wanted.
    pub(crate) fn disable_worker(&mut self, w: u8, disabled: bool) {
        let Some(worker) = self.workers.get_mut(usize::from(w)) else { return };
        worker.disabled = disabled;
        let commands: Vec<_> = worker
            .sessions
            .iter_mut()
            .filter_map(|(id, session)| Some((*id, session.set_disabled(disabled)?)))
            .collect();
        for (id, command) in commands {
            self.command(id, &command);
        }
    }

    /// Changes the price factor for later queries.
    pub(crate) fn set_coefficient(&mut self, w: u8, milli: u32) {
        let coefficient = Coefficient::clamped(i64::from(milli));
        let Some(worker) = self.workers.get_mut(usize::from(w)) else { return };
        worker.identity.coefficient = coefficient;
        let commands: Vec<_> = worker
            .sessions
            .iter()
            .filter_map(|(id, session)| Some((*id, session.new_coefficient(coefficient)?)))
            .collect();
        for (id, command) in commands {
            self.command(id, &command);
        }
    }
}

/// Whether bytes are a boxed object of this type.
pub(crate) fn is<'tl, T: tl::Boxed<'tl>>(data: &'tl [u8]) -> Option<T> {
    tl::decode(data).ok()
}
