//! Runs a local TON network until interrupted: `local_network [http-address
//! [lite-address]]`. Prints one line of JSON with where it listens, then serves.

use std::error::Error;

use cocoon_chain::{NodeConfig, ServeConfig, Serving};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let http = arguments.next().unwrap_or_else(|| "127.0.0.1:8081".to_owned()).parse()?;
    let lite = arguments.next().unwrap_or_else(|| "127.0.0.1:0".to_owned()).parse()?;
    let node = NodeConfig::in_memory([0; 32]);
    let config = ServeConfig { node, http, lite: Some(lite) };
    let serving = Serving::start(&config).await?;
    #[allow(clippy::print_stdout, reason = "the answer to whoever started this")]
    {
        let global = serving.global_config();
        println!("{{\"http\":\"{}\",\"global\":{global}}}", serving.http);
    }
    tokio::signal::ctrl_c().await?;
    Ok(serving.stop().await?)
}
