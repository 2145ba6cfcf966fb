//! Faucet and switches: what no real network offers.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{ConnectInfo, RawQuery, State};
use axum::response::Response;
use bytes::Bytes;
use cocoon_localchain::Trouble;
use serde_json::{Value, json};

use super::params::Params;
use super::{ApiFault, answer, forms, require_loopback};
use crate::node::LocalNode;

/// Coins for `address`, `amount` in nanoton; they arrive with the next block.
pub(crate) async fn faucet(
    State(node): State<Arc<LocalNode>>,
    RawQuery(query): RawQuery,
    body: Bytes,
) -> Response {
    answer(give(&node, query.as_deref(), &body), None)
}

fn give(node: &LocalNode, query: Option<&str>, body: &[u8]) -> Result<Value, ApiFault> {
    let params = Params::read(query, body)?;
    let to = params.address("address")?;
    let amount = params.nanoton("amount")?;
    let given = node.faucet(to, amount).map_err(ApiFault::chain)?;
    given.map_err(|refusal| ApiFault::parameter(refusal.to_string()))?;
    Ok(json!({"address": forms::friendly(to), "amount": amount.0.to_string()}))
}

/// How the chain stands: head, coins, what waits, which trouble is on.
pub(crate) async fn state(
    peer: ConnectInfo<SocketAddr>,
    State(node): State<Arc<LocalNode>>,
) -> Response {
    answer(require_loopback(peer).map(|()| describe(&node)), None)
}

fn describe(node: &LocalNode) -> Value {
    node.read(|chain| {
        let coins = chain.coins();
        let (externals, faucet, queued) = chain.waiting();
        let trouble = chain.trouble();
        json!({
            "seqno": chain.master_head().id.seqno,
            "now_ms": chain.last_ms(),
            "coins": {
                "minted": coins.minted.to_string(),
                "held": coins.held.to_string(),
                "waiting": coins.waiting.to_string(),
                "fees": coins.fees.to_string(),
                "burned": coins.burned.to_string(),
                "stranded": coins.stranded.to_string(),
            },
            "waiting": {"externals": externals, "faucet": faucet, "queued": queued},
            "trouble": {
                "standing_still": trouble.standing_still,
                "late_ms": trouble.late_ms,
                "lose_externals": trouble.lose_externals,
            },
        })
    })
}

/// Most accounts listed at once.
const ACCOUNTS_MAX: usize = 1000;

/// The accounts that moved last, newest first; `limit` at most.
pub(crate) async fn accounts(
    State(node): State<Arc<LocalNode>>,
    RawQuery(query): RawQuery,
) -> Response {
    let outcome = Params::read(query.as_deref(), &[]).and_then(|params| {
        let limit = params.number("limit")?.unwrap_or(ACCOUNTS_MAX).min(ACCOUNTS_MAX);
        Ok(list(&node, limit))
    });
    answer(outcome, None)
}

fn list(node: &LocalNode, limit: usize) -> Value {
    let mut accounts: Vec<_> = node.read(|chain| {
        chain.accounts().map(|(address, state)| (state.last_trans_lt, address)).collect()
    });
    let total = accounts.len();
    accounts.sort_unstable_by(|a, b| b.cmp(a));
    let shown = accounts
        .into_iter()
        .take(limit)
        .map(|(lt, address)| json!({"address": address.to_raw(), "last_lt": lt.to_string()}));
    json!({"total": total, "accounts": shown.collect::<Vec<_>>()})
}

/// Sets the switches named; the others stay.
pub(crate) async fn trouble(
    peer: ConnectInfo<SocketAddr>,
    State(node): State<Arc<LocalNode>>,
    RawQuery(query): RawQuery,
    body: Bytes,
) -> Response {
    let outcome = require_loopback(peer).and_then(|()| switch(&node, query.as_deref(), &body));
    answer(outcome, None)
}

fn switch(node: &LocalNode, query: Option<&str>, body: &[u8]) -> Result<Value, ApiFault> {
    let params = Params::read(query, body)?;
    let now = node.read(cocoon_localchain::LocalChain::trouble);
    let trouble = Trouble {
        standing_still: params.flag("standing_still").unwrap_or(now.standing_still),
        late_ms: params.number("late_ms")?.unwrap_or(now.late_ms),
        lose_externals: params.number("lose_externals")?.unwrap_or(now.lose_externals),
    };
    node.set_trouble(trouble).map_err(ApiFault::chain)?;
    Ok(describe(node))
}

/// Makes one block, `ms` after the last one; the clock goes on as before.
pub(crate) async fn tick(
    peer: ConnectInfo<SocketAddr>,
    State(node): State<Arc<LocalNode>>,
    RawQuery(query): RawQuery,
    body: Bytes,
) -> Response {
    let outcome = require_loopback(peer).and_then(|()| strike(&node, query.as_deref(), &body));
    answer(outcome, None)
}

fn strike(node: &LocalNode, query: Option<&str>, body: &[u8]) -> Result<Value, ApiFault> {
    let params = Params::read(query, body)?;
    let ms = params.number("ms")?.unwrap_or(crate::node::BEAT_MS);
    node.advance(ms).map_err(ApiFault::chain)?;
    Ok(describe(node))
}
