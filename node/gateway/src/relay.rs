//! A stream on its way to the user: parts taken as they come, filtered, accounted for.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, Sleep};

use crate::answer::{AnswerPart, FinalRecord};
use crate::body::BrokenOff;
use crate::failure::api_error;
use crate::filter::StreamFilter;
use crate::infer::Deadline;
use crate::ticket::Running;
use crate::upstream::UpstreamError;

/// A body that comes from the network part by part. Dropping it cancels the request.
#[derive(Debug)]
pub(crate) struct Relay {
    running: Running,
    /// Absent for answers that are no events: their bytes pass as they are.
    filter: Option<StreamFilter>,
    ready: VecDeque<Bytes>,
    scratch: Vec<Bytes>,
    state: State,
    clock: Clock,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Running,
    Ended,
    Broken,
}

/// Deadline and signs of life. One timer serves both and is only moved when it fires.
#[derive(Debug)]
struct Clock {
    deadline: Instant,
    timeout: Duration,
    keepalive: Option<Duration>,
    last_part: Instant,
    timer: Option<Pin<Box<Sleep>>>,
}

enum Alarm {
    Silence,
    Deadline,
}

impl Relay {
    /// A stream of events.
    pub(crate) fn events(
        running: Running,
        filter: StreamFilter,
        deadline: Deadline,
        keepalive: Option<Duration>,
    ) -> Relay {
        Relay::new(running, Some(filter), deadline, keepalive)
    }

    /// Anything else: bytes in, bytes out.
    pub(crate) fn plain(running: Running, deadline: Deadline) -> Relay {
        Relay::new(running, None, deadline, None)
    }

    fn new(
        running: Running,
        filter: Option<StreamFilter>,
        (deadline, timeout): Deadline,
        keepalive: Option<Duration>,
    ) -> Relay {
        let last_part = Instant::now();
        Relay {
            running,
            filter,
            ready: VecDeque::new(),
            scratch: Vec::new(),
            state: State::Running,
            clock: Clock { deadline, timeout, keepalive, last_part, timer: None },
        }
    }

    /// Takes a part that was read before the body began.
    pub(crate) fn preload(&mut self, part: Bytes) {
        self.take(part);
    }

    /// The next bytes for the user.
    pub(crate) fn poll_bytes(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, BrokenOff>>> {
        loop {
            if let Some(bytes) = self.ready.pop_front() {
                return Poll::Ready(Some(Ok(bytes)));
            }
            match self.state {
                State::Running => {}
                State::Ended => return Poll::Ready(None),
                State::Broken => {
                    self.state = State::Ended;
                    return Poll::Ready(Some(Err(BrokenOff)));
                }
            }
            match self.running.poll_next(cx) {
                Poll::Ready(AnswerPart::Bytes(part)) => {
                    self.clock.last_part = Instant::now();
                    self.take(part);
                }
                Poll::Ready(AnswerPart::End(record)) => self.end(&record),
                Poll::Pending => match self.clock.poll(cx) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Alarm::Silence) => self.show_life(),
                    Poll::Ready(Alarm::Deadline) => self.out_of_time(),
                },
            }
        }
    }

    fn take(&mut self, part: Bytes) {
        let Some(filter) = &mut self.filter else {
            self.ready.push_back(part);
            return;
        };
        let result = filter.push(part, &mut self.scratch);
        self.ready.extend(self.scratch.drain(..));
        if let Err(fault) = result {
            let error = UpstreamError::WorkerLost { reason: fault.to_string() };
            self.give_up(error);
        }
    }

    fn end(&mut self, record: &FinalRecord) {
        self.state = State::Ended;
        if let Some(filter) = &mut self.filter {
            filter.finish(record, &mut self.scratch);
            self.ready.extend(self.scratch.drain(..));
        } else if record.error.is_some() {
            self.state = State::Broken;
        }
    }

    fn show_life(&mut self) {
        self.clock.last_part = Instant::now();
        if self.filter.as_ref().is_some_and(StreamFilter::at_border) {
            self.ready.push_back(Bytes::from_static(b": waiting for the worker\n\n"));
        }
    }

    fn out_of_time(&mut self) {
        self.give_up(UpstreamError::Timeout { after: self.clock.timeout });
    }

    /// Ends the answer on our side although the network would go on.
    fn give_up(&mut self, failure: UpstreamError) {
        self.running.give_up();
        self.state = State::Ended;
        match &mut self.filter {
            Some(filter) => {
                filter.fail(&api_error(failure), &mut self.scratch);
                self.ready.extend(self.scratch.drain(..));
            }
            None => self.state = State::Broken,
        }
    }
}

impl Clock {
    fn next_alarm(&self) -> Instant {
        let silence = self.keepalive.map(|pause| self.last_part + pause);
        silence.map_or(self.deadline, |silence| silence.min(self.deadline))
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Alarm> {
        loop {
            let alarm = self.next_alarm();
            let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(alarm)));
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            let now = Instant::now();
            if now >= self.deadline {
                return Poll::Ready(Alarm::Deadline);
            }
            if now >= alarm {
                return Poll::Ready(Alarm::Silence);
            }
            timer.as_mut().reset(alarm);
        }
    }
}
