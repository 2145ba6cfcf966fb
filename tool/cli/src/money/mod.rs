//! What a person does with money: wallets, the chain's explorer, the registry, channels.

mod access;
mod address;
pub(crate) mod arguments;
pub(crate) mod channel;
mod decode;
pub(crate) mod explore;
mod overlay;
mod passphrase;
mod rehearse;
pub(crate) mod root;
pub(crate) mod running;
mod say;
mod spend;
pub(crate) mod wallet;
mod wallet_code;

pub(crate) use access::SERVING_FILE;

use anyhow::{Context as _, Result};

/// Runs one command to its end.
pub(crate) fn run(command: impl Future<Output = Result<()>>) -> Result<()> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?
        .block_on(command)
}
