//! The task of one connection: it alone owns the socket and the session.
//!
//! Each turn does everything that is possible without waiting, in one order: hand events to
//! the node, read, take commands, write, look at the clock. Reading stops while the node is
//! behind, writing does not; so two nodes that both write much never wait for each other.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use cocoon_attest::channel::HandshakeFault;
use cocoon_session::{Connection, Encoded, Event as SessionEvent, Fault, Refusal};
use tokio::io::{AsyncRead as _, AsyncWrite as _, AsyncWriteExt as _, ReadBuf};
use tokio::sync::mpsc;
use tokio::time::{Instant, Sleep};
use tokio_util::sync::PollSender;

use crate::attesting::Attesting;
use crate::counters::{Counters, add, count};
use crate::event::{ConnId, Event, LinkEvent, Opaque, Opened, Origin};
use crate::handle::{Command, LinkHandle, Shared};
use crate::stream::Stream;
use cocoon_ratls::PeerIdentity;
use cocoon_wire::cocoon::Attest;
use cocoon_wire::tl::Blob;

/// Refused queries that may wait for the node before more commands are taken.
const REFUSED_QUERIES_MAX: usize = 64;

/// Code of protocol notes 1.7 for "not ready".
const NOT_READY: i32 = 651;

/// Bytes asked of the socket at once.
const READ_BYTES: usize = 64 << 10;

thread_local! {
    /// Idle connections hold no read buffer: all connections of a thread share this one, and
    /// only what really arrived is copied out of it.
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_BYTES].into_boxed_slice());
}

/// What a connection needs besides socket and session.
pub(crate) struct Surroundings {
    pub(crate) conn: ConnId,
    pub(crate) origin: Origin,
    pub(crate) identity: PeerIdentity,
    pub(crate) remote: std::net::SocketAddr,
    pub(crate) events: mpsc::Sender<LinkEvent>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) queued_commands_max: usize,
    pub(crate) queued_bytes_max: usize,
    pub(crate) output_bytes_high: usize,
    pub(crate) linger: Duration,
}

/// How a connection ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) fault: Fault,
    /// How long it was ready; nothing if it never was.
    pub(crate) ready_for: Option<Duration>,
}

/// One connection at work.
pub(crate) struct ConnectionTask {
    stream: Stream,
    session: Connection,
    /// The attested handshake, where this connection has one.
    attesting: Option<Box<Attesting>>,
    commands: mpsc::Receiver<Command>,
    /// The node's end until it is handed over with the first event.
    link: Option<LinkHandle>,
    shared: Arc<Shared>,
    events: PollSender<LinkEvent>,
    /// An event that found no room.
    waiting: Option<LinkEvent>,
    /// Queries that the session did not take; the node is told.
    refused_queries: VecDeque<(i64, Refusal)>,
    /// When to give up on writing what was queued before we were told to close.
    close_by_ms: Option<u64>,
    around: Surroundings,
    started: Instant,
    ready_since: Option<Instant>,
    timer: Pin<Box<Sleep>>,
    armed_ms: u64,
    flushed: bool,
    ended: Option<Fault>,
}

impl ConnectionTask {
    /// Prepares the task; `session` starts it with the time 0.
    pub(crate) fn new(
        stream: Stream,
        session: impl FnOnce(u64) -> Connection,
        attesting: Option<Attesting>,
        around: Surroundings,
    ) -> Self {
        let (sender, commands) = mpsc::channel(around.queued_commands_max.max(1));
        let shared = Shared::new(around.queued_bytes_max, around.counters.clone());
        Self {
            stream,
            session: session(0),
            attesting: attesting.map(Box::new),
            commands,
            link: Some(LinkHandle::new(around.conn, sender, shared.clone())),
            shared,
            events: PollSender::new(around.events.clone()),
            waiting: None,
            refused_queries: VecDeque::new(),
            close_by_ms: None,
            around,
            started: Instant::now(),
            ready_since: None,
            timer: Box::pin(tokio::time::sleep(Duration::ZERO)),
            armed_ms: 0,
            flushed: true,
            ended: None,
        }
    }

    /// What closes the connection from outside.
    pub(crate) fn shared(&self) -> Arc<Shared> {
        self.shared.clone()
    }

    /// Runs the connection to its end. The last event was handed over when this returns.
    pub(crate) async fn run(mut self) -> Ended {
        poll_fn(|cx| self.poll_live(cx)).await;
        // What waits may still go out, but not for long.
        let linger = self.around.linger;
        let _ = tokio::time::timeout(linger, self.finish()).await;
        let fault = self.ended.take().unwrap_or(Fault::Local);
        self.count_end(&fault);
        Ended { fault, ready_for: self.ready_since.map(|since| since.elapsed()) }
    }

    /// Ready once the session is closed and its last event is handed over.
    fn poll_live(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let now_ms = self.now_ms();
            let free = self.deliver(cx, now_ms);
            if self.ended.is_some() && free {
                return Poll::Ready(());
            }
            let attested = self.attest(cx, now_ms);
            let read = free && self.read(cx);
            let took = self.take_commands(cx, now_ms);
            let wrote = self.write(cx, now_ms);
            // While the node is behind, silence is not the peer's.
            let ticked = free && self.tick(cx);
            if !(attested || read || took || wrote || ticked) {
                return Poll::Pending;
            }
        }
    }

    /// Hands events to the node; false if the node has no room.
    fn deliver(&mut self, cx: &mut Context<'_>, now_ms: u64) -> bool {
        let mut delivered = 0;
        let free = loop {
            if self.waiting.is_some() && !self.deliver_waiting(cx) {
                break false;
            }
            let Some(event) = self.next_event(now_ms) else { break true };
            delivered += 1;
            let event = LinkEvent { conn: self.around.conn, event };
            if let Err(error) = self.around.events.try_send(event) {
                match error {
                    mpsc::error::TrySendError::Full(event) => self.waiting = Some(event),
                    mpsc::error::TrySendError::Closed(_) => self.node_gone(),
                }
            }
        };
        add(&self.around.counters.received_events, delivered);
        free
    }

    /// Takes the next event for the node, past the attested handshake.
    fn next_event(&mut self, now_ms: u64) -> Option<Event> {
        if let Some((id, refusal)) = self.refused_queries.pop_front() {
            return Some(refused_query(id, &refusal));
        }
        loop {
            let event = match &mut self.attesting {
                None => self.session.poll_event(now_ms)?,
                Some(attesting) => {
                    if self.session.is_closed() {
                        attesting.give_up();
                    }
                    if let Some(event) = attesting.outgoing.events.pop_front() {
                        return Some(event);
                    }
                    match attesting.outgoing.released.pop_front() {
                        Some(event) => event,
                        None if attesting.is_full() => return None,
                        None => {
                            let event = self.session.poll_event(now_ms)?;
                            match attesting.arrives(event, &self.stream) {
                                Ok(Some(event)) => event,
                                Ok(None) => continue,
                                Err(fault) => {
                                    self.refuse(&fault);
                                    continue;
                                }
                            }
                        }
                    }
                }
            };
            if let Some(event) = self.translate(event) {
                return Some(event);
            }
        }
    }

    /// Takes the attested handshake further; true if something happened.
    fn attest(&mut self, cx: &mut Context<'_>, now_ms: u64) -> bool {
        let Some(attesting) = &mut self.attesting else { return false };
        if self.session.is_closed() {
            return false;
        }
        let mut moved = match attesting.poll(cx) {
            Ok(moved) => moved,
            Err(fault) => {
                self.refuse(&fault);
                return true;
            }
        };
        while let Some(message) = attesting.outgoing.messages.pop_front() {
            moved = true;
            let sent = self.session.message(&Attest { data: Blob(&message) }, now_ms);
            if let Err(refusal) = sent {
                self.refused(&refusal);
                return true;
            }
        }
        moved
    }

    /// Ends the connection: the peer did not show what it has to.
    fn refuse(&mut self, fault: &HandshakeFault) {
        count(&self.around.counters.failed_policy);
        tracing::warn!(conn = self.around.conn.0, %fault, "closing a link");
        self.session.refuse(fault.to_string());
    }

    fn is_attesting(&self) -> bool {
        self.attesting.as_ref().is_some_and(|attesting| attesting.is_closed())
    }

    /// Hands over the event that waits; false if there is still no room.
    fn deliver_waiting(&mut self, cx: &mut Context<'_>) -> bool {
        match self.events.poll_reserve(cx) {
            Poll::Pending => false,
            Poll::Ready(reserved) => {
                let sent = match (reserved, self.waiting.take()) {
                    (Ok(()), Some(event)) => self.events.send_item(event).is_ok(),
                    _ => false,
                };
                if !sent {
                    self.node_gone();
                }
                true
            }
        }
    }

    /// The node loop is over: so are we.
    fn node_gone(&mut self) {
        self.session.close();
        self.ended.get_or_insert(Fault::Local);
    }

    fn translate(&mut self, event: SessionEvent) -> Option<Event> {
        Some(match event {
            SessionEvent::Ready { .. } => {
                self.ready_since = Some(Instant::now());
                count(&self.around.counters.opened);
                Event::Opened(Opened {
                    link: self.link.take()?,
                    identity: self.around.identity.clone(),
                    remote: self.around.remote,
                    origin: self.around.origin,
                })
            }
            SessionEvent::Message(data) => Event::Message(Opaque(data)),
            SessionEvent::Query { id, data } => Event::Query { id, data: Opaque(data) },
            SessionEvent::Answer { id, data } => Event::Answer { id, data: Opaque(data) },
            SessionEvent::QueryFailed { id, code, message } => {
                Event::QueryFailed { id, code, message }
            }
            SessionEvent::Closed(fault) => {
                self.ended = Some(fault.clone());
                // A connection that never opened never was, for the node.
                self.ready_since?;
                Event::Closed(fault)
            }
        })
    }

    /// Reads once; true if something happened.
    fn read(&mut self, cx: &mut Context<'_>) -> bool {
        let full = self.attesting.as_ref().is_some_and(|attesting| attesting.is_full());
        if self.session.is_closed() || full {
            return false;
        }
        let read = SCRATCH.with_borrow_mut(|scratch| {
            let mut buffer = ReadBuf::new(scratch);
            let result = ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer));
            self.session.input().extend_from_slice(buffer.filled());
            Poll::Ready(result.map(|()| buffer.filled().len()))
        });
        match read {
            Poll::Pending => return false,
            Poll::Ready(Ok(0)) => self.session.disconnected(None),
            Poll::Ready(Ok(count)) => add(&self.around.counters.received_bytes, count as u64),
            Poll::Ready(Err(error)) => self.socket_failed(&error),
        }
        true
    }

    fn socket_failed(&mut self, error: &io::Error) {
        // Many peers close TCP without a word of TLS.
        let gone = matches!(
            error.kind(),
            io::ErrorKind::UnexpectedEof
                | io::ErrorKind::ConnectionReset
                | io::ErrorKind::ConnectionAborted
                | io::ErrorKind::BrokenPipe
        );
        self.session.disconnected((!gone).then(|| error.to_string()));
    }

    /// Takes queued commands into the session while it has room; true if it took any.
    ///
    /// A connection that is to close takes what was queued before, then closes; the linger
    /// time bounds how long a stuck peer can draw that out.
    fn take_commands(&mut self, cx: &mut Context<'_>, now_ms: u64) -> bool {
        if self.session.is_closed() {
            return false;
        }
        self.shared.waker.register(cx.waker());
        if self.is_attesting() {
            let closing = self.shared.closing.load(Ordering::Acquire);
            if closing {
                self.session.close();
            }
            return closing;
        }
        if self.close_by_ms.is_none() && self.shared.closing.load(Ordering::Acquire) {
            self.commands.close();
            let linger_ms = u64::try_from(self.around.linger.as_millis()).unwrap_or(u64::MAX);
            self.close_by_ms = Some(now_ms.saturating_add(linger_ms));
        }
        let mut taken = 0;
        let mut over = self.close_by_ms.is_some_and(|deadline_ms| deadline_ms <= now_ms);
        while !over
            && !self.is_attesting()
            && self.session.output().len() < self.around.output_bytes_high
            && self.refused_queries.len() < REFUSED_QUERIES_MAX
        {
            match self.commands.poll_recv(cx) {
                Poll::Ready(Some(command)) => {
                    self.shared.queued_bytes.fetch_sub(command.weight(), Ordering::Relaxed);
                    self.apply(command, now_ms);
                    taken += 1;
                }
                // Closed and drained, or every handle was dropped.
                Poll::Ready(None) => over = true,
                Poll::Pending => break,
            }
        }
        add(&self.around.counters.sent_commands, taken);
        if over {
            self.session.close();
        }
        taken > 0 || over
    }

    fn apply(&mut self, command: Command, now_ms: u64) {
        let command = match self.introduce(command) {
            Ok(command) => command,
            Err(fault) => return self.refuse(&fault),
        };
        let session = &mut self.session;
        let result = match command {
            Command::Message(data) => session.message(&Encoded(&data), now_ms),
            Command::Query { id, data, timeout } => {
                let timeout_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
                let asked = session.query(id, &Encoded(&data), timeout_ms, now_ms);
                match asked {
                    Err(
                        refusal @ (Refusal::TooManyQueries { .. } | Refusal::QueryIdInUse { .. }),
                    ) => {
                        count(&self.around.counters.refused_commands);
                        self.refused_queries.push_back((id, refusal));
                        Ok(())
                    }
                    asked => asked,
                }
            }
            Command::Answer { id, data } => session.answer(id, &Encoded(&data), now_ms),
            Command::AnswerError { id, code, message } => {
                session.answer_error(id, code, &message, now_ms)
            }
            Command::Export { label, context, reply } => {
                // The asker may have gone away meanwhile.
                let _ = reply.send(self.stream.export(label, &context));
                Ok(())
            }
        };
        if let Err(refusal) = result {
            self.refused(&refusal);
        }
    }

    /// Announces the attested handshake where a command introduces us.
    fn introduce(&mut self, command: Command) -> Result<Command, HandshakeFault> {
        let Some(attesting) = &mut self.attesting else { return Ok(command) };
        Ok(match command {
            Command::Query { id, data, timeout } => {
                Command::Query { id, data: attesting.asks(data), timeout }
            }
            Command::Answer { id, data } => Command::Answer { id, data: attesting.answers(data)? },
            command => command,
        })
    }

    /// The queue let a command through that the session cannot take. To drop it in silence
    /// would leave the peer or the node waiting for ever, so the connection ends.
    fn refused(&mut self, refusal: &Refusal) {
        count(&self.around.counters.refused_commands);
        tracing::warn!(conn = self.around.conn.0, %refusal, "closing a link");
        self.session.disconnected(Some(format!("a command was refused: {refusal}")));
    }

    /// Writes what waits; true if the socket took something.
    fn write(&mut self, cx: &mut Context<'_>, now_ms: u64) -> bool {
        let mut written = 0;
        while !self.session.output().is_empty() {
            match Pin::new(&mut self.stream).poll_write(cx, self.session.output()) {
                Poll::Ready(Ok(0)) => {
                    self.session.disconnected(None);
                    break;
                }
                Poll::Ready(Ok(count)) => {
                    self.session.written(count, now_ms);
                    self.flushed = false;
                    written += count;
                }
                Poll::Ready(Err(error)) => {
                    self.socket_failed(&error);
                    break;
                }
                Poll::Pending => break,
            }
        }
        add(&self.around.counters.sent_bytes, written as u64);
        if !self.flushed {
            match Pin::new(&mut self.stream).poll_flush(cx) {
                Poll::Ready(Ok(())) => self.flushed = true,
                Poll::Ready(Err(error)) => self.socket_failed(&error),
                Poll::Pending => {}
            }
        }
        written > 0
    }

    /// Lets the session act on its deadlines; true if one had passed. The timer is moved only
    /// to an earlier time: a late one is moved when it fires, not with every frame.
    fn tick(&mut self, cx: &mut Context<'_>) -> bool {
        let now_ms = self.now_ms();
        let Some(deadline_ms) = self.session.next_deadline_ms() else { return false };
        if deadline_ms <= now_ms {
            self.session.tick(now_ms);
            return true;
        }
        let due_in_ms = self.attesting.as_ref().and_then(|attesting| attesting.due_in_ms());
        let due_ms = due_in_ms.map(|due_in_ms| now_ms.saturating_add(due_in_ms));
        let deadline_ms =
            [self.close_by_ms, due_ms].into_iter().flatten().fold(deadline_ms, u64::min);
        let fired = self.armed_ms <= now_ms;
        if fired || deadline_ms < self.armed_ms {
            self.armed_ms = deadline_ms;
            // A deadline beyond the clock's reach never comes.
            let at = self.started.checked_add(Duration::from_millis(deadline_ms));
            self.timer.as_mut().reset(at.unwrap_or_else(far_future));
        }
        self.timer.as_mut().poll(cx).is_ready()
    }

    /// Writes what is left, then says goodbye in TLS and TCP.
    async fn finish(&mut self) {
        if matches!(self.ended, Some(Fault::Local)) {
            while !self.session.output().is_empty() {
                let Ok(count) = self.stream.write(self.session.output()).await else { return };
                self.session.written(count, 0);
            }
            let _ = self.stream.flush().await;
        }
        let _ = self.stream.shutdown().await;
    }

    fn count_end(&self, fault: &Fault) {
        let counters = &self.around.counters;
        if self.ready_since.is_some() {
            count(&counters.closed);
        }
        match fault {
            fault if fault.is_violation() => count(&counters.violations),
            Fault::SlowReader { .. } => count(&counters.slow_readers),
            Fault::Silent { .. } | Fault::NoHello { .. } => count(&counters.silent_peers),
            _ => {}
        }
        tracing::debug!(conn = self.around.conn.0, %fault, "link ended");
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

fn refused_query(id: i64, refusal: &Refusal) -> Event {
    Event::QueryFailed { id, code: NOT_READY, message: refusal.to_string() }
}

/// A time that no process lives to see, within what the runtime's timer can hold.
fn far_future() -> Instant {
    Instant::now() + Duration::from_secs(86_400 * 365 * 10)
}
