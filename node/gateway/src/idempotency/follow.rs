//! Reading an answer that somebody else runs or ran.

use tokio::sync::watch;

use super::Progress;
use super::parts::Reader;
use crate::answer::{AnswerFeed, AnswerHead, FinalRecord, InferenceStream, answer_channel};
use crate::failure::Refusal;
use crate::infer::Deadline;
use crate::upstream::UpstreamError;

/// What waits between a kept answer and its reader.
const WINDOW_BYTES: usize = 256 * 1024;

/// Access to an answer that somebody else runs.
pub(crate) struct Follower {
    progress: watch::Receiver<Progress>,
    parts: Reader,
}

impl Follower {
    pub(super) fn new(progress: watch::Receiver<Progress>, parts: Reader) -> Follower {
        Follower { progress, parts }
    }

    /// Waits for the head at most until the deadline.
    pub(crate) async fn wait(self, (until, after): Deadline) -> Result<InferenceStream, Refusal> {
        match tokio::time::timeout_at(until, self.start()).await {
            Ok(result) => result,
            Err(_) => Err(UpstreamError::Timeout { after }.into()),
        }
    }

    pub(super) async fn start(mut self) -> Result<InferenceStream, Refusal> {
        let begun = |progress: &Progress| progress.head.is_some() || progress.refused.is_some();
        let progress = match self.progress.wait_for(begun).await {
            Ok(progress) => progress.clone(),
            Err(_) => return Err(UpstreamError::ProxyLost.into()),
        };
        let Some(head) = progress.head else {
            return Err(progress.refused.unwrap_or(UpstreamError::ProxyLost).into());
        };
        let (feed, parts) = answer_channel(WINDOW_BYTES);
        tokio::spawn(self.copy(feed));
        Ok(InferenceStream { head: AnswerHead::clone(&head), parts })
    }

    /// Hands the parts on until the end; ends when the reader leaves.
    async fn copy(mut self, feed: AnswerFeed) {
        loop {
            let progress = self.progress.borrow_and_update().clone();
            while let Some(part) = self.parts.next() {
                if feed.push(part) == Ok(()) {
                    self.parts.taken();
                } else if !feed.room().await {
                    return;
                }
            }
            if let Some(end) = progress.end {
                feed.finish(FinalRecord::clone(&end));
                return;
            }
            if progress.refused.is_some() || self.progress.changed().await.is_err() {
                // Dropping the feed ends the answer with an error.
                return;
            }
        }
    }
}
