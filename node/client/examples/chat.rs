//! One question to the network of `cocoon up`:
//! `cargo run --example chat -- UP_DATA_DIR "What is attestation?"`
#![allow(clippy::print_stdout, reason = "an example talks")]

use cocoon_client::{AddressForm, Client, ClientConfig};
use std::time::Duration;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let up = arguments.next().ok_or("say the --data-dir of `cocoon up`")?;
    let question = arguments.next().unwrap_or_else(|| "Say hello.".to_owned());

    let config = ClientConfig::of_local_network(up)?;
    let client = Client::connect(&config).await?;
    if let Some(wallet) = client.wallet() {
        // The first time on a chain: with coins there, the channel is opened by itself.
        let address = wallet.address.to_friendly(AddressForm::NON_BOUNCEABLE);
        eprintln!("paid by {address}; when it is empty, give it test coins:");
        eprintln!("  cocoon chain faucet {address} 20 --chain {}", config.chain.url);
    }
    tokio::time::timeout(Duration::from_secs(120), client.ready()).await?;
    let model = first_model(&client).await?;
    let answer = client
        .chat(&model)
        .system("You are a helpful assistant.")
        .user(&question)
        .max_tokens(64)
        .send()
        .await?;

    println!("{}", answer.text);
    println!("cost: {} nanoTON", answer.cost.0);
    println!("answered by {:?}, listed: {:?}", answer.machine, client.listed(&answer.machine));
    client.close().await;
    Ok(())
}

/// The first model that somebody serves; workers may take a moment.
async fn first_model(client: &Client) -> Result<String, Box<dyn std::error::Error>> {
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(10);
    loop {
        match client.models().await {
            Ok(models) if !models.is_empty() => return Ok(models[0].id.clone()),
            Err(fault) if tokio::time::Instant::now() > deadline => return Err(fault.into()),
            Ok(_) if tokio::time::Instant::now() > deadline => return Err("no models".into()),
            _ => tokio::time::sleep(std::time::Duration::from_millis(50)).await,
        }
    }
}
