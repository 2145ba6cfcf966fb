//! A deposit: the address as a QR code, and the wait for the coins.

use anyhow::{Context as _, Result, bail};
use cocoon_units::{Address, AddressForm, Nanoton};
use qrcode::QrCode;
use qrcode::render::unicode::Dense1x2;
use std::io::IsTerminal as _;
use std::time::Duration;

use super::super::access::{Access, Coins, explain};
use super::super::arguments::ReceiveOptions;
use super::super::rehearse::beat;
use super::super::say::{self, Fields};
use super::super::spend::directory;
use crate::mistake;

pub(super) async fn receive(options: &ReceiveOptions) -> Result<()> {
    let file = directory(&options.home)?.load(&options.name).map_err(mistake)?;
    let address = file.wallet().address()?;
    let amount = options.amount.as_deref().map(Nanoton::parse).transpose().map_err(mistake)?;
    let access = Access::open(&options.chain)?;
    let form = AddressForm::NON_BOUNCEABLE.on_testnet(access.coins == Coins::Testnet);
    let text = address.to_friendly(form);
    let link = link(&text, amount);
    if !options.json {
        println!("{text}\n{link}");
        if std::io::stdout().is_terminal() {
            println!("{}", picture(&link)?);
        }
    }
    let title =
        Fields::new().add("name", options.name.as_str()).add("address", address).add("link", link);
    if options.no_wait {
        if options.json {
            say::answer(true, &title);
        }
        return Ok(());
    }
    let wait = deposit(&access, address, amount, options.json);
    let limit = Duration::from_secs(options.timeout_s);
    let Ok(arrived) = tokio::time::timeout(limit, wait).await else {
        bail!("nothing arrived within {} s; the address stays good", options.timeout_s);
    };
    let (received, balance) = arrived?;
    let fields = Fields::new().add("received", received).add("balance", balance);
    if options.json {
        say::answer(true, &title.add("deposit", fields));
    } else {
        say::answer(false, &fields);
    }
    Ok(())
}

/// Waits until the balance has grown by `amount`, or at all.
async fn deposit(
    access: &Access,
    address: Address,
    amount: Option<Nanoton>,
    quiet: bool,
) -> Result<(Nanoton, Nanoton)> {
    let chain = access.chain.as_ref();
    let before = chain.account(address, None).await.map_err(explain)?.balance;
    if !quiet {
        eprintln!(
            "balance {before}; waiting for a deposit (Ctrl-C ends the wait, not the deposit)"
        );
    }
    let mut seen = before;
    loop {
        let account = chain.account(address, None).await.map_err(explain)?;
        let received = account.balance.saturating_sub(before);
        if received > Nanoton::ZERO && received >= amount.unwrap_or_default() {
            return Ok((received, account.balance));
        }
        if account.balance != seen && !quiet {
            seen = account.balance;
            eprintln!("{received} arrived; waiting for the rest");
        }
        beat(chain, account.head.seqno).await;
    }
}

/// The link that wallet software opens (`ton://transfer`, TON documentation, "deep links").
fn link(address: &str, amount: Option<Nanoton>) -> String {
    match amount {
        Some(amount) => format!("ton://transfer/{address}?amount={}", amount.0),
        None => format!("ton://transfer/{address}"),
    }
}

fn picture(link: &str) -> Result<String> {
    let code = QrCode::new(link.as_bytes()).context("the QR code")?;
    Ok(code.render::<Dense1x2>().dark_color(Dense1x2::Light).light_color(Dense1x2::Dark).build())
}

#[cfg(test)]
mod tests {
    use super::{link, picture};
    use cocoon_units::Nanoton;

    #[test]
    fn a_link_carries_address_and_amount() {
        let address = "UQDMgD2BZL896AUJvGWwRjVgyw0bI1ttLsGQAdmAx03KVvZA";
        let with = link(address, Some(Nanoton(1_500_000_000)));
        assert_eq!(with, format!("ton://transfer/{address}?amount=1500000000"));
        let lines = picture(&with).expect("fits").lines().count();
        assert!((15..40).contains(&lines), "{lines} lines");
    }
}
