//! The hands of the last act: each looks, writes down, sends, waits; and may die at any of it.

use cocoon_contract::payment::SignedPayment;
use cocoon_contract::state::Phase;
use cocoon_contract::wallet::Outgoing;
use cocoon_ledger::AccountId;
use cocoon_role_proxy::{OldSight, WindDown, WindStep};
use cocoon_settle::{
    ClientLife, ClientPolicy, ClientSite, ClientView, Held, Next, Order, SettleLog, SettleRecord,
    Wait, Wish, WorkerLife, WorkerPolicy, WorkerSite, WorkerView,
};
use cocoon_units::{Address, Nanoton, Tokens};

use super::look::{unix_s, world_ms};
use super::{After, Event};
use crate::contracts::{Purse, wallet_address};
use crate::liar::account;
use crate::mutant::Mutant;
use crate::plan::Fate;
use crate::world::World;

/// What every wallet has.
const WALLET: Nanoton = Nanoton(900_000_000_000);
/// After so long without a word of the proxy a client asks for its money.
const LOST_S: u64 = 3_600;
/// How often a hand looks when nothing tells it when.
const LOOK_MS: u64 = 30_000;
/// How long a wallet waits before it says that a message cannot arrive any more.
const EXPIRES_MS: u64 = 120_000;
/// Pause of the winding hand after a step that did not go through.
const PAUSE_MS: u64 = 10_000;

/// Whose hand, and its machine.
pub(super) enum Role {
    /// Of a proxy that winds its old contract down.
    Winding { p: u8, machine: Option<Box<WindDown>> },
    /// Of a client that has money at a proxy.
    Client { c: u8, p: u8, life: Box<ClientLife>, log: SettleLog },
    /// Of a worker that has earned at a proxy; `collect`: its owner asks for the money.
    Worker {
        w: u8,
        p: u8,
        life: Box<WorkerLife>,
        log: SettleLog,
        payment: Box<SignedPayment>,
        collect: bool,
    },
}

/// A hand.
pub(super) struct Actor {
    pub(super) role: Role,
    /// Grows with every start.
    pub(super) life: u64,
}

/// What a hand does next.
enum Does {
    Sends { label: u64, message: Box<Outgoing>, record: Option<Box<SettleRecord>> },
    WaitsUntil(u64),
    LooksAgain,
    Rests,
}

impl Actor {
    pub(super) fn new(role: Role) -> Self {
        Self { role, life: 0 }
    }

    fn proxy(&self) -> u8 {
        match &self.role {
            Role::Winding { p, .. } | Role::Client { p, .. } | Role::Worker { p, .. } => *p,
        }
    }

    fn purse(&self) -> Purse {
        match &self.role {
            Role::Winding { p, .. } => Purse::Proxy(*p),
            Role::Client { c, .. } => Purse::Client(*c),
            Role::Worker { w, .. } => worker_purse(*w),
        }
    }

    /// What a worker holds a signature for at this proxy.
    pub(super) fn signed_for(&self, proxy: u8) -> Option<(AccountId, u64)> {
        match &self.role {
            Role::Worker { w, p, payment, .. } if *p == proxy => {
                Some((account(crate::worker::owner(*w)), payment.tokens().0))
            }
            _ => None,
        }
    }

    /// A process that is started again: its machine knows what its journal and its wallet know.
    fn starts_again(&mut self, number: usize, after: &After) {
        self.life += 1;
        let known = |label: u64| after.on_the_way.contains(&(number, label));
        match &mut self.role {
            Role::Winding { machine, .. } => *machine = None,
            Role::Client { life, log, .. } => {
                **life = ClientLife::new(life.site().clone(), client_policy());
                if let Some(sent) = sent(log, life.site().contract) {
                    life.apply(sent);
                    if life.flight().is_some_and(|flight| !known(flight.label)) {
                        life.arrived(0);
                    }
                }
            }
            Role::Worker { life, log, .. } => {
                **life = WorkerLife::new(life.site().clone(), worker_policy());
                if let Some(sent) = sent(log, life.site().contract) {
                    life.apply(sent);
                    if life.flight().is_some_and(|flight| !known(flight.label)) {
                        life.arrived(0);
                    }
                }
            }
        }
    }
}

fn sent(log: &SettleLog, contract: Address) -> Option<&SettleRecord> {
    log.site(&contract.hash)?.sent.as_ref()
}

fn client_policy() -> ClientPolicy {
    ClientPolicy { lost_after_s: LOST_S, ..ClientPolicy::default() }
}

fn worker_policy() -> WorkerPolicy {
    // Whatever the fees: here every coin counts.
    WorkerPolicy { payout_last: Nanoton(1), ..WorkerPolicy::default() }
}

/// Workers are paid to an owner's address; the wallet of the node pays for messages.
fn worker_purse(w: u8) -> Purse {
    Purse::Client(4 + w)
}

impl World {
    pub(super) fn client_actor(&self, c: u8, p: u8) -> Option<Actor> {
        let (owner, proxy) = (crate::client::owner(c), Self::proxy_identity(p));
        let site = ClientSite::derive(owner, &proxy, &self.root.network).ok()?;
        let mut log = SettleLog::default();
        log.apply(&site.record(unix_s(self.now_ms)).ok()?);
        let life = Box::new(ClientLife::new(site, client_policy()));
        Some(Actor::new(Role::Client { c, p, life, log }))
    }

    /// `None` for a worker that holds no payment of this proxy.
    pub(super) fn worker_actor(&self, w: u8, p: u8) -> Option<Actor> {
        let (owner, proxy) = (crate::worker::owner(w), Self::proxy_identity(p));
        let site = WorkerSite::derive(owner, &proxy, &self.root.network).ok()?;
        let mut channels = self.workers[usize::from(w)].books.channels.channels();
        let (_, channel) = channels.find(|(_, channel)| channel.own_contract == site.contract)?;
        let payment = Box::new(SignedPayment::from_boc(channel.payment.as_deref()?).ok()?);
        let mut log = SettleLog::default();
        log.apply(&site.record(unix_s(self.now_ms)).ok()?);
        let life = Box::new(WorkerLife::new(site, worker_policy()));
        let collect = self.fate(p) == Fate::Dies;
        Some(Actor::new(Role::Worker { w, p, life, log, payment, collect }))
    }

    /// A hand looks at the chain and does the next thing.
    pub(super) fn wakes(&mut self, after: &mut After, number: usize) {
        let is_bad = after.is_bad_weather(self.now_ms);
        let is_winding = matches!(after.actors[number].role, Role::Winding { .. });
        if is_bad && after.chance.percent(4) {
            return self.dies(after, number);
        }
        let does = if is_winding { self.winds(after, number) } else { self.lives(after, number) };
        let life = after.actors[number].life;
        let wake = Event::Wake { actor: number, life };
        match does {
            Does::Sends { label, message, record } => {
                self.writes_down(after, number, record.as_deref());
                // Between record and order: the wallet never hears of it.
                if is_bad && after.chance.percent(4) {
                    return self.dies(after, number);
                }
                self.sends(after, number, label, message);
                if !is_winding {
                    after.at(self.now_ms + LOOK_MS, wake);
                }
            }
            Does::WaitsUntil(until_s) => {
                after.at(world_ms(until_s).max(self.now_ms + 5_000) + 1_000, wake);
            }
            Does::LooksAgain => after.at(self.now_ms + LOOK_MS, wake),
            Does::Rests => {}
        }
    }

    fn dies(&mut self, after: &mut After, number: usize) {
        let mut it = match after.actors.get_mut(number) {
            Some(it) => std::mem::replace(it, Actor::new(Role::Winding { p: 0, machine: None })),
            None => return,
        };
        it.starts_again(number, after);
        let (life, is_winding) = (it.life, matches!(it.role, Role::Winding { .. }));
        let is_client = matches!(it.role, Role::Client { .. });
        after.actors[number] = it;
        self.note(crate::plan::NodeId::Chain, "a hand dies", number as u64, life);
        let is_forgotten = match self.mutant {
            Some(Mutant::WindingForgotten) => is_winding,
            Some(Mutant::RefundForgotten) => is_client,
            _ => false,
        };
        if !is_forgotten {
            let at_ms = self.now_ms + after.chance.between(100, 300_000);
            after.at(at_ms, Event::Wake { actor: number, life });
        }
    }

    fn writes_down(&self, after: &mut After, number: usize, record: Option<&SettleRecord>) {
        let Some(record) = record else { return };
        match &mut after.actors[number].role {
            Role::Client { log, .. } | Role::Worker { log, .. } => log.apply(record),
            Role::Winding { .. } => {}
        }
    }

    /// Gives a message to the wallet.
    fn sends(&mut self, after: &mut After, number: usize, label: u64, message: Box<Outgoing>) {
        after.on_the_way.insert((number, label));
        let is_bad = after.is_bad_weather(self.now_ms);
        if is_bad && after.chance.percent(20) {
            let at_ms = self.now_ms + EXPIRES_MS;
            return after
                .at(at_ms, Event::Report { actor: number, label, had_effect: Some(false) });
        }
        let longest_ms = if is_bad { EXPIRES_MS } else { 10_000 };
        let mut at_ms = self.now_ms + after.chance.between(1_500, longest_ms);
        if let Some((_, to)) = after.stalls.iter().find(|(from, to)| (*from..*to).contains(&at_ms))
        {
            at_ms = to + 500;
        }
        // Somebody else posts the same again: what is on chain is there for all to copy.
        if is_bad
            && after.chance.percent(5)
            && !matches!(after.actors[number].role, Role::Client { .. })
        {
            let again =
                Event::Arrive { actor: number, label, message: message.clone(), is_again: true };
            after.at(at_ms + after.chance.clone().between(1_000, 60_000), again);
        }
        after.at(at_ms, Event::Arrive { actor: number, label, message, is_again: false });
    }

    pub(super) fn arrives(
        &mut self,
        after: &mut After,
        number: usize,
        label: u64,
        message: &Outgoing,
        is_again: bool,
    ) {
        let (p, purse) = (after.actors[number].proxy(), after.actors[number].purse());
        let had_effect = self.take(after, p, purse, message);
        self.note(crate::plan::NodeId::Chain, "takes", number as u64, u64::from(had_effect));
        if is_again {
            return;
        }
        let is_known = !(after.is_bad_weather(self.now_ms) && after.chance.percent(10));
        let had_effect = is_known.then_some(had_effect);
        let at_ms = self.now_ms + after.chance.between(500, 8_000);
        after.at(at_ms, Event::Report { actor: number, label, had_effect });
    }

    /// The wallet tells whoever runs what became of a message.
    pub(super) fn reported(
        &mut self,
        after: &mut After,
        number: usize,
        label: u64,
        had_effect: Option<bool>,
    ) {
        after.on_the_way.remove(&(number, label));
        let now_s = unix_s(after.chain_ms(self.now_ms));
        let it = &mut after.actors[number];
        let wake = Event::Wake { actor: number, life: it.life };
        match &mut it.role {
            Role::Client { life, .. } => match had_effect {
                _ if life.flight().is_none_or(|flight| flight.label != label) => {}
                Some(false) => life.failed(now_s),
                _ => life.arrived(now_s),
            },
            Role::Worker { life, .. } => match had_effect {
                _ if life.flight().is_none_or(|flight| flight.label != label) => {}
                Some(false) => life.failed(now_s),
                _ => life.arrived(now_s),
            },
            Role::Winding { machine, .. } => {
                // Who began again meanwhile does not listen any more.
                let Some(machine) = machine.as_mut() else { return };
                if let WindStep::Send { message, .. } = machine.step()
                    && message.body.as_ref().and_then(cocoon_role_proxy::query_id) == Some(label)
                {
                    machine.done();
                    after.at(self.now_ms + PAUSE_MS, wake);
                }
            }
        }
    }

    /// A step of winding down.
    fn winds(&mut self, after: &mut After, number: usize) -> Does {
        let Role::Winding { p, .. } = after.actors[number].role else { return Does::Rests };
        let machine = match &mut after.actors[number].role {
            Role::Winding { machine, .. } => machine.take(),
            _ => None,
        };
        let mut machine = match machine {
            Some(machine) => machine,
            None => match self.begins_to_wind(p) {
                Some(machine) => machine,
                None => return Does::Rests,
            },
        };
        if let WindStep::Wait { .. } = machine.step() {
            machine.done();
        }
        let does = loop {
            match machine.step().clone() {
                WindStep::Look(account) => {
                    let data = self.data_of(after, p, account);
                    let time_s = unix_s(after.chain_ms(self.now_ms));
                    let sight = OldSight { data: data.as_ref(), time_s };
                    machine.seen(account, sight, after.chance.bits());
                }
                WindStep::Send { message, .. } => {
                    let label = message.body.as_ref().and_then(cocoon_role_proxy::query_id);
                    break Does::Sends { label: label.unwrap_or_default(), message, record: None };
                }
                WindStep::Wait { until_s } => break Does::WaitsUntil(until_s),
                WindStep::Done { .. } => break Does::Rests,
            }
        };
        if let Role::Winding { machine: place, .. } = &mut after.actors[number].role {
            *place = Some(machine);
        }
        does
    }

    /// The machine from what the disk holds.
    fn begins_to_wind(&mut self, p: u8) -> Option<Box<WindDown>> {
        let old = self.old_books(p)?;
        let identity = crate::proxy::identity(p);
        let machine = WindDown::new(identity, std::sync::Arc::clone(&self.root), &old);
        match machine {
            Ok(machine) => Some(Box::new(machine)),
            Err(fault) => {
                self.fail("old books cannot be wound down", fault.to_string());
                None
            }
        }
    }

    /// The next thing of a client's or worker's contract.
    fn lives(&mut self, after: &mut After, number: usize) -> Does {
        let now_s = unix_s(after.chain_ms(self.now_ms));
        let since_s = unix_s(after.began_ms);
        let query_id = after.chance.bits();
        let is_impatient = after.is_bad_weather(self.now_ms) && after.chance.percent(10);
        let fate = after.parts.get(&after.actors[number].proxy()).map(|part| part.fate);
        let has_moved = matches!(fate, Some(Fate::Moves { .. }));
        match &mut after.actors[number].role {
            Role::Client { c, p, life, .. } => {
                let (own, proxy) = (self.seen_client(*c, *p), self.seen_proxy(*p));
                let view = ClientView {
                    now_s,
                    query_id,
                    own: &own,
                    proxy: &proxy,
                    wallet: WALLET,
                    held: Held { payment: None, counted: Tokens::ZERO, own: Tokens::ZERO },
                    wish: Wish::Use,
                    outdated_since_s: has_moved.then_some(since_s),
                    heard_s: (!has_moved).then_some(since_s),
                    secret_hash: None,
                    nonce: None,
                };
                let next = life.plan(&view);
                if is_impatient
                    && let Next::Wait(Wait::Delay { amount, .. }) = next
                    && amount > Nanoton::ZERO
                {
                    return impatient(life.site(), query_id);
                }
                let is_short = own.state().is_some_and(|state| state.phase == Phase::Closed);
                if is_short
                    && matches!(next, Next::Send(_))
                    && self.mutant == Some(Mutant::ShortNotAsked)
                {
                    return Does::Rests;
                }
                does(next, |order| life.sent(order, &view))
            }
            Role::Worker { w, p, life, payment, collect, .. } => {
                let (own, proxy) = (self.seen_worker(*w, *p), self.seen_proxy(*p));
                let view = WorkerView {
                    now_s,
                    query_id,
                    own: &own,
                    proxy: &proxy,
                    wallet: WALLET,
                    wallet_address: wallet_address(worker_purse(*w)),
                    payment: Some(payment),
                    payment_s: since_s,
                    collect: *collect,
                    leaving: has_moved,
                };
                does(life.plan(&view), |order| life.sent(order, &view))
            }
            Role::Winding { .. } => Does::Rests,
        }
    }
}

/// A client that does not wait for its delay; the contract must.
fn impatient(site: &ClientSite, query_id: u64) -> Does {
    use cocoon_contract::message::{ClientAction, ClientRequest};
    let action = ClientAction::RequestRefund;
    let request = ClientRequest { query_id, action, excess: site.owner };
    match request.cell() {
        Ok(body) => Does::Sends {
            label: query_id,
            message: Box::new(Outgoing::to_contract(
                site.contract,
                cocoon_settle::cost::ATTACHED,
                body,
            )),
            record: None,
        },
        Err(_) => Does::LooksAgain,
    }
}

fn does(next: Next, sent: impl FnOnce(&Order) -> SettleRecord) -> Does {
    match next {
        Next::Send(order) => {
            let record = Some(Box::new(sent(&order)));
            Does::Sends { label: order.label, message: Box::new(order.message), record }
        }
        Next::Wait(
            Wait::Delay { until_s, .. }
            | Wait::Grant { until_s }
            | Wait::Retry { at_s: until_s, .. }
            | Wait::Short { at_s: until_s, .. },
        ) => Does::WaitsUntil(until_s),
        Next::Wait(_) => Does::LooksAgain,
        Next::Done(_) => Does::Rests,
    }
}
