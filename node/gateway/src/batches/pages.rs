//! `/v1/files` and `/v1/batches` over HTTP.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use cocoon_openai::fault::INVALID_REQUEST;
use cocoon_openai::{ApiError, Endpoint, form};
use http::request::Parts;
use http::{Method, StatusCode};
use hyper::body::Incoming;
use serde::Deserialize;
use serde_json::{Value, json};

use super::book::{BatchRecord, FileRecord, Stage};
use super::{Batches, lines};
use crate::failure::Refusal;
use crate::gateway::{Context, Gateway, Reply, header_text, unix_seconds};
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
        let takes_body = matches!(call, BatchCall::UploadFile | BatchCall::CreateBatch);
        let body = if takes_body {
            intake::read_body(&parts.headers, body, &self.config().limits, &context.work).await?
        } else {
            intake::discard(body).await;
            Bytes::new()
        };
        let kind = header_text(&parts.headers, "content-type").unwrap_or_default().to_owned();
        let desk = Desk { batches, owner, now_s: unix_seconds() as u64 };
        // Disks may be slow; connections must not wait for them.
        let answered = tokio::task::spawn_blocking(move || desk.answer(call, &kind, &body)).await;
        answered.unwrap_or_else(|_| Err(refusal(500, "internal_error", "The gateway failed.")))
    }
}

/// One caller at the files: sees what belongs to the caller's key.
struct Desk {
    batches: Arc<Batches>,
    owner: String,
    now_s: u64,
}

impl Desk {
    fn answer(&self, call: BatchCall, kind: &str, body: &Bytes) -> Answered {
        let book = || self.batches.book();
        let shown = match call {
            BatchCall::UploadFile => self.upload(kind, body)?,
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

    fn check_room(&self) -> Result<(), Box<Refusal>> {
        let book = self.batches.book();
        if book.files.len() + book.batches.len() < self.batches.config.kept_max {
            return Ok(());
        }
        Err(refusal(429, "too_many_files", "Too many files and batches are kept: delete some."))
    }

    fn upload(&self, kind: &str, body: &Bytes) -> Result<Value, Box<Refusal>> {
        let parts = form::read_parts(kind, body)?;
        let part = |name: &str| parts.iter().find(|part| part.name == name);
        let missing = |name: &'static str| {
            Box::new(Refusal::from(ApiError::invalid(
                name,
                format!("The form needs the field '{name}'."),
            )))
        };
        let purpose = part("purpose").ok_or_else(|| missing("purpose"))?;
        let purpose = body.get(purpose.data.clone()).unwrap_or_default();
        if purpose != b"batch" {
            let message = "Only files with the purpose 'batch' are kept here.";
            return Err(ApiError::invalid("purpose", message).into());
        }
        let file = part("file").ok_or_else(|| missing("file"))?;
        self.check_room()?;
        let content = body.get(file.data.clone()).unwrap_or_default();
        let id = self.batches.book().next_id("file-", rand::random());
        self.batches.vault.replace(&id, content).map_err(broken)?;
        let record = FileRecord {
            id: id.clone(),
            owner: self.owner.clone(),
            name: file.file_name.clone().unwrap_or_default().chars().take(256).collect(),
            purpose: "batch".to_owned(),
            bytes: content.len() as u64,
            created_s: self.now_s,
        };
        let shown = record.show();
        self.batches.change(|book| book.files.insert(id, record)).map_err(broken)?;
        Ok(shown)
    }

    fn read(&self, id: &str) -> Answered {
        self.file(id)?;
        let mut frames = self.batches.vault.read(id).map_err(broken)?;
        let content = if frames.len() == 1 { frames.remove(0) } else { frames.concat() };
        Ok(pages::text("application/octet-stream", content.into()))
    }

    fn delete(&self, id: &str) -> Result<Value, Box<Refusal>> {
        self.file(id)?;
        let needed = self.batches.book().batches.values().any(|batch| {
            batch.input_file == id && matches!(batch.stage, Stage::InProgress | Stage::Cancelling)
        });
        if needed {
            return Err(refusal(
                409,
                "file_in_use",
                "A batch still reads this file: cancel it first.",
            ));
        }
        self.batches.change(|book| book.files.remove(id)).map_err(broken)?;
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
        self.check_room()?;
        let input = self.batches.vault.read(&new.input_file_id).map_err(broken)?.concat();
        let (total, faults) = match lines::read(&input, endpoint) {
            Ok(lines) => (lines.len() as u64, Vec::new()),
            Err(faults) => (0, faults),
        };
        let failed = !faults.is_empty();
        let id = self.batches.book().next_id("batch_", rand::random());
        let record = BatchRecord {
            id: id.clone(),
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
        let shown = record.show();
        self.batches.change(|book| book.batches.insert(id, record)).map_err(broken)?;
        self.batches.work.notify_one();
        Ok(shown)
    }

    fn cancel(&self, id: &str) -> Result<Value, Box<Refusal>> {
        self.batch(id)?;
        let now_s = self.now_s;
        let cancel = |book: &mut super::Book| {
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

fn unknown(what: &str) -> Box<Refusal> {
    refusal(404, "not_found", &format!("There is no {what} with this id."))
}

fn broken(fault: VaultFault) -> Box<Refusal> {
    tracing::error!(%fault, "the files of batches cannot be used");
    refusal(500, "internal_error", "The gateway cannot use its files. Its log says why.")
}
