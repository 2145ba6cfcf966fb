//! What will happen: everything that a seed decides before the run.

use std::fmt;

use crate::chance::Chance;

/// A node of the simulated network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NodeId {
    /// A client with its users.
    Client(u8),
    /// A proxy.
    Proxy(u8),
    /// A worker with its model server.
    Worker(u8),
    /// The chain.
    Chain,
}

impl NodeId {
    pub(crate) const fn number(self) -> u64 {
        match self {
            Self::Client(n) => n as u64,
            Self::Proxy(n) => 0x100 + n as u64,
            Self::Worker(n) => 0x200 + n as u64,
            Self::Chain => 0x300,
        }
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client(n) => write!(f, "client {n}"),
            Self::Proxy(n) => write!(f, "proxy {n}"),
            Self::Worker(n) => write!(f, "worker {n}"),
            Self::Chain => write!(f, "chain"),
        }
    }
}

/// A request of a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// Which client.
    pub client: u8,
    /// When.
    pub at_ms: u64,
    /// Raw tokens of the answer.
    pub tokens: u64,
    /// Tokens to reserve for it.
    pub tokens_max: u64,
    /// The user's patience.
    pub timeout_ms: u64,
    /// Parts of the answer.
    pub parts: u64,
    /// Pause before each part.
    pub pace_ms: u64,
    /// When the user gives up early, after the start.
    pub cancel_after_ms: Option<u64>,
    /// A proxy to use, or any.
    pub proxy: Option<u8>,
}

/// Where a process dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// Before an input is handled.
    Input,
    /// After records went to the disk, before any effect.
    Written,
    /// Between two effects.
    Effect,
    /// When a write is durable, before the machine hears of it.
    Synced,
    /// Between two effects that waited for the disk.
    Released,
}

/// A misfortune. Times are in milliseconds; `node`, `peer` and `proxy` say whom it strikes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields say what they are")]
pub enum FaultKind {
    /// The process dies at the so manieth point of this kind; `quiet`: its peers are not told.
    Crash { node: NodeId, point: Point, countdown: u64, down_ms: u64, quiet: bool },
    /// A connection breaks; what is under way is lost.
    Break { peer: NodeId, proxy: u8 },
    /// A connection stops to carry anything, and nobody is told.
    HalfOpen { peer: NodeId, proxy: u8 },
    /// Two nodes do not reach each other for a while.
    Partition { peer: NodeId, proxy: u8, ms: u64 },
    /// A process stands still for a while.
    Pause { node: NodeId, ms: u64 },
    /// A disk takes this long for a sync.
    DiskSlow { node: NodeId, ms: u64 },
    /// A disk is full for a while: what is written waits, and the node is told.
    DiskFull { node: NodeId, ms: u64 },
    /// A peer opens one more connection to a proxy.
    DialAgain { peer: NodeId, proxy: u8 },
    /// The clock of the wall jumps.
    ClockStep { node: NodeId, step_ms: i64 },
    /// A worker takes nothing for a while.
    Disable { worker: u8, ms: u64 },
    /// A worker changes its price factor.
    Coefficient { worker: u8, milli: u32 },
    /// A peer sends bytes that mean nothing.
    Garbage { peer: NodeId, proxy: u8 },
    /// The root contract changes: its registry, or the parameters too.
    Root { parameters: bool },
    /// The chain makes no blocks for a while.
    ChainStall { ms: u64 },
    /// Messages to the chain get lost for a while.
    ChainLoses { ms: u64 },
    /// The operator switches a proxy off and on again.
    ProxyOff { proxy: u8, ms: u64 },
    /// The operator orders a commit, or that all accounts be settled.
    Commit { proxy: u8 },
    /// A node replaces its journal by a snapshot.
    Snapshot { node: NodeId },
    /// A client puts more money into its contract.
    TopUp { client: u8, proxy: u8 },
    /// A client asks for its money back, for good.
    CloseClient { client: u8, proxy: u8 },
}

/// A misfortune and its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// When it begins.
    pub at_ms: u64,
    /// What it is.
    pub kind: FaultKind,
}

/// How the one dishonest node of a world lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    /// A worker claims more than it made, or numbers that make no sense.
    WorkerClaims,
    /// A worker states balances it cannot have.
    WorkerBalance,
    /// A worker ends its answers twice.
    WorkerTwice,
    /// A worker answers requests that run on another worker.
    WorkerSteals,
    /// A worker never answers.
    WorkerSilent,
    /// A proxy sends old payments and totals again.
    ProxyOldPayment,
    /// A proxy counts more than was used.
    ProxyInflates,
    /// A client asks for the impossible and repeats its ids.
    ClientOdd,
}

/// What becomes of a proxy when the service is over, in worlds with a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It goes on.
    Stays,
    /// The network gets other parameters, and the proxy winds its old contract down.
    Moves {
        /// When it is gone for good all the same.
        dies_after_ms: Option<u64>,
    },
    /// It is gone for good, with whatever is under way.
    Dies,
}

/// Everything that a seed decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The seed.
    pub seed: u64,
    /// Number of clients.
    pub clients: u8,
    /// Number of proxies.
    pub proxies: u8,
    /// Number of workers.
    pub workers: u8,
    /// Whether money is real: commits, charges and payouts go over the chain.
    pub real_chain: bool,
    /// The dishonest node.
    pub liar: Option<(NodeId, Lie)>,
    /// Requests, with the numbers they keep when others are left out.
    pub asks: Vec<(usize, Ask)>,
    /// Misfortunes, with the numbers they keep when others are left out.
    pub faults: Vec<(usize, Fault)>,
    /// When misfortunes and requests end.
    pub span_ms: u64,
    /// What becomes of each proxy then; [`Fate::Stays`] where the list is short.
    pub fates: Vec<Fate>,
    /// Stakes that are too small for what may be lost, nanoTON; `None` and proxies behind the end of
    /// the list have enough.
    pub stakes: Vec<Option<u64>>,
}

impl Plan {
    /// The plan of a seed.
    #[must_use]
    pub fn of_seed(seed: u64) -> Self {
        let mut chance = Chance::of(seed, "plan", 0);
        let (clients, proxies, workers) =
            (chance.between(1, 3) as u8, chance.between(1, 2) as u8, chance.between(1, 4) as u8);
        let mut plan = Self {
            seed,
            clients,
            proxies,
            workers,
            real_chain: chance.percent(50),
            liar: None,
            asks: Vec::new(),
            faults: Vec::new(),
            span_ms: chance.between(2, 8) * 60_000,
            fates: Vec::new(),
            stakes: Vec::new(),
        };
        if chance.percent(30) {
            plan.liar = Some(plan.draw_liar(&mut chance));
        }
        let mut asking = Chance::of(seed, "asks", 0);
        let asks = asking.between(5, 60) as usize;
        plan.asks = (0..asks).map(|n| (n, plan.draw_ask(&mut asking))).collect();
        let mut harming = Chance::of(seed, "faults", 0);
        let faults = if harming.percent(10) { 0 } else { harming.between(1, 14) as usize };
        plan.faults = (0..faults).map(|n| (n, plan.draw_fault(&mut harming))).collect();
        let mut ending = Chance::of(seed, "fates", 0);
        plan.fates = (0..proxies).map(|_| draw_fate(&mut ending)).collect();
        let mut staking = Chance::of(seed, "stakes", 0);
        plan.stakes = (0..proxies).map(|_| draw_stake(&mut staking)).collect();
        plan
    }

    fn draw_ask(&self, chance: &mut Chance) -> Ask {
        let tokens = chance.between(1, 400);
        Ask {
            client: chance.index(self.clients.into()) as u8,
            at_ms: chance.between(3_000, self.span_ms),
            tokens,
            tokens_max: tokens + chance.between(0, 100),
            timeout_ms: chance.between(4_000, 90_000),
            parts: chance.between(0, 6),
            pace_ms: chance.between(1, 3_000),
            cancel_after_ms: chance.percent(12).then(|| chance.between(10, 20_000)),
            proxy: None,
        }
    }

    fn draw_liar(&self, chance: &mut Chance) -> (NodeId, Lie) {
        const LIES: [Lie; 8] = [
            Lie::WorkerClaims,
            Lie::WorkerBalance,
            Lie::WorkerTwice,
            Lie::WorkerSteals,
            Lie::WorkerSilent,
            Lie::ProxyOldPayment,
            Lie::ProxyInflates,
            Lie::ClientOdd,
        ];
        let lie = LIES[chance.index(LIES.len())];
        let node = match lie {
            Lie::ProxyOldPayment | Lie::ProxyInflates => NodeId::Proxy(0),
            Lie::ClientOdd => NodeId::Client(0),
            _ => NodeId::Worker(0),
        };
        (node, lie)
    }

    fn draw_fault(&self, chance: &mut Chance) -> Fault {
        let at_ms = chance.between(1_000, self.span_ms);
        let proxy = chance.index(self.proxies.into()) as u8;
        let peer = self.draw_peer(chance);
        let node = if chance.percent(60) { NodeId::Proxy(proxy) } else { peer };
        let worker = chance.index(self.workers.into()) as u8;
        let client = chance.index(self.clients.into()) as u8;
        let kind = match chance.index(29) {
            0..=6 => self.draw_crash(node, chance),
            7 => FaultKind::Break { peer, proxy },
            8 => FaultKind::HalfOpen { peer, proxy },
            9 | 10 => FaultKind::Partition { peer, proxy, ms: chance.between(100, 120_000) },
            11 => FaultKind::Pause { node, ms: chance.between(100, 40_000) },
            12 => FaultKind::DiskSlow { node, ms: chance.between(50, 20_000) },
            13 => {
                let step = chance.between(1_000, 7_200_000).cast_signed();
                let step_ms = if chance.percent(50) { step } else { -step };
                FaultKind::ClockStep { node, step_ms }
            }
            14 => FaultKind::Disable { worker, ms: chance.between(1_000, 60_000) },
            15 => FaultKind::Coefficient { worker, milli: chance.between(500, 1_800) as u32 },
            16 => FaultKind::Garbage { peer, proxy },
            17 => FaultKind::Root { parameters: !self.real_chain && chance.percent(50) },
            18 => FaultKind::ChainStall { ms: chance.between(1_000, 120_000) },
            19 => FaultKind::ChainLoses { ms: chance.between(1_000, 90_000) },
            20 => FaultKind::ProxyOff { proxy, ms: chance.between(1_000, 40_000) },
            21 => FaultKind::Commit { proxy },
            22 | 23 => FaultKind::Snapshot { node },
            24 => FaultKind::TopUp { client, proxy },
            25 => FaultKind::DiskFull { node, ms: chance.between(500, 30_000) },
            26 | 27 => FaultKind::DialAgain { peer, proxy },
            _ => FaultKind::CloseClient { client, proxy },
        };
        Fault { at_ms, kind }
    }

    fn draw_peer(&self, chance: &mut Chance) -> NodeId {
        if chance.percent(50) {
            NodeId::Client(chance.index(self.clients.into()) as u8)
        } else {
            NodeId::Worker(chance.index(self.workers.into()) as u8)
        }
    }

    fn draw_crash(&self, node: NodeId, chance: &mut Chance) -> FaultKind {
        const POINTS: [Point; 5] =
            [Point::Input, Point::Written, Point::Effect, Point::Synced, Point::Released];
        FaultKind::Crash {
            node,
            point: POINTS[chance.index(POINTS.len())],
            countdown: chance.between(0, 12),
            down_ms: chance.between(50, 30_000),
            quiet: chance.percent(25),
        }
    }

    /// Leaves out what is not in the lists; `None` keeps all.
    #[must_use]
    pub fn keeping(mut self, asks: Option<&[usize]>, faults: Option<&[usize]>) -> Self {
        if let Some(kept) = asks {
            self.asks.retain(|(number, _)| kept.contains(number));
        }
        if let Some(kept) = faults {
            self.faults.retain(|(number, _)| kept.contains(number));
        }
        self
    }

    /// What a proxy has staked, nanoTON.
    #[must_use]
    pub fn stake(&self, proxy: u8) -> u64 {
        let stake = self.stakes.get(usize::from(proxy)).copied().flatten();
        stake.unwrap_or(crate::chain::PROXY_STAKE)
    }

    /// Whether a node tells lies.
    #[must_use]
    pub fn lies(&self, node: NodeId) -> bool {
        self.liar.is_some_and(|(liar, _)| liar == node)
    }
}

/// A third have none, or what some requests cost.
fn draw_stake(chance: &mut Chance) -> Option<u64> {
    let tokens = if chance.percent(50) { 0 } else { chance.between(1, 600) };
    chance.percent(33).then_some(tokens * crate::world::PRICE)
}

fn draw_fate(chance: &mut Chance) -> Fate {
    match chance.index(10) {
        0..=2 => Fate::Stays,
        3..=5 => Fate::Moves { dies_after_ms: None },
        6 => Fate::Moves { dies_after_ms: Some(chance.between(1_000, 1_200_000)) },
        _ => Fate::Dies,
    }
}
