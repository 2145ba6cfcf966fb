//! What the client stands on: the journal, and on a chain the root contract and the wallet.

use std::collections::HashSet;
use std::sync::Arc;

use cocoon_channel::{ChannelRecord, Channels};
use cocoon_contract::payment::PaymentKind;
use cocoon_host::chain::{
    ChainLine, PurseHand, Reports, RootRules, RootWatch, node_wallet, open_purse,
};
use cocoon_host::{Books, BooksEvents, Stop, keys};
use cocoon_purse::Settings;
use cocoon_settle::{SettleLog, SettleRecord};
use cocoon_units::Secret;

use crate::config::{Checked, ClientConfig};
use crate::fault::NetworkFault;
use crate::turn;

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
    pub(crate) root: RootWatch,
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
        let poll = config.chain.poll();
        let rules = RootRules {
            root: checked.root,
            is_test: config.is_test,
            notice_s: config.root_notice_s,
        };
        let root = RootWatch::begin(Arc::clone(&line), rules, poll, log, stop).await?;
        let Some(root) = root else { return Ok(None) };
        let chain: Arc<dyn cocoon_chain::Chain> = Arc::clone(&line) as _;
        let (purse, reports) = PurseHand::start(chain, purse, file, poll, stop.clone());
        let wallet = purse.address().to_raw();
        tracing::info!(chain = line.status().name, wallet, "the wallet of this client");
        Ok(Some(Self { line, purse, reports, known, root }))
    }
}
