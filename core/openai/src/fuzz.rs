//! Entry points for fuzzers: bodies of users and of model servers as arbitrary bytes.
//!
//! Each function returns normally for every input or panics on a broken law.

use bytes::Bytes;

use crate::dialect::{Dialect, Marks};
use crate::endpoint::Endpoint;
use crate::fault::ApiError;
use crate::form::{FormView, Part, read_parts};
use crate::form_reader::{FormPiece, FormReader};
use crate::hide::UsageHider;
use crate::lines::LinesToEvents;
use crate::reference::{self, ReferenceLine};
use crate::request::{Changes, RequestView};
use crate::sse::{Event, EventSplitter};
use crate::usage::UsageCounter;

/// Longest event that the streams here accept.
const EVENT_BYTES_MAX: usize = 4096;

/// Any request body; the first byte chooses the endpoint.
///
/// # Panics
/// When what travels on is not what was read, or no JSON.
pub fn request(data: &[u8]) {
    let Some((first, body)) = data.split_first() else { return };
    let endpoint = Endpoint::ALL[usize::from(*first) % Endpoint::ALL.len()];
    let Ok(view) = RequestView::parse(endpoint, body) else { return };
    let changes = Changes {
        ask_usage: first & 0x10 != 0,
        default_max_tokens: (first & 0x20 != 0).then_some(7),
        model: (first & 0x40 != 0).then_some("another"),
        stream: None,
    };
    let outgoing = view.outgoing(&Bytes::copy_from_slice(body), &changes);
    let again = RequestView::parse(endpoint, &outgoing);
    let again = again.unwrap_or_else(|fault| panic!("what travels on is refused: {fault:?}"));
    assert_eq!(again.stream, view.stream);
    assert_eq!(again.choices, view.choices);
    assert_eq!(again.model, changes.model.unwrap_or(&view.model));
    for line in [ReferenceLine::Base, ReferenceLine::Live] {
        let _ = reference::adapt(endpoint, line, &outgoing);
    }
}

/// Any form; the first line is the content type.
///
/// # Panics
/// When the form is read otherwise in pieces.
pub fn form(data: &[u8]) {
    let cut = memchr::memchr(b'\n', data).unwrap_or(data.len());
    let (kind, body) = data.split_at(cut);
    let kind = String::from_utf8_lossy(kind);
    let body = body.get(1..).unwrap_or_default();
    if let Ok(view) = FormView::parse(&kind, body) {
        let _ = view.outgoing(&Bytes::copy_from_slice(body));
    }
    let read = |part: Part| {
        let data = body.get(part.data).unwrap_or_default();
        (part.name, part.file_name, data.to_vec())
    };
    let whole = read_parts(&kind, body).ok();
    let whole: Option<Vec<ReadPart>> = whole.map(|parts| parts.into_iter().map(read).collect());
    for piece in [1, 7, 100] {
        assert_eq!(in_pieces(&kind, body, piece), whole, "in pieces of {piece}");
    }
}

type ReadPart = (String, Option<String>, Vec<u8>);

/// The parts of a form that comes in pieces of this length.
fn in_pieces(kind: &str, body: &[u8], piece: usize) -> Option<Vec<ReadPart>> {
    let mut reader = FormReader::new(kind).ok()?;
    let mut parts: Vec<ReadPart> = Vec::new();
    for bytes in body.chunks(piece) {
        let pushed = reader.push(bytes, |seen| match seen {
            FormPiece::Part { name, file_name } => {
                parts.push((name.to_owned(), file_name.map(str::to_owned), Vec::new()));
            }
            FormPiece::Data(data) => {
                if let Some((_, _, content)) = parts.last_mut() {
                    content.extend_from_slice(data);
                }
            }
        });
        pushed.ok()?;
    }
    reader.finish().ok()?;
    Some(parts)
}

/// Any stream of an answer; the first byte says how it is cut into chunks.
///
/// # Panics
/// When the cuts change what is read.
pub fn stream(data: &[u8]) {
    let Some((cut, body)) = data.split_first() else { return };
    let cut = usize::from(*cut).max(1);
    assert_eq!(events(body, cut), events(body, body.len().max(1)), "cuts change the events");
    let mut counter = UsageCounter::default();
    let mut hider = UsageHider::new(EVENT_BYTES_MAX);
    let mut lines = LinesToEvents::new(EVENT_BYTES_MAX);
    let mut out = Vec::new();
    for chunk in body.chunks(cut) {
        counter.push(chunk);
        let _ = hider.push(Bytes::copy_from_slice(chunk), &mut out);
        let _ = lines.push(chunk);
    }
    let _ = (hider.finish(), lines.finish(), counter.usage());
}

/// Whole events of a stream cut every `cut` bytes; `None` when one is too long, which chunks may
/// show earlier or later.
fn events(body: &[u8], cut: usize) -> Option<(Vec<Bytes>, Option<Bytes>)> {
    if body.len() > EVENT_BYTES_MAX {
        return None;
    }
    let mut splitter = EventSplitter::new(EVENT_BYTES_MAX);
    let mut events = Vec::new();
    for chunk in body.chunks(cut) {
        splitter.push(Bytes::copy_from_slice(chunk), &mut events).ok()?;
    }
    let rest = splitter.finish();
    for event in events.iter().chain(&rest) {
        let _ = Event::read(event).is_done();
    }
    Some((events, rest))
}

/// Any ask of `/v1/responses` with any answer of a model server.
pub fn responses(data: &[u8]) {
    dialect(data, Dialect::from_responses);
}

/// Any ask of `/v1/messages` with any answer of a model server.
pub fn messages(data: &[u8]) {
    dialect(data, Dialect::from_messages);
}

/// The ask ends at the first byte 0; the answer behind it is taken whole and as a stream.
fn dialect(data: &[u8], read: impl Fn(&[u8]) -> Result<(Vec<u8>, Dialect), ApiError>) {
    let cut = memchr::memchr(0, data).unwrap_or(data.len());
    let (ask, answer) = data.split_at(cut);
    let answer = answer.get(1..).unwrap_or_default();
    let Ok((chat, dialect)) = read(ask) else { return };
    let _ = RequestView::parse(Endpoint::ChatCompletions, &chat);
    let marks = Marks { id: "1".into(), created_unix_s: 1 };
    let _ = dialect.answer(answer, &marks);
    let mut stream = dialect.stream(&marks);
    let (mut splitter, mut events) = (EventSplitter::new(EVENT_BYTES_MAX), Vec::new());
    let whole = splitter.push(Bytes::copy_from_slice(answer), &mut events);
    let mut out = Vec::new();
    for event in &events {
        stream.push(event, &mut out);
    }
    match whole {
        Ok(()) => stream.finish(&mut out),
        Err(_) => stream.fail(&ApiError::invalid("stream", "an event is too long"), &mut out),
    }
}
