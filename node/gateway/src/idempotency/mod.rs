//! `Idempotency-Key`: a request that is sent again is not run again.
//!
//! The first request with a key leads: it runs in a task of its own, which goes on when the
//! user's connection breaks, and its answer is kept. Those that come later follow: they get the
//! same answer, from its beginning, as it comes or as it was. With a folder ([`shelf`]) both the
//! request and its answer survive the gateway; a request whose answer was lost stays refused,
//! because it may have been paid.

mod follow;
mod lead;
mod parts;
mod room;
mod shelf;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use cocoon_openai::fault::INVALID_REQUEST;
use cocoon_openai::{ApiError, Endpoint};
use sha2::{Digest as _, Sha256};
use tokio::sync::watch;

use crate::answer::{AnswerHead, FinalRecord};
use crate::config::GatewayConfig;
use crate::upstream::UpstreamError;
use crate::vault::VaultFault;

use room::{Holding, KeptLimits, Lack, Whose};

pub(crate) use follow::Follower;
pub(crate) use lead::Leader;
use parts::Parts;
pub use shelf::IdempotencyConfig;
use shelf::{Begun, Ended, Found, Shelf};

/// Longest key accepted.
const MAX_KEY_BYTES: usize = 255;

/// What all kept answers together may hold.
const MAX_KEPT_BYTES: usize = 64 * 1024 * 1024;

/// What those of one API key may hold.
const MAX_KEPT_BYTES_PER_KEY: usize = 16 * 1024 * 1024;

/// The full name of a request: who, where, and the user's key.
pub(crate) fn name(scope: &str, endpoint: Endpoint, key: &str) -> Result<String, ApiError> {
    if key.is_empty() || key.len() > MAX_KEY_BYTES {
        let message = format!("'Idempotency-Key' must have 1 to {MAX_KEY_BYTES} characters.");
        return Err(ApiError::invalid("idempotency-key", message));
    }
    Ok(format!("{scope}\n{}\n{key}", endpoint.path()))
}

/// The API key of a full name; empty without keys.
fn owner_of(name: &str) -> &str {
    name.split('\n').next().unwrap_or_default()
}

/// Answers kept for requests that may be sent again.
pub(crate) struct IdempotentAnswers {
    limits: KeptLimits,
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
}

struct Entry {
    serial: u64,
    /// API key; empty without keys.
    owner: String,
    body_sha256: [u8; 32],
    state: State,
    bytes: usize,
    /// Its file, where there is a shelf.
    file: String,
}

/// What is there for those who send a request again.
enum State {
    /// The answer, as far as it has come.
    Answer(watch::Receiver<Progress>, Arc<Parts>),
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

/// What is known of a running or ended request.
#[derive(Debug, Clone, Default)]
struct Progress {
    head: Option<Arc<AnswerHead>>,
    /// How many parts came; changes with each, so that those who follow look for it.
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
            limits: KeptLimits::of(config),
            keep: Duration::from_millis(limits.idempotent_ms),
            answer_bytes_max: limits.kept_answer_bytes.min(MAX_KEPT_BYTES_PER_KEY),
            shelf: shelf.map(Arc::new),
            book: Mutex::default(),
        };
        let (now, now_unix_ms) = (Instant::now(), unix_ms());
        let mut gone = Vec::new();
        for found in found {
            gone.extend(answers.book().restore(found, (now, now_unix_ms), answers.keep));
        }
        let owners: BTreeSet<String> = answers.book().owners().collect();
        for owner in owners {
            gone.extend(answers.book().make_room(&answers.limits, &owner, 0).0);
        }
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
                    Ok(Claim::Follow(Follower::new(progress.clone(), parts.reader())))
                }
            };
        }
        if self.limits.all.entries == 0 {
            return Err(conflict(400, "This gateway keeps no answers: leave Idempotency-Key out."));
        }
        let (gone, crowded) = book.make_room(&self.limits, owner_of(&name), 1);
        if let Some(whose) = crowded {
            drop(book);
            self.remove_files(gone);
            return Err(whose.refusal());
        }
        let (sender, progress) = watch::channel(Progress::default());
        let parts = Arc::<Parts>::default();
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
        while let Some(file) = book.forget_first(|until, _| until < now) {
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
        }
        let (gone, _) = book.make_room(&self.limits, owner_of(name), 0);
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
                let progress = Progress {
                    head: Some(Arc::new(answer.head)),
                    parts: 0,
                    end: Some(Arc::new(answer.record)),
                    refused: None,
                };
                State::Answer(watch::channel(progress).1, Arc::new(Parts::of(answer.body)))
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
        self.order.push_back((until, name.clone(), serial));
        let owner = owner_of(&name).to_owned();
        self.entries.insert(name, Entry { serial, owner, body_sha256, state, bytes, file });
        serial
    }

    /// The API keys whose requests are here, some more than once.
    fn owners(&self) -> impl Iterator<Item = String> {
        self.entries.keys().map(|name| owner_of(name).to_owned())
    }

    /// Forgets ended answers until there is room for so many more of this owner; returns their
    /// files, and whose room is full of running ones. A key that passes its share loses its own
    /// oldest; where all together are too many, whoever has most loses the oldest.
    fn make_room(
        &mut self,
        limits: &KeptLimits,
        owner: &str,
        more: usize,
    ) -> (Vec<String>, Option<Whose>) {
        let mut gone = Vec::new();
        loop {
            let holdings = self.holdings(owner, more);
            let own = holdings.get(owner).copied().unwrap_or_default();
            let all = holdings.values().fold(Holding::default(), |all, one| all + *one);
            let (whose, lacks) = match (limits.own.lacking(own), limits.all.lacking(all)) {
                (Some(lacks), _) if !owner.is_empty() => (Whose::Key, lacks),
                (_, Some(lacks)) => (Whose::All, lacks),
                _ => return (gone, None),
            };
            let loser = match whose {
                Whose::Key => Some(owner.to_owned()),
                Whose::All => self.richest(&holdings, owner, lacks),
            };
            let file = loser.and_then(|loser| {
                self.forget_first(|_, entry| lacks.is_held_by(entry) && entry.owner == loser)
            });
            match file {
                Some(file) => gone.push(file),
                None => return (gone, Some(whose)),
            }
        }
    }

    /// What each owner holds; `owner` with so many more entries.
    fn holdings(&self, owner: &str, more: usize) -> HashMap<String, Holding> {
        let mut holdings = HashMap::new();
        holdings.insert(owner.to_owned(), Holding { entries: more, bytes: 0 });
        for entry in self.entries.values() {
            let one = Holding { entries: 1, bytes: entry.bytes };
            match holdings.get_mut(&entry.owner) {
                Some(holding) => *holding = *holding + one,
                None => drop(holdings.insert(entry.owner.clone(), one)),
            }
        }
        holdings
    }

    /// Of those who have something to lose, the one who has most; `owner` before others.
    fn richest(
        &self,
        holdings: &HashMap<String, Holding>,
        owner: &str,
        lacks: Lack,
    ) -> Option<String> {
        let losers: BTreeSet<&str> = self
            .entries
            .values()
            .filter(|entry| entry.has_ended() && lacks.is_held_by(entry))
            .map(|entry| entry.owner.as_str())
            .collect();
        let wealth = |name: &str| {
            let holding = holdings.get(name).copied().unwrap_or_default();
            (lacks.of(holding), name == owner)
        };
        losers.into_iter().max_by_key(|name| wealth(name)).map(str::to_owned)
    }

    /// Forgets the oldest answer that has ended and that `may_go`, and returns its file; nothing
    /// when there is none.
    fn forget_first(&mut self, may_go: impl Fn(Instant, &Entry) -> bool) -> Option<String> {
        let found = self.order.iter().position(|(until, name, _)| {
            let entry = self.entries.get(name);
            entry.is_some_and(|entry| entry.has_ended() && may_go(*until, entry))
        })?;
        let (_, name, _) = self.order.remove(found)?;
        let entry = self.entries.remove(&name)?;
        Some(entry.file)
    }
}

impl Entry {
    fn has_ended(&self) -> bool {
        match &self.state {
            State::Answer(progress, _) => progress.borrow().has_ended(),
            State::Spent(_) => true,
        }
    }
}

fn conflict(status: u16, message: &str) -> ApiError {
    ApiError::new(status, INVALID_REQUEST, message).with_code("idempotency_conflict")
}

fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
