//! `cocoon key-manager`: keys of end-to-end encryption for attested nodes.

use anyhow::Result;
use clap::Args;
use cocoon_host::config::Layers;
use cocoon_keymgr::{KeyManagerConfig, RunFault, Trail};
use cocoon_wire::config::KeyStorageRunner;
use cocoon_wire::config_json;
use std::path::PathBuf;

use crate::arguments::RoleOptions;
use crate::mistake;
use crate::roles::run_node;

/// Options of `cocoon key-manager`.
#[derive(Clone, Debug, Args)]
pub(crate) struct KeyManagerOptions {
    #[command(flatten)]
    role: RoleOptions,
    /// Check an audit trail, print its length and newest hash, and end.
    #[arg(long, value_name = "FILE")]
    check_audit: Option<PathBuf>,
}

/// `cocoon key-manager`
pub(crate) fn run(options: &KeyManagerOptions) -> Result<()> {
    if let Some(path) = &options.check_audit {
        let chain = Trail::check(path)?;
        println!("{} lines, newest {}", chain.lines(), chain.head());
        return Ok(());
    }
    let role = &options.role;
    let defaults = match &role.reference_config {
        None => KeyManagerConfig::default(),
        Some(path) => {
            let named = |fault: &dyn std::fmt::Display| {
                mistake(format_args!("{}: {fault}", path.display()))
            };
            let text = std::fs::read_to_string(path).map_err(|fault| named(&fault))?;
            let file: KeyStorageRunner<'static> =
                config_json::read(&text).map_err(|fault| named(&fault))?;
            KeyManagerConfig::from_reference(&file).map_err(|fault| named(&fault))?
        }
    };
    let mut layers = Layers::defaults(&defaults).map_err(mistake)?;
    if let Some(path) = &role.config {
        layers = layers.file(path).map_err(mistake)?;
    }
    layers = layers
        .environment("COCOON_KEY_MANAGER_", std::env::vars())
        .and_then(|layers| layers.flag("network_file", role.network_file.as_ref()))
        .and_then(|layers| layers.flag("data_dir", role.data_dir.as_ref()))
        .map_err(mistake)?;
    for setting in &role.settings {
        layers = layers.set(setting).map_err(mistake)?;
    }
    if role.print_config {
        print!("{}", layers.print());
        return Ok(());
    }
    let config: KeyManagerConfig = layers.build().map_err(mistake)?;
    config.check().map_err(mistake)?;
    if role.check_config {
        println!("configuration is usable");
        return Ok(());
    }
    run_node(&role.process, async |stop| match Box::pin(cocoon_keymgr::run(&config, &stop)).await {
        Ok(()) => Ok(()),
        Err(RunFault::Config(fault)) => Err(mistake(fault)),
        Err(fault) => Err(fault.into()),
    })
}
