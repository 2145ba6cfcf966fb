//! `cocoon chain`: a local TON network.

use anyhow::{Context as _, Result};
use cocoon_chain::{NodeConfig, NodeFault, ServeConfig, Serving};
use serde_json::json;
use std::path::Path;

use crate::arguments::ChainOptions;
use crate::money::{self, SERVING_FILE};
use crate::roles::run_node;

pub(crate) fn run(options: &ChainOptions) -> Result<()> {
    if let Some(command) = &options.command {
        return money::run(money::explore::run_command(command));
    }
    let mut node = NodeConfig::in_memory([0; 32]);
    node.directory.clone_from(&options.data_dir);
    node.repair = options.repair;
    if let Some(beat_ms) = options.block_ms {
        node.beat_ms = beat_ms;
    }
    let config = ServeConfig { node, http: options.http, lite: Some(options.lite) };
    run_node(&options.process, async |stop| {
        let serving = Serving::start(&config).await.map_err(explain)?;
        println!("local TON network, block every {} ms", config.node.beat_ms);
        println!("  toncenter API   http://{}/api/v2", serving.http);
        println!("  faucet          POST http://{}/faucet", serving.http);
        println!("  light clients   http://{}/global.config.json", serving.http);
        let file = options.data_dir.as_ref().map(|directory| directory.join(SERVING_FILE));
        if let Some(file) = &file {
            announce(file, &serving)?;
        }
        stop.asked().await;
        if let Some(file) = &file {
            // One that stays names a port where nobody answers, which is said then.
            let _ = std::fs::remove_file(file);
        }
        serving.stop().await?;
        Ok(())
    })
}

/// How to ask for the repair that a fault speaks of.
fn explain(fault: NodeFault) -> anyhow::Error {
    let offers = match &fault {
        NodeFault::DamagedLog { .. } => true,
        NodeFault::Damaged { way_on, .. } => way_on.contains("repair"),
        _ => false,
    };
    let fault = anyhow::Error::new(fault);
    if offers { anyhow::anyhow!("{fault:#} (cocoon chain --repair)") } else { fault }
}

/// Says in the chain's directory where it listens, for `--chain DIR` and `--chain local`.
fn announce(file: &Path, serving: &Serving) -> Result<()> {
    let text = json!({ "http": format!("http://{}", serving.http), "lite": serving.lite });
    std::fs::write(file, format!("{text}\n"))
        .with_context(|| format!("cannot write {}", file.display()))
}
