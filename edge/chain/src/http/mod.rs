//! The local chain as an HTTP server: the interface of toncenter v2, so that TON's usual client
//! libraries work against it, and besides it a faucet and switches for tests.
//!
//! ```text
//!   GET, POST /api/v2/<method>      parameters in the query or as a JSON object
//!   POST      /api/v2/jsonRPC       {"id", "jsonrpc", "method", "params"}
//!   GET, POST /faucet               address, amount in nanoton
//!   GET, POST /control/...          loopback only: state, trouble, tick
//! ```

mod control;
mod forms;
mod params;
mod query;
pub(crate) mod stack;
mod write;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, DefaultBodyLimit, Path, RawQuery, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use bytes::Bytes;
use serde_json::{Value, json};

use crate::node::LocalNode;
use params::Params;

/// Largest request body: the largest external message in base64, with room.
const BODY_BYTES_MAX: usize = 256 * 1024;

/// Why a method has no result, with the number toncenter gives it.
#[derive(Debug)]
pub(crate) struct ApiFault {
    pub(crate) code: u16,
    pub(crate) reason: String,
}

impl ApiFault {
    /// A parameter is missing or malformed.
    pub(crate) fn parameter(reason: impl Into<String>) -> Self {
        Self { code: 422, reason: reason.into() }
    }

    /// The chain has no answer.
    pub(crate) fn chain(reason: impl std::fmt::Display) -> Self {
        Self { code: 500, reason: format!("LITE_SERVER_UNKNOWN: {reason}") }
    }
}

/// All routes of the server.
pub(crate) fn router(node: LocalNode, global_config: String) -> Router {
    let global = move || async move {
        ([(header::CONTENT_TYPE, "application/json")], global_config).into_response()
    };
    Router::new()
        .route("/", get(index))
        .route("/global.config.json", get(global))
        .route("/api/v2/jsonRPC", post(json_rpc).options(preflight))
        .route("/api/v2/{method}", get(rest).post(rest).options(preflight))
        .route("/faucet", any(control::faucet))
        .route("/control/state", get(control::state))
        .route("/control/accounts", get(control::accounts))
        .route("/control/trouble", any(control::trouble))
        .route("/control/tick", any(control::tick))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(Arc::new(node))
}

async fn index() -> Response {
    let text = "A local TON network.\n\n/api/v2/jsonRPC  toncenter v2\n/faucet?address=..&amount=..  \
                coins, amount in nanoton\n/global.config.json  for lite clients\n/control/state  how the chain stands\n";
    ([(header::CONTENT_TYPE, "text/plain")], text).into_response()
}

/// Browsers ask first whether they may send JSON.
async fn preflight() -> Response {
    let headers = [
        ("access-control-allow-origin", "*"),
        ("access-control-allow-methods", "GET, POST, OPTIONS"),
        ("access-control-allow-headers", "content-type, x-api-key, x-ton-client-version"),
    ];
    (StatusCode::NO_CONTENT, headers).into_response()
}

async fn rest(
    State(node): State<Arc<LocalNode>>,
    Path(method): Path<String>,
    RawQuery(query): RawQuery,
    body: Bytes,
) -> Response {
    let outcome =
        Params::read(query.as_deref(), &body).and_then(|params| call(&node, &method, &params));
    answer(outcome, None)
}

async fn json_rpc(State(node): State<Arc<LocalNode>>, body: Bytes) -> Response {
    let request: Value = match serde_json::from_slice(&body) {
        Ok(request) => request,
        Err(error) => {
            let fault = ApiFault::parameter(format!("the request is not JSON: {error}"));
            return answer(Err(fault), Some(Value::Null));
        }
    };
    let id = request.get("id").cloned().unwrap_or(Value::Null);
    let outcome = match request.get("method").and_then(Value::as_str) {
        Some(method) => {
            Params::from_json(request.get("params")).and_then(|params| call(&node, method, &params))
        }
        None => Err(ApiFault::parameter("the request names no method")),
    };
    answer(outcome, Some(id))
}

/// Any method by its toncenter name.
fn call(node: &LocalNode, method: &str, params: &Params) -> Result<Value, ApiFault> {
    match method {
        "getAddressInformation" => query::address_information(node, params),
        "getExtendedAddressInformation" => query::extended_information(node, params),
        "getShardAccountCell" => query::shard_account(node, params),
        "getAddressBalance" => query::address_balance(node, params),
        "getAddressState" => query::address_state(node, params),
        "getWalletInformation" => query::wallet_information(node, params),
        "packAddress" => query::pack_address(params),
        "unpackAddress" => query::unpack_address(params),
        "detectAddress" => query::detect_address(params),
        "getTransactions" => query::transactions(node, params),
        "tryLocateTx" | "tryLocateResultTx" => query::locate(node, params, query::End::Result),
        "tryLocateSourceTx" => query::locate(node, params, query::End::Source),
        "getMasterchainInfo" => Ok(query::masterchain_info(node)),
        "getConsensusBlock" => Ok(query::consensus_block(node)),
        "lookupBlock" => query::lookup_block(node, params),
        "getBlockHeader" => query::block_header(node, params),
        "shards" | "getShards" => query::shards(node, params),
        "getBlockTransactions" => query::block_transactions(node, params),
        "getConfigParam" => query::config_param(node, params),
        "runGetMethod" => write::run_get_method(node, params),
        "sendBoc" => write::send_boc(node, params),
        "sendBocReturnHash" => write::send_boc_return_hash(node, params),
        "sendQuery" => write::send_query(node, params),
        "estimateFee" => write::estimate_fee(node, params),
        _ => Err(ApiFault { code: 404, reason: format!("there is no method {method}") }),
    }
}

/// The envelope of every answer; `id` marks one by JSON-RPC.
fn answer(outcome: Result<Value, ApiFault>, id: Option<Value>) -> Response {
    let (code, mut body) = match outcome {
        Ok(result) => (200, json!({"ok": true, "result": result})),
        Err(fault) => (fault.code, json!({"ok": false, "error": fault.reason, "code": fault.code})),
    };
    if let (Some(id), Some(object)) = (id, body.as_object_mut()) {
        object.insert("id".to_owned(), id);
        object.insert("jsonrpc".to_owned(), json!("2.0"));
    }
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::BAD_REQUEST);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    // Wallets in browsers ask from other origins; nothing here is secret.
    headers.insert(
        HeaderName::from_static("access-control-allow-origin"),
        HeaderValue::from_static("*"),
    );
    response
}

/// Switches are for whoever sits at this machine.
fn require_loopback(ConnectInfo(peer): ConnectInfo<SocketAddr>) -> Result<(), ApiFault> {
    if peer.ip().is_loopback() {
        return Ok(());
    }
    Err(ApiFault { code: 403, reason: "only from this machine".to_owned() })
}

#[cfg(test)]
mod tests {
    use cocoon_localchain::StackEntry;
    use cocoon_units::Address;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::params::Params;
    use super::stack;

    fn entry() -> impl Strategy<Value = StackEntry> {
        let leaf = prop_oneof![
            Just(StackEntry::Null),
            any::<i128>().prop_map(|value| StackEntry::Int(value.into())),
        ];
        leaf.prop_recursive(3, 16, 4, |inner| {
            prop::collection::vec(inner, 0..4).prop_map(StackEntry::Tuple)
        })
    }

    /// Any JSON, mostly of the forms that are read.
    fn json_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<i64>().prop_map(Value::from),
            "[-0-9a-fx]{0,90}".prop_map(Value::from),
            Just(json!("num")),
            Just(json!("tuple")),
        ];
        leaf.prop_recursive(6, 64, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                (inner.clone(), inner).prop_map(|(one, two)| {
                    json!({"@type": one, "elements": two.clone(), "number": two})
                }),
            ]
        })
    }

    proptest! {
        #[test]
        fn stacks_survive_json(stack in prop::collection::vec(entry(), 0..5)) {
            let json: Vec<_> = stack.iter().map(stack::to_json).collect();
            let back = stack::from_json(Some(&Value::Array(json)));
            prop_assert_eq!(back, Some(stack));
        }

        #[test]
        fn arbitrary_requests_never_panic(value in json_value(), query in ".{0,80}") {
            let _stack = stack::from_json(Some(&value));
            let params = Params::read(Some(&query), value.to_string().as_bytes());
            if let Ok(params) = params {
                let _address = params.address("address");
                let _cell = params.cell("number");
            }
            let account = Address::new(0, [0; 32]);
            let _account = crate::decode_account(account, value.to_string().as_bytes());
        }
    }
}
