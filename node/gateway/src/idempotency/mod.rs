//! `Idempotency-Key`: a request that is sent again is not run again.
//!
//! The first request with a key leads: it runs in a task of its own, which goes on when the
//! user's connection breaks, and its answer is kept. Those that come later follow: they get the
//! same answer, from its beginning, as it comes or as it was.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use cocoon_openai::fault::INVALID_REQUEST;
use cocoon_openai::{ApiError, Endpoint};
use sha2::{Digest as _, Sha256};
use tokio::sync::watch;

use crate::answer::{
    AnswerFeed, AnswerHead, AnswerPart, FinalRecord, InferenceStream, answer_channel,
};
use crate::failure::Refusal;
use crate::infer::Deadline;
use crate::upstream::UpstreamError;

/// Longest key accepted.
const MAX_KEY_BYTES: usize = 255;

/// What all kept answers together may hold.
const MAX_KEPT_BYTES: usize = 64 * 1024 * 1024;

/// What waits between a kept answer and its reader.
const WINDOW_BYTES: usize = 256 * 1024;

/// The full name of a request: who, where, and the user's key.
pub(crate) fn name(scope: &str, endpoint: Endpoint, key: &str) -> Result<String, ApiError> {
    if key.is_empty() || key.len() > MAX_KEY_BYTES {
        let message = format!("'Idempotency-Key' must have 1 to {MAX_KEY_BYTES} characters.");
        return Err(ApiError::invalid("idempotency-key", message));
    }
    Ok(format!("{scope}\n{}\n{key}", endpoint.path()))
}

/// Answers kept for requests that may be sent again.
#[derive(Debug)]
pub(crate) struct IdempotentAnswers {
    entries_max: usize,
    keep: Duration,
    answer_bytes_max: usize,
    book: Mutex<Book>,
}

#[derive(Debug, Default)]
struct Book {
    entries: HashMap<String, Entry>,
    /// Oldest first.
    order: VecDeque<(Instant, String, u64)>,
    serial: u64,
    kept_bytes: usize,
}

#[derive(Debug)]
struct Entry {
    serial: u64,
    body_sha256: [u8; 32],
    /// Absent once the answer was too long to be kept.
    progress: Option<watch::Receiver<Progress>>,
    parts: Parts,
    bytes: usize,
}

/// The parts of an answer so far, for the leader to add to and followers to read.
type Parts = Arc<Mutex<Vec<Bytes>>>;

fn lock(parts: &Parts) -> MutexGuard<'_, Vec<Bytes>> {
    parts.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is known of a running or ended request.
#[derive(Debug, Clone, Default)]
struct Progress {
    head: Option<Arc<AnswerHead>>,
    parts: usize,
    end: Option<Arc<FinalRecord>>,
    refused: Option<UpstreamError>,
}

impl Progress {
    fn has_ended(&self) -> bool {
        self.end.is_some() || self.refused.is_some()
    }
}

/// What a request with a key is to do.
pub(crate) enum Claim {
    /// Nobody ran it yet.
    Lead(Leader),
    /// Somebody runs it or ran it.
    Follow(Follower),
}

/// The right and duty to run a request once.
pub(crate) struct Leader {
    answers: Arc<IdempotentAnswers>,
    name: String,
    serial: u64,
    progress: watch::Sender<Progress>,
    parts: Parts,
}

/// Access to an answer that somebody else runs.
pub(crate) struct Follower {
    progress: watch::Receiver<Progress>,
    parts: Parts,
}

impl IdempotentAnswers {
    pub(crate) fn new(entries_max: usize, keep: Duration, answer_bytes_max: usize) -> Self {
        IdempotentAnswers { entries_max, keep, answer_bytes_max, book: Mutex::default() }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Finds out whether the request runs or ran already.
    pub(crate) fn claim(
        self: Arc<Self>,
        name: String,
        body: &[u8],
        now: Instant,
    ) -> Result<Claim, ApiError> {
        let body_sha256: [u8; 32] = Sha256::digest(body).into();
        let mut book = self.book();
        if let Some(entry) = book.entries.get(&name) {
            if entry.body_sha256 != body_sha256 {
                return Err(conflict(
                    422,
                    "This Idempotency-Key was used with another body. Use a new key.",
                ));
            }
            let Some(progress) = entry.progress.clone() else {
                return Err(conflict(
                    409,
                    "This request was answered already, but its answer was too long to be kept. \
                     Use a new key to run (and pay) it again.",
                ));
            };
            return Ok(Claim::Follow(Follower { progress, parts: entry.parts.clone() }));
        }
        if self.entries_max == 0 {
            return Err(conflict(400, "This gateway keeps no answers: leave Idempotency-Key out."));
        }
        while book.entries.len() >= self.entries_max {
            if !book.forget_first() {
                return Err(conflict(429, "Too many requests with Idempotency-Key are running."));
            }
        }
        book.serial += 1;
        let serial = book.serial;
        let (sender, progress) = watch::channel(Progress::default());
        let parts = Parts::default();
        let kept = parts.clone();
        let progress = Some(progress);
        book.entries
            .insert(name.clone(), Entry { serial, body_sha256, progress, parts: kept, bytes: 0 });
        book.order.push_back((now, name.clone(), serial));
        drop(book);
        Ok(Claim::Lead(Leader { answers: self, name, serial, progress: sender, parts }))
    }

    /// Forgets what is older than the time it is kept.
    pub(crate) fn forget_old(&self, now: Instant) {
        let mut book = self.book();
        let old = |book: &Book| {
            book.order
                .front()
                .is_some_and(|(since, ..)| now.saturating_duration_since(*since) > self.keep)
        };
        while old(&book) && book.forget_first() {}
    }

    fn forget(&self, name: &str, serial: u64) {
        let mut book = self.book();
        if book.entries.get(name).is_some_and(|entry| entry.serial == serial)
            && let Some(entry) = book.entries.remove(name)
        {
            book.kept_bytes = book.kept_bytes.saturating_sub(entry.bytes);
            book.order.retain(|(_, _, other)| *other != serial);
        }
    }

    /// Keeps of an answer only that it was given.
    fn drop_parts(&self, name: &str, serial: u64) {
        let mut book = self.book();
        if let Some(entry) = book.entries.get_mut(name).filter(|entry| entry.serial == serial) {
            entry.progress = None;
            // Those who follow now have their own hold on the parts.
            entry.parts = Parts::default();
        }
    }

    /// Counts the bytes of an ended answer, and makes room for them.
    fn count(&self, name: &str, serial: u64, bytes: usize) {
        let mut book = self.book();
        if let Some(entry) = book.entries.get_mut(name).filter(|entry| entry.serial == serial) {
            entry.bytes = bytes;
            book.kept_bytes = book.kept_bytes.saturating_add(bytes);
        }
        while book.kept_bytes > MAX_KEPT_BYTES && book.forget_first() {}
    }
}

impl Book {
    /// Forgets the oldest answer that has ended; false when there is none.
    fn forget_first(&mut self) -> bool {
        let ended = |entry: &Entry| {
            entry.progress.as_ref().is_none_or(|progress| progress.borrow().has_ended())
        };
        let found =
            self.order.iter().position(|(_, name, _)| self.entries.get(name).is_none_or(ended));
        let Some((_, name, _)) = found.and_then(|index| self.order.remove(index)) else {
            return false;
        };
        if let Some(entry) = self.entries.remove(&name) {
            self.kept_bytes = self.kept_bytes.saturating_sub(entry.bytes);
        }
        true
    }
}

fn conflict(status: u16, message: &str) -> ApiError {
    ApiError::new(status, INVALID_REQUEST, message).with_code("idempotency_conflict")
}

impl Leader {
    /// Runs the request in a task of its own and follows it.
    pub(crate) async fn run(
        self,
        deadline: Deadline,
        request: impl Future<Output = Result<InferenceStream, UpstreamError>> + Send + 'static,
    ) -> Result<InferenceStream, Refusal> {
        let follower = Follower { progress: self.progress.subscribe(), parts: self.parts.clone() };
        // The task ends at the request's deadline at the latest.
        tokio::spawn(self.lead(deadline, request));
        follower.start().await
    }

    async fn lead(
        self,
        (until, after): Deadline,
        request: impl Future<Output = Result<InferenceStream, UpstreamError>> + Send,
    ) {
        let mut stream = match request.await {
            Ok(stream) => stream,
            Err(failure) => {
                // Nothing was paid: the next try may run. Those who wait are told.
                self.answers.forget(&self.name, self.serial);
                self.progress.send_modify(|progress| progress.refused = Some(failure));
                return;
            }
        };
        self.progress.send_modify(|progress| progress.head = Some(Arc::new(stream.head.clone())));
        let mut bytes = 0usize;
        loop {
            let Ok(part) = tokio::time::timeout_at(until, stream.parts.next()).await else {
                let error = Some(UpstreamError::Timeout { after });
                return self.close(FinalRecord { error, ..FinalRecord::default() }, bytes);
            };
            match part {
                AnswerPart::Bytes(part) => {
                    bytes = bytes.saturating_add(part.len());
                    lock(&self.parts).push(part);
                    self.progress.send_modify(|progress| progress.parts += 1);
                }
                AnswerPart::End(record) => return self.close(*record, bytes),
            }
        }
    }

    fn close(self, record: FinalRecord, bytes: usize) {
        // With bytes of an answer somebody may have been paid, whatever the record says.
        let unpaid = record.error.is_some() && record.cost.0 == 0 && bytes == 0;
        if unpaid {
            self.answers.forget(&self.name, self.serial);
        }
        self.progress.send_modify(|progress| progress.end = Some(Arc::new(record)));
        if bytes > self.answers.answer_bytes_max {
            self.answers.drop_parts(&self.name, self.serial);
        } else {
            self.answers.count(&self.name, self.serial, bytes);
        }
    }
}

impl Drop for Leader {
    /// A task that was ended by a panic or by shutdown must not leave its followers waiting.
    fn drop(&mut self) {
        if !self.progress.borrow().has_ended() {
            self.answers.forget(&self.name, self.serial);
            self.progress.send_modify(|progress| progress.refused = Some(UpstreamError::ProxyLost));
        }
    }
}

impl Follower {
    /// Waits for the head at most until the deadline.
    pub(crate) async fn wait(self, (until, after): Deadline) -> Result<InferenceStream, Refusal> {
        match tokio::time::timeout_at(until, self.start()).await {
            Ok(result) => result,
            Err(_) => Err(UpstreamError::Timeout { after }.into()),
        }
    }

    async fn start(mut self) -> Result<InferenceStream, Refusal> {
        let begun = |progress: &Progress| progress.head.is_some() || progress.refused.is_some();
        let progress = match self.progress.wait_for(begun).await {
            Ok(progress) => progress.clone(),
            Err(_) => return Err(UpstreamError::ProxyLost.into()),
        };
        let Some(head) = progress.head else {
            return Err(progress.refused.unwrap_or(UpstreamError::ProxyLost).into());
        };
        let (feed, parts) = answer_channel(WINDOW_BYTES);
        tokio::spawn(self.copy(feed));
        Ok(InferenceStream { head: AnswerHead::clone(&head), parts })
    }

    /// Hands the parts on until the end; ends when the reader leaves.
    async fn copy(mut self, feed: AnswerFeed) {
        let mut given = 0;
        loop {
            let progress = self.progress.borrow_and_update().clone();
            while given < progress.parts {
                let part = lock(&self.parts).get(given).cloned().unwrap_or_default();
                if feed.push(part) == Ok(()) {
                    given += 1;
                } else if !feed.room().await {
                    return;
                }
            }
            if let Some(end) = progress.end {
                feed.finish(FinalRecord::clone(&end));
                return;
            }
            if progress.refused.is_some() || self.progress.changed().await.is_err() {
                // Dropping the feed ends the answer with an error.
                return;
            }
        }
    }
}
