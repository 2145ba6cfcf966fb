//! Entry points for fuzzers: a connection on arbitrary bytes.

use crate::connection::{Connection, Side};
use crate::event::Event;
use crate::limits::Limits;

/// Feeds `data` to a connection of either side, cut as its first bytes say.
///
/// # Panics
/// When a law is broken: an event after the end, or output that outgrows the input.
pub fn connection(data: &[u8]) {
    let Some(([choice, cut], bytes)) = data.split_first_chunk() else { return };
    let side = if choice & 1 == 0 { Side::Accepting } else { Side::Connecting { connect_id: 1 } };
    let mut connection = Connection::new(side, Limits::accepting(), 0);
    let mut closed = false;
    for (piece, now_ms) in bytes.chunks(usize::from(*cut).max(1)).zip(1..) {
        connection.input().extend_from_slice(piece);
        while let Some(event) = connection.poll_event(now_ms) {
            assert!(!closed, "{event:?} after the end");
            closed = matches!(event, Event::Closed(_));
        }
        connection.tick(now_ms);
        assert!(connection.output().len() <= 20 + bytes.len(), "more output than input");
    }
}
