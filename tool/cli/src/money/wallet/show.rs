//! Wallets as they are, and their past.

use anyhow::Result;
use cocoon_chain::{AccountStatus, MessageRecord, TransactionRecord};
use cocoon_contract::op::exit;
use cocoon_units::Nanoton;

use super::super::access::{Access, explain};
use super::super::arguments::{HistoryOptions, ShowOptions};
use super::super::decode;
use super::super::say::{self, Fields};
use super::super::spend::directory;
use super::make::describe;
use crate::mistake;

pub(super) async fn show(options: &ShowOptions) -> Result<()> {
    let wallets = directory(&options.home)?;
    let names = match &options.name {
        Some(name) => vec![name.clone()],
        None => wallets.names()?,
    };
    if names.is_empty() {
        return Err(mistake("there is no wallet yet: cocoon wallet new"));
    }
    let access = if options.offline { None } else { Some(Access::open(&options.chain)?) };
    let mut shown = Vec::new();
    for name in names {
        let file = wallets.load(&name).map_err(mistake)?;
        let mut fields = describe(&name, &file)?;
        if let Some(access) = &access {
            fields = match access.chain.account(file.wallet().address()?, None).await {
                Ok(account) => {
                    let is_deployed = account.status == AccountStatus::Active;
                    fields.add("balance", account.balance).add("deployed", is_deployed)
                }
                // Addresses are worth showing without a chain too.
                Err(fault) => fields.add("balance unknown", explain(fault).to_string()),
            };
        }
        shown.push(fields);
    }
    let fields = match (shown.pop(), shown.is_empty()) {
        (Some(only), true) => only,
        (last, _) => {
            shown.extend(last);
            Fields::new().add("wallets", shown)
        }
    };
    say::answer(options.json, &fields);
    Ok(())
}

pub(super) async fn history(options: &HistoryOptions) -> Result<()> {
    let wallets = directory(&options.home)?;
    let file = wallets.load(&options.name).map_err(mistake)?;
    let address = file.wallet().address()?;
    let access = Access::open(&options.chain)?;
    let limit = usize::from(options.limit);
    let found = access.chain.recent_transactions(address, limit).await.map_err(explain)?;
    let entries = found.iter().map(transaction).collect::<Vec<_>>();
    say::answer(
        options.json,
        &Fields::new().add("wallet", options.name.as_str()).add("transactions", entries),
    );
    Ok(())
}

/// One transaction, for people: when, what came in, what went out.
pub(crate) fn transaction(record: &TransactionRecord) -> Fields {
    let came = record.in_msg.as_ref().filter(|message| message.source.is_some());
    let is_order = record.in_msg.as_ref().is_some_and(|message| message.source.is_none());
    let failed = match record.exit_code {
        Some(code) if !(0..=1).contains(&code) => {
            Some(format!("exit code {code}: {}", exit::name(code)))
        }
        _ => None,
    };
    let sent = record.out_msgs.iter().map(|message| one(message, message.destination));
    Fields::new()
        .add("time", record.time)
        .add("lt", record.id.lt.to_string())
        .add("hash", cocoon_contract::cell::Hash(record.id.hash))
        .add("order", is_order.then_some("of its key"))
        .add("received", came.map(|message| one(message, message.source)))
        .add("sent", sent.collect::<Vec<_>>())
        .add("fees", record.fees)
        .add("failed", failed)
}

fn one(message: &MessageRecord, other: Option<cocoon_units::Address>) -> Fields {
    let value = (message.value != Nanoton::ZERO).then_some(message.value);
    Fields::new()
        .add("value", value)
        .add("account", other)
        .add("what", decode::body(&message.body))
        .add("came back", message.bounced.then_some(true))
}
