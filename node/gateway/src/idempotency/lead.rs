//! Running a keyed request once, and keeping its answer.

use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::watch;

use super::shelf::{Answer, Begun, Ended, Shelf};
use super::{Follower, IdempotentAnswers, Parts, Progress, Spent, lock};
use crate::answer::{AnswerHead, AnswerPart, FinalRecord, InferenceStream};
use crate::failure::Refusal;
use crate::infer::{Deadline, join};
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
    parts: Parts,
}

impl Leader {
    pub(super) fn new(
        answers: Arc<IdempotentAnswers>,
        (begun, serial, file): (Begun, u64, String),
        progress: watch::Sender<Progress>,
        parts: Parts,
    ) -> Leader {
        Leader { answers, begun, serial, file, sent: false, progress, parts }
    }

    /// Runs the request in a task of its own and follows it.
    pub(crate) async fn run(
        self,
        deadline: Deadline,
        request: impl Future<Output = Result<InferenceStream, UpstreamError>> + Send + 'static,
    ) -> Result<InferenceStream, Refusal> {
        let follower = Follower::new(self.progress.subscribe(), self.parts.clone());
        // The task ends at the request's deadline at the latest.
        tokio::spawn(self.lead(deadline, request));
        follower.start().await
    }

    async fn lead(
        mut self,
        (until, after): Deadline,
        request: impl Future<Output = Result<InferenceStream, UpstreamError>> + Send,
    ) {
        let (file, begun) = (self.file.clone(), self.begun.clone());
        if let Err(fault) = self.on_disk(move |shelf| shelf.begin(&file, &begun)).await {
            let message =
                format!("a keyed request cannot be written down, so it is not sent: {fault}");
            self.refuse(UpstreamError::Internal { message }, None);
            return;
        }
        self.sent = true;
        let mut stream = match request.await {
            Ok(stream) => stream,
            Err(failure) => {
                let spent = may_be_paid(&failure).then_some(Spent::Broken);
                self.refuse(failure, spent);
                return;
            }
        };
        let head = Arc::new(stream.head.clone());
        self.progress.send_modify(|progress| progress.head = Some(head.clone()));
        let mut bytes = 0usize;
        loop {
            let Ok(part) = tokio::time::timeout_at(until, stream.parts.next()).await else {
                let error = Some(UpstreamError::Timeout { after });
                return self
                    .close(&head, FinalRecord { error, ..FinalRecord::default() }, bytes)
                    .await;
            };
            match part {
                AnswerPart::Bytes(part) => {
                    bytes = bytes.saturating_add(part.len());
                    lock(&self.parts).push(part);
                    self.progress.send_modify(|progress| progress.parts += 1);
                }
                AnswerPart::End(record) => return self.close(&head, *record, bytes).await,
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
            let body: Bytes = join(lock(&self.parts).clone());
            let (head, record) = (head.clone(), record.clone());
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
