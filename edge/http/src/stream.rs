//! One user's connection: deadlines around its bytes.
//!
//! hyper parses HTTP; this adapter sees only reads and writes and closes a connection on which
//! nothing happens: between requests after the idle deadline, within a head after the head
//! deadline, and while an answer waits for a user who takes nothing.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use crate::work::{PeerWait, Work};

/// The deadlines of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadlines {
    /// Longest time from the first byte of a request to the end of its head.
    pub head: Duration,
    /// Longest pause before a request.
    pub idle: Duration,
    /// Longest time in which the user takes none of the answer.
    pub write_stall: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Between requests.
    Idle,
    /// Bytes of a head have come, its end has not.
    Head,
    /// A request is being answered: the handler has the deadlines.
    Busy,
}

/// A stream with deadlines.
#[derive(Debug)]
pub struct Watched<S> {
    io: S,
    work: Work,
    deadlines: Deadlines,
    phase: Phase,
    begun: usize,
    /// When the present phase must end. The timer may stand earlier: moving it for every request
    /// would cost more than letting it fire in vain now and then.
    read_until: Instant,
    read_timer: Pin<Box<Sleep>>,
    write_until: Option<(Instant, PeerWait)>,
    write_timer: Option<Pin<Box<Sleep>>>,
}

impl<S> Watched<S> {
    /// Watches a connection that was just made; `work` is told of each of its requests.
    pub fn new(io: S, work: Work, deadlines: Deadlines) -> Watched<S> {
        let read_until = Instant::now() + deadlines.idle;
        Watched {
            io,
            work,
            deadlines,
            phase: Phase::Idle,
            begun: 0,
            read_until,
            read_timer: Box::pin(tokio::time::sleep_until(read_until)),
            write_until: None,
            write_timer: None,
        }
    }

    /// After a read that brought nothing yet.
    fn watch_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let begun = self.work.begun();
        if begun != self.begun {
            self.begun = begun;
            self.phase = Phase::Busy;
        }
        loop {
            if self.phase == Phase::Busy {
                // hyper need not read again when an answer ends, so the timer looks once per idle
                // time whether the connection has become idle: it is closed after one to two.
                let idle = self.work.is_idle();
                self.phase = if idle { Phase::Idle } else { Phase::Busy };
                self.read_until = Instant::now() + self.deadlines.idle;
            }
            ready!(self.read_timer.as_mut().poll(cx));
            if self.phase != Phase::Busy && Instant::now() >= self.read_until {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            let until = self.read_until;
            self.read_timer.as_mut().reset(until);
        }
    }

    fn bytes_came(&mut self) {
        if self.phase != Phase::Head && self.work.is_idle() {
            self.phase = Phase::Head;
            self.read_until = Instant::now() + self.deadlines.head;
            if self.read_timer.is_elapsed() || self.read_timer.deadline() > self.read_until {
                self.read_timer.as_mut().reset(self.read_until);
            }
        }
    }

    fn watch_write<T>(
        &mut self,
        cx: &mut Context<'_>,
        result: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if result.is_ready() {
            self.write_until = None;
            return result;
        }
        let (work, stall) = (&self.work, self.deadlines.write_stall);
        let begins = || (Instant::now() + stall, work.wait_for_peer());
        let until = self.write_until.get_or_insert_with(begins).0;
        let timer =
            self.write_timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)));
        if timer.deadline() != until {
            timer.as_mut().reset(until);
        }
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.io).poll_read(cx, buf) {
            Poll::Ready(result) => {
                self.bytes_came();
                Poll::Ready(result)
            }
            Poll::Pending => self.watch_read(cx),
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.watch_write(cx, result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.io).poll_write_vectored(cx, slices);
        self.watch_write(cx, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.io).poll_flush(cx);
        self.watch_write(cx, result)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.io).poll_shutdown(cx);
        self.watch_write(cx, result)
    }
}
