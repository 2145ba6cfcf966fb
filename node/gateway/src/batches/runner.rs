//! Running batches in the background.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use cocoon_openai::{ApiError, Endpoint, Marks};
use http::{HeaderMap, HeaderValue};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::book::{BatchRecord, FileRecord, Stage};
use super::lines::{self, Line, Lines, NameDigest};
use super::{Batches, blocking};
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

/// The input of a batch, from which requests are taken one by one.
type Input = Lines<Box<dyn FnMut() -> Result<Option<Vec<u8>>, VaultFault> + Send>>;

/// The two files that a batch writes.
struct Results {
    output: Appender,
    errors: Appender,
    /// Requests that have an answer.
    done: HashSet<NameDigest>,
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
        let (mut input, results) = open(batches.clone(), batch.clone()).await?;
        let results = Arc::new(Mutex::new(results));
        let mut running = JoinSet::new();
        loop {
            while running.len() >= batches.config.parallel.max(1) {
                book_line(batches, batch, &results, running.join_next().await).await?;
            }
            if batches.stage(&batch.id) != Some(Stage::InProgress) || expired(batch) {
                break;
            }
            let (rest, line) = next_open(input, endpoint, results.clone()).await?;
            input = rest;
            let Some(line) = line else { break };
            let (gateway, batch) = (self.clone(), batch.clone());
            running.spawn(async move { gateway.run_line(&batch, endpoint, line).await });
        }
        while !running.is_empty() {
            book_line(batches, batch, &results, running.join_next().await).await?;
        }
        let (batches, id) = (batches.clone(), batch.id.clone());
        blocking(move || batches.end(&id, lock(&results).bytes())).await
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
        let mut running = Running::new(Some(ticket), stream.parts);
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

/// Opens what is to be done, and reads what was done before.
async fn open(batches: Arc<Batches>, batch: BatchRecord) -> Result<(Input, Results), VaultFault> {
    blocking(move || {
        let missing = || VaultFault::Damaged {
            name: batch.input_file.clone(),
            reason: "it is not there, but a batch reads it".to_owned(),
        };
        let mut frames = batches.vault.frames(&batch.input_file)?.ok_or_else(missing)?;
        // Lines were found short enough when the batch was made.
        let input = Lines::new(Box::new(move || frames.next()) as Box<_>, usize::MAX);
        let mut done = HashSet::new();
        let mut counts = [0u64; 2];
        let mut files = Vec::new();
        for (name, count) in batch.result_names().iter().zip(&mut counts) {
            files.push(batches.vault.append(name, |frame| {
                *count += 1;
                let line: Answered<'_> = serde_json::from_slice(&frame).unwrap_or_default();
                done.insert(NameDigest::of(&line.custom_id));
            })?);
        }
        batches.note(|book| {
            if let Some(record) = book.batches.get_mut(&batch.id) {
                [record.completed, record.failed] = counts;
            }
        });
        let (errors, output) = (files.pop(), files.pop());
        match (output, errors) {
            (Some(output), Some(errors)) => Ok((input, Results { output, errors, done })),
            _ => Err(VaultFault::Damaged { name: batch.id, reason: "no result files".to_owned() }),
        }
    })
    .await
}

/// What is read of an answer to know whose it is.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Answered<'a> {
    #[serde(borrow)]
    custom_id: Cow<'a, str>,
}

/// The next request without an answer, and the input behind it.
async fn next_open(
    mut input: Input,
    endpoint: Endpoint,
    results: Arc<Mutex<Results>>,
) -> Result<(Input, Option<Line>), VaultFault> {
    blocking(move || {
        while let Some(text) = input.next()? {
            // It was checked when the batch was made.
            let Ok(line) = lines::read(&text, endpoint) else { continue };
            if !lock(&results).done.contains(&NameDigest::of(&line.custom_id)) {
                return Ok((input, Some(line)));
            }
        }
        Ok((input, None))
    })
    .await
}

fn lock(results: &Mutex<Results>) -> MutexGuard<'_, Results> {
    results.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Results {
    /// Bytes of the answers and of the errors.
    fn bytes(&self) -> [u64; 2] {
        [self.output.content_bytes(), self.errors.content_bytes()]
    }
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
        let mut results = lock(&results);
        let file = if result.good { &mut results.output } else { &mut results.errors };
        file.push(result.text.as_bytes())?;
        results.done.insert(NameDigest::of(&result.custom_id));
        drop(results);
        batches.note(|book| {
            if let Some(record) = book.batches.get_mut(&id) {
                let count = if result.good { &mut record.completed } else { &mut record.failed };
                *count += 1;
            }
        });
        Ok(())
    })
    .await
}

fn expired(batch: &BatchRecord) -> bool {
    unix_seconds() as u64 >= batch.expires_s()
}

impl BatchRecord {
    /// Names of the files of answers and of errors.
    pub(super) fn result_names(&self) -> [String; 2] {
        [format!("file-out-{}", self.id), format!("file-err-{}", self.id)]
    }
}

impl Batches {
    fn stage(&self, id: &str) -> Option<Stage> {
        self.book().batches.get(id).map(|batch| batch.stage)
    }

    /// Ends a batch whose requests have all ended, and shows its files, of so many bytes.
    fn end(&self, id: &str, result_bytes: [u64; 2]) -> Result<(), VaultFault> {
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
            for (id, bytes) in shown.into_iter().zip(result_bytes) {
                let Some(id) = id else { continue };
                let name = format!("{id}.jsonl");
                let purpose = "batch_output".to_owned();
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
