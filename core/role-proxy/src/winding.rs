//! Winding an old contract instance down to the last coin (protocol notes, chain 3.10), each step
//! checked on chain before the next.
//!
//! The chain remembers every step, so this machine keeps nothing: after a restart it looks at the
//! accounts again and goes on where they stand.
//!
//! ```text
//!  contract: Normal ──close──► Closing ──► every client: refund ──► every worker: last payout
//!                                          ──► wait for the delay ──► once more who was left
//!                                          ──► complete ──► Closed
//! ```
//!
//! Whoever could not be settled at first is tried once more at the end of the delay: a closed contract
//! pays no worker any more, and messages may just have been lost.

use std::collections::VecDeque;
use std::sync::Arc;

use cocoon_contract::address::worker_init;
use cocoon_contract::cell::Cell;
use cocoon_contract::payment::{CloseKind, PaymentKind, SignedClose, SignedPayment};
use cocoon_contract::root::RootState;
use cocoon_contract::state::{ClientState, Phase, ProxyState, WorkerState};
use cocoon_contract::wallet::Outgoing;
use cocoon_ledger::{AccountId, OldBooks};
use cocoon_units::{Address, Nanoton, Tokens};

use crate::fault::StartFault;
use crate::instance::Instance;
use crate::settings::Identity;

/// What is sent along with a step; the unused value comes back (protocol notes 1.9).
const STEP_VALUE: Nanoton = Nanoton(700_000_000);
/// The same when a worker's contract has to be deployed with it.
const DEPLOY_VALUE: Nanoton = Nanoton(1_000_000_000);
/// How often a step is tried in a round before the account is left.
const TRIES_MAX: u32 = 3;

/// An account as the hand sees it.
#[derive(Clone, Copy, Debug)]
pub struct OldSight<'a> {
    /// Its data; `None` when it is not deployed.
    pub data: Option<&'a Cell>,
    /// Time of the block, Unix seconds.
    pub time_s: u64,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WindStep {
    /// Look at this account and call [`WindDown::seen`].
    Look(Address),
    /// Send this from the node's wallet, wait until it has arrived (or was not sent), then ask
    /// again.
    Send {
        /// What it does, for the log.
        what: &'static str,
        /// The message.
        message: Box<Outgoing>,
    },
    /// Nothing to do before this time, Unix seconds of the chain.
    Wait {
        /// When the contract can be closed.
        until_s: u64,
    },
    /// Everything is wound down.
    Done {
        /// Accounts that could not be settled: the contract has not enough, or refuses. Their
        /// owners can still claim from the contract.
        left: Vec<Address>,
    },
}

enum Party {
    Client { contract: Address, tokens: Tokens },
    Worker { owner: Address, contract: Address, tokens: Tokens },
}

impl Party {
    fn contract(&self) -> Address {
        match self {
            Self::Client { contract, .. } | Self::Worker { contract, .. } => *contract,
        }
    }
}

/// Winds one old instance down.
pub struct WindDown {
    identity: Identity,
    instance: Instance,
    rest: VecDeque<Party>,
    /// Who is tried once more before the contract closes.
    again: VecDeque<Party>,
    is_last_round: bool,
    left: Vec<Address>,
    next: WindStep,
    tries: u32,
}

impl WindDown {
    /// `root` is the state under which the instance was in use, `old` its final totals.
    ///
    /// # Errors
    /// [`StartFault`]: the root's state does not give the instance's addresses.
    pub fn new(
        identity: Identity,
        root: Arc<RootState>,
        old: &OldBooks,
    ) -> Result<Self, StartFault> {
        let instance = Instance::new(&identity, root)?;
        let mut rest = VecDeque::new();
        let address = |account: AccountId| Identity::address_of(account);
        for (client, tokens) in old.clients() {
            let contract = instance.client_contract(address(client))?;
            rest.push_back(Party::Client { contract, tokens });
        }
        for (worker, tokens) in old.workers() {
            let owner = address(worker);
            let contract = instance.worker_contract(owner)?;
            rest.push_back(Party::Worker { owner, contract, tokens });
        }
        let next = WindStep::Look(instance.contract);
        let (again, left) = (VecDeque::new(), Vec::new());
        Ok(Self { identity, instance, rest, again, is_last_round: false, left, next, tries: 0 })
    }

    /// The old contract.
    #[must_use]
    pub fn contract(&self) -> Address {
        self.instance.contract
    }

    /// Accounts that are not settled yet.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.rest.len() + self.again.len()
    }

    /// What to do next.
    #[must_use]
    pub fn step(&self) -> &WindStep {
        &self.next
    }

    /// The message of [`WindStep::Send`] has arrived or was not sent: its account is looked at
    /// again. After [`WindStep::Wait`]: the time may have come.
    pub fn done(&mut self) {
        self.next = WindStep::Look(self.subject());
    }

    /// What [`WindStep::Look`] found. `query_id` is a fresh random number.
    pub fn seen(&mut self, account: Address, sight: OldSight<'_>, query_id: u64) {
        if self.next != WindStep::Look(account) {
            return;
        }
        self.next = if account == self.instance.contract {
            self.contract_seen(sight, query_id)
        } else {
            self.party_seen(sight, query_id)
        };
    }

    fn subject(&self) -> Address {
        match &self.next {
            WindStep::Send { message, .. } => message.to,
            WindStep::Look(account) => *account,
            WindStep::Wait { .. } | WindStep::Done { .. } => self.instance.contract,
        }
    }

    fn contract_seen(&mut self, sight: OldSight<'_>, query_id: u64) -> WindStep {
        let Some((state, _)) = sight.data.and_then(|data| ProxyState::parse(data).ok()) else {
            // Never deployed: nobody can have paid anything in.
            return self.finished();
        };
        let party = self.rest.front().map(Party::contract);
        match (state.phase, party) {
            (Phase::Normal, _) => self.close(CloseKind::Request, "start to close", query_id),
            (Phase::Closing | Phase::Closed, Some(party)) => {
                self.tries = 0;
                WindStep::Look(party)
            }
            (Phase::Closing, None) if sight.time_s < u64::from(state.unlock_s) => {
                // The refunds' tries do not count against the close.
                self.tries = 0;
                WindStep::Wait { until_s: u64::from(state.unlock_s) }
            }
            (Phase::Closing, None) if !self.again.is_empty() => {
                (self.tries, self.is_last_round) = (0, true);
                self.rest = std::mem::take(&mut self.again);
                WindStep::Look(self.rest.front().map_or(self.instance.contract, Party::contract))
            }
            (Phase::Closing, None) => self.close(CloseKind::Complete, "complete close", query_id),
            (Phase::Closed, None) => self.finished(),
        }
    }

    fn close(&mut self, kind: CloseKind, what: &'static str, query_id: u64) -> WindStep {
        let (contract, wallet) = (self.instance.contract, self.identity.wallet);
        let order = SignedClose::sign(kind, query_id, contract, wallet, &self.identity.key);
        let Ok(body) = order.and_then(|order| order.cell()) else { return self.finished() };
        WindStep::Send {
            what,
            message: Box::new(Outgoing::to_contract(contract, STEP_VALUE, body)),
        }
    }

    fn party_seen(&mut self, sight: OldSight<'_>, query_id: u64) -> WindStep {
        let order = self.rest.front().and_then(|party| match party {
            Party::Client { contract, tokens } => {
                let state = ClientState::parse(sight.data?).ok()?.0;
                let is_settled = state.phase == Phase::Closed && state.balance == Nanoton::ZERO;
                let tokens = (*tokens).max(state.tokens_used);
                (!is_settled).then_some((PaymentKind::ClientGrantRefund, *contract, tokens, false))
            }
            Party::Worker { contract, tokens, .. } => {
                let state = match sight.data {
                    Some(data) => Some(WorkerState::parse(data).ok()?.0),
                    None => None,
                };
                let kind = PaymentKind::WorkerLastPayout;
                match state {
                    Some(state) if state.phase == Phase::Closed => None,
                    Some(state) => Some((kind, *contract, (*tokens).max(state.tokens), false)),
                    None if *tokens == Tokens::ZERO => None,
                    None => Some((kind, *contract, *tokens, true)),
                }
            }
        });
        let Some((kind, contract, tokens, deploys)) = order else { return self.next_party() };
        if self.tries >= TRIES_MAX {
            return self.leaves();
        }
        self.tries += 1;
        match self.message(kind, contract, tokens, deploys, query_id) {
            Some(message) => {
                let what = match kind {
                    PaymentKind::ClientGrantRefund => "refund a client",
                    _ => "pay a worker the rest",
                };
                WindStep::Send { what, message: Box::new(message) }
            }
            None => self.leaves(),
        }
    }

    fn message(
        &self,
        kind: PaymentKind,
        contract: Address,
        tokens: Tokens,
        deploys: bool,
        query_id: u64,
    ) -> Option<Outgoing> {
        let (wallet, key) = (self.identity.wallet, &self.identity.key);
        let payment = SignedPayment::sign(kind, query_id, tokens, contract, wallet, key).ok()?;
        let mut message = Outgoing::to_contract(contract, STEP_VALUE, payment.cell().ok()?);
        if let (true, Some(Party::Worker { owner, .. })) = (deploys, self.rest.front()) {
            let network = &self.instance.root.network;
            let (proxy, public_key) = (self.instance.contract, self.instance.public_key);
            message.state_init = Some(worker_init(*owner, proxy, public_key, network).ok()?);
            (message.bounce, message.value) = (false, DEPLOY_VALUE);
        }
        Some(message)
    }

    /// The first party cannot be settled now.
    fn leaves(&mut self) -> WindStep {
        match self.rest.pop_front() {
            Some(party) if !self.is_last_round => self.again.push_back(party),
            Some(party) => self.left.push(party.contract()),
            None => {}
        }
        self.next()
    }

    fn next_party(&mut self) -> WindStep {
        self.rest.pop_front();
        self.next()
    }

    fn next(&mut self) -> WindStep {
        self.tries = 0;
        let next = self.rest.front().map_or(self.instance.contract, Party::contract);
        WindStep::Look(next)
    }

    fn finished(&mut self) -> WindStep {
        // Somebody else has closed the contract meanwhile.
        let again = self.again.drain(..).map(|party| party.contract());
        let left = std::mem::take(&mut self.left).into_iter().chain(again).collect();
        WindStep::Done { left }
    }
}
