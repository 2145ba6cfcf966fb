//! Versions of a registry: now, after a block, from a file, after a change that waits.

use anyhow::Result;
use cocoon_chain::Account;
use cocoon_contract::boc;
use cocoon_contract::cell::Cell;
use cocoon_contract::message::Body;
use cocoon_contract::root::RootState;
use cocoon_contract::root_change::RootChange;
use cocoon_contract::timelock::{Receiver, TimelockState};
use cocoon_contract::wallet::{Layout, Outgoing};
use cocoon_localchain::{Act, Rehearsal};
use cocoon_units::{Address, Nanoton};

use super::super::access::{Access, explain};
use super::super::address;
use super::super::arguments::{RootChoice, RootDiffOptions, RootShowOptions};
use super::super::decode;
use super::super::running;
use super::super::say::{self, Fields};
use super::registry;
use crate::mistake;

/// A root and whoever may change it.
pub(super) struct Registry {
    pub(super) address: Address,
    pub(super) account: Account,
    pub(super) state: RootState,
    /// The timelock that owns it, if one does.
    pub(super) timelock: Option<TimelockState>,
}

impl Registry {
    pub(super) async fn load(access: &Access, choice: &RootChoice) -> Result<Self> {
        let address = address::parse(&named(choice).await?, access.coins)?.0;
        let account = access.chain.account(address, None).await.map_err(explain)?;
        let state = state_of(&account)?;
        let owner = access.chain.account(state.owner, None).await.map_err(explain)?;
        let timelock = match (&owner.code, &owner.data) {
            (Some(code), Some(data)) => TimelockState::guarding(address, code, data, 0).ok(),
            _ => None,
        };
        Ok(Self { address, account, state, timelock })
    }

    /// The root after a change, rehearsed on the real machine.
    pub(super) async fn after(&self, access: &Access, body: &Cell) -> Result<RootState> {
        let message = from(self.state.owner, self.address, body)?;
        let mut rehearsal = Rehearsal::new(self.account.head.time, 1 << 62, false)?;
        let refused = |refusal| mistake(format_args!("it would be refused: {refusal}"));
        rehearsal.put(message).map_err(refused)?;
        loop {
            match rehearsal.step().map_err(refused)? {
                Act::Needs(address) => {
                    let state = access.chain.shard_account(address).await.map_err(explain)?;
                    rehearsal.know(address, state)?;
                }
                Act::Played(played) if played.account == self.address => {
                    let record = cocoon_chain::TransactionRecord::from_cell(played.transaction, 0)?;
                    if let Some(code @ 2..) = record.exit_code {
                        let name = cocoon_contract::op::exit::name(code);
                        return Err(mistake(format_args!(
                            "the root would refuse this: exit code {code}: {name}"
                        )));
                    }
                    let head = self.account.head;
                    return state_of(&Account::from_shard(self.address, &played.after, head)?);
                }
                Act::Played(_) => {}
                Act::Done => return Err(mistake("the root would not run this change")),
            }
        }
    }
}

/// An internal message as `from` would send it.
fn from(source: Address, to: Address, body: &Cell) -> Result<Cell> {
    let message = Outgoing::to_contract(to, Nanoton::TON, body.clone());
    Ok(message.cell_from(&source, Layout::References)?)
}

fn state_of(account: &Account) -> Result<RootState> {
    let data = account.data.as_ref().ok_or_else(|| {
        mistake(format_args!("{} is no root contract: it has no code", account.address))
    })?;
    RootState::parse(data)
        .map_err(|fault| mistake(format_args!("{} is no root contract: {fault}", account.address)))
}

pub(super) async fn show(options: &RootShowOptions) -> Result<()> {
    let access = Access::open(&options.chain)?;
    let found = Registry::load(&access, &options.root).await?;
    if let (Some(path), Some(data)) = (&options.save, &found.account.data) {
        std::fs::write(path, boc::encode(data))
            .map_err(|fault| mistake(format_args!("{}: {fault}", path.display())))?;
    }
    let limit = usize::from(options.history).saturating_mul(3).max(1);
    let recent = access.chain.recent_transactions(found.address, limit).await.map_err(explain)?;
    let changes = recent.iter().filter_map(|record| {
        let message = record.in_msg.as_ref()?;
        let Ok(Body::Root(request)) = Body::parse(&message.body) else { return None };
        Some(
            Fields::new()
                .add("time", record.time)
                .add("change", decode::root_action(&request.action))
                .add("refused", record.is_aborted.then_some(true)),
        )
    });
    let changes = changes.take(options.history.into()).collect::<Vec<_>>();
    let fields = Fields::new()
        .add("root", found.address)
        .add("contract", decode::kind(&found.account))
        .add("coins", found.account.balance)
        .add("block", found.account.head.seqno)
        .add("registry", registry(&found.state))
        .add("changes come", guard(&found))
        .add("timelock", found.timelock.as_ref().map(decode::timelock))
        .add("last changes", changes);
    say::answer(options.json, &fields);
    Ok(())
}

/// How much notice there is of a change.
fn guard(found: &Registry) -> String {
    match &found.timelock {
        Some(lock) => format!("{} after they are proposed", say::span(lock.delay_s.into())),
        None => "at once and without notice: its owner is no timelock".to_owned(),
    }
}

pub(super) async fn diff(options: &RootDiffOptions) -> Result<()> {
    let access = Access::open(&options.chain)?;
    let old = version(&access, &options.root, &options.old).await?;
    let new = version(&access, &options.root, &options.new).await?;
    let changes = old.changes(&new);
    let fields = Fields::new()
        .add("old", format!("{}, version {}", options.old, old.version))
        .add("new", format!("{}, version {}", options.new, new.version))
        .add("changes", lines(&changes))
        .add("everybody moves to new contracts", changes.iter().any(RootChange::moves_contracts));
    say::answer(options.json, &fields);
    Ok(())
}

pub(super) fn lines(changes: &[RootChange]) -> Vec<String> {
    changes.iter().map(ToString::to_string).collect()
}

/// The root that was named, or that the nodes of this machine follow.
async fn named(choice: &RootChoice) -> Result<String> {
    match &choice.root {
        Some(root) => Ok(root.clone()),
        None => running::root().await,
    }
}

async fn version(access: &Access, choice: &RootChoice, text: &str) -> Result<RootState> {
    if let Some(number) = text.strip_prefix("change:") {
        let found = Registry::load(access, choice).await?;
        let id: u32 =
            number.parse().map_err(|_| mistake(format_args!("{text} names no change")))?;
        let waiting = found.timelock.as_ref().and_then(|lock| lock.waiting.get(&id));
        let change = waiting.ok_or_else(|| mistake(format_args!("no change {id} waits")))?;
        return match change.receiver {
            Receiver::Root => found.after(access, &change.body).await,
            Receiver::Timelock => Ok(found.state),
        };
    }
    let path = std::path::Path::new(text);
    if path.is_file() {
        let bytes = std::fs::read(path)
            .map_err(|fault| mistake(format_args!("{}: {fault}", path.display())))?;
        let cell = boc::decode(&bytes, boc::Limits::ROOT)
            .map_err(|fault| mistake(format_args!("{}: {fault}", path.display())))?;
        return RootState::parse(&cell)
            .map_err(|fault| mistake(format_args!("{}: {fault}", path.display())));
    }
    let (name, block) = match text.split_once('@') {
        Some((name, block)) => {
            let block = block.parse::<u32>();
            (name, Some(block.map_err(|_| mistake(format_args!("{text} names no block")))?))
        }
        None => (text, None),
    };
    let name = match name {
        "" | "now" => named(choice).await?,
        name => name.to_owned(),
    };
    let address = address::parse(&name, access.coins)?.0;
    let account = access.chain.account(address, block).await.map_err(explain)?;
    state_of(&account)
}
