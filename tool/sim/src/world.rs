//! The world: nodes, clock, queue of events.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use cocoon_contract::address::ProxyIdentity;
use cocoon_contract::code::Codes;
use cocoon_contract::pseudo::PseudoRoot;
use cocoon_contract::root::RootState;
use cocoon_role_proxy::ChainFact;
use cocoon_units::{Address, Nanoton, RequestId};

use crate::chain::{Chain, Message, PROXY_STAKE};
use crate::chance::Chance;
use crate::client::{ClientNode, End};
use crate::contracts::Contracts as RealContracts;
use crate::log::{Entry, Log};
use crate::mutant::Mutant;
use crate::net::{Link, PEER};
use crate::plan::{Ask, NodeId, Plan};
use crate::pool::Contracts;
use crate::proxy::ProxyNode;
use crate::run::Options;
use crate::truth::Truth;
use crate::violation::Violation;
use crate::worker::WorkerNode;

/// Price of an adjusted token in nanoTON: high, so that stakes and charges matter in minutes.
pub(crate) const PRICE: u64 = 1_000_000;
/// A worker's part of it.
pub(crate) const FEE: u64 = PRICE / 10 * 9;
/// Pause between two looks at the clock.
const TICK_MS: u64 = 1_000;
/// Numbers of the requests that the end of a run asks.
pub(crate) const PROBES: usize = 1_000_000;

/// Something that will happen.
pub(crate) enum Event {
    Tick { node: NodeId, life: u64 },
    Bytes { link: u64, end: usize, data: Bytes },
    Gone { link: u64, end: usize },
    Synced { node: NodeId, life: u64, ticket: u64 },
    Dial { peer: NodeId, life: u64, proxy: u8 },
    Restart(NodeId),
    Ask { number: usize, give_up_ms: u64 },
    Cancel { client: u8, request: RequestId },
    Work { worker: u8, life: u64, key: (u64, RequestId) },
    Fault(usize),
    Undo(usize),
    Block { proxy: u8, message: Message },
    Fact { proxy: u8, life: u64, fact: ChainFact },
    Root { node: NodeId, root: Arc<RootState> },
}

/// The simulated network.
// house: one field per room of the world.
pub(crate) struct World {
    pub(crate) plan: Plan,
    pub(crate) mutant: Option<Mutant>,
    pub(crate) now_ms: u64,
    queue: BTreeMap<(u64, u64), Event>,
    sequence: u64,
    pub(crate) steps: u64,
    pub(crate) chance: Chance,
    pub(crate) log: Log,
    pub(crate) truth: Truth,
    pub(crate) violation: Option<Violation>,
    pub(crate) proxies: Vec<ProxyNode>,
    pub(crate) clients: Vec<ClientNode>,
    pub(crate) workers: Vec<WorkerNode>,
    pub(crate) links: BTreeMap<u64, Link>,
    pub(crate) next_link: u64,
    dialled: BTreeMap<u64, u8>,
    pub(crate) parted: BTreeMap<(NodeId, u8), u64>,
    pub(crate) chain: Chain,
    /// The contracts beside their model, where they run too.
    pub(crate) contracts: Option<Box<RealContracts>>,
    pub(crate) root: Arc<RootState>,
    /// Client contracts that were asked to close, by client and proxy.
    pub(crate) closing: BTreeSet<(u8, u8)>,
    pub(crate) probes: Vec<Ask>,
    /// Misfortunes are over, and so are lies.
    pub(crate) quiet: bool,
}

pub(crate) fn root(version: u32, params_version: u32) -> Result<Arc<RootState>, String> {
    let root = PseudoRoot {
        proxy_hashes: BTreeSet::new(),
        worker_hashes: BTreeSet::new(),
        model_hashes: BTreeSet::new(),
        model_types: vec!["qwen".into()],
        registered_proxies: BTreeMap::new(),
        last_proxy_seqno: 0,
        version,
        params_version,
        price_per_token: Nanoton(PRICE),
        worker_fee_per_token: Nanoton(FEE),
        proxy_code_hex: String::new(),
        worker_code_hex: String::new(),
        client_code_hex: String::new(),
        owner: Address::new(0, [3; 32]),
    };
    let mut root = root.root_state().map_err(|fault| fault.to_string())?;
    // The contracts that are compiled read this structure only.
    root.network.params.struct_version = 3;
    root.network.codes = Codes::ours().map_err(|fault| fault.to_string())?;
    Ok(Arc::new(root))
}

fn real_contracts(root: &RootState, proxies: u8) -> Result<RealContracts, String> {
    let identity = |p| {
        let identity = crate::proxy::identity(p);
        let public_key = identity.public_key();
        ProxyIdentity { owner: identity.owner, public_key, root: identity.root }
    };
    RealContracts::new(root.network.clone(), (0..proxies).map(identity).collect())
}

impl World {
    pub(crate) fn new(plan: Plan, options: Options) -> Result<Self, String> {
        let root = root(1, 1)?;
        let contracts = (options.contracts && plan.real_chain)
            .then(|| real_contracts(&root, plan.proxies).map(Box::new))
            .transpose()?;
        let chance = Chance::of(plan.seed, "world", 0);
        let workers = (0..plan.workers).map(|w| WorkerNode::new(w, plan.proxies, &root));
        let workers: Option<Vec<_>> = workers.collect();
        let mut world = Self {
            proxies: (0..plan.proxies).map(|_| ProxyNode::new(Arc::clone(&root))).collect(),
            clients: (0..plan.clients).map(|c| ClientNode::new(c, &root)).collect(),
            workers: workers.ok_or("the model's name is not one")?,
            chain: Chain {
                contracts: (0..plan.proxies)
                    // The compiled contracts beside the model have the usual stake.
                    .map(|p| {
                        Contracts::new(if options.contracts { PROXY_STAKE } else { plan.stake(p) })
                    })
                    .collect(),
                ..Chain::default()
            },
            contracts,
            mutant: options.mutant,
            now_ms: 0,
            queue: BTreeMap::new(),
            sequence: 0,
            steps: 0,
            chance,
            log: Log::new(options.keep_log),
            truth: Truth::default(),
            violation: None,
            links: BTreeMap::new(),
            next_link: 0,
            dialled: BTreeMap::new(),
            parted: BTreeMap::new(),
            root,
            closing: BTreeSet::new(),
            probes: Vec::new(),
            quiet: false,
            plan,
        };
        world.schedule();
        Ok(world)
    }

    fn schedule(&mut self) {
        for p in 0..self.plan.proxies {
            self.at(u64::from(p) * 7, Event::Restart(NodeId::Proxy(p)));
        }
        for w in 0..self.plan.workers {
            self.at(200 + u64::from(w) * 11, Event::Restart(NodeId::Worker(w)));
        }
        for c in 0..self.plan.clients {
            self.at(400 + u64::from(c) * 13, Event::Restart(NodeId::Client(c)));
        }
        let asks: Vec<(usize, u64)> =
            self.plan.asks.iter().map(|(number, ask)| (*number, ask.at_ms)).collect();
        for (number, at_ms) in asks {
            self.at(at_ms, Event::Ask { number, give_up_ms: at_ms + 5_000 });
        }
        let faults: Vec<u64> = self.plan.faults.iter().map(|(_, fault)| fault.at_ms).collect();
        for (index, at_ms) in faults.into_iter().enumerate() {
            self.at(at_ms, Event::Fault(index));
        }
    }

    /// Lets something happen at a time.
    pub(crate) fn at(&mut self, at_ms: u64, event: Event) {
        self.sequence += 1;
        self.queue.insert((at_ms.max(self.now_ms), self.sequence), event);
    }

    pub(crate) fn note(&mut self, node: NodeId, what: &'static str, a: u64, b: u64) {
        self.log.add(Entry { at_ms: self.now_ms, node, what, a, b });
    }

    /// A promise was not kept; the first one counts.
    pub(crate) fn fail(&mut self, rule: &'static str, text: String) {
        if self.violation.is_none() {
            self.note(NodeId::Chain, "VIOLATION", 0, 0);
            self.violation = Some(Violation { rule, text });
        }
    }

    pub(crate) fn tick_soon(&mut self, node: NodeId) {
        let life = self.life(node);
        // On full seconds, so that hands may act every so many of them.
        let at_ms = (self.now_ms / TICK_MS + 1) * TICK_MS;
        self.at(at_ms, Event::Tick { node, life });
    }

    /// The request with this number.
    pub(crate) fn ask_of(&self, number: usize) -> Option<&Ask> {
        if number >= PROBES {
            return self.probes.get(number - PROBES);
        }
        let at = self.plan.asks.binary_search_by_key(&number, |(number, _)| *number).ok()?;
        self.plan.asks.get(at).map(|(_, ask)| ask)
    }

    /// A request of a user has ended.
    pub(crate) fn ended(&mut self, number: usize, end: End) {
        let how = match &end {
            End::Whole => "answered",
            End::Failed { .. } => "failed",
            End::NoProxy => "found no proxy",
            End::Lost => "lost",
            End::Died => "died with its client",
        };
        let client = self.ask_of(number).map_or(0, |ask| ask.client);
        self.note(NodeId::Client(client), how, number as u64, 0);
        self.truth.ends.insert(number, end);
    }

    /// The proxy at the other end of a connection, open or not.
    pub(crate) fn proxy_of(&self, id: u64) -> Option<u8> {
        self.dialled.get(&id).copied()
    }

    pub(crate) fn remember_link(&mut self, id: u64, proxy: u8) {
        self.dialled.insert(id, proxy);
    }

    /// A peer closes its connection.
    pub(crate) fn close_link(&mut self, id: u64) {
        if let Some(link) = self.links.get_mut(&id)
            && link.ends[PEER].open
        {
            link.ends[PEER].conn.close();
            self.drain(id, PEER);
        }
    }

    /// Whether a peer and a proxy know different states of the root contract.
    pub(crate) fn roots_differ(&self, node: NodeId, proxy: u8) -> bool {
        let Some(proxy) = self.proxies.get(usize::from(proxy)) else { return true };
        let theirs = proxy.root.network.params.params_version;
        let ours = match node {
            NodeId::Client(c) => &self.clients[usize::from(c)].identity.network,
            NodeId::Worker(w) => &self.workers[usize::from(w)].identity.network,
            _ => return false,
        };
        ours.params.params_version != theirs
    }

    /// Runs until a time, a violation, or so many steps.
    pub(crate) fn run_until(&mut self, end_ms: u64, steps_max: u64) {
        while self.violation.is_none() && self.steps < steps_max {
            let Some(entry) = self.queue.first_entry() else { break };
            let (at_ms, sequence) = *entry.key();
            if at_ms > end_ms {
                break;
            }
            let event = entry.remove();
            self.now_ms = at_ms;
            let paused_until_ms = self.paused_until(&event);
            if paused_until_ms > at_ms {
                // The number stays, so that what came first is still handled first.
                self.queue.insert((paused_until_ms, sequence), event);
                continue;
            }
            self.steps += 1;
            self.handle(event);
        }
        self.now_ms = self.now_ms.max(end_ms);
    }

    fn paused_until(&mut self, event: &Event) -> u64 {
        let node = match event {
            Event::Tick { node, .. } | Event::Synced { node, .. } | Event::Root { node, .. } => {
                *node
            }
            Event::Bytes { link, end, .. } | Event::Gone { link, end } => {
                match self.links.get(link) {
                    Some(link) => link.node(*end),
                    None => return 0,
                }
            }
            Event::Work { worker, .. } => NodeId::Worker(*worker),
            Event::Fact { proxy, .. } => NodeId::Proxy(*proxy),
            Event::Dial { peer, .. } => *peer,
            _ => return 0,
        };
        self.base(node).map_or(0, |base| base.paused_until_ms)
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Tick { node, life } => {
                if self.is_up(node) && self.life(node) == life {
                    self.tick(node);
                }
            }
            Event::Bytes { link, end, data } => self.arrive(link, end, &data),
            Event::Gone { link, end } => self.gone(link, end),
            Event::Synced { node, life, ticket } => {
                if self.is_up(node) && self.life(node) == life {
                    self.synced(node, ticket);
                }
            }
            Event::Dial { peer, life, proxy } => {
                if self.is_up(peer) && self.life(peer) == life {
                    self.dial(peer, proxy);
                }
            }
            Event::Restart(node) => self.restart(node),
            Event::Ask { number, give_up_ms } => {
                if let Some(ask) = self.ask_of(number).cloned() {
                    self.ask(number, &ask, give_up_ms);
                }
            }
            Event::Cancel { client, request } => self.cancel(client, request),
            Event::Work { worker, life, key } => {
                if self.life(NodeId::Worker(worker)) == life {
                    self.work(worker, key);
                }
            }
            Event::Fault(index) => self.strike(index),
            Event::Undo(index) => self.undo(index),
            Event::Block { proxy, message } => self.block(proxy, message),
            Event::Fact { proxy, life, fact } => self.learn(proxy, life, fact),
            Event::Root { node, root } => self.root_changes(node, root),
        }
    }

    fn tick(&mut self, node: NodeId) {
        self.tick_links(node);
        match node {
            NodeId::Proxy(p) => self.tick_proxy(p),
            NodeId::Client(c) => self.tick_client(c),
            NodeId::Worker(w) => self.tick_worker(w),
            NodeId::Chain => {}
        }
        if self.is_up(node) {
            self.tick_soon(node);
        }
    }

    fn restart(&mut self, node: NodeId) {
        if self.is_up(node) || self.base(node).is_some_and(|base| base.is_lost) {
            return;
        }
        match node {
            NodeId::Proxy(p) => self.start_proxy(p),
            NodeId::Client(c) => self.start_client(c),
            NodeId::Worker(w) => self.start_worker(w),
            NodeId::Chain => {}
        }
    }

    fn learn(&mut self, p: u8, life: u64, fact: ChainFact) {
        let node = NodeId::Proxy(p);
        if !self.is_up(node) || self.life(node) != life {
            return;
        }
        let unix_us = self.wall_ms(node).saturating_mul(1_000);
        let now = cocoon_role_proxy::Now { ms: self.now_ms, unix_us };
        self.with_machine(p, |machine, out| machine.chain(fact, now, out));
    }
}
