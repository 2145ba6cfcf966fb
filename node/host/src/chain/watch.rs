//! The root contract as a client or worker believes it: followed, gated, journalled.

use std::sync::Arc;
use std::time::Duration;

use cocoon_chain::{Chain, ChainFault};
use cocoon_contract::boc;
use cocoon_contract::root::RootState;
use cocoon_settle::{RootGate, Ruling, SettleLog, SettleRecord};
use cocoon_units::Address;
use serde::Serialize;
use tokio::sync::watch;

use super::{ChainLine, RootFault, first_root, follow_root, guard, read_root};
use crate::Stop;

/// Seconds for which a change that money follows must have stood before a client or worker follows
/// it, unless its configuration says otherwise (docs/decisions/0020-root-notice.md).
pub const ROOT_NOTICE_S: u64 = 3_600;
/// How long a start waits for the chain when the journal knows a root to go on with.
const PATIENCE: Duration = Duration::from_secs(5);
/// Least time between two looks at the root contract.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Which root, and how it is believed.
#[derive(Clone, Copy, Debug)]
pub struct RootRules {
    /// The root contract.
    pub root: Address,
    /// Test mode of this node; the network's must be the same.
    pub is_test: bool,
    /// Seconds of notice that a change needs; see [`RootGate`].
    pub notice_s: u64,
}

/// A change that waits, for the status pages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RootHeld {
    /// Version of the root contract's state that waits.
    pub version: u32,
    /// When it is followed if it still stands then, Unix seconds.
    pub until_s: u64,
    /// What will change, for people.
    pub changes: Vec<String>,
}

/// What a look at the root brought.
#[derive(Clone, Debug, Default)]
pub struct RootNews {
    /// To be durable before the node acts on what is believed.
    pub record: Option<SettleRecord>,
    /// The state to follow from now on, when it is another one.
    pub believed: Option<RootState>,
}

/// The root contract, as far as this node believes it.
pub struct RootWatch {
    line: Arc<ChainLine>,
    address: Address,
    root: watch::Receiver<Arc<RootState>>,
    gate: RootGate,
    is_recorded: bool,
    followed: RootState,
    held: Option<RootHeld>,
    /// Hash of the state that waits, and since when it is seen: as the journal has it.
    seen: Option<([u8; 32], u64)>,
}

impl RootWatch {
    /// Reads the root contract, waiting for the chain unless `log` knows what to go on with, and
    /// follows it until `stop`. `None` when the node was asked to stop meanwhile.
    ///
    /// # Errors
    /// [`RootFault`]: the root contract cannot be used.
    pub async fn begin(
        line: Arc<ChainLine>,
        rules: RootRules,
        poll: Duration,
        log: &SettleLog,
        stop: &Stop,
    ) -> Result<Option<Self>, RootFault> {
        let known = log
            .root()
            .and_then(|bytes| boc::decode(bytes, boc::Limits::ROOT).ok())
            .and_then(|cell| RootState::parse(&cell).ok());
        let found = first(line.as_ref(), &rules, known.as_ref(), poll, stop).await?;
        let Some(found) = found else { return Ok(None) };
        let is_recorded = known.is_some();
        let believed = known.unwrap_or_else(|| found.as_ref().clone());
        let mut gate = RootGate::new(rules.notice_s);
        gate.restore(believed.clone());
        let chain: Arc<dyn Chain> = Arc::clone(&line) as _;
        let root = follow_root(chain, rules.root, found, poll.max(LOOK_EVERY), stop.clone());
        let address = rules.root;
        Ok(Some(Self {
            line,
            address,
            root,
            gate,
            is_recorded,
            followed: believed,
            held: None,
            seen: log.root_seen(),
        }))
    }

    /// The state that this node follows.
    #[must_use]
    pub const fn followed(&self) -> &RootState {
        &self.followed
    }

    /// The change that waits, if one does.
    #[must_use]
    pub const fn held(&self) -> Option<&RootHeld> {
        self.held.as_ref()
    }

    /// Looks at what the chain shows now.
    ///
    /// # Errors
    /// [`ChainFault`]: nothing is decided; look again later.
    pub async fn look(&mut self, now_s: u64) -> Result<RootNews, ChainFault> {
        if !std::mem::replace(&mut self.is_recorded, true)
            && let Ok(cell) = self.followed.cell()
        {
            // What the next start compares with.
            let record = SettleRecord::RootBelieved { state: boc::encode(&cell) };
            return Ok(RootNews { record: Some(record), believed: None });
        }
        let state = Arc::clone(&self.root.borrow_and_update());
        let Ok(cell) = state.cell() else { return Ok(RootNews::default()) };
        if self.gate.believed() == Some(state.as_ref()) {
            self.held = None;
            return Ok(self.news(None));
        }
        let guard = guard(self.line.as_ref(), self.address, state.owner).await?;
        let hash = *cell.repr_hash().as_array();
        let since_s = self.seen.filter(|(known, _)| *known == hash).map(|(_, at_s)| at_s);
        if let Some(at_s) = since_s {
            self.gate.restore_seen(state.as_ref().clone(), at_s);
        }
        let version = state.version;
        Ok(match self.gate.look(&state, guard, now_s) {
            Ruling::Same | Ruling::Older => RootNews::default(),
            Ruling::Believed(changes) => {
                for change in &changes {
                    tracing::info!(version, "the network changes: {change}");
                }
                (self.held, self.seen) = (None, None);
                self.news(Some(SettleRecord::RootBelieved { state: boc::encode(&cell) }))
            }
            Ruling::Held { until_s, changes } => {
                let changes: Vec<String> = changes.iter().map(ToString::to_string).collect();
                if self.held.as_ref().is_none_or(|held| held.version != version) {
                    for change in &changes {
                        tracing::warn!(version, until_s, "a change of the network waits: {change}");
                    }
                }
                self.held = Some(RootHeld { version, until_s, changes });
                let record =
                    since_s.is_none().then_some(SettleRecord::RootSeen { hash, at_s: now_s });
                self.seen.replace((hash, since_s.unwrap_or(now_s)));
                self.news(record)
            }
        })
    }

    fn news(&mut self, record: Option<SettleRecord>) -> RootNews {
        let believed = self.gate.believed().filter(|state| **state != self.followed).cloned();
        if let Some(state) = &believed {
            self.followed = state.clone();
        }
        RootNews { record, believed }
    }
}

async fn first(
    line: &ChainLine,
    rules: &RootRules,
    known: Option<&RootState>,
    poll: Duration,
    stop: &Stop,
) -> Result<Option<Arc<RootState>>, RootFault> {
    let Some(known) = known else {
        return first_root(line, rules.root, rules.is_test, poll, stop).await;
    };
    match tokio::time::timeout(PATIENCE, read_root(line, rules.root, rules.is_test)).await {
        Ok(Ok(state)) => Ok(Some(Arc::new(state))),
        Ok(Err(RootFault::Chain(_))) | Err(_) => {
            tracing::warn!("the chain is away: going on with the network as last known");
            Ok(Some(Arc::new(known.clone())))
        }
        Ok(Err(fault)) => Err(fault),
    }
}
