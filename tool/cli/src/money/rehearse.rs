//! What an order does: first on copies of the accounts, then for real, shown the same way.

use anyhow::{Context as _, Result};
use cocoon_chain::{Account, Chain, Head, ShardAccount, TransactionRecord};
use cocoon_contract::cell::Cell;
use cocoon_contract::op::exit;
use cocoon_localchain::{Act, Refusal, Rehearsal};
use cocoon_units::{Address, Nanoton, UnixSeconds};
use std::collections::VecDeque;
use std::time::Duration;

use super::access::explain;
use super::decode;
use super::say::Fields;
use crate::mistake;

/// How often a chain that cannot tell is asked.
const POLL: Duration = Duration::from_millis(300);
/// Longest wait for a message inside the chain.
const MESSAGE_TIMEOUT: Duration = Duration::from_secs(90);
/// Transactions looked through for one message.
const RECENT: usize = 64;
/// Most transactions followed.
const STEPS_MAX: usize = 64;

/// One transaction.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) record: TransactionRecord,
    /// What the account is.
    kind: Option<String>,
}

/// Coins of an account before and after.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) account: Address,
    pub(crate) before: Nanoton,
    pub(crate) after: Nanoton,
}

/// All that follows from one external message.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) steps: Vec<Step>,
    pub(crate) changes: Vec<Change>,
    /// The accounts after a rehearsal.
    pub(crate) states: Vec<(Address, ShardAccount)>,
}

impl Step {
    /// Why the transaction did not do what was asked; `None` when it did, or had nothing to do.
    pub(crate) fn fault(&self) -> Option<String> {
        match self.record.exit_code {
            Some(0 | 1) if self.record.is_aborted => Some("it could not pay its messages".into()),
            Some(0 | 1) | None => None,
            Some(code) => Some(format!("exit code {code}: {}", exit::name(code))),
        }
    }

    fn fields(&self) -> Fields {
        let record = &self.record;
        let message = record.in_msg.as_ref();
        let from_outside = message.is_none_or(|message| message.source.is_none());
        let what = message
            .filter(|_| !from_outside)
            .map_or("order of the wallet's key".to_owned(), |message| decode::body(&message.body));
        Fields::new()
            .add("account", record.account)
            .add("contract", self.kind.clone())
            .add("message", what)
            .add("value", message.filter(|_| !from_outside).map(|message| message.value))
            .add("fees", record.fees)
            .add("failed", self.fault())
    }
}

impl Outcome {
    /// What all of it cost: coins that were there before and are nowhere after.
    pub(crate) fn fees(&self) -> Nanoton {
        let sum = |amount: fn(&Change) -> Nanoton| {
            self.changes.iter().map(|change| u128::from(amount(change).0)).sum::<u128>()
        };
        let (before, after) = (sum(|change| change.before), sum(|change| change.after));
        Nanoton(u64::try_from(before.saturating_sub(after)).unwrap_or(u64::MAX))
    }

    /// The first step that did not do what was asked.
    pub(crate) fn fault(&self) -> Option<String> {
        let fault = |step: &Step| {
            let name = step.kind.clone().unwrap_or_else(|| step.record.account.to_string());
            step.fault().map(|fault| format!("{name}: {fault}"))
        };
        self.steps.iter().find_map(fault)
    }

    pub(crate) fn fields(&self) -> Fields {
        let changes = self.changes.iter().map(|change| {
            let (sign, moved) = match change.after.checked_sub(change.before) {
                Some(gain) => ("+", gain),
                None => ("-", change.before.saturating_sub(change.after)),
            };
            Fields::new()
                .add("account", change.account)
                .add("before", change.before)
                .add("after", change.after)
                .add("change", format!("{sign}{moved}"))
        });
        Fields::new()
            .add("steps", self.steps.iter().map(Step::fields).collect::<Vec<_>>())
            .add("accounts", changes.collect::<Vec<_>>())
            .add("fees in all", self.fees())
    }
}

/// Runs an external message on copies of the accounts as they are now.
///
/// Its signature is not looked at, so that nothing need be unlocked to be tried.
pub(crate) async fn rehearse(
    chain: &dyn Chain,
    message: Cell,
    now: UnixSeconds,
) -> Result<Outcome> {
    let mut accounts: Vec<(Account, Option<Account>)> = Vec::new();
    let mut steps = Vec::new();
    // Past every account's last transaction: logical times do not enter fees.
    let mut rehearsal = Rehearsal::new(now, 1 << 62, true)?;
    let refused = |refusal: Refusal| mistake(format_args!("it would be refused: {refusal}"));
    rehearsal.put(message).map_err(refused)?;
    let head = Head { seqno: 0, time: now };
    loop {
        match rehearsal.step().map_err(refused)? {
            Act::Done => break,
            Act::Needs(address) => {
                let state = chain.shard_account(address).await.map_err(explain)?;
                let before = match &state {
                    Some(state) => Account::from_shard(address, state, head)?,
                    None => Account::absent(address, head),
                };
                accounts.push((before, None));
                rehearsal.know(address, state)?;
            }
            Act::Played(played) => {
                let record = TransactionRecord::from_cell(played.transaction, 0)?;
                let after = Account::from_shard(played.account, &played.after, head)?;
                steps.push(Step { record, kind: decode::kind(&after) });
                let seen = accounts.iter_mut().find(|(before, _)| before.address == played.account);
                seen.context("a transaction on an account that nobody brought")?.1 = Some(after);
            }
        }
    }
    let after = |(before, after): &(Account, Option<Account>)| {
        after.as_ref()?;
        Some((before.address, rehearsal.account(before.address)?.clone()))
    };
    let states = accounts.iter().filter_map(after).collect();
    let changes = accounts.into_iter().map(|(before, after)| Change {
        account: before.address,
        before: before.balance,
        after: after.map_or(before.balance, |after| after.balance),
    });
    Ok(Outcome { steps, changes: changes.collect(), states })
}

/// Waits for everything that follows from a transaction. `expected` names the accounts whose
/// coins were looked at before.
pub(crate) async fn follow(
    chain: &dyn Chain,
    first: TransactionRecord,
    expected: &Outcome,
) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let mut waiting: VecDeque<Cell> = VecDeque::new();
    let mut next = Some(first);
    while let Some(record) = next.take() {
        for message in &record.out_msgs {
            if message.destination.is_some_and(|to| to.workchain == 0) {
                waiting.push_back(message.cell.clone());
            }
        }
        let account = chain.account(record.account, None).await.map_err(explain)?;
        outcome.steps.push(Step { record, kind: decode::kind(&account) });
        if outcome.steps.len() >= STEPS_MAX {
            break;
        }
        if let Some(message) = waiting.pop_front() {
            next = Some(arrival(chain, &message).await?);
        }
    }
    for change in &expected.changes {
        let after = chain.account(change.account, None).await.map_err(explain)?.balance;
        outcome.changes.push(Change { after, ..change.clone() });
    }
    Ok(outcome)
}

/// Waits for the transaction in which an internal message arrives.
async fn arrival(chain: &dyn Chain, message: &Cell) -> Result<TransactionRecord> {
    let parsed = cocoon_chain::MessageRecord::from_cell(message.clone())?;
    let to = parsed.destination.context("a message without destination")?;
    let look = async {
        loop {
            if let Some(found) = find(chain, to, message).await? {
                return anyhow::Ok(found);
            }
            let head = chain.head().await.map_err(explain)?;
            beat(chain, head.seqno).await;
        }
    };
    tokio::time::timeout(MESSAGE_TIMEOUT, look).await.with_context(|| {
        format!(
            "a message to {to} is under way for {} s: look again later",
            MESSAGE_TIMEOUT.as_secs()
        )
    })?
}

/// The transaction on `account` that took in `message`.
pub(crate) async fn find(
    chain: &dyn Chain,
    account: Address,
    message: &Cell,
) -> Result<Option<TransactionRecord>> {
    let recent = chain.recent_transactions(account, RECENT).await.map_err(explain)?;
    let is_it = |record: &TransactionRecord| {
        let taken = record.in_msg.as_ref();
        taken.is_some_and(|taken| taken.cell.repr_hash() == message.repr_hash())
    };
    Ok(recent.into_iter().find(is_it))
}

/// Waits for a block after `seqno`, or a moment where the chain cannot tell.
pub(crate) async fn beat(chain: &dyn Chain, seqno: u32) {
    // The end of the wait is no news either way: the caller looks again.
    let _ = tokio::time::timeout(POLL, chain.moved_beyond(seqno)).await;
}
