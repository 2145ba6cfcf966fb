//! A chain behind an HTTP server that speaks toncenter v2. The server is believed: use it for a
//! local chain, for show, or as a marked fallback.

use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use cocoon_localchain::{GetterOutput, StackEntry};
use cocoon_units::{Address, Nanoton, Secret, UnixSeconds};
use futures_util::future::BoxFuture;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::header::HeaderValue;
use hyper::{Request, StatusCode, Uri, header};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use tycho_types::boc::Boc;
use tycho_types::cell::Cell;
use tycho_types::models::ShardAccount;

use crate::account::{Account, AccountStatus, Head, TransactionId};
use crate::chain::{Answer, Chain, Trust};
use crate::http::stack;
use crate::https::Tls;
use crate::{ChainFault, TransactionRecord};

/// Largest answer read, in bytes.
const ANSWER_BYTES_MAX: usize = 16 << 20;
/// How long one request may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// Transactions asked for at once.
const PAGE: usize = 32;
/// Most transactions walked back over in one call.
const WALK_MAX: usize = 10_000;

/// A server that speaks toncenter v2, over HTTP or HTTPS.
pub struct Toncenter {
    endpoint: Uri,
    client: Client<HttpConnector, Full<Bytes>>,
    tls: Option<Tls>,
    api_key: Option<Secret<String>>,
}

impl Toncenter {
    /// A server by the address of its JSON-RPC interface, `https://host/api/v2/jsonRPC`. Over
    /// HTTPS the system's certificate authorities vouch for it.
    ///
    /// # Errors
    /// [`ChainFault::Refused`] when the text is no such address, or the system has no
    /// certificate authorities.
    pub fn new(endpoint: &str) -> Result<Self, ChainFault> {
        Self::open(endpoint, None)
    }

    /// The same, with certificate authorities of one's own: a PEM file.
    ///
    /// # Errors
    /// As [`Toncenter::new`].
    pub fn with_authorities(endpoint: &str, file: &Path) -> Result<Self, ChainFault> {
        Self::open(endpoint, Some(file))
    }

    /// Sends a key with each request, which lifts the server's limits.
    #[must_use]
    pub fn with_api_key(mut self, key: Secret<String>) -> Self {
        self.api_key = Some(key);
        self
    }

    fn open(endpoint: &str, authorities: Option<&Path>) -> Result<Self, ChainFault> {
        let refused = |reason: String| ChainFault::Refused { server: endpoint.to_owned(), reason };
        let uri: Uri = endpoint.parse().map_err(|error| refused(format!("no URL: {error}")))?;
        let tls = match (uri.scheme_str(), authorities) {
            (Some("http"), _) => Ok(None),
            (Some("https"), None) => Tls::system().map(Some),
            (Some("https"), Some(file)) => Tls::trusting(file).map(Some),
            _ => return Err(refused("give an address like https://host/api/v2/jsonRPC".into())),
        };
        let tls = tls.map_err(|fault| refused(fault.to_string()))?;
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(Duration::from_secs(3)));
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new()).build(connector);
        Ok(Self { endpoint: uri, client, tls, api_key: None })
    }

    async fn call(&self, method: &str, params: Value) -> Result<Value, ChainFault> {
        let request = json!({"id": 1, "jsonrpc": "2.0", "method": method, "params": params});
        let answer = tokio::time::timeout(REQUEST_TIMEOUT, self.exchange(request.to_string()));
        let (status, body) = match answer.await {
            Ok(answer) => answer?,
            Err(_) => return Err(self.unreachable("no answer in time")),
        };
        let mut body: Value = serde_json::from_slice(&body)
            .map_err(|_| self.unreachable(format!("status {status}, and no JSON")))?;
        if body.get("ok").and_then(Value::as_bool) == Some(true) {
            return Ok(body.get_mut("result").map(Value::take).unwrap_or_default());
        }
        let reason = body.get("error").and_then(Value::as_str).unwrap_or("no reason given");
        Err(match status {
            StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT => self.unreachable(reason),
            _ => self.refused(reason),
        })
    }

    async fn exchange(&self, body: String) -> Result<(StatusCode, Bytes), ChainFault> {
        let mut request = Request::post(self.endpoint.clone())
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| self.refused(error.to_string()))?;
        if let Some(key) = &self.api_key {
            let mut key = HeaderValue::from_str(key.expose())
                .map_err(|_| self.refused("the API key has odd characters"))?;
            key.set_sensitive(true);
            request.headers_mut().insert("x-api-key", key);
        }
        let response = match &self.tls {
            Some(tls) => tls.send(request).await.map_err(|error| self.unreachable(error))?,
            None => {
                let sent = self.client.request(request).await;
                sent.map_err(|error| self.unreachable(chain_of(&error)))?
            }
        };
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX)
            .collect()
            .await
            .map_err(|error| self.unreachable(error))?;
        Ok((status, body.to_bytes()))
    }

    fn unreachable(&self, reason: impl std::fmt::Display) -> ChainFault {
        ChainFault::Unreachable { server: self.endpoint.to_string(), reason: reason.to_string() }
    }

    fn refused(&self, reason: impl std::fmt::Display) -> ChainFault {
        ChainFault::Refused { server: self.endpoint.to_string(), reason: reason.to_string() }
    }

    fn odd(&self, what: &str) -> ChainFault {
        ChainFault::Unverifiable {
            server: self.endpoint.to_string(),
            reason: format!("{what} is missing or malformed"),
        }
    }

    async fn fetch_head(&self) -> Result<Head, ChainFault> {
        let info = self.call("getConsensusBlock", json!({})).await?;
        let seqno = number(info.get("consensus_block")).ok_or_else(|| self.odd("the block"))?;
        let time = info.get("timestamp").and_then(|time| time.as_f64());
        // The real server gives seconds with a fraction.
        let time = time.filter(|time| (0.0..1e12).contains(time));
        let time = UnixSeconds(time.ok_or_else(|| self.odd("the block's time"))? as u64);
        Ok(Head { seqno, time })
    }

    async fn fetch_account(
        &self,
        address: Address,
        at: Option<u32>,
    ) -> Result<Account, ChainFault> {
        let mut params = json!({"address": address.to_raw()});
        if let (Some(seqno), Some(object)) = (at, params.as_object_mut()) {
            object.insert("seqno".to_owned(), json!(seqno));
        }
        let info = self.call("getAddressInformation", params).await?;
        read_account(address, &info).ok_or_else(|| self.odd("a field of the account"))
    }

    /// One page, newest first; `from` is part of it.
    async fn fetch_page(
        &self,
        address: Address,
        from: Option<TransactionId>,
        to_lt: u64,
    ) -> Result<Vec<TransactionRecord>, ChainFault> {
        let mut params = json!({"address": address.to_raw(), "limit": PAGE, "to_lt": to_lt.to_string(), "archival": true});
        if let (Some(id), Some(object)) = (from, params.as_object_mut()) {
            object.insert("lt".to_owned(), json!(id.lt.to_string()));
            object.insert("hash".to_owned(), json!(hex::encode(id.hash)));
        }
        let page = self.call("getTransactions", params).await?;
        let page = page.as_array().ok_or_else(|| self.odd("the list of transactions"))?;
        page.iter()
            .map(|entry| {
                let cell = read_cell(entry.get("data"))?;
                TransactionRecord::from_cell(cell, address.workchain).ok()
            })
            .collect::<Option<Vec<_>>>()
            .ok_or_else(|| self.odd("a transaction"))
    }

    /// Walks back from the newest to the one after `after_lt`, checking the links.
    async fn fetch_since(
        &self,
        address: Address,
        after_lt: u64,
        limit: usize,
    ) -> Result<Vec<TransactionRecord>, ChainFault> {
        let forgotten = || ChainFault::Forgotten { account: address.to_raw(), after_lt };
        let mut walked: Vec<TransactionRecord> = Vec::new();
        loop {
            let from = walked.last().and_then(|record| record.previous);
            if !walked.is_empty() && from.is_none_or(|from| from.lt <= after_lt) {
                break;
            }
            let page = self.fetch_page(address, from, after_lt).await?;
            if page.is_empty() && from.is_none() {
                break;
            }
            if page.is_empty() || walked.len() > WALK_MAX {
                return Err(forgotten());
            }
            for record in page {
                let expected = walked.last().and_then(|newer| newer.previous);
                if expected.is_some_and(|expected| expected != record.id) {
                    return Err(self.odd("a link between transactions"));
                }
                if record.id.lt > after_lt {
                    walked.push(record);
                }
            }
        }
        walked.reverse();
        walked.truncate(limit);
        Ok(walked)
    }

    /// Walks back from the newest, checking the links; stops where the server stops.
    async fn fetch_recent(
        &self,
        address: Address,
        limit: usize,
    ) -> Result<Vec<TransactionRecord>, ChainFault> {
        let mut walked: Vec<TransactionRecord> = Vec::new();
        while walked.len() < limit.min(WALK_MAX) {
            let from = walked.last().and_then(|record| record.previous);
            if !walked.is_empty() && from.is_none() {
                break;
            }
            let page = self.fetch_page(address, from, 0).await?;
            if page.is_empty() {
                break;
            }
            for record in page {
                let expected = walked.last().and_then(|newer| newer.previous);
                if expected.is_some_and(|expected| expected != record.id) {
                    return Err(self.odd("a link between transactions"));
                }
                walked.push(record);
            }
        }
        walked.truncate(limit);
        Ok(walked)
    }

    /// The record in the shard; servers that do not know the method leave it to be assumed.
    async fn fetch_shard(&self, address: Address) -> Result<Option<ShardAccount>, ChainFault> {
        let params = json!({"address": address.to_raw()});
        let answer = match self.call("getShardAccountCell", params).await {
            Err(ChainFault::Refused { .. }) => {
                return self.fetch_account(address, None).await?.assume_shard(&self.name());
            }
            answer => answer?,
        };
        let cell = read_cell(answer.get("bytes")).ok_or_else(|| self.odd("the account's cell"))?;
        let state = cell.parse::<ShardAccount>().map_err(|_| self.odd("the account's cell"))?;
        let exists = state.load_account().map_err(|_| self.odd("the account's cell"))?.is_some();
        Ok(exists.then_some(state))
    }

    async fn ask_getter(
        &self,
        address: Address,
        method: &str,
        arguments: &[StackEntry],
    ) -> Result<GetterOutput, ChainFault> {
        let arguments: Vec<_> = arguments.iter().map(stack::to_json).collect();
        let params = json!({"address": address.to_raw(), "method": method, "stack": arguments});
        let result = self.call("runGetMethod", params).await?;
        let exit_code = result.get("exit_code").and_then(Value::as_i64);
        let exit_code = exit_code.and_then(|code| i32::try_from(code).ok());
        let output = exit_code.zip(stack::from_json(result.get("stack")));
        let (exit_code, stack) = output.ok_or_else(|| self.odd("the get-method's result"))?;
        if exit_code == -13 {
            return Err(self.refused(format!("{} has no code", address.to_raw())));
        }
        let gas_used = number(result.get("gas_used")).unwrap_or_default();
        Ok(GetterOutput { exit_code, gas_used, stack })
    }
}

impl Chain for Toncenter {
    fn name(&self) -> String {
        format!("{} (believed)", self.endpoint)
    }

    fn trust(&self) -> Trust {
        Trust::Believed
    }

    fn head(&self) -> Answer<'_, Head> {
        Box::pin(self.fetch_head())
    }

    fn account(&self, address: Address, at: Option<u32>) -> Answer<'_, Account> {
        Box::pin(self.fetch_account(address, at))
    }

    fn transactions_since(
        &self,
        address: Address,
        after_lt: u64,
        limit: usize,
    ) -> Answer<'_, Vec<TransactionRecord>> {
        Box::pin(self.fetch_since(address, after_lt, limit))
    }

    fn recent_transactions(
        &self,
        address: Address,
        limit: usize,
    ) -> Answer<'_, Vec<TransactionRecord>> {
        Box::pin(self.fetch_recent(address, limit))
    }

    fn shard_account(&self, address: Address) -> Answer<'_, Option<ShardAccount>> {
        Box::pin(self.fetch_shard(address))
    }

    fn send(&self, message: Vec<u8>) -> Answer<'_, [u8; 32]> {
        Box::pin(async move {
            let hash = Boc::decode(&message).map(|cell| cell.repr_hash().0);
            let hash = hash.map_err(|error| self.refused(format!("no bag of cells: {error}")))?;
            self.call("sendBoc", json!({"boc": STANDARD.encode(&message)})).await?;
            Ok(hash)
        })
    }

    fn run_getter<'a>(
        &'a self,
        address: Address,
        method: &'a str,
        stack: &'a [StackEntry],
    ) -> Answer<'a, GetterOutput> {
        Box::pin(self.ask_getter(address, method, stack))
    }

    fn moved_beyond(&self, _seqno: u32) -> BoxFuture<'_, ()> {
        Box::pin(std::future::pending())
    }
}

/// The error with its causes: the outer one alone says nothing.
fn chain_of(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

fn number<T: std::str::FromStr>(value: Option<&Value>) -> Option<T> {
    match value? {
        Value::String(text) => text.parse().ok(),
        Value::Number(number) => number.to_string().parse().ok(),
        _ => None,
    }
}

fn read_cell(value: Option<&Value>) -> Option<Cell> {
    Boc::decode(STANDARD.decode(value?.as_str()?).ok()?).ok()
}

/// An empty text is no cell; a malformed one is a fault.
fn read_optional_cell(value: Option<&Value>) -> Option<Option<Cell>> {
    match value?.as_str()? {
        "" => Some(None),
        _ => read_cell(value).map(Some),
    }
}

fn read_account(address: Address, info: &Value) -> Option<Account> {
    let seqno = number(info.get("block_id")?.get("seqno"))?;
    let time = UnixSeconds(number(info.get("sync_utime"))?);
    let last = info.get("last_transaction_id")?;
    let lt: u64 = number(last.get("lt"))?;
    let hash = STANDARD.decode(last.get("hash")?.as_str()?).ok()?;
    let last = (lt != 0).then_some(TransactionId { lt, hash: hash.try_into().ok()? });
    let balance = Nanoton(number(info.get("balance"))?);
    let status = match info.get("state")?.as_str()? {
        "active" => AccountStatus::Active,
        "frozen" => AccountStatus::Frozen,
        "uninitialized" if last.is_none() => AccountStatus::Absent,
        "uninitialized" => AccountStatus::Uninit,
        _ => return None,
    };
    Some(Account {
        address,
        status,
        balance,
        code: read_optional_cell(info.get("code"))?,
        data: read_optional_cell(info.get("data"))?,
        last,
        head: Head { seqno, time },
    })
}

/// Reads an answer about an account; a target for fuzzing.
#[must_use]
pub fn decode_account(address: Address, answer: &[u8]) -> Option<Account> {
    read_account(address, &serde_json::from_slice(answer).ok()?)
}
