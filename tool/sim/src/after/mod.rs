//! After the service: the network moves to other parameters, or a proxy is gone for good, and every
//! coin finds its way out.
//!
//! Nobody asks any more; what runs are the machines that bring money home: the proxy's winding down
//! ([`WindDown`]), the clients' and workers' lives of their contracts ([`cocoon_settle`]), from
//! books that went through a crash. Their messages get lost, come late or twice, hands die between
//! record and order, the chain stands still, clients are impatient.

mod actor;
mod chain;
mod look;

use std::collections::{BTreeMap, BTreeSet};

use cocoon_contract::cell::Cell;
use cocoon_contract::params::Selector;
use cocoon_contract::state::Phase;
use cocoon_contract::wallet::Outgoing;
use cocoon_ledger::{AccountId, Books, ClientStatus, OldBooks, Record};
use cocoon_role_proxy::Now;

use crate::chain::PROXY_STAKE;
use crate::chance::Chance;
use crate::node::Fuse;
use crate::plan::{Fate, Lie, NodeId, Point};
use crate::world::{FEE, World, root};
use actor::{Actor, Role};

/// Time in which new parameters reach a proxy's disk.
const MOVE_MS: u64 = 1_000;
/// How long the weather is bad, and how long everything may take once it is good: the longest
/// pause after failures is an hour, and delays of the contracts are minutes.
const WEATHER_MS: u64 = 2 * 3_600_000;
/// Virtual time in which every coin can be withdrawn after the weather has turned good.
pub const HOME_MS: u64 = 3 * 3_600_000;
/// What an owner puts in for its clients: more than any world can lose, nanoTON.
const RESCUE: u64 = 100_000_000_000;
/// Longer than any run: the process is not started again.
const FOR_EVER_MS: u64 = 1 << 50;

/// Something that will happen.
enum Event {
    /// A hand looks at the chain.
    Wake { actor: usize, life: u64 },
    /// A message is in a block.
    Arrive { actor: usize, label: u64, message: Box<Outgoing>, is_again: bool },
    /// A hand's wallet says what became of its message; `None` when it cannot know.
    Report { actor: usize, label: u64, had_effect: Option<bool> },
    /// A proxy's machine is lost.
    Dies { proxy: u8 },
    /// The owner of a proxy puts in what refunds fell short of.
    Rescue { proxy: u8 },
}

/// What is known of a proxy's last day.
pub(super) struct Part {
    fate: Fate,
    /// Final totals by the journal.
    old: Option<OldBooks>,
    /// Whether nobody carries out its winding any more.
    is_gone: bool,
    /// Whether its stake is too small for what may be lost.
    is_poor: bool,
}

/// The last act.
pub(super) struct After {
    began_ms: u64,
    queue: BTreeMap<(u64, u64), Event>,
    sequence: u64,
    chance: Chance,
    /// When the chain stands still: from, to.
    stalls: Vec<(u64, u64)>,
    parts: BTreeMap<u8, Part>,
    actors: Vec<Actor>,
    /// Messages that a wallet has and whose end it has not told.
    on_the_way: BTreeSet<(usize, u64)>,
    /// When each client asked for its money, milliseconds.
    asked_ms: BTreeMap<(u8, AccountId), u64>,
    /// Draws what happens to proxies with too small a stake.
    poverty: Chance,
    /// The parameters' cell, for states as the chain shows them.
    params: Cell,
}

impl After {
    fn at(&mut self, at_ms: u64, event: Event) {
        self.sequence += 1;
        self.queue.insert((at_ms, self.sequence), event);
    }

    /// Milliseconds of the chain's clock when it is `now_ms`.
    fn chain_ms(&self, now_ms: u64) -> u64 {
        let stands = self.stalls.iter().find(|(from, to)| (*from..*to).contains(&now_ms));
        stands.map_or(now_ms, |(from, _)| *from)
    }

    /// Whether what is asked of a proxy contract now bounces.
    fn bounces(&mut self, now_ms: u64, p: u8) -> bool {
        let is_poor = self.parts.get(&p).is_some_and(|part| part.is_poor);
        is_poor && self.is_bad_weather(now_ms) && self.poverty.percent(6)
    }

    fn is_bad_weather(&self, now_ms: u64) -> bool {
        now_ms < self.began_ms + WEATHER_MS
    }
}

impl World {
    /// What happens to a proxy in the end. A proxy that lies about totals is not followed: its
    /// peers refuse it.
    pub(crate) fn fate(&self, p: u8) -> Fate {
        let lies = matches!(
            self.plan.liar,
            Some((NodeId::Proxy(liar), Lie::ProxyInflates | Lie::ProxyOldPayment)) if liar == p
        );
        let fate = self.plan.fates.get(usize::from(p)).copied().unwrap_or(Fate::Stays);
        if lies || !self.plan.real_chain { Fate::Stays } else { fate }
    }

    /// Whether a proxy is gone for good before the reckoning.
    pub(crate) fn is_gone(&self, p: u8) -> bool {
        self.fate(p) == Fate::Dies
    }

    /// Proxies whose machines are lost do not come back.
    pub(crate) fn lose_proxies(&mut self) {
        for p in (0..self.plan.proxies).filter(|p| self.is_gone(*p)).collect::<Vec<_>>() {
            self.end_process(NodeId::Proxy(p));
        }
    }

    fn end_process(&mut self, node: NodeId) {
        if self.is_up(node) {
            let fuse =
                Fuse { point: Point::Input, countdown: 0, down_ms: FOR_EVER_MS, quiet: false };
            self.crash(node, fuse);
        }
        // One that is down is not started again either.
        if let Some(base) = self.base(node) {
            base.is_lost = true;
        }
    }

    /// Plays the last act.
    pub(crate) fn bring_home(&mut self) {
        let fates: Vec<(u8, Fate)> = (0..self.plan.proxies)
            .map(|p| (p, self.fate(p)))
            .filter(|(_, fate)| *fate != Fate::Stays)
            .collect();
        if fates.is_empty() || self.violation.is_some() {
            return;
        }
        self.move_on(&fates);
        if self.violation.is_some() {
            return;
        }
        let Some(mut after) = self.last_act(&fates) else { return };
        self.note(NodeId::Chain, "the last act", after.actors.len() as u64, 0);
        let end_ms = after.began_ms + WEATHER_MS + HOME_MS;
        while self.violation.is_none() {
            let Some(entry) = after.queue.first_entry() else { break };
            let (at_ms, _) = *entry.key();
            if at_ms > end_ms {
                break;
            }
            let event = entry.remove();
            self.now_ms = self.now_ms.max(at_ms);
            self.steps += 1;
            self.last_event(&mut after, event);
        }
        if self.violation.is_none() {
            self.all_is_home(&after);
        }
    }

    /// The proxies that live learn of new parameters, and write their old books down.
    fn move_on(&mut self, fates: &[(u8, Fate)]) {
        let network = &self.root;
        let Ok(next) = root(network.version + 1, network.network.params.params_version + 1) else {
            return;
        };
        for (p, fate) in fates {
            if let Fate::Moves { .. } = fate {
                let unix_us = self.wall_ms(NodeId::Proxy(*p)).saturating_mul(1_000);
                let now = Now { ms: self.now_ms, unix_us };
                let next = next.clone();
                self.proxies[usize::from(*p)].root = next.clone();
                let mut refused = None;
                self.with_machine(*p, |machine, out| {
                    refused = machine.root_changed(next, now, out).err();
                });
                if let Some(fault) = refused {
                    return self.fail("a root state was refused", fault.to_string());
                }
            }
        }
        self.run_until(self.now_ms + MOVE_MS, u64::MAX);
    }

    /// Ends all processes and begins again with those that bring money home.
    fn last_act(&mut self, fates: &[(u8, Fate)]) -> Option<After> {
        for p in 0..self.plan.proxies {
            self.end_process(NodeId::Proxy(p));
        }
        for node in self.nodes().into_iter().filter(|node| !matches!(node, NodeId::Proxy(_))) {
            self.end_process(node);
            self.peer_recovers(node);
        }
        let network = self.root.network.clone();
        let params = network.params.cell(Selector::Leaf, &network.codes).ok()?;
        let mut chance = Chance::of(self.plan.seed, "after", 0);
        let began_ms = self.now_ms;
        let stalls = (0..chance.between(0, 2)).map(|_| {
            let from = began_ms + chance.between(0, WEATHER_MS / 2);
            (from, from + chance.between(1_000, WEATHER_MS / 4))
        });
        let stalls = stalls.collect();
        let mut after = After {
            began_ms,
            queue: BTreeMap::new(),
            sequence: 0,
            chance,
            stalls,
            parts: BTreeMap::new(),
            actors: Vec::new(),
            on_the_way: BTreeSet::new(),
            asked_ms: BTreeMap::new(),
            poverty: Chance::of(self.plan.seed, "poverty", 0),
            params,
        };
        for (p, fate) in fates {
            self.last_day(&mut after, *p, *fate);
        }
        for actor in 0..after.actors.len() {
            let at_ms = began_ms + after.chance.between(0, 20_000);
            after.at(at_ms, Event::Wake { actor, life: 0 });
        }
        Some(after)
    }

    /// Everybody who has money at this proxy.
    fn last_day(&mut self, after: &mut After, p: u8, fate: Fate) {
        let old = self.old_books(p);
        if let Fate::Moves { dies_after_ms } = fate {
            if old.is_none() {
                let text = format!("proxy {p} moved on, its journal has no old books");
                return self.fail("old books are lost", text);
            }
            after.actors.push(Actor::new(Role::Winding { p, machine: None }));
            if let Some(after_ms) = dies_after_ms {
                after.at(after.began_ms + after_ms, Event::Dies { proxy: p });
            }
        }
        let is_gone = fate == Fate::Dies;
        let contracts = &mut self.chain.contracts[usize::from(p)];
        let is_poor = contracts.staked < PROXY_STAKE;
        if is_poor {
            if after.poverty.percent(30) {
                contracts.eat(after.poverty.between(1, 2 * RESCUE / 10));
            }
            if after.poverty.percent(50) {
                after.at(after.began_ms + WEATHER_MS, Event::Rescue { proxy: p });
            }
        }
        after.parts.insert(p, Part { fate, old, is_gone, is_poor });
        for c in (0..self.plan.clients).filter(|c| self.has_contract(*c, p)).collect::<Vec<_>>() {
            after.actors.extend(self.client_actor(c, p));
        }
        for w in 0..self.plan.workers {
            after.actors.extend(self.worker_actor(w, p));
        }
    }

    /// The old books as the proxy's disk has them.
    pub(super) fn old_books(&mut self, p: u8) -> Option<OldBooks> {
        let frames = self.base(NodeId::Proxy(p))?.disk.recover(false);
        let mut books = Books::new();
        for record in frames.iter().filter_map(|bytes| Record::decode(bytes).ok()) {
            books.apply(&record).ok()?;
        }
        books.old().next().map(|(_, old)| old.clone())
    }

    fn last_event(&mut self, after: &mut After, event: Event) {
        match event {
            Event::Wake { actor, life } => {
                if after.actors.get(actor).is_some_and(|it| it.life == life) {
                    self.wakes(after, actor);
                }
            }
            Event::Arrive { actor, label, message, is_again } => {
                self.arrives(after, actor, label, &message, is_again);
            }
            Event::Report { actor, label, had_effect } => {
                self.reported(after, actor, label, had_effect);
            }
            Event::Rescue { proxy } => {
                self.note(NodeId::Chain, "an owner stakes more", proxy.into(), RESCUE);
                let contracts = &mut self.chain.contracts[usize::from(proxy)];
                contracts.last_lt += 1;
                contracts.add_stake(RESCUE);
                self.check_pool(proxy);
            }
            Event::Dies { proxy } => {
                self.note(NodeId::Proxy(proxy), "is gone for good", 0, 0);
                if let Some(part) = after.parts.get_mut(&proxy) {
                    part.is_gone = true;
                }
                for it in &mut after.actors {
                    if matches!(it.role, Role::Winding { p, .. } if p == proxy) {
                        it.life += 1;
                    }
                }
            }
        }
    }

    /// Every coin that is somebody's has been withdrawn, and nobody else has it.
    fn all_is_home(&mut self, after: &After) {
        for (p, part) in &after.parts {
            let model = self.chain.contracts[usize::from(*p)].clone();
            for (id, client) in &model.clients {
                // What is not worth its fees stays; so does what nobody has.
                let is_dust = client.balance <= cocoon_settle::cost::MOVE_FEE.0;
                let is_lacking = model.pool + model.stake == 0;
                if client.status != ClientStatus::Closed || !(is_dust || is_lacking) {
                    let text = format!("{id:?} at proxy {p}, which {:?}: {client:?}", part.fate);
                    return self.fail("a coin cannot be withdrawn", text);
                }
                if client.balance > 0 && !part.is_poor {
                    let text = format!("{id:?} at proxy {p}: {client:?}");
                    return self.fail("a refund fell short of a stake that is enough", text);
                }
                let told = part.old.as_ref().and_then(|old| {
                    old.clients().find(|(client, _)| client == id).map(|(_, tokens)| tokens.0)
                });
                // A client that waited for its delay in vain owes nothing more.
                if !client.is_forced && told.is_some_and(|told| told != client.used) {
                    let text = format!("{id:?} at proxy {p}: {told:?} by the books, {client:?}");
                    return self.fail("a client was not charged what it used", text);
                }
            }
            for it in &after.actors {
                let Some((worker, signed)) = it.signed_for(*p) else { continue };
                let paid = model.workers.get(&worker).copied().unwrap_or(0);
                // Whose client took its money back uncharged, and faster, took it from the worker; so
                // did the storage fees that ate deposits.
                let took = model.clients.values().any(|client| client.is_forced);
                let is_lacking = (took || model.eaten > 0) && model.pool + model.spare < FEE;
                let is_refused = part.is_poor && model.phase == Phase::Closed;
                if paid < signed && !(is_refused || is_lacking) {
                    let text = format!("{worker:?} at proxy {p}: {signed} signed, {paid} paid");
                    return self.fail("a coin cannot be withdrawn", text);
                }
            }
            if !part.is_gone && model.phase != Phase::Closed {
                let text = format!("proxy {p}: {:?}", model.phase);
                return self.fail("an old contract was never closed", text);
            }
        }
    }
}
