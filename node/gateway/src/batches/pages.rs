//! `/v1/files` and `/v1/batches` over HTTP.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use cocoon_openai::fault::INVALID_REQUEST;
use cocoon_openai::{ApiError, Endpoint};
use http::request::Parts;
use http::{Method, StatusCode};
use hyper::body::Incoming;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Batches;
use super::book::{BatchRecord, Book, FileRecord, LineFault, Stage};
use super::content::FileContent;
use super::lines::{LineCheck, Lines};
use super::room::{Crowded, Limit, Room, Whose};
use super::upload::upload;
use crate::body::Content;
use crate::failure::Refusal;
use crate::gateway::{Context, Gateway, Reply, unix_seconds};
use crate::intake;
use crate::keys::KeyUse;
use crate::pages;
use crate::upstream::Upstream;
use crate::vault::VaultFault;

/// A call about files or batches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum BatchCall {
    UploadFile,
    ListFiles,
    ShowFile(String),
    ReadFile(String),
    DeleteFile(String),
    CreateBatch,
    ListBatches,
    ShowBatch(String),
    CancelBatch(String),
}

impl BatchCall {
    /// The call of a method and path; `Err` holds the methods that the path takes.
    pub(crate) fn of(method: &Method, path: &str) -> Option<Result<BatchCall, &'static str>> {
        let rest = path.strip_prefix("/v1/")?;
        let steps: Vec<&str> = rest.split('/').collect();
        let id = |text: &str| text.to_owned();
        Some(match (steps.as_slice(), method.as_str()) {
            (["files"], "POST") => Ok(BatchCall::UploadFile),
            (["files"], "GET") => Ok(BatchCall::ListFiles),
            (["files"], _) => Err("GET, POST"),
            (["files", file], "GET") => Ok(BatchCall::ShowFile(id(file))),
            (["files", file], "DELETE") => Ok(BatchCall::DeleteFile(id(file))),
            (["files", _], _) => Err("GET, DELETE"),
            (["files", file, "content"], "GET") => Ok(BatchCall::ReadFile(id(file))),
            (["files", _, "content"], _) => Err("GET"),
            (["batches"], "POST") => Ok(BatchCall::CreateBatch),
            (["batches"], "GET") => Ok(BatchCall::ListBatches),
            (["batches"], _) => Err("GET, POST"),
            (["batches", batch], "GET") => Ok(BatchCall::ShowBatch(id(batch))),
            (["batches", _], _) => Err("GET"),
            (["batches", batch, "cancel"], "POST") => Ok(BatchCall::CancelBatch(id(batch))),
            (["batches", _, "cancel"], _) => Err("POST"),
            _ => return None,
        })
    }
}

#[derive(Deserialize)]
struct NewBatch {
    input_file_id: String,
    endpoint: String,
    #[serde(default)]
    completion_window: Option<String>,
    #[serde(default)]
    metadata: Option<BTreeMap<String, String>>,
}

/// Bounds of OpenAI's reference for `metadata`: pairs, characters of a name and of a value. All
/// batches stand in one file, so one of them must not fill it.
const METADATA_MAX: (usize, usize, usize) = (16, 64, 512);

fn check_metadata(metadata: &BTreeMap<String, String>) -> Result<(), Box<Refusal>> {
    let (pairs, name_len, value_len) = METADATA_MAX;
    let fits = |(name, value): (&String, &String)| {
        name.chars().count() <= name_len && value.chars().count() <= value_len
    };
    if metadata.len() <= pairs && metadata.iter().all(fits) {
        return Ok(());
    }
    let message = format!(
        "'metadata' holds at most {pairs} pairs, names of at most {name_len} and values of at \
         most {value_len} characters."
    );
    Err(ApiError::invalid("metadata", message).into())
}

type Answered = Result<Reply, Box<Refusal>>;

impl<U: Upstream> Gateway<U> {
    /// Answers a call about files or batches.
    pub(crate) async fn batch_call(
        &self,
        call: BatchCall,
        parts: &Parts,
        body: Incoming,
        key: Option<KeyUse>,
        context: &Context,
    ) -> Answered {
        let Some(batches) = self.batches().cloned() else {
            let message = "This gateway keeps no files and batches: its operator set no folder.";
            return Err(refusal(404, "batches_off", message));
        };
        let owner = key.as_ref().map(KeyUse::id).unwrap_or_default();
        let (limits, work) = (&self.config().limits, &context.work);
        let now_s = unix_seconds() as u64;
        let body = match call {
            BatchCall::UploadFile => {
                let reads = (limits, work);
                let upload = upload(batches, owner, now_s, &parts.headers, body, reads);
                let shown = Box::pin(upload).await?;
                return Ok(pages::json(StatusCode::OK, shown.to_string().into()));
            }
            BatchCall::CreateBatch => intake::read_body(&parts.headers, body, limits, work).await?,
            _ => {
                intake::discard(body).await;
                Bytes::new()
            }
        };
        let desk = Desk { batches, owner, now_s, line_bytes_max: limits.body_bytes };
        // Disks may be slow; connections must not wait for them.
        let answered = tokio::task::spawn_blocking(move || desk.answer(call, &body)).await;
        answered.unwrap_or_else(|_| Err(refusal(500, "internal_error", "The gateway failed.")))
    }
}

/// One caller at the files: sees what belongs to the caller's key.
struct Desk {
    batches: Arc<Batches>,
    owner: String,
    now_s: u64,
    line_bytes_max: usize,
}

impl Desk {
    fn answer(&self, call: BatchCall, body: &Bytes) -> Answered {
        let book = || self.batches.book();
        let shown = match call {
            // It was taken before.
            BatchCall::UploadFile => return Err(unknown("file")),
            BatchCall::CreateBatch => self.create(body)?,
            BatchCall::ReadFile(id) => return self.read(&id),
            BatchCall::DeleteFile(id) => self.delete(&id)?,
            BatchCall::CancelBatch(id) => self.cancel(&id)?,
            BatchCall::ShowFile(id) => self.file(&id)?.show(),
            BatchCall::ShowBatch(id) => self.batch(&id)?.show(),
            BatchCall::ListFiles => {
                let mine = |file: &&FileRecord| file.owner == self.owner;
                list(book().files.values().filter(mine).map(FileRecord::show).collect())
            }
            BatchCall::ListBatches => {
                let mine = |batch: &&BatchRecord| batch.owner == self.owner;
                list(book().batches.values().filter(mine).map(BatchRecord::show).collect())
            }
        };
        Ok(pages::json(StatusCode::OK, shown.to_string().into()))
    }

    fn file(&self, id: &str) -> Result<FileRecord, Box<Refusal>> {
        let found = self.batches.book().files.get(id).cloned();
        found.filter(|file| file.owner == self.owner).ok_or_else(|| unknown("file"))
    }

    fn batch(&self, id: &str) -> Result<BatchRecord, Box<Refusal>> {
        let found = self.batches.book().batches.get(id).cloned();
        found.filter(|batch| batch.owner == self.owner).ok_or_else(|| unknown("batch"))
    }

    fn read(&self, id: &str) -> Answered {
        let record = self.file(id)?;
        let frames = self.batches.vault.frames(id).map_err(broken)?;
        let frames = frames.ok_or_else(|| unknown("file"))?;
        let content = FileContent::open(frames, &record).map_err(broken)?;
        let mut reply = pages::text("application/octet-stream", Bytes::new());
        *reply.body_mut() = Content::File(Box::new(content));
        Ok(reply)
    }

    fn delete(&self, id: &str) -> Result<Value, Box<Refusal>> {
        self.file(id)?;
        let remove = |book: &mut Book| {
            let is_read =
                book.batches.values().any(|batch| batch.input_file == id && batch.is_open());
            if !is_read {
                book.files.remove(id);
            }
            is_read
        };
        if self.batches.change(remove).map_err(broken)? {
            let message = "A batch still reads this file: cancel it first.";
            return Err(refusal(409, "file_in_use", message));
        }
        self.batches.vault.remove(id).map_err(broken)?;
        Ok(json!({"id": id, "object": "file", "deleted": true}))
    }

    fn create(&self, body: &Bytes) -> Result<Value, Box<Refusal>> {
        let new: NewBatch = serde_json::from_slice(body).map_err(|fault| {
            Box::new(Refusal::from(ApiError::new(
                400,
                INVALID_REQUEST,
                format!("The batch is not understood: {fault}."),
            )))
        })?;
        if new.completion_window.is_some_and(|window| window != "24h") {
            let message = "'completion_window' must be '24h'.";
            return Err(ApiError::invalid("completion_window", message).into());
        }
        new.metadata.as_ref().map_or(Ok(()), check_metadata)?;
        let endpoint = Endpoint::of_path(&new.endpoint).filter(|endpoint| {
            !matches!(endpoint, Endpoint::Transcriptions | Endpoint::Speech | Endpoint::Messages)
        });
        let endpoint = endpoint.ok_or_else(|| {
            let message = "'endpoint' must be a path that takes and answers JSON.";
            Box::new(Refusal::from(ApiError::invalid("endpoint", message)))
        })?;
        self.file(&new.input_file_id)?;
        let (total, faults) = match self.check_lines(&new.input_file_id, endpoint)? {
            Ok(total) => (total, Vec::new()),
            Err(faults) => (0, faults),
        };
        let failed = !faults.is_empty();
        let record = BatchRecord {
            id: String::new(),
            owner: self.owner.clone(),
            endpoint: endpoint.path().to_owned(),
            input_file: new.input_file_id,
            output_file: None,
            error_file: None,
            stage: if failed { Stage::Failed } else { Stage::InProgress },
            created_s: self.now_s,
            ended_s: failed.then_some(self.now_s),
            cancelled_s: None,
            total,
            completed: 0,
            failed: 0,
            metadata: new.metadata.map(|pairs| json!(pairs)),
            faults,
        };
        let shown = self.batches.change(|book| self.insert(book, record)).map_err(broken)??;
        self.batches.work.notify_one();
        Ok(shown)
    }

    /// What is wrong with the lines of a batch's input, or how many there are.
    fn check_lines(
        &self,
        file: &str,
        endpoint: Endpoint,
    ) -> Result<Result<u64, Vec<LineFault>>, Box<Refusal>> {
        let frames = self.batches.vault.frames(file).map_err(broken)?;
        let mut frames = frames.ok_or_else(|| unknown("file"))?;
        let mut lines = Lines::new(move || frames.next(), self.line_bytes_max);
        let mut check = LineCheck::new(endpoint);
        while let Some(text) = lines.next().map_err(broken)? {
            if !check.take(&text) {
                break;
            }
        }
        Ok(check.end())
    }

    /// Puts a new batch into the book, if there is room and its input is still there.
    fn insert(&self, book: &mut Book, mut record: BatchRecord) -> Result<Value, Box<Refusal>> {
        if !book.files.contains_key(&record.input_file) {
            return Err(unknown("file"));
        }
        let room = Room { places: record.places(), bytes: 0 };
        self.batches.check_room(book, &self.owner, room, self.now_s).map_err(crowded)?;
        record.id = book.next_id("batch_", rand::random());
        let shown = record.show();
        book.batches.insert(record.id.clone(), record);
        Ok(shown)
    }

    fn cancel(&self, id: &str) -> Result<Value, Box<Refusal>> {
        self.batch(id)?;
        let now_s = self.now_s;
        let cancel = |book: &mut Book| {
            let batch = book.batches.get_mut(id)?;
            if batch.stage == Stage::InProgress {
                batch.stage = Stage::Cancelling;
                batch.cancelled_s = Some(now_s);
            }
            Some(batch.show())
        };
        let shown = self.batches.change(cancel).map_err(broken)?;
        shown.ok_or_else(|| unknown("batch"))
    }
}

fn list(data: Vec<Value>) -> Value {
    let id = |entry: Option<&Value>| entry.map_or(Value::Null, |entry| entry["id"].clone());
    let (first, last) = (id(data.first()), id(data.last()));
    json!({"object": "list", "data": data, "has_more": false, "first_id": first, "last_id": last})
}

fn refusal(status: u16, code: &'static str, message: &str) -> Box<Refusal> {
    let kind = if status < 500 { INVALID_REQUEST } else { "api_error" };
    Box::new(ApiError::new(status, kind, message).with_code(code).into())
}

/// As OpenAI refuses what passes its quota of files: with 400, since no client may try again by itself.
pub(super) fn crowded(crowded: Crowded) -> Box<Refusal> {
    let (code, whose) = match crowded.whose {
        Whose::Key => ("too_many_files_of_key", "of one API key"),
        Whose::All => ("too_many_files", "of all its users together"),
    };
    let what = match crowded.limit {
        Limit::Places(max) => format!("{max} files and batches"),
        Limit::Bytes(max) => format!("{max} bytes of files"),
    };
    let message =
        format!("This gateway keeps at most {what} {whose}: delete files that are not needed.");
    refusal(400, code, &message)
}

fn unknown(what: &str) -> Box<Refusal> {
    refusal(404, "not_found", &format!("There is no {what} with this id."))
}

pub(super) fn broken(fault: VaultFault) -> Box<Refusal> {
    tracing::error!(%fault, "the files of batches cannot be used");
    refusal(500, "internal_error", "The gateway cannot use its files. Its log says why.")
}
