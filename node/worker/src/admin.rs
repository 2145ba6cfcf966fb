//! Status and admin pages of the worker (protocol notes, wire 4.3, 4.4).
//!
//! Reading is a GET; changing is a POST, and asks for the access word when one is configured.

use axum::Router;
use axum::extract::{Query, Request, State as Shared};
use axum::http::{Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use cocoon_host::Stop;
use cocoon_host::pages::{BROWSER_HEADERS, FROM_A_WEB_PAGE, PageSettings};
use cocoon_units::{Address, Coefficient};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, RwLock};
use tokio::sync::mpsc::{Receiver, Sender, channel};

use crate::config::WorkerConfig;
use crate::state::State;

/// What an operator orders.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Order {
    Enable,
    Disable,
    Coefficient(Coefficient),
    /// Earnings at one proxy, or at all, are collected now, whatever the thresholds.
    Collect(Option<Address>),
}

/// The latest picture of the node, and the way orders take.
#[derive(Clone)]
pub(crate) struct Admin {
    picture: Arc<RwLock<Picture>>,
    orders: Sender<Order>,
    access: Arc<str>,
}

#[derive(Default)]
struct Picture {
    ready: bool,
    json: Value,
    metrics: String,
    payments: Value,
}

impl Admin {
    pub(crate) fn new(config: &WorkerConfig) -> (Self, Receiver<Order>) {
        let (orders, taken) = channel(16);
        let access = config.http_access_hash.as_str().into();
        (Self { picture: Arc::default(), orders, access }, taken)
    }

    fn may(&self, query: &HashMap<String, String>) -> bool {
        let given = query.get("access_hash").map_or("", String::as_str);
        self.access.is_empty() || same(given, &self.access)
    }

    /// Renews the picture.
    pub(crate) fn publish(&self, state: &State) {
        let picture = Picture {
            ready: state.backend_up && !state.chain_away && state.ready_proxies() > 0,
            json: stats(state),
            metrics: metrics(state),
            payments: signed(state),
        };
        if let Ok(mut shown) = self.picture.write() {
            *shown = picture;
        }
    }
}

/// Serves the pages until `stop`.
pub(crate) async fn listen(
    address: SocketAddr,
    admin: Admin,
    stop: &Stop,
) -> Result<(), std::io::Error> {
    let listener = tokio::net::TcpListener::bind(address).await?;
    let pages = router(admin);
    let stop = stop.clone();
    tokio::spawn(async move {
        cocoon_host::pages::serve(listener, pages, PageSettings::default(), stop.asked()).await;
    });
    Ok(())
}

fn router(admin: Admin) -> Router {
    Router::new()
        .route("/health", get(|| async { "ok\n" }))
        .route("/ready", get(ready))
        .route("/metrics", get(metrics_page))
        .route("/jsonstats", get(jsonstats))
        .route("/request/enable", post(|s, q| order(s, q, Order::Enable)))
        .route("/request/disable", post(|s, q| order(s, q, Order::Disable)))
        .route("/request/payout", post(payout))
        .route("/payments", get(payments))
        .route("/request/change_coefficient", post(change_coefficient))
        .layer(axum::middleware::from_fn(refuse_web_pages))
        .with_state(admin)
}

async fn refuse_web_pages(request: Request, next: Next) -> Response {
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    if !reads && BROWSER_HEADERS.iter().any(|name| request.headers().contains_key(*name)) {
        return (StatusCode::FORBIDDEN, FROM_A_WEB_PAGE).into_response();
    }
    next.run(request).await
}

async fn ready(Shared(admin): Shared<Admin>) -> Response {
    if admin.picture.read().is_ok_and(|picture| picture.ready) {
        return "ready\n".into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, "no proxy or no model server\n").into_response()
}

async fn jsonstats(Shared(admin): Shared<Admin>) -> Response {
    let text = admin.picture.read().map(|picture| picture.json.to_string()).unwrap_or_default();
    ([(header::CONTENT_TYPE, "application/json")], text).into_response()
}

async fn metrics_page(Shared(admin): Shared<Admin>) -> Response {
    let text = admin.picture.read().map(|picture| picture.metrics.clone()).unwrap_or_default();
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response()
}

/// Collects what the proxy of `?proxy=` owes, or what all owe.
async fn payout(shared: Shared<Admin>, query: Query<HashMap<String, String>>) -> Response {
    let proxy = match query.get("proxy").map(|text| Address::parse(text)).transpose() {
        Ok(proxy) => proxy,
        Err(fault) => {
            return (StatusCode::BAD_REQUEST, format!("proxy: {fault}\n")).into_response();
        }
    };
    order(shared, query, Order::Collect(proxy)).await
}

/// The best payments that proxies signed, as bags of cells in hex: with them anybody can have the
/// worker's owner paid, also when this machine or the proxy is gone.
async fn payments(
    Shared(admin): Shared<Admin>,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    if !admin.may(&query) {
        return StatusCode::FORBIDDEN.into_response();
    }
    let text = admin.picture.read().map(|picture| picture.payments.to_string()).unwrap_or_default();
    ([(header::CONTENT_TYPE, "application/json")], text).into_response()
}

async fn change_coefficient(
    shared: Shared<Admin>,
    query: Query<HashMap<String, String>>,
) -> Response {
    let Some(coefficient) =
        query.get("coefficient").and_then(|text| crate::node::coefficient(text))
    else {
        return (StatusCode::BAD_REQUEST, "coefficient must be a number from 0, as in 1.5\n")
            .into_response();
    };
    order(shared, query, Order::Coefficient(coefficient)).await
}

async fn order(
    Shared(admin): Shared<Admin>,
    Query(query): Query<HashMap<String, String>>,
    order: Order,
) -> Response {
    if !admin.may(&query) {
        return StatusCode::FORBIDDEN.into_response();
    }
    match admin.orders.try_send(order) {
        Ok(()) => "done\n".into_response(),
        Err(_) => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}

/// Compares without telling by its time how much of the word was right.
fn same(given: &str, expected: &str) -> bool {
    given.len() == expected.len()
        && given.bytes().zip(expected.bytes()).fold(0, |sum, (a, b)| sum | (a ^ b)) == 0
}

fn signed(state: &State) -> Value {
    let channels = state.channels.channels();
    let signed = channels.filter_map(|(proxy, channel)| {
        Some(json!({
            "proxy_sc_address": proxy.to_raw(),
            "sc_address": channel.own_contract.to_raw(),
            "tokens": channel.books.signed().0,
            "payment": hex::encode(channel.payment.as_ref()?),
        }))
    });
    Value::Array(signed.collect())
}

fn stats(state: &State) -> Value {
    let counts = &state.counts;
    let proxies: Vec<Value> = state
        .channels
        .channels()
        .map(|(proxy, channel)| {
            json!({
                "sc_inited": true,
                "proxy_sc_address": proxy.to_raw(),
                "proxy_public_key": channel.proxy_key.to_string(),
                "sc_address": channel.own_contract.to_raw(),
                "earned_tokens_committed_to_blockchain": channel.books.signed().0,
                "earned_tokens_committed_to_proxy_db": channel.books.durable().0,
                "earned_tokens_max_known": channel.books.max().0,
                "earned_tokens_own_count": channel.books.own().0,
            })
        })
        .collect();
    json!({
        "status": { "enabled": !state.is_off(), "chain_away": state.chain_away },
        "stats": {
            "queries": counts.queries,
            "success": counts.complete,
            "failed": counts.failed,
            "refused": counts.refused,
            "running": state.running(),
            "total_adjusted_tokens_used": counts.tokens,
            "connections_ended_by_us": counts.faults,
        },
        "localconfig": {
            "root_address": state.identity.root.to_raw(),
            "owner_address": state.identity.owner.to_raw(),
            "model": state.identity.model.as_str(),
            "coefficient": state.identity.coefficient.milli(),
            "check_proxy_hash": state.identity.proxy_images.is_some(),
        },
        "ready_proxies": state.ready_proxies(),
        "proxies": proxies,
        "money": state.money,
        "proxy_connections": state
            .verdicts()
            .map(|known| json!({ "claims": known.map(|known| &known.verdict.claims) }))
            .collect::<Vec<_>>(),
    })
}

fn metrics(state: &State) -> String {
    let counts = &state.counts;
    let lines = [
        ("cocoon_worker_queries_total", counts.queries),
        ("cocoon_worker_queries_complete_total", counts.complete),
        ("cocoon_worker_queries_failed_total", counts.failed),
        ("cocoon_worker_queries_refused_total", counts.refused),
        ("cocoon_worker_tokens_claimed_total", counts.tokens),
        ("cocoon_worker_queries_running", state.running() as u64),
        ("cocoon_worker_proxies_ready", state.ready_proxies() as u64),
        ("cocoon_worker_backend_up", u64::from(state.backend_up)),
    ];
    lines.iter().map(|(name, value)| format!("{name} {value}\n")).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    #[tokio::test]
    async fn web_pages_give_no_orders() {
        let (admin, mut orders) = Admin::new(&WorkerConfig::default());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = tokio::spawn(async move { axum::serve(listener, router(admin)).await });
        for (header, status) in [
            ("Origin: https://evil.example\r\n", "403"),
            ("Origin: null\r\n", "403"),
            ("Sec-Fetch-Site: cross-site\r\n", "403"),
            ("", "200"),
        ] {
            let mut tcp = tokio::net::TcpStream::connect(address).await.unwrap();
            let head = format!(
                "POST /request/disable HTTP/1.1\r\nHost: w\r\n{header}Content-Length: 0\r\n\
                 Connection: close\r\n\r\n"
            );
            tcp.write_all(head.as_bytes()).await.unwrap();
            let mut answer = String::new();
            tcp.read_to_string(&mut answer).await.unwrap();
            assert_eq!(answer.split(' ').nth(1), Some(status), "{header}");
        }
        assert!(matches!(orders.try_recv(), Ok(Order::Disable)));
        assert!(orders.try_recv().is_err(), "one order came through");
        serving.abort();
    }
}
