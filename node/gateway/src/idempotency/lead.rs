//! Running a keyed request once, and keeping its answer.

use std::future::Future;
use std::sync::Arc;

use tokio::sync::watch;

use super::parts::Parts;
use super::shelf::{Answer, Begun, Ended, Shelf};
use super::{Follower, IdempotentAnswers, Progress, Spent};
use crate::answer::{AnswerHead, AnswerPart, FinalRecord, InferenceStream};
use crate::failure::Refusal;
use crate::infer::Deadline;
use crate::ticket::{Running, Ticket};
use crate::upstream::UpstreamError;
use crate::vault::VaultFault;

/// The right and duty to run a request once.
pub(crate) struct Leader {
    answers: Arc<IdempotentAnswers>,
    begun: Begun,
    serial: u64,
    file: String,
    /// The request was handed to the network, so that it may be paid.
    sent: bool,
    progress: watch::Sender<Progress>,
    parts: Arc<Parts>,
}

impl Leader {
    pub(super) fn new(
        answers: Arc<IdempotentAnswers>,
        (begun, serial, file): (Begun, u64, String),
        progress: watch::Sender<Progress>,
        parts: Arc<Parts>,
    ) -> Leader {
        Leader { answers, begun, serial, file, sent: false, progress, parts }
    }

    /// Runs the request in a task of its own and follows it. The ticket goes with that task: the
    /// request counts as running and is paid there, once, whoever follows.
    pub(crate) async fn run(
        self,
        ticket: Ticket,
        deadline: Deadline,
        request: impl Future<Output = Result<InferenceStream, UpstreamError>> + Send + 'static,
    ) -> Result<InferenceStream, Refusal> {
        let follower = Follower::new(self.progress.subscribe(), self.parts.reader());
        // The task ends at the request's deadline at the latest.
        tokio::spawn(self.lead(ticket, deadline, request));
        follower.start().await
    }

    async fn lead(
        mut self,
        mut ticket: Ticket,
        (until, after): Deadline,
        request: impl Future<Output = Result<InferenceStream, UpstreamError>> + Send,
    ) {
        let (file, begun) = (self.file.clone(), self.begun.clone());
        if let Err(fault) = self.on_disk(move |shelf| shelf.begin(&file, &begun)).await {
            let message =
                format!("a keyed request cannot be written down, so it is not sent: {fault}");
            ticket.refused();
            self.refuse(UpstreamError::Internal { message }, None);
            return;
        }
        self.sent = true;
        let InferenceStream { head, parts } = match request.await {
            Ok(stream) => stream,
            Err(failure) => {
                ticket.refused();
                let spent = may_be_paid(&failure).then_some(Spent::Broken);
                self.refuse(failure, spent);
                return;
            }
        };
        let mut running = Running::new(Some(ticket), parts);
        let head = Arc::new(head);
        self.progress.send_modify(|progress| progress.head = Some(head.clone()));
        let mut bytes = 0;
        let gathering = self.gather(&mut running, &mut bytes);
        let record = match tokio::time::timeout_at(until, gathering).await {
            Ok(record) => record,
            Err(_) => {
                running.give_up();
                let error = Some(UpstreamError::Timeout { after });
                FinalRecord { error, ..FinalRecord::default() }
            }
        };
        // What did not end is cancelled, and its cost waited for.
        drop(running);
        self.close(&head, record, bytes).await;
    }

    /// Takes the answer to its end. One that is too long to be kept is held only until those who
    /// follow had it; when they have left it has no reader any more, and ends.
    async fn gather(&self, running: &mut Running, bytes: &mut usize) -> FinalRecord {
        let bytes_max = self.answers.answer_bytes_max;
        loop {
            let part = match running.next().await {
                AnswerPart::Bytes(part) => part,
                AnswerPart::End(record) => return *record,
            };
            *bytes = bytes.saturating_add(part.len());
            self.parts.add(part);
            self.progress.send_modify(|progress| progress.parts += 1);
            if *bytes > bytes_max {
                self.answers.spend(&self.begun.name, self.serial, Spent::TooLong);
                self.parts.close();
                if !self.parts.room(bytes_max).await {
                    let error = Some(UpstreamError::ProxyLost);
                    return FinalRecord { error, ..FinalRecord::default() };
                }
            }
        }
    }

    /// Tells those who wait that there is no answer. Without `spent` nothing was paid: the next
    /// try may run.
    fn refuse(&self, failure: UpstreamError, spent: Option<Spent>) {
        match spent {
            Some(why) => self.answers.spend(&self.begun.name, self.serial, why),
            None => self.answers.forget(&self.begun.name, self.serial),
        }
        self.progress.send_modify(|progress| progress.refused = Some(failure));
    }

    /// Keeps what has ended, then shows the end.
    async fn close(self, head: &AnswerHead, record: FinalRecord, bytes: usize) {
        let name = &self.begun.name;
        if is_unpaid(head, &record, bytes) {
            self.answers.forget(name, self.serial);
        } else {
            let too_long = bytes > self.answers.answer_bytes_max;
            // An answer that broke is shown again while the gateway lives; after a restart it is
            // known from its file that it ran.
            if record.error.is_none() {
                self.keep(head, &record, too_long).await;
            }
            if too_long {
                self.answers.spend(name, self.serial, Spent::TooLong);
            } else {
                self.answers.count(name, self.serial, bytes);
            }
        }
        self.progress.send_modify(|progress| progress.end = Some(Arc::new(record)));
    }

    async fn keep(&self, head: &AnswerHead, record: &FinalRecord, too_long: bool) {
        let ended = if too_long {
            Ended::TooLong
        } else {
            let (head, body, record) = (head.clone(), self.parts.whole(), record.clone());
            Ended::Whole(Box::new(Answer { head, body, record }))
        };
        let file = self.file.clone();
        if let Err(fault) = self.on_disk(move |shelf| shelf.end(&file, &ended)).await {
            tracing::error!(%fault, "the answer to a keyed request is kept until the gateway ends only");
        }
    }

    /// Works on the files, where there are some.
    async fn on_disk(
        &self,
        work: impl FnOnce(&Shelf) -> Result<(), VaultFault> + Send + 'static,
    ) -> Result<(), VaultFault> {
        let Some(shelf) = self.answers.shelf.clone() else { return Ok(()) };
        let done = tokio::task::spawn_blocking(move || work(&shelf)).await;
        done.unwrap_or_else(|fault| {
            Err(VaultFault::Damaged { name: self.file.clone(), reason: fault.to_string() })
        })
    }
}

/// Whether a request without an answer may have cost something: where the proxy says that it
/// ended, it also says that nothing is charged; where we do not hear of its end, it may be charged
/// for what was made.
fn may_be_paid(failure: &UpstreamError) -> bool {
    match failure {
        UpstreamError::Timeout { .. }
        | UpstreamError::ProxyLost
        | UpstreamError::Internal { .. } => true,
        UpstreamError::NoProxy { .. }
        | UpstreamError::UnknownModel { .. }
        | UpstreamError::NoWorker { .. }
        | UpstreamError::TooExpensive { .. }
        | UpstreamError::NoMoney { .. }
        | UpstreamError::ChainAway { .. }
        | UpstreamError::Busy { .. }
        | UpstreamError::WorkerLost { .. }
        | UpstreamError::BadRequest { .. } => false,
    }
}

/// Whether an ended answer certainly cost nothing and is no answer either: a broken one without
/// bytes, or a failure of the model server that passes.
fn is_unpaid(head: &AnswerHead, record: &FinalRecord, bytes: usize) -> bool {
    if record.cost.0 > 0 {
        return false;
    }
    match &record.error {
        // With bytes of an answer somebody may have been paid, whatever the record says.
        Some(failure) => bytes == 0 && !may_be_paid(failure),
        None => head.status.is_server_error() || head.status.as_u16() == 429,
    }
}

impl Drop for Leader {
    /// A task that was ended by a panic or by shutdown must not leave its followers waiting.
    fn drop(&mut self) {
        if !self.progress.borrow().has_ended() {
            self.refuse(UpstreamError::ProxyLost, self.sent.then_some(Spent::Broken));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use bytes::Bytes;
    use cocoon_openai::Endpoint;

    use super::super::Claim;
    use super::*;
    use crate::answer::{AnswerFeed, PushRefused, answer_channel};
    use crate::config::GatewayConfig;
    use crate::metrics::Metrics;

    const PART_BYTES: usize = 1 << 16;

    /// Gives parts until nobody takes more, or so many; tells how many were taken, and whether the
    /// reader left. The clock is paused: a time is over when no task can go on.
    async fn give(feed: &AnswerFeed, parts_max: usize) -> (usize, bool) {
        let mut given = 0;
        while given < parts_max {
            match feed.push(Bytes::from(vec![0; PART_BYTES])) {
                Ok(()) => given += 1,
                Err(PushRefused::Gone) => return (given, true),
                Err(PushRefused::Full) => {
                    let room = tokio::time::timeout(Duration::from_secs(1), feed.room()).await;
                    if room.is_err() {
                        break;
                    }
                }
            }
        }
        (given, false)
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_without_end_is_held_only_for_those_who_read_it() {
        let mut config = GatewayConfig::default();
        config.limits.kept_answer_bytes = 16 * PART_BYTES;
        let answers = Arc::new(IdempotentAnswers::open(&config).unwrap());
        let claim = || answers.clone().claim("\npath\nkey".to_owned(), b"body", Instant::now());
        let Ok(Claim::Lead(leader)) = claim() else { panic!("somebody else runs it") };
        let metrics = Arc::new(Metrics::default());
        let ticket = Ticket::take(&metrics, None, Endpoint::ChatCompletions, 1).unwrap();
        let deadline = crate::infer::deadline(Duration::from_secs(3600));
        let (feed, parts) = answer_channel(4 * PART_BYTES);
        let head = AnswerHead::default();
        let request = async { Ok(InferenceStream { head, parts }) };
        let mut shown = leader.run(ticket, deadline, request).await.unwrap_or_else(|_| panic!());

        // On the way to the reader wait: here, in what is kept, and in two windows.
        let (given, _) = give(&feed, 256).await;
        assert!(given < 32, "{given} parts are held for a reader who takes none");
        let again = claim().err().map(|error| error.status);
        assert_eq!(again, Some(409), "it is known to be too long before its end");
        for _ in 0..given {
            let AnswerPart::Bytes(part) = shown.parts.next().await else { panic!("it is cut") };
            assert_eq!(part.len(), PART_BYTES);
        }
        let (more, _) = give(&feed, 256).await;
        assert!((given - 1..32).contains(&more), "it goes on for those who read: {more}");
        drop(shown);
        let (_, is_gone) = give(&feed, 256).await;
        assert!(is_gone, "it ends when nobody reads it any more");
        drop(feed);
        assert!(Ticket::take(&metrics, None, Endpoint::ChatCompletions, 1).is_some());
    }
}
