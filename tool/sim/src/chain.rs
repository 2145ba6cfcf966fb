//! The chain: contracts as far as payments see them, blocks that may stall, messages that may get
//! lost, and the hand of a proxy that sends and reads.

use std::collections::BTreeMap;

use bytes::Bytes;
use cocoon_contract::address::{self, ProxyIdentity};
use cocoon_contract::payment::{PaymentKind, SignedPayment};
use cocoon_contract::state::{ClientConst, Phase};
use cocoon_ledger::{AccountId, ClientStatus};
use cocoon_role_proxy::{ChainFact, ChainOrder};
use cocoon_units::{Address, Nanoton, Tokens};
use ed25519_dalek::SigningKey;

use crate::contracts::EPOCH_MS;
use crate::liar::account;
use crate::mutant::Mutant;
use crate::plan::NodeId;
use crate::pool::Contracts;
use crate::world::{Event, FEE, PRICE, World};

/// A client's first deposit.
pub(crate) const DEPOSIT: u64 = 6_000_000_000;
/// A client's stake, the least that the network asks for: the part of its balance that stays when
/// it withdraws, and what it may use between two charges.
const STAKE: u64 = 1_000_000_000;
/// A proxy's stake, enough for everything that a world can lose.
pub(crate) const PROXY_STAKE: u64 = 20_000_000_000;
/// What a client pays in later.
pub(crate) const TOP_UP: u64 = STAKE;
/// Pause before a message that did not go through is sent again.
const RESEND_MS: u64 = 20_000;

/// A message to the chain.
#[derive(Clone, Debug)]
pub(crate) enum Message {
    /// An order of a proxy's process, with its number there.
    Order { number: u64, order: ChainOrder },
    /// A client registers a nonce; its contract is deployed with it.
    Register { client: u8, nonce: u64 },
    /// A client pays money in.
    TopUp { client: u8 },
    /// A client wants its money back.
    Close { client: u8 },
    /// Anybody posts a charge that a proxy signed, or did not.
    Post { client: u8, body: Bytes },
}

/// All contracts, and the weather.
#[derive(Default)]
pub(crate) struct Chain {
    pub(crate) contracts: Vec<Contracts>,
    pub(crate) stalled_until_ms: u64,
    pub(crate) loses_until_ms: u64,
    pub(crate) orders: u64,
    /// When the last fact reaches each proxy: a hand reads the chain in its order.
    pub(crate) told_ms: BTreeMap<u8, u64>,
}

impl World {
    /// A proxy's machine wants something on the chain.
    pub(crate) fn order(&mut self, p: u8, order: ChainOrder) {
        if matches!(order, ChainOrder::WindDown { .. }) {
            // No hand carries it out yet.
            return self.note(NodeId::Proxy(p), "winds down", 0, 0);
        }
        self.check_order(p, &order);
        self.chain.orders += 1;
        let number = self.chain.orders;
        if let Some(node) = self.proxies.get_mut(usize::from(p)) {
            node.orders.insert(number, order.clone());
        }
        if self.mutant == Some(Mutant::CommitNotAwaited)
            && let ChainOrder::SaveState { seqno, session } = order
        {
            self.fact(p, ChainFact::CommitSeen { seqno, session });
        }
        self.send_to_chain(p, Message::Order { number, order });
    }

    /// No message leaves before the record that justifies it is durable.
    fn check_order(&mut self, p: u8, order: &ChainOrder) {
        let shadow = &self.proxies[usize::from(p)].shadow;
        let client = |id: &AccountId| shadow.client(*id).map_or(0, |c| c.counters().max().0);
        let worker = |id: &AccountId| shadow.worker(*id).map_or(0, |w| w.counters().committed().0);
        let (what, value, limit) = match order {
            ChainOrder::SaveState { seqno, .. } => {
                ("commit", u64::from(*seqno), shadow.seqno().into())
            }
            ChainOrder::Charge { client: id, tokens, .. }
            | ChainOrder::GrantRefund { client: id, tokens, .. } => {
                ("charge", tokens.0, client(id))
            }
            ChainOrder::Payout { worker: id, tokens, .. } => ("payout", tokens.0, worker(id)),
            ChainOrder::WindDown { .. } => return,
        };
        if value > limit {
            let text = format!("proxy {p}: {what} {value}, on disk are {limit}");
            self.fail("a chain message left before its record", text);
        }
    }

    /// Sends a message; it arrives in some block, or gets lost.
    pub(crate) fn send_to_chain(&mut self, p: u8, message: Message) {
        let mut at_ms = self.now_ms + self.chance.between(1_500, 9_000);
        if self.now_ms < self.chain.loses_until_ms && self.chance.percent(60) {
            self.note(NodeId::Chain, "loses a message", p.into(), 0);
            let own = !matches!(message, Message::Order { .. });
            if own {
                // Clients try again themselves.
                self.at(self.now_ms + RESEND_MS, Event::Block { proxy: p, message });
            }
            return;
        }
        at_ms = at_ms.max(self.chain.stalled_until_ms + 500);
        self.at(at_ms, Event::Block { proxy: p, message });
    }

    /// The proxy's hand sends again what did not come back.
    pub(crate) fn resend_orders(&mut self, p: u8) {
        if !self.now_ms.is_multiple_of(30_000) || self.mutant == Some(Mutant::OrdersNotResent) {
            return;
        }
        let Some(node) = self.proxies.get(usize::from(p)) else { return };
        let orders: Vec<_> = node.orders.iter().map(|(n, order)| (*n, order.clone())).collect();
        for (number, order) in orders {
            self.send_to_chain(p, Message::Order { number, order });
        }
    }

    /// A fact reaches a proxy's process; one that has died since reads the chain at its start.
    fn fact(&mut self, p: u8, fact: ChainFact) {
        let life = self.life(NodeId::Proxy(p));
        let last_ms = self.chain.told_ms.get(&p).copied().unwrap_or(0);
        let at_ms = (self.now_ms + self.chance.between(300, 4_000)).max(last_ms);
        self.chain.told_ms.insert(p, at_ms);
        // A commit is seen twice: through the wallet and on the contract.
        if matches!(fact, ChainFact::CommitSeen { .. }) && self.chance.percent(40) {
            let again_ms = at_ms + self.chance.between(0, 3_000);
            self.at(again_ms, Event::Fact { proxy: p, life, fact: fact.clone() });
        }
        self.at(at_ms, Event::Fact { proxy: p, life, fact });
    }

    /// What a process reads when it starts: commits after the last one that its journal knows to
    /// be confirmed, and the contracts as they are.
    pub(crate) fn proxy_reads_chain(&mut self, p: u8) {
        if !self.plan.real_chain {
            return;
        }
        let Some(machine) = &self.proxies[usize::from(p)].machine else { return };
        let books = machine.books();
        let pending = books.pending_commits().next().map(|(seqno, _)| seqno);
        // The commit of this process itself was started just now.
        let confirmed = pending.map_or(books.seqno(), |seqno| seqno - 1);
        let contracts = self.chain.contracts[usize::from(p)].clone();
        if let Some((seqno, session)) = contracts.last.filter(|(seqno, _)| *seqno > confirmed) {
            self.fact(p, ChainFact::CommitSeen { seqno, session });
        }
        for client in contracts.clients.keys() {
            self.client_fact(p, *client);
        }
        for (worker, paid_out) in contracts.workers {
            self.fact(p, ChainFact::WorkerSeen { worker, paid_out: Tokens(paid_out) });
        }
    }

    fn client_fact(&mut self, p: u8, client: AccountId) {
        let Some(contract) = self.chain.contracts[usize::from(p)].clients.get(&client) else {
            return;
        };
        let fact = ChainFact::ClientSeen {
            client,
            status: contract.status,
            balance: Nanoton(contract.balance),
            stake: Nanoton(contract.stake),
            charged: Tokens(contract.used),
            secret_hash: self.clients[0].identity.secret_hash(),
        };
        self.fact(p, fact);
    }

    /// A client's nonce must stand on chain before it is served.
    pub(crate) fn register(&mut self, client: u8, p: u8, nonce: u64) {
        if self.plan.real_chain {
            self.send_to_chain(p, Message::Register { client, nonce });
        }
    }

    /// A message is in a block.
    pub(crate) fn block(&mut self, p: u8, message: Message) {
        self.look_for_spare(p);
        let mirrored = self.contracts.is_some().then(|| message.clone());
        let was_normal = self.is_normal(p, &message);
        if self.now_ms < self.chain.stalled_until_ms {
            let at_ms = self.chain.stalled_until_ms + 500;
            return self.at(at_ms, Event::Block { proxy: p, message });
        }
        match message {
            Message::Order { number, order } => {
                self.carry_out(p, order);
                if let Some(node) = self.proxies.get_mut(usize::from(p)) {
                    node.orders.remove(&number);
                }
            }
            Message::Register { client, nonce } => {
                let id = account(crate::client::owner(client));
                let contracts = &mut self.chain.contracts[usize::from(p)];
                contracts.open(id, STAKE, DEPOSIT);
                self.client_fact(p, id);
                self.fact(p, ChainFact::Registered { client: id, nonce });
            }
            Message::TopUp { client } => self.change_client(p, client, |contracts, id| {
                contracts.deposit(id, TOP_UP);
            }),
            Message::Close { client } => {
                let keeps = self.mutant == Some(Mutant::CloseKeepsFree);
                let now_s = (EPOCH_MS + self.now_ms) / 1_000;
                let unlock_s = now_s + u64::from(self.root.network.params.client_delay_s);
                self.change_client(p, client, |contracts, id| {
                    contracts.starts_to_close(id, unlock_s, keeps);
                });
            }
            Message::Post { client, body } => self.post(p, client, &body),
        }
        if let Some(message) = mirrored {
            self.mirror(p, &message, was_normal);
        }
    }

    /// Whether the client that a message is about has an open contract.
    fn is_normal(&self, p: u8, message: &Message) -> bool {
        let Message::Close { client } = message else { return true };
        let id = account(crate::client::owner(*client));
        let contract = self.chain.contracts[usize::from(p)].clients.get(&id);
        contract.is_some_and(|contract| contract.status == ClientStatus::Normal)
    }

    /// Whether a client has a contract at a proxy.
    pub(crate) fn has_contract(&self, client: u8, p: u8) -> bool {
        let id = account(crate::client::owner(client));
        self.chain.contracts[usize::from(p)].clients.contains_key(&id)
    }

    fn change_client(&mut self, p: u8, client: u8, change: impl FnOnce(&mut Contracts, AccountId)) {
        let id = account(crate::client::owner(client));
        let contracts = &mut self.chain.contracts[usize::from(p)];
        if contracts.clients.contains_key(&id) {
            change(contracts, id);
            self.check_pool(p);
            self.client_fact(p, id);
        }
    }

    fn carry_out(&mut self, p: u8, order: ChainOrder) {
        self.note(NodeId::Chain, "takes an order", p.into(), 0);
        match order {
            ChainOrder::SaveState { seqno, session } => {
                let contracts = &mut self.chain.contracts[usize::from(p)];
                if contracts.last.is_none_or(|(last, _)| seqno > last) {
                    contracts.last = Some((seqno, session));
                    self.truth.commit_stands(p, seqno);
                    if self.mutant != Some(Mutant::CommitNotAwaited) {
                        self.fact(p, ChainFact::CommitSeen { seqno, session });
                    }
                } else if contracts.last == Some((seqno, session)) {
                    // Sent twice, taken once.
                } else {
                    self.note(NodeId::Chain, "refuses a commit", p.into(), seqno.into());
                }
            }
            ChainOrder::Charge { client, contract, body, .. } => {
                self.charge(p, client, &contract, &body, PaymentKind::ClientCharge);
                self.fact(p, ChainFact::ClientOrderDone { client });
            }
            ChainOrder::GrantRefund { client, contract, body, .. } => {
                self.charge(p, client, &contract, &body, PaymentKind::ClientGrantRefund);
                self.fact(p, ChainFact::ClientOrderDone { client });
            }
            ChainOrder::Payout { worker, contract, body, .. } => {
                let kind = PaymentKind::WorkerPayout;
                if let Some(tokens) = self.is_body_good(p, &body, kind, &contract) {
                    self.pay_worker(p, worker, tokens, false);
                    let paid_out = self.chain.contracts[usize::from(p)].workers.get(&worker);
                    let paid_out = Tokens(paid_out.copied().unwrap_or(0));
                    self.fact(p, ChainFact::WorkerSeen { worker, paid_out });
                }
                self.fact(p, ChainFact::WorkerOrderDone { worker });
            }
            ChainOrder::WindDown { .. } => {}
        }
    }

    /// Charges a client's contract by a signed body.
    fn charge(&mut self, p: u8, id: AccountId, at: &Address, body: &[u8], kind: PaymentKind) {
        let Some(tokens) = self.is_body_good(p, body, kind, at) else {
            return self.note(NodeId::Chain, "refuses a charge", p.into(), 0);
        };
        let limit =
            self.proxies[usize::from(p)].shadow.client(id).map_or(0, |c| c.counters().max().0);
        let contract = self.chain.contracts[usize::from(p)].clients.get(&id);
        if tokens > limit && contract.is_some_and(|contract| contract.takes(tokens, kind)) {
            let text = format!("proxy {p} charges {tokens}, on disk are {limit}");
            return self.fail("charged above the books", text);
        }
        self.book_charge(p, id, tokens, kind);
    }

    /// A charge whose signature is good; whether it had its effect.
    pub(crate) fn book_charge(
        &mut self,
        p: u8,
        id: AccountId,
        tokens: u64,
        kind: PaymentKind,
    ) -> bool {
        let cumulative = self.mutant != Some(Mutant::ChargeNotCumulative);
        let forgets = self.mutant == Some(Mutant::ShortForgotten);
        let contracts = &mut self.chain.contracts[usize::from(p)];
        let Some(contract) = contracts.clients.get_mut(&id) else { return false };
        if !contract.takes(tokens, kind) {
            return false;
        }
        let mut owed = if cumulative { tokens - contract.used } else { tokens };
        if contract.status == ClientStatus::Closed {
            // What an earlier refund fell short of pays no more tokens than it can.
            owed = owed.min(contract.balance / PRICE);
        }
        let pays = owed.saturating_mul(PRICE);
        if pays > contract.balance {
            let text = format!("{id:?} owes {pays}, has {}", contract.balance);
            self.fail("a client cannot pay", text);
            return false;
        }
        contract.balance -= pays;
        contract.used = if cumulative { contract.used + owed } else { tokens };
        contract.paid += pays;
        if kind == PaymentKind::ClientGrantRefund {
            let all = contract.balance;
            contract.status = ClientStatus::Closed;
            contracts.refund(id, all, forgets);
        }
        self.check_pool(p);
        self.check_sheet(p, id);
        self.note(NodeId::Chain, "charges", tokens, pays);
        self.client_fact(p, id);
        true
    }

    /// The sheet of a proxy's contract closes.
    pub(crate) fn check_pool(&mut self, p: u8) {
        if let Err(text) = self.chain.contracts[usize::from(p)].check() {
            self.fail("balance sheet of a proxy contract", format!("proxy {p}: {text}"));
        }
    }

    /// A client contract's balance sheet closes.
    pub(crate) fn check_sheet(&mut self, p: u8, id: AccountId) {
        let Some(contract) = self.chain.contracts[usize::from(p)].clients.get(&id) else { return };
        let sheet = contract.balance + contract.paid + contract.refunded;
        if sheet != contract.deposited || contract.paid != contract.used * PRICE {
            let text = format!("{id:?}: {contract:?}");
            self.fail("balance sheet of a contract", text);
        }
    }

    /// Pays a worker by a total whose signature is good; whether it had its effect.
    pub(crate) fn pay_worker(
        &mut self,
        p: u8,
        worker: AccountId,
        tokens: u64,
        is_last: bool,
    ) -> bool {
        let cumulative = self.mutant != Some(Mutant::PayoutNotCumulative);
        let contracts = &mut self.chain.contracts[usize::from(p)];
        let before = contracts.workers.get(&worker).copied().unwrap_or(0);
        if contracts.closed_workers.contains(&worker)
            || contracts.phase == Phase::Closed
            || tokens < before
        {
            return false;
        }
        let owed = if cumulative { tokens - before } else { tokens };
        let pays = contracts.pay(worker, owed);
        if !cumulative || self.mutant == Some(Mutant::ShortCountsAsPaid) {
            contracts.workers.insert(worker, tokens);
        }
        if is_last && pays == owed && !contracts.bounces {
            contracts.closed_workers.insert(worker);
        }
        let (got, paid) = contracts.paid_to(worker);
        if got != paid * FEE {
            let text = format!("{worker:?} got {got} for {paid} tokens");
            self.fail("a worker was not paid what it earned", text);
        }
        self.check_pool(p);
        pays > 0 || owed == 0
    }

    fn post(&mut self, p: u8, client: u8, body: &[u8]) {
        let Some(contract) = self.client_contract(p, client) else { return };
        let id = account(crate::client::owner(client));
        self.charge(p, id, &contract, body, PaymentKind::ClientCharge);
    }

    pub(crate) fn client_contract(&self, p: u8, client: u8) -> Option<Address> {
        let identity = crate::proxy::identity(p);
        let proxy = ProxyIdentity {
            owner: identity.owner,
            public_key: identity.public_key(),
            root: identity.root,
        };
        let network = &self.root.network;
        let contract = address::proxy(&proxy, network).ok()?;
        let owner = crate::client::owner(client);
        let constants = ClientConst { owner, proxy: contract, public_key: proxy.public_key };
        address::client(&constants, network).ok()
    }

    /// The client looks at its contracts: pays in when little is left, posts the charge it holds
    /// when its stake is half used (protocol notes, chain 3.5); sometimes somebody posts a forgery.
    pub(crate) fn client_watches_chain(&mut self, c: u8) {
        if !self.plan.real_chain || !self.now_ms.is_multiple_of(15_000) {
            return;
        }
        for p in 0..self.plan.proxies {
            let id = account(crate::client::owner(c));
            let contracts = &self.chain.contracts[usize::from(p)];
            let Some(contract) = contracts.clients.get(&id).cloned() else { continue };
            if contract.balance < 3 * STAKE && contract.status == ClientStatus::Normal {
                self.send_to_chain(p, Message::TopUp { client: c });
            }
            let books = self.clients[usize::from(c)].books.channels.channels();
            let held = books
                .map(|(_, channel)| channel)
                .find(|channel| Some(channel.own_contract) == self.client_contract(p, c));
            let held =
                held.and_then(|x| Some((x.books.signed().0, x.books.max().0, x.payment.clone()?)));
            if let Some((signed, max, body)) = held
                && max.saturating_sub(contract.used).saturating_mul(PRICE) > contract.stake / 2
                && signed > contract.used
            {
                self.send_to_chain(p, Message::Post { client: c, body: body.into() });
            }
            if self.chance.percent(5) {
                self.forge(p, c, contract.used + 500);
            }
        }
    }

    /// Somebody without the proxy's key signs a charge.
    fn forge(&mut self, p: u8, c: u8, tokens: u64) {
        let Some(target) = self.client_contract(p, c) else { return };
        let key = SigningKey::from_bytes(&[0x99; 32]);
        let kind = PaymentKind::ClientCharge;
        let signed = SignedPayment::sign(kind, 7, Tokens(tokens), target, target, &key);
        if let Ok(body) = signed.and_then(|signed| signed.to_boc()) {
            self.send_to_chain(p, Message::Post { client: c, body: body.into() });
        }
    }
}
