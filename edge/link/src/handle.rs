//! The node's end of a connection: commands in, never blocking.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use cocoon_wire::frame::PAYLOAD_BYTES_MAX;
use cocoon_wire::tl::{self, Boxed, bytes_size};
use futures_util::task::AtomicWaker;
use tokio::sync::{mpsc, oneshot};

use crate::counters::{Counters, count};
use crate::event::ConnId;
use crate::fault::SendFault;

/// What a command costs in the queue besides its data.
const COMMAND_BYTES: usize = 64;
/// More commands than this wait only for a peer that reads slowly, or not at all.
const USUAL_COMMANDS: usize = 64;
/// Data up to this length are copied before they wait for such a peer. The nodes cut messages out
/// of pieces of 64 KiB, and a message of 100 bytes would hold its whole piece.
const COPIED_BYTES_MAX: usize = 16 << 10;

/// A command on its way to the connection.
pub(crate) enum Command {
    Message(Bytes),
    Query { id: i64, data: Bytes, timeout: Duration },
    Answer { id: i64, data: Bytes },
    AnswerError { id: i64, code: i32, message: String },
    Export { label: &'static [u8], context: Bytes, reply: oneshot::Sender<Option<[u8; 32]>> },
}

impl Command {
    /// Bytes it counts for in the queue.
    pub(crate) fn weight(&self) -> usize {
        COMMAND_BYTES
            + match self {
                Self::Message(data) | Self::Query { data, .. } | Self::Answer { data, .. } => {
                    data.len()
                }
                Self::AnswerError { message, .. } => message.len(),
                Self::Export { context, .. } => context.len(),
            }
    }

    /// Frees the data from the memory that they share with others.
    fn detach(&mut self) {
        match self {
            Self::Message(data) | Self::Query { data, .. } | Self::Answer { data, .. }
                if data.len() <= COPIED_BYTES_MAX =>
            {
                *data = Bytes::copy_from_slice(data);
            }
            _ => {}
        }
    }
}

/// What handle and connection share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) queued_bytes: AtomicUsize,
    pub(crate) closing: AtomicBool,
    pub(crate) waker: AtomicWaker,
    queued_bytes_max: usize,
    counters: Arc<Counters>,
}

impl Shared {
    pub(crate) fn new(queued_bytes_max: usize, counters: Arc<Counters>) -> Arc<Self> {
        Arc::new(Self {
            queued_bytes: AtomicUsize::new(0),
            closing: AtomicBool::new(false),
            waker: AtomicWaker::new(),
            queued_bytes_max,
            counters,
        })
    }

    /// Tells the connection to close.
    pub(crate) fn close(&self) {
        self.closing.store(true, Ordering::Release);
        self.waker.wake();
    }
}

/// Sends to one peer. Cheap to clone; the connection closes when the last clone is dropped.
///
/// Every method returns at once: what cannot be queued is refused with a [`SendFault`], so a
/// stuck peer never holds up the node loop.
#[derive(Clone, Debug)]
pub struct LinkHandle {
    conn: ConnId,
    commands: mpsc::Sender<Command>,
    shared: Arc<Shared>,
}

impl LinkHandle {
    pub(crate) fn new(conn: ConnId, commands: mpsc::Sender<Command>, shared: Arc<Shared>) -> Self {
        Self { conn, commands, shared }
    }

    /// The connection's id.
    #[must_use]
    pub fn conn(&self) -> ConnId {
        self.conn
    }

    /// Sends a one-way message: the bytes of one boxed TL object.
    ///
    /// # Errors
    /// See [`SendFault`]; nothing is sent.
    pub fn message(&self, data: impl Into<Bytes>) -> Result<(), SendFault> {
        let data = data.into();
        fits(data.len())?;
        self.send(Command::Message(data))
    }

    /// Sends two one-way messages, or neither: where the second means nothing without the first.
    ///
    /// # Errors
    /// See [`SendFault`]; nothing is sent.
    pub fn messages(
        &self,
        first: impl Into<Bytes>,
        second: impl Into<Bytes>,
    ) -> Result<(), SendFault> {
        let (first, second) = (first.into(), second.into());
        fits(first.len())?;
        fits(second.len())?;
        self.send_all([Command::Message(first), Command::Message(second)])
    }

    /// Sends `object` as a one-way message.
    ///
    /// # Errors
    /// As [`LinkHandle::message`].
    pub fn message_object<'tl, T: Boxed<'tl>>(&self, object: &T) -> Result<(), SendFault> {
        fits(object.boxed_size())?;
        self.send(Command::Message(tl::encode(object).into()))
    }

    /// Asks the peer under `id`, which must be random and not in use. One `Answer` or
    /// `QueryFailed` event will follow, at the latest after `timeout`.
    ///
    /// # Errors
    /// See [`SendFault`]; nothing is sent and no event will follow.
    pub fn query(
        &self,
        id: i64,
        data: impl Into<Bytes>,
        timeout: Duration,
    ) -> Result<(), SendFault> {
        let data = data.into();
        fits(data.len())?;
        self.send(Command::Query { id, data, timeout })
    }

    /// Asks the peer `function` under `id`.
    ///
    /// # Errors
    /// As [`LinkHandle::query`].
    pub fn query_object<'tl, T: Boxed<'tl>>(
        &self,
        id: i64,
        function: &T,
        timeout: Duration,
    ) -> Result<(), SendFault> {
        fits(function.boxed_size())?;
        self.send(Command::Query { id, data: tl::encode(function).into(), timeout })
    }

    /// Answers the peer's query `id` with the bytes of one boxed TL object.
    ///
    /// # Errors
    /// See [`SendFault`]; nothing is sent, the peer still waits.
    pub fn answer(&self, id: i64, data: impl Into<Bytes>) -> Result<(), SendFault> {
        let data = data.into();
        fits(data.len())?;
        self.send(Command::Answer { id, data })
    }

    /// Answers the peer's query `id` with `result`.
    ///
    /// # Errors
    /// As [`LinkHandle::answer`].
    pub fn answer_object<'tl, T: Boxed<'tl>>(&self, id: i64, result: &T) -> Result<(), SendFault> {
        fits(result.boxed_size())?;
        self.send(Command::Answer { id, data: tl::encode(result).into() })
    }

    /// Fails the peer's query `id` with a code of protocol notes 1.7.
    ///
    /// # Errors
    /// See [`SendFault`]; nothing is sent, the peer still waits.
    pub fn answer_error(
        &self,
        id: i64,
        code: i32,
        message: impl Into<String>,
    ) -> Result<(), SendFault> {
        let message = message.into();
        fits(message.len())?;
        self.send(Command::AnswerError { id, code, message })
    }

    /// Derives 32 bytes that only the two ends of this TLS connection know (RFC 8446 7.5), to
    /// bind a statement to it. `None` on a plain connection, or when it closed meanwhile:
    /// never go on without the binding.
    ///
    /// # Errors
    /// See [`SendFault`].
    pub async fn export_keying_material(
        &self,
        label: &'static [u8],
        context: impl Into<Bytes>,
    ) -> Result<Option<[u8; 32]>, SendFault> {
        let (reply, exported) = oneshot::channel();
        self.send(Command::Export { label, context: context.into(), reply })?;
        Ok(exported.await.unwrap_or(None))
    }

    /// Closes the connection after what is queued was written, or after the linger time.
    /// Always works, stuck peer or not; a `Closed` event follows.
    pub fn close(&self) {
        self.shared.close();
    }

    /// Whether the connection is over or about to be.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.commands.is_closed() || self.shared.closing.load(Ordering::Acquire)
    }

    fn send(&self, command: Command) -> Result<(), SendFault> {
        self.send_all([command])
    }

    fn send_all<const N: usize>(&self, mut commands: [Command; N]) -> Result<(), SendFault> {
        if self.is_closed() {
            return Err(SendFault::Closed);
        }
        let weight = commands.iter().map(Command::weight).sum();
        let before = self.shared.queued_bytes.fetch_add(weight, Ordering::Relaxed);
        // An empty queue takes anything, however the limit is set.
        let full = before > 0 && before.saturating_add(weight) > self.shared.queued_bytes_max;
        let result = if full {
            Err(self.stuck(before))
        } else {
            if self.queued_commands() >= USUAL_COMMANDS {
                commands.iter_mut().for_each(Command::detach);
            }
            match self.commands.try_reserve_many(N) {
                Ok(places) => {
                    places.zip(commands).for_each(|(place, command)| place.send(command));
                    Ok(())
                }
                Err(mpsc::error::TrySendError::Full(())) => Err(self.stuck(before)),
                Err(mpsc::error::TrySendError::Closed(())) => Err(SendFault::Closed),
            }
        };
        if result.is_err() {
            self.shared.queued_bytes.fetch_sub(weight, Ordering::Relaxed);
        }
        result
    }

    fn stuck(&self, queued_bytes: usize) -> SendFault {
        count(&self.shared.counters.stuck_commands);
        SendFault::Stuck { queued_commands: self.queued_commands(), queued_bytes }
    }

    fn queued_commands(&self) -> usize {
        self.commands.max_capacity() - self.commands.capacity()
    }
}

/// Refuses data that fit into no frame: at most 12 bytes stand before them.
fn fits(len: usize) -> Result<(), SendFault> {
    if len <= PAYLOAD_BYTES_MAX && bytes_size(len) + 12 <= PAYLOAD_BYTES_MAX {
        Ok(())
    } else {
        Err(SendFault::TooLong { len })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Memory that says by its count whether somebody still holds it.
    struct Piece(Arc<[u8]>);

    impl AsRef<[u8]> for Piece {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }

    #[test]
    fn what_waits_for_a_peer_that_does_not_read_holds_its_own_bytes_alone() {
        const SENT: usize = 1_000;
        let (sender, mut commands) = mpsc::channel(SENT);
        let link = LinkHandle::new(ConnId(1), sender, Shared::new(1 << 30, Arc::default()));
        let mut pieces = Vec::new();
        for number in 0..SENT {
            let piece: Arc<[u8]> = vec![(number % 251) as u8; 64 << 10].into();
            let message = Bytes::from_owner(Piece(Arc::clone(&piece))).slice(..100);
            match number % 3 {
                0 => link.message(message),
                1 => link.answer(1, message),
                _ => link.query(1, message, Duration::ZERO),
            }
            .expect("there is room");
            pieces.push(Arc::downgrade(&piece));
        }
        let held = pieces.iter().filter(|piece| piece.strong_count() > 0).count();
        assert_eq!(held, USUAL_COMMANDS);
        for number in 0..SENT {
            let (Command::Message(data)
            | Command::Answer { data, .. }
            | Command::Query { data, .. }) = commands.try_recv().expect("queued")
            else {
                panic!("no data")
            };
            assert_eq!(data, vec![(number % 251) as u8; 100]);
        }
    }
}
