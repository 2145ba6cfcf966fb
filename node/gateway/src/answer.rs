//! One answer on its way from the network to the user: head, parts, final record.
//!
//! [`answer_channel`] joins the two sides without a task between them: the network side pushes
//! parts as they come, the HTTP side takes all that are there at once. The channel is bounded in
//! bytes; a user who reads too slowly makes [`AnswerFeed::push`] refuse, and the network side then
//! waits with [`AnswerFeed::room`] or gives the request up.
//!
//! When the user leaves, [`AnswerFeed::push`] answers [`PushRefused::Gone`] and
//! [`AnswerFeed::closed`] and [`AnswerFeed::on_closed`] tell it at once. The network side then
//! cancels the request and still calls [`AnswerFeed::finish`] with what was charged, so that
//! budgets of keys stay right.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use cocoon_units::{Nanoton, Tokens, Usage};
use http::{HeaderMap, StatusCode};

use crate::upstream::UpstreamError;

/// An answer whose head is known. Dropping it cancels the request.
#[derive(Debug)]
pub struct InferenceStream {
    /// Status and headers.
    pub head: AnswerHead,
    /// The body's parts, then the final record.
    pub parts: AnswerParts,
}

/// Status and headers of the model server's answer, and who gave it.
#[derive(Debug, Clone, Default)]
pub struct AnswerHead {
    /// The model server's status.
    pub status: StatusCode,
    /// The model server's headers. Hop-by-hop headers are dropped by the gateway.
    pub headers: HeaderMap,
    /// The worker, as far as it is known when the head arrives.
    pub worker: WorkerSeen,
}

/// What is known of the worker that answered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WorkerSeen {
    /// Measurement (image hash) of the worker as the proxy told it, hex; empty when unknown, as
    /// behind a reference proxy.
    pub measurement: String,
    /// Kind of trusted environment: `tdx`, `sev-snp`, `fake`; empty when unknown.
    pub tee_kind: String,
    /// Measurement of the proxy in between, hex; empty when unknown.
    pub proxy_measurement: String,
}

/// What is known when an answer has ended.
#[derive(Debug, Clone, Default)]
pub struct FinalRecord {
    /// Raw tokens as the model server reported them, when known.
    pub usage: Option<Usage>,
    /// What the request cost the user.
    pub cost: Nanoton,
    /// Tokens charged after multipliers and coefficient (`total_tokens_used`).
    pub charged_tokens: Tokens,
    /// When nodes began and ended, unix seconds.
    pub timings: Timings,
    /// The worker; replaces what the head said unless its members are empty.
    pub worker: WorkerSeen,
    /// Id of the receipt, when there is one.
    pub receipt_id: Option<String>,
    /// Debug records of the nodes as one JSON object, when asked for. Checked to be JSON.
    pub debug: Option<String>,
    /// Why the answer is incomplete; `None` for a complete one.
    pub error: Option<UpstreamError>,
}

/// Begin and end at each node, unix seconds; zero when unknown (`final_info`, protocol notes 3.7).
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Timings {
    /// When the proxy took the request.
    pub proxy_start_s: f64,
    /// When the proxy was done.
    pub proxy_end_s: f64,
    /// When the worker took the request.
    pub worker_start_s: f64,
    /// When the worker was done.
    pub worker_end_s: f64,
}

/// What [`AnswerParts::poll_next`] yields.
#[derive(Debug)]
pub enum AnswerPart {
    /// More of the body, never empty.
    Bytes(Bytes),
    /// The answer has ended; nothing follows.
    End(Box<FinalRecord>),
}

/// Why a part was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PushRefused {
    /// The user reads too slowly and the window is full: wait for room or cancel.
    #[error("the reader is slow and the window is full")]
    Full,
    /// The user is gone: cancel the request at the network.
    #[error("the reader is gone")]
    Gone,
}

/// Makes the two ends of one answer. `window_bytes` bounds what waits between them; one part
/// larger than the window is still taken when nothing else waits.
pub fn answer_channel(window_bytes: usize) -> (AnswerFeed, AnswerParts) {
    let shared = Arc::new(Shared { window_bytes, state: Mutex::new(State::default()) });
    (AnswerFeed { shared: shared.clone() }, AnswerParts { shared })
}

/// The network's end of an answer. Dropping it without [`AnswerFeed::finish`] ends the answer
/// with [`UpstreamError::ProxyLost`].
#[derive(Debug)]
pub struct AnswerFeed {
    shared: Arc<Shared>,
}

impl AnswerFeed {
    /// Hands on a part of the body; never waits. Empty parts are dropped.
    pub fn push(&self, part: Bytes) -> Result<(), PushRefused> {
        if part.is_empty() {
            return Ok(());
        }
        let waker = {
            let mut state = self.shared.lock();
            if state.reader_gone {
                return Err(PushRefused::Gone);
            }
            let full = state.queued_bytes.saturating_add(part.len()) > self.shared.window_bytes;
            if full && !state.queue.is_empty() {
                return Err(PushRefused::Full);
            }
            state.queued_bytes = state.queued_bytes.saturating_add(part.len());
            state.queue.push_back(part);
            state.reader.take()
        };
        wake(waker);
        Ok(())
    }

    /// Ends the answer. Later pushes are lost.
    pub fn finish(self, record: FinalRecord) {
        let waker = {
            let mut state = self.shared.lock();
            state.end = Some(Box::new(record));
            state.ended = true;
            state.reader.take()
        };
        wake(waker);
    }

    /// Waits until the queue is at most half full; `false` when the reader is gone.
    pub async fn room(&self) -> bool {
        std::future::poll_fn(|cx| {
            let mut state = self.shared.lock();
            if state.reader_gone {
                return Poll::Ready(false);
            }
            if state.queued_bytes <= self.shared.window_bytes / 2 {
                return Poll::Ready(true);
            }
            state.writer = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// Waits until the reader is gone: the moment to cancel the request at the network.
    /// Do not await it together with [`AnswerFeed::room`]: one waker is kept.
    pub async fn closed(&self) {
        std::future::poll_fn(|cx| self.poll_closed(cx)).await;
    }

    /// Poll form of [`AnswerFeed::closed`].
    pub fn poll_closed(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.shared.lock();
        if state.reader_gone {
            return Poll::Ready(());
        }
        state.writer = Some(cx.waker().clone());
        Poll::Pending
    }

    /// True when the reader is gone.
    pub fn is_closed(&self) -> bool {
        self.shared.lock().reader_gone
    }

    /// Calls `notice` once when the reader goes away before the answer ended, or now if it is
    /// gone already. Cheaper than a task per request that awaits [`AnswerFeed::closed`]. The
    /// function runs on the reader's thread and must not block.
    pub fn on_closed(&self, notice: impl FnOnce() + Send + 'static) {
        let mut state = self.shared.lock();
        if state.reader_gone {
            drop(state);
            notice();
        } else {
            state.notice = Some(Notice(Box::new(notice)));
        }
    }
}

impl Drop for AnswerFeed {
    fn drop(&mut self) {
        let waker = {
            let mut state = self.shared.lock();
            if state.ended {
                return;
            }
            state.ended = true;
            let error = Some(UpstreamError::ProxyLost);
            state.end = Some(Box::new(FinalRecord { error, ..FinalRecord::default() }));
            state.reader.take()
        };
        wake(waker);
    }
}

/// The reader's end of an answer.
#[derive(Debug)]
pub struct AnswerParts {
    shared: Arc<Shared>,
}

impl AnswerParts {
    /// Takes the next part. After [`AnswerPart::End`] it stays pending.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<AnswerPart> {
        let (part, waker) = {
            let mut state = self.shared.lock();
            if let Some(part) = state.queue.pop_front() {
                state.queued_bytes = state.queued_bytes.saturating_sub(part.len());
                let relaxed = state.queued_bytes <= self.shared.window_bytes / 2;
                (AnswerPart::Bytes(part), if relaxed { state.writer.take() } else { None })
            } else if let Some(record) = state.end.take() {
                (AnswerPart::End(record), None)
            } else {
                state.reader = Some(cx.waker().clone());
                return Poll::Pending;
            }
        };
        wake(waker);
        Poll::Ready(part)
    }

    /// Cancels the request at the network but keeps waiting for its final record, which tells
    /// what was charged for the part that was made. No bytes are yielded any more.
    pub fn cancel(&mut self) {
        let (waker, notice) = self.shared.lock().leave();
        wake(waker);
        if let Some(Notice(notice)) = notice {
            notice();
        }
    }

    /// Async form of [`AnswerParts::poll_next`].
    pub async fn next(&mut self) -> AnswerPart {
        std::future::poll_fn(|cx| self.poll_next(cx)).await
    }
}

impl Drop for AnswerParts {
    fn drop(&mut self) {
        self.cancel();
    }
}

#[derive(Debug)]
struct Shared {
    window_bytes: usize,
    state: Mutex<State>,
}

impl Shared {
    /// A panic elsewhere cannot leave the state half changed, so poison is ignored.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug, Default)]
struct State {
    queue: VecDeque<Bytes>,
    queued_bytes: usize,
    end: Option<Box<FinalRecord>>,
    ended: bool,
    reader_gone: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
    notice: Option<Notice>,
}

impl State {
    /// The reader wants no more bytes: who waits for that must be told.
    fn leave(&mut self) -> (Option<Waker>, Option<Notice>) {
        self.reader_gone = true;
        self.queue.clear();
        self.queued_bytes = 0;
        let notice = self.notice.take();
        (self.writer.take(), if self.ended { None } else { notice })
    }
}

struct Notice(Box<dyn FnOnce() + Send>);

impl std::fmt::Debug for Notice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Notice")
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}
