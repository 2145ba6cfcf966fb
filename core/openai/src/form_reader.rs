//! A multipart form (RFC 7578) as it comes, for files too large to be held: parts are told piece by
//! piece, and no more than a part's head is kept.
//!
//! It takes and refuses what [`crate::form::read_parts`] does with the whole form.

use memchr::memmem::{self, Finder};

use crate::fault::ApiError;
use crate::form::{
    MAX_PART_HEAD_BYTES, MAX_PARTS, boundary_of, broken, disposition, too_many_parts,
};

/// What comes next in a form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FormPiece<'a> {
    /// A part begins.
    Part {
        /// The field's name.
        name: &'a str,
        /// The name of the file that was sent, if one was.
        file_name: Option<&'a str>,
    },
    /// More of its content.
    Data(&'a [u8]),
}

/// Reads a form that comes in pieces of any size.
#[derive(Debug)]
pub struct FormReader {
    /// Finds the line that stands before and behind each part, its line break included.
    delimiter: Finder<'static>,
    buffer: Vec<u8>,
    state: State,
    parts: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before the first delimiter.
    Preamble,
    /// Behind a delimiter.
    Delimited,
    /// In a head; the buffer begins with the line break before it.
    Head,
    /// In front of a part's content; the buffer begins with the line break that ends its head.
    Data0,
    /// Within a part's content.
    Data,
    /// Behind the last delimiter.
    Epilogue,
}

impl FormReader {
    /// A reader for a body of this content type. The error is ready to be sent to the user.
    pub fn new(content_type: &str) -> Result<FormReader, ApiError> {
        let delimiter = format!("\r\n--{}", boundary_of(content_type)?);
        Ok(FormReader {
            delimiter: Finder::new(delimiter.as_bytes()).into_owned(),
            // The first delimiter has no line break before it.
            buffer: b"\r\n".to_vec(),
            state: State::Preamble,
            parts: 0,
        })
    }

    /// Takes the next bytes of the body and tells what is in them. The error is ready to be sent to
    /// the user; the reader is of no use behind it.
    pub fn push(
        &mut self,
        bytes: &[u8],
        mut seen: impl FnMut(FormPiece<'_>),
    ) -> Result<(), ApiError> {
        self.buffer.extend_from_slice(bytes);
        while self.step(&mut seen)? {}
        Ok(())
    }

    /// Ends the body: an error when the form is not closed.
    pub fn finish(self) -> Result<(), ApiError> {
        if self.state == State::Epilogue { Ok(()) } else { Err(broken()) }
    }

    /// Goes one step on; false when more bytes are needed.
    fn step(&mut self, seen: &mut impl FnMut(FormPiece<'_>)) -> Result<bool, ApiError> {
        let delimiter_len = self.delimiter.needle().len();
        match self.state {
            State::Preamble => Ok(self.pass(State::Delimited, |_| {})),
            State::Data => Ok(self.pass(State::Delimited, |data| seen(FormPiece::Data(data)))),
            // Whatever follows is ignored, but not another part.
            State::Epilogue => {
                if self.pass(State::Epilogue, |_| {}) {
                    Err(broken())
                } else {
                    Ok(false)
                }
            }
            State::Delimited => match self.buffer.get(..2) {
                None => Ok(false),
                Some(b"--") => {
                    self.state = State::Epilogue;
                    Ok(true)
                }
                Some(b"\r\n") if self.parts == MAX_PARTS => Err(too_many_parts()),
                Some(b"\r\n") => {
                    self.parts += 1;
                    self.state = State::Head;
                    Ok(true)
                }
                Some(_) => Err(broken()),
            },
            State::Head => self.head(seen),
            State::Data0 if self.buffer.len() < delimiter_len => Ok(false),
            State::Data0 if self.buffer.starts_with(self.delimiter.needle()) => Err(broken()),
            State::Data0 => {
                self.buffer.drain(..2);
                self.state = State::Data;
                Ok(true)
            }
        }
    }

    /// Hands out what stands before the next delimiter, and goes behind it if it is there.
    fn pass(&mut self, behind: State, mut seen: impl FnMut(&[u8])) -> bool {
        let needle = self.delimiter.needle().len();
        let found = self.delimiter.find(&self.buffer);
        let clear = found.unwrap_or_else(|| (self.buffer.len() + 1).saturating_sub(needle));
        match self.buffer.get(..clear) {
            Some(data) if !data.is_empty() => seen(data),
            _ => {}
        }
        self.buffer.drain(..clear + found.map_or(0, |_| needle));
        if found.is_some() {
            self.state = behind;
        }
        found.is_some()
    }

    fn head(&mut self, seen: &mut impl FnMut(FormPiece<'_>)) -> Result<bool, ApiError> {
        let lines = self.buffer.get(2..).unwrap_or_default();
        let end = memmem::find(lines, b"\r\n\r\n");
        // A delimiter within the head, or in place of its end.
        let searched = end.map_or(self.buffer.len(), |end| end + 4);
        let has_delimiter =
            self.buffer.get(..searched).is_some_and(|head| self.delimiter.find(head).is_some());
        if has_delimiter || end.unwrap_or(lines.len()) > MAX_PART_HEAD_BYTES + 3 {
            return Err(broken());
        }
        let Some(end) = end else { return Ok(false) };
        if end > MAX_PART_HEAD_BYTES {
            return Err(broken());
        }
        let head = lines.get(..end).unwrap_or_default();
        let name = disposition(head, "name").ok_or_else(broken)?;
        let file_name = disposition(head, "filename");
        seen(FormPiece::Part { name: &name, file_name: file_name.as_deref() });
        self.buffer.drain(..end + 4);
        self.state = State::Data0;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::form::read_parts;

    type Parts = Vec<(String, Option<String>, Vec<u8>)>;

    fn streamed(kind: &str, body: &[u8], piece: usize) -> Result<Parts, ApiError> {
        let mut reader = FormReader::new(kind)?;
        let mut parts = Parts::new();
        for bytes in body.chunks(piece) {
            reader.push(bytes, |seen| match seen {
                FormPiece::Part { name, file_name } => {
                    parts.push((name.to_owned(), file_name.map(str::to_owned), Vec::new()));
                }
                FormPiece::Data(data) => parts.last_mut().unwrap().2.extend_from_slice(data),
            })?;
            assert!(reader.buffer.len() < piece + MAX_PART_HEAD_BYTES + 16, "nothing is held");
        }
        reader.finish()?;
        Ok(parts)
    }

    fn whole(kind: &str, body: &[u8]) -> Result<Parts, ApiError> {
        let parts = read_parts(kind, body)?.into_iter();
        Ok(parts.map(|part| (part.name, part.file_name, body[part.data].to_vec())).collect())
    }

    const KIND: &str = "multipart/form-data; boundary=X";

    #[test]
    fn a_long_file_passes_and_a_long_head_does_not() {
        let head = "Content-Disposition: form-data; name=\"file\"; filename=\"f\"";
        let content = vec![b'-'; 1 << 20];
        let body = [b"--X\r\n", head.as_bytes(), b"\r\n\r\n", &content, b"\r\n--X--"].concat();
        let parts = streamed(KIND, &body, 1000).unwrap();
        assert_eq!(parts, [("file".to_owned(), Some("f".to_owned()), content)]);
        let endless = [b"--X\r\n".to_vec(), vec![b'x'; 5000]].concat();
        assert_eq!(streamed(KIND, &endless, 1).unwrap_err().code.as_deref(), Some("invalid_form"));
        let many =
            "--X\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n\r\n".repeat(MAX_PARTS + 1);
        let refused = streamed(KIND, format!("{many}--X--").as_bytes(), 7).unwrap_err();
        assert_eq!(Err(refused), whole(KIND, format!("{many}--X--").as_bytes()));
    }

    proptest! {
        #[test]
        fn pieces_and_the_whole_are_read_alike(
            tokens in prop::collection::vec(prop_oneof![
                Just(b"\r\n--X\r\n".to_vec()), Just(b"--X".to_vec()), Just(b"\r\n".to_vec()), Just(b"--".to_vec()),
                Just(b"Content-Disposition: form-data; name=\"a\"\r\n\r\n".to_vec()),
                Just(b"\r\n--X--".to_vec()), Just(b"\r".to_vec()), Just(b"data".to_vec()),
                prop::collection::vec(any::<u8>(), 0..6),
            ], 0..16),
            piece in 1usize..40,
        ) {
            for body in [tokens.concat(), [&b"--X\r\n"[..], &tokens.concat(), b"\r\n--X--"].concat()] {
                let (streamed, whole) = (streamed(KIND, &body, piece), whole(KIND, &body));
                prop_assert_eq!(streamed.is_ok(), whole.is_ok(), "{:?}", String::from_utf8_lossy(&body));
                if let Ok(whole) = whole {
                    prop_assert_eq!(streamed.unwrap(), whole);
                }
            }
        }
    }
}
