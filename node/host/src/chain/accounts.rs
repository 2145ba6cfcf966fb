//! Contracts as the chain shows them, for the decisions of `cocoon-settle`.

use cocoon_chain::{Account, AccountStatus, Chain, ChainFault};
use cocoon_contract::state::{ClientState, ProxyState, WorkerState};
use cocoon_contract::timelock::TimelockState;
use cocoon_settle::{Guard, Seen};
use cocoon_units::Address;

/// Looks at a client contract.
///
/// # Errors
/// [`ChainFault`]: nothing is known; look again later.
pub async fn see_client(
    chain: &dyn Chain,
    contract: Address,
) -> Result<Seen<ClientState>, ChainFault> {
    let account = chain.account(contract, None).await?;
    Ok(if account.status == AccountStatus::Frozen {
        Seen::frozen()
    } else {
        Seen::client(account.data.as_ref(), account.balance, last_lt(&account))
    })
}

/// Looks at a worker contract.
///
/// # Errors
/// [`ChainFault`]: nothing is known; look again later.
pub async fn see_worker(
    chain: &dyn Chain,
    contract: Address,
) -> Result<Seen<WorkerState>, ChainFault> {
    let account = chain.account(contract, None).await?;
    Ok(if account.status == AccountStatus::Frozen {
        Seen::frozen()
    } else {
        Seen::worker(account.data.as_ref(), account.balance, last_lt(&account))
    })
}

/// Looks at a proxy contract.
///
/// # Errors
/// [`ChainFault`]: nothing is known; look again later.
pub async fn see_proxy(
    chain: &dyn Chain,
    contract: Address,
) -> Result<Seen<ProxyState>, ChainFault> {
    let account = chain.account(contract, None).await?;
    Ok(if account.status == AccountStatus::Frozen {
        Seen::frozen()
    } else {
        Seen::proxy(account.data.as_ref(), account.balance, last_lt(&account))
    })
}

/// Looks at who owns the root contract `root`: a timelock makes changes wait for everybody to see.
///
/// # Errors
/// [`ChainFault`]: nothing is known; look again later.
pub async fn guard(chain: &dyn Chain, root: Address, owner: Address) -> Result<Guard, ChainFault> {
    let account = chain.account(owner, None).await?;
    let (Some(code), Some(data)) = (&account.code, &account.data) else {
        return Ok(Guard::Nobody);
    };
    Ok(match TimelockState::guarding(root, code, data, 0) {
        Ok(timelock) => Guard::Timelock { delay_s: timelock.delay_s.into() },
        Err(_) => Guard::Nobody,
    })
}

fn last_lt(account: &Account) -> u64 {
    account.last.map_or(0, |last| last.lt)
}
