//! What is asked of the decoding thread, and what it answers.

use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use crate::generate::assembler::TokenRecord;
use crate::generate::constraint::Constraint;
use crate::generate::logprobs::PositionLogprobs;
use crate::generate::sampler::SamplingParams;
use crate::model::TokenId;

/// One sequence to be generated. Dropping the receiver of `events` stops it at the next
/// step, wherever it is.
#[derive(Debug)]
pub(crate) struct Job {
    /// Not empty, and shorter than the context.
    pub(crate) prompt: Vec<TokenId>,
    /// The context may end the answer earlier; with 0 the prompt is only read.
    pub(crate) tokens_max: u32,
    /// The answer may not end before so many tokens.
    pub(crate) tokens_min: u32,
    /// Goes on after the model has ended its answer; for measurements.
    pub(crate) ignore_end: bool,
    pub(crate) sampling: SamplingParams,
    pub(crate) constraint: Option<Constraint>,
    pub(crate) stops: Vec<String>,
    /// How many alternatives to report with each token; `None` reports nothing.
    pub(crate) logprobs: Option<usize>,
    /// Whether the tokens of the prompt are reported too (OpenAI's `echo` with `logprobs`).
    pub(crate) prompt_logprobs: bool,
    /// Which of the request's answers this is; stands beside each event.
    pub(crate) index: u32,
    pub(crate) events: mpsc::UnboundedSender<(u32, JobEvent)>,
    /// The place in the queue, given back when the job ends however it ends.
    pub(crate) permit: Option<OwnedSemaphorePermit>,
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FinishReason {
    /// The model ended it, or a stop sequence, or the grammar was complete.
    Stop,
    /// The limit of tokens or of the context.
    Length,
}

/// What happens to a job, in this order: `Started`, any `Delta`s, then `Finished` or
/// `Failed`. A channel that closes without either means that the thread died.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum JobEvent {
    /// The prompt is decoded.
    Started {
        /// Tokens of the prompt that were still in memory from an earlier request.
        cached_tokens: u32,
        /// One for each token of the prompt if they were asked for; the first is `None`,
        /// for nothing comes before it.
        prompt_logprobs: Vec<Option<PositionLogprobs>>,
    },
    /// More text, more tokens, or both. The end of an answer may carry neither.
    Delta {
        text: String,
        tokens: Vec<TokenRecord>,
        /// Tokens generated so far, also those whose text is held back.
        generated_tokens: u32,
    },
    /// The answer is complete.
    Finished { reason: FinishReason, generated_tokens: u32 },
    /// The answer cannot go on; the client may try again.
    Failed { reason: String },
}

/// One text to be embedded.
#[derive(Debug)]
pub(crate) struct EmbeddingJob {
    /// Not empty, and not longer than the context.
    pub(crate) tokens: Vec<TokenId>,
    pub(crate) answer: oneshot::Sender<Result<Vec<f32>, String>>,
    pub(crate) permit: Option<OwnedSemaphorePermit>,
}

/// Anything that the decoding thread can do.
#[derive(Debug)]
pub(crate) enum Work {
    Generate(Box<Job>),
    Embed(EmbeddingJob),
    /// Nothing: lets a thread that waits for work look at its stop flag.
    Wake,
}
