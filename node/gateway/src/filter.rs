//! What is done to the parts of a stream between the network and the user. No I/O.
//!
//! The ordinary stream of events passes without a look inside, but for a search for usage that
//! must be hidden. Streams of reference workers (JSON lines), other dialects and reports take
//! the longer way, event by event.

use bytes::Bytes;
use cocoon_openai::sse::{self, Event, EventSplitter, EventTooLong};
use cocoon_openai::{
    ApiError, BodyForm, Dialect, DialectStream, Endpoint, LinesToEvents, Marks, UsageFiller,
    UsageHider,
};

use crate::answer::FinalRecord;
use crate::failure::api_error;
use crate::order::Shape;
use crate::report;
use crate::upstream::UpstreamError;

/// The way of one stream.
#[derive(Debug)]
pub(crate) struct StreamFilter {
    limit_bytes: usize,
    marks: Marks,
    model: String,
    /// Whether the stream must end with `[DONE]`.
    needs_done: bool,
    /// Blanks before the first byte that tells the form are dropped.
    lines: Option<LinesToEvents>,
    form: BodyForm,
    usage: UsageView,
    events: Option<EventWise>,
    done: DoneWatch,
}

/// What the user sees of the usage within the stream.
#[derive(Debug)]
enum UsageView {
    /// What the server shows.
    AsItIs,
    /// Nothing: the user did not ask.
    Hidden(UsageHider),
    /// `"usage":null` in every chunk before the last one, as OpenAI shows it.
    Filled(UsageFiller),
}

impl UsageView {
    fn push(&mut self, part: Bytes, out: &mut Vec<Bytes>) -> Result<(), EventTooLong> {
        match self {
            UsageView::AsItIs => {
                out.push(part);
                Ok(())
            }
            UsageView::Hidden(hider) => hider.push(part, out),
            UsageView::Filled(filler) => filler.push(part, out),
        }
    }

    fn finish(&mut self) -> Option<Bytes> {
        match self {
            UsageView::AsItIs => None,
            UsageView::Hidden(hider) => hider.finish(),
            UsageView::Filled(filler) => filler.finish(),
        }
    }
}

/// Streams that are changed event by event.
#[derive(Debug)]
struct EventWise {
    splitter: EventSplitter,
    dialect: Option<DialectStream>,
    report: bool,
}

impl StreamFilter {
    pub(crate) fn new(shape: &Shape, marks: Marks, limit_bytes: usize) -> StreamFilter {
        let chat = matches!(shape.endpoint, Endpoint::ChatCompletions | Endpoint::Completions);
        let wise = shape.dialect.is_some() || (shape.report && chat);
        let events = wise.then(|| EventWise {
            splitter: EventSplitter::new(limit_bytes),
            dialect: shape.dialect.as_ref().map(|dialect: &Dialect| dialect.stream(&marks)),
            report: shape.report && chat,
        });
        StreamFilter {
            limit_bytes,
            marks,
            model: shape.model.clone(),
            needs_done: chat || shape.dialect.is_some(),
            lines: None,
            form: BodyForm::Unknown,
            usage: match (shape.hide_usage, shape.fill_usage) {
                (true, _) => UsageView::Hidden(UsageHider::new(limit_bytes)),
                (false, true) => UsageView::Filled(UsageFiller::new(limit_bytes)),
                (false, false) => UsageView::AsItIs,
            },
            events,
            done: DoneWatch::default(),
        }
    }

    /// Takes a part and appends what the user gets of it.
    pub(crate) fn push(&mut self, part: Bytes, out: &mut Vec<Bytes>) -> Result<(), EventTooLong> {
        if self.form == BodyForm::Unknown {
            self.form = BodyForm::recognise(&part);
            if self.form == BodyForm::Json {
                self.lines = Some(LinesToEvents::new(self.limit_bytes));
            }
        }
        let part = match &mut self.lines {
            Some(lines) => lines.push(&part)?,
            None => part,
        };
        self.events_pass(part, out)
    }

    /// Passes events on: hiding, then dialect and report.
    fn events_pass(&mut self, part: Bytes, out: &mut Vec<Bytes>) -> Result<(), EventTooLong> {
        if part.is_empty() {
            return Ok(());
        }
        self.done.see(&part);
        let Some(wise) = &mut self.events else {
            return self.usage.push(part, out);
        };
        let mut shown = Vec::new();
        self.usage.push(part, &mut shown)?;
        let mut events = Vec::new();
        for part in shown {
            wise.splitter.push(part, &mut events)?;
        }
        wise.pass(events, out);
        Ok(())
    }

    /// Ends the stream: what was kept back, then a proper end or an error event.
    pub(crate) fn finish(&mut self, record: &FinalRecord, out: &mut Vec<Bytes>) {
        let mut too_long = None;
        let lines = self.lines.take();
        if record.error.is_none() {
            if let Some(mut lines) = lines {
                too_long = self.events_pass(lines.finish(), out).err();
            }
            self.release(out);
        } else if !self.at_border() {
            // What was cut within an event must not swallow the error event.
            out.push(Bytes::from_static(b"\n\n"));
        }
        let failure = match (&record.error, too_long) {
            (Some(error), _) => Some(error.clone()),
            (None, Some(fault)) => Some(UpstreamError::WorkerLost { reason: fault.to_string() }),
            // A server that says `[DONE]` or told the usage has come to its end; one that did
            // neither was cut off, and only its connection's end was passed on.
            (None, None) if self.needs_done && !self.done.seen && record.usage.is_none() => {
                Some(UpstreamError::WorkerLost {
                    reason: "the stream ended before its last event".to_owned(),
                })
            }
            (None, None) => None,
        };
        match failure {
            Some(failure) => self.fail(&api_error(failure), out),
            None => self.complete(record, out),
        }
    }

    /// Passes on what was kept back while its event was incomplete.
    fn release(&mut self, out: &mut Vec<Bytes>) {
        let rest = self.usage.finish();
        let Some(wise) = &mut self.events else {
            out.extend(rest);
            return;
        };
        let mut events = Vec::new();
        if let Some(rest) = rest {
            // Shorter than the limit, which the hider has checked.
            let _ = wise.splitter.push(rest, &mut events);
        }
        events.extend(wise.splitter.finish());
        wise.pass(events, out);
    }

    fn complete(&mut self, record: &FinalRecord, out: &mut Vec<Bytes>) {
        if let Some(wise) = &mut self.events {
            let mut bytes = Vec::new();
            if let Some(dialect) = &mut wise.dialect {
                dialect.finish(&mut bytes);
            } else {
                if wise.report {
                    let event = report::event(&self.marks, &self.model, record);
                    sse::write_data(&mut bytes, &event);
                }
                bytes.extend_from_slice(sse::DONE);
            }
            out.push(Bytes::from(bytes));
        } else if self.needs_done && !self.done.seen {
            out.push(Bytes::from_static(sse::DONE));
        }
    }

    /// Ends the stream with an error event.
    pub(crate) fn fail(&mut self, error: &ApiError, out: &mut Vec<Bytes>) {
        let dialect = self.events.as_mut().and_then(|wise| wise.dialect.as_mut());
        let mut bytes = Vec::new();
        match dialect {
            Some(dialect) => dialect.fail(error, &mut bytes),
            None => bytes = error.to_event(),
        }
        out.push(Bytes::from(bytes));
    }

    /// True where a comment may be written between two parts: not within an event.
    pub(crate) fn at_border(&self) -> bool {
        let kept_whole = !matches!(self.usage, UsageView::AsItIs);
        let whole = self.events.is_some() || kept_whole || self.lines.is_some();
        whole || self.done.at_border || self.form == BodyForm::Unknown
    }
}

impl EventWise {
    fn pass(&mut self, events: Vec<Bytes>, out: &mut Vec<Bytes>) {
        if let Some(dialect) = &mut self.dialect {
            let mut bytes = Vec::new();
            for event in &events {
                dialect.push(event, &mut bytes);
            }
            if !bytes.is_empty() {
                out.push(Bytes::from(bytes));
            }
            return;
        }
        // `[DONE]` is kept back: the report goes before it.
        out.extend(events.into_iter().filter(|event| !Event::read(event).is_done()));
    }
}

/// Watches passing bytes for `[DONE]` as the last event, and for the border of events.
#[derive(Debug, Default)]
struct DoneWatch {
    seen: bool,
    at_border: bool,
    tail: Vec<u8>,
}

/// Enough for `data: [DONE]` and its line ends.
const TAIL_BYTES: usize = 24;

impl DoneWatch {
    fn see(&mut self, part: &[u8]) {
        let end = part.get(part.len().saturating_sub(TAIL_BYTES)..).unwrap_or_default();
        if end.len() < TAIL_BYTES {
            self.tail.extend_from_slice(end);
            let excess = self.tail.len().saturating_sub(TAIL_BYTES);
            self.tail.drain(..excess);
        } else {
            self.tail.clear();
            self.tail.extend_from_slice(end);
        }
        self.at_border = self.tail.ends_with(b"\n\n") || self.tail.ends_with(b"\r\n\r\n");
        self.seen = self.tail.trim_ascii_end().ends_with(b"[DONE]");
    }
}
