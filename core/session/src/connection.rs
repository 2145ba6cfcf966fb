//! One connection's life: first frames, then queries, messages and pings, then the end.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use cocoon_wire::tcp::{self, Packet};
use cocoon_wire::tl::{self, Boxed, Text};

use crate::event::{Event, code};
use crate::fault::{Fault, Refusal};
use crate::input::Input;
use crate::limits::Limits;
use crate::output::Output;
use crate::queries::OpenQueries;

/// Largest first packet: `tcp.connect` and `tcp.connected` take exactly 12 bytes. A peer that
/// has not even said hello gets no buffer for more.
const HELLO_LEN: usize = 12;

/// Which side of the connection we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// We dialled.
    Connecting {
        /// Random id of the connection.
        connect_id: i64,
    },
    /// We were dialled.
    Accepting,
}

/// How far the connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The peer's first frame is due.
    Hello,
    /// Everything may flow.
    Ready,
    /// Nothing is received or accepted any more; output may still be written.
    Closed,
}

/// The protocol of one connection, without socket and clock.
///
/// The hand puts received bytes into [`Connection::input`] and takes events with
/// [`Connection::poll_event`] until there are none; it writes [`Connection::output`] to the
/// socket and reports with [`Connection::written`]; it calls [`Connection::tick`] at
/// [`Connection::next_deadline_ms`]. Time is any clock in milliseconds that does not go back.
#[derive(Debug)]
pub struct Connection {
    side: Side,
    limits: Limits,
    phase: Phase,
    input: Input,
    output: Output,
    queries: OpenQueries,
    events: VecDeque<Event>,
    started_ms: u64,
    last_frame_ms: u64,
    pinged: bool,
    /// Since when output waits without progress; meaningless while there is none.
    stalled_since_ms: u64,
}

impl Connection {
    /// Starts a connection; the connecting side's first frame is in the output at once.
    #[must_use]
    pub fn new(side: Side, limits: Limits, now_ms: u64) -> Self {
        let mut connection = Self {
            side,
            phase: Phase::Hello,
            input: Input::default(),
            output: Output::new(limits.output_bytes_max),
            queries: OpenQueries::default(),
            events: VecDeque::new(),
            started_ms: now_ms,
            last_frame_ms: now_ms,
            pinged: false,
            stalled_since_ms: now_ms,
            limits,
        };
        if let Side::Connecting { connect_id } = side {
            connection.send_own(&tcp::Connect { id: connect_id }, now_ms);
        }
        connection
    }

    /// The buffer into which the hand reads from the socket. Call [`Connection::poll_event`]
    /// after each read and read on only when it has none left: then the buffer never holds
    /// more than one unfinished frame and one read.
    pub fn input(&mut self) -> &mut BytesMut {
        &mut self.input.bytes
    }

    /// Takes the next event out of the bytes received so far.
    pub fn poll_event(&mut self, now_ms: u64) -> Option<Event> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Some(event);
            }
            if self.phase == Phase::Closed {
                return None;
            }
            let payload_bytes_max = match self.phase {
                Phase::Hello => HELLO_LEN,
                _ => self.limits.received_payload_bytes_max,
            };
            match self.input.frame(payload_bytes_max) {
                Ok(Some(frame)) => {
                    self.last_frame_ms = now_ms;
                    self.pinged = false;
                    match self.receive(&frame, now_ms) {
                        Ok(Some(event)) => return Some(event),
                        Ok(None) => {}
                        Err(fault) => self.end(fault),
                    }
                }
                Ok(None) => return None,
                Err(fault) => self.end(fault),
            }
        }
    }

    /// Bytes to write to the socket, in order; empty when there are none.
    #[must_use]
    pub fn output(&self) -> &[u8] {
        self.output.bytes()
    }

    /// Tells that the socket took the first `count` bytes of [`Connection::output`].
    pub fn written(&mut self, count: usize, now_ms: u64) {
        self.output.consume(count);
        self.stalled_since_ms = now_ms;
    }

    /// Whether nothing but [`Connection::output`] is left to do.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.phase == Phase::Closed
    }

    /// Sends a one-way message: one boxed TL object, encoded straight into the output.
    ///
    /// # Errors
    /// See [`Refusal`]; nothing was sent.
    pub fn message<'tl, T: Boxed<'tl>>(&mut self, object: &T, now_ms: u64) -> Result<(), Refusal> {
        self.command(tcp::message_size(object), now_ms, |out| tcp::write_message(out, object))
    }

    /// Sends a query under `id`, which must be random and not in use. Either
    /// [`Event::Answer`] or [`Event::QueryFailed`] will follow, the latter at the latest after
    /// `timeout_ms`.
    ///
    /// # Errors
    /// See [`Refusal`]; nothing was sent and no event will follow.
    pub fn query<'tl, T: Boxed<'tl>>(
        &mut self,
        id: i64,
        function: &T,
        timeout_ms: u64,
        now_ms: u64,
    ) -> Result<(), Refusal> {
        if self.phase == Phase::Ready && self.queries.contains(id) {
            return Err(Refusal::QueryIdInUse { id });
        }
        if self.phase == Phase::Ready && self.queries.len() >= self.limits.queries_max {
            return Err(Refusal::TooManyQueries { limit: self.limits.queries_max });
        }
        self.command(tcp::query_size(function), now_ms, |out| {
            tcp::write_query(out, id, function);
        })?;
        self.queries.insert(id, now_ms.saturating_add(timeout_ms));
        Ok(())
    }

    /// Answers the peer's query `id`.
    ///
    /// # Errors
    /// See [`Refusal`]; nothing was sent, so the peer still waits.
    pub fn answer<'tl, T: Boxed<'tl>>(
        &mut self,
        id: i64,
        result: &T,
        now_ms: u64,
    ) -> Result<(), Refusal> {
        self.command(tcp::query_size(result), now_ms, |out| tcp::write_answer(out, id, result))
    }

    /// Fails the peer's query `id` with a code of protocol notes 1.7.
    ///
    /// # Errors
    /// See [`Refusal`]; nothing was sent, so the peer still waits.
    pub fn answer_error(
        &mut self,
        id: i64,
        code: i32,
        message: &str,
        now_ms: u64,
    ) -> Result<(), Refusal> {
        let error = tcp::QueryError { id, code, message: Text::from(message) };
        self.command(error.boxed_size(), now_ms, |out| error.write_boxed(out))
    }

    /// Ends the connection from our side: open queries fail now, [`Event::Closed`] follows.
    /// Output that waits may still be written before the socket is closed.
    pub fn close(&mut self) {
        self.end(Fault::Local);
    }

    /// Ends the connection because the attested handshake failed, for `reason`.
    pub fn refuse(&mut self, reason: String) {
        self.end(Fault::Attestation(reason));
    }

    /// Tells that the socket reached its end or failed.
    pub fn disconnected(&mut self, error: Option<String>) {
        self.end(error.map_or(Fault::PeerClosed, Fault::Socket));
    }

    /// Acts on deadlines that have passed at `now_ms`; take the events afterwards.
    pub fn tick(&mut self, now_ms: u64) {
        while let Some(id) = self.queries.pop_expired(now_ms) {
            self.fail_query(id, code::TIMEOUT, "Timeout");
        }
        if self.phase == Phase::Closed {
            return;
        }
        if self.stall_deadline_ms().is_some_and(|deadline_ms| deadline_ms <= now_ms) {
            self.end(Fault::SlowReader { queued: self.output.len() });
        } else if self.phase == Phase::Hello && self.hello_deadline_ms() <= now_ms {
            self.end(Fault::NoHello { limit_ms: self.limits.hello_ms });
        } else if self.idle_deadline_ms() <= now_ms {
            self.end(Fault::Silent { limit_ms: self.limits.idle_ms });
        } else if self.ping_deadline_ms().is_some_and(|deadline_ms| deadline_ms <= now_ms) {
            self.pinged = true;
            // The reference ignores what the pong echoes.
            self.send_own(&tcp::Ping { id: i64::try_from(now_ms).unwrap_or(i64::MAX) }, now_ms);
        }
    }

    /// When [`Connection::tick`] has something to do next; `None` once closed.
    #[must_use]
    pub fn next_deadline_ms(&self) -> Option<u64> {
        if self.phase == Phase::Closed {
            return None;
        }
        let hello = (self.phase == Phase::Hello).then(|| self.hello_deadline_ms());
        [
            Some(self.idle_deadline_ms()),
            hello,
            self.ping_deadline_ms(),
            self.stall_deadline_ms(),
            self.queries.next_deadline_ms(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Queries that wait for the peer's answer.
    #[must_use]
    pub fn open_queries(&self) -> usize {
        self.queries.len()
    }

    fn receive(&mut self, frame: &Bytes, now_ms: u64) -> Result<Option<Event>, Fault> {
        let packet = tl::decode::<Packet<'_>>(frame)?;
        if self.phase == Phase::Hello {
            return self.receive_hello(&packet, now_ms).map(Some);
        }
        Ok(match packet {
            Packet::Message(message) => Some(Event::Message(frame.slice_ref(message.data.0))),
            Packet::Query(query) => {
                Some(Event::Query { id: query.id, data: frame.slice_ref(query.data.0) })
            }
            Packet::QueryAnswer(answer) if self.queries.remove(answer.id) => {
                Some(Event::Answer { id: answer.id, data: frame.slice_ref(answer.data.0) })
            }
            Packet::QueryError(error) if self.queries.remove(error.id) => {
                Some(Event::QueryFailed {
                    id: error.id,
                    code: error.code,
                    message: error.message.sanitized().into_owned(),
                })
            }
            Packet::Ping(ping) => {
                self.send_own(&tcp::Pong { id: ping.id }, now_ms);
                None
            }
            // Late answers, pongs and repeated first frames mean nothing (protocol notes 1.3).
            Packet::QueryAnswer(_)
            | Packet::QueryError(_)
            | Packet::Pong(_)
            | Packet::Connect(_)
            | Packet::Connected(_) => None,
        })
    }

    fn receive_hello(&mut self, packet: &Packet<'_>, now_ms: u64) -> Result<Event, Fault> {
        let peer_connect_id = match (self.side, packet) {
            (Side::Accepting, Packet::Connect(connect)) => {
                self.send_own(&tcp::Connected { id: connect.id }, now_ms);
                connect.id
            }
            // The id is not compared, as the reference does not compare it.
            (Side::Connecting { .. }, Packet::Connected(connected)) => connected.id,
            (Side::Accepting, _) => return Err(Fault::Hello { expected: "tcp.connect" }),
            (Side::Connecting { .. }, _) => {
                return Err(Fault::Hello { expected: "tcp.connected" });
            }
        };
        self.phase = Phase::Ready;
        Ok(Event::Ready { peer_connect_id })
    }

    fn command(
        &mut self,
        len: usize,
        now_ms: u64,
        write: impl FnOnce(&mut BytesMut),
    ) -> Result<(), Refusal> {
        match self.phase {
            Phase::Closed => return Err(Refusal::Closed),
            Phase::Hello => return Err(Refusal::NotReady),
            Phase::Ready => {}
        }
        self.push(len, now_ms, write)
    }

    fn push(
        &mut self,
        len: usize,
        now_ms: u64,
        write: impl FnOnce(&mut BytesMut),
    ) -> Result<(), Refusal> {
        if self.output.is_empty() {
            self.stalled_since_ms = now_ms;
        }
        self.output.frame(len, write)
    }

    /// Sends a packet of the session's own. A peer that makes us send but does not read has
    /// to go.
    fn send_own<'tl, T: Boxed<'tl>>(&mut self, packet: &T, now_ms: u64) {
        if self.push(packet.boxed_size(), now_ms, |out| packet.write_boxed(out)).is_err() {
            self.end(Fault::SlowReader { queued: self.output.len() });
        }
    }

    fn end(&mut self, fault: Fault) {
        if self.phase == Phase::Closed {
            return;
        }
        self.phase = Phase::Closed;
        // Half a frame is of no use any more.
        self.input.bytes = BytesMut::new();
        while let Some(id) = self.queries.pop_any() {
            self.fail_query(id, code::CANCELLED, "connection lost");
        }
        self.events.push_back(Event::Closed(fault));
    }

    fn fail_query(&mut self, id: i64, code: i32, message: &str) {
        self.events.push_back(Event::QueryFailed { id, code, message: message.to_owned() });
    }

    fn idle_deadline_ms(&self) -> u64 {
        self.last_frame_ms.saturating_add(self.limits.idle_ms)
    }

    fn hello_deadline_ms(&self) -> u64 {
        self.started_ms.saturating_add(self.limits.hello_ms)
    }

    fn ping_deadline_ms(&self) -> Option<u64> {
        let due = self.phase == Phase::Ready && !self.pinged;
        self.limits
            .ping_after_ms
            .filter(|_| due)
            .map(|ping_after_ms| self.last_frame_ms.saturating_add(ping_after_ms))
    }

    fn stall_deadline_ms(&self) -> Option<u64> {
        (!self.output.is_empty())
            .then(|| self.stalled_since_ms.saturating_add(self.limits.stall_ms))
    }
}
