//! A client's contract by hand. What comes next is said by the machine that nodes run, too.

use anyhow::{Context as _, Result};
use cocoon_contract::state::{ClientState, Phase};
use cocoon_settle::{
    Before, ClientLife, ClientPolicy, ClientSite, ClientView, Done as End, Held, Next, Order, Seen,
    Wait, Wish as Settle,
};
use cocoon_units::{Nanoton, Tokens};
use rand::Rng as _;
use serde_json::{Value, json};
use std::path::PathBuf;

use super::super::arguments::ChannelOptions;
use super::super::decode;
use super::super::rehearse::beat;
use super::super::say::Fields;
use super::super::spend::Spender;
use super::site::{Place, look};
use super::{Report, Wish};
use crate::mistake;

/// What everything is decided on.
struct Scene {
    own: Seen<ClientState>,
    proxy: Seen<cocoon_contract::state::ProxyState>,
    wallet: Nanoton,
    now_s: u64,
    seqno: u32,
}

pub(super) async fn act(
    spender: &Spender<'_>,
    options: &ChannelOptions,
    place: &Place,
    wish: &Wish,
) -> Result<()> {
    if *wish != Wish::Look && place.owner != spender.address {
        return Err(mistake(format_args!(
            "the client contract belongs to {}, not to wallet {}",
            place.owner, options.payer.wallet
        )));
    }
    let site = ClientSite {
        contract: place.contract,
        proxy: place.proxy,
        owner: place.owner,
        params: place.params.clone(),
        init: place.init.clone(),
        counted_before: Tokens(u64::MAX),
    };
    let mut life = ClientLife::new(site, ClientPolicy::default());
    let scene = observe(spender, place).await?;
    let note = TopUpNote::new(spender, place, options.payer.dry_run);
    let wish = settle(wish, &scene, place, &note)?;
    let mut report = Report::new(options, head(place, &scene));
    let ended = carry_out(spender, options, place, &mut life, wish, &mut report).await;
    // As long as an order may be under way, the total it was to reach is needed again.
    if !spender.is_pending() {
        note.forget();
    }
    let next = ended?;
    let scene = observe(spender, place).await?;
    report.end(&next, scene.own.state().map(decode::client));
    Ok(())
}

/// Does what the machine says until nothing is left, or only waiting. Returns what comes next.
async fn carry_out(
    spender: &Spender<'_>,
    options: &ChannelOptions,
    place: &Place,
    life: &mut ClientLife,
    wish: Settle,
    report: &mut Report<'_>,
) -> Result<String> {
    let mut told = None;
    loop {
        let scene = observe(spender, place).await?;
        if let Seen::Here { state, .. } = &scene.own
            && (state.phase, state.balance) == (Phase::Closed, Nanoton::ZERO)
        {
            return Ok(End::Closed.to_string());
        }
        let next = life.plan(&view(&scene, wish, rand::thread_rng().r#gen()));
        match &next {
            Next::Send(order) => {
                let title = describe(order);
                let done = spender.act(&title, vec![order.message.clone()], false).await?;
                report.step(title, &done);
            }
            Next::Wait(wait) if is_mistake(wait) => return Err(mistake(wait)),
            Next::Wait(wait) if is_long(wait) && options.wait && !options.payer.dry_run => {
                if told.as_ref() != Some(wait) {
                    eprintln!("{wait}");
                    told = Some(wait.clone());
                }
                beat(spender.access.chain.as_ref(), scene.seqno).await;
            }
            other => return Ok(other.to_string()),
        }
    }
}

fn view<'a>(scene: &'a Scene, wish: Settle, query_id: u64) -> ClientView<'a> {
    ClientView {
        now_s: scene.now_s,
        query_id,
        own: &scene.own,
        proxy: &scene.proxy,
        wallet: scene.wallet,
        held: Held::default(),
        wish,
        outdated_since_s: None,
        heard_s: None,
        secret_hash: None,
        nonce: None,
    }
}

async fn observe(spender: &Spender<'_>, place: &Place) -> Result<Scene> {
    let chain = &spender.access.chain;
    let own = look(&spender.access, place.contract, Seen::client).await?;
    let proxy = look(&spender.access, place.proxy, Seen::proxy).await?;
    let wallet =
        chain.account(spender.address, None).await.map_err(super::super::access::explain)?;
    Ok(Scene {
        own,
        proxy,
        wallet: wallet.balance,
        now_s: wallet.head.time.0,
        seqno: wallet.head.seqno,
    })
}

/// The wish in the machine's words. A top-up becomes a total, so that it happens once however
/// often it is interrupted.
fn settle(wish: &Wish, scene: &Scene, place: &Place, note: &TopUpNote) -> Result<Settle> {
    let amount =
        |text: &str| Nanoton::parse(text).map_err(|fault| mistake(format_args!("{text}: {fault}")));
    let stake = place.params.min_client_stake;
    Ok(match wish {
        Wish::Look => Settle::Look,
        Wish::Withdraw => Settle::Withdraw,
        Wish::Close => Settle::Leave,
        Wish::Open { deposit, .. } => {
            let deposit = deposit.as_deref().map(amount).transpose()?.unwrap_or(stake);
            if deposit < stake {
                return Err(mistake(format_args!(
                    "{deposit} is less than the network's least stake of {stake}: it could not be used"
                )));
            }
            Settle::PaidIn(deposit)
        }
        Wish::TopUp { amount: text } => {
            let paid_in = Before::client(&scene.own, place.params.price_per_token).paid_in;
            if scene.own.state().is_none() {
                return Err(super::no_such("there is no contract to top up yet; open it first"));
            }
            Settle::PaidIn(note.total(paid_in.saturating_add(amount(text)?))?)
        }
    })
}

/// What a person must do first.
fn is_mistake(wait: &Wait) -> bool {
    matches!(
        wait,
        Wait::Funds { .. }
            | Wait::ProxyAbsent
            | Wait::ProxyLeaves
            | Wait::ProxyStake { .. }
            | Wait::Broken { .. }
    )
}

/// What passes by itself.
fn is_long(wait: &Wait) -> bool {
    matches!(
        wait,
        Wait::Chain
            | Wait::Effect { .. }
            | Wait::Retry { .. }
            | Wait::Grant { .. }
            | Wait::Delay { .. }
            | Wait::Short { .. }
    )
}

fn head(place: &Place, scene: &Scene) -> Fields {
    let stake = scene.proxy.state().map(|proxy| proxy.stake);
    Fields::new()
        .add("role", "client")
        .add("contract", place.contract)
        .add("proxy contract", place.proxy)
        .add("its stake", stake)
        .add("before", scene.own.state().map(decode::client))
}

pub(super) fn describe(order: &Order) -> Fields {
    let spent = order.moved.saturating_add(order.stays).saturating_add(order.fees);
    Fields::new()
        .add("step", order.step.to_string())
        .add("why", order.why.clone())
        .add("sends", order.message.value)
        .add("becomes a deposit", nonzero(order.moved))
        .add("stays until it is closed", nonzero(order.stays))
        .add("comes back at once, about", nonzero(order.message.value.saturating_sub(spent)))
        .add("comes back from the contract", nonzero(order.returns))
        .add("fees at most about", order.fees)
}

fn nonzero(amount: Nanoton) -> Option<Nanoton> {
    (amount > Nanoton::ZERO).then_some(amount)
}

/// The total that an interrupted top-up was to reach.
struct TopUpNote(Option<PathBuf>);

impl TopUpNote {
    fn new(spender: &Spender<'_>, place: &Place, dry_run: bool) -> Self {
        let short = hex::encode(place.contract.hash.get(..8).unwrap_or_default());
        Self((!dry_run).then(|| spender.note_path(&format!("topup-{short}"))))
    }

    fn total(&self, wished: Nanoton) -> Result<Nanoton> {
        let Some(path) = &self.0 else { return Ok(wished) };
        let known = std::fs::read_to_string(path).ok();
        let known = known.and_then(|text| serde_json::from_str::<Value>(&text).ok());
        if let Some(total) = known.and_then(|value| value["paid_in_nanoton"].as_u64()) {
            let total = Nanoton(total);
            eprintln!("going on with a top-up that was interrupted: {total} paid in in all");
            return Ok(total);
        }
        let text = json!({ "paid_in_nanoton": wished.0 }).to_string();
        std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(wished)
    }

    fn forget(&self) {
        if let Some(path) = &self.0 {
            // There is none for other commands.
            let _ = std::fs::remove_file(path);
        }
    }
}
