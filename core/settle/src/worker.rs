//! The life of one worker contract at one proxy (protocol notes, chain 1.5, 3.5, 3.10).

use cocoon_contract::address::{self, Network, ProxyIdentity, StateInit};
use cocoon_contract::params::Params;
use cocoon_contract::payment::SignedPayment;
use cocoon_contract::state::{Phase, ProxyState, WorkerState};
use cocoon_contract::wallet::Outgoing;
use cocoon_units::{Address, Nanoton, PublicKey, Tokens};

use crate::flight::{Flight, Lane};
use crate::policy::cost;
use crate::record::Before;
use crate::{Done, Next, Order, Seen, SettleRecord, Side, SiteRecord, Step, Wait, WorkerPolicy};

/// Least seconds between two payouts: a payout that fell short comes back within a few blocks, and
/// the proxy contract needs time to get coins again.
const PAYOUT_EVERY_S: u64 = 600;

/// Which contract it is, and what never changes about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerSite {
    /// The worker contract.
    pub contract: Address,
    /// The proxy contract.
    pub proxy: Address,
    /// Whom earnings are paid to.
    pub owner: Address,
    /// The parameters it was made with.
    pub params: Params,
    /// What it is deployed with; not needed once it is on chain.
    pub init: Option<StateInit>,
}

impl WorkerSite {
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
        let init = address::worker_init(owner, proxy, proxy_key, network)?;
        Ok(Self {
            contract: init.address(),
            proxy,
            owner,
            params: network.params.clone(),
            init: Some(init),
        })
    }

    /// The journal's record of a contract opened at this time.
    ///
    /// # Errors
    /// [`cocoon_contract::Fault`] for parameters this program cannot write.
    pub fn record(&self, now_s: u64) -> Result<SettleRecord, cocoon_contract::Fault> {
        SiteRecord::new(Side::Worker, (self.contract, self.proxy, self.owner), &self.params)
            .map(|site| SiteRecord { opened_s: now_s, ..site })
            .map(SettleRecord::Opened)
    }

    /// The site of a record.
    ///
    /// # Errors
    /// [`cocoon_contract::Fault`] when the record's parameters cannot be read.
    pub fn from_record(record: &SiteRecord) -> Result<Self, cocoon_contract::Fault> {
        let (contract, proxy, owner, params) = record.read()?;
        Ok(Self { contract, proxy, owner, params, init: None })
    }
}

/// What a life looks at.
#[derive(Clone, Copy, Debug)]
pub struct WorkerView<'a> {
    /// Unix seconds.
    pub now_s: u64,
    /// A random number, to name a message if there is one.
    pub query_id: u64,
    /// The worker contract.
    pub own: &'a Seen<WorkerState>,
    /// The proxy contract.
    pub proxy: &'a Seen<ProxyState>,
    /// The coins of the node's wallet, which pays for messages.
    pub wallet: Nanoton,
    /// The node's wallet, which gets unused value back.
    pub wallet_address: Address,
    /// The best payment, verified for this contract.
    pub payment: Option<&'a SignedPayment>,
    /// When that payment came, Unix seconds.
    pub payment_s: u64,
    /// The owner wants its money now, whatever the thresholds.
    pub collect: bool,
    /// The contract is not used any more: other parameters, or the proxy is gone for good.
    pub leaving: bool,
}

/// The machine.
#[derive(Clone, Debug)]
pub struct WorkerLife {
    site: WorkerSite,
    policy: WorkerPolicy,
    lane: Lane,
    paid_s: Option<u64>,
}

impl WorkerLife {
    /// A life with nothing on its way.
    #[must_use]
    pub fn new(site: WorkerSite, policy: WorkerPolicy) -> Self {
        Self { site, policy, lane: Lane::default(), paid_s: None }
    }

    /// Which contract it is.
    #[must_use]
    pub const fn site(&self) -> &WorkerSite {
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
    pub fn sent(&mut self, order: &Order, view: &WorkerView<'_>) -> SettleRecord {
        let record = SettleRecord::Sent {
            contract: self.site.contract.hash,
            step: order.step,
            label: order.label,
            before: Before::worker(view.own),
        };
        if matches!(order.step, Step::Payout { .. }) {
            self.paid_s = Some(view.now_s);
        }
        self.apply(&record);
        record
    }

    /// Applies a record of this contract, when it is sent and after a restart.
    pub fn apply(&mut self, record: &SettleRecord) {
        if let SettleRecord::Sent { step, label, before, .. } = *record {
            self.lane.sent(Flight { step, label, arrived_s: None, before });
        }
    }

    /// The wallet says that the message arrived at the contract, and the contract took it. Its
    /// effect must show soon; otherwise the step is tried again.
    pub fn arrived(&mut self, now_s: u64) {
        self.lane.arrived(now_s);
    }

    /// The wallet says that the message cannot have an effect any more.
    pub fn failed(&mut self, now_s: u64) {
        self.lane.failed(now_s);
    }

    /// Signed for and not paid out yet, nanoTON.
    #[must_use]
    pub fn owed(&self, own: &Seen<WorkerState>, payment: Option<&SignedPayment>) -> Nanoton {
        let signed = payment
            .filter(|payment| payment.target() == self.site.contract)
            .map_or(Tokens::ZERO, SignedPayment::tokens);
        let paid = own.state().map_or(Tokens::ZERO, |state| state.tokens);
        self.site.params.worker_fee_per_token.saturating_mul(signed.saturating_sub(paid))
    }

    /// The next thing to do.
    pub fn plan(&mut self, view: &WorkerView<'_>) -> Next {
        match view.own {
            Seen::Unknown => return Next::Wait(Wait::Chain),
            Seen::Broken { reason } => {
                return Next::Wait(Wait::Broken { reason: reason.clone() });
            }
            Seen::Absent { .. } | Seen::Here { .. } => {}
        }
        let effect = |flight: &Flight| match (flight.step, view.own.state()) {
            (Step::Deploy, state) => state.is_some(),
            (_, Some(state)) => state.tokens > flight.before.tokens || state.phase == Phase::Closed,
            (_, None) => false,
        };
        if let Some(wait) = self.lane.look(view.now_s, effect) {
            return Next::Wait(wait);
        }
        let owed = self.owed(view.own, view.payment);
        let Some((threshold, why)) = self.threshold(view) else {
            return Next::Wait(Wait::Chain);
        };
        if view.own.state().is_some_and(|state| state.phase == Phase::Closed) {
            return Next::Done(if owed > Nanoton::ZERO {
                Done::NotWorthIt { left: owed }
            } else {
                Done::Closed
            });
        }
        if owed < threshold || owed == Nanoton::ZERO {
            return match view.leaving {
                true if owed > Nanoton::ZERO => Next::Done(Done::NotWorthIt { left: owed }),
                true => Next::Done(Done::AsWished),
                false => Next::Wait(Wait::Nothing),
            };
        }
        if view.proxy.state().is_some_and(|proxy| proxy.phase == Phase::Closed) {
            // A closed proxy contract pays no worker (contracts/DIFFERENCES.md).
            return Next::Done(Done::NotWorthIt { left: owed });
        }
        let at_s = self.paid_s.map_or(0, |paid_s| paid_s.saturating_add(PAYOUT_EVERY_S));
        if view.now_s < at_s {
            return Next::Wait(Wait::Short { amount: owed, at_s });
        }
        self.collect(owed, why, view)
    }

    /// What is worth a payout now, and why.
    fn threshold(&self, view: &WorkerView<'_>) -> Option<(Nanoton, &'static str)> {
        let policy = &self.policy;
        if matches!(view.proxy, Seen::Unknown) {
            return None;
        }
        Some(if view.collect {
            (policy.payout_last, "it was asked for")
        } else if view.leaving {
            (policy.payout_last, "the contract is used no more")
        } else if view.proxy.state().is_some_and(|proxy| proxy.phase != Phase::Normal) {
            (policy.payout_last, "the proxy contract is closing")
        } else if view.now_s >= view.payment_s.saturating_add(policy.idle_s) {
            (policy.payout_idle, "no new payment came for a while")
        } else {
            (policy.payout_at, "it is enough")
        })
    }

    fn collect(&self, owed: Nanoton, why: &str, view: &WorkerView<'_>) -> Next {
        let Some(payment) = view.payment else { return Next::Wait(Wait::Nothing) };
        let broken = |reason: &str| Next::Wait(Wait::Broken { reason: reason.to_owned() });
        if view.own.state().is_some() {
            let Ok(body) = payment.repack(view.wallet_address).cell() else {
                return broken("a message could not be built");
            };
            let order = Order {
                step: Step::Payout { tokens: payment.tokens() },
                label: view.query_id,
                message: Outgoing::to_contract(self.site.contract, cost::ATTACHED, body),
                moved: Nanoton::ZERO,
                stays: Nanoton::ZERO,
                fees: cost::MOVE_FEE,
                returns: owed,
                why: why.to_owned(),
            };
            return affordable(order, view);
        }
        let Some(init) = self.site.init.clone() else {
            return broken("it was never put on chain, and the network's parameters have changed");
        };
        let order = Order {
            step: Step::Deploy,
            label: view.query_id,
            message: Outgoing::deploy(init, cost::WORKER_DEPLOY.saturating_add(cost::DEPLOY_FEE)),
            moved: Nanoton::ZERO,
            stays: cost::WORKER_DEPLOY,
            fees: cost::DEPLOY_FEE,
            returns: Nanoton::ZERO,
            why: format!("{owed} are signed for and paid out through it"),
        };
        affordable(order, view)
    }
}

fn affordable(order: Order, view: &WorkerView<'_>) -> Next {
    let needs = order.message.value.saturating_add(order.fees).saturating_add(cost::WALLET_FLOOR);
    if view.wallet < needs {
        let wallet = view.wallet_address;
        return Next::Wait(Wait::Funds { wallet, has: view.wallet, needs });
    }
    Next::Send(Box::new(order))
}
