//! The loop's dealings with the chain: what is heard from there, and what is ordered.

use std::sync::Arc;
use std::time::Duration;

use cocoon_contract::root::RootState;
use cocoon_contract::state::{Phase, ProxyState};
use cocoon_host::clock;
use cocoon_ledger::OldBooks;
use cocoon_purse::{Outcome, Report};
use cocoon_role_proxy::{ChainOrder, Command, WindDown};
use cocoon_units::{Address, Nanoton};
use tokio::sync::oneshot;

use super::Turn;
use crate::chain::{
    ChainSide, ContractSeen, Heard, Later, Purpose, WindEvent, deposit, purse_order, withdrawal,
};
use crate::desk::ChainCommand;

/// Pause before a commit that did not leave the wallet is ordered again.
const COMMIT_AGAIN: Duration = Duration::from_secs(10);
/// How long after its arrival an order is given up on, when its notice never came.
const NOTICE_WITHIN: Duration = Duration::from_secs(60);
/// Pause before a state of the registry that could not be kept is taken in again.
const ROOT_AGAIN: Duration = Duration::from_secs(5);
/// How long a page waits for the chain.
const PAGE_WAITS: Duration = Duration::from_secs(45);

/// The next thing from the chain; never, without one.
pub(super) async fn next(chain: &mut Option<ChainSide>) -> Heard {
    match chain {
        Some(chain) => chain.next().await,
        None => std::future::pending().await,
    }
}

impl Turn {
    /// Follows the contract in use from where the books stopped.
    pub(super) fn follow_contract(&mut self) {
        let Some(chain) = &mut self.chain else { return };
        match self.machine.contract_init() {
            Ok(init) => chain.follow(init, self.machine.books().chain_lt()),
            Err(fault) => {
                tracing::error!(%fault, "the proxy contract cannot be deployed: nobody is served");
            }
        }
    }

    pub(super) fn heard(&mut self, heard: Heard) {
        match heard {
            Heard::Report(report) => self.report(&report),
            Heard::Contract(seen) => self.contract_seen(seen),
            Heard::Wind(event) => self.wind_event(event),
            Heard::Root(root) => self.root_changed(root),
        }
    }

    /// Sends an order to the chain, or keeps it until the contract is there.
    pub(super) fn chain_order(&mut self, order: ChainOrder) {
        if matches!(order, ChainOrder::WindDown { .. }) {
            // The books keep it: see `wind_what_is_due`.
            return;
        }
        if !self.machine.may_order() {
            tracing::warn!("a proxy that has stopped sends nothing to the chain");
            return;
        }
        let contract = self.machine.contract();
        let Some(chain) = &mut self.chain else {
            tracing::error!(?order, "an order for the chain, and no chain is connected");
            return;
        };
        if !chain.is_ready {
            chain.held.push(order);
            return;
        }
        match purse_order(&order, contract) {
            Ok(Some((order, purpose))) => chain.order(order, purpose),
            Ok(None) => {}
            Err(fault) => tracing::error!(%fault, "an order for the chain cannot be written"),
        }
    }

    /// Does what has become due, once a second.
    pub(super) fn chain_tick(&mut self) {
        let Some(chain) = &mut self.chain else { return };
        let is_away = chain.is_away();
        let due = chain.due();
        self.machine.set_chain_away(is_away);
        for what in due {
            match what {
                Later::Ended(query_id) => self.machine.order_ended(query_id, &mut self.out),
                Later::Again(order) => {
                    let pending = |seqno: u32| {
                        self.machine.books().pending_commits().any(|(at, _)| at == seqno)
                    };
                    if matches!(order, ChainOrder::SaveState { seqno, .. } if pending(seqno)) {
                        self.chain_order(order);
                    }
                }
                Later::Root(root) => self.root_changed(root),
            }
        }
        self.wind_what_is_due();
    }

    /// Winds down what the books and the contract ask for. Not before this session's own commit
    /// stands on chain: books that turn out to be old must not settle with anybody.
    fn wind_what_is_due(&mut self) {
        let Some(chain) = self.chain.as_ref().filter(|_| self.machine.has_begun()) else { return };
        let books = self.machine.books();
        let mut due: Vec<(u32, OldBooks)> = books
            .old()
            .filter(|(epoch, _)| !chain.is_winding(*epoch))
            .map(|(epoch, old)| (epoch, old.clone()))
            .collect();
        let epoch = self.machine.root().network.params.params_version;
        let is_closing = chain.contract.as_ref().is_some_and(|(s, _)| s.phase != Phase::Normal);
        if is_closing && !chain.is_winding(epoch) {
            due.push((epoch, books.closing()));
        }
        for (epoch, old) in due {
            self.wind(epoch, &old);
        }
    }

    fn contract_seen(&mut self, seen: ContractSeen) {
        let now = self.now();
        match seen {
            ContractSeen::Lost { contract, after_lt } if contract == self.machine.contract() => {
                let text = format!(
                    "the chain no longer keeps the transactions of {} after {after_lt}, where \
                     these books stopped: they cannot be trusted; use a server with the whole \
                     history",
                    contract.to_raw()
                );
                self.machine.stop(text, now, &mut self.out);
            }
            ContractSeen::Step {
                contract,
                transactions,
                reached_lt,
                is_caught_up,
                state,
                balance,
                ..
            } if contract == self.machine.contract() => {
                for transaction in &transactions {
                    self.machine.contract_transaction(transaction, now, &mut self.out);
                }
                self.machine.contract_reached(reached_lt, &mut self.out);
                self.machine.contract_phase(state.phase, now, &mut self.out);
                self.contract_state(&state, balance, is_caught_up);
            }
            // Of a contract that is no longer followed.
            _ => {}
        }
    }

    fn contract_state(&mut self, state: &ProxyState, balance: Nanoton, is_caught_up: bool) {
        let Some(chain) = &mut self.chain else { return };
        chain.contract = Some((state.clone(), balance));
        if is_caught_up && !chain.is_ready {
            chain.is_ready = true;
            for order in std::mem::take(&mut chain.held) {
                self.chain_order(order);
            }
        }
        if state.phase != Phase::Normal {
            return;
        }
        if is_caught_up {
            self.fill_stake(state);
        }
        self.withdraw_when_due(state);
    }

    /// Fills the stake up, once for each contract and process: the next state may be older than
    /// what was ordered.
    fn fill_stake(&mut self, state: &ProxyState) {
        let contract = self.machine.contract();
        let Some(chain) = &mut self.chain else { return };
        let missing = chain.config().stake.saturating_sub(state.stake);
        if std::mem::replace(&mut chain.is_staked, true) || missing == Nanoton::ZERO {
            return;
        }
        let query_id = own_label(contract, 1);
        match deposit(contract, chain.hand.address(), missing, query_id) {
            Ok(order) => chain.order(order, Purpose::Request("fill the stake up")),
            Err(fault) => tracing::error!(%fault, "a deposit cannot be written"),
        }
    }

    /// Sends what the proxy has earned to its owner when it is enough.
    fn withdraw_when_due(&mut self, state: &ProxyState) {
        let contract = self.machine.contract();
        let Some(chain) = &mut self.chain else { return };
        let least = chain.config().withdraw_at;
        if least == Nanoton::ZERO || state.balance < least || chain.has_failed(contract) {
            return;
        }
        // One at a time: the purse knows it by its label.
        let query_id = own_label(contract, 2);
        match withdrawal(contract, chain.hand.address(), query_id) {
            Ok(order) => chain.order(order, Purpose::Request("withdraw what was earned")),
            Err(fault) => tracing::error!(%fault, "a withdrawal cannot be written"),
        }
    }

    fn report(&mut self, Report { label, outcome }: &Report) {
        if !outcome.is_final() {
            return;
        }
        let own = self.machine.contract();
        let Some(chain) = &mut self.chain else { return };
        match chain.ended(*label, outcome) {
            // Of an earlier process, or of a step that is waited for elsewhere.
            None | Some(Purpose::Wind) => {}
            Some(Purpose::Commit(order)) => match outcome {
                Outcome::NotSent { reason } | Outcome::Unknown { reason } => {
                    tracing::warn!(reason, "a state commit was not sent; again soon");
                    chain.later(COMMIT_AGAIN, Later::Again(order));
                }
                _ => {}
            },
            Some(Purpose::Settle { query_id, contract }) if outcome.is_success() => {
                chain.went_well(contract);
                chain.later(NOTICE_WITHIN, Later::Ended(query_id));
            }
            Some(Purpose::Settle { query_id, contract }) => {
                let pause = chain.backoff(contract);
                let contract = contract.to_raw();
                tracing::warn!(contract, ?outcome, ?pause, "an order did not work; again later");
                chain.later(pause, Later::Ended(query_id));
            }
            Some(Purpose::Request(what)) if outcome.is_success() => {
                tracing::info!("{what}: done");
                chain.went_well(own);
            }
            Some(Purpose::Request(what)) => {
                tracing::error!(?outcome, "{what}: did not work");
                let _ = chain.backoff(own);
            }
        }
    }

    /// A new state of the root contract: kept, then in force.
    fn root_changed(&mut self, root: Arc<RootState>) {
        let (now, before) = (self.now(), self.machine.contract());
        let Some(chain) = &mut self.chain else { return };
        if let Err(fault) = chain.roots.keep(&root) {
            tracing::error!(%fault, "the new state of the root contract waits for the disk");
            chain.later(ROOT_AGAIN, Later::Root(root));
            return;
        }
        match self.machine.root_changed(Arc::clone(&root), now, &mut self.out) {
            Ok(()) => self.root = Arc::clone(self.machine.root()),
            Err(fault) => {
                let version = root.version;
                tracing::error!(version, %fault, "a state of the root contract is refused");
                return;
            }
        }
        let images: Vec<[u8; 32]> = root.worker_hashes.iter().map(|hash| hash.0).collect();
        let admitted = self.presence.as_ref().map_or(Ok(()), |held| held.admit_images(&images));
        if let Err(fault) = admitted {
            tracing::error!(%fault, "the registry's images are refused; those before stay in use");
        }
        if self.machine.contract() != before {
            self.follow_contract();
        }
    }

    fn wind(&mut self, epoch: u32, old: &OldBooks) {
        let Some(chain) = &mut self.chain else { return };
        let root = match chain.roots.read(epoch) {
            Ok(Some(root)) => root,
            Ok(None) => {
                tracing::error!(
                    epoch,
                    "the root's state of an old contract is missing: it cannot be wound down; restore it from a backup of the data directory"
                );
                return;
            }
            Err(fault) => {
                tracing::error!(epoch, %fault, "an old contract cannot be wound down");
                return;
            }
        };
        match WindDown::new(self.machine.identity().clone(), Arc::new(root), old) {
            Ok(machine) => chain.wind(epoch, machine),
            Err(fault) => chain.cannot_wind(epoch, &fault.to_string()),
        }
    }

    fn wind_event(&mut self, event: WindEvent) {
        let Some(chain) = &mut self.chain else { return };
        match event {
            WindEvent::Order { order, done } => chain.order_for(*order, Purpose::Wind, done),
            WindEvent::Progress { epoch, contract, remaining, what } => {
                let line = crate::chain::OldLine { contract, remaining, what };
                chain.old.insert(epoch, line);
            }
            WindEvent::Done { epoch, left } => {
                for contract in &left {
                    let contract = contract.to_raw();
                    tracing::error!(
                        epoch,
                        contract,
                        "an account of the old contract is not settled"
                    );
                }
                tracing::info!(epoch, left = left.len(), "an old contract is wound down");
                chain.old.remove(&epoch);
                chain.wound.push(epoch);
                if epoch != self.machine.root().network.params.params_version {
                    chain.roots.forget(epoch);
                }
                self.machine.old_closed(epoch, &mut self.out);
            }
        }
    }

    /// Carries out an operator's request to the chain; the answer comes when it is done.
    pub(super) fn chain_command(
        &mut self,
        command: ChainCommand,
        reply: oneshot::Sender<Result<String, String>>,
    ) {
        let contract = self.machine.contract();
        let query_id = u64::from_be_bytes(clock::random());
        let Some(chain) = &mut self.chain else {
            let _ = reply.send(Err("this proxy has no chain".to_owned()));
            return;
        };
        let wallet = chain.hand.address();
        let (order, what) = match command {
            ChainCommand::Withdraw => {
                (withdrawal(contract, wallet, query_id), "withdraw what was earned")
            }
            ChainCommand::AddStake(amount) => {
                (deposit(contract, wallet, amount, query_id), "add to the stake")
            }
            ChainCommand::StakeUntil(until) => {
                let stake = chain.contract.as_ref().map_or(Nanoton::ZERO, |(seen, _)| seen.stake);
                let missing = until.saturating_sub(stake);
                if chain.is_ready && missing == Nanoton::ZERO {
                    let _ = reply.send(Ok(format!("the stake is {stake} already")));
                    return;
                }
                // Two of these for the same sum are one while the first is on its way.
                let query_id = own_label(contract, until.0);
                (deposit(contract, wallet, missing, query_id), "add to the stake")
            }
            ChainCommand::Close => {
                let _ = reply.send(self.close());
                return;
            }
        };
        let order = match order {
            Ok(order) if chain.is_ready => order,
            Ok(_) => {
                let _ = reply.send(Err("the proxy contract is not there yet".to_owned()));
                return;
            }
            Err(fault) => {
                let _ = reply.send(Err(fault.to_string()));
                return;
            }
        };
        let (done, outcome) = oneshot::channel();
        chain.order_for(order, Purpose::Request(what), done);
        tokio::spawn(async move {
            let text = match tokio::time::timeout(PAGE_WAITS, outcome).await {
                Ok(Ok(outcome)) if outcome.is_success() => Ok(format!("{what}: done")),
                Ok(Ok(outcome)) => Err(format!("{what}: {outcome:?}")),
                Ok(Err(_)) => Err("shutting down".to_owned()),
                Err(_) => Ok(format!("{what}: on its way, see /jsonstats")),
            };
            let _ = reply.send(text);
        });
    }

    /// Closes the contract for good: nobody is served any more, everybody is settled.
    fn close(&mut self) -> Result<String, String> {
        let now = self.now();
        let disable = Command::Disable { until_params_version: None };
        self.machine.command(0, disable, now, &mut self.out);
        if !self.machine.is_idle() || !self.hold.is_empty() {
            return Err("disabled; records are on their way to the disk, ask again".to_owned());
        }
        let epoch = self.machine.root().network.params.params_version;
        let closing = self.machine.books().closing();
        self.wind(epoch, &closing);
        Ok("closing: every client is refunded and every worker paid, see /jsonstats".to_owned())
    }
}

/// The label of what this node orders from its own contract by itself: one at a time of a kind.
fn own_label(contract: Address, kind: u64) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = contract.hash;
    u64::from_be_bytes([a, b, c, d, e, f, g, h]) ^ kind
}
