//! Changes made: proposed, carried out, withdrawn; and roots made.

use anyhow::Result;
use cocoon_contract::address::{Network, StateInit};
use cocoon_contract::cell::Cell;
use cocoon_contract::code::{self, Codes};
use cocoon_contract::message::{RootAction, RootRequest};
use cocoon_contract::params::{CONTRACT_STRUCT_VERSION, Params};
use cocoon_contract::root::RootState;
use cocoon_contract::timelock::{
    GRACE_S, Receiver, TimelockAction, TimelockRequest, TimelockState,
};
use cocoon_contract::wallet::Outgoing;
use cocoon_units::{Address, Multiplier, Nanoton, UnixSeconds};
use rand::Rng as _;
use std::collections::{BTreeMap, BTreeSet};

use super::super::access::explain;
use super::super::arguments::{
    RootApplyOptions, RootCancelOptions, RootNewOptions, RootProposeOptions,
};
use super::super::decode;
use super::super::rehearse::beat;
use super::super::say::{self, Fields};
use super::super::spend::Spender;
use super::change::{Change, amount};
use super::version::{Registry, lines};
use crate::mistake;

/// Sent along with a request; what is not used comes back.
const REQUEST: Nanoton = Nanoton(200_000_000);
/// Stays on a root or timelock for its storage.
const DEPLOY: Nanoton = Nanoton(300_000_000);

pub(super) async fn propose(options: &RootProposeOptions) -> Result<()> {
    let spender = Spender::open(&options.payer)?;
    let found = Registry::load(&spender.access, &options.root).await?;
    let params = &found.state.network.params;
    let change = Change::parse(&options.change, params, found.timelock.as_ref())?;
    let query_id = rand::thread_rng().r#gen();
    let body = change.body(query_id)?;
    // Rehearsed as its owner would send it: a change that would fail later is refused now.
    let (what, changes) = match &change {
        Change::Root(action) => {
            let after = found.after(&spender.access, &body).await?;
            (decode::root_action(action), lines(&found.state.changes(&after)))
        }
        Change::Timelock(_) => (decode::body(&body), vec![decode::body(&body)]),
    };
    let (to, message, when) = route(&spender, &found, &change, body, query_id)?;
    let title = Fields::new()
        .add("root", found.address)
        .add("change", what)
        .add("what becomes different", changes)
        .add("takes effect", when);
    let message = Outgoing::to_contract(to, REQUEST, message);
    let done = spender.act(&title, vec![message], false).await?;
    say::answer(options.payer.json, &done.fields(title));
    Ok(())
}

/// Where a change goes, in which envelope, and when it takes effect.
fn route(
    spender: &Spender<'_>,
    found: &Registry,
    change: &Change,
    body: Cell,
    query_id: u64,
) -> Result<(Address, Cell, String)> {
    let owner = found.state.owner;
    let Some(lock) = &found.timelock else {
        if owner != spender.address {
            return Err(mistake(format_args!("only the root's owner {owner} can change it")));
        }
        return Ok((found.address, body, "at once: the root has no timelock".to_owned()));
    };
    if lock.admin != spender.address {
        return Err(mistake(format_args!("only the timelock's admin {} can propose", lock.admin)));
    }
    let (action, when) = match change {
        Change::Root(action) if action.is_revocation() => {
            (TimelockAction::Revoke { body }, "at once: it only takes something back".to_owned())
        }
        _ => {
            let receiver = match change {
                Change::Root(_) => Receiver::Root,
                Change::Timelock(_) => Receiver::Timelock,
            };
            let when = format!(
                "not before {} have passed, then by: cocoon root apply",
                say::span(lock.delay_s.into())
            );
            (TimelockAction::Propose { receiver, body }, when)
        }
    };
    Ok((owner, TimelockRequest { query_id, action }.cell()?, when))
}

pub(super) async fn apply(options: &RootApplyOptions) -> Result<()> {
    let spender = Spender::open(&options.payer)?;
    let chain = spender.access.chain.as_ref();
    let mut told = false;
    let (found, change) = loop {
        let found = Registry::load(&spender.access, &options.root).await?;
        let lock = guarded(&found)?;
        let Some((_, change)) = lock.waiting.first_key_value() else {
            return Err(mistake("no change waits"));
        };
        let (now, due) = (found.account.head.time, UnixSeconds(change.due_s.into()));
        if now >= due {
            break (lock.clone(), change.clone());
        }
        if !options.wait {
            return Err(mistake(format_args!(
                "the oldest change is due at {}, in {}: say --wait, or come back",
                say::utc(due),
                say::span(due.0 - now.0)
            )));
        }
        if !told {
            told = true;
            eprintln!("waiting until {} for: {}", say::utc(due), decode::body(&change.body));
        }
        beat(chain, found.account.head.seqno).await;
    };
    let registry = Registry::load(&spender.access, &options.root).await?;
    let is_void = registry.account.head.time.0 > u64::from(change.due_s) + u64::from(GRACE_S);
    let changes = match change.receiver {
        Receiver::Root if !is_void => {
            let after = registry.after(&spender.access, &change.body).await?;
            lines(&registry.state.changes(&after))
        }
        _ => vec![decode::body(&change.body)],
    };
    let title = Fields::new()
        .add("root", registry.address)
        .add("change", decode::body(&change.body))
        .add("too late", is_void.then_some("it is void and will only be removed"))
        .add("what becomes different", changes)
        .add("waiting after it", found.waiting.len().saturating_sub(1) as u64);
    let request =
        TimelockRequest { query_id: rand::thread_rng().r#gen(), action: TimelockAction::Apply };
    let message = Outgoing::to_contract(registry.state.owner, REQUEST, request.cell()?);
    let done = spender.act(&title, vec![message], false).await?;
    say::answer(options.payer.json, &done.fields(title));
    Ok(())
}

pub(super) async fn cancel(options: &RootCancelOptions) -> Result<()> {
    let spender = Spender::open(&options.payer)?;
    let found = Registry::load(&spender.access, &options.root).await?;
    let lock = guarded(&found)?;
    let id = options.id;
    let change =
        lock.waiting.get(&id).ok_or_else(|| mistake(format_args!("no change {id} waits")))?;
    let title =
        Fields::new().add("root", found.address).add("withdrawn", decode::body(&change.body));
    let action = TimelockAction::Cancel { id };
    let request = TimelockRequest { query_id: rand::thread_rng().r#gen(), action };
    let message = Outgoing::to_contract(found.state.owner, REQUEST, request.cell()?);
    let done = spender.act(&title, vec![message], false).await?;
    say::answer(options.payer.json, &done.fields(title));
    Ok(())
}

fn guarded(found: &Registry) -> Result<&TimelockState> {
    found
        .timelock
        .as_ref()
        .ok_or_else(|| mistake("this root has no timelock: its owner changes it at once"))
}

pub(super) async fn new(options: &RootNewOptions) -> Result<()> {
    let spender = Spender::open(&options.payer)?;
    let state = initial(options, spender.address)?;
    let init = StateInit { code: code::root()?, data: state.cell()? };
    let root = init.address();
    let account = spender.access.chain.account(root, None).await.map_err(explain)?;
    if account.code.is_some() {
        return Err(mistake(format_args!(
            "this very root exists already, at {root}: choose another --unique-id"
        )));
    }
    let mut messages = vec![Outgoing::deploy(init, DEPLOY)];
    let mut guard = None;
    if options.delay_s > 0 {
        let lock = TimelockState::initial(spender.address, root, options.delay_s);
        let init = lock.state_init(&code::timelock()?.into())?;
        let timelock = init.address();
        messages.push(Outgoing::deploy(init, DEPLOY));
        let action = RootAction::ChangeOwner(timelock);
        let hand_over = RootRequest { query_id: 0, action }.cell()?;
        messages.push(Outgoing::to_contract(root, REQUEST, hand_over));
        guard = Some(timelock);
    }
    let title = Fields::new()
        .add("new root", root)
        .add("timelock", guard)
        .add("prices", super::prices(&state.network.params));
    let done = spender.act(&title, messages, false).await?;
    say::answer(options.payer.json, &done.fields(title));
    Ok(())
}

fn initial(options: &RootNewOptions, owner: Address) -> Result<RootState> {
    let (price, fee) = (amount(&options.price)?, amount(&options.fee)?);
    if fee > price {
        return Err(mistake(format_args!(
            "the worker's part {fee} is more than the price {price}"
        )));
    }
    let params = Params {
        struct_version: CONTRACT_STRUCT_VERSION,
        params_version: 1,
        unique_id: options.unique_id,
        is_test: false,
        price_per_token: price,
        worker_fee_per_token: fee,
        prompt_multiplier: Multiplier(10_000),
        cached_multiplier: Multiplier(1_000),
        completion_multiplier: Multiplier(80_000),
        reasoning_multiplier: Multiplier(80_000),
        proxy_delay_s: options.proxy_delay_s,
        client_delay_s: options.client_delay_s,
        min_proxy_stake: amount(&options.min_proxy_stake)?,
        min_client_stake: amount(&options.min_client_stake)?,
    };
    Ok(RootState {
        owner,
        version: 0,
        proxy_hashes: BTreeSet::new(),
        registered_proxies: BTreeMap::new(),
        last_proxy_seqno: 0,
        worker_hashes: BTreeSet::new(),
        model_hashes: BTreeSet::new(),
        network: Network { params, codes: Codes::ours()? },
        key_manager: None,
    })
}
