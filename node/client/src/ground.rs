//! What the client stands on: the journal, and on a chain the root contract and the wallet.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use cocoon_channel::{ChannelRecord, Channels};
use cocoon_contract::boc;
use cocoon_contract::payment::PaymentKind;
use cocoon_contract::root::RootState;
use cocoon_host::chain::{
    ChainLine, PurseHand, Reports, RootFault, first_root, follow_root, node_wallet, open_purse,
    read_root,
};
use cocoon_host::{Books, BooksEvents, Stop, keys};
use cocoon_purse::Settings;
use cocoon_settle::{RootGate, SettleLog, SettleRecord};
use cocoon_units::{Address, Secret};
use tokio::sync::watch;

use crate::config::{Checked, ClientConfig};
use crate::fault::NetworkFault;
use crate::turn;

/// How long a start waits for the chain when the journal knows a root to go on with.
const PATIENCE: Duration = Duration::from_secs(5);

/// The journal, read and open.
pub(crate) struct Journal {
    pub(crate) channels: Channels,
    pub(crate) log: SettleLog,
    pub(crate) books: Books,
    pub(crate) events: BooksEvents,
}

impl Journal {
    pub(crate) fn open(config: &ClientConfig) -> Result<Self, NetworkFault> {
        let key = keys::load_or_make(&config.data_dir.join("journal.key"))?;
        let opening = Books::open(&config.data_dir.join("journal"), &key, false)?;
        let mut channels = Channels::new(PaymentKind::ClientCharge);
        let mut log = SettleLog::default();
        for bytes in opening.records() {
            if let Some(record) = SettleRecord::decode(bytes) {
                log.apply(&record);
            } else if let Some(record) = ChannelRecord::decode(bytes) {
                channels.apply(&record);
            }
        }
        let (books, events) = opening.start(turn::snapshot(&channels, &log))?;
        Ok(Self { channels, log, books, events })
    }
}

/// A chain, its root and the wallet, ready.
pub(crate) struct Ground {
    pub(crate) line: Arc<ChainLine>,
    pub(crate) purse: PurseHand,
    pub(crate) reports: Reports,
    /// Orders that the wallet of an earlier run still has on their way.
    pub(crate) known: HashSet<u64>,
    pub(crate) first: Arc<RootState>,
    pub(crate) root: watch::Receiver<Arc<RootState>>,
    pub(crate) gate: RootGate,
}

impl Ground {
    /// Waits for the chain, unless the journal knows what to go on with. `None` when the node was
    /// asked to stop meanwhile. Fills in what `checked` cannot know without the wallet.
    pub(crate) async fn find(
        config: &ClientConfig,
        checked: &mut Checked,
        log: &SettleLog,
        stop: &Stop,
    ) -> Result<Option<Self>, NetworkFault> {
        let Some(chain) = config.chain.open()? else { return Ok(None) };
        let line = Arc::new(ChainLine::new(chain));
        let key = match &config.wallet_key {
            Some(key) => Secret::new(*key.expose()),
            None => keys::load_or_make(&config.data_dir.join("wallet.key"))?,
        };
        let wallet = node_wallet(checked.wallet, &key)?;
        let file = config.data_dir.join("purse");
        let purse = open_purse(wallet, Settings::default(), &file)?;
        let known = purse.labels().map(|label| label.0).collect();
        checked.wallet = purse.address();
        if checked.secret.expose().is_empty() {
            // Without a secret every connection would cost a message on chain.
            let secret = keys::load_or_make(&config.data_dir.join("secret.key"))?;
            checked.secret = Secret::new(secret.expose().to_vec());
        }
        let believed = log
            .root()
            .and_then(|bytes| boc::decode(bytes, boc::Limits::ROOT).ok())
            .and_then(|cell| RootState::parse(&cell).ok());
        let found = Self::first(config, checked.root, &line, believed.as_ref(), stop).await?;
        let Some(first) = found else { return Ok(None) };
        let mut gate = RootGate::new(config.root_notice_s);
        gate.restore(believed.unwrap_or_else(|| first.as_ref().clone()));
        let poll = config.chain.poll();
        let chain: Arc<dyn cocoon_chain::Chain> = Arc::clone(&line) as _;
        let root = follow_root(
            Arc::clone(&chain),
            checked.root,
            Arc::clone(&first),
            poll.max(Duration::from_millis(500)),
            stop.clone(),
        );
        let (purse, reports) = PurseHand::start(chain, purse, file, poll, stop.clone());
        let wallet = purse.address().to_raw();
        tracing::info!(chain = line.status().name, wallet, "the wallet of this client");
        Ok(Some(Self { line, purse, reports, known, first, root, gate }))
    }

    async fn first(
        config: &ClientConfig,
        root: Address,
        line: &Arc<ChainLine>,
        believed: Option<&RootState>,
        stop: &Stop,
    ) -> Result<Option<Arc<RootState>>, NetworkFault> {
        let Some(believed) = believed else {
            let poll = config.chain.poll();
            return Ok(first_root(line.as_ref(), root, config.is_test, poll, stop).await?);
        };
        let read = read_root(line.as_ref(), root, config.is_test);
        match tokio::time::timeout(PATIENCE, read).await {
            Ok(Ok(state)) => Ok(Some(Arc::new(state))),
            Ok(Err(RootFault::Chain(_))) | Err(_) => {
                tracing::warn!("the chain is away: going on with the network as last known");
                Ok(Some(Arc::new(believed.clone())))
            }
            Ok(Err(fault)) => Err(fault.into()),
        }
    }
}
