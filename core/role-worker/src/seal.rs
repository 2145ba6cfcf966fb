//! Encrypted queries (protocol notes, wire 4.8 and 10.2, notes 11 and 12): the request is opened
//! before it goes to the model server, each JSON value of the answer is sealed before it goes back.

use bytes::Bytes;
use cocoon_openai::sse::{Event, EventSplitter, MAX_EVENT_BYTES};
use cocoon_openai::usage::BodyForm;
use cocoon_wire::e2e::Random;
use cocoon_wire::e2e_json::{self, AnswerKey, Envelope};
use cocoon_wire::tl::SecretKey;
use memchr::memmem;
use serde_json::Value;

use crate::fault::Reject;
use crate::identity::OwnKeys;

/// The name that every encrypted object has; it cannot stand inside a JSON string unescaped.
const MARK: &[u8] = b"\"is_encrypted\"";
/// The fields of the envelope, which are nothing to the model server.
const ENVELOPE: [&str; 4] =
    ["is_encrypted", "sender_public_key", "receiver_public_key", "encryption_nonce"];

/// Opens a request's body, with the key that came with it or else with one of the worker's own.
/// `None` is a request that is not encrypted: it costs one search.
pub(crate) fn open(
    body: &Bytes,
    private: Option<&SecretKey>,
    own: &OwnKeys,
    now_s: u64,
) -> Result<Option<(Bytes, AnswerSeal)>, Reject> {
    let private = private.filter(|key| key.expose() != &[0; 32]);
    if private.is_none() && memmem::find(body, MARK).is_none() {
        return Ok(None);
    }
    let value = serde_json::from_slice::<Value>(body);
    let mut value = match (value, private) {
        (Ok(value), _) => value,
        // The model server says what is wrong with it.
        (Err(_), None) => return Ok(None),
        (Err(_), Some(_)) => {
            return Err(Reject::request("body of an encrypted request is no JSON"));
        }
    };
    let of_envelope = || {
        let receiver = Envelope::of(&value).ok()??.receiver;
        own.get(&receiver).filter(|(_, until_s)| *until_s > now_s).map(|(private, _)| private)
    };
    let private = private.or_else(of_envelope);
    let key = e2e_json::open_request(&mut value, private)
        .map_err(|fault| Reject { code: fault.code(), ..Reject::request(fault) })?;
    let Some(key) = key else { return Ok(None) };
    if let Value::Object(object) = &mut value {
        object.retain(|name, _| !ENVELOPE.contains(&name.as_str()));
    }
    Ok(Some((Bytes::from(value.to_string()), AnswerSeal::new(key))))
}

/// Seals the answer of one encrypted query as its bytes pass. Of a stream it holds one event or
/// one JSON line, of a plain answer the whole value, at most [`MAX_EVENT_BYTES`].
///
/// What cannot be sealed is never sent: comments of event streams are emptied, and an answer that
/// is neither JSON objects nor events of them ends with an error.
pub struct AnswerSeal {
    key: AnswerKey,
    form: Form,
}

enum Form {
    /// Nothing but blanks so far.
    Unknown,
    Json(JsonSplitter),
    Events(EventSplitter),
}

/// Shows no bytes of the answer and no key.
impl std::fmt::Debug for AnswerSeal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AnswerSeal").finish_non_exhaustive()
    }
}

impl AnswerSeal {
    pub(crate) const fn new(key: AnswerKey) -> Self {
        Self { key, form: Form::Unknown }
    }

    /// Takes bytes of the model server's body, cut anywhere, and appends to `out` what of them
    /// can be sealed now. `random` must be cryptographic.
    ///
    /// # Errors
    /// [`Reject`]: the answer cannot be sealed; end the query with it.
    pub fn push(
        &mut self,
        bytes: &[u8],
        out: &mut Vec<u8>,
        random: &mut Random<'_>,
    ) -> Result<(), Reject> {
        if matches!(self.form, Form::Unknown) {
            self.form = match BodyForm::recognise(bytes) {
                BodyForm::Unknown => return Ok(()),
                BodyForm::Json => Form::Json(JsonSplitter::default()),
                BodyForm::Events => Form::Events(EventSplitter::new(MAX_EVENT_BYTES)),
                BodyForm::Opaque => return Err(unsealable("is neither JSON nor events")),
            };
        }
        let key = &self.key;
        match &mut self.form {
            Form::Unknown => Ok(()),
            Form::Json(splitter) => splitter.push(bytes, &mut |value| {
                seal_value(key, value, out, random)?;
                out.push(b'\n');
                Ok(())
            }),
            Form::Events(splitter) => {
                let mut events = Vec::new();
                splitter
                    .push(Bytes::copy_from_slice(bytes), &mut events)
                    .map_err(|fault| unsealable(&fault.to_string()))?;
                events.iter().try_for_each(|event| seal_event(key, event, out, random))
            }
        }
    }

    /// The body is over: seals what is left.
    ///
    /// # Errors
    /// [`Reject`] when the body was cut within a value; end the query with it.
    pub fn finish(&mut self, out: &mut Vec<u8>, random: &mut Random<'_>) -> Result<(), Reject> {
        match &mut self.form {
            Form::Json(splitter) if splitter.is_within() => Err(unsealable("ends within a value")),
            Form::Unknown | Form::Json(_) => Ok(()),
            Form::Events(splitter) => match splitter.finish() {
                Some(event) => seal_event(&self.key, &event, out, random),
                None => Ok(()),
            },
        }
    }
}

fn unsealable(reason: &str) -> Reject {
    Reject { code: 602, message: format!("worker: answer cannot be encrypted: it {reason}") }
}

fn seal_value(
    key: &AnswerKey,
    value: &[u8],
    out: &mut Vec<u8>,
    random: &mut Random<'_>,
) -> Result<(), Reject> {
    let mut value: Value =
        serde_json::from_slice(value).map_err(|_| unsealable("holds broken JSON"))?;
    e2e_json::seal_answer(&mut value, key, random)
        .map_err(|_| unsealable("holds a value that is no JSON object"))?;
    out.extend_from_slice(value.to_string().as_bytes());
    Ok(())
}

fn seal_event(
    key: &AnswerKey,
    bytes: &[u8],
    out: &mut Vec<u8>,
    random: &mut Random<'_>,
) -> Result<(), Reject> {
    let event = Event::read(bytes);
    // Names of events are the protocol's words, like `response.completed`.
    let is_word = |name: &str| {
        name.len() <= 64
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'_')
    };
    if let Some(name) = event.name.filter(|name| is_word(name)) {
        out.extend_from_slice(b"event: ");
        out.extend_from_slice(name.as_bytes());
        out.push(b'\n');
    }
    match &event.data {
        // A comment keeps connections alive; its text could say anything.
        None => out.extend_from_slice(b":\n\n"),
        Some(_) if event.is_done() => out.extend_from_slice(cocoon_openai::sse::DONE),
        Some(data) => {
            out.extend_from_slice(b"data: ");
            seal_value(key, data.as_bytes(), out, random)?;
            out.extend_from_slice(b"\n\n");
        }
    }
    Ok(())
}

/// Cuts JSON objects and arrays that follow each other out of a stream.
#[derive(Default)]
struct JsonSplitter {
    pending: Vec<u8>,
    depth: usize,
    in_string: bool,
    escaped: bool,
}

impl JsonSplitter {
    const fn is_within(&self) -> bool {
        self.depth > 0
    }

    fn push(
        &mut self,
        bytes: &[u8],
        each: &mut dyn FnMut(&[u8]) -> Result<(), Reject>,
    ) -> Result<(), Reject> {
        let mut rest = bytes;
        while !rest.is_empty() {
            if !self.is_within() {
                rest = rest.trim_ascii_start();
                if !matches!(rest.first(), None | Some(b'{' | b'[')) {
                    return Err(unsealable("holds a value that is no JSON object"));
                }
            }
            let end = rest.iter().position(|byte| self.ends(*byte));
            let (value, behind) = rest.split_at(end.map_or(rest.len(), |end| end + 1));
            if self.pending.len().saturating_add(value.len()) > MAX_EVENT_BYTES {
                return Err(unsealable("is too long"));
            }
            self.pending.extend_from_slice(value);
            rest = behind;
            if end.is_some() {
                each(&self.pending)?;
                self.pending.clear();
            }
        }
        Ok(())
    }

    /// Takes one byte; whether it ends a value.
    fn ends(&mut self, byte: u8) -> bool {
        if self.in_string {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => self.in_string = false,
                _ => {}
            }
            return false;
        }
        match byte {
            b'"' => self.in_string = true,
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' => {
                self.depth = self.depth.saturating_sub(1);
                return self.depth == 0;
            }
            _ => {}
        }
        false
    }
}
