//! The account of one running request: it is settled once, however the request ends.

use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use cocoon_openai::{Endpoint, UsageCounter};

use crate::answer::{AnswerPart, AnswerParts, FinalRecord};
use crate::keys::KeyUse;
use crate::metrics::{Metrics, Outcome};

/// How long the cost of a request whose user left is waited for.
const LEFT_OVER_WAIT: Duration = Duration::from_secs(30);

/// One running request. Dropping it unsettled counts it as given up by the user.
#[derive(Debug)]
pub(crate) struct Ticket {
    metrics: Arc<Metrics>,
    key: Option<KeyUse>,
    endpoint: Endpoint,
    began: Instant,
    first_byte: Option<Duration>,
    bytes: u64,
    /// Somebody else's ticket pays for the answer.
    is_replay: bool,
    settled: bool,
}

impl Ticket {
    /// Counts a request as running; `None` when `limit` requests run already.
    pub(crate) fn take(
        metrics: &Arc<Metrics>,
        key: Option<KeyUse>,
        endpoint: Endpoint,
        limit: usize,
    ) -> Option<Ticket> {
        if !metrics.begin(limit) {
            return None;
        }
        Some(Ticket {
            metrics: metrics.clone(),
            key,
            endpoint,
            began: Instant::now(),
            first_byte: None,
            bytes: 0,
            is_replay: false,
            settled: false,
        })
    }

    /// The ticket of one who gets an answer that another request runs or ran: that one pays.
    pub(crate) fn of_replay(self) -> Ticket {
        let mut ticket = self;
        ticket.key = None;
        ticket.is_replay = true;
        ticket
    }

    /// Counts a part that goes to the user.
    pub(crate) fn part(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_add(bytes as u64);
        if self.first_byte.is_none() {
            self.first_byte = Some(self.began.elapsed());
        }
    }

    /// Books the end of the answer.
    pub(crate) fn settle(&mut self, record: &FinalRecord) {
        if let Some(key) = &self.key {
            key.spend(record.cost, record.usage.unwrap_or_default());
        }
        let outcome = if record.error.is_none() { Outcome::Success } else { Outcome::Failure };
        if !self.is_replay {
            self.metrics.spent(record);
        }
        self.end(outcome);
    }

    /// Books a request that the network refused.
    pub(crate) fn refused(&mut self) {
        self.end(Outcome::Failure);
    }

    fn end(&mut self, outcome: Outcome) {
        if !self.settled {
            self.settled = true;
            let took = self.began.elapsed();
            self.metrics.end(self.endpoint, outcome, took, self.first_byte, self.bytes);
        }
    }

    /// The user left: cancels the request and, when somebody's budget depends on it, waits for
    /// what it cost.
    fn abandon(&mut self, mut parts: AnswerParts) {
        parts.cancel();
        let Some(key) = self.key.take() else { return };
        let metrics = self.metrics.clone();
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        // May be lost at shutdown: then this one request is missing from the key's account.
        runtime.spawn(async move {
            let end = async {
                loop {
                    if let AnswerPart::End(record) = parts.next().await {
                        return record;
                    }
                }
            };
            if let Ok(record) = tokio::time::timeout(LEFT_OVER_WAIT, end).await {
                key.spend(record.cost, record.usage.unwrap_or_default());
                metrics.spent(&record);
            }
        });
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.end(Outcome::GivenUp);
    }
}

/// A running request with its answer. Dropping it before the end cancels the request.
#[derive(Debug)]
pub(crate) struct Running {
    /// Absent: another task runs the request and books it.
    ticket: Option<Ticket>,
    parts: Option<AnswerParts>,
    /// Finds the tokens that the model server reports in the passing bytes.
    usage: UsageCounter,
}

impl Running {
    pub(crate) fn new(ticket: Option<Ticket>, parts: AnswerParts) -> Running {
        Running { ticket, parts: Some(parts), usage: UsageCounter::default() }
    }

    /// The next part, counted; the end is booked. After the end it stays pending.
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<AnswerPart> {
        let Some(parts) = &mut self.parts else { return Poll::Pending };
        let mut part = ready!(parts.poll_next(cx));
        match &mut part {
            AnswerPart::Bytes(bytes) => {
                self.usage.push(bytes);
                if let Some(ticket) = &mut self.ticket {
                    ticket.part(bytes.len());
                }
            }
            AnswerPart::End(record) => {
                // The network tells what was charged, which is not what was counted.
                record.usage = record.usage.or(self.usage.usage());
                if let Some(ticket) = &mut self.ticket {
                    ticket.settle(record);
                }
                self.parts = None;
            }
        }
        Poll::Ready(part)
    }

    /// Async form of [`Running::poll_next`].
    pub(crate) async fn next(&mut self) -> AnswerPart {
        std::future::poll_fn(|cx| self.poll_next(cx)).await
    }

    /// Ends the request on our side although the network would go on.
    pub(crate) fn give_up(&mut self) {
        if let Some(ticket) = &mut self.ticket {
            ticket.refused();
        }
        self.leave();
    }

    fn leave(&mut self) {
        if let (Some(ticket), Some(parts)) = (&mut self.ticket, self.parts.take()) {
            ticket.abandon(parts);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.leave();
    }
}
