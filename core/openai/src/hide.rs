//! Taking the usage out of a stream whose user did not ask for it.
//!
//! The network always asks the model server for usage, since money depends on it. OpenAI's rule
//! is that a user who did not ask must not see the extra chunk: clients that take
//! `choices[0]` of every chunk would break on its empty list.

use bytes::Bytes;
use memchr::memmem;

use crate::json::{self, Kind};
use crate::sse::{EventSplitter, EventTooLong};

/// Removes usage from a stream of events. Chunks that end at a border of events and hold no
/// `"usage"` pass as they are, without copy.
#[derive(Debug)]
pub struct UsageHider {
    splitter: EventSplitter,
    events: Vec<Bytes>,
}

impl UsageHider {
    /// A hider for events up to `limit_bytes`.
    pub fn new(limit_bytes: usize) -> UsageHider {
        UsageHider { splitter: EventSplitter::new(limit_bytes), events: Vec::new() }
    }

    /// Takes a chunk and appends what may be shown. An unfinished event is kept back until its
    /// end comes.
    pub fn push(&mut self, chunk: Bytes, out: &mut Vec<Bytes>) -> Result<(), EventTooLong> {
        let whole = self.splitter.is_at_border() && chunk.ends_with(b"\n\n");
        if whole && memmem::find(&chunk, b"\"usage\"").is_none() {
            out.push(chunk);
            return Ok(());
        }
        self.splitter.push(chunk, &mut self.events)?;
        out.extend(self.events.drain(..).filter_map(show));
        Ok(())
    }

    /// What is left when the stream has ended.
    pub fn finish(&mut self) -> Option<Bytes> {
        self.splitter.finish().and_then(show)
    }
}

/// One event as the user may see it; `None` to drop it.
fn show(event: Bytes) -> Option<Bytes> {
    if memmem::find(&event, b"\"usage\"").is_none() {
        return Some(event);
    }
    // Multi-line data is legal but nobody sends it; then the usage stays visible.
    let Some(start) = memchr::memchr(b'{', &event) else { return Some(event) };
    let end = memchr::memrchr(b'}', &event).map_or(start, |at| at + 1);
    let Some(text) = event.get(start..end) else { return Some(event) };
    let Ok(object) = json::scan_object(text) else { return Some(event) };
    let Some(index) = object.members.iter().position(|member| member.name(text) == "usage") else {
        return Some(event);
    };
    let Some(usage) = object.members.get(index) else { return Some(event) };
    if usage.kind == Kind::Null {
        // Some servers write it into every chunk; it says nothing and harms nobody.
        return Some(event);
    }
    let choices = object.last(text, "choices");
    if choices.is_some_and(|choices| is_empty(choices.value_in(text))) {
        return None;
    }
    let before = index.checked_sub(1).and_then(|index| object.members.get(index));
    let cut = match (before, object.members.get(index + 1)) {
        (Some(before), _) => before.value.end..usage.value.end,
        (None, Some(after)) => usage.start..after.start,
        (None, None) => usage.start..usage.value.end,
    };
    let mut shown = Vec::with_capacity(event.len());
    shown.extend_from_slice(event.get(..start + cut.start)?);
    shown.extend_from_slice(event.get(start + cut.end..)?);
    Some(Bytes::from(shown))
}

fn is_empty(array: &[u8]) -> bool {
    array.iter().filter(|byte| !byte.is_ascii_whitespace()).eq(b"[]")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hide(chunks: &[&[u8]]) -> String {
        let mut hider = UsageHider::new(10_000);
        let mut out = Vec::new();
        for chunk in chunks {
            hider.push(Bytes::copy_from_slice(chunk), &mut out).unwrap();
        }
        out.extend(hider.finish());
        String::from_utf8(out.concat()).unwrap()
    }

    const STREAM: &[u8] = b"data: {\"choices\":[{\"delta\":{\"content\":\"usage\"}}],\"usage\":null}\n\n\
        data: {\"choices\":[{\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":1}, \"x\":1}\n\n\
        data: {\"choices\": [ ],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":2}}\n\n\
        data: [DONE]\n\n";

    const SHOWN: &str = "data: {\"choices\":[{\"delta\":{\"content\":\"usage\"}}],\"usage\":null}\n\n\
        data: {\"choices\":[{\"finish_reason\":\"stop\"}], \"x\":1}\n\n\
        data: [DONE]\n\n";

    #[test]
    fn the_usage_chunk_goes_and_members_are_stripped() {
        assert_eq!(hide(&[STREAM]), SHOWN);
        assert_eq!(hide(&[b"data: {\"usage\":{},\"a\":1}\n\n"]), "data: {\"a\":1}\n\n");
        assert_eq!(hide(&[b"data: {\"usage\":{}}\n\n"]), "data: {}\n\n");
    }

    #[test]
    fn chunks_without_usage_pass_uncopied() {
        let chunk = Bytes::from_static(b"data: {\"choices\":[{}]}\n\n");
        let mut out = Vec::new();
        UsageHider::new(100).push(chunk.clone(), &mut out).unwrap();
        assert_eq!(out[0].as_ptr(), chunk.as_ptr());
    }

    proptest! {
        #[test]
        fn cuts_do_not_matter(cuts in prop::collection::vec(0..STREAM.len(), 0..20)) {
            let mut cuts = cuts;
            cuts.extend([0, STREAM.len()]);
            cuts.sort_unstable();
            let chunks: Vec<&[u8]> = cuts.windows(2).map(|pair| &STREAM[pair[0]..pair[1]]).collect();
            prop_assert_eq!(hide(&chunks), SHOWN);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut hider = UsageHider::new(100);
            let mut chunk = b"\"usage\"{".to_vec();
            chunk.extend_from_slice(&bytes);
            let _ = hider.push(Bytes::from(chunk), &mut Vec::new());
            let _ = hider.finish();
        }
    }
}
