//! Serves a model until it is interrupted: `serve MODEL.gguf [ADDRESS] [THREADS]`.
//!
//! `MODEL` may also be the name of a preset, which is then fetched into the store.

use std::sync::Arc;

use cocoon_engine::store::ModelStore;
use cocoon_engine::{EngineConfig, EngineEvent, run};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let model = arguments.next().ok_or("usage: serve MODEL [ADDRESS] [THREADS]")?;
    let mut config = match cocoon_engine::preset::find_preset(&model) {
        Some(preset) => {
            let path =
                ModelStore::from_env()?.obtain(preset, &mut |event| eprintln!("{event:?}"))?;
            let sha256 = Some(preset.sha256.parse()?);
            EngineConfig { sha256, ..EngineConfig::new(path, preset.name) }
        }
        None => EngineConfig::new(model, "model"),
    };
    if let Some(address) = arguments.next() {
        config.listen = address.parse()?;
    }
    if let Some(threads) = arguments.next() {
        config.threads = threads.parse()?;
    }
    let observer = Arc::new(|event: EngineEvent| {
        if matches!(event, EngineEvent::Listening { .. } | EngineEvent::Ready { .. }) {
            eprintln!("{event:?}");
        }
    });
    run(config, observer, async {
        // Without a handler for the signal the engine runs until it is killed.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    })
    .await?;
    Ok(())
}
