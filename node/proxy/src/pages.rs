//! Pages for people and monitors, and the operator's commands (protocol notes 4.3, 4.4).
//!
//! Reading is GET, changing is POST, and both ask for the access word when one is configured;
//! `/health` and `/ready` never do.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Query, Request, State};
use axum::http::{Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use axum::routing::{get, post};
use cocoon_host::pages::{BROWSER_HEADERS, FROM_A_WEB_PAGE};
use cocoon_ledger::AccountId;
use cocoon_role_proxy::{Command, ConnId};
use cocoon_units::{Address, Nanoton};

use crate::config::ProxyConfig;
use crate::desk::{ChainCommand, Desk, Whole};
use crate::report;

/// Largest form taken.
const FORM_BYTES_MAX: usize = 16 << 10;

/// What pages need.
#[derive(Clone)]
pub(crate) struct Pages {
    desk: Desk,
    about: Arc<About>,
}

/// What the configuration says, for the status page.
pub(crate) struct About {
    access: String,
    pub(crate) owner: String,
    pub(crate) root: String,
    pub(crate) check_images: bool,
}

type Parameters = Query<HashMap<String, String>>;

impl Pages {
    pub(crate) fn new(desk: Desk, config: &ProxyConfig) -> Self {
        let about = About {
            access: config.http_access_hash.clone(),
            owner: config.owner.clone(),
            root: config.root.clone(),
            check_images: config.check_worker_images,
        };
        Self { desk, about: Arc::new(about) }
    }

    fn may(&self, parameters: &HashMap<String, String>) -> bool {
        let shown = parameters.get("access_hash").map_or("", String::as_str);
        self.about.access.is_empty() || same(shown.as_bytes(), self.about.access.as_bytes())
    }

    async fn read(
        &self,
        parameters: &HashMap<String, String>,
        kind: &'static str,
        page: impl FnOnce(&Whole, &About) -> String,
    ) -> Response {
        if !self.may(parameters) {
            return reply(StatusCode::FORBIDDEN, kind, String::new());
        }
        match self.desk.status().await {
            Some(whole) => reply(StatusCode::OK, kind, page(&whole, &self.about)),
            None => reply(StatusCode::SERVICE_UNAVAILABLE, TEXT, "shutting down\n".into()),
        }
    }

    async fn change(
        &self,
        parameters: &HashMap<String, String>,
        command: Result<Command, String>,
    ) -> Response {
        if !self.may(parameters) {
            return reply(StatusCode::FORBIDDEN, TEXT, String::new());
        }
        let command = match command {
            Ok(command) => command,
            Err(text) => return reply(StatusCode::BAD_REQUEST, TEXT, format!("{text}\n")),
        };
        answered(self.desk.command(command).await)
    }

    async fn change_chain(
        &self,
        parameters: &HashMap<String, String>,
        command: Result<ChainCommand, String>,
    ) -> Response {
        if !self.may(parameters) {
            return reply(StatusCode::FORBIDDEN, TEXT, String::new());
        }
        match command {
            Ok(command) => answered(self.desk.chain(command).await),
            Err(text) => reply(StatusCode::BAD_REQUEST, TEXT, format!("{text}\n")),
        }
    }
}

fn answered(answer: Option<Result<String, String>>) -> Response {
    match answer {
        Some(Ok(text)) => reply(StatusCode::OK, TEXT, format!("{text}\n")),
        Some(Err(text)) => reply(StatusCode::CONFLICT, TEXT, format!("{text}\n")),
        None => reply(StatusCode::SERVICE_UNAVAILABLE, TEXT, "shutting down\n".into()),
    }
}

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// All pages.
pub(crate) fn router(pages: Pages) -> Router {
    Router::new()
        .route("/health", get(async || reply(StatusCode::OK, TEXT, "ok\n".into())))
        .route("/ready", get(ready))
        .route("/metrics", get(metrics))
        .route("/jsonstats", get(json_stats))
        .route("/stats", get(stats))
        .route("/request/disable", post(disable))
        .route("/request/enable", post(enable))
        .route("/request/charge", post(charge))
        .route("/request/payout", post(payout))
        .route("/request/commit", post(commit))
        .route("/request/withdraw", post(withdraw))
        .route("/request/stake", post(add_stake))
        .route("/request/close", post(close))
        .route("/request/change_worker_model", post(change_model))
        .fallback(async || reply(StatusCode::NOT_FOUND, TEXT, "not found\n".into()))
        .layer(axum::middleware::from_fn(refuse_web_pages))
        .layer(axum::extract::DefaultBodyLimit::max(FORM_BYTES_MAX))
        .with_state(pages)
}

async fn refuse_web_pages(request: Request, next: Next) -> Response {
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    if !reads && BROWSER_HEADERS.iter().any(|name| request.headers().contains_key(*name)) {
        return reply(StatusCode::FORBIDDEN, TEXT, FROM_A_WEB_PAGE.into());
    }
    next.run(request).await
}

async fn ready(State(pages): State<Pages>) -> Response {
    let serving = pages.desk.status().await.is_some_and(|whole| whole.status.serving);
    let (code, text) = if serving {
        (StatusCode::OK, "ready\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready\n")
    };
    reply(code, TEXT, text.into())
}

async fn metrics(State(pages): State<Pages>, Query(parameters): Parameters) -> Response {
    pages.read(&parameters, METRICS, |whole, _| report::metrics(whole)).await
}

async fn json_stats(State(pages): State<Pages>, Query(parameters): Parameters) -> Response {
    pages.read(&parameters, JSON, |whole, about| report::json(whole, about).to_string()).await
}

async fn stats(State(pages): State<Pages>, Query(parameters): Parameters) -> Response {
    pages
        .read(&parameters, TEXT, |whole, about| {
            serde_json::to_string_pretty(&report::json(whole, about)).unwrap_or_default()
        })
        .await
}

async fn disable(State(pages): State<Pages>, Query(parameters): Parameters) -> Response {
    let command = Ok(Command::Disable { until_params_version: None });
    pages.change(&parameters, command).await
}

async fn enable(State(pages): State<Pages>, Query(parameters): Parameters) -> Response {
    pages.change(&parameters, Ok(Command::Enable)).await
}

async fn commit(State(pages): State<Pages>, Query(parameters): Parameters) -> Response {
    pages.change(&parameters, Ok(Command::Commit)).await
}

async fn withdraw(State(pages): State<Pages>, Query(parameters): Parameters) -> Response {
    pages.change_chain(&parameters, Ok(ChainCommand::Withdraw)).await
}

/// Adds `amount` TON of the wallet to the stake, or what it misses until it is `until` TON.
async fn add_stake(State(pages): State<Pages>, Query(parameters): Parameters) -> Response {
    let read = |name: &str| {
        let read = parameters.get(name).map(|text| Nanoton::parse(text)).transpose();
        read.map_err(|fault| format!("{name}: {fault}"))
    };
    let command = match (read("amount"), read("until")) {
        (Err(fault), _) | (_, Err(fault)) => Err(fault),
        (Ok(Some(amount)), Ok(None)) => Ok(ChainCommand::AddStake(amount)),
        (Ok(None), Ok(Some(until))) => Ok(ChainCommand::StakeUntil(until)),
        _ => Err("say amount=TON or until=TON".to_owned()),
    };
    pages.change_chain(&parameters, command).await
}

/// Closes the contract for good; needs `confirm=yes`, because there is no way back.
async fn close(State(pages): State<Pages>, Query(parameters): Parameters) -> Response {
    let command = match parameters.get("confirm").map(String::as_str) {
        Some("yes") => Ok(ChainCommand::Close),
        _ => Err("there is no way back: say confirm=yes".to_owned()),
    };
    pages.change_chain(&parameters, command).await
}

async fn charge(State(pages): State<Pages>, Query(parameters): Parameters) -> Response {
    let command = account(&parameters, "client").map(|client| Command::Charge { client });
    pages.change(&parameters, command).await
}

async fn payout(State(pages): State<Pages>, Query(parameters): Parameters) -> Response {
    let command = account(&parameters, "worker").map(|worker| Command::Payout { worker });
    pages.change(&parameters, command).await
}

/// Takes its fields from the query or, as the reference, from a form.
async fn change_model(
    State(pages): State<Pages>,
    Query(parameters): Parameters,
    form: String,
) -> Response {
    let mut fields = parameters.clone();
    for pair in form.split('&') {
        if let Some((name, value)) = pair.split_once('=') {
            fields.insert(name.to_owned(), unescape(value));
        }
    }
    let conn = fields.get("connection_id").and_then(|text| text.parse().ok());
    let command = match (conn, fields.get("new_model_name")) {
        (Some(conn), Some(model)) => {
            Ok(Command::ChangeModel { conn: ConnId(conn), model: model.clone() })
        }
        _ => Err("connection_id (a number) and new_model_name are needed".to_owned()),
    };
    pages.change(&parameters, command).await
}

fn account(parameters: &HashMap<String, String>, name: &str) -> Result<AccountId, String> {
    let text = parameters.get(name).ok_or_else(|| format!("{name}=OWNER is missing"))?;
    let address = Address::parse(text).map_err(|fault| format!("{name}: {fault}"))?;
    Ok(AccountId(address.hash))
}

fn reply(code: StatusCode, kind: &'static str, text: String) -> Response {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = code;
    let kind = header::HeaderValue::from_static(kind);
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

/// Compares without telling by its time how much fits.
fn same(shown: &[u8], wanted: &[u8]) -> bool {
    let differs = shown.iter().zip(wanted).fold(0, |sum, (a, b)| sum | (a ^ b));
    shown.len() == wanted.len() && differs == 0
}

/// Reads a value of a form: `+` is a blank, `%41` a byte.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let code = match tail {
            [high, low, ..] if *first == b'%' => {
                let digit = |byte: u8| char::from(byte).to_digit(16);
                digit(*high).zip(digit(*low)).and_then(|(h, l)| u8::try_from(h * 16 + l).ok())
            }
            _ => None,
        };
        match code {
            Some(byte) => {
                bytes.push(byte);
                rest = tail.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(if *first == b'+' { b' ' } else { *first });
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::{same, unescape};

    #[test]
    fn form_values_are_read() {
        assert_eq!(unescape("Qwen%2FQwen3%40c%3A1+x"), "Qwen/Qwen3@c:1 x");
        assert_eq!(unescape("100%"), "100%");
        assert_eq!(unescape("%zz%4"), "%zz%4");
    }

    #[test]
    fn words_are_compared_whole() {
        assert!(same(b"abc", b"abc"));
        assert!(!same(b"ab", b"abc") && !same(b"abd", b"abc") && !same(b"", b"a"));
    }
}
