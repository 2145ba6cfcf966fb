//! A multipart form (RFC 7578), looked into like a JSON body: for transcriptions.
//!
//! Fields of the network are cut out, everything else keeps its bytes.

use std::ops::Range;

use bytes::Bytes;
use memchr::memmem;

use crate::fault::ApiError;
use crate::request::MAX_MODEL_BYTES;
use crate::wishes::BodyWishes;

/// Most parts in a form.
pub const MAX_PARTS: usize = 64;

/// Longest head of a part, bytes.
pub(crate) const MAX_PART_HEAD_BYTES: usize = 4096;

/// What the network needs to know of a form.
#[derive(Debug, Clone, PartialEq)]
pub struct FormView {
    /// The model asked for.
    pub model: String,
    /// True when a stream of events was asked for.
    pub stream: bool,
    /// `max_tokens` or `max_completion_tokens`, when given.
    pub max_tokens: Option<u64>,
    /// The network's own wishes.
    pub wishes: BodyWishes,
    boundary: String,
    removed: Vec<Range<usize>>,
}

impl FormView {
    /// Looks into a form. The error is ready to be sent to the user.
    pub fn parse(content_type: &str, body: &[u8]) -> Result<FormView, ApiError> {
        let boundary = boundary_of(content_type)?;
        let mut view = FormView {
            model: String::new(),
            stream: false,
            max_tokens: None,
            wishes: BodyWishes::default(),
            removed: Vec::new(),
            boundary,
        };
        let mut has_file = false;
        for part in parts(body, &view.boundary)? {
            has_file |= part.name == "file";
            view.take(body, &part)?;
        }
        if view.model.is_empty() || view.model.len() > MAX_MODEL_BYTES {
            return Err(ApiError::invalid("model", "The form needs the field 'model'.")
                .with_code("missing_required_parameter"));
        }
        if !has_file {
            return Err(ApiError::invalid("file", "The form needs the field 'file'.")
                .with_code("missing_required_parameter"));
        }
        Ok(view)
    }

    fn take(&mut self, body: &[u8], part: &Part) -> Result<(), ApiError> {
        let text = || std::str::from_utf8(body.get(part.data.clone()).unwrap_or_default());
        match part.name.as_str() {
            "model" => self.model = text().unwrap_or_default().trim().to_owned(),
            "stream" => self.stream = matches!(text(), Ok("true" | "1" | "True")),
            "max_tokens" | "max_completion_tokens" => {
                let count = text().ok().and_then(|text| text.trim().parse::<i32>().ok());
                let count = count.and_then(|count| u64::try_from(count).ok()).ok_or_else(|| {
                    ApiError::invalid("max_tokens", "The token limit must be an integer above 0.")
                })?;
                self.max_tokens = self.max_tokens.max(Some(count));
            }
            name if BodyWishes::is_own(name) => {
                let text = text().map_err(|_| {
                    ApiError::invalid(part.name.clone(), format!("'{name}' is not UTF-8."))
                })?;
                self.wishes.set_form(name, text)?;
                self.removed.push(part.whole.clone());
            }
            _ => {}
        }
        Ok(())
    }

    /// The content type to send on. The blank before `boundary` is demanded by reference workers
    /// (protocol notes 10.2, 15).
    pub fn content_type(&self) -> String {
        format!("multipart/form-data; boundary={}", self.boundary)
    }

    /// The body for the model server.
    pub fn outgoing(&self, body: &Bytes) -> Bytes {
        if self.removed.is_empty() {
            return body.clone();
        }
        let mut out = Vec::with_capacity(body.len());
        let mut at = 0;
        for range in &self.removed {
            out.extend_from_slice(body.get(at..range.start).unwrap_or_default());
            at = range.end;
        }
        out.extend_from_slice(body.get(at..).unwrap_or_default());
        Bytes::from(out)
    }
}

/// One part of a form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The field's name.
    pub name: String,
    /// The name of the file that was sent, if one was.
    pub file_name: Option<String>,
    /// The part's content.
    pub data: Range<usize>,
    /// From its delimiter to the next one.
    whole: Range<usize>,
}

/// The parts of any form. The error is ready to be sent to the user.
pub fn read_parts(content_type: &str, body: &[u8]) -> Result<Vec<Part>, ApiError> {
    parts(body, &boundary_of(content_type)?)
}

pub(crate) fn boundary_of(content_type: &str) -> Result<String, ApiError> {
    boundary(content_type).ok_or_else(|| {
        let message = "The body must be multipart/form-data with a boundary.";
        ApiError::invalid("content-type", message)
    })
}

/// The boundary of a content type; at most 70 characters (RFC 2046, 5.1.1).
fn boundary(content_type: &str) -> Option<String> {
    let (kind, parameters) = content_type.split_once(';')?;
    if !kind.trim().eq_ignore_ascii_case("multipart/form-data") {
        return None;
    }
    let value = parameters.split(';').find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim().eq_ignore_ascii_case("boundary").then(|| value.trim().trim_matches('"'))
    })?;
    let fits = (1..=70).contains(&value.len())
        && value.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
    fits.then(|| value.to_owned())
}

pub(crate) fn broken() -> ApiError {
    ApiError::new(400, crate::fault::INVALID_REQUEST, "The form is not well formed.")
        .with_code("invalid_form")
}

pub(crate) fn too_many_parts() -> ApiError {
    ApiError::invalid("body", format!("The form has more than {MAX_PARTS} parts."))
}

fn parts(body: &[u8], boundary: &str) -> Result<Vec<Part>, ApiError> {
    let delimiter = format!("--{boundary}");
    let finder = memmem::Finder::new(delimiter.as_bytes());
    // A delimiter stands at the beginning of a line.
    let at_line =
        |at: &usize| *at == 0 || body.get(..*at).is_some_and(|head| head.ends_with(b"\r\n"));
    let marks: Vec<usize> = finder.find_iter(body).filter(at_line).take(MAX_PARTS + 2).collect();
    if marks.len() > MAX_PARTS + 1 {
        return Err(too_many_parts());
    }
    let mut parts = Vec::new();
    for pair in marks.windows(2) {
        let [mark, next] = *pair else { continue };
        let head_start = mark + delimiter.len();
        let section = body.get(head_start..next).ok_or_else(broken)?;
        let section = section.strip_prefix(b"\r\n").ok_or_else(broken)?;
        let head_len = memmem::find(section, b"\r\n\r\n").ok_or_else(broken)?;
        if head_len > MAX_PART_HEAD_BYTES {
            return Err(broken());
        }
        let head = section.get(..head_len).unwrap_or_default();
        let data = head_start + 2 + head_len + 4..next.saturating_sub(2);
        if data.start > data.end {
            return Err(broken());
        }
        let name = disposition(head, "name").ok_or_else(broken)?;
        let file_name = disposition(head, "filename");
        parts.push(Part { name, file_name, data, whole: mark..next });
    }
    let closed = marks.last().is_some_and(|mark| {
        body.get(mark + delimiter.len()..).is_some_and(|rest| rest.starts_with(b"--"))
    });
    if closed { Ok(parts) } else { Err(broken()) }
}

/// A parameter of a part's `Content-Disposition`.
pub(crate) fn disposition(head: &[u8], wanted: &str) -> Option<String> {
    let head = std::str::from_utf8(head).ok()?;
    let line = head.split("\r\n").find(|line| {
        line.get(..20).is_some_and(|start| start.eq_ignore_ascii_case("content-disposition:"))
    })?;
    line.split(';').skip(1).find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim().eq_ignore_ascii_case(wanted).then(|| value.trim().trim_matches('"').to_owned())
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BODY: &[u8] = b"--XX\r\nContent-Disposition: form-data; name=\"timeout\"\r\n\r\n7\r\n\
        --XX\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nwhisper\r\n\
        --XX\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a;b.wav\"\r\n\
        Content-Type: audio/wav\r\n\r\nRIFF--XX\x00\xff\r\n--XX--\r\n";

    #[test]
    fn the_form_is_read_and_our_fields_are_cut_out() {
        let view = FormView::parse("multipart/form-data;boundary=\"XX\"", BODY).unwrap();
        assert_eq!((view.model.as_str(), view.wishes.timeout_ms), ("whisper", Some(7000)));
        let out = view.outgoing(&Bytes::from_static(BODY));
        assert!(!out.windows(7).any(|text| text == b"timeout"));
        assert!(out.ends_with(b"RIFF--XX\x00\xff\r\n--XX--\r\n"));
        assert_eq!(view.content_type(), "multipart/form-data; boundary=XX");
        let again = FormView::parse(&view.content_type(), &out).unwrap();
        assert_eq!(again.outgoing(&out).as_ptr(), out.as_ptr());
    }

    #[test]
    fn broken_forms_are_refused() {
        let kind = "multipart/form-data; boundary=XX";
        for body in [&b""[..], b"--XX", b"--XX\r\nfoo", &BODY[..BODY.len() - 8]] {
            assert_eq!(FormView::parse(kind, body).unwrap_err().status, 400);
        }
        assert!(FormView::parse("application/json", BODY).is_err());
        assert!(FormView::parse("multipart/form-data", BODY).is_err());
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(
            pieces in prop::collection::vec(prop_oneof![
                Just(b"--X".to_vec()), Just(b"\r\n".to_vec()), Just(b"--".to_vec()),
                Just(b"Content-Disposition: form-data; name=\"timeout\"".to_vec()),
                prop::collection::vec(any::<u8>(), 0..6),
            ], 0..30),
        ) {
            let _ = FormView::parse("multipart/form-data; boundary=X", &pieces.concat());
        }
    }
}
