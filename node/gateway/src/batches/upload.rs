//! A file that is sent to us: it goes to the disk piece by piece, whatever its length.

use std::sync::Arc;

use bytes::Bytes;
use cocoon_http::Work;
use cocoon_openai::fault::INVALID_REQUEST;
use cocoon_openai::{ApiError, FormPiece, FormReader};
use http::HeaderMap;
use http_body::Body as _;
use hyper::body::Incoming;
use serde_json::Value;

use super::book::FileRecord;
use super::pages::{broken, crowded};
use super::room::Place;
use super::{Batches, FILE_PREFIX, blocking};
use crate::config::Limits;
use crate::failure::Refusal;
use crate::gateway::header_text;
use crate::intake::{self, Pieces};
use crate::vault::{Appender, VaultFault};

/// What is written at a time, bytes.
const PIECE_BYTES: usize = 256 * 1024;
/// What a form may hold besides the file, bytes.
const FORM_BYTES: u64 = 64 * 1024;
/// Longest purpose that is read.
const PURPOSE_BYTES: usize = 64;

/// Takes a file and answers with what is kept of it.
pub(super) async fn upload(
    batches: Arc<Batches>,
    owner: String,
    now_s: u64,
    headers: &HeaderMap,
    body: Incoming,
    (limits, work): (&Limits, &Work),
) -> Result<Value, Box<Refusal>> {
    let taken = take(&batches, owner, now_s, headers, body, (limits, work)).await;
    let shown = match taken {
        Ok((form, spool, place)) => keep(form, spool, place, now_s).await,
        Err(refusal) => Err(refusal),
    };
    // Where the body was not read to its end, the connection cannot go on.
    shown.map_err(|mut refusal| {
        refusal.close = true;
        refusal
    })
}

/// Reads the whole form.
async fn take(
    batches: &Arc<Batches>,
    owner: String,
    now_s: u64,
    headers: &HeaderMap,
    body: Incoming,
    (limits, work): (&Limits, &Work),
) -> Result<(Form, Spool, Place), Box<Refusal>> {
    intake::check_coding(headers)?;
    let file_bytes_max = batches.config.file_bytes;
    let body_bytes_max = file_bytes_max.saturating_add(FORM_BYTES);
    if body.size_hint().lower() > body_bytes_max {
        return Err(too_large(file_bytes_max));
    }
    let kind = header_text(headers, "content-type").unwrap_or_default();
    let mut reader = FormReader::new(kind)?;
    // Of a body that does not say how long it is, the worst is expected.
    let most_bytes = body.size_hint().upper().unwrap_or(file_bytes_max).min(file_bytes_max);
    let (place, mut spool) = begin(batches, owner, most_bytes, now_s).await?;
    let mut pieces = Pieces::of(body, limits, work);
    let (mut form, mut body_bytes) = (Form::default(), 0);
    while let Some(data) = pieces.next().await? {
        body_bytes += data.len() as u64;
        form.take(&mut reader, &data)?;
        if body_bytes > body_bytes_max || form.file_bytes > file_bytes_max {
            return Err(too_large(file_bytes_max));
        }
        if form.piece.len() >= PIECE_BYTES {
            spool = spool.write(std::mem::take(&mut form.piece)).await.map_err(broken)?;
        }
    }
    reader.finish()?;
    Ok((form, spool, place))
}

/// Finds room for a file and opens it.
async fn begin(
    batches: &Arc<Batches>,
    owner: String,
    bytes: u64,
    now_s: u64,
) -> Result<(Place, Spool), Box<Refusal>> {
    let batches = batches.clone();
    let opened = blocking(move || {
        let place = match batches.reserve(&owner, bytes, now_s) {
            Ok(place) => place,
            Err(crowded) => return Ok(Err(crowded)),
        };
        let id = batches.note(|book| book.next_id(FILE_PREFIX, rand::random()));
        let file = batches.vault.append(&id, |_| {})?;
        let spool = Spool { batches, owner, id, file: Some(file), is_kept: false };
        Ok(Ok((place, spool)))
    });
    opened.await.map_err(broken)?.map_err(crowded)
}

/// Checks the form and writes the file down.
async fn keep(form: Form, spool: Spool, place: Place, now_s: u64) -> Result<Value, Box<Refusal>> {
    let missing = |name: &'static str| {
        let message = format!("The form needs the field '{name}'.");
        Box::new(Refusal::from(ApiError::invalid(name, message)))
    };
    let purpose = form.purpose.ok_or_else(|| missing("purpose"))?;
    if purpose != b"batch" {
        let message = "Only files with the purpose 'batch' are kept here.";
        return Err(ApiError::invalid("purpose", message).into());
    }
    let name = form.file_name.ok_or_else(|| missing("file"))?;
    let (rest, bytes) = (form.piece, form.file_bytes);
    let kept = blocking(move || {
        let record = FileRecord {
            id: spool.id.clone(),
            owner: spool.owner.clone(),
            name,
            purpose: "batch".to_owned(),
            bytes,
            created_s: now_s,
        };
        let shown = record.show();
        spool.end(&rest, record)?;
        // The book has it from now on.
        drop(place);
        Ok(shown)
    });
    kept.await.map_err(broken)
}

fn too_large(file_bytes_max: u64) -> Box<Refusal> {
    let message =
        format!("The file is larger than this gateway's limit of {file_bytes_max} bytes.");
    let error = ApiError::new(413, INVALID_REQUEST, message).with_code("file_too_large");
    Box::new(Refusal { close: true, ..error.into() })
}

/// What was read of the form so far, except what went to the disk.
#[derive(Default)]
struct Form {
    field: Field,
    purpose: Option<Vec<u8>>,
    file_name: Option<String>,
    file_bytes: u64,
    /// Bytes of the file that are not written yet.
    piece: Vec<u8>,
}

#[derive(Default, Clone, Copy)]
enum Field {
    Purpose,
    File,
    #[default]
    Other,
}

impl Form {
    fn take(&mut self, reader: &mut FormReader, data: &Bytes) -> Result<(), ApiError> {
        reader.push(data, |piece| match piece {
            FormPiece::Part { name: "purpose", .. } if self.purpose.is_none() => {
                self.purpose = Some(Vec::new());
                self.field = Field::Purpose;
            }
            FormPiece::Part { name: "file", file_name } if self.file_name.is_none() => {
                let name = file_name.unwrap_or_default().chars().take(256).collect();
                self.file_name = Some(name);
                self.field = Field::File;
            }
            FormPiece::Part { .. } => self.field = Field::Other,
            FormPiece::Data(data) => match self.field {
                Field::Purpose => {
                    let purpose = self.purpose.get_or_insert_default();
                    let room = (PURPOSE_BYTES + 1).saturating_sub(purpose.len());
                    purpose.extend(data.iter().take(room));
                }
                Field::File => {
                    self.file_bytes += data.len() as u64;
                    self.piece.extend_from_slice(data);
                }
                Field::Other => {}
            },
        })
    }
}

/// A file on the disk that is not in the book; removed unless it comes there.
struct Spool {
    batches: Arc<Batches>,
    owner: String,
    id: String,
    file: Option<Appender>,
    is_kept: bool,
}

impl Spool {
    async fn write(mut self, piece: Vec<u8>) -> Result<Spool, VaultFault> {
        blocking(move || {
            self.file.as_mut().map_or(Ok(()), |file| file.write(&piece))?;
            Ok(self)
        })
        .await
    }

    /// Writes the rest, and puts the file into the book once all of it is on the disk.
    fn end(mut self, rest: &[u8], record: FileRecord) -> Result<(), VaultFault> {
        if let Some(file) = &mut self.file {
            file.write(rest)?;
            file.sync()?;
        }
        self.batches.change(|book| book.files.insert(record.id.clone(), record))?;
        self.is_kept = true;
        Ok(())
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        if self.is_kept {
            return;
        }
        let (batches, id) = (self.batches.clone(), std::mem::take(&mut self.id));
        self.file = None;
        let remove = move || {
            if let Err(fault) = batches.vault.remove(&id) {
                // The next start removes it.
                tracing::warn!(%fault, "what was sent of a file stays for now");
            }
        };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(remove)),
            Err(_) => remove(),
        }
    }
}
