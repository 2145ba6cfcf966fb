//! `cocoon chain`: a local TON network.

use anyhow::Result;
use cocoon_chain::{NodeConfig, ServeConfig, Serving};

use crate::arguments::ChainOptions;
use crate::roles::run_node;

pub(crate) fn run(options: &ChainOptions) -> Result<()> {
    let mut node = NodeConfig::in_memory([0; 32]);
    node.directory.clone_from(&options.data_dir);
    if let Some(beat_ms) = options.block_ms {
        node.beat_ms = beat_ms;
    }
    let config = ServeConfig { node, http: options.http, lite: Some(options.lite) };
    run_node(&options.process, async |stop| {
        let serving = Serving::start(&config).await?;
        println!("local TON network, block every {} ms", config.node.beat_ms);
        println!("  toncenter API   http://{}/api/v2", serving.http);
        println!("  faucet          POST http://{}/faucet", serving.http);
        println!("  light clients   http://{}/global.config.json", serving.http);
        stop.asked().await;
        serving.stop().await?;
        Ok(())
    })
}
