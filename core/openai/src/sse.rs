//! Server-sent events (HTML standard, section 9.2), as bytes.
//!
//! [`EventSplitter`] cuts a stream into whole events as their bytes come; an event that lies
//! within one chunk is a slice of it, not a copy. [`Event`] reads the fields of one.

use std::borrow::Cow;

use bytes::{Bytes, BytesMut};
use memchr::{memchr, memchr2};

/// Largest event accepted, in bytes: room for an image in base64.
pub const MAX_EVENT_BYTES: usize = 16 * 1024 * 1024;

/// An event that grows beyond its limit. The peer is at fault: end the stream with an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an event is longer than {limit_bytes} bytes")]
pub struct EventTooLong {
    /// The limit that was passed.
    pub limit_bytes: usize,
}

/// Cuts a stream of bytes into whole events, blank line included.
#[derive(Debug)]
pub struct EventSplitter {
    limit_bytes: usize,
    /// The beginning of an event whose end has not come.
    pending: BytesMut,
    scan: Scan,
}

/// Where the scan for a blank line stands between chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scan {
    /// Within a line.
    Line,
    /// A line has just ended: another line end makes it a blank line.
    LineEnd,
    /// As `LineEnd`, but by CR: an LF that follows belongs to it.
    LineEndCr,
    /// A blank line ended by CR: the event ends here or behind an LF that follows.
    BlankCr,
}

impl EventSplitter {
    /// A splitter that accepts events up to `limit_bytes`.
    pub fn new(limit_bytes: usize) -> EventSplitter {
        // At the very beginning a line end makes a blank line.
        EventSplitter { limit_bytes, pending: BytesMut::new(), scan: Scan::LineEnd }
    }

    /// Takes the next chunk and appends the events that it completes.
    pub fn push(&mut self, chunk: Bytes, events: &mut Vec<Bytes>) -> Result<(), EventTooLong> {
        let mut rest = chunk;
        while !rest.is_empty() {
            let Some(end) = self.find_end(&rest) else {
                if self.pending.len().saturating_add(rest.len()) > self.limit_bytes {
                    return Err(EventTooLong { limit_bytes: self.limit_bytes });
                }
                self.pending.extend_from_slice(&rest);
                return Ok(());
            };
            let last = rest.split_to(end.min(rest.len()));
            if self.pending.is_empty() {
                events.push(last);
            } else {
                self.pending.extend_from_slice(&last);
                events.push(self.pending.split().freeze());
            }
        }
        Ok(())
    }

    /// What remains when the stream has ended: an event without its blank line, or nothing.
    pub fn finish(&mut self) -> Option<Bytes> {
        if self.pending.is_empty() { None } else { Some(self.pending.split().freeze()) }
    }

    /// True when no event is begun.
    pub fn is_at_border(&self) -> bool {
        self.pending.is_empty()
    }

    /// The offset behind the blank line that ends the current event.
    fn find_end(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            match (self.scan, byte) {
                (Scan::BlankCr, byte) => {
                    self.scan = Scan::LineEnd;
                    // At offset 0 with other bytes pending, the event ends before this byte.
                    return Some(if byte == b'\n' { at + 1 } else { at });
                }
                (Scan::LineEndCr, b'\n') => {
                    self.scan = Scan::LineEnd;
                    at += 1;
                }
                (Scan::LineEnd, b'\n') => {
                    self.scan = Scan::LineEnd;
                    return Some(at + 1);
                }
                (Scan::LineEnd | Scan::LineEndCr, b'\r') => {
                    self.scan = Scan::BlankCr;
                    at += 1;
                }
                _ => {
                    let rest = bytes.get(at..).unwrap_or_default();
                    let Some(found) = memchr2(b'\n', b'\r', rest) else {
                        self.scan = Scan::Line;
                        return None;
                    };
                    let cr = rest.get(found) == Some(&b'\r');
                    self.scan = if cr { Scan::LineEndCr } else { Scan::LineEnd };
                    at += found + 1;
                }
            }
        }
        None
    }
}

/// The fields of one event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Event<'a> {
    /// `event:`; the last one given.
    pub name: Option<&'a str>,
    /// The `data:` lines joined by line feeds; `None` when there is none (a comment).
    pub data: Option<Cow<'a, str>>,
}

impl<'a> Event<'a> {
    /// Reads an event as [`EventSplitter`] yields it. Bytes that are not UTF-8 make it empty.
    pub fn read(bytes: &'a [u8]) -> Event<'a> {
        let text = std::str::from_utf8(bytes).unwrap_or_default();
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut event = Event::default();
        for line in text.split(['\n', '\r']) {
            let (field, value) = match memchr(b':', line.as_bytes()) {
                Some(colon) => (
                    line.get(..colon).unwrap_or_default(),
                    line.get(colon + 1..).unwrap_or_default(),
                ),
                None => (line, ""),
            };
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "event" => event.name = Some(value),
                "data" => {
                    event.data = Some(match event.data.take() {
                        None => Cow::Borrowed(value),
                        Some(before) => Cow::Owned(format!("{before}\n{value}")),
                    });
                }
                _ => {}
            }
        }
        event
    }

    /// True for OpenAI's last event, `data: [DONE]`.
    pub fn is_done(&self) -> bool {
        self.data.as_deref() == Some("[DONE]")
    }
}

/// `data: [DONE]` as an event.
pub const DONE: &[u8] = b"data: [DONE]\n\n";

/// Appends an event without a name. `data` must not hold line ends; JSON as serde writes it
/// does not.
pub fn write_data(out: &mut Vec<u8>, data: &str) {
    out.extend_from_slice(b"data: ");
    out.extend_from_slice(data.as_bytes());
    out.extend_from_slice(b"\n\n");
}

/// Appends an event with a name.
pub fn write_named(out: &mut Vec<u8>, name: &str, data: &str) {
    out.extend_from_slice(b"event: ");
    out.extend_from_slice(name.as_bytes());
    out.push(b'\n');
    write_data(out, data);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn split(chunks: &[&[u8]]) -> Vec<Vec<u8>> {
        let mut splitter = EventSplitter::new(1000);
        let mut events = Vec::new();
        for chunk in chunks {
            splitter.push(Bytes::copy_from_slice(chunk), &mut events).unwrap();
        }
        events.extend(splitter.finish());
        events.into_iter().map(|event| event.to_vec()).collect()
    }

    #[test]
    fn all_line_ends_end_events() {
        assert_eq!(split(&[b"data: a\n\ndata: b\n\n"]), [&b"data: a\n\n"[..], b"data: b\n\n"]);
        assert_eq!(split(&[b"data: a\r\n\r\ndata: b\r\n\r\n"]).len(), 2);
        assert_eq!(split(&[b"data: a\r\rdata: b\r\r"]).len(), 2);
        assert_eq!(split(&[b"data: a\r\n\r", b"\ndata: b\n\n"])[0], b"data: a\r\n\r\n");
        assert_eq!(split(&[b"data: a\r\r", b"data: b\n\n"])[0], b"data: a\r\r");
        assert_eq!(split(&[b"data: a\ndata: b\n\n"]).len(), 1);
        assert_eq!(split(&[b": comment\n\nda", b"ta: x\n", b"\n", b"tail"]).len(), 3);
    }

    #[test]
    fn an_event_in_one_chunk_is_not_copied() {
        let chunk = Bytes::from_static(b"data: a\n\n");
        let mut events = Vec::new();
        EventSplitter::new(100).push(chunk.clone(), &mut events).unwrap();
        assert_eq!(events[0].as_ptr(), chunk.as_ptr());
    }

    #[test]
    fn endless_events_are_refused() {
        let mut splitter = EventSplitter::new(100);
        let chunk = Bytes::from(vec![b'x'; 60]);
        splitter.push(chunk.clone(), &mut Vec::new()).unwrap();
        assert!(splitter.push(chunk, &mut Vec::new()).is_err());
    }

    #[test]
    fn fields_are_read() {
        let event = Event::read(
            b"\xef\xbb\xbfevent: x\r\ndata:{\"a\":\r\ndata: 1}\r\nid: 7\r\n: no\r\n\r\n",
        );
        assert_eq!(event.name, Some("x"));
        assert_eq!(event.data.as_deref(), Some("{\"a\":\n1}"));
        assert!(Event::read(DONE).is_done());
        assert_eq!(Event::read(b": ping\n\n").data, None);
    }

    proptest! {
        #[test]
        fn cuts_do_not_matter(
            parts in prop::collection::vec(
                prop_oneof![Just("data: xyz"), Just("\n"), Just("\r\n"), Just("\r"), Just(": c")], 0..40,
            ),
            step in 1..9usize,
        ) {
            let text = parts.concat().into_bytes();
            let whole = split(&[&text]);
            let pieces: Vec<&[u8]> = text.chunks(step).collect();
            prop_assert_eq!(&split(&pieces), &whole);
            prop_assert_eq!(whole.concat(), text);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            for event in split(&[&bytes]) {
                let _ = Event::read(&event);
            }
        }
    }
}
