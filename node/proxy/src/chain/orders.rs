//! The machine's orders as messages of the node's wallet (protocol notes, chain 1.9).

use cocoon_contract::boc;
use cocoon_contract::cell::Hash;
use cocoon_contract::message::{ProxyAction, ProxyRequest, SaveState};
use cocoon_contract::wallet::Outgoing;
use cocoon_purse::{Label, Order};
use cocoon_role_proxy::ChainOrder;
use cocoon_units::{Address, Nanoton};

/// Sent along with a charge, refund or payout; the unused value comes back.
const SETTLE_VALUE: Nanoton = Nanoton(700_000_000);
/// Sent along with a request to the own contract.
const REQUEST_VALUE: Nanoton = Nanoton(200_000_000);
/// What carries a state commit: it is never executed.
const COMMIT_VALUE: Nanoton = Nanoton(1);

/// What an order to the wallet is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A state commit.
    Commit(ChainOrder),
    /// A charge, refund or payout; its query id names it to the machine.
    Settle { query_id: u64, contract: Address },
    /// An operator's request.
    Request(&'static str),
    /// A step of winding an old contract down.
    Wind,
}

/// The message of an order; `None` for one that is no message.
pub(crate) fn purse_order(
    order: &ChainOrder,
    contract: Address,
) -> Result<Option<(Order, Purpose)>, cocoon_contract::Fault> {
    let (to, body) = match order {
        ChainOrder::SaveState { seqno, session } => {
            return commit(order, contract, *seqno, session).map(Some);
        }
        ChainOrder::Charge { contract, body, .. }
        | ChainOrder::GrantRefund { contract, body, .. }
        | ChainOrder::Payout { contract, body, .. } => (*contract, body),
        ChainOrder::WindDown { .. } => return Ok(None),
    };
    let body = boc::decode(body, boc::Limits::MESSAGE)?;
    let query_id = cocoon_role_proxy::query_id(&body).unwrap_or_default();
    let message = Outgoing::to_contract(to, SETTLE_VALUE, body);
    let order = Order { label: Label(query_id), message };
    Ok(Some((order, Purpose::Settle { query_id, contract: to })))
}

fn commit(
    order: &ChainOrder,
    contract: Address,
    seqno: u32,
    session: &[u8; 32],
) -> Result<(Order, Purpose), cocoon_contract::Fault> {
    // The same commit is the same order, however often it is given.
    let [a, b, c, d, e, f, g, h, ..] = *session;
    let query_id = u64::from_be_bytes([a, b, c, d, e, f, g, h]) ^ u64::from(seqno);
    let seqno = i32::try_from(seqno).unwrap_or(i32::MAX);
    let body = SaveState { query_id, seqno, session_hash: Hash(*session) }.cell()?;
    let message = Outgoing::to_contract(contract, COMMIT_VALUE, body);
    Ok((Order { label: Label(query_id), message }, Purpose::Commit(order.clone())))
}

/// The owner's earnings are sent to the owner.
pub(crate) fn withdrawal(
    contract: Address,
    wallet: Address,
    query_id: u64,
) -> Result<Order, cocoon_contract::Fault> {
    let request = ProxyRequest { query_id, action: ProxyAction::Payout, excess: wallet };
    let message = Outgoing::to_contract(contract, REQUEST_VALUE, request.cell()?);
    Ok(Order { label: Label(query_id), message })
}

/// Coins of the wallet go to the stake.
pub(crate) fn deposit(
    contract: Address,
    wallet: Address,
    amount: Nanoton,
    query_id: u64,
) -> Result<Order, cocoon_contract::Fault> {
    let action = ProxyAction::IncreaseStake { amount };
    let request = ProxyRequest { query_id, action, excess: wallet };
    let value = amount.saturating_add(REQUEST_VALUE);
    Ok(Order {
        label: Label(query_id),
        message: Outgoing::to_contract(contract, value, request.cell()?),
    })
}
