//! The keys of a running gateway: checked with every request, reloaded when the file changes.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Instant, SystemTime};

use cocoon_openai::ApiError;
use cocoon_units::{Nanoton, Usage};
use http::{HeaderMap, header};

use super::file::{self, KeyFile, KeyRecord, KeyTotals, KeysFault};
use crate::atomic_file;
use crate::failure::{Refusal, ton};
use crate::gateway::{header_text, unix_seconds};
use crate::pace::Pace;

/// All keys by the SHA-256 of their text: looking one up compares no secret byte by byte.
#[derive(Debug)]
pub(crate) struct KeyRing {
    path: PathBuf,
    usage_path: PathBuf,
    keys: RwLock<HashMap<String, Arc<Key>>>,
    usage: Mutex<UsageBook>,
    /// Held while `usage` is written down, by one at a time.
    writing: Mutex<()>,
}

#[derive(Debug)]
struct Key {
    record: KeyRecord,
    pace: Mutex<Pace>,
}

/// What each key has used, by id.
#[derive(Debug, Default)]
struct UsageBook {
    totals: BTreeMap<String, KeyTotals>,
    changed: bool,
    file_changed: Option<SystemTime>,
}

/// A key that was accepted for one request.
#[derive(Debug, Clone)]
pub(crate) struct KeyUse {
    ring: Arc<KeyRing>,
    key: Arc<Key>,
}

impl KeyRing {
    /// Reads the keys and what they used so far.
    pub(crate) fn open(path: &Path) -> Result<KeyRing, KeysFault> {
        let usage_path = file::usage_path(path);
        let totals = KeyFile::usage(path)?;
        let ring = KeyRing {
            path: path.to_path_buf(),
            usage_path,
            keys: RwLock::new(HashMap::new()),
            usage: Mutex::new(UsageBook { totals, ..UsageBook::default() }),
            writing: Mutex::new(()),
        };
        ring.book().file_changed = changed_at(path);
        ring.fill()?;
        Ok(ring)
    }

    /// Reads the file again when it changed. A damaged file changes nothing but the log.
    pub(crate) fn reload(&self) {
        let changed = changed_at(&self.path);
        if std::mem::replace(&mut self.book().file_changed, changed) == changed {
            return;
        }
        if let Err(fault) = self.fill() {
            tracing::error!(%fault, "the API keys stay as they were");
        }
    }

    fn fill(&self) -> Result<(), KeysFault> {
        let records = KeyFile::read(&self.path)?.list().to_vec();
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        let old = std::mem::take(&mut *keys);
        for record in records {
            let kept = old.get(&record.sha256).filter(|key| key.record == record).cloned();
            let fresh = || {
                let per_minute = record.limits.requests_per_minute.unwrap_or_default();
                let pace = Mutex::new(Pace::new(per_minute, Instant::now()));
                Arc::new(Key { record: record.clone(), pace })
            };
            keys.insert(record.sha256.clone(), kept.unwrap_or_else(fresh));
        }
        Ok(())
    }

    /// Writes down what was used since the last time. When this returns, what was used before it was
    /// called is on disk, also where somebody else was writing it just then.
    pub(crate) fn flush(&self) {
        let _one_at_a_time = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let totals = {
            let mut book = self.book();
            if !std::mem::take(&mut book.changed) {
                return;
            }
            book.totals.clone()
        };
        let text = serde_json::to_vec_pretty(&totals).map_err(std::io::Error::other);
        if let Err(fault) = text.and_then(|text| atomic_file::replace(&self.usage_path, &text)) {
            self.book().changed = true;
            tracing::error!(%fault, "cannot write down what API keys used; will try again");
        }
    }

    /// Accepts or refuses the key of a request.
    pub(crate) fn check(ring: &Arc<KeyRing>, headers: &HeaderMap) -> Result<KeyUse, Box<Refusal>> {
        let bearer = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let bearer = bearer.and_then(|text| {
            let (scheme, key) = text.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
        });
        let Some(text) = bearer.or_else(|| header_text(headers, "x-api-key")) else {
            let message = "This gateway needs an API key: send it as 'Authorization: Bearer KEY'.";
            return Err(unauthorized(message, "missing_api_key"));
        };
        let digest = file::hex(&file::digest(text));
        let keys = ring.keys.read().unwrap_or_else(PoisonError::into_inner);
        let key = keys.get(&digest).cloned();
        drop(keys);
        KeyRing::accept(ring, key)
    }

    /// Accepts or refuses a key by its id, for work that goes on after the request.
    pub(crate) fn by_id(ring: &Arc<KeyRing>, id: &str) -> Result<KeyUse, Box<Refusal>> {
        let keys = ring.keys.read().unwrap_or_else(PoisonError::into_inner);
        let key = keys.values().find(|key| key.record.id == id).cloned();
        drop(keys);
        KeyRing::accept(ring, key)
    }

    fn accept(ring: &Arc<KeyRing>, key: Option<Arc<Key>>) -> Result<KeyUse, Box<Refusal>> {
        let Some(key) = key else {
            return Err(unauthorized("This API key is not known here.", "invalid_api_key"));
        };
        if key.record.revoked_s.is_some() {
            return Err(unauthorized("This API key was revoked.", "revoked_api_key"));
        }
        if key.record.limits.expires_s.is_some_and(|until| unix_seconds() >= until as f64) {
            return Err(unauthorized("This API key has expired.", "expired_api_key"));
        }
        Ok(KeyUse { ring: ring.clone(), key })
    }

    fn book(&self) -> MutexGuard<'_, UsageBook> {
        self.usage.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl KeyUse {
    /// The key's public id.
    pub(crate) fn id(&self) -> String {
        self.key.record.id.clone()
    }

    /// Checks the key's limits for one more request.
    pub(crate) fn admit(&self, model: &str) -> Result<(), Box<Refusal>> {
        let limits = &self.key.record.limits;
        if !limits.models.is_empty() && !limits.models.iter().any(|allowed| allowed == model) {
            let message = format!("This API key may use only: {}.", limits.models.join(", "));
            let error = ApiError::new(403, "permission_error", message);
            return Err(error.with_code("model_not_allowed").into());
        }
        if let Some(budget) = limits.budget_nanoton {
            let spent = self.ring.book().totals.get(&self.key.record.id).copied();
            if spent.unwrap_or_default().cost_nanoton >= budget {
                let message = format!(
                    "This API key has used its budget of {}. The operator can raise it.",
                    ton(Nanoton(budget))
                );
                let error = ApiError::new(402, "insufficient_quota", message);
                return Err(error.with_code("key_budget_used").into());
            }
        }
        let Some(per_minute) = limits.requests_per_minute else { return Ok(()) };
        let mut pace = self.key.pace.lock().unwrap_or_else(PoisonError::into_inner);
        pace.take(per_minute, Instant::now()).map_err(|retry_after| {
            let message = format!("This API key may make {per_minute} requests a minute.");
            let error = ApiError::new(429, "rate_limit_error", message);
            let refusal = Refusal::from(error.with_code("key_rate_limit"));
            Box::new(Refusal { retry_after: Some(retry_after), ..refusal })
        })
    }

    /// Books one request.
    pub(crate) fn spend(&self, cost: Nanoton, usage: Usage) {
        let mut book = self.ring.book();
        book.changed = true;
        let totals = book.totals.entry(self.key.record.id.clone()).or_default();
        totals.requests = totals.requests.saturating_add(1);
        totals.cost_nanoton = totals.cost_nanoton.saturating_add(cost.0);
        totals.prompt_tokens = totals.prompt_tokens.saturating_add(usage.prompt);
        totals.completion_tokens = totals.completion_tokens.saturating_add(usage.completion);
    }
}

fn unauthorized(message: &str, code: &'static str) -> Box<Refusal> {
    ApiError::new(401, "authentication_error", message).with_code(code).into()
}

fn changed_at(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path).and_then(|metadata| metadata.modified()).ok()
}

#[cfg(test)]
mod tests {
    use super::super::KeyLimits;
    use super::*;

    fn bearer(key: &str) -> HeaderMap {
        let value = header::HeaderValue::from_str(&format!("Bearer {key}")).unwrap();
        HeaderMap::from_iter([(header::AUTHORIZATION, value)])
    }

    fn status(result: Result<impl Sized, Box<Refusal>>) -> u16 {
        result.map_or_else(|refusal| refusal.error.status, |_| 200)
    }

    #[test]
    fn keys_live_and_die() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.json");
        let mut file = KeyFile::open(&path).unwrap();
        let limits = KeyLimits {
            models: vec!["m".to_owned()],
            budget_nanoton: Some(100),
            requests_per_minute: Some(2),
            expires_s: None,
        };
        let (key, record) = file.create("team", limits, 7).unwrap();
        let old = KeyLimits { expires_s: Some(1), ..KeyLimits::default() };
        let (expired, _) = file.create("old", old, 7).unwrap();
        assert!(!std::fs::read_to_string(&path).unwrap().contains(&key));
        let ring = Arc::new(KeyRing::open(&path).unwrap());
        assert_eq!(status(KeyRing::check(&ring, &HeaderMap::new())), 401);
        assert_eq!(status(KeyRing::check(&ring, &bearer("sk-wrong"))), 401);
        assert_eq!(status(KeyRing::check(&ring, &bearer(&expired))), 401);
        let accepted = KeyRing::check(&ring, &bearer(&key)).unwrap();
        assert_eq!(status(accepted.admit("other")), 403);
        assert_eq!(status(accepted.admit("m")), 200);
        assert_eq!(status(accepted.admit("m")), 200);
        assert_eq!(status(accepted.admit("m")), 429);
        accepted.spend(Nanoton(100), Usage::default());
        assert_eq!(status(accepted.admit("m")), 402);
        ring.flush();
        let again = Arc::new(KeyRing::open(&path).unwrap());
        assert_eq!(status(KeyRing::check(&again, &bearer(&key)).unwrap().admit("m")), 402);
        file.limit(&record.id, |limits| limits.budget_nanoton = Some(200)).unwrap();
        again.book().file_changed = None;
        again.reload();
        assert_eq!(status(KeyRing::check(&again, &bearer(&key)).unwrap().admit("m")), 200);
        assert_eq!(KeyFile::usage(&path).unwrap()[&record.id].cost_nanoton, 100);
        file.revoke(&record.id, 9).unwrap();
        // The clock of the file system may be coarse.
        ring.book().file_changed = None;
        ring.reload();
        assert_eq!(status(KeyRing::check(&ring, &bearer(&key))), 401);
        assert!(matches!(file.revoke("nobody", 9), Err(KeysFault::Unknown { .. })));
    }

    #[test]
    fn what_was_used_is_on_disk_after_a_flush_whoever_else_flushes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.json");
        let mut file = KeyFile::open(&path).unwrap();
        let (key, record) = file.create("team", KeyLimits::default(), 7).unwrap();
        let ring = Arc::new(KeyRing::open(&path).unwrap());
        let team = KeyRing::check(&ring, &bearer(&key)).unwrap();
        let ended = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !ended.load(std::sync::atomic::Ordering::Relaxed) {
                    ring.flush();
                }
            });
            let kept = |spent| {
                team.spend(Nanoton(1), Usage::default());
                ring.flush();
                let totals = KeyFile::usage(&path).unwrap();
                totals.get(&record.id).is_some_and(|totals| totals.cost_nanoton == spent)
            };
            let lost = (1..=300).find(|spent| !kept(*spent));
            ended.store(true, std::sync::atomic::Ordering::Relaxed);
            assert_eq!(lost, None);
        });
    }
}
