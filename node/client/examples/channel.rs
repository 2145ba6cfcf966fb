//! The money of a program in the network of `cocoon up` (without `--pseudo`): its wallet, and its
//! channel from the first deposit to the last coin back. `cargo run --example channel -- UP_DATA_DIR`
#![allow(clippy::print_stdout, reason = "an example talks")]

use cocoon_client::{
    AddressForm, Channel, Client, ClientConfig, MoneyAct, MoneyPlan, MoneyRefusal, Nanoton, TopUp,
};
use std::time::Duration;

/// Without the proxy's hand a close takes the network's delay; that of `cocoon up` is a minute.
const PATIENCE: Duration = Duration::from_secs(180);

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let up = std::env::args().nth(1).ok_or("say the --data-dir of `cocoon up`")?;
    let config = ClientConfig::of_local_network(up)?;
    let client = Client::connect(&config).await?;
    let wallet = client.wallet().ok_or("this network has no chain: start it without --pseudo")?;
    let address = wallet.address.to_friendly(AddressForm::NON_BOUNCEABLE);
    println!("fund it: cocoon chain faucet {address} 20 --chain {}", config.chain.url);

    // As soon as the coins are there the contract is made, funded and shown to the proxy.
    tokio::time::timeout(PATIENCE, client.ready()).await?;
    let state = client.channels().into_iter().next().ok_or("no proxy was met")?;
    println!("{state}");
    let channel = client.channel(state.proxy);

    let two = Nanoton(2 * Nanoton::TON.0);
    let paid_in = state.money.map_or(Nanoton::ZERO, |money| money.paid_in);
    println!("two more would be: {}", channel.preview(MoneyAct::TopUp(TopUp::By(two))).await?.next);
    // By its total: asked for again, after a crash say, it does not happen twice.
    let total = TopUp::Until(paid_in.saturating_add(two));
    done(&channel, "top up", channel.top_up(total).await).await?;

    let models = client.models().await?;
    let model = models.first().ok_or("no model is served")?;
    let answer = client.chat(&model.id).user("Say hello.").max_tokens(16).send().await?;
    println!("an answer for {}", answer.cost);
    done(&channel, "charge", channel.charge().await).await?;
    done(&channel, "withdraw", channel.withdraw().await).await?;
    done(&channel, "close", channel.close().await).await?;
    client.close().await;
    Ok(())
}

/// Shows what was begun, waits until it stands on chain, and shows what is there then.
async fn done(
    channel: &Channel,
    what: &str,
    begun: Result<MoneyPlan, MoneyRefusal>,
) -> Result<(), Box<dyn std::error::Error>> {
    println!("{what}: {}", begun?.next);
    let view = tokio::time::timeout(PATIENCE, channel.settled()).await??;
    let balance = view.on_chain.map_or(Nanoton::ZERO, |held| held.balance);
    println!("{what}: done, {balance} there, {}", view.standing.word());
    Ok(())
}
