//! The registry, followed while the node runs: from the chain, or from the file of a network without
//! one.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use cocoon_contract::root::RootState;
use cocoon_host::chain::{first_root, follow_root};
use cocoon_host::config::address;
use cocoon_host::{Stop, network};
use tokio::sync::watch;

use crate::config::KeyManagerConfig;
use crate::serve::RunFault;

/// How often the file of a network without a chain is looked at.
const FILE_EVERY: Duration = Duration::from_secs(1);

/// The registry as it is now; changes show as they come. Versions never fall.
pub(crate) type Registry = watch::Receiver<Arc<RootState>>;

/// Reads the registry and follows it until `stop`. `None` when the node was asked to stop before
/// the chain answered.
///
/// # Errors
/// [`RunFault`]: there is none where the configuration says.
pub(crate) async fn follow(
    config: &KeyManagerConfig,
    stop: &Stop,
) -> Result<Option<Registry>, RunFault> {
    let Some(chain) = config.chain.open()? else {
        let first = Arc::new(network::load_pseudo(&config.network_file)?);
        return Ok(Some(follow_file(config.network_file.clone(), first, stop.clone())));
    };
    let (root, poll) = (address("root", &config.root)?, config.chain.poll());
    let first = first_root(chain.as_ref(), root, config.is_test, poll, stop).await?;
    Ok(first.map(|first| follow_root(chain, root, first, poll, stop.clone())))
}

fn follow_file(path: PathBuf, first: Arc<RootState>, stop: Stop) -> Registry {
    let (sender, receiver) = watch::channel(first);
    tokio::spawn(async move {
        let mut refused = String::new();
        loop {
            tokio::select! {
                () = stop.asked() => return,
                () = sender.closed() => return,
                () = tokio::time::sleep(FILE_EVERY) => {}
            }
            match network::load_pseudo(&path) {
                Ok(root) => {
                    refused.clear();
                    let newer = |known: &mut Arc<RootState>| {
                        let newer = root.version > known.version;
                        if newer {
                            *known = Arc::new(root);
                        }
                        newer
                    };
                    if sender.send_if_modified(newer) {
                        tracing::info!(version = sender.borrow().version, "the registry changed");
                    }
                }
                // A file that is just being written; said once, the state before it holds.
                Err(fault) => {
                    let fault = fault.to_string();
                    if fault != refused {
                        tracing::warn!(fault, "the registry cannot be read; the last one holds");
                    }
                    refused = fault;
                }
            }
        }
    });
    receiver
}
