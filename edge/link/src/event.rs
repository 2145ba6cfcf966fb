//! What connections tell the node loop.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use cocoon_attest::PeerVerdicts;
use cocoon_ratls::PeerIdentity;

use crate::fault::OpenFault;
use crate::handle::LinkHandle;

/// Names one connection, or one attempt to dial; never used twice in a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnId(pub u64);

/// Chosen by the node when it listens or dials, to tell ports and targets apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag(pub u64);

/// One event of one connection.
#[derive(Debug)]
pub struct LinkEvent {
    /// Which connection.
    pub conn: ConnId,
    /// What happened.
    pub event: Event,
}

/// What happened on a connection. [`Event::Opened`] comes first, [`Event::Closed`] last;
/// between them the order is the peer's. `Debug` never shows data.
#[derive(Debug)]
pub enum Event {
    /// Both first frames were exchanged.
    Opened(Opened),
    /// What evidence says of the peer: after the introductions, and again whenever the peer
    /// renewed it. Comes only on routes and entries with a [`crate::Guard`].
    Attested(Box<PeerVerdicts>),
    /// A one-way message: one boxed TL object.
    Message(Opaque),
    /// The peer asks: answer, or fail, this id with the handle.
    Query {
        /// The peer's id of the query.
        id: i64,
        /// One boxed TL object.
        data: Opaque,
    },
    /// The peer answered a query of ours.
    Answer {
        /// Our id of the query.
        id: i64,
        /// One boxed TL object.
        data: Opaque,
    },
    /// A query of ours failed: by the peer's word, its deadline (652) or the end of the
    /// connection (653).
    QueryFailed {
        /// Our id of the query.
        id: i64,
        /// Code of protocol notes 1.7.
        code: i32,
        /// The peer's or our words.
        message: String,
    },
    /// The connection is over.
    Closed(cocoon_session::Fault),
    /// An attempt to dial failed; the only event of its id. A kept link dials again by itself.
    DialFailed {
        /// The tag given when dialling.
        tag: Tag,
        /// Whom we dialled.
        target: SocketAddr,
        /// Why it failed.
        fault: Arc<OpenFault>,
    },
}

/// A connection that became ready.
#[derive(Debug)]
pub struct Opened {
    /// Sends to the peer. The connection closes when the last clone is dropped.
    pub link: LinkHandle,
    /// What is known about the peer.
    pub identity: PeerIdentity,
    /// The other end of our socket: the peer, or our router.
    pub remote: SocketAddr,
    /// Where the connection comes from.
    pub origin: Origin,
}

/// Where a connection comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// We dialled, with this tag.
    Dialled(Tag),
    /// A peer came to the port with this tag.
    Accepted(Tag),
}

/// Bytes of one boxed TL object; `Debug` shows their number only.
#[derive(Clone, PartialEq, Eq)]
pub struct Opaque(pub Bytes);

impl std::fmt::Debug for Opaque {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} bytes", self.0.len())
    }
}

impl std::ops::Deref for Opaque {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}
