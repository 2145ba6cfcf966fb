//! A proxy's contract by its owner's hand.

use anyhow::Result;
use cocoon_contract::address::{self, ProxyIdentity};
use cocoon_contract::message::{ProxyAction, ProxyRequest};
use cocoon_contract::root::RootState;
use cocoon_contract::state::{Phase, ProxyState};
use cocoon_contract::wallet::Outgoing;
use cocoon_settle::Seen;
use cocoon_units::{Nanoton, PublicKey, UnixSeconds};
use rand::Rng as _;

use super::super::access::explain;
use super::super::address as typed;
use super::super::arguments::ChannelOptions;
use super::super::decode;
use super::super::rehearse::beat;
use super::super::say::{self, Fields};
use super::super::spend::Spender;
use super::site::{Place, look};
use super::{Report, Wish};
use crate::mistake;

/// Goes along with a request for its gas; what is left comes back.
const ATTACHED: Nanoton = Nanoton(300_000_000);
/// Stays on a new contract for its storage.
const DEPLOY: Nanoton = Nanoton(300_000_000);

pub(super) async fn open(spender: &Spender<'_>, options: &ChannelOptions, key: &str) -> Result<()> {
    let root = typed::parse(&options.contract, spender.access.coins)?.0;
    let account = spender.access.chain.account(root, None).await.map_err(explain)?;
    let state = account.data.as_ref().and_then(|data| RootState::parse(data).ok());
    let state = state.ok_or_else(|| mistake(format_args!("{root} is no root contract")))?;
    let mut public_key = [0; 32];
    hex::decode_to_slice(key, &mut public_key)
        .map_err(|_| mistake(format_args!("{key} is no public key: 64 hex digits")))?;
    let identity =
        ProxyIdentity { owner: spender.address, public_key: PublicKey(public_key), root };
    let init = address::proxy_init(&identity, &state.network)?;
    let contract = init.address();
    let mut report =
        Report::new(options, Fields::new().add("role", "proxy").add("contract", contract));
    let seen = look(&spender.access, contract, Seen::proxy).await?;
    if seen.state().is_none() {
        let title = Fields::new()
            .add("step", "put the contract on chain")
            .add("contract", contract)
            .add("stays until it is closed", DEPLOY);
        let done = spender.act(&title, vec![Outgoing::deploy(init, DEPLOY)], false).await?;
        report.step(title, &done);
    }
    let least = state.network.params.min_proxy_stake;
    let next =
        format!("a stake of at least {least}: cocoon channel topup {contract} AMOUNT --role proxy");
    let seen = look(&spender.access, contract, Seen::proxy).await?;
    report.end(&next, seen.state().map(decode::proxy));
    Ok(())
}

pub(super) async fn act(
    spender: &Spender<'_>,
    options: &ChannelOptions,
    place: &Place,
    wish: &Wish,
) -> Result<()> {
    let state = state(spender, place).await?;
    let head = Fields::new()
        .add("role", "proxy")
        .add("contract", place.contract)
        .add("before", decode::proxy(&state));
    let mut report = Report::new(options, head);
    let next = match wish {
        Wish::Look => next(&state),
        Wish::Open { .. } => {
            return Err(mistake("the contract is on chain already; a new one needs --proxy-key"));
        }
        Wish::TopUp { amount } => {
            let amount = Nanoton::parse(amount)
                .map_err(|fault| mistake(format_args!("{amount}: {fault}")))?;
            let action = ProxyAction::IncreaseStake { amount };
            let title = Fields::new().add("step", format!("add {amount} to the stake"));
            send(spender, place, action, amount, title, &mut report).await?;
            "the stake comes back when the contract is closed".to_owned()
        }
        Wish::Withdraw => {
            if state.balance == Nanoton::ZERO {
                return Err(mistake("the proxy has earned nothing that was not paid out"));
            }
            let title = Fields::new()
                .add("step", "pay the proxy's earnings out")
                .add("comes back from the contract", state.balance)
                .add("goes to", state.owner);
            send(spender, place, ProxyAction::Payout, Nanoton::ZERO, title, &mut report).await?;
            "done".to_owned()
        }
        Wish::Close => close(spender, options, place, &mut report).await?,
    };
    let after = self::state(spender, place).await?;
    report.end(&next, Some(decode::proxy(&after)));
    Ok(())
}

async fn state(spender: &Spender<'_>, place: &Place) -> Result<ProxyState> {
    match look(&spender.access, place.contract, Seen::proxy).await? {
        Seen::Here { state, .. } => Ok(state),
        _ => Err(super::no_such("the proxy contract cannot be read")),
    }
}

fn next(state: &ProxyState) -> String {
    match state.phase {
        Phase::Normal => "in use".to_owned(),
        Phase::Closing => {
            let until = say::utc(UnixSeconds(state.unlock_s.into()));
            format!("its close can be completed from {until} on, by: cocoon channel close")
        }
        Phase::Closed => "closed".to_owned(),
    }
}

/// Both halves of a close: the wish, and its completion when the delay is over.
async fn close(
    spender: &Spender<'_>,
    options: &ChannelOptions,
    place: &Place,
    report: &mut Report<'_>,
) -> Result<String> {
    let mut told = false;
    loop {
        let state = state(spender, place).await?;
        if state.phase == Phase::Closed {
            return Ok("closed; stake and earnings went to the owner".to_owned());
        }
        if state.owner != spender.address {
            return Err(mistake(format_args!("only the owner {} can close it", state.owner)));
        }
        let head = spender.access.chain.head().await.map_err(explain)?;
        let is_due = head.time.0 >= u64::from(state.unlock_s);
        if state.phase == Phase::Closing && !is_due {
            if !options.wait || options.payer.dry_run {
                return Ok(next(&state));
            }
            if !told {
                eprintln!("{}", next(&state));
                told = true;
            }
            beat(spender.access.chain.as_ref(), head.seqno).await;
            continue;
        }
        let returns = state.stake.saturating_add(state.balance);
        let title = match state.phase {
            Phase::Normal => Fields::new()
                .add("step", "start to close: clients can take their money meanwhile")
                .add("lasts", say::span(place.params.proxy_delay_s.into())),
            _ => Fields::new()
                .add("step", "complete the close")
                .add("comes back from the contract", returns),
        };
        send(spender, place, ProxyAction::Close, Nanoton::ZERO, title, report).await?;
        if options.payer.dry_run {
            return Ok("the delay runs from then on".to_owned());
        }
    }
}

async fn send(
    spender: &Spender<'_>,
    place: &Place,
    action: ProxyAction,
    amount: Nanoton,
    title: Fields,
    report: &mut Report<'_>,
) -> Result<()> {
    let query_id = rand::thread_rng().r#gen();
    let body = ProxyRequest { query_id, action, excess: spender.address }.cell()?;
    let value = amount.saturating_add(ATTACHED);
    let title = title.add("sends", value).add("comes back at once, about", ATTACHED);
    let message = Outgoing::to_contract(place.contract, value, body);
    let done = spender.act(&title, vec![message], false).await?;
    report.step(title, &done);
    Ok(())
}
