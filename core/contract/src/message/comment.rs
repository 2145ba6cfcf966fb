//! Comments that people write to transfers (TEP-2 of old, "text comment": 32 zero bits, then UTF-8
//! in a chain of cells).

use crate::Fault;
use crate::cell::{Cell, Reader, Writer};
use crate::op;

/// Longest comment written, bytes: a chain of some cells.
pub const COMMENT_LEN_MAX: usize = 960;
/// Bytes beside the 32 bits in the first cell.
const FIRST_LEN: usize = 123;
/// Bytes in each cell after it.
const NEXT_LEN: usize = 127;
/// Most cells read.
const CELLS_MAX: usize = 64;

const WHAT: &str = "comment";

/// Builds the body with this comment.
///
/// # Errors
/// [`Fault::Range`] above [`COMMENT_LEN_MAX`]: ask for a shorter one.
pub fn comment(text: &str) -> Result<Cell, Fault> {
    let bytes = text.as_bytes();
    if bytes.len() > COMMENT_LEN_MAX {
        let found = bytes.len() as u64;
        return Err(Fault::Range { what: WHAT, field: "length", found });
    }
    let (first, rest) = bytes.split_at(bytes.len().min(FIRST_LEN));
    let tail = rest.chunks(NEXT_LEN).rev().try_fold(None, |next: Option<Cell>, part| {
        let writer = Writer::new(WHAT).bytes(part);
        next.into_iter().fold(writer, Writer::reference).build().map(Some)
    })?;
    let writer = Writer::new(WHAT).u32(op::shared::TEXT).bytes(first);
    tail.into_iter().fold(writer, Writer::reference).build()
}

/// The comment in a body; `None` when the body is something else.
#[must_use]
pub fn read_comment(body: &Cell) -> Option<String> {
    let mut bytes = Vec::new();
    let mut cell = body.clone();
    for number in 0..CELLS_MAX {
        let mut reader = Reader::new(WHAT, &cell).ok()?;
        if number == 0 && reader.u32().ok()? != op::shared::TEXT {
            return None;
        }
        let length = reader.remaining_bits();
        if length % 8 != 0 {
            return None;
        }
        bytes.extend(reader.text(u64::from(length / 8)).ok()?);
        match reader.reference() {
            Ok(next) => cell = next,
            Err(_) => return String::from_utf8(bytes).ok(),
        }
    }
    None
}
