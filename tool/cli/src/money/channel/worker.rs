//! A worker's contract by hand: what is owed is collected with the proxy's signed payment.

use anyhow::Result;
use cocoon_contract::payment::{PaymentKind, SignedPayment};
use cocoon_contract::state::ProxyState;
use cocoon_settle::{Next, Seen, Wait, WorkerLife, WorkerPolicy, WorkerSite, WorkerView};
use cocoon_units::Tokens;
use rand::Rng as _;

use super::super::access::explain;
use super::super::address as typed;
use super::super::arguments::ChannelOptions;
use super::super::decode;
use super::super::say::Fields;
use super::super::spend::Spender;
use super::client::describe;
use super::site::{self, Place, look};
use super::{Report, Wish, books};
use crate::mistake;

fn of(place: &Place) -> WorkerSite {
    WorkerSite {
        contract: place.contract,
        proxy: place.proxy,
        owner: place.owner,
        params: place.params.clone(),
        init: place.init.clone(),
    }
}

/// Finds the contract: by the books of a worker that does not run, or by its owner.
pub(super) async fn act(
    spender: &Spender<'_>,
    options: &ChannelOptions,
    wish: &Wish,
) -> Result<()> {
    let coins = spender.access.coins;
    let named = typed::parse(&options.contract, coins)?.0;
    let found = match options.payment {
        Some(_) => None,
        None => books::find(options, named)?,
    };
    let owner = match (&options.owner, &found) {
        (Some(text), _) => typed::parse(text, coins)?.0,
        (None, Some(found)) => found.owner.unwrap_or(spender.address),
        (None, None) => spender.address,
    };
    // A contract that was never deployed is known to its proxy contract only.
    let at_proxy = found.as_ref().map(|found| found.proxy.to_string());
    let contract = at_proxy.unwrap_or_else(|| options.contract.clone());
    let options = &ChannelOptions { contract, ..options.clone() };
    let place = site::find(spender, options, owner).await?;
    if let Some(found) = &found {
        eprintln!("the worker's books in {} hold a payment", found.data_dir.display());
        if found.contract != place.contract {
            return Err(mistake(format_args!(
                "the worker's contract is {}, not the one of {owner}: say --owner ADDRESS, whom it \
                 pays",
                found.contract
            )));
        }
    }
    at(spender, options, &place, wish, found.map(|found| found.payment)).await
}

/// Looks, or collects with a payment of the books or of a file.
pub(super) async fn at(
    spender: &Spender<'_>,
    options: &ChannelOptions,
    place: &Place,
    wish: &Wish,
    payment: Option<SignedPayment>,
) -> Result<()> {
    if !matches!(wish, Wish::Look | Wish::Withdraw) {
        return Err(mistake(
            "a worker's contract is opened by its first payout and closed by the proxy: \
             cocoon channel withdraw collects",
        ));
    }
    let proxy = look(&spender.access, place.proxy, Seen::proxy).await?;
    let own = look(&spender.access, place.contract, Seen::worker).await?;
    let payment = match (payment, &options.payment) {
        (Some(payment), _) => Some(checked(payment, place, &proxy).map_err(mistake)?),
        (None, Some(path)) => Some(read(path, place, &proxy)?),
        (None, None) if *wish == Wish::Look => None,
        (None, None) => {
            return Err(mistake(
                "no books of a worker here hold a payment for it: name them with --data-dir DIR, the \
                 running worker with --node URL, or a payment that was exported with --payment FILE",
            ));
        }
    };
    let mut life = WorkerLife::new(of(place), WorkerPolicy::default());
    let owed = life.owed(&own, payment.as_ref());
    let head = Fields::new()
        .add("role", "worker")
        .add("contract", place.contract)
        .add("proxy contract", place.proxy)
        .add("owed", payment.as_ref().map(|_| owed))
        .add("before", own.state().map(decode::worker));
    let mut report = Report::new(options, head);
    let next = loop {
        let own = look(&spender.access, place.contract, Seen::worker).await?;
        let paid = own.state().map_or(Tokens::ZERO, |state| state.tokens);
        let is_owed = payment.as_ref().is_some_and(|payment| payment.tokens() > paid);
        if *wish == Wish::Look || !is_owed {
            break "nothing to collect with this payment".to_owned();
        }
        let wallet = spender.access.chain.account(spender.address, None).await.map_err(explain)?;
        let view = WorkerView {
            now_s: wallet.head.time.0,
            query_id: rand::thread_rng().r#gen(),
            own: &own,
            proxy: &proxy,
            wallet: wallet.balance,
            wallet_address: spender.address,
            payment: payment.as_ref(),
            payment_s: wallet.head.time.0,
            collect: true,
            leaving: false,
        };
        match life.plan(&view) {
            Next::Send(order) => {
                let title = describe(&order);
                let done = spender.act(&title, vec![order.message.clone()], false).await?;
                report.step(title, &done);
            }
            Next::Wait(wait @ (Wait::Funds { .. } | Wait::Broken { .. })) => {
                return Err(mistake(wait));
            }
            other => break other.to_string(),
        }
    };
    let own = look(&spender.access, place.contract, Seen::worker).await?;
    report.end(&next, own.state().map(decode::worker));
    Ok(())
}

fn read(path: &std::path::Path, place: &Place, proxy: &Seen<ProxyState>) -> Result<SignedPayment> {
    let refuse = |fault: String| mistake(format_args!("{}: {fault}", path.display()));
    let bytes = std::fs::read(path).map_err(|fault| refuse(fault.to_string()))?;
    let payment = SignedPayment::from_boc(&bytes).map_err(|fault| refuse(fault.to_string()))?;
    if payment.target() != place.contract {
        return Err(refuse(format!(
            "it is for {}, not for {}: give that address, or --owner ADDRESS",
            payment.target(),
            place.contract
        )));
    }
    checked(payment, place, proxy).map_err(refuse)
}

/// Checked as the contract will.
fn checked(
    payment: SignedPayment,
    place: &Place,
    proxy: &Seen<ProxyState>,
) -> Result<SignedPayment, String> {
    let key =
        proxy.state().map(|proxy| proxy.public_key).unwrap_or(cocoon_units::PublicKey([0; 32]));
    payment
        .verify(PaymentKind::WorkerPayout, &place.contract, key)
        .map_err(|fault| fault.to_string())?;
    Ok(payment)
}
