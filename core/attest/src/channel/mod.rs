//! Fresh evidence over the established connection, bound so that it cannot be relayed.
//!
//! A certificate with a quote can be shown by whoever holds its key, for as long as it
//! lives. So after the TLS handshake, and before the first request, both sides draw a nonce
//! and the side that attests has its TEE sign a [`Statement`] over the other's nonce and
//! this very connection. The verifying side builds the statement it expects from what it
//! knows itself and compares.
//!
//! ```text
//!      one side                              other side
//!  Handshake::start ── Hello(nonce a) ──▶
//!                   ◀── Hello(nonce b) ──
//!  Quote(statement over b) ─ Offer ─────▶  Verify(expected statement over b)
//!  Verify(expected over a) ◀──── Offer ──  Quote(statement over a)
//! ```
//!
//! [`Handshake`] decides; the connection, the TEE and the collateral belong to the caller.

mod fault;
mod handshake;
mod message;
mod standing;
mod statement;

pub use fault::HandshakeFault;
pub use handshake::{Demand, Dialled, Effect, Exporter, Handshake, Local, Nonce};
pub use message::{Announcement, Hello, MESSAGE_LIMIT, Message, Offer};
pub use standing::{HANDSHAKE_LIMIT_MS, Renewing, Standing};
pub use statement::{
    ADDRESS_LIMIT, ChannelRole, EXPORTER_LABEL, STATEMENT_TAG, Statement, exporter_context,
    leaf_key_digest,
};
