//! Joins the bytes of tokens to text: whole characters only, and never a stop sequence.

use std::collections::VecDeque;

use crate::generate::logprobs::PositionLogprobs;
use crate::model::TokenId;

/// One token of the answer, as it is reported beside the text.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TokenRecord {
    pub(crate) token: TokenId,
    /// Present when the request asked for log-probabilities.
    pub(crate) logprobs: Option<PositionLogprobs>,
}

/// What may be sent on now.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Released {
    pub(crate) text: String,
    /// The tokens whose text has been sent completely.
    pub(crate) tokens: Vec<TokenRecord>,
    /// A stop sequence was found; the text ends before it.
    pub(crate) stopped: bool,
}

/// The text of one answer under way.
///
/// Text that could be the beginning of a stop sequence is held back until it is known
/// whether it is one, and bytes until they are whole characters. Bytes that are no UTF-8
/// become U+FFFD.
#[derive(Debug, Default)]
pub(crate) struct Assembler {
    stops: Vec<String>,
    /// Bytes that are not yet a whole character; at most three.
    bytes: Vec<u8>,
    /// Decoded, but held back.
    held: String,
    /// Bytes of text sent on so far.
    released_bytes: usize,
    /// Tokens whose bytes are not all decoded.
    undecided: Vec<TokenRecord>,
    /// Tokens with the place where their text ends.
    waiting: VecDeque<(usize, TokenRecord)>,
}

impl Assembler {
    /// An empty text that ends before any of `stops`; empty stops are ignored.
    pub(crate) fn new(stops: Vec<String>) -> Self {
        let stops = stops.into_iter().filter(|stop| !stop.is_empty()).collect();
        Self { stops, ..Self::default() }
    }

    /// Adds a token that stands for `piece`.
    pub(crate) fn push(&mut self, record: TokenRecord, piece: &[u8]) -> Released {
        self.bytes.extend_from_slice(piece);
        let whole = whole_prefix(&self.bytes);
        let decoded: Vec<u8> = self.bytes.drain(..whole).collect();
        self.held.push_str(&String::from_utf8_lossy(&decoded));
        self.undecided.push(record);
        if self.bytes.is_empty() {
            self.settle_undecided();
        }
        if let Some(position) = self.first_stop() {
            self.held.truncate(position);
            return self.release(self.held.len(), true);
        }
        let free = self.held.len() - self.possible_stop_len();
        self.release(free, false)
    }

    /// The answer is over: everything that was held back comes out.
    pub(crate) fn finish(&mut self) -> Released {
        let rest = std::mem::take(&mut self.bytes);
        self.held.push_str(&String::from_utf8_lossy(&rest));
        self.settle_undecided();
        if let Some(position) = self.first_stop() {
            self.held.truncate(position);
            return self.release(self.held.len(), true);
        }
        self.release(self.held.len(), false)
    }

    fn settle_undecided(&mut self) {
        let end = self.released_bytes + self.held.len();
        self.waiting.extend(self.undecided.drain(..).map(|record| (end, record)));
    }

    fn release(&mut self, count: usize, stopped: bool) -> Released {
        let text: String = self.held.drain(..count).collect();
        self.released_bytes += text.len();
        let mut tokens = Vec::new();
        while self.waiting.front().is_some_and(|(end, _)| *end <= self.released_bytes) {
            tokens.extend(self.waiting.pop_front().map(|(_, record)| record));
        }
        Released { text, tokens, stopped }
    }

    /// Where the first stop sequence begins.
    fn first_stop(&self) -> Option<usize> {
        self.stops.iter().filter_map(|stop| self.held.find(stop.as_str())).min()
    }

    /// How many bytes at the end could be the beginning of a stop sequence.
    fn possible_stop_len(&self) -> usize {
        let beginning_len = |stop: &String| {
            let longest = stop.len().saturating_sub(1).min(self.held.len());
            (1..=longest)
                .rev()
                .find(|len| self.held.as_bytes().ends_with(&stop.as_bytes()[..*len]))
                // Both are UTF-8, but the stop may be cut inside a character here; then the
                // text cannot end so, since it holds whole characters only.
                .unwrap_or(0)
        };
        self.stops.iter().map(beginning_len).max().unwrap_or(0)
    }
}

/// How many bytes from the beginning are decided: all but an incomplete character at the
/// end (RFC 3629 section 3).
fn whole_prefix(bytes: &[u8]) -> usize {
    for back in 1..=bytes.len().min(3) {
        let position = bytes.len() - back;
        let wanted = match bytes.get(position) {
            Some(0xc2..=0xdf) => 2,
            Some(0xe0..=0xef) => 3,
            Some(0xf0..=0xf4) => 4,
            Some(0x80..=0xbf) => continue,
            _ => break,
        };
        if wanted > back {
            // Only a beginning that can still become valid is kept.
            let incomplete = std::str::from_utf8(&bytes[position..])
                .is_err_and(|fault| fault.error_len().is_none());
            return if incomplete { position } else { bytes.len() };
        }
        break;
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record(token: TokenId) -> TokenRecord {
        TokenRecord { token, logprobs: None }
    }

    /// Everything released for these pieces, piece by piece, and the tokens.
    fn run(stops: &[&str], pieces: &[&[u8]]) -> (Vec<String>, Vec<TokenId>, bool) {
        let mut assembler = Assembler::new(stops.iter().map(|stop| (*stop).to_owned()).collect());
        let mut texts = Vec::new();
        let mut tokens = Vec::new();
        for (token, piece) in (0..).zip(pieces) {
            let released = assembler.push(record(token), piece);
            texts.push(released.text);
            tokens.extend(released.tokens.into_iter().map(|record| record.token));
            if released.stopped {
                return (texts, tokens, true);
            }
        }
        let released = assembler.finish();
        texts.push(released.text);
        tokens.extend(released.tokens.into_iter().map(|record| record.token));
        (texts, tokens, released.stopped)
    }

    #[test]
    fn a_stop_across_tokens_is_never_shown() {
        let (texts, tokens, stopped) = run(&["END"], &[b"abc", b"dE", b"N", b"D and more"]);
        assert_eq!(texts, ["abc", "d", "", ""]);
        assert_eq!(tokens, [0]);
        assert!(stopped);
    }

    #[test]
    fn a_false_beginning_comes_out_later() {
        let (texts, tokens, stopped) = run(&["END", "XYZ"], &[b"aE", b"N", b"S", b"XY"]);
        assert_eq!(texts, ["a", "", "ENS", "", "XY"]);
        assert_eq!(tokens, [0, 1, 2, 3]);
        assert!(!stopped);
    }

    #[test]
    fn characters_are_never_cut() {
        let (texts, tokens, _) = run(&[], &[b"\xe2", b"\x82", b"\xac!", b"\xff", b"\xc3"]);
        assert_eq!(texts, ["", "", "€!", "\u{fffd}", "", "\u{fffd}"]);
        assert_eq!(tokens, [0, 1, 2, 3, 4]);
    }

    #[test]
    fn the_earliest_stop_wins() {
        let (texts, _, stopped) = run(&["cd", "b"], &[b"abcd"]);
        assert_eq!(texts, ["a"]);
        assert!(stopped);
    }

    proptest! {
        #[test]
        fn text_is_what_lies_before_the_first_stop(
            text in "[abé€]{0,40}",
            cuts in proptest::collection::vec(1_usize..5, 0..40),
            stops in proptest::collection::vec("[abé]{1,3}", 0..3),
        ) {
            let mut pieces = Vec::new();
            let mut rest = text.as_bytes();
            for cut in cuts {
                let (piece, after) = rest.split_at(cut.min(rest.len()));
                pieces.push(piece);
                rest = after;
            }
            pieces.push(rest);
            let stops: Vec<&str> = stops.iter().map(String::as_str).collect();
            let (texts, tokens, stopped) = run(&stops, &pieces);
            let first = stops.iter().filter_map(|stop| text.find(stop)).min();
            // With several stops, one that is complete earlier in the stream may begin later.
            let joined = texts.concat();
            if stops.len() < 2 {
                prop_assert_eq!(&joined, &text[..first.unwrap_or(text.len())]);
            }
            prop_assert!(stops.iter().all(|stop| !joined.contains(stop)));
            prop_assert_eq!(stopped, first.is_some());
            if !stopped {
                prop_assert_eq!(tokens.len(), pieces.len());
            }
        }

        #[test]
        fn any_bytes_give_their_lossy_text(
            pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..6), 0..20),
        ) {
            let slices: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
            let (texts, tokens, _) = run(&[], &slices);
            let all = pieces.concat();
            prop_assert_eq!(texts.concat(), String::from_utf8_lossy(&all));
            prop_assert_eq!(tokens.len(), pieces.len());
        }
    }
}
