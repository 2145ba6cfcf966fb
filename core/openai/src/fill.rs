//! `"usage":null` in the chunks of a stream whose user asked for usage.
//!
//! OpenAI's rule for `stream_options.include_usage`: every chunk has the member, null in all but
//! the last one. Typed clients rely on it; many model servers leave it out.

use bytes::Bytes;
use memchr::memmem;

use crate::sse::{EventSplitter, EventTooLong};

/// Adds the member to chunks that lack it. Errors, comments, `[DONE]` and chunks that have it pass
/// as they are, without copy.
#[derive(Debug)]
pub struct UsageFiller {
    splitter: EventSplitter,
    events: Vec<Bytes>,
}

impl UsageFiller {
    /// A filler for events up to `limit_bytes`.
    pub fn new(limit_bytes: usize) -> UsageFiller {
        UsageFiller { splitter: EventSplitter::new(limit_bytes), events: Vec::new() }
    }

    /// Takes a chunk and appends what is shown. An unfinished event is kept back until its end
    /// comes.
    ///
    /// # Errors
    /// [`EventTooLong`]: the peer is at fault, end the stream with an error.
    pub fn push(&mut self, chunk: Bytes, out: &mut Vec<Bytes>) -> Result<(), EventTooLong> {
        self.splitter.push(chunk, &mut self.events)?;
        out.extend(self.events.drain(..).map(fill));
        Ok(())
    }

    /// What is left when the stream has ended.
    pub fn finish(&mut self) -> Option<Bytes> {
        self.splitter.finish().map(fill)
    }
}

/// One event with the member, if it is a chunk that lacks it.
fn fill(event: Bytes) -> Bytes {
    let has = |text: &[u8]| memmem::find(&event, text).is_some();
    // A chunk is known by its choices; text inside a JSON string has its quotes escaped.
    if !event.starts_with(b"data:") || !has(b"\"choices\"") || has(b"\"usage\"") {
        return event;
    }
    let Some(end) = memchr::memrchr(b'}', &event) else { return event };
    const MEMBER: &[u8] = b",\"usage\":null";
    let mut filled = Vec::with_capacity(event.len() + MEMBER.len());
    filled.extend_from_slice(event.get(..end).unwrap_or_default());
    filled.extend_from_slice(MEMBER);
    filled.extend_from_slice(event.get(end..).unwrap_or_default());
    Bytes::from(filled)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STREAM: &[u8] = b"data: {\"choices\":[{\"delta\":{\"content\":\"}\"}}]}\n\n: hi\n\n\
        data: {\"choices\":[],\"usage\":{\"prompt_tokens\":1}}\n\n\
        data: {\"error\":{\"message\":\"x\"}}\n\ndata: [DONE]\n\n";

    const SHOWN: &str = "data: {\"choices\":[{\"delta\":{\"content\":\"}\"}}],\"usage\":null}\n\n: hi\n\n\
        data: {\"choices\":[],\"usage\":{\"prompt_tokens\":1}}\n\n\
        data: {\"error\":{\"message\":\"x\"}}\n\ndata: [DONE]\n\n";

    proptest! {
        #[test]
        fn chunks_are_completed_wherever_they_are_cut(step in 1..STREAM.len()) {
            let mut filler = UsageFiller::new(1000);
            let mut out = Vec::new();
            for chunk in STREAM.chunks(step) {
                filler.push(Bytes::copy_from_slice(chunk), &mut out).unwrap();
            }
            out.extend(filler.finish());
            prop_assert_eq!(String::from_utf8(out.concat()).unwrap(), SHOWN);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut filler = UsageFiller::new(100);
            let mut chunk = b"data: {\"choices\"".to_vec();
            chunk.extend_from_slice(&bytes);
            let _ = filler.push(Bytes::from(chunk), &mut Vec::new());
            let _ = filler.finish();
        }
    }
}
