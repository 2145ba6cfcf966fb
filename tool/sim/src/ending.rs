//! The end of a run: misfortunes stop, and then everything must come right within a stated time.

use cocoon_ledger::ClientStatus;
use cocoon_units::Address;

use crate::client::End;
use crate::faults::last_end_ms;
use crate::liar::account;
use crate::plan::{Ask, FaultKind, Lie, NodeId};
use crate::world::{Event, PROBES, World};

/// Time in which everything comes right when misfortunes stop: dead connections are found (60 s),
/// registrations and commits go through, requests that run meet their deadline (99 s).
pub const CALM_MS: u64 = 240_000;
/// Time for the last requests and for the statements about them: commit (30 s), blocks, polls.
pub const PROBE_MS: u64 = 150_000;

impl World {
    /// Plays the whole plan: misfortunes, calm, last requests, reckoning.
    pub(crate) fn play(&mut self, steps_max: u64) {
        let quiet_ms = self.plan.span_ms.max(last_end_ms(&self.plan.faults)) + 1_000;
        self.run_until(quiet_ms, steps_max);
        self.lose_proxies();
        self.calm_down();
        self.run_until(quiet_ms + CALM_MS, steps_max);
        self.ask_last();
        self.run_until(quiet_ms + CALM_MS + PROBE_MS, steps_max);
        if self.violation.is_none() && self.steps < steps_max {
            self.reckon();
            self.bring_home();
        }
    }

    fn calm_down(&mut self) {
        self.note(NodeId::Chain, "misfortunes are over", 0, 0);
        self.quiet = true;
        self.parted.clear();
        for node in self.nodes() {
            if let Some(base) = self.base(node) {
                base.fuse = None;
            }
        }
        for w in 0..self.plan.workers {
            self.disable_worker(w, false);
        }
    }

    pub(crate) fn nodes(&self) -> Vec<NodeId> {
        (0..self.plan.proxies)
            .map(NodeId::Proxy)
            .chain((0..self.plan.clients).map(NodeId::Client))
            .chain((0..self.plan.workers).map(NodeId::Worker))
            .collect()
    }

    /// Every client asks every proxy once more.
    fn ask_last(&mut self) {
        for client in 0..self.plan.clients {
            for proxy in 0..self.plan.proxies {
                if self.closing.contains(&(client, proxy)) || self.is_gone(proxy) {
                    continue;
                }
                let number = PROBES + self.probes.len();
                self.probes.push(Ask {
                    client,
                    at_ms: self.now_ms,
                    tokens: 50,
                    tokens_max: 60,
                    timeout_ms: 60_000,
                    parts: 2,
                    pace_ms: 200,
                    cancel_after_ms: None,
                    proxy: Some(proxy),
                });
                let give_up_ms = self.now_ms + 40_000;
                self.at(self.now_ms, Event::Ask { number, give_up_ms });
            }
        }
    }

    fn reckon(&mut self) {
        self.check_ends();
        for p in (0..self.plan.proxies).filter(|p| !self.is_gone(*p)).collect::<Vec<_>>() {
            self.check_at_rest(p);
        }
        for node in self.nodes() {
            if !matches!(node, NodeId::Proxy(_)) {
                self.check_own_count(node);
                self.check_agreement(node);
            }
        }
        self.check_closed();
    }

    fn check_ends(&mut self) {
        let numbers = self.plan.asks.iter().map(|(number, _)| *number);
        let missing = numbers.clone().find(|number| !self.truth.ends.contains_key(number));
        if let Some(number) = missing {
            return self.fail("a request never ended", format!("request {number}"));
        }
        // A liar alone at work was punished: nobody else can serve.
        let punished =
            self.plan.workers == 1 && matches!(self.plan.liar, Some((NodeId::Worker(_), _)));
        let doubled = self.plan.faults.iter().any(|(_, fault)| {
            matches!(fault.kind, FaultKind::DialAgain { peer: NodeId::Worker(_), .. })
        });
        for number in PROBES..PROBES + self.probes.len() {
            let proxy = self.ask_of(number).and_then(|ask| ask.proxy).unwrap_or(0);
            // Who was told too much refuses the proxy that now says less, for good.
            let refused = self.plan.liar == Some((NodeId::Proxy(proxy), Lie::ProxyInflates));
            match self.truth.ends.get(&number) {
                Some(End::Whole) => {}
                _ if punished || refused => {}
                // Two connections of one worker count its slots twice, and statements over them
                // overtake each other, upon which the worker closes one.
                Some(End::Failed { text, .. })
                    if doubled
                        && (text.contains("too many active")
                            || text.contains("to the worker was lost")) => {}
                end => {
                    let ask = self.ask_of(number).cloned();
                    let text = format!("{ask:?} ended as {end:?}");
                    return self.fail("no service after misfortunes stopped", text);
                }
            }
        }
    }

    /// Nothing runs, nothing is held, everything is committed.
    fn check_at_rest(&mut self, p: u8) {
        let Some(machine) = &self.proxies[usize::from(p)].machine else {
            return self.fail("a proxy is down", format!("proxy {p}"));
        };
        let totals = machine.books().totals();
        let idle = machine.is_idle();
        let open = machine.books().has_uncommitted();
        let held = totals.reserved;
        if let Err(broken) = machine.books().check() {
            return self.fail("rules of the books", format!("proxy {p}: {broken}"));
        }
        if !idle || held > 0 {
            let text = format!("proxy {p}: idle {idle}, {held} tokens held");
            return self.fail("a reservation never ended", text);
        }
        if open {
            self.fail("a commit never ended", format!("proxy {p}"));
        }
    }

    /// A peer's word of a proxy is what the proxy's disk says.
    fn check_agreement(&mut self, node: NodeId) {
        for p in 0..self.plan.proxies {
            let closing = matches!(node, NodeId::Client(c) if self.closing.contains(&(c, p)));
            let proxy_lied = matches!(
                self.plan.liar,
                Some((NodeId::Proxy(liar), Lie::ProxyInflates | Lie::ProxyOldPayment)) if liar == p
            );
            if closing || proxy_lied || self.plan.lies(node) || self.is_gone(p) {
                continue;
            }
            let proxy = &self.proxies[usize::from(p)];
            let Some(machine) = &proxy.machine else { continue };
            let contract: Address = machine.status(cocoon_role_proxy::Now::default()).contract;
            let books = machine.books();
            let counters = match node {
                NodeId::Client(c) => {
                    let id = account(crate::client::owner(c));
                    books.client(id).map(|client| *client.counters())
                }
                NodeId::Worker(w) => {
                    let id = account(crate::worker::owner(w));
                    // The books learn of a worker with its first finished request.
                    let known = books.worker(id).map(|worker| *worker.counters());
                    Some(known.unwrap_or_default())
                }
                _ => None,
            };
            let Some(counters) = counters else {
                return self.fail("a peer is not in the books", format!("{node}, proxy {p}"));
            };
            let theirs = [counters.committed().0, counters.durable().0, counters.max().0];
            let ours = self
                .peer_books(node)
                .and_then(|books| books.totals().get(&contract).map(|t| [t[1], t[2], t[3]]));
            if ours != Some(theirs) {
                let text = format!("{node} knows {ours:?}, proxy {p} has {theirs:?}");
                return self.fail("books do not agree", text);
            }
        }
    }

    /// Money that was asked back is back.
    fn check_closed(&mut self) {
        for (c, p) in self.closing.clone() {
            if self.is_gone(p) {
                continue;
            }
            let id = account(crate::client::owner(c));
            let contract = self.chain.contracts[usize::from(p)].clients.get(&id).cloned();
            let Some(contract) = contract else { continue };
            if contract.status != ClientStatus::Closed {
                let text = format!("client {c}, proxy {p}: {contract:?}");
                return self.fail("money was not given back", text);
            }
        }
    }
}
