//! Why a channel handshake ends without a channel.

use thiserror::Error;

use super::statement::ChannelRole;
use crate::codec::Malformed;
use crate::fault::{BadEvidence, CannotCheck};
use crate::verdict::ClaimKind;

/// The handshake failed. Close the connection; nothing may be sent or believed on it.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum HandshakeFault {
    /// The peer sent bytes that are no message of the handshake.
    #[error("the peer's handshake message cannot be read: {detail}")]
    Malformed {
        /// Where reading stopped.
        detail: &'static str,
    },
    /// The peer sent a message out of order, or one twice.
    #[error("the peer sent {what} out of order")]
    OutOfOrder {
        /// Which message.
        what: &'static str,
    },
    /// The peer sent our own nonce back.
    #[error("the peer sent our own nonce back: it reflects our messages")]
    Reflected,
    /// The peer plays another role than the one this connection is for.
    #[error("the peer says it is a {found:?}, this connection is for a {expected:?}")]
    WrongRole {
        /// Role expected here.
        expected: ChannelRole,
        /// Role stated.
        found: ChannelRole,
    },
    /// The peer offers no fresh evidence although this side demands it: an old peer, or
    /// somebody in between took the offer away.
    #[error("the peer offers no fresh evidence, which the policy demands")]
    Downgraded,
    /// The peer demands fresh evidence that this side cannot make.
    #[error("the peer demands fresh evidence, which this node cannot make; run it in a TEE")]
    Unable,
    /// The TLS session gives no exporter. Without it nothing ties evidence to the
    /// connection, so neither side goes on.
    #[error("the TLS session gives no exporter; evidence cannot be tied to the connection")]
    NoExporter,
    /// The peer states another id than the one dialled.
    #[error("the peer states the id {found}, the one wanted is {expected}")]
    WrongId {
        /// Id wanted, hex.
        expected: String,
        /// Id stated, hex.
        found: String,
    },
    /// The peer dialled an address that is none of ours: somebody led it here.
    #[error("the peer dialled {dialled}, which is no address of this node; somebody diverted it")]
    Diverted {
        /// The address that the peer says it dialled.
        dialled: String,
    },
    /// The statement is out of its time or lives too long.
    #[error("the peer's statement ends at {not_after_s} (Unix seconds), which is {detail}")]
    Lifetime {
        /// Its last second.
        not_after_s: u64,
        /// Too early or too late.
        detail: &'static str,
    },
    /// This node's own TEE gave no evidence.
    #[error("this node's TEE gave no evidence; see its log")]
    NoQuote,
    /// The peer's evidence is bad.
    #[error("the peer's evidence is refused: {0}")]
    Refused(BadEvidence),
    /// The peer's evidence cannot be checked now; try again later.
    #[error("the peer's evidence cannot be checked now: {0}")]
    Undecided(CannotCheck),
    /// The verdict lacks a claim that a channel cannot do without.
    #[error("the verdict does not show {claim:?}, which a channel cannot do without")]
    Unshown {
        /// The claim.
        claim: ClaimKind,
    },
    /// The handshake was not over in time, or the evidence grew old before it was renewed.
    #[error("the peer showed no fresh evidence within {limit_ms} ms")]
    TooSlow {
        /// Time it was given.
        limit_ms: u64,
    },
    /// The peer sent something else before it had shown its evidence.
    #[error("the peer sent something else before it had shown its evidence")]
    Premature,
    /// The fresh evidence is about another machine than the certificate's.
    #[error("the peer's fresh evidence shows another {what} than its certificate")]
    OtherMachine {
        /// What differs.
        what: &'static str,
    },
    /// The caller handed in a verdict over other evidence: a bug of this program.
    #[error("the verdict is about other evidence than the peer's")]
    ForeignVerdict,
}

impl From<Malformed> for HandshakeFault {
    fn from(Malformed(detail): Malformed) -> Self {
        Self::Malformed { detail }
    }
}
