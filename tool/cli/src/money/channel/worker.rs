//! A worker's contract by hand: what is owed is collected with the proxy's signed payment.

use anyhow::Result;
use cocoon_contract::payment::{PaymentKind, SignedPayment};
use cocoon_settle::{Next, Seen, Wait, WorkerLife, WorkerPolicy, WorkerSite, WorkerView};
use cocoon_units::Tokens;
use rand::Rng as _;

use super::super::access::explain;
use super::super::arguments::ChannelOptions;
use super::super::decode;
use super::super::say::Fields;
use super::super::spend::Spender;
use super::client::describe;
use super::site::{Place, look};
use super::{Report, Wish};
use crate::mistake;

fn site(place: &Place) -> WorkerSite {
    WorkerSite {
        contract: place.contract,
        proxy: place.proxy,
        owner: place.owner,
        params: place.params.clone(),
        init: place.init.clone(),
    }
}

pub(super) async fn act(
    spender: &Spender<'_>,
    options: &ChannelOptions,
    place: &Place,
    wish: &Wish,
) -> Result<()> {
    if !matches!(wish, Wish::Look | Wish::Withdraw) {
        return Err(mistake(
            "a worker's contract is opened by its first payout and closed by the proxy: \
             cocoon channel withdraw collects",
        ));
    }
    let proxy = look(&spender.access, place.proxy, Seen::proxy).await?;
    let own = look(&spender.access, place.contract, Seen::worker).await?;
    let payment = match &options.payment {
        Some(path) => Some(read(path, place, &proxy)?),
        None if *wish == Wish::Look => None,
        None => {
            return Err(mistake(
                "the proxy's signed payment is in the worker's books: say --payment FILE; a running \
                 worker collects by itself",
            ));
        }
    };
    let mut life = WorkerLife::new(site(place), WorkerPolicy::default());
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

fn read(
    path: &std::path::Path,
    place: &Place,
    proxy: &Seen<cocoon_contract::state::ProxyState>,
) -> Result<SignedPayment> {
    let refuse = |fault: String| mistake(format_args!("{}: {fault}", path.display()));
    let bytes = std::fs::read(path).map_err(|fault| refuse(fault.to_string()))?;
    let payment = SignedPayment::from_boc(&bytes).map_err(|fault| refuse(fault.to_string()))?;
    let key =
        proxy.state().map(|proxy| proxy.public_key).unwrap_or(cocoon_units::PublicKey([0; 32]));
    payment
        .verify(PaymentKind::WorkerPayout, &place.contract, &key)
        .map_err(|fault| refuse(fault.to_string()))?;
    Ok(payment)
}
