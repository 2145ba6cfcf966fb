//! Which contract is meant: found by its own address, or derived from its proxy contract.

use anyhow::Result;
use cocoon_chain::{Account, AccountStatus};
use cocoon_contract::address::{self, Network, StateInit};
use cocoon_contract::cell::{Cell, CellId};
use cocoon_contract::params::Params;
use cocoon_contract::state::{ClientConst, ClientState, ProxyState, WorkerState};
use cocoon_settle::Seen;
use cocoon_units::Address;

use super::super::access::{Access, explain};
use super::super::address as typed;
use super::super::arguments::{ChannelOptions, ChannelRole};
use super::super::decode::code_name;
use super::super::spend::Spender;
use crate::mistake;

/// A contract and the proxy contract it belongs to.
pub(super) struct Place {
    pub(super) role: ChannelRole,
    pub(super) contract: Address,
    pub(super) proxy: Address,
    pub(super) owner: Address,
    pub(super) params: Params,
    /// What it is deployed with, where it was derived.
    pub(super) init: Option<StateInit>,
}

/// The contract that is meant; at a proxy contract, that of `own`.
pub(super) async fn find(
    spender: &Spender<'_>,
    options: &ChannelOptions,
    own: Address,
) -> Result<Place> {
    let access = &spender.access;
    let contract = typed::parse(&options.contract, access.coins)?.0;
    let account = access.chain.account(contract, None).await.map_err(explain)?;
    let Some(data) = &account.data else {
        return Err(mistake(format_args!(
            "{contract} is not on chain: give the address of a contract, or of its proxy contract"
        )));
    };
    if let Ok((state, params)) = ClientState::parse(data) {
        let params = Params::parse(&params)?.0;
        let (proxy, owner) = (state.constants.proxy, state.constants.owner);
        return Ok(Place { role: ChannelRole::Client, contract, proxy, owner, params, init: None });
    }
    if let Ok((state, params)) = WorkerState::parse(data) {
        let params = Params::parse(&params)?.0;
        let (proxy, owner) = (state.proxy, state.owner);
        return Ok(Place { role: ChannelRole::Worker, contract, proxy, owner, params, init: None });
    }
    let Ok((state, params)) = ProxyState::parse(data) else {
        return Err(mistake(format_args!("{contract} is no contract of this network")));
    };
    known_code(&account)?;
    derived(&state, &params, contract, own, options.role)
}

/// The contract of `own` at a proxy contract.
fn derived(
    state: &ProxyState,
    params: &Cell,
    proxy: Address,
    own: Address,
    role: ChannelRole,
) -> Result<Place> {
    let (params, codes) = Params::parse(params)?;
    let network = Network { params: params.clone(), codes };
    let (owner, init) = match role {
        ChannelRole::Proxy => {
            return Ok(Place {
                role,
                contract: proxy,
                proxy,
                owner: state.owner,
                params,
                init: None,
            });
        }
        ChannelRole::Client => {
            let constants = ClientConst { owner: own, proxy, public_key: state.public_key };
            (own, address::client_init(&constants, &network)?)
        }
        ChannelRole::Worker => (own, address::worker_init(own, proxy, state.public_key, &network)?),
    };
    Ok(Place { role, contract: init.address(), proxy, owner, params, init: Some(init) })
}

/// Money goes only where the code is known: whoever wrote another one could keep it.
fn known_code(account: &Account) -> Result<()> {
    let hash = account.code.as_ref().map(|code| CellId::of(code).hash);
    match hash.and_then(code_name) {
        Some(name) if name.starts_with("proxy contract") => Ok(()),
        _ => Err(mistake(format_args!(
            "{} looks like a proxy contract, but its code is unknown: it could keep your money",
            account.address
        ))),
    }
}

/// An account as the settling machines see it.
pub(super) async fn look<T>(
    access: &Access,
    address: Address,
    read: impl FnOnce(Option<&Cell>, cocoon_units::Nanoton, u64) -> Seen<T>,
) -> Result<Seen<T>> {
    let account = access.chain.account(address, None).await.map_err(explain)?;
    if account.status == AccountStatus::Frozen {
        return Ok(Seen::Broken { reason: "the account is frozen: its coins ran out".to_owned() });
    }
    let last_lt = account.last.map_or(0, |last| last.lt);
    Ok(read(account.data.as_ref(), account.balance, last_lt))
}
