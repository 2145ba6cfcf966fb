//! What the status pages show of the network side (protocol notes, wire 4.3).

use crate::turn::State;
use serde_json::json;

/// Members of `/jsonstats` beside the gateway's own.
pub(crate) fn sections(state: &State) -> Vec<(String, String)> {
    let connections: Vec<_> = state
        .proxies
        .values()
        .map(|proxy| {
            json!({
                "is_ready": proxy.session.is_ready(),
                "proxy_sc_address": proxy.session.proxy().map(|address| address.to_raw()),
                "version": proxy.session.version(),
                "claims": proxy.verdicts.as_ref().map(|known| &known.verdict.claims),
            })
        })
        .collect();
    let proxies: Vec<_> = state
        .channels
        .channels()
        .map(|(proxy, channel)| {
            json!({
                "proxy_sc_address": proxy.to_raw(),
                "proxy_public_key": channel.proxy_key.to_string(),
                "sc_address": channel.own_contract.to_raw(),
                "tokens_used_proxy_committed_to_blockchain": channel.books.signed().0,
                "tokens_used_proxy_committed_to_db": channel.books.durable().0,
                "tokens_used_proxy_max": channel.books.max().0,
                "tokens_used_own_count": channel.books.own().0,
            })
        })
        .collect();
    let section = |name: &str, value: serde_json::Value| (name.to_owned(), value.to_string());
    vec![
        section("proxy_connections", json!(connections)),
        section("proxies", json!(proxies)),
        section("money", state.funds.picture.clone()),
        section(
            "network",
            json!({
                "requests_sent": state.counts.asked,
                "requests_running": state.requests.len(),
                "ends_of_unknown_requests": state.counts.unasked,
                "connections_ended_by_us": state.counts.faults,
                "receipts_kept": state.receipts.len(),
                "reports_kept": state.receipts.reports(),
                "receipts_refused": state.requests.receipts_refused,
            }),
        ),
        section(
            "localconf",
            json!({
                "root_address": state.identity.root.to_raw(),
                "owner_address": state.identity.wallet.to_raw(),
                "check_proxy_hash": state.identity.proxy_images.is_some(),
            }),
        ),
    ]
}
