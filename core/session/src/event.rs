//! What a connection tells its owner.

use std::fmt;

use bytes::Bytes;

use crate::fault::Fault;

/// Error codes of protocol notes 1.7 that a session makes up itself.
pub mod code {
    /// The answer did not come in time.
    pub const TIMEOUT: i32 = 652;
    /// The connection went away before the answer came.
    pub const CANCELLED: i32 = 653;
}

/// Something the owner of a connection has to know. `Debug` shows lengths instead of data:
/// prompts and answers travel in them.
#[derive(Clone, PartialEq, Eq)]
pub enum Event {
    /// Both first frames were exchanged; queries and messages may go out.
    Ready {
        /// The connecting side's id of this connection.
        peer_connect_id: i64,
    },
    /// A one-way message: one boxed TL object.
    Message(Bytes),
    /// A request of the peer: answer it, or fail it, with this id.
    Query {
        /// The peer's id of the query, to be echoed.
        id: i64,
        /// One boxed TL object.
        data: Bytes,
    },
    /// The peer's answer to a query of ours.
    Answer {
        /// Our id of the query.
        id: i64,
        /// One boxed TL object.
        data: Bytes,
    },
    /// A query of ours failed: by the peer's word, by its deadline ([`code::TIMEOUT`]) or by
    /// the end of the connection ([`code::CANCELLED`]). Exactly one of this and
    /// [`Event::Answer`] follows every accepted query.
    QueryFailed {
        /// Our id of the query.
        id: i64,
        /// Code of protocol notes 1.7.
        code: i32,
        /// The peer's or our words; not sanitised for display by the peer.
        message: String,
    },
    /// The connection is over. The last event.
    Closed(Fault),
}

impl fmt::Debug for Event {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ready { peer_connect_id } => write!(formatter, "Ready({peer_connect_id:#x})"),
            Self::Message(data) => write!(formatter, "Message({} bytes)", data.len()),
            Self::Query { id, data } => write!(formatter, "Query({id}, {} bytes)", data.len()),
            Self::Answer { id, data } => write!(formatter, "Answer({id}, {} bytes)", data.len()),
            Self::QueryFailed { id, code, .. } => write!(formatter, "QueryFailed({id}, {code})"),
            Self::Closed(fault) => write!(formatter, "Closed({fault:?})"),
        }
    }
}
