//! Packets of a connection, namespace `tcp` (protocol notes 1.3).

use crate::tl::{Blob, Boxed, Constructor as _, Text, bytes_size, write_nested};
use bytes::BufMut;

tl_struct! {
    /// Asks whether the peer lives; either side may send it.
    #[derive(Clone, Copy, Debug, PartialEq, Default)]
    Ping = "tcp.ping" 0xbbe9_627c {
        /// Id chosen by the sender.
        id: i64,
    }

    /// Answers a ping with its id.
    #[derive(Clone, Copy, Debug, PartialEq, Default)]
    Pong = "tcp.pong" 0x0bd4_302c {
        /// Id chosen by the sender.
        id: i64,
    }

    /// A one-way message (`tcp.packet`).
    #[derive(Clone, Debug, PartialEq, Default)]
    Message<'tl> = "tcp.packet" 0x9c17_baf8 {
        /// A boxed message.
        data: Blob<'tl>,
    }

    /// The result of a query.
    #[derive(Clone, Debug, PartialEq, Default)]
    QueryAnswer<'tl> = "tcp.queryAnswer" 0xc048_c311 {
        /// Id chosen by the sender.
        id: i64,
        /// A boxed result.
        data: Blob<'tl>,
    }

    /// A query failed.
    #[derive(Clone, Debug, PartialEq, Default)]
    QueryError<'tl> = "tcp.queryError" 0x4cd2_f602 {
        /// Id chosen by the sender.
        id: i64,
        /// Error code, see protocol notes 1.7.
        code: i32,
        /// What went wrong, for a log.
        message: Text<'tl>,
    }

    /// A query; every query gets an answer or an error.
    #[derive(Clone, Debug, PartialEq, Default)]
    Query<'tl> = "tcp.query" 0x3af5_1908 {
        /// Id chosen by the sender.
        id: i64,
        /// A boxed function call.
        data: Blob<'tl>,
    }

    /// First packet of the accepting side, echoes the id.
    #[derive(Clone, Copy, Debug, PartialEq, Default)]
    Connected = "tcp.connected" 0x636d_41d6 {
        /// Id chosen by the sender.
        id: i64,
    }

    /// First packet of the connecting side.
    #[derive(Clone, Copy, Debug, PartialEq, Default)]
    Connect = "tcp.connect" 0xa57c_4261 {
        /// Id chosen by the sender.
        id: i64,
    }
}

tl_enum! {
    /// Any packet; each frame holds exactly one.
    #[derive(Clone, Debug, PartialEq)]
    Packet<'tl> {
        /// Asks whether the peer lives.
        Ping(Ping),
        /// Answers a ping.
        Pong(Pong),
        /// A one-way message.
        Message(Message<'tl>),
        /// A query.
        Query(Query<'tl>),
        /// The result of a query.
        QueryAnswer(QueryAnswer<'tl>),
        /// A query failed.
        QueryError(QueryError<'tl>),
        /// First packet of the connecting side.
        Connect(Connect),
        /// First packet of the accepting side.
        Connected(Connected),
    }
}

/// Appends a one-way message around `object`, without a copy in between.
pub fn write_message<'tl, B: BufMut, T: Boxed<'tl>>(out: &mut B, object: &T) {
    out.put_u32_le(Message::ID);
    write_nested(out, object);
}

/// Appends a query around `function`, without a copy in between.
pub fn write_query<'tl, B: BufMut, T: Boxed<'tl>>(out: &mut B, id: i64, function: &T) {
    out.put_u32_le(Query::ID);
    out.put_i64_le(id);
    write_nested(out, function);
}

/// Appends the result of the query `id`, without a copy in between.
pub fn write_answer<'tl, B: BufMut, T: Boxed<'tl>>(out: &mut B, id: i64, result: &T) {
    out.put_u32_le(QueryAnswer::ID);
    out.put_i64_le(id);
    write_nested(out, result);
}

/// Bytes that [`write_message`] appends.
#[must_use]
pub fn message_size<'tl, T: Boxed<'tl>>(object: &T) -> usize {
    4 + bytes_size(object.boxed_size())
}

/// Bytes that [`write_query`] and [`write_answer`] append.
#[must_use]
pub fn query_size<'tl, T: Boxed<'tl>>(object: &T) -> usize {
    12 + bytes_size(object.boxed_size())
}
