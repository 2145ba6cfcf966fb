//! The state as the reference's JSON and as metrics.

use std::fmt::Write as _;

use cocoon_chain::Trust;
use cocoon_contract::cell::Hash;
use cocoon_contract::root::RootState;
use cocoon_contract::state::ProxyState;
use cocoon_ledger::ClientStatus;
use cocoon_purse::WalletStanding;
use cocoon_units::Nanoton;
use serde_json::{Value, json};

use crate::chain::OldLine;
use crate::desk::Whole;
use crate::pages::About;

/// `/jsonstats` with the reference's members (protocol notes 4.3, 10.2 no. 22) and ours behind
/// them.
pub(crate) fn json(whole: &Whole, about: &About) -> Value {
    let status = &whole.status;
    let stats: serde_json::Map<String, Value> =
        whole.rates.iter().map(|(name, rate)| (name.to_owned(), json!(rate))).collect();
    json!({
        "status": {
            "wallet_balance": wallet_balance(whole),
            "actual_image_hash": true,
            "ton_last_synced_at": synced_at_s(whole),
            "enabled": !status.disabled,
            "git_commit": env!("CARGO_PKG_VERSION"),
            "git_commit_data": "",
            "serving": status.serving,
            "starting": status.starting,
            "draining": status.draining,
            "chain_away": status.chain_away,
            "stopped": status.stopped,
            "chain": money(whole),
            "uptime_s": whole.uptime_ms / 1_000,
        },
        "stats": stats,
        "wallet": wallet(whole, about),
        "chain": chain(whole),
        "localconfig": {
            "root_address": about.root,
            "owner_address": about.owner,
            "check_image_hashes": about.check_images,
        },
        "smartcontract": {
            "address": status.contract.to_string(),
            "params_version": status.params_version,
            "balance": contract(whole).map_or(0, |(_, balance)| balance.0),
            "ready_for_withdraw": contract(whole).map_or(0, |(state, _)| state.balance.0),
            "stake": contract(whole).map_or(0, |(state, _)| state.stake.0),
            "phase": contract(whole).map(|(state, _)| format!("{:?}", state.phase)),
        },
        "old_instances": old_instances(whole),
        "root_contract_config": root(&whole.root),
        "workers": workers(whole),
        "worker_connections": worker_connections(whole),
        "clients": clients(whole),
        "queue": { "waiting": status.pool.waiting, "running": status.pool.running },
        "journal": { "bytes": whole.journal_bytes, "held_effects": whole.held },
    })
}

fn money(whole: &Whole) -> &'static str {
    match &whole.chain {
        Some(chain) => chain.money,
        None => "none: every client has a deposit, nothing is settled",
    }
}

fn wallet_balance(whole: &Whole) -> u64 {
    whole.chain.as_ref().and_then(|chain| chain.purse.balance).map_or(0, |balance| balance.0)
}

fn synced_at_s(whole: &Whole) -> u64 {
    whole.chain.as_ref().and_then(|chain| chain.line.head).map_or(0, |head| head.time.0)
}

fn contract(whole: &Whole) -> Option<&(ProxyState, Nanoton)> {
    whole.chain.as_ref()?.contract.as_ref()
}

fn wallet(whole: &Whole, about: &About) -> Value {
    let Some(chain) = &whole.chain else {
        return json!({
            "address": about.owner, "balance": 0, "seqno": 0,
            "pending_transactions_cnt": 0, "active_transactions_cnt": 0,
        });
    };
    let purse = &chain.purse;
    json!({
        "address": purse.wallet.to_string(),
        "balance": wallet_balance(whole),
        "deployed": purse.standing == Some(WalletStanding::Active),
        "pending_transactions_cnt": purse.waiting,
        "active_transactions_cnt": purse.on_the_way + purse.underway,
        "lacking": purse.lacking.map(|lacking| lacking.to_string()),
    })
}

/// The line to the chain; null without one.
fn chain(whole: &Whole) -> Value {
    let Some(chain) = &whole.chain else { return Value::Null };
    let line = &chain.line;
    json!({
        "servers": line.name,
        "believed": line.trust == Trust::Believed,
        "block": line.head.map(|head| head.seqno),
        "away_s": line.away.map(|away| away.as_secs()),
        "fault": line.fault,
        "contract_followed": chain.is_ready,
    })
}

fn old_instances(whole: &Whole) -> Vec<Value> {
    let lines = whole.chain.iter().flat_map(|chain| &chain.old);
    let line = |(epoch, line): (&u32, &OldLine)| {
        json!({
            "params_version": epoch,
            "address": line.contract.to_string(),
            "accounts_left": line.remaining,
            "doing": line.what,
        })
    };
    lines.map(line).collect()
}

fn workers(whole: &Whole) -> Vec<Value> {
    let line = |worker: &cocoon_role_proxy::WorkerLine| {
        json!({
            "owner_address": worker.owner,
            "sc_address": worker.contract,
            "earned_tokens": worker.earned,
            "unpayed_tokens": worker.unpaid,
            "paying_now": worker.paying,
            "running_queries": worker.running,
        })
    };
    whole.status.workers.iter().map(line).collect()
}

fn worker_connections(whole: &Whole) -> Vec<Value> {
    let line = |conn: &cocoon_role_proxy::WorkerConnectionLine| {
        json!({
            "connection_id": conn.conn.0,
            "owner_address": conn.owner,
            "model": conn.model,
            "worker_hash": conn.image.as_deref().unwrap_or_default().to_uppercase(),
            "coefficient": conn.coefficient,
            "running_queries": conn.running,
            "max_queries": conn.running_max,
            "enabled": conn.enabled,
            "cooling_down": conn.cooling,
            "proto_version": conn.version,
        })
    };
    whole.status.worker_connections.iter().map(line).collect()
}

fn clients(whole: &Whole) -> Vec<Value> {
    let line = |client: &cocoon_role_proxy::ClientLine| {
        json!({
            "owner_address": client.owner,
            "sc_address": client.contract,
            "used_tokens": client.used,
            "tokens_to_charge": client.to_charge,
            "available_tokens": client.available,
            "reserved_tokens": client.reserved,
            "running_queries": client.running,
            "closing": client.status == ClientStatus::Closing,
            "closed": client.status == ClientStatus::Closed,
        })
    };
    whole.status.clients.iter().map(line).collect()
}

fn root(root: &RootState) -> Value {
    let hashes = |set: &std::collections::BTreeSet<Hash>| -> Vec<String> {
        set.iter().map(|hash| hash.to_string().to_uppercase()).collect()
    };
    let proxies: Vec<Value> = root
        .endpoints()
        .map(|(seqno, endpoint)| {
            json!({
                "seqno": seqno,
                "address_for_clients": endpoint.clients.to_string(),
                "address_for_workers": endpoint.workers.to_string(),
            })
        })
        .collect();
    let params = &root.network.params;
    json!({
        "owner_address": root.owner.to_string(),
        "proxy_hashes": hashes(&root.proxy_hashes),
        "registered_proxies": proxies,
        "last_proxy_seqno": root.last_proxy_seqno,
        "worker_hashes": hashes(&root.worker_hashes),
        "model_hashes": hashes(&root.model_hashes),
        "version": root.version,
        "struct_version": params.struct_version,
        "params_version": params.params_version,
        "unique_id": params.unique_id,
        "is_test": params.is_test,
        "price_per_token": params.price_per_token,
        "worker_fee_per_token": params.worker_fee_per_token,
        "prompt_tokens_price_multiplier": params.prompt_multiplier,
        "cached_tokens_price_multiplier": params.cached_multiplier,
        "completion_tokens_price_multiplier": params.completion_multiplier,
        "reasoning_tokens_price_multiplier": params.reasoning_multiplier,
        "proxy_delay_before_close": params.proxy_delay_s,
        "client_delay_before_close": params.client_delay_s,
        "proxy_min_stake": params.min_proxy_stake,
        "client_min_stake": params.min_client_stake,
    })
}

/// `/metrics` in the text form that Prometheus reads.
pub(crate) fn metrics(whole: &Whole) -> String {
    let (counts, status) = (whole.counts(), &whole.status);
    let mut text = String::with_capacity(4_096);
    let mut put = |kind: &str, name: &str, help: &str, value: u64| {
        // Writing into a string cannot fail.
        let _ = write!(
            text,
            "# HELP cocoon_proxy_{name} {help}\n# TYPE cocoon_proxy_{name} {kind}\n\
             cocoon_proxy_{name} {value}\n"
        );
    };
    let links = &whole.links;
    for (name, help, value) in [
        ("requests_total", "Requests that came.", counts.queries),
        ("requests_rejected_total", "Requests refused at admission.", counts.rejected),
        ("requests_succeeded_total", "Requests answered to their end.", counts.success),
        ("requests_failed_total", "Admitted requests that failed.", counts.failed),
        ("requests_timed_out_total", "Requests out of time.", counts.timeouts),
        ("requests_retried_total", "Requests given to another worker.", counts.retried),
        ("request_bytes_total", "Bytes of requests.", counts.bytes_in),
        ("answer_bytes_total", "Bytes of answers.", counts.bytes_out),
        ("request_milliseconds_total", "Time of answered requests.", counts.time_ms),
        ("worker_milliseconds_total", "Time of them on workers.", counts.worker_time_ms),
        ("tokens_total", "Adjusted tokens booked.", counts.tokens.total.0),
        ("stray_answers_total", "Answers to nothing.", counts.stray_answers),
        ("claims_capped_total", "Claims above the reservation.", counts.claims_capped),
        ("peers_dropped_total", "Connections closed for misbehaviour.", counts.peers_dropped),
        ("client_handshakes_total", "Client handshakes.", counts.client_handshakes),
        ("worker_handshakes_total", "Worker handshakes.", counts.worker_handshakes),
        ("commits_total", "State commits confirmed.", counts.commits),
        ("connections_accepted_total", "TCP connections accepted.", links.accepted),
        ("evidence_refused_total", "Peers whose evidence was refused.", links.failed_policy),
    ] {
        put("counter", name, help, value);
    }
    for (name, help, value) in [
        ("serving", "1 when requests are served.", u64::from(status.serving)),
        (
            "clients_connected",
            "Client connections that are ready.",
            number(status.client_connections),
        ),
        ("workers_connected", "Worker connections in the pool.", number(status.pool.workers)),
        ("requests_running", "Requests on workers.", number(status.pool.running)),
        ("requests_waiting", "Requests in line.", number(status.pool.waiting)),
        ("held_effects", "Effects that wait for the disk.", number(whole.held)),
        ("journal_bytes", "Bytes that recovery would read.", whole.journal_bytes),
        ("uptime_seconds", "Since the start.", whole.uptime_ms / 1_000),
        ("wallet_nanoton", "Coins of the node's wallet.", wallet_balance(whole)),
        (
            "contract_nanoton",
            "Coins on the proxy contract, clients' deposits included.",
            contract(whole).map_or(0, |(_, balance)| balance.0),
        ),
        ("chain_away_seconds", "How long the chain has been away.", away_s(whole)),
        ("old_contracts", "Old contracts that are being wound down.", old_contracts(whole)),
    ] {
        put("gauge", name, help, value);
    }
    text
}

fn away_s(whole: &Whole) -> u64 {
    let away = whole.chain.as_ref().and_then(|chain| chain.line.away);
    away.map_or(0, |away| away.as_secs())
}

fn old_contracts(whole: &Whole) -> u64 {
    whole.chain.as_ref().map_or(0, |chain| number(chain.old.len()))
}

fn number(value: usize) -> u64 {
    value as u64
}
