//! `cocoon chat`: talk to a model in the terminal.

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt as _, Full};
use serde_json::{Value, json};
use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use crate::arguments::ChatOptions;
use crate::http_get::Http;
use crate::mistake;

/// Largest event of an answer's stream, bytes.
const EVENT_LEN_MAX: usize = 1 << 20;

pub(crate) fn run(options: ChatOptions) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(chat(options))
}

async fn chat(options: ChatOptions) -> Result<()> {
    let http = Http::new();
    let model = match &options.model {
        Some(model) => model.clone(),
        None => first_model(&options, &http).await?,
    };
    let mut messages = vec![json!({ "role": "system", "content": options.system })];
    if !options.question.is_empty() {
        messages.push(json!({ "role": "user", "content": options.question.join(" ") }));
        return answer(&options, &http, &model, &messages).await.map(|_| ());
    }
    let terminal = std::io::stdin().is_terminal();
    if terminal {
        eprintln!("Talking to {model}. An empty line or Ctrl-D ends.");
    }
    let mut lines = std::io::stdin().lock().lines();
    loop {
        if terminal {
            eprint!("> ");
        }
        let Some(line) = lines.next() else { return Ok(()) };
        let line = line.context("cannot read the question")?;
        if line.trim().is_empty() {
            return Ok(());
        }
        messages.push(json!({ "role": "user", "content": line }));
        let text = answer(&options, &http, &model, &messages).await?;
        messages.push(json!({ "role": "assistant", "content": text }));
    }
}

async fn first_model(options: &ChatOptions, http: &Http) -> Result<String> {
    let url = format!("{}/v1/models", options.gateway.trim_end_matches('/'));
    let (status, body) = http.get(&url, Duration::from_secs(10)).await.map_err(|fault| {
        mistake(format_args!("no gateway at {}: {fault:#}. Start one: cocoon up", options.gateway))
    })?;
    let list: Value = serde_json::from_slice(&body).unwrap_or_default();
    match list["data"][0]["id"].as_str() {
        Some(model) => Ok(model.to_owned()),
        None => bail!("{url} offers no model ({status}): no worker is connected"),
    }
}

/// What is known of one answer.
#[derive(Debug, Default)]
struct Answer {
    text: String,
    first_token: Option<Duration>,
    report: Value,
    fault: Option<String>,
}

/// Asks, prints the answer as it comes, then what it cost. Returns the answer's text.
async fn answer(
    options: &ChatOptions,
    http: &Http,
    model: &str,
    messages: &[Value],
) -> Result<String> {
    let body = json!({
        "model": model,
        "messages": messages,
        "stream": true,
        "max_tokens": options.max_tokens,
        "cocoon": { "report": true },
    });
    let mut request =
        Request::post(format!("{}/v1/chat/completions", options.gateway.trim_end_matches('/')))
            .header(header::CONTENT_TYPE, "application/json");
    if !options.key.is_empty() {
        request = request.header(header::AUTHORIZATION, format!("Bearer {}", options.key));
    }
    let request = request
        .body(Full::new(Bytes::from(body.to_string())))
        .map_err(|fault| mistake(format_args!("{}: {fault}", options.gateway)))?;
    let asked = Instant::now();
    let response = http.send(request).await?;
    let status = response.status();
    if !status.is_success() {
        let body = response.into_body().collect().await.map(|body| body.to_bytes());
        let fault: Value = serde_json::from_slice(&body.unwrap_or_default()).unwrap_or_default();
        let words = fault["error"]["message"].as_str().unwrap_or("no explanation");
        bail!("{status}: {words}");
    }
    let answer = read(response.into_body(), asked, options.json).await?;
    report(options, &answer, asked.elapsed());
    match answer.fault {
        Some(fault) => bail!("the answer is incomplete: {fault}"),
        None => Ok(answer.text),
    }
}

async fn read(mut body: hyper::body::Incoming, asked: Instant, quiet: bool) -> Result<Answer> {
    let mut answer = Answer::default();
    let mut pending: Vec<u8> = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.context("the gateway broke the connection")?.into_data() else {
            continue;
        };
        pending.extend_from_slice(&data);
        while let Some(end) = pending.windows(2).position(|pair| pair == b"\n\n") {
            let event: Vec<u8> = pending.drain(..end + 2).collect();
            take(&String::from_utf8_lossy(&event), asked, quiet, &mut answer);
        }
        if pending.len() > EVENT_LEN_MAX {
            bail!("the gateway sent an event larger than {EVENT_LEN_MAX} bytes");
        }
    }
    Ok(answer)
}

fn take(event: &str, asked: Instant, quiet: bool, answer: &mut Answer) {
    let Some(data) = event.lines().find_map(|line| line.strip_prefix("data:")) else { return };
    let Ok(value) = serde_json::from_str::<Value>(data.trim()) else { return };
    if let Some(fault) = value["error"]["message"].as_str() {
        answer.fault = Some(fault.to_owned());
    }
    if !value["cocoon"].is_null() {
        answer.report = value["cocoon"].clone();
    }
    if let Some(text) = value["choices"][0]["delta"]["content"].as_str()
        && !text.is_empty()
    {
        answer.first_token.get_or_insert_with(|| asked.elapsed());
        answer.text.push_str(text);
        if !quiet {
            let mut out = std::io::stdout();
            // A closed terminal ends the program at the next read.
            let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
        }
    }
}

fn report(options: &ChatOptions, answer: &Answer, took: Duration) {
    let first = answer.first_token.unwrap_or(took);
    if options.json {
        println!(
            "{}",
            json!({
                "text": answer.text,
                "first_token_ms": first.as_millis(),
                "ms": took.as_millis(),
                "cocoon": answer.report,
            })
        );
        return;
    }
    println!();
    if options.quiet {
        return;
    }
    let cost = cocoon_units::Nanoton(answer.report["cost_nanoton"].as_u64().unwrap_or(0));
    let worker = answer.report["worker"]["measurement"].as_str().unwrap_or("not attested");
    eprintln!(
        "  [{cost}, {} tokens charged; first token after {} ms, all after {} ms; worker {worker}]",
        answer.report["tokens_charged"].as_u64().unwrap_or(0),
        first.as_millis(),
        took.as_millis()
    );
}
