//! The life of one client contract at one proxy (protocol notes, chain 3.5, 3.7, 3.9, 3.10).

use cocoon_contract::address::{self, Network, ProxyIdentity, StateInit};
use cocoon_contract::cell::Hash;
use cocoon_contract::message::{ClientAction, ClientRequest};
use cocoon_contract::params::Params;
use cocoon_contract::payment::SignedPayment;
use cocoon_contract::state::{ClientConst, ClientState, Phase, ProxyState};
use cocoon_contract::wallet::Outgoing;
use cocoon_units::{Address, Nanoton, PublicKey, Tokens};

use crate::flight::{Flight, Lane};
use crate::policy::cost;
use crate::record::Before;
use crate::{
    ClientPolicy, Done, Next, Order, Seen, SettleRecord, Side, SiteRecord, Step, Wait, Wish,
};

/// Seconds between two attempts to get what a refund fell short of, and after which a closed
/// contract's balance is its last word: a shortfall comes back within a few blocks.
const SHORT_EVERY_S: u64 = 600;
const LAST_WORD_S: u64 = 30;
/// Seconds by which local time may be ahead of a block's.
const CLOCK_S: u64 = 5;

/// Which contract it is, and what never changes about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientSite {
    /// The client contract.
    pub contract: Address,
    /// The proxy contract.
    pub proxy: Address,
    /// The client's wallet.
    pub owner: Address,
    /// The parameters it was made with.
    pub params: Params,
    /// What it is deployed with; not needed once it is on chain.
    pub init: Option<StateInit>,
    /// What the proxy had counted before this node kept books of it.
    pub counted_before: Tokens,
}

impl ClientSite {
    /// The contract of `owner` at a proxy in a network.
    ///
    /// # Errors
    /// [`cocoon_contract::Fault`] when the network lacks a code: it cannot be used.
    pub fn derive(
        owner: Address,
        proxy: &ProxyIdentity,
        network: &Network,
    ) -> Result<Self, cocoon_contract::Fault> {
        Self::at(owner, address::proxy(proxy, network)?, proxy.public_key, network)
    }

    /// The contract of `owner` at the proxy contract `proxy` of this key.
    ///
    /// # Errors
    /// As [`Self::derive`].
    pub fn at(
        owner: Address,
        proxy: Address,
        proxy_key: PublicKey,
        network: &Network,
    ) -> Result<Self, cocoon_contract::Fault> {
        let init =
            address::client_init(&ClientConst { owner, proxy, public_key: proxy_key }, network)?;
        Ok(Self {
            contract: init.address(),
            proxy,
            owner,
            params: network.params.clone(),
            init: Some(init),
            counted_before: Tokens::ZERO,
        })
    }

    /// The journal's record of a contract opened at this time.
    ///
    /// # Errors
    /// [`cocoon_contract::Fault`] for parameters this program cannot write.
    pub fn record(&self, now_s: u64) -> Result<SettleRecord, cocoon_contract::Fault> {
        SiteRecord::new(Side::Client, (self.contract, self.proxy, self.owner), &self.params)
            .map(|site| SiteRecord { counted_before: self.counted_before, opened_s: now_s, ..site })
            .map(SettleRecord::Opened)
    }

    /// The site of a record.
    ///
    /// # Errors
    /// [`cocoon_contract::Fault`] when the record's parameters cannot be read.
    pub fn from_record(record: &SiteRecord) -> Result<Self, cocoon_contract::Fault> {
        let (contract, proxy, owner, params) = record.read()?;
        let counted_before = record.counted_before;
        Ok(Self { contract, proxy, owner, params, init: None, counted_before })
    }
}

/// What the proxy counts, and what it has signed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Held<'a> {
    /// The best payment, verified for this contract.
    pub payment: Option<&'a SignedPayment>,
    /// The highest total the proxy ever stated.
    pub counted: Tokens,
    /// What was seen to finish by our own count.
    pub own: Tokens,
}

/// What a life looks at.
#[derive(Clone, Copy, Debug)]
pub struct ClientView<'a> {
    /// Unix seconds, never ahead of the chain by more than a few.
    pub now_s: u64,
    /// A random number, to name a message if there is one.
    pub query_id: u64,
    /// The client contract.
    pub own: &'a Seen<ClientState>,
    /// The proxy contract.
    pub proxy: &'a Seen<ProxyState>,
    /// The wallet's coins.
    pub wallet: Nanoton,
    /// What the proxy says.
    pub held: Held<'a>,
    /// What the owner wishes.
    pub wish: Wish,
    /// Since when the network has other parameters, Unix seconds; `None` while it has these.
    pub outdated_since_s: Option<u64>,
    /// When the proxy was last heard of, Unix seconds; `None` when that does not matter.
    pub heard_s: Option<u64>,
    /// Hash of the secret for short authorisation; `None` leaves the one on chain.
    pub secret_hash: Option<Hash>,
    /// What the proxy wants to see registered, while it waits for it.
    pub nonce: Option<u64>,
}

/// The machine.
#[derive(Clone, Debug)]
pub struct ClientLife {
    site: ClientSite,
    policy: ClientPolicy,
    lane: Lane,
    registered: Option<u64>,
    closed_since_s: Option<u64>,
    asked_short_s: Option<u64>,
}

impl ClientLife {
    /// A life with nothing on its way.
    #[must_use]
    pub fn new(site: ClientSite, policy: ClientPolicy) -> Self {
        Self {
            site,
            policy,
            lane: Lane::default(),
            registered: None,
            closed_since_s: None,
            asked_short_s: None,
        }
    }

    /// Which contract it is.
    #[must_use]
    pub const fn site(&self) -> &ClientSite {
        &self.site
    }

    /// What the contract is deployed with, when that is known after all.
    pub fn deploys_with(&mut self, init: Option<StateInit>) {
        self.site.init = init.filter(|init| init.address() == self.site.contract);
    }

    /// What is on its way.
    #[must_use]
    pub const fn flight(&self) -> Option<&Flight> {
        self.lane.flight()
    }

    /// Notes that an order is handed to the wallet; returns the record that must be durable first.
    pub fn sent(&mut self, order: &Order, view: &ClientView<'_>) -> SettleRecord {
        let record = SettleRecord::Sent {
            contract: self.site.contract.hash,
            step: order.step,
            label: order.label,
            before: Before::client(view.own, self.site.params.price_per_token),
        };
        self.apply(&record);
        record
    }

    /// Applies a record of this contract, when it is sent and after a restart.
    pub fn apply(&mut self, record: &SettleRecord) {
        if let SettleRecord::Sent { step, label, before, .. } = *record {
            if let Step::Register { nonce } = step {
                self.registered = Some(nonce);
            }
            self.lane.sent(Flight { step, label, arrived_s: None, before });
        }
    }

    /// The wallet says that the message arrived at the contract, and the contract took it. Its
    /// effect must show soon; otherwise the step is tried again.
    pub fn arrived(&mut self, now_s: u64) {
        self.lane.arrived(now_s);
    }

    /// The wallet says that the message cannot have an effect any more: it was refused, it
    /// bounced, or it expired.
    pub fn failed(&mut self, now_s: u64) {
        self.lane.failed(now_s);
    }

    /// The next thing to do.
    pub fn plan(&mut self, view: &ClientView<'_>) -> Next {
        if matches!(view.own, Seen::Unknown) {
            return Next::Wait(Wait::Chain);
        }
        if let Seen::Broken { reason } = view.own {
            return Next::Wait(Wait::Broken { reason: reason.clone() });
        }
        let price = self.site.params.price_per_token;
        let effect = |flight: &Flight| took_effect(flight, view, price);
        if let Some(wait) = self.lane.look(view.now_s, effect) {
            return Next::Wait(wait);
        }
        if view.wish == Wish::Look {
            return Next::Done(Done::AsWished);
        }
        match view.own {
            Seen::Here { state, .. } => match state.phase {
                Phase::Normal => self.normal(state, view),
                Phase::Closing => self.closing(state, view),
                Phase::Closed => self.closed(state, view),
            },
            _ => self.absent(view),
        }
    }

    /// What is left to use before the next charge or deposit, nanoTON (protocol notes, chain 3.4).
    #[must_use]
    pub fn usable(&self, state: &ClientState, counted: Tokens) -> Nanoton {
        let price = self.site.params.price_per_token;
        let unpaid = price.saturating_mul(counted.saturating_sub(state.tokens_used));
        state.balance.min(state.stake).saturating_sub(unpaid)
    }

    fn absent(&self, view: &ClientView<'_>) -> Next {
        let wanted = matches!(view.wish, Wish::Use | Wish::PaidIn(_));
        if !wanted || view.outdated_since_s.is_some() {
            return Next::Done(Done::NeverOpened);
        }
        if let Some(wait) = self.no_deposit(view) {
            return Next::Wait(wait);
        }
        let Some(init) = self.site.init.clone() else {
            let reason = "the network's parameters have changed since it was opened".to_owned();
            return Next::Wait(Wait::Broken { reason });
        };
        let stake = self.site.params.min_client_stake;
        let order = Order {
            step: Step::Deploy,
            label: view.query_id,
            message: Outgoing::deploy(init, cost::CLIENT_DEPLOY.saturating_add(cost::DEPLOY_FEE)),
            moved: Nanoton::ZERO,
            stays: cost::CLIENT_DEPLOY,
            fees: cost::DEPLOY_FEE,
            returns: Nanoton::ZERO,
            why: format!(
                "the proxy has no contract of ours yet; a deposit of {} follows",
                self.target(stake, view.wish)
            ),
        };
        // The deposit must be possible too, or the contract would stand there for nothing.
        let deposit = self.target(stake, view.wish);
        let more = deposit.saturating_add(cost::ATTACHED);
        self.affordable(order, more, view)
    }

    fn normal(&mut self, state: &ClientState, view: &ClientView<'_>) -> Next {
        if let Some((why, grant_until_s)) = self.reason_to_leave(view) {
            if let Some(until_s) = grant_until_s.filter(|until_s| view.now_s < *until_s) {
                return Next::Wait(Wait::Grant { until_s });
            }
            // A contract that holds nothing is not worth a close, unless it is asked for.
            let free = state.balance.saturating_sub(state.stake);
            return self.ask(Step::AskRefund, ClientAction::RequestRefund, free, why, view);
        }
        if view.wish == Wish::Withdraw {
            let free = state.balance.saturating_sub(state.stake);
            if free == Nanoton::ZERO {
                return Next::Done(Done::AsWished);
            }
            let why = format!("the stake of {} stays", state.stake);
            return self.ask(Step::Withdraw, ClientAction::Withdraw, free, why, view);
        }
        if view.wish == Wish::Charge {
            return match (self.dispute(view), self.payment_due(state, view)) {
                (Some(dispute), _) => Next::Wait(dispute),
                (None, Some(payment)) => self.charge(payment, "it was asked for", view),
                (None, None) => Next::Done(Done::AsWished),
            };
        }
        self.keep_usable(state, view)
    }

    fn keep_usable(&mut self, state: &ClientState, view: &ClientView<'_>) -> Next {
        let price = self.site.params.price_per_token;
        let new_secret = view.secret_hash.filter(|hash| *hash != state.secret_hash);
        let amount = self.deposit_due(state, view);
        if amount > Nanoton::ZERO {
            match self.no_deposit(view) {
                None => return self.deposit(amount, new_secret, state, view),
                // What is there can still be used.
                Some(wait) if view.wish != Wish::Use || state.balance == Nanoton::ZERO => {
                    return Next::Wait(wait);
                }
                Some(_) => {}
            }
        }
        if matches!(view.wish, Wish::PaidIn(_)) {
            return Next::Done(Done::AsWished);
        }
        if let Some(secret_hash) = new_secret {
            let action = ClientAction::ChangeSecretHash { secret_hash };
            let why = "the next connections need no message on chain".to_owned();
            return self.ask(Step::Secret, action, Nanoton::ZERO, why, view);
        }
        if let Some(nonce) = view.nonce.filter(|nonce| self.registered != Some(*nonce)) {
            let why = "the proxy does not know us and asks for a sign of the wallet".to_owned();
            let action = ClientAction::Register { nonce };
            return self.ask(Step::Register { nonce }, action, Nanoton::ZERO, why, view);
        }
        if let Some(payment) = self.charge_due(state, price, view) {
            return self.charge(payment, "without it the proxy lets us use no more", view);
        }
        Next::Wait(self.dispute(view).or_else(|| self.stuck(state, view)).unwrap_or(Wait::Nothing))
    }

    /// What keeps a contract that needs money from getting it.
    fn stuck(&self, state: &ClientState, view: &ClientView<'_>) -> Option<Wait> {
        (self.deposit_due(state, view) > Nanoton::ZERO).then(|| self.no_deposit(view)).flatten()
    }

    /// Why the contract is to be closed, and until when the proxy may do it for free.
    fn reason_to_leave(&self, view: &ClientView<'_>) -> Option<(String, Option<u64>)> {
        if view.wish == Wish::Leave {
            return Some(("the contract is to be closed".to_owned(), None));
        }
        if view.proxy.state().is_some_and(|proxy| proxy.phase != Phase::Normal) {
            // The grant comes with the close; the delays leave us half of the difference.
            let until_s = view.outdated_since_s.map(|since_s| self.grant_until(since_s));
            return Some(("the proxy contract is closing".to_owned(), until_s));
        }
        if let Some(since_s) = view.outdated_since_s {
            let why = "the network has other parameters now, and a new contract".to_owned();
            return Some((why, Some(self.grant_until(since_s))));
        }
        let lost_s = self.policy.lost_after_s;
        let heard_s = view.heard_s.filter(|_| lost_s > 0)?;
        (view.now_s >= heard_s.saturating_add(lost_s))
            .then(|| (format!("the proxy has been silent for {lost_s} s"), None))
    }

    /// Compatible clients leave the proxy half of the difference of the delays (chain 3.10).
    fn grant_until(&self, since_s: u64) -> u64 {
        let params = &self.site.params;
        let difference = params.proxy_delay_s.saturating_sub(params.client_delay_s);
        since_s.saturating_add(u64::from(difference / 2))
    }

    fn closing(&mut self, state: &ClientState, view: &ClientView<'_>) -> Next {
        let until_s = u64::from(state.unlock_s).saturating_add(CLOCK_S);
        if view.now_s <= until_s {
            return Next::Wait(Wait::Delay { until_s, amount: state.balance });
        }
        let why = "the delay is over and the proxy has not given it back".to_owned();
        self.ask(Step::ForceRefund, ClientAction::RequestRefund, state.balance, why, view)
    }

    fn closed(&mut self, state: &ClientState, view: &ClientView<'_>) -> Next {
        let since_s = *self.closed_since_s.get_or_insert(view.now_s);
        if state.balance == Nanoton::ZERO {
            self.asked_short_s = None;
            if view.now_s < since_s.saturating_add(LAST_WORD_S) {
                let until_s = since_s.saturating_add(LAST_WORD_S);
                return Next::Wait(Wait::Delay { until_s, amount: Nanoton::ZERO });
            }
            return Next::Done(Done::Closed);
        }
        if state.balance <= cost::MOVE_FEE {
            return Next::Done(Done::NotWorthIt { left: state.balance });
        }
        let at_s = self.asked_short_s.map_or(0, |asked_s| asked_s.saturating_add(SHORT_EVERY_S));
        if view.now_s < at_s {
            return Next::Wait(Wait::Short { amount: state.balance, at_s });
        }
        self.asked_short_s = Some(view.now_s);
        self.closed_since_s = None;
        let why = "an earlier refund fell short of it".to_owned();
        self.ask(Step::ForceRefund, ClientAction::RequestRefund, state.balance, why, view)
    }

    /// The balance that a deposit fills up to.
    fn target(&self, stake: Nanoton, wish: Wish) -> Nanoton {
        match wish {
            Wish::PaidIn(amount) => amount,
            _ => self.policy.deposit.unwrap_or(stake).max(stake),
        }
    }

    fn deposit_due(&self, state: &ClientState, view: &ClientView<'_>) -> Nanoton {
        let price = self.site.params.price_per_token;
        if let Wish::PaidIn(target) = view.wish {
            return target.saturating_sub(Before::client(view.own, price).paid_in);
        }
        let target = self.target(state.stake, view.wish);
        let low = self.policy.low.unwrap_or(Nanoton(target.0 / 2)).min(target);
        let unpaid = price.saturating_mul(view.held.counted.saturating_sub(state.tokens_used));
        let left = state.balance.saturating_sub(unpaid);
        if left >= low {
            return Nanoton::ZERO;
        }
        let amount = target.saturating_sub(left);
        // Whole tokens only: the rest of a token buys nothing.
        Nanoton(amount.0 - amount.0.checked_rem(price.0).unwrap_or(0))
    }

    /// Why the proxy gets no deposit.
    fn no_deposit(&self, view: &ClientView<'_>) -> Option<Wait> {
        let proxy = match view.proxy {
            Seen::Unknown => return Some(Wait::Chain),
            Seen::Absent { .. } => return Some(Wait::ProxyAbsent),
            Seen::Broken { reason } => return Some(Wait::Broken { reason: reason.clone() }),
            Seen::Here { state, .. } => state,
        };
        if proxy.phase != Phase::Normal {
            return Some(Wait::ProxyLeaves);
        }
        let needs = self.policy.least_proxy_stake.unwrap_or(self.site.params.min_proxy_stake);
        if proxy.stake < needs {
            return Some(Wait::ProxyStake { has: proxy.stake, needs });
        }
        self.dispute(view)
    }

    /// The proxy counts more than we saw, beyond what may be on its way.
    fn dispute(&self, view: &ClientView<'_>) -> Option<Wait> {
        let Held { counted, own, payment } = view.held;
        let signed = payment.map_or(Tokens::ZERO, SignedPayment::tokens);
        let own = own.saturating_add(self.site.counted_before);
        let counted = counted.max(signed);
        let more = self.site.params.price_per_token.saturating_mul(counted.saturating_sub(own));
        (more > self.policy.dispute).then_some(Wait::Dispute { counted, own })
    }

    fn deposit(
        &self,
        amount: Nanoton,
        new_secret: Option<Hash>,
        state: &ClientState,
        view: &ClientView<'_>,
    ) -> Next {
        let action = match new_secret {
            Some(secret_hash) => ClientAction::ChangeSecretHashAndTopUp { amount, secret_hash },
            None => ClientAction::TopUp { amount },
        };
        let step = Step::Deposit { amount, with_secret: new_secret.is_some() };
        let why = format!("the balance is {}", state.balance);
        self.request(step, action, (amount, Nanoton::ZERO), why, view)
    }

    fn ask(
        &self,
        step: Step,
        action: ClientAction,
        returns: Nanoton,
        why: String,
        view: &ClientView<'_>,
    ) -> Next {
        self.request(step, action, (Nanoton::ZERO, returns), why, view)
    }

    fn request(
        &self,
        step: Step,
        action: ClientAction,
        (moved, returns): (Nanoton, Nanoton),
        why: String,
        view: &ClientView<'_>,
    ) -> Next {
        let request = ClientRequest { query_id: view.query_id, action, excess: self.site.owner };
        let Ok(body) = request.cell() else {
            return Next::Wait(Wait::Broken { reason: "a message could not be built".to_owned() });
        };
        let value = moved.saturating_add(cost::ATTACHED);
        let order = Order {
            step,
            label: view.query_id,
            message: Outgoing::to_contract(self.site.contract, value, body),
            moved,
            stays: Nanoton::ZERO,
            fees: match step {
                Step::Secret | Step::Register { .. } => cost::TELL_FEE,
                _ => cost::MOVE_FEE,
            },
            returns,
            why,
        };
        self.affordable(order, Nanoton::ZERO, view)
    }

    /// The payment to submit, when the proxy leaves us short of credit and its total is honest.
    fn charge_due<'a>(
        &self,
        state: &ClientState,
        price: Nanoton,
        view: &ClientView<'a>,
    ) -> Option<&'a SignedPayment> {
        let payment = self.payment_due(state, view)?;
        if state.balance < price || self.dispute(view).is_some() {
            return None;
        }
        let unpaid = price.saturating_mul(view.held.counted.saturating_sub(state.tokens_used));
        let limit = state.stake.0 / 100 * u64::from(self.policy.charge_percent.min(100));
        (unpaid.0 > limit).then_some(payment)
    }

    /// The payment, when it is for more than was charged.
    fn payment_due<'a>(
        &self,
        state: &ClientState,
        view: &ClientView<'a>,
    ) -> Option<&'a SignedPayment> {
        let is_due = |payment: &&SignedPayment| {
            payment.tokens() > state.tokens_used && payment.target() == self.site.contract
        };
        view.held.payment.filter(is_due)
    }

    fn charge(&self, payment: &SignedPayment, why: &str, view: &ClientView<'_>) -> Next {
        let Ok(body) = payment.repack(self.site.owner).cell() else {
            return Next::Wait(Wait::Broken { reason: "a message could not be built".to_owned() });
        };
        let order = Order {
            step: Step::Charge { tokens: payment.tokens() },
            label: view.query_id,
            message: Outgoing::to_contract(self.site.contract, cost::ATTACHED, body),
            moved: Nanoton::ZERO,
            stays: Nanoton::ZERO,
            fees: cost::TELL_FEE,
            returns: Nanoton::ZERO,
            why: why.to_owned(),
        };
        self.affordable(order, Nanoton::ZERO, view)
    }

    /// Sends when the wallet can pay it and what follows.
    fn affordable(&self, order: Order, more: Nanoton, view: &ClientView<'_>) -> Next {
        let needs = order
            .message
            .value
            .saturating_add(more)
            .saturating_add(order.fees)
            .saturating_add(cost::WALLET_FLOOR);
        if view.wallet < needs {
            return Next::Wait(Wait::Funds { wallet: self.site.owner, has: view.wallet, needs });
        }
        Next::Send(Box::new(order))
    }
}

/// Whether the chain shows what a message was to bring.
fn took_effect(flight: &Flight, view: &ClientView<'_>, price: Nanoton) -> bool {
    let Seen::Here { state, last_lt, .. } = view.own else { return false };
    let now = Before::client(view.own, price);
    let before = &flight.before;
    match flight.step {
        Step::Deploy => true,
        Step::Deposit { amount, .. } => now.paid_in >= before.paid_in.saturating_add(amount),
        Step::Secret => view.secret_hash.is_none_or(|hash| hash == state.secret_hash),
        Step::Register { .. } => *last_lt > before.last_lt,
        Step::Charge { .. } => now.tokens > before.tokens,
        Step::Withdraw => now.balance < before.balance,
        Step::AskRefund => state.phase != Phase::Normal,
        // Also a refund that came back: the next look sees what is still owed.
        Step::ForceRefund => state.phase == Phase::Closed && *last_lt > before.last_lt,
        Step::Payout { .. } => true,
    }
}
