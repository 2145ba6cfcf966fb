//! `Idempotency-Key`: a request that is sent again is not run again.
//!
//! The first request with a key leads: it runs in a task of its own, which goes on when the
//! user's connection breaks, and its answer is kept. Those that come later follow: they get the
//! same answer, from its beginning, as it comes or as it was. With a folder ([`shelf`]) both the
//! request and its answer survive the gateway; a request whose answer was lost stays refused,
//! because it may have been paid.

mod follow;
mod lead;
mod shelf;

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use cocoon_openai::fault::INVALID_REQUEST;
use cocoon_openai::{ApiError, Endpoint};
use sha2::{Digest as _, Sha256};
use tokio::sync::watch;

use crate::answer::{AnswerHead, FinalRecord};
use crate::config::GatewayConfig;
use crate::upstream::UpstreamError;
use crate::vault::VaultFault;

pub(crate) use follow::Follower;
pub(crate) use lead::Leader;
pub use shelf::IdempotencyConfig;
use shelf::{Begun, Ended, Found, Shelf};

/// Longest key accepted.
const MAX_KEY_BYTES: usize = 255;

/// What all kept answers together may hold.
const MAX_KEPT_BYTES: usize = 64 * 1024 * 1024;

/// The full name of a request: who, where, and the user's key.
pub(crate) fn name(scope: &str, endpoint: Endpoint, key: &str) -> Result<String, ApiError> {
    if key.is_empty() || key.len() > MAX_KEY_BYTES {
        let message = format!("'Idempotency-Key' must have 1 to {MAX_KEY_BYTES} characters.");
        return Err(ApiError::invalid("idempotency-key", message));
    }
    Ok(format!("{scope}\n{}\n{key}", endpoint.path()))
}

/// Answers kept for requests that may be sent again.
pub(crate) struct IdempotentAnswers {
    entries_max: usize,
    keep: Duration,
    answer_bytes_max: usize,
    /// Absent: a restart forgets everything.
    shelf: Option<Arc<Shelf>>,
    book: Mutex<Book>,
}

/// Answers are secret.
impl std::fmt::Debug for IdempotentAnswers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let entries = self.book().entries.len();
        f.debug_struct("IdempotentAnswers").field("entries", &entries).finish_non_exhaustive()
    }
}

#[derive(Default)]
struct Book {
    entries: HashMap<String, Entry>,
    /// When an entry is to be forgotten; first come, first gone.
    order: VecDeque<(Instant, String, u64)>,
    serial: u64,
    kept_bytes: usize,
}

struct Entry {
    serial: u64,
    body_sha256: [u8; 32],
    state: State,
    bytes: usize,
    /// Its file, where there is a shelf.
    file: String,
}

/// What is there for those who send a request again.
enum State {
    /// The answer, as far as it has come.
    Answer(watch::Receiver<Progress>, Parts),
    /// Nothing but the knowledge that it ran.
    Spent(Spent),
}

/// Why a request that ran has no answer to show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Spent {
    /// It was too long to be kept.
    TooLong,
    /// It broke, or the gateway ended, when it may have been paid.
    Broken,
}

impl Spent {
    fn refusal(self) -> ApiError {
        let why = match self {
            Spent::TooLong => {
                "This request was answered already, but its answer was too long to be kept."
            }
            Spent::Broken => {
                "This request was sent before and broke off before its end; it may have been paid."
            }
        };
        conflict(409, &format!("{why} Use a new key to run (and pay) it again."))
    }
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

impl IdempotentAnswers {
    /// Answers within the limits of a configuration; those of an earlier run come back.
    pub(crate) fn open(config: &GatewayConfig) -> Result<IdempotentAnswers, VaultFault> {
        let limits = &config.limits;
        let opened = config.idempotency.as_ref().map(Shelf::open).transpose()?;
        let (shelf, found) =
            opened.map_or((None, Vec::new()), |(shelf, found)| (Some(shelf), found));
        let answers = IdempotentAnswers {
            entries_max: limits.idempotent_answers,
            keep: Duration::from_millis(limits.idempotent_ms),
            answer_bytes_max: limits.kept_answer_bytes,
            shelf: shelf.map(Arc::new),
            book: Mutex::default(),
        };
        let (now, now_unix_ms) = (Instant::now(), unix_ms());
        let mut gone = Vec::new();
        for found in found {
            gone.extend(answers.book().restore(found, (now, now_unix_ms), answers.keep));
        }
        gone.extend(answers.book().make_room(answers.entries_max));
        if let Some(shelf) = &answers.shelf {
            gone.iter().for_each(|file| shelf.remove(file));
        }
        Ok(answers)
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
            return match &entry.state {
                State::Spent(spent) => Err(spent.refusal()),
                State::Answer(progress, parts) => {
                    Ok(Claim::Follow(Follower::new(progress.clone(), parts.clone())))
                }
            };
        }
        if self.entries_max == 0 {
            return Err(conflict(400, "This gateway keeps no answers: leave Idempotency-Key out."));
        }
        let gone = book.make_room(self.entries_max - 1);
        if book.entries.len() >= self.entries_max {
            return Err(conflict(429, "Too many requests with Idempotency-Key are running."));
        }
        let (sender, progress) = watch::channel(Progress::default());
        let parts = Parts::default();
        let file = Shelf::new_file();
        let state = State::Answer(progress, parts.clone());
        let serial = book.add(now + self.keep, name.clone(), (body_sha256, state, file.clone(), 0));
        drop(book);
        self.remove_files(gone);
        let begun = Begun { name, body_sha256, began_unix_ms: unix_ms() };
        Ok(Claim::Lead(Leader::new(self, (begun, serial, file), sender, parts)))
    }

    /// Forgets what is older than the time it is kept.
    pub(crate) fn forget_old(&self, now: Instant) {
        let mut gone = Vec::new();
        let mut book = self.book();
        while book.order.front().is_some_and(|(until, ..)| *until < now) {
            let Some(file) = book.forget_first() else { break };
            gone.push(file);
        }
        drop(book);
        self.remove_files(gone);
    }

    /// Forgets a request that nobody paid: the next one with its key may run.
    fn forget(&self, name: &str, serial: u64) {
        let mut book = self.book();
        let Some(entry) = book.entries.remove(name) else { return };
        if entry.serial != serial {
            book.entries.insert(name.to_owned(), entry);
            return;
        }
        book.kept_bytes = book.kept_bytes.saturating_sub(entry.bytes);
        book.order.retain(|(_, _, other)| *other != serial);
        drop(book);
        self.remove_files(vec![entry.file]);
    }

    /// Keeps of an answer only that it was given.
    fn spend(&self, name: &str, serial: u64, why: Spent) {
        let mut book = self.book();
        if let Some(entry) = book.entries.get_mut(name).filter(|entry| entry.serial == serial) {
            // Those who follow now have their own hold on the parts.
            entry.state = State::Spent(why);
        }
    }

    /// Counts the bytes of an ended answer, and makes room for them.
    fn count(&self, name: &str, serial: u64, bytes: usize) {
        let mut book = self.book();
        if let Some(entry) = book.entries.get_mut(name).filter(|entry| entry.serial == serial) {
            entry.bytes = bytes;
            book.kept_bytes = book.kept_bytes.saturating_add(bytes);
        }
        let gone = book.make_room(self.entries_max);
        drop(book);
        self.remove_files(gone);
    }

    /// Removes files, outside the lock and away from whoever waits.
    fn remove_files(&self, files: Vec<String>) {
        let Some(shelf) = self.shelf.clone().filter(|_| !files.is_empty()) else { return };
        let remove = move || files.iter().for_each(|file| shelf.remove(file));
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(remove)),
            Err(_) => remove(),
        }
    }
}

impl Book {
    /// Takes what was found on disk; returns the file of an entry whose time is over.
    fn restore(
        &mut self,
        found: Found,
        (now, now_unix_ms): (Instant, u64),
        keep: Duration,
    ) -> Option<String> {
        let Found { file, begun, ended } = found;
        let age = Duration::from_millis(now_unix_ms.saturating_sub(begun.began_unix_ms));
        let left = keep.saturating_sub(age);
        if left.is_zero() {
            return Some(file);
        }
        let mut bytes = 0;
        let state = match ended {
            None => State::Spent(Spent::Broken),
            Some(Ended::TooLong) => State::Spent(Spent::TooLong),
            Some(Ended::Whole(answer)) => {
                bytes = answer.body.len();
                let parts: Vec<Bytes> =
                    Some(answer.body).filter(|body| !body.is_empty()).into_iter().collect();
                let progress = Progress {
                    head: Some(Arc::new(answer.head)),
                    parts: parts.len(),
                    end: Some(Arc::new(answer.record)),
                    refused: None,
                };
                State::Answer(watch::channel(progress).1, Arc::new(Mutex::new(parts)))
            }
        };
        self.add(now + left, begun.name, (begun.body_sha256, state, file, bytes));
        None
    }

    /// Adds an entry; returns its serial number.
    fn add(
        &mut self,
        until: Instant,
        name: String,
        (body_sha256, state, file, bytes): ([u8; 32], State, String, usize),
    ) -> u64 {
        self.serial += 1;
        let serial = self.serial;
        self.kept_bytes = self.kept_bytes.saturating_add(bytes);
        self.order.push_back((until, name.clone(), serial));
        self.entries.insert(name, Entry { serial, body_sha256, state, bytes, file });
        serial
    }

    /// Forgets ended answers, oldest first, until the rest is within the limits; returns their
    /// files.
    fn make_room(&mut self, entries_max: usize) -> Vec<String> {
        let mut gone = Vec::new();
        while self.entries.len() > entries_max || self.kept_bytes > MAX_KEPT_BYTES {
            let Some(file) = self.forget_first() else { break };
            gone.push(file);
        }
        gone
    }

    /// Forgets the oldest answer that has ended, and returns its file; nothing when there is none.
    fn forget_first(&mut self) -> Option<String> {
        let ended = |entry: &Entry| match &entry.state {
            State::Answer(progress, _) => progress.borrow().has_ended(),
            State::Spent(_) => true,
        };
        let found =
            self.order.iter().position(|(_, name, _)| self.entries.get(name).is_some_and(ended))?;
        let (_, name, _) = self.order.remove(found)?;
        let entry = self.entries.remove(&name)?;
        self.kept_bytes = self.kept_bytes.saturating_sub(entry.bytes);
        Some(entry.file)
    }
}

fn conflict(status: u16, message: &str) -> ApiError {
    ApiError::new(status, INVALID_REQUEST, message).with_code("idempotency_conflict")
}

fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
