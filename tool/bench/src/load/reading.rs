//! Reading an answer: how many events, and whether it is whole.

use super::Shape;
use memchr::memmem;
use std::time::{Duration, Instant};
use thiserror::Error;

/// Why an answer with status 200 is none.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq, PartialOrd, Ord)]
pub enum Broken {
    /// No connection.
    #[error("connect")]
    Connect,
    /// The request could not be sent, or no head came back.
    #[error("send")]
    Send,
    /// The body broke off.
    #[error("read")]
    Read,
    /// It took too long.
    #[error("timeout")]
    Timeout,
    /// A stream without its end, or a whole answer that is no JSON object.
    #[error("truncated")]
    Truncated,
    /// A stream that ended with an error.
    #[error("error event")]
    ErrorEvent,
}

const DONE: &[u8] = b"[DONE]";
const ERROR: &[u8] = b"data: {\"error\"";

/// Follows the body of one answer.
#[derive(Debug)]
pub(crate) struct Reading {
    shape: Shape,
    pub(crate) bytes: u64,
    pub(crate) events: u64,
    /// When the first and the latest bytes came.
    pub(crate) first: Option<Instant>,
    last: Option<Instant>,
    /// The end of what came so far, for patterns that lie across two pieces.
    tail: Tail,
    opened: bool,
    failed: bool,
}

impl Reading {
    pub(crate) fn new(shape: Shape) -> Self {
        Self {
            shape,
            bytes: 0,
            events: 0,
            first: None,
            last: None,
            tail: Tail::default(),
            opened: false,
            failed: false,
        }
    }

    /// Takes the next piece. Returns how long after the previous one it came.
    pub(crate) fn piece(&mut self, piece: &[u8], now: Instant) -> Option<Duration> {
        let first = piece.first()?;
        if self.bytes == 0 {
            self.opened = *first == b'{';
        }
        self.bytes += piece.len() as u64;
        if self.shape == Shape::Stream {
            // An event ends with a blank line, which may lie across two pieces.
            let across = self.tail.ends_with_line() && *first == b'\n';
            let inside = memmem::find_iter(piece, b"\n\n").count() as u64;
            self.events += inside + u64::from(across);
            self.failed |= memmem::find(piece, ERROR).is_some();
        }
        self.tail.push(piece);
        self.first.get_or_insert(now);
        let gap = self.last.map(|last| now.saturating_duration_since(last));
        self.last = Some(now);
        gap
    }

    /// Whether the answer was whole.
    pub(crate) fn end(&self) -> Result<(), Broken> {
        if self.failed {
            return Err(Broken::ErrorEvent);
        }
        let whole = match self.shape {
            Shape::Stream => memmem::find(self.tail.bytes(), DONE).is_some(),
            Shape::Small => self.opened && self.tail.bytes().trim_ascii().ends_with(b"}"),
        };
        if whole { Ok(()) } else { Err(Broken::Truncated) }
    }
}

/// The last bytes of a stream: room for the end mark and what may follow it.
#[derive(Debug, Default)]
struct Tail {
    kept: [u8; 16],
    len: usize,
}

impl Tail {
    fn push(&mut self, piece: &[u8]) {
        let room = self.kept.len();
        let piece = piece.get(piece.len().saturating_sub(room)..).unwrap_or_default();
        let keep = self.len.min(room - piece.len());
        self.kept.copy_within(self.len - keep..self.len, 0);
        if let Some(place) = self.kept.get_mut(keep..keep + piece.len()) {
            place.copy_from_slice(piece);
        }
        self.len = keep + piece.len();
    }

    fn bytes(&self) -> &[u8] {
        self.kept.get(..self.len).unwrap_or_default()
    }

    fn ends_with_line(&self) -> bool {
        self.bytes().ends_with(b"\n")
    }
}

#[cfg(test)]
mod tests {
    use super::{Broken, Reading, Tail};
    use crate::load::Shape;
    use proptest::prelude::*;
    use std::time::Instant;

    fn read(shape: Shape, pieces: &[&[u8]]) -> (u64, Result<(), Broken>) {
        let mut reading = Reading::new(shape);
        for piece in pieces {
            reading.piece(piece, Instant::now());
        }
        (reading.events, reading.end())
    }

    #[test]
    fn small_answers_are_objects() {
        assert_eq!(read(Shape::Small, &[b"{\"a\"", b":1}\n"]), (0, Ok(())));
        assert_eq!(read(Shape::Small, &[b"[1", b"}"]).1, Err(Broken::Truncated));
        assert_eq!(read(Shape::Small, &[b"{\"a\""]).1, Err(Broken::Truncated));
        assert_eq!(read(Shape::Small, &[]).1, Err(Broken::Truncated));
    }

    #[test]
    fn error_events_are_no_success() {
        let pieces: [&[u8]; 2] = [b"data: {}\n\n", b"data: {\"error\":{}}\n\ndata: [DONE]\n\n"];
        assert_eq!(read(Shape::Stream, &pieces), (3, Err(Broken::ErrorEvent)));
    }

    proptest! {
        /// However a stream is cut, it holds the same events and the same end.
        #[test]
        fn cuts_do_not_matter(cuts in prop::collection::vec(0..60_usize, 0..8)) {
            let stream: &[u8] = b"data: {\"a\":1}\n\ndata: {\"b\":2}\n\n: note\n\ndata: [DONE]\n\n";
            let mut cuts: Vec<usize> = cuts.into_iter().map(|at| at.min(stream.len())).collect();
            cuts.sort_unstable();
            let mut pieces = Vec::new();
            let mut from = 0;
            for at in cuts {
                pieces.push(&stream[from..at]);
                from = at;
            }
            pieces.push(&stream[from..]);
            prop_assert_eq!(read(Shape::Stream, &pieces), (4, Ok(())));
        }

        #[test]
        fn tail_is_the_end(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..9)) {
            let mut tail = Tail::default();
            for piece in &pieces {
                tail.push(piece);
            }
            let all = pieces.concat();
            prop_assert_eq!(tail.bytes(), &all[all.len().saturating_sub(16)..]);
        }

        #[test]
        fn arbitrary_bytes_never_panic(
            pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..9),
            stream: bool,
        ) {
            let pieces: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
            let _ = read(if stream { Shape::Stream } else { Shape::Small }, &pieces);
        }
    }
}
