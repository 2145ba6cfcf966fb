//! The stack of get-methods as bags of cells.

use cocoon_localchain::{StackEntry, decode_stack, encode_stack};
use tycho_types::boc::Boc;

/// Reads arguments; no bytes are no arguments.
pub(crate) fn decode(bytes: &[u8]) -> Option<Vec<StackEntry>> {
    if bytes.is_empty() {
        return Some(Vec::new());
    }
    decode_stack(&Boc::decode(bytes).ok()?)
}

/// Writes a result.
pub(crate) fn encode(stack: &[StackEntry]) -> Option<Vec<u8>> {
    encode_stack(stack).map(Boc::encode)
}
