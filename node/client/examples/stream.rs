//! An answer as it is made: `cargo run --example stream -- UP_DATA_DIR MODEL "Tell me a story."`
#![allow(clippy::print_stdout, reason = "an example talks")]

use cocoon_client::{ChatPart, Client, ClientConfig};
use std::io::Write as _;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let up = arguments.next().ok_or("say the --data-dir of `cocoon up`")?;
    let model = arguments.next().ok_or("say the model")?;
    let question = arguments.next().unwrap_or_else(|| "Tell me a story.".to_owned());

    let client = Client::connect(&ClientConfig::of_local_network(up)?).await?;
    tokio::time::timeout(std::time::Duration::from_secs(60), client.ready()).await?;
    let mut stream = client.chat(&model).user(&question).max_tokens(64).stream().await?;
    while let Some(part) = stream.next().await? {
        if let ChatPart::Text(text) = part {
            print!("{text}");
            std::io::stdout().flush()?;
        }
    }
    println!();
    println!("cost: {} nanoTON", stream.cost().map_or(0, |cost| cost.0));
    for channel in client.channels() {
        println!("channel: {channel}");
    }
    client.close().await;
    Ok(())
}
