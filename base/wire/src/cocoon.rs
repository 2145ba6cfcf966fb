//! Our own additions to the protocol; `docs/protocol.md` is their specification.
//!
//! An addition is used only when both sides announced its bit in the `flags` word of their
//! `params`. A reference node ignores these bits, so it never sees the messages.

use cocoon_units::RequestId;

use crate::tl::Extensions;

/// Bit 16 of `params.flags`: the sender understands [`CancelQuery`].
pub const CANCEL_QUERY: Extensions = Extensions(1 << 16);

/// Every addition this version announces.
pub const ANNOUNCED: Extensions = CANCEL_QUERY;

/// Bits set aside for additions; others are neither announced nor interpreted.
pub const RESERVED_BITS: Extensions = Extensions(0x7fff_0000);

tl_struct! {
    /// Ends a running request early. One-way, from the asker to the one that runs it.
    ///
    /// The receiver stops the work and ends the request as it ends every request: with the
    /// last message of the answer, which carries what was used until then. There is no reply
    /// of its own; an id that does not run is ignored.
    #[derive(Clone, Copy, Debug, PartialEq, Default)]
    CancelQuery = "cocoon.cancelQuery" 0x3918_b1ac {
        /// The asker's id of the request.
        request_id: RequestId,
    }
}
