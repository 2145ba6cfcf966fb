//! `cocoon receipt`

use anyhow::{Context as _, Result};
use bytes::Bytes;
use cocoon_gateway::body_sent;
use cocoon_openai::Endpoint;
use cocoon_proof::{Body, Compared, ReceiptFile, SignedReceipt, check_receipt};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::options::{ReceiptCommand, ReceiptVerifyOptions, ShowOptions, TrustOptions};
use super::trust::{Own, read_file, write_file};
use super::{block_on, fetch, show};
use crate::mistake;

/// Longest file that is compared with a receipt, bytes.
const BODY_LEN_MAX: u64 = 1 << 30;
/// Longest file of a receipt, bytes.
const FILE_LEN_MAX: u64 = 1 << 20;
/// How long the report of a key that was just met may be on its way to the gateway.
const REPORT_WAIT: Duration = Duration::from_secs(10);
/// How often it is asked for.
const REPORT_EVERY: Duration = Duration::from_millis(200);

pub(crate) fn run(command: &ReceiptCommand) -> Result<()> {
    match command {
        ReceiptCommand::Show(options) => show_receipt(options),
        ReceiptCommand::Verify(options) => verify(options),
    }
}

fn show_receipt(options: &ShowOptions) -> Result<()> {
    let own = Own::read(&TrustOptions::default())?;
    let gateway = own.gateway(options.gateway.as_ref());
    let (file, receipt) = find(&options.receipt, &gateway, &options.output.key)?;
    if let Some(path) = &options.save {
        write_file(path, &file.write()?)?;
    }
    if options.output.json {
        show::say(&serde_json::to_string(&file)?);
        return Ok(());
    }
    let said = &receipt.receipt;
    let money = &said.money;
    let cost = money.cost().map_or_else(|| "?".to_owned(), |cost| cost.0.to_string());
    let lines = [
        ("receipt", receipt.id()),
        ("model", said.model_name.clone()),
        ("worker image", said.worker_image.to_string()),
        ("worker TEE", format!("{:?} by its own word", said.worker_tee)),
        ("proxy image", said.proxy_image.to_string()),
        ("request", format!("{} {} bytes, {}", said.path, said.request.len, said.request.sha256)),
        ("answer", format!("{} {} bytes, {}", said.status, said.answer.len, said.answer.sha256)),
        ("end", format!("{:?}", said.end).to_lowercase()),
        (
            "usage",
            format!(
                "{} prompt, {} cached, {} completion, {} reasoning",
                money.usage.prompt,
                money.usage.cached,
                money.usage.completion,
                money.usage.reasoning
            ),
        ),
        ("charged", format!("{} tokens, {cost} nanoTON", money.charged)),
        ("took", format!("{} ms", said.ended_ms.saturating_sub(said.started_ms))),
        ("evidence", if file.evidence.is_some() { "with it" } else { "not with it" }.to_owned()),
    ];
    for (name, value) in lines {
        show::say(&format!("  {name:<13} {value}"));
    }
    show::say("\nThat is what it says. Check it: cocoon receipt verify");
    Ok(())
}

fn verify(options: &ReceiptVerifyOptions) -> Result<()> {
    let own = Own::read(&options.trust)?;
    let gateway = own.gateway(options.gateway.as_ref());
    let body = |path: &Option<PathBuf>| {
        path.as_ref().map(|path| read_file(path, BODY_LEN_MAX)).transpose()
    };
    let (request, answer) = (body(&options.request)?, body(&options.answer)?);
    let (file, receipt) = find(&options.receipt, &gateway, &options.output.key)?;
    let asker = own.later(None, file.made_ms(&receipt));
    let request = request.map(|body| as_sent(body, &receipt, &own));
    let compared = Compared { request: request.as_deref(), answer: answer.as_deref() };
    let found = check_receipt(&file, &receipt, compared, &asker);
    let required = match options.require.as_slice() {
        [] => compared.requirements(),
        list => list.to_vec(),
    };
    show::verdict(&receipt.id(), &found, &required, options.output.json)
}

/// The body as the gateway sends it on, when that is what the receipt is about; otherwise as it is.
fn as_sent(body: Vec<u8>, receipt: &SignedReceipt, own: &Own) -> Vec<u8> {
    let said = &receipt.receipt;
    if Body::of(&body) == said.request {
        return body;
    }
    let asked = Endpoint::of_path(&said.path);
    let translated = [Endpoint::Responses, Endpoint::Messages];
    for endpoint in asked.into_iter().chain(translated) {
        if let Ok(sent) = body_sent(endpoint, Bytes::from(body.clone()), &own.http)
            && Body::of(&sent) == said.request
        {
            return sent.to_vec();
        }
    }
    body
}

/// The receipt of a file, or the one that the gateway keeps.
fn find(receipt: &str, gateway: &str, key: &str) -> Result<(ReceiptFile, SignedReceipt)> {
    if !receipt.starts_with("rcpt_") {
        let bytes = read_file(&PathBuf::from(receipt), FILE_LEN_MAX)?;
        return ReceiptFile::read(&bytes)
            .map_err(|fault| mistake(format_args!("{receipt}: {fault}")));
    }
    let read = |bytes: Bytes| {
        ReceiptFile::read(&bytes).with_context(|| format!("the answer of {gateway}"))
    };
    let (file, signed) = block_on(async {
        let until = Instant::now() + REPORT_WAIT;
        loop {
            let path = format!("/v1/receipts/{receipt}");
            let answer = fetch(gateway, &path, key).await?.ok_or_else(|| {
                mistake(format_args!("{gateway} keeps no receipt {receipt} (any more)"))
            })?;
            let found = read(answer)?;
            if found.0.evidence.is_some() || Instant::now() >= until {
                return Ok(found);
            }
            tokio::time::sleep(REPORT_EVERY).await;
        }
    })?;
    if signed.id() != receipt {
        anyhow::bail!("{gateway} gave another receipt: {}", signed.id());
    }
    Ok((file, signed))
}
