//! The root contract, followed: its state when it changes and makes sense.

use std::sync::Arc;
use std::time::Duration;

use cocoon_chain::Chain;
use cocoon_contract::cell::Hash;
use cocoon_contract::root::RootState;
use cocoon_units::Address;
use thiserror::Error;
use tokio::sync::watch;

use crate::Stop;

/// Why a state of the root contract is not used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RootFault {
    /// Configuration: nothing is deployed at the address. Correct the address or the chain.
    #[error("no root contract is at {} on {chain}", .root.to_raw())]
    Absent {
        /// The address.
        root: Address,
        /// Which chain was asked.
        chain: String,
    },
    /// The chain: the account holds something that makes no sense as a registry. The state before
    /// it stays in force.
    #[error("state {hash} of the root contract {} makes no sense: {reason}", .root.to_raw())]
    Senseless {
        /// The address.
        root: Address,
        /// Hash of the data cell.
        hash: Hash,
        /// What is wrong with it.
        reason: String,
    },
    /// Configuration: the network is for the other mode.
    #[error("the network's test mode is {theirs}, this node's is {ours}")]
    TestMode {
        /// This node's.
        ours: bool,
        /// The network's.
        theirs: bool,
    },
    /// Environment: the chain does not answer.
    #[error("the root contract cannot be read: {0}")]
    Chain(String),
}

/// Reads the root contract's state once and checks that it makes sense.
///
/// # Errors
/// [`RootFault`].
pub async fn read_root(
    chain: &dyn Chain,
    root: Address,
    is_test: bool,
) -> Result<RootState, RootFault> {
    let account = chain.account(root, None).await;
    let account = account.map_err(|fault| RootFault::Chain(fault.to_string()))?;
    let data = account.data.ok_or_else(|| RootFault::Absent { root, chain: chain.name() })?;
    let hash = Hash(*data.repr_hash().as_array());
    let senseless = |reason: String| RootFault::Senseless { root, hash, reason };
    let state = RootState::parse(&data).map_err(|fault| senseless(fault.to_string()))?;
    let params = &state.network.params;
    params.price_table().check().map_err(|fault| senseless(fault.to_string()))?;
    if params.is_test != is_test {
        return Err(RootFault::TestMode { ours: is_test, theirs: params.is_test });
    }
    Ok(state)
}

/// Reads the root contract's state, waiting for a chain that does not answer. `None` when the
/// node was asked to stop meanwhile.
///
/// # Errors
/// [`RootFault`], except for a chain that is away.
pub async fn first_root(
    chain: &dyn Chain,
    root: Address,
    is_test: bool,
    poll: Duration,
    stop: &Stop,
) -> Result<Option<Arc<RootState>>, RootFault> {
    loop {
        match read_root(chain, root, is_test).await {
            Ok(state) => return Ok(Some(Arc::new(state))),
            Err(RootFault::Chain(fault)) => {
                tracing::warn!(%fault, "waiting for the chain to read the root contract");
            }
            Err(fault) => return Err(fault),
        }
        tokio::select! {
            () = tokio::time::sleep(poll.max(Duration::from_millis(500))) => {}
            () = stop.asked() => return Ok(None),
        }
    }
}

/// Follows the root contract from `first` on, looking every `poll`. Versions never fall; a state
/// that makes no sense is refused once, with its hash in the log, and the one before it stays in
/// force.
pub fn follow_root(
    chain: Arc<dyn Chain>,
    root: Address,
    first: Arc<RootState>,
    poll: Duration,
    stop: Stop,
) -> watch::Receiver<Arc<RootState>> {
    let is_test = first.network.params.is_test;
    let (sender, receiver) = watch::channel(first);
    tokio::spawn(async move {
        let mut refused = None;
        loop {
            tokio::select! {
                () = tokio::time::sleep(poll) => {}
                () = stop.asked() => return,
                () = sender.closed() => return,
            }
            match read_root(chain.as_ref(), root, is_test).await {
                Ok(state) => {
                    refused = None;
                    let version = state.version;
                    let is_newer = |known: &mut Arc<RootState>| {
                        let is_newer = version > known.version;
                        if is_newer {
                            *known = Arc::new(state);
                        }
                        is_newer
                    };
                    if sender.send_if_modified(is_newer) {
                        tracing::info!(version, "the root contract changed");
                    }
                }
                // The line says that the chain is away.
                Err(RootFault::Chain(_)) => {}
                Err(fault) => {
                    if refused.as_ref() != Some(&fault) {
                        tracing::error!(%fault, "refused; the state before it stays in force");
                    }
                    refused = Some(fault);
                }
            }
        }
    });
    receiver
}
