//! What the machines of `cocoon up` prove: `cargo run --example verify -- UP_DATA_DIR`
#![allow(clippy::print_stdout, reason = "an example talks")]

use cocoon_client::{Client, ClientConfig};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let up = std::env::args().nth(1).ok_or("say the --data-dir of `cocoon up`")?;
    let client = Client::connect(&ClientConfig::of_local_network(up)?).await?;
    // The evidence of workers comes by way of proxies: wait until one is there.
    tokio::time::timeout(std::time::Duration::from_secs(60), client.ready()).await?;

    let verified = client.verify().await?;
    for line in &verified.examination.claims {
        println!("{}: {} {}", line.subject, line.claim, line.verdict.word());
    }
    for channel in client.channels() {
        println!("channel: {channel}");
    }
    client.close().await;
    match verified.holds() {
        true => Ok(()),
        false => Err(verified.objections.join("\n").into()),
    }
}
