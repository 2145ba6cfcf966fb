//! `cocoon verify`, `cocoon receipt`, `cocoon endorsement`: proof, not promises.

mod date;
mod endorsement;
mod options;
mod receipt;
mod show;
mod trust;
mod verify;

pub(crate) use endorsement::EndorsementCommand;
pub(crate) use endorsement::run as endorsement;
pub(crate) use options::{ReceiptCommand, VerifyOptions};
pub(crate) use receipt::run as receipt;
pub(crate) use verify::run as verify;

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use std::time::Duration;

use crate::http_get::Http;
use crate::mistake;

/// Longest wait for a gateway, which asks every worker for a quote.
const GATEWAY_WAIT: Duration = Duration::from_secs(90);

/// Runs a command that asks a gateway.
fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(work)
}

/// Gets a file from a gateway; `None` for 404.
async fn fetch(gateway: &str, path: &str, key: &str) -> Result<Option<Bytes>> {
    let url = format!("{gateway}{path}");
    let mut request = http::Request::get(&url);
    if !key.is_empty() {
        request = request.header(http::header::AUTHORIZATION, format!("Bearer {key}"));
    }
    let request = request.body(Full::default()).map_err(mistake)?;
    let ask = async {
        let answer = Http::new().send(request).await.map_err(|fault| {
            mistake(format_args!("no gateway at {gateway}: {fault:#}. Start one: cocoon up"))
        })?;
        let status = answer.status().as_u16();
        let body = Limited::new(answer.into_body(), cocoon_proof::BUNDLE_LIMIT)
            .collect()
            .await
            .map_err(|fault| anyhow::anyhow!("{url}: {fault}"))?
            .to_bytes();
        anyhow::Ok((status, body))
    };
    let (status, body) = tokio::time::timeout(GATEWAY_WAIT, ask)
        .await
        .with_context(|| format!("{url} did not answer within {GATEWAY_WAIT:?}"))??;
    match status {
        200 => Ok(Some(body)),
        404 => Ok(None),
        _ => {
            let error: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
            let words = error["error"]["message"].as_str().unwrap_or("no words").to_owned();
            bail!("{url} answered {status}: {words}")
        }
    }
}
