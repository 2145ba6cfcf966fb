//! The contracts that a wallet has to do with, found in its own history on chain.

use anyhow::Result;
use cocoon_contract::state::{ClientState, ProxyState, WorkerState};
use cocoon_units::Address;
use std::collections::BTreeSet;

use super::super::access::{Access, explain};
use super::super::arguments::ChannelListOptions;
use super::super::decode;
use super::super::say::{self, Fields};
use super::super::spend::directory;
use crate::mistake;

/// Transactions of the wallet looked through.
const HISTORY: usize = 1000;

pub(super) async fn list(options: &ChannelListOptions) -> Result<()> {
    let file = directory(&options.home)?.load(&options.wallet).map_err(mistake)?;
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
    say::answer(
        options.json,
        &Fields::new().add("wallet", options.wallet.as_str()).add("channels", channels),
    );
    Ok(())
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
