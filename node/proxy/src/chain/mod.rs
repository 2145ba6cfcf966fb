//! The proxy's side towards the chain: its contract followed, its orders sent, its old contracts
//! wound down.
//!
//! ```text
//!   follow ── transactions ──►┐                       ┌──► PurseHand (orders)
//!   roots  ── states ────────►├─ ChainSide ─► Turn ───┤
//!   purse  ── reports ───────►│                       └──► wind, one task for each old contract
//!   wind   ── orders, ends ──►┘
//! ```

mod follow;
mod orders;
mod side;
mod store;
mod wind;

pub(crate) use follow::ContractSeen;
pub(crate) use orders::{Purpose, deposit, purse_order, withdrawal};
pub(crate) use side::{ChainSide, ChainWhole, Heard, Later, OldLine};
pub(crate) use store::Roots;
pub(crate) use wind::WindEvent;

use std::sync::Arc;

use cocoon_chain::Chain;
use cocoon_contract::root::RootState;
use cocoon_host::chain::{ChainLine, RootFault, node_wallet, open_purse, read_root};
use cocoon_host::{Stop, keys, network};
use cocoon_purse::{Purse, Settings};
use cocoon_units::{Address, Secret};

use crate::config::{Checked, ProxyConfig};
use crate::fault::RunFault;

/// What a proxy starts with: the registry, and the chain when there is one.
pub(crate) struct Ground {
    pub(crate) root: Arc<RootState>,
    pub(crate) chain: Option<RealGround>,
}

/// The chain a proxy stands on.
pub(crate) struct RealGround {
    pub(crate) line: Arc<ChainLine>,
    pub(crate) purse: Purse,
    pub(crate) roots: Roots,
}

impl RealGround {
    pub(crate) fn wallet(&self) -> Address {
        self.purse.address()
    }
}

/// Opens the chain and reads the registry. A chain that does not answer is waited for, unless an
/// earlier run has kept the registry's state.
///
/// # Errors
/// [`RunFault`] says what to correct.
pub(crate) async fn ground(
    config: &ProxyConfig,
    checked: &Checked,
    stop: &Stop,
) -> Result<Ground, RunFault> {
    let Some(chain) = config.chain.open()? else {
        let root = Arc::new(network::load_pseudo(&config.network_file)?);
        return Ok(Ground { root, chain: None });
    };
    let line = Arc::new(ChainLine::new(chain));
    let key = wallet_key(config)?;
    let wallet = node_wallet(checked.owner, &key)?;
    let purse = open_purse(wallet, Settings::default(), &config.data_dir.join("purse"))?;
    let roots = Roots::new(config.data_dir.join("roots"));
    let root = first_root(config, checked, &line, &roots, stop).await?;
    roots.keep(&root)?;
    Ok(Ground { root, chain: Some(RealGround { line, purse, roots }) })
}

async fn first_root(
    config: &ProxyConfig,
    checked: &Checked,
    line: &ChainLine,
    roots: &Roots,
    stop: &Stop,
) -> Result<Arc<RootState>, RunFault> {
    match read_root(line, checked.root, config.is_test).await {
        Ok(root) => return Ok(Arc::new(root)),
        Err(RootFault::Chain(fault)) => {
            if let Some(root) = roots.newest()? {
                let version = root.version;
                tracing::warn!(%fault, version, "starting with the registry known before");
                return Ok(Arc::new(root));
            }
        }
        Err(fault) => return Err(fault.into()),
    }
    let poll = config.chain.poll();
    let root = cocoon_host::chain::first_root(line, checked.root, config.is_test, poll, stop);
    root.await?.ok_or(RunFault::Stopped)
}

fn wallet_key(config: &ProxyConfig) -> Result<Secret<[u8; 32]>, RunFault> {
    match &config.wallet_key {
        Some(key) => Ok(key.clone()),
        None => Ok(keys::load_or_make(&config.data_dir.join("wallet.key"))?),
    }
}

/// A chain to share.
pub(crate) fn shared(line: &Arc<ChainLine>) -> Arc<dyn Chain> {
    Arc::clone(line) as Arc<dyn Chain>
}
