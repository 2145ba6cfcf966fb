//! Running batches in the background.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use cocoon_openai::{ApiError, Endpoint, Marks};
use http::{HeaderMap, HeaderValue};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::Batches;
use super::book::{BatchRecord, FileRecord, Stage};
use super::lines::{self, Line};
use crate::failure::Refusal;
use crate::gateway::{Gateway, unix_seconds};
use crate::infer;
use crate::keys::KeyRing;
use crate::order::Order;
use crate::reply::{self, Gathered};
use crate::ticket::{Running, Ticket};
use crate::upstream::Upstream;
use crate::vault::{Appender, VaultFault};

/// Wait after a failure of the disk, and longest wait between two tries of a request.
const PAUSE: Duration = Duration::from_secs(30);

/// Tries of one request before its failure is its answer.
const TRIES: u32 = 20;

/// The two files that a batch writes.
struct Results {
    output: Appender,
    errors: Appender,
    done: HashSet<String>,
}

/// One request's answer.
struct LineResult {
    custom_id: String,
    good: bool,
    text: String,
}

impl<U: Upstream> Gateway<U> {
    /// Runs batches, oldest first, for ever.
    pub(crate) async fn run_batches(self: Arc<Self>) {
        let Some(batches) = self.batches().cloned() else { return };
        loop {
            let next = batches.book().next_work();
            let Some(batch) = next else {
                batches.work.notified().await;
                continue;
            };
            if let Err(fault) = self.run_batch(&batches, &batch).await {
                tracing::error!(%fault, batch = batch.id, "a batch cannot go on; will try again");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    async fn run_batch(
        self: &Arc<Self>,
        batches: &Arc<Batches>,
        batch: &BatchRecord,
    ) -> Result<(), VaultFault> {
        let endpoint = Endpoint::of_path(&batch.endpoint).unwrap_or(Endpoint::ChatCompletions);
        let (lines, results) = open(batches.clone(), batch.clone(), endpoint).await?;
        let results = Arc::new(Mutex::new(results));
        let mut running = JoinSet::new();
        for line in lines {
            if is_done(&results, &line) {
                continue;
            }
            while running.len() >= batches.config.parallel.max(1) {
                book_line(batches, batch, &results, running.join_next().await).await?;
            }
            if batches.stage(&batch.id) != Some(Stage::InProgress) || expired(batch) {
                break;
            }
            let (gateway, batch) = (self.clone(), batch.clone());
            running.spawn(async move { gateway.run_line(&batch, endpoint, line).await });
        }
        while !running.is_empty() {
            book_line(batches, batch, &results, running.join_next().await).await?;
        }
        let (batches, id) = (batches.clone(), batch.id.clone());
        blocking(move || batches.end(&id)).await
    }

    /// Runs one request until it has an answer or a failure that stays.
    async fn run_line(&self, batch: &BatchRecord, endpoint: Endpoint, line: Line) -> LineResult {
        let id = format!("batch_req_{:032x}", rand::random::<u128>());
        let mut tries = 0;
        let (status, body) = loop {
            let refusal = match self.try_line(batch, endpoint, &line, &id).await {
                Ok(answer) => break answer,
                Err(refusal) => refusal,
            };
            tries += 1;
            let passing = matches!(refusal.error.status, 429 | 502 | 503 | 504);
            let stopped = self.batches().and_then(|batches| batches.stage(&batch.id))
                != Some(Stage::InProgress);
            if !passing || tries >= TRIES || stopped || expired(batch) {
                let body = serde_json::from_slice(&refusal.error.to_json()).unwrap_or_default();
                break (refusal.error.status, body);
            }
            let wait = refusal.retry_after.unwrap_or(Duration::from_secs(1 << tries.min(4)));
            tokio::time::sleep(wait.min(PAUSE)).await;
        };
        let text = json!({
            "id": id,
            "custom_id": line.custom_id,
            "response": {"status_code": status, "request_id": id, "body": body},
            "error": null,
        });
        let custom_id = line.custom_id;
        LineResult { custom_id, good: status < 300, text: format!("{text}\n") }
    }

    async fn try_line(
        &self,
        batch: &BatchRecord,
        endpoint: Endpoint,
        line: &Line,
        id: &str,
    ) -> Result<(u16, Value), Box<Refusal>> {
        let mut headers = HeaderMap::new();
        headers.insert("x-cocoon-background", HeaderValue::from_static("on"));
        let body = Bytes::from(line.body.clone());
        let order = Order::read(endpoint, &headers, body, id, self.config())?;
        if order.shape.stream {
            let message = "A batch cannot stream: leave 'stream' out.";
            return Err(ApiError::invalid("stream", message).into());
        }
        let key = match self.keys() {
            Some(keys) => Some(KeyRing::by_id(keys, &batch.owner)?),
            None => None,
        };
        if let Some(key) = &key {
            key.admit(&order.shape.model)?;
        }
        let limits = &self.config().limits;
        let mut ticket = Ticket::take(self.metrics_shared(), key, endpoint, limits.requests)
            .ok_or_else(|| Box::new(Refusal::too_many_requests(limits.requests)))?;
        let deadline = infer::deadline(order.request.timeout);
        let stream = match infer::run(self.upstream(), order.request, deadline).await {
            Ok(stream) => stream,
            Err(failure) => {
                ticket.refused();
                return Err(Box::new(failure.into()));
            }
        };
        let mut running = Running::new(ticket, stream.parts);
        let gathering = reply::gather(&mut running, limits.body_bytes);
        let too_long = || ApiError::new(500, "api_error", "The answer is too long to be kept.");
        let (body, record) = match tokio::time::timeout_at(deadline.0, gathering).await {
            Ok(Gathered::Whole(body, record)) => (body, record),
            Ok(Gathered::TooLong(_)) => return Err(too_long().into()),
            Err(_) => return Err(Box::new(infer::out_of_time(deadline).into())),
        };
        let created_unix_s = unix_seconds() as u64;
        let marks = Marks { id: id.to_owned(), created_unix_s };
        let (status, body) = reply::whole(&order.shape, &marks, stream.head.status, body, &record)?;
        Ok((status.as_u16(), serde_json::from_slice(&body).unwrap_or_default()))
    }
}

/// Reads what is to be done and what was done before.
async fn open(
    batches: Arc<Batches>,
    batch: BatchRecord,
    endpoint: Endpoint,
) -> Result<(Vec<Line>, Results), VaultFault> {
    blocking(move || {
        let input = batches.vault.read(&batch.input_file)?.concat();
        // It was checked when the batch was made.
        let lines = lines::read(&input, endpoint).unwrap_or_default();
        let mut done = HashSet::new();
        let mut counts = [0u64; 2];
        let mut files = Vec::new();
        for (name, count) in batch.result_names().iter().zip(&mut counts) {
            files.push(batches.vault.append(name, |frame| {
                *count += 1;
                let line: Value = serde_json::from_slice(&frame).unwrap_or_default();
                done.extend(line["custom_id"].as_str().map(str::to_owned));
            })?);
        }
        if let Some(record) = batches.book().batches.get_mut(&batch.id) {
            [record.completed, record.failed] = counts;
        }
        let (errors, output) = (files.pop(), files.pop());
        match (output, errors) {
            (Some(output), Some(errors)) => Ok((lines, Results { output, errors, done })),
            _ => Err(VaultFault::Damaged { name: batch.id, reason: "no result files".to_owned() }),
        }
    })
    .await
}

fn is_done(results: &Mutex<Results>, line: &Line) -> bool {
    results.lock().unwrap_or_else(PoisonError::into_inner).done.contains(&line.custom_id)
}

/// Writes one answer down.
async fn book_line(
    batches: &Arc<Batches>,
    batch: &BatchRecord,
    results: &Arc<Mutex<Results>>,
    ended: Option<Result<LineResult, tokio::task::JoinError>>,
) -> Result<(), VaultFault> {
    // A request that panicked has no answer and runs again after a restart.
    let Some(Ok(result)) = ended else { return Ok(()) };
    let (batches, id, results) = (batches.clone(), batch.id.clone(), results.clone());
    blocking(move || {
        let mut results = results.lock().unwrap_or_else(PoisonError::into_inner);
        let file = if result.good { &mut results.output } else { &mut results.errors };
        file.push(result.text.as_bytes())?;
        results.done.insert(result.custom_id);
        if let Some(record) = batches.book().batches.get_mut(&id) {
            let count = if result.good { &mut record.completed } else { &mut record.failed };
            *count += 1;
        }
        Ok(())
    })
    .await
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, VaultFault> + Send + 'static,
) -> Result<T, VaultFault> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|fault| {
        Err(VaultFault::Damaged { name: "book".to_owned(), reason: fault.to_string() })
    })
}

fn expired(batch: &BatchRecord) -> bool {
    unix_seconds() as u64 >= batch.expires_s()
}

impl BatchRecord {
    /// Names of the files of answers and of errors.
    fn result_names(&self) -> [String; 2] {
        [format!("file-out-{}", self.id), format!("file-err-{}", self.id)]
    }
}

impl Batches {
    fn stage(&self, id: &str) -> Option<Stage> {
        self.book().batches.get(id).map(|batch| batch.stage)
    }

    /// Ends a batch whose requests have all ended, and shows its files.
    fn end(&self, id: &str) -> Result<(), VaultFault> {
        let now_s = unix_seconds() as u64;
        self.change(|book| {
            let Some(batch) = book.batches.get_mut(id) else { return };
            batch.stage = match batch.stage {
                Stage::Cancelling => Stage::Cancelled,
                _ if batch.completed + batch.failed < batch.total => Stage::Expired,
                _ => Stage::Completed,
            };
            batch.ended_s = Some(now_s);
            let [output, errors] = batch.result_names();
            batch.output_file = (batch.completed > 0).then_some(output);
            batch.error_file = (batch.failed > 0).then_some(errors);
            let shown = [batch.output_file.clone(), batch.error_file.clone()];
            let owner = batch.owner.clone();
            for id in shown.into_iter().flatten() {
                let name = format!("{id}.jsonl");
                let purpose = "batch_output".to_owned();
                let bytes = self.vault.content_bytes(&id);
                let record = FileRecord {
                    id: id.clone(),
                    owner: owner.clone(),
                    name,
                    purpose,
                    bytes,
                    created_s: now_s,
                };
                book.files.insert(id, record);
            }
        })
    }
}
