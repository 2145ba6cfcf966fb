//! The contracts that a wallet has to do with, found in its own history on chain.

use anyhow::Result;
use cocoon_contract::state::{ClientState, ProxyState, WorkerState};
use cocoon_units::Address;
use serde_json::Value;
use std::collections::BTreeSet;

use super::super::access::{Access, explain};
use super::super::arguments::{ChannelListOptions, NodeChoice};
use super::super::decode;
use super::super::running::{self, NodeDesk};
use super::super::say::{self, Fields};
use super::super::spend::directory;
use crate::mistake;

/// Transactions of the wallet looked through.
const HISTORY: usize = 1000;

pub(super) async fn list(options: &ChannelListOptions) -> Result<()> {
    let file = match directory(&options.home)?.load(&options.wallet) {
        Ok(file) => file,
        Err(fault) => {
            // Whoever has no wallet may have nodes.
            let of_nodes = of_nodes().await;
            if of_nodes.is_empty() {
                return Err(mistake(fault));
            }
            let fields = Fields::new().add("channels of running nodes", of_nodes);
            say::answer(options.json, &fields);
            return Ok(());
        }
    };
    let own = file.wallet().address()?;
    let access = Access::open(&options.chain)?;
    let recent = access.chain.recent_transactions(own, HISTORY).await.map_err(explain)?;
    let mut met = BTreeSet::new();
    for record in &recent {
        met.extend(record.out_msgs.iter().filter_map(|message| message.destination));
        met.extend(record.in_msg.as_ref().and_then(|message| message.source));
    }
    let mut channels = Vec::new();
    for address in met.into_iter().filter(|address| address.workchain == 0) {
        let account = access.chain.account(address, None).await.map_err(explain)?;
        let Some(data) = &account.data else { continue };
        let Some((role, fields)) = read(data, own) else { continue };
        let fields = Fields::new().add("role", role).add("contract", address).add("state", fields);
        channels.push(fields);
    }
    let fields = Fields::new().add("wallet", options.wallet.as_str()).add("channels", channels);
    say::answer(options.json, &fields.add("channels of running nodes", of_nodes().await));
    Ok(())
}

/// What nodes that run on this machine have.
async fn of_nodes() -> Vec<Fields> {
    let mut all = Vec::new();
    for note in running::notes() {
        let Ok(desk) = NodeDesk::open(&note.http, &NodeChoice::default()).await else { continue };
        let address = |value: &Value| value.as_str().and_then(|text| Address::parse(text).ok());
        let mut add = |contract: &Value, proxy: &Value, doing: &Value| {
            all.push(
                Fields::new()
                    .add("node", desk.url.as_str())
                    .add("role", desk.role.name())
                    .add("contract", address(contract))
                    .add("proxy contract", address(proxy))
                    .add("next", doing.as_str().map(str::to_owned)),
            );
        };
        for one in desk.page["money"]["contracts"].as_array().into_iter().flatten() {
            add(&one["sc_address"], &one["proxy_sc_address"], &one["doing"]);
        }
        let own = &desk.page["smartcontract"];
        if own.is_object() {
            add(&own["address"], &Value::Null, &own["phase"]);
        }
    }
    all
}

fn read(data: &cocoon_contract::cell::Cell, own: Address) -> Option<(&'static str, Fields)> {
    if let Ok((state, _)) = ClientState::parse(data) {
        return (state.constants.owner == own).then(|| ("client", decode::client(&state)));
    }
    if let Ok((state, _)) = WorkerState::parse(data) {
        // Paid to this wallet, or only paid for by it.
        let role = if state.owner == own { "worker" } else { "worker, of another owner" };
        return Some((role, decode::worker(&state)));
    }
    let (state, _) = ProxyState::parse(data).ok()?;
    (state.owner == own).then(|| ("proxy", decode::proxy(&state)))
}
