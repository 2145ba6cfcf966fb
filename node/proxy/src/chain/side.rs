//! The state of the proxy's side towards the chain, and everything that is heard from there.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use cocoon_contract::address::StateInit;
use cocoon_contract::root::RootState;
use cocoon_contract::state::ProxyState;
use cocoon_host::Stop;
use cocoon_host::chain::{ChainLine, LineStatus, PurseHand, Reports, follow_root};
use cocoon_purse::{Label, Order, Outcome, Report};
use cocoon_role_proxy::{ChainOrder, WindDown};
use cocoon_units::{Address, Nanoton};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};

use super::follow::{ContractSeen, Follow};
use super::orders::Purpose;
use super::wind::{Wind, WindEvent};
use super::{RealGround, Roots, shared};
use crate::config::ProxyConfig;

/// Events that may wait for the loop.
const EVENTS_MAX: usize = 64;
/// How often the registry is looked at, in polls of the chain.
const ROOT_POLLS: u32 = 5;
/// First pause before an order that failed may be given again; it doubles with each failure.
const BACKOFF: Duration = Duration::from_secs(15);
/// The pause doubles so often.
const BACKOFF_DOUBLES_MAX: u32 = 8;

/// Something from the chain.
pub(crate) enum Heard {
    Report(Report),
    Contract(ContractSeen),
    Wind(WindEvent),
    Root(Arc<RootState>),
}

/// An old contract on the status page.
#[derive(Clone, Debug)]
pub(crate) struct OldLine {
    pub(crate) contract: Address,
    pub(crate) remaining: usize,
    pub(crate) what: String,
}

/// The chain on the status page.
#[derive(Clone, Debug)]
pub(crate) struct ChainWhole {
    pub(crate) money: &'static str,
    pub(crate) line: LineStatus,
    pub(crate) purse: cocoon_purse::Status,
    pub(crate) contract: Option<(ProxyState, Nanoton)>,
    pub(crate) is_ready: bool,
    pub(crate) old: BTreeMap<u32, OldLine>,
}

/// What is to be done later.
pub(crate) enum Later {
    /// An order of the machine has ended without a notice.
    Ended(u64),
    /// A commit that did not leave the wallet.
    Again(ChainOrder),
    /// A state of the registry that could not be kept on disk.
    Root(Arc<RootState>),
}

/// See the module.
pub(crate) struct ChainSide {
    pub(crate) line: Arc<ChainLine>,
    pub(crate) hand: PurseHand,
    pub(crate) roots: Roots,
    pub(crate) purposes: HashMap<Label, Purpose>,
    /// Orders that wait until the contract is there and its history is taken in.
    pub(crate) held: Vec<ChainOrder>,
    pub(crate) is_ready: bool,
    /// Whether the stake of this contract was looked after.
    pub(crate) is_staked: bool,
    pub(crate) contract: Option<(ProxyState, Nanoton)>,
    pub(crate) old: BTreeMap<u32, OldLine>,
    pub(crate) wound: Vec<u32>,
    later: Vec<(Instant, Later)>,
    failures: HashMap<Address, u32>,
    waiters: HashMap<Label, oneshot::Sender<Outcome>>,
    config: SideConfig,
    reports: Reports,
    registry: watch::Receiver<Arc<RootState>>,
    seen: (mpsc::Sender<ContractSeen>, mpsc::Receiver<ContractSeen>),
    winds: (mpsc::Sender<WindEvent>, mpsc::Receiver<WindEvent>),
    follower: Option<JoinHandle<()>>,
    winding: JoinSet<()>,
}

/// What the side needs of the configuration.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SideConfig {
    money: &'static str,
    poll: Duration,
    away_max: Duration,
    pub(crate) withdraw_at: Nanoton,
    pub(crate) stake: Nanoton,
}

impl Drop for ChainSide {
    fn drop(&mut self) {
        if let Some(task) = &self.follower {
            task.abort();
        }
    }
}

impl ChainSide {
    /// Starts the purse and follows the registry from `root` on.
    pub(crate) fn start(
        ground: RealGround,
        config: &ProxyConfig,
        root: (Address, Arc<RootState>),
        stop: &Stop,
    ) -> Self {
        let RealGround { line, purse, roots } = ground;
        let (chain, poll) = (shared(&line), config.chain.poll());
        let file = config.data_dir.join("purse");
        let (hand, reports) = PurseHand::start(Arc::clone(&chain), purse, file, poll, stop.clone());
        let registry = follow_root(chain, root.0, root.1, poll * ROOT_POLLS, stop.clone());
        let money = cocoon_host::chain::money_note(
            config.chain.kind,
            Some(cocoon_chain::Chain::trust(line.as_ref())),
        );
        Self {
            line,
            hand,
            roots,
            purposes: HashMap::new(),
            held: Vec::new(),
            is_ready: false,
            is_staked: false,
            contract: None,
            old: BTreeMap::new(),
            wound: Vec::new(),
            later: Vec::new(),
            failures: HashMap::new(),
            waiters: HashMap::new(),
            config: SideConfig {
                money,
                poll,
                away_max: config.chain.away_max(),
                withdraw_at: config.withdraw_at,
                stake: config.stake,
            },
            reports,
            registry,
            seen: mpsc::channel(EVENTS_MAX),
            winds: mpsc::channel(EVENTS_MAX),
            follower: None,
            winding: JoinSet::new(),
        }
    }

    /// The next thing from the chain. May be dropped and called again.
    pub(crate) async fn next(&mut self) -> Heard {
        loop {
            tokio::select! {
                Some(report) = self.reports.recv() => return Heard::Report(report),
                Some(seen) = self.seen.1.recv() => return Heard::Contract(seen),
                Some(event) = self.winds.1.recv() => return Heard::Wind(event),
                Ok(()) = self.registry.changed() => {
                    let root = Arc::clone(&self.registry.borrow_and_update());
                    return Heard::Root(root);
                }
                // The node ends; nothing more comes.
                else => std::future::pending::<()>().await,
            }
        }
    }

    /// Follows the contract that `init` deploys, from `after_lt` on, in place of the one before.
    pub(crate) fn follow(&mut self, init: StateInit, after_lt: u64) {
        if let Some(task) = self.follower.take() {
            task.abort();
        }
        (self.is_ready, self.is_staked, self.contract) = (false, false, None);
        let follow = Follow {
            chain: shared(&self.line),
            hand: self.hand.clone(),
            init,
            after_lt,
            poll: self.config.poll,
            events: self.seen.0.clone(),
        };
        self.follower = Some(tokio::spawn(follow.run()));
    }

    /// Winds an old contract down, once per epoch and process.
    pub(crate) fn wind(&mut self, epoch: u32, machine: WindDown) {
        if self.is_winding(epoch) {
            return;
        }
        let (contract, remaining) = (machine.contract(), machine.remaining());
        tracing::info!(epoch, contract = contract.to_raw(), remaining, "winding down");
        self.old.insert(epoch, OldLine { contract, remaining, what: "begins".to_owned() });
        let wind = Wind {
            epoch,
            chain: shared(&self.line),
            machine,
            poll: self.config.poll,
            events: self.winds.0.clone(),
        };
        self.winding.spawn(wind.run());
    }

    /// Says once per process that an old contract stays as it is.
    pub(crate) fn cannot_wind(&mut self, epoch: u32, why: &str) {
        tracing::error!(
            epoch,
            why,
            "an old contract cannot be wound down: restore data_dir/roots from a backup and start \
             again"
        );
        self.wound.push(epoch);
    }

    pub(crate) fn is_winding(&self, epoch: u32) -> bool {
        self.old.contains_key(&epoch) || self.wound.contains(&epoch)
    }

    /// Gives an order to the purse.
    pub(crate) fn order(&mut self, order: Order, purpose: Purpose) {
        self.purposes.insert(order.label, purpose);
        self.hand.order(order);
    }

    /// Gives an order to the purse and tells `done` what became of it.
    pub(crate) fn order_for(
        &mut self,
        order: Order,
        purpose: Purpose,
        done: oneshot::Sender<Outcome>,
    ) {
        self.waiters.insert(order.label, done);
        self.order(order, purpose);
    }

    /// Takes a final outcome to whoever waits for it; gives the purpose back.
    pub(crate) fn ended(&mut self, label: Label, outcome: &Outcome) -> Option<Purpose> {
        if let Some(waiter) = self.waiters.remove(&label) {
            // A page that was closed meanwhile no longer listens.
            let _ = waiter.send(outcome.clone());
        }
        self.purposes.remove(&label)
    }

    /// How long to wait after an order to `contract` failed (again).
    pub(crate) fn backoff(&mut self, contract: Address) -> Duration {
        let failures = self.failures.entry(contract).or_default();
        *failures = failures.saturating_add(1);
        BACKOFF * (1 << (*failures - 1).min(BACKOFF_DOUBLES_MAX))
    }

    /// Whether the last order to `contract` failed.
    pub(crate) fn has_failed(&self, contract: Address) -> bool {
        self.failures.contains_key(&contract)
    }

    /// An order to `contract` went well.
    pub(crate) fn went_well(&mut self, contract: Address) {
        self.failures.remove(&contract);
    }

    pub(crate) fn later(&mut self, after: Duration, what: Later) {
        self.later.push((Instant::now() + after, what));
    }

    /// What has become due.
    pub(crate) fn due(&mut self) -> Vec<Later> {
        let now = Instant::now();
        let (due, rest): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.later).into_iter().partition(|(at, _)| *at <= now);
        self.later = rest;
        due.into_iter().map(|(_, what)| what).collect()
    }

    /// Whether the chain is away for too long.
    pub(crate) fn is_away(&self) -> bool {
        self.line.away() > self.config.away_max
    }

    pub(crate) fn config(&self) -> SideConfig {
        self.config
    }

    pub(crate) fn whole(&self) -> ChainWhole {
        ChainWhole {
            money: self.config.money,
            line: self.line.status(),
            purse: self.hand.status(),
            contract: self.contract.clone(),
            is_ready: self.is_ready,
            old: self.old.clone(),
        }
    }
}
