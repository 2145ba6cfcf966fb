//! `cocoon chain explore` and the switches of a local chain.

use anyhow::{Context as _, Result};
use cocoon_units::{Address, Nanoton};
use serde_json::Value;

use super::access::{Access, explain};
use super::address;
use super::arguments::{
    AdvanceOptions, ChainCommand, ExploreOptions, FaucetOptions, LocalOptions, TroubleOptions,
};
use super::decode;
use super::say::{self, Fields};
use super::spend::directory;
use super::wallet::transaction;
use crate::mistake;

pub(crate) async fn run_command(command: &ChainCommand) -> Result<()> {
    match command {
        ChainCommand::Explore(options) => explore(options).await,
        ChainCommand::Faucet(options) => faucet(options).await,
        ChainCommand::State(options) => state(options).await,
        ChainCommand::Advance(options) => advance(options).await,
        ChainCommand::Trouble(options) => trouble(options).await,
    }
}

async fn explore(options: &ExploreOptions) -> Result<()> {
    let access = Access::open(&options.chain)?;
    let fields = match &options.address {
        Some(text) => {
            let address = address::parse(text, access.coins)?.0;
            one(&access, address, usize::from(options.limit)).await?
        }
        None => all(&access, options.limit).await?,
    };
    say::answer(options.json, &fields);
    Ok(())
}

/// One account with its last transactions.
async fn one(access: &Access, address: Address, limit: usize) -> Result<Fields> {
    let account = access.chain.account(address, None).await.map_err(explain)?;
    let recent = access.chain.recent_transactions(address, limit).await.map_err(explain)?;
    let transactions = recent.iter().map(transaction).collect::<Vec<_>>();
    Ok(decode::account(&account).add("transactions", transactions))
}

/// The accounts that moved last.
async fn all(access: &Access, limit: u16) -> Result<Fields> {
    if access.local_url.is_none() {
        return Err(mistake("a real network has too many accounts to list: give an ADDRESS"));
    }
    let list = access.local(&format!("/control/accounts?limit={limit}")).await?;
    let head = access.chain.head().await.map_err(explain)?;
    let mut accounts = Vec::new();
    for entry in list["accounts"].as_array().into_iter().flatten() {
        let text = entry["address"].as_str().context("an account without address")?;
        let address = Address::parse(text).map_err(|fault| anyhow::anyhow!("{text}: {fault}"))?;
        let account = access.chain.account(address, None).await.map_err(explain)?;
        let last = access.chain.recent_transactions(address, 1).await.map_err(explain)?;
        let message = last.first().and_then(|record| record.in_msg.as_ref());
        let what = message.map(|message| match message.source {
            Some(_) => decode::body(&message.body),
            None => "order of its key".to_owned(),
        });
        accounts.push(
            Fields::new()
                .add("address", address)
                .add("contract", decode::kind(&account))
                .add("coins", account.balance)
                .add("last message", what)
                .add("at", last.first().map(|record| record.time)),
        );
    }
    Ok(Fields::new()
        .add("block", head.seqno)
        .add("time", head.time)
        .add("accounts in all", list["total"].as_u64())
        .add("accounts", accounts))
}

async fn faucet(options: &FaucetOptions) -> Result<()> {
    let access = Access::open(&options.local.chain)?;
    let wallets = directory(&options.home)?;
    let to = address::parse_or_wallet(&options.address, &wallets, access.coins)?;
    let amount = Nanoton::parse(&options.amount)
        .map_err(|fault| mistake(format_args!("{}: {fault}", options.amount)))?;
    let path = format!("/faucet?address={}&amount={}", to.to_raw(), amount.0);
    access.local(&path).await?;
    let fields = Fields::new().add("to", to).add("amount", amount);
    say::answer(options.local.json, &fields);
    Ok(())
}

async fn state(options: &LocalOptions) -> Result<()> {
    let access = Access::open(&options.chain)?;
    let state = access.local("/control/state").await?;
    print_state(options.json, &state);
    Ok(())
}

async fn advance(options: &AdvanceOptions) -> Result<()> {
    let ms = milliseconds(&options.by)?;
    let access = Access::open(&options.local.chain)?;
    let state = access.local(&format!("/control/tick?ms={ms}")).await?;
    print_state(options.local.json, &state);
    Ok(())
}

async fn trouble(options: &TroubleOptions) -> Result<()> {
    let access = Access::open(&options.local.chain)?;
    let mut query = Vec::new();
    query.extend(options.standing_still.map(|flag| format!("standing_still={flag}")));
    query.extend(options.late_ms.map(|ms| format!("late_ms={ms}")));
    query.extend(options.lose_externals.map(|number| format!("lose_externals={number}")));
    if query.is_empty() {
        return Err(mistake("nothing to switch: --standing-still, --late-ms or --lose-externals"));
    }
    let state = access.local(&format!("/control/trouble?{}", query.join("&"))).await?;
    print_state(options.local.json, &state);
    Ok(())
}

fn print_state(json: bool, state: &Value) {
    if json {
        println!("{state}");
        return;
    }
    let number = |value: &Value| match value {
        Value::String(text) => text.parse().unwrap_or(0),
        other => other.as_u64().unwrap_or(0),
    };
    let coins = |name: &str| Nanoton(number(&state["coins"][name]));
    let (waiting, trouble) = (&state["waiting"], &state["trouble"]);
    let fields = Fields::new()
        .add("block", number(&state["seqno"]))
        .add("time", cocoon_units::UnixSeconds(number(&state["now_ms"]) / 1000))
        .add(
            "coins",
            Fields::new()
                .add("made by the faucet", coins("minted"))
                .add("on accounts", coins("held"))
                .add("under way", coins("waiting"))
                .add("fees", coins("fees")),
        )
        .add("waiting messages", number(&waiting["externals"]) + number(&waiting["queued"]))
        .add("standing still", trouble["standing_still"] == true)
        .add("least ms between blocks", number(&trouble["late_ms"]))
        .add("messages to be lost", number(&trouble["lose_externals"]));
    say::answer(false, &fields);
}

/// `90`, `90s`, `5min`, `3h`, `2d`.
fn milliseconds(text: &str) -> Result<u64> {
    let digits = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor = match unit.trim() {
        "" | "s" => Some(1_000),
        "ms" => Some(1),
        "min" => Some(60_000),
        "h" => Some(3_600_000),
        "d" => Some(86_400_000),
        _ => None,
    };
    let number = number.parse::<u64>().ok();
    number
        .zip(factor)
        .and_then(|(number, factor)| number.checked_mul(factor))
        .ok_or_else(|| mistake(format_args!("{text} is no time: say 90s, 5min, 3h or 2d")))
}

#[cfg(test)]
mod tests {
    use super::milliseconds;

    #[test]
    fn times_are_read_with_their_units() {
        let read = |text| milliseconds(text).ok();
        assert_eq!(read("90"), Some(90_000));
        assert_eq!(read("250ms"), Some(250));
        assert_eq!(read("2d"), Some(172_800_000));
        assert_eq!((read("soon"), read("-1s"), read("1week")), (None, None, None));
    }
}
