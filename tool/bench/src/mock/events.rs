//! The body of an answer: at once, or event by event.

use super::counts::{Request, count};
use super::script::Script;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;
use thiserror::Error;
use tokio::time::Sleep;

/// Where a stream ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// After the last event.
    Whole,
    /// In the middle, by breaking the connection.
    Broken,
    /// In the middle, by silence.
    Stalled,
}

/// Breaks the connection: hyper closes it when a body fails.
#[derive(Clone, Copy, Debug, Error)]
#[error("broken off as asked for")]
pub(crate) struct BrokenOff;

/// Body of an answer.
#[derive(Debug)]
pub(crate) enum Answer {
    /// All bytes at once.
    Whole(Option<Bytes>),
    /// Event by event.
    Events(Box<Events>),
}

/// A stream in progress.
#[derive(Debug)]
pub(crate) struct Events {
    script: Arc<Script>,
    request: Request,
    ending: Ending,
    with_usage: bool,
    next: usize,
    /// Whether the event before the next one has gone to the system.
    flushed: bool,
    gap: Duration,
    pause: Option<Pin<Box<Sleep>>>,
    ended: bool,
}

impl Events {
    pub(crate) fn new(
        script: &Arc<Script>,
        request: Request,
        ending: Ending,
        with_usage: bool,
        gap: Duration,
    ) -> Self {
        let pause = (!gap.is_zero()).then(|| Box::pin(tokio::time::sleep(gap)));
        Self {
            script: Arc::clone(script),
            request,
            ending,
            with_usage,
            next: 0,
            flushed: true,
            gap,
            pause,
            ended: false,
        }
    }

    fn poll_event(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, BrokenOff>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        if self.ending != Ending::Whole && self.next * 2 >= self.script.events.len() {
            if self.ending == Ending::Stalled {
                // The caller's hanging up drops this body and so ends the request.
                return Poll::Pending;
            }
            self.ended = true;
            self.request.misbehaved();
            return Poll::Ready(Some(Err(BrokenOff)));
        }
        if let Some(pause) = &mut self.pause {
            if pause.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            // From when this one was due, so that late events do not make the stream longer.
            let next = pause.deadline() + self.gap;
            pause.as_mut().reset(next);
        } else if !self.flushed {
            // Being asked again right away would put several events into one write; hyper writes
            // out what it has when a body is not ready.
            self.flushed = true;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.flushed = false;
        Poll::Ready(Some(Ok(self.take())))
    }

    fn take(&mut self) -> Bytes {
        let counters = self.request.counters();
        if let Some(event) = self.script.events.get(self.next) {
            count(&counters.events);
            self.next += 1;
            return event.clone();
        }
        counters.events.fetch_add(Script::events_of_end(self.with_usage), Ordering::Relaxed);
        self.ended = true;
        self.request.completed();
        if self.with_usage {
            self.script.end_with_usage.clone()
        } else {
            self.script.end_without_usage.clone()
        }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        match self.get_mut() {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Events(events) => {
                events.poll_event(context).map(|event| event.map(|event| event.map(Frame::data)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_none(),
            Self::Events(events) => events.ended && events.ending == Ending::Whole,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Self::Events(_) => SizeHint::default(),
        }
    }
}
