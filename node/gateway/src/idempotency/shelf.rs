//! Keyed requests on disk: what a gateway that was killed must still know.
//!
//! A request's file is on the disk before the request leaves, and its answer before the user sees
//! the answer's end. A file without an answer tells that a request may have been paid whose answer
//! is lost. Files are encrypted; they go with the answers they hold.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use cocoon_units::{Nanoton, Tokens, Usage};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde::{Deserialize, Serialize};

use crate::answer::{AnswerHead, FinalRecord, Timings, WorkerSeen};
use crate::vault::{Vault, VaultFault};

/// Where keyed requests are kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IdempotencyConfig {
    /// Folder of the encrypted files; made when it is missing.
    pub folder: PathBuf,
    /// File of the 32-byte key; made when it is missing. Absent: `key` in the folder, which
    /// protects copies of single files, not of the whole folder.
    #[serde(default)]
    pub key_file: Option<PathBuf>,
}

/// What every file's name begins with.
const PREFIX: &str = "answer-";

/// The files.
#[derive(Debug)]
pub(super) struct Shelf {
    vault: Arc<Vault>,
}

/// A request, before it is sent.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Begun {
    /// Its full name: who, where, and the user's key.
    pub(super) name: String,
    pub(super) body_sha256: [u8; 32],
    pub(super) began_unix_ms: u64,
}

/// How a request ended.
pub(super) enum Ended {
    /// With a whole answer.
    Whole(Box<Answer>),
    /// With an answer that is too long to be kept.
    TooLong,
}

/// A whole answer.
pub(super) struct Answer {
    pub(super) head: AnswerHead,
    pub(super) body: Bytes,
    pub(super) record: FinalRecord,
}

/// A file that was found at the start.
pub(super) struct Found {
    pub(super) file: String,
    pub(super) begun: Begun,
    /// Nothing: the gateway ended while the request ran.
    pub(super) ended: Option<Ended>,
}

impl Shelf {
    /// Opens the folder and reads what is there, oldest first.
    pub(super) fn open(config: &IdempotencyConfig) -> Result<(Shelf, Vec<Found>), VaultFault> {
        let vault = Vault::open(&config.folder, config.key_file.as_deref())?;
        let mut found = Vec::new();
        for file in vault.names(PREFIX)? {
            let mut frames = vault.read(&file)?.into_iter();
            let Some(first) = frames.next() else { continue };
            let senseless = |reason: String| VaultFault::Damaged { name: file.clone(), reason };
            let begun: Begun =
                serde_json::from_slice(&first).map_err(|fault| senseless(fault.to_string()))?;
            let ended = frames.next().map(|frame| read_end(&frame)).transpose();
            let ended = ended.map_err(senseless)?;
            found.push(Found { file, begun, ended });
        }
        found.sort_by_key(|found| found.begun.began_unix_ms);
        Ok((Shelf { vault }, found))
    }

    /// A name for a new file.
    pub(super) fn new_file() -> String {
        format!("{PREFIX}{:032x}", rand::random::<u128>())
    }

    /// Writes down that a request is about to be sent. It is on the disk when this returns.
    pub(super) fn begin(&self, file: &str, begun: &Begun) -> Result<(), VaultFault> {
        let text = serde_json::to_vec(begun).unwrap_or_default();
        self.vault.replace(file, &text)
    }

    /// Adds the answer. It is on the disk when this returns.
    pub(super) fn end(&self, file: &str, ended: &Ended) -> Result<(), VaultFault> {
        self.vault.append(file, |_| {})?.push(&write_end(ended))
    }

    /// Forgets a request.
    pub(super) fn remove(&self, file: &str) {
        if let Err(fault) = self.vault.remove(file) {
            // It comes back at the next start, and is removed when its time is over.
            tracing::warn!(%fault, "an answer that was kept cannot be removed");
        }
    }
}

/// What stands before an answer's body.
#[derive(Serialize, Deserialize)]
struct EndForm {
    too_long: bool,
    status: u16,
    headers: BTreeMap<String, Vec<u8>>,
    worker: WorkerForm,
    final_worker: WorkerForm,
    usage: Option<Usage>,
    cost_nanoton: u64,
    charged_tokens: u64,
    /// Begin and end at the proxy, begin and end at the worker.
    timings_s: [f64; 4],
    receipt_id: Option<String>,
    debug: Option<String>,
}

/// Measurement, kind of environment, measurement of the proxy.
type WorkerForm = [String; 3];

fn worker_form(worker: &WorkerSeen) -> WorkerForm {
    [&worker.measurement, &worker.tee_kind, &worker.proxy_measurement].map(Clone::clone)
}

fn worker_seen([measurement, tee_kind, proxy_measurement]: WorkerForm) -> WorkerSeen {
    WorkerSeen { measurement, tee_kind, proxy_measurement }
}

/// `length of the form u32 LE ‖ form (JSON) ‖ body`.
fn write_end(ended: &Ended) -> Vec<u8> {
    let (form, body) = match ended {
        Ended::Whole(answer) => (form_of(&answer.head, &answer.record), answer.body.clone()),
        Ended::TooLong => {
            let mut form = form_of(&AnswerHead::default(), &FinalRecord::default());
            form.too_long = true;
            (form, Bytes::new())
        }
    };
    let form = serde_json::to_vec(&form).unwrap_or_default();
    let length = u32::try_from(form.len()).unwrap_or(u32::MAX);
    [&length.to_le_bytes()[..], &form, &body].concat()
}

fn form_of(head: &AnswerHead, record: &FinalRecord) -> EndForm {
    let header = |(name, value): (&HeaderName, &HeaderValue)| {
        (name.as_str().to_owned(), value.as_bytes().to_vec())
    };
    let times = &record.timings;
    EndForm {
        too_long: false,
        status: head.status.as_u16(),
        headers: head.headers.iter().map(header).collect(),
        worker: worker_form(&head.worker),
        final_worker: worker_form(&record.worker),
        usage: record.usage,
        cost_nanoton: record.cost.0,
        charged_tokens: record.charged_tokens.0,
        timings_s: [
            times.proxy_start_s,
            times.proxy_end_s,
            times.worker_start_s,
            times.worker_end_s,
        ],
        receipt_id: record.receipt_id.clone(),
        debug: record.debug.clone(),
    }
}

fn read_end(frame: &[u8]) -> Result<Ended, String> {
    let cut = || "its answer is cut".to_owned();
    let (length, rest) = frame.split_first_chunk::<4>().ok_or_else(cut)?;
    let length = u32::from_le_bytes(*length) as usize;
    let (form, body) = rest.split_at_checked(length).ok_or_else(cut)?;
    let form: EndForm = serde_json::from_slice(form).map_err(|fault| fault.to_string())?;
    if form.too_long {
        return Ok(Ended::TooLong);
    }
    let mut headers = HeaderMap::new();
    for (name, value) in form.headers {
        let name = HeaderName::try_from(name).map_err(|fault| fault.to_string())?;
        let value = HeaderValue::try_from(value).map_err(|fault| fault.to_string())?;
        headers.insert(name, value);
    }
    let status = StatusCode::from_u16(form.status).map_err(|fault| fault.to_string())?;
    let [proxy_start_s, proxy_end_s, worker_start_s, worker_end_s] = form.timings_s;
    let record = FinalRecord {
        usage: form.usage,
        cost: Nanoton(form.cost_nanoton),
        charged_tokens: Tokens(form.charged_tokens),
        timings: Timings { proxy_start_s, proxy_end_s, worker_start_s, worker_end_s },
        worker: worker_seen(form.final_worker),
        receipt_id: form.receipt_id,
        debug: form.debug,
        error: None,
    };
    let head = AnswerHead { status, headers, worker: worker_seen(form.worker) };
    Ok(Ended::Whole(Box::new(Answer { head, body: Bytes::copy_from_slice(body), record })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_come_back_as_they_were_and_nothing_is_readable() {
        let folder = tempfile::tempdir().unwrap();
        let config = IdempotencyConfig { folder: folder.path().to_path_buf(), key_file: None };
        let (shelf, found) = Shelf::open(&config).unwrap();
        assert!(found.is_empty());
        let begun = |name: &str, began_unix_ms| Begun {
            name: name.to_owned(),
            body_sha256: [7; 32],
            began_unix_ms,
        };
        let files: Vec<String> = (0..3).map(|_| Shelf::new_file()).collect();
        shelf.begin(&files[0], &begun("lost", 3)).unwrap();
        shelf.begin(&files[1], &begun("long", 2)).unwrap();
        shelf.end(&files[1], &Ended::TooLong).unwrap();
        shelf.begin(&files[2], &begun("whole", 1)).unwrap();
        let mut head = AnswerHead::default();
        head.headers.insert("content-type", HeaderValue::from_static("application/json"));
        let record = FinalRecord {
            usage: Some(Usage { prompt: 1, cached: 2, completion: 3, reasoning: 4 }),
            cost: Nanoton(5),
            charged_tokens: Tokens(6),
            timings: Timings { worker_end_s: 7.25, ..Timings::default() },
            receipt_id: Some("r".into()),
            ..FinalRecord::default()
        };
        let body = Bytes::from_static(b"the answer in clear");
        let answer = Answer { head, body: body.clone(), record };
        shelf.end(&files[2], &Ended::Whole(Box::new(answer))).unwrap();
        for file in &files {
            let bytes = std::fs::read(folder.path().join(file)).unwrap();
            assert!(!bytes.windows(6).any(|text| text == b"answer" || text == b"\"name\""));
        }
        let (shelf, found) = Shelf::open(&config).unwrap();
        let names: Vec<&str> = found.iter().map(|found| found.begun.name.as_str()).collect();
        assert_eq!(names, ["whole", "long", "lost"]);
        let Some(Ended::Whole(answer)) = &found[0].ended else { panic!("no answer") };
        assert_eq!((&answer.body, answer.record.cost), (&body, Nanoton(5)));
        assert_eq!(answer.head.headers["content-type"], "application/json");
        assert!((answer.record.timings.worker_end_s - 7.25).abs() < 1e-9);
        assert!(matches!(found[1].ended, Some(Ended::TooLong)));
        assert!(found[2].ended.is_none());
        files.iter().for_each(|file| shelf.remove(file));
        assert!(Shelf::open(&config).unwrap().1.is_empty());
    }

    #[test]
    fn any_frame_is_read_or_refused() {
        for frame in [&b""[..], b"\x01", b"\xff\xff\xff\xff{}", b"\x02\0\0\0{}", b"\x02\0\0\0[]x"] {
            assert!(read_end(frame).is_err());
        }
    }
}
