//! Running batches in the background.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use cocoon_openai::{ApiError, Endpoint, Marks};
use http::{HeaderMap, HeaderValue};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::book::{BatchRecord, FileRecord, LineFault, Stage};
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

/// Wait after a batch could not go on, and longest wait between two tries of a request.
const PAUSE: Duration = Duration::from_secs(30);

/// Longest answer that is kept, bytes: with what stands around it, it fits into a frame of a file.
const ANSWER_BYTES_MAX: usize = 32 * 1024 * 1024;

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
    /// Runs batches for ever: of each API key its oldest, side by side.
    pub(crate) async fn run_batches(self: Arc<Self>) {
        let Some(batches) = self.batches().cloned() else { return };
        let mut running = JoinSet::new();
        let mut owners = HashMap::new();
        loop {
            let in_hand = |owner: &str| owners.values().any(|other| other == owner);
            let next = batches.book().next_work(in_hand);
            for batch in next {
                let owner = batch.owner.clone();
                let (gateway, batches) = (self.clone(), batches.clone());
                let task = running.spawn(async move { gateway.go_on(&batches, &batch).await });
                owners.insert(task.id(), owner);
            }
            tokio::select! {
                () = batches.work.notified() => {}
                Some(ended) = running.join_next_with_id() => match ended {
                    Ok((task, ())) => drop(owners.remove(&task)),
                    // It would end so again: the owner's batches wait for the next start.
                    Err(fault) => tracing::error!(%fault, "a batch cannot go on"),
                },
            }
        }
    }

    async fn go_on(self: &Arc<Self>, batches: &Arc<Batches>, batch: &BatchRecord) {
        if let Err(fault) = self.run_batch(batches, batch).await {
            tracing::error!(%fault, batch = batch.id, "a batch cannot go on; will try again");
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn run_batch(
        self: &Arc<Self>,
        batches: &Arc<Batches>,
        batch: &BatchRecord,
    ) -> Result<(), VaultFault> {
        let opened = open_results(batches.clone(), batch.clone()).await;
        let (result_bytes, ended) = match opened {
            Err(fault) => (None, Err(fault)),
            Ok(results) => {
                let results = Arc::new(Mutex::new(results));
                let mut running = JoinSet::new();
                let ended = self.run_lines(batches, batch, &results, &mut running).await;
                // What was sent is paid: its answers are kept, however the batch ends.
                while !running.is_empty() {
                    book_line(batches, batch, &results, running.join_next().await).await;
                }
                (Some(lock(&results).bytes()), ended)
            }
        };
        let damage = match ended {
            Err(fault) if batch.is_damaged_by(&fault) => Some(fault.to_string()),
            ended => ended.map(|()| None)?,
        };
        let (batches, id) = (batches.clone(), batch.id.clone());
        blocking(move || batches.end(&id, result_bytes, damage)).await
    }

    /// Runs requests until none is left to begin; some may still run.
    async fn run_lines(
        self: &Arc<Self>,
        batches: &Arc<Batches>,
        batch: &BatchRecord,
        results: &Arc<Mutex<Results>>,
        running: &mut JoinSet<LineResult>,
    ) -> Result<(), VaultFault> {
        if !batches.goes_on(batch) {
            return Ok(());
        }
        let endpoint = Endpoint::of_path(&batch.endpoint).unwrap_or(Endpoint::ChatCompletions);
        let mut input = open_input(batches.clone(), batch.input_file.clone()).await?;
        loop {
            while running.len() >= batches.share() {
                book_line(batches, batch, results, running.join_next().await).await;
            }
            if !batches.goes_on(batch) {
                return Ok(());
            }
            let (rest, line) = next_open(input, endpoint, results.clone()).await?;
            input = rest;
            let Some(line) = line else { return Ok(()) };
            let (gateway, batches, batch) = (self.clone(), batches.clone(), batch.clone());
            running.spawn(async move { gateway.run_line(&batches, &batch, endpoint, line).await });
        }
    }

    /// Runs one request until it has an answer or a failure that stays.
    async fn run_line(
        &self,
        batches: &Batches,
        batch: &BatchRecord,
        endpoint: Endpoint,
        line: Line,
    ) -> LineResult {
        let id = format!("batch_req_{:032x}", rand::random::<u128>());
        let mut tries = 0;
        let (status, body) = loop {
            // Whoever waits for the next try leaves the place to others.
            let place = batches.places.acquire().await;
            let tried = self.try_line(batch, endpoint, &line, &id).await;
            drop(place);
            let refusal = match tried {
                Ok(answer) => break answer,
                Err(refusal) => refusal,
            };
            tries += 1;
            let passing = matches!(refusal.error.status, 429 | 502 | 503 | 504);
            if !passing || tries >= TRIES || !batches.goes_on(batch) {
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
        let gathering = reply::gather(&mut running, limits.body_bytes.min(ANSWER_BYTES_MAX));
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

/// Opens what is to be done.
async fn open_input(batches: Arc<Batches>, name: String) -> Result<Input, VaultFault> {
    blocking(move || {
        let frames = batches.vault.frames(&name)?;
        let missing = || VaultFault::Damaged {
            name,
            reason: "it is not there, but a batch reads it".to_owned(),
        };
        let mut frames = frames.ok_or_else(missing)?;
        // Lines were found short enough when the batch was made.
        Ok(Lines::new(Box::new(move || frames.next()) as Box<_>, usize::MAX))
    })
    .await
}

/// Reads what was done before.
async fn open_results(batches: Arc<Batches>, batch: BatchRecord) -> Result<Results, VaultFault> {
    blocking(move || {
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
            (Some(output), Some(errors)) => Ok(Results { output, errors, done }),
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
    /// Writes one answer to its file. After a fault it may be pushed again.
    fn push(&mut self, line: &LineResult) -> Result<(), VaultFault> {
        let file = if line.good { &mut self.output } else { &mut self.errors };
        file.push(line.text.as_bytes())?;
        self.done.insert(NameDigest::of(&line.custom_id));
        Ok(())
    }

    /// Bytes of the answers and of the errors.
    fn bytes(&self) -> [u64; 2] {
        [self.output.content_bytes(), self.errors.content_bytes()]
    }
}

/// Writes one answer down. It is paid: a full disk is waited for, and nothing new begins meanwhile.
async fn book_line(
    batches: &Arc<Batches>,
    batch: &BatchRecord,
    results: &Arc<Mutex<Results>>,
    ended: Option<Result<LineResult, tokio::task::JoinError>>,
) {
    // A request that panicked has no answer and runs again after a restart.
    let Some(Ok(result)) = ended else { return };
    let result = Arc::new(result);
    let mut tries = 0;
    loop {
        let (results, line) = (results.clone(), result.clone());
        match blocking(move || lock(&results).push(&line)).await {
            Ok(()) => break,
            Err(fault @ VaultFault::File { .. }) => {
                tracing::error!(%fault, batch = batch.id, "an answer waits to be written down");
            }
            Err(fault) => {
                tracing::error!(%fault, batch = batch.id, "an answer cannot be written down");
                return;
            }
        }
        tokio::time::sleep(Duration::from_secs(1 << tries).min(PAUSE)).await;
        tries = (tries + 1).min(5);
    }
    let (batches, id) = (batches.clone(), batch.id.clone());
    let note = move || {
        batches.note(|book| {
            if let Some(record) = book.batches.get_mut(&id) {
                let count = if result.good { &mut record.completed } else { &mut record.failed };
                *count += 1;
            }
        });
        Ok(())
    };
    // It fails at the end of the program only.
    drop(blocking(note).await);
}

fn expired(batch: &BatchRecord) -> bool {
    unix_seconds() as u64 >= batch.expires_s()
}

impl BatchRecord {
    /// Names of the files of answers and of errors.
    pub(super) fn result_names(&self) -> [String; 2] {
        [format!("file-out-{}", self.id), format!("file-err-{}", self.id)]
    }

    /// Whether the fault is one of its own files', which no second try mends.
    fn is_damaged_by(&self, fault: &VaultFault) -> bool {
        let VaultFault::Damaged { name, .. } = fault else { return false };
        *name == self.input_file || self.result_names().contains(name)
    }
}

impl Batches {
    fn stage(&self, id: &str) -> Option<Stage> {
        self.book().batches.get(id).map(|batch| batch.stage)
    }

    /// Whether more of its requests may begin.
    fn goes_on(&self, batch: &BatchRecord) -> bool {
        self.stage(&batch.id) == Some(Stage::InProgress) && !expired(batch)
    }

    /// Requests that one API key may have begun now: as many as fall to it.
    fn share(&self) -> usize {
        (self.config.parallel / self.book().owners_with_work().max(1)).max(1)
    }

    /// Ends a batch whose requests have all ended, and shows its files, of so many bytes; none where
    /// they cannot be read. `damage` tells why it could not go on.
    fn end(
        &self,
        id: &str,
        result_bytes: Option<[u64; 2]>,
        damage: Option<String>,
    ) -> Result<(), VaultFault> {
        let now_s = unix_seconds() as u64;
        self.change(|book| {
            let Some(batch) = book.batches.get_mut(id) else { return };
            batch.stage = match batch.stage {
                Stage::Cancelling => Stage::Cancelled,
                _ if damage.is_some() => Stage::Failed,
                _ if batch.completed + batch.failed < batch.total => Stage::Expired,
                _ => Stage::Completed,
            };
            batch.ended_s = Some(now_s);
            batch.faults.extend(damage.map(|damage| LineFault {
                line: 0,
                code: "damaged_file".to_owned(),
                message: format!("The batch could not go on: {damage}."),
            }));
            let Some(result_bytes) = result_bytes else { return };
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
