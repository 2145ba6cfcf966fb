//! One sequence of the model's memory and the job that fills it.

use crate::generate::assembler::{Assembler, Released, TokenRecord};
use crate::generate::job::{FinishReason, Job, JobEvent};
use crate::generate::logprobs::{PositionLogprobs, position_logprobs};
use crate::generate::sampler::{SampleFault, Sampler};
use crate::model::{BatchToken, Decoder, TokenId, Vocabulary};

/// Prompts are decoded in pieces that begin at multiples of this, and only whole pieces are
/// reused. So a prompt is computed in the same pieces whether its beginning was in memory
/// or not, and the answer to the same request stays the same.
pub(crate) const PIECE_TOKENS: usize = 128;

/// A sequence number with what its memory holds.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) sequence: u32,
    /// The tokens of the last prompt that were decoded, from position 0.
    held: Vec<TokenId>,
    pub(crate) active: Option<Active>,
}

/// A job under way.
#[derive(Debug)]
pub(crate) struct Active {
    pub(crate) job: Job,
    sampler: Sampler,
    assembler: Assembler,
    cached_tokens: usize,
    /// Tokens of the prompt in memory.
    prompt_done: usize,
    prompt_logprobs: Vec<Option<PositionLogprobs>>,
    generated: u32,
    /// Chosen, but not yet decoded.
    next: Option<TokenId>,
}

/// What a step of a job came to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    Continues,
    Ended,
}

impl Slot {
    pub(crate) fn new(sequence: u32) -> Self {
        Self { sequence, held: Vec::new(), active: None }
    }

    /// How many tokens of `prompt` need not be decoded again here: whole pieces only, and
    /// never the last token, whose logits are needed.
    pub(crate) fn reusable(&self, prompt: &[TokenId]) -> usize {
        let common = self.held.iter().zip(prompt).take_while(|(a, b)| a == b).count();
        let whole = common.min(prompt.len().saturating_sub(1)) / PIECE_TOKENS;
        whole * PIECE_TOKENS
    }

    /// Begins a job; the slot must be free. Answers how many tokens are reused.
    pub(crate) fn begin(&mut self, job: Job, decoder: &mut dyn Decoder) -> usize {
        let reuse = if job.prompt_logprobs { 0 } else { self.reusable(&job.prompt) };
        let position = u32::try_from(reuse).unwrap_or(0);
        let reuse = if decoder.forget(self.sequence, position) { reuse } else { 0 };
        self.held.truncate(reuse);
        self.active = Some(Active {
            sampler: Sampler::new(job.sampling.clone()),
            assembler: Assembler::new(job.stops.clone()),
            cached_tokens: reuse,
            prompt_done: reuse,
            prompt_logprobs: Vec::new(),
            generated: 0,
            next: None,
            job,
        });
        reuse
    }

    /// Ends the job, if there is one, and gives it back. What was decoded of the prompt
    /// stays in memory.
    pub(crate) fn end(&mut self) -> Option<Job> {
        self.active.take().map(|active| active.job)
    }

    /// After a failed step nothing is known about the memory.
    pub(crate) fn forget_all(&mut self, decoder: &mut dyn Decoder) {
        self.held.clear();
        decoder.forget(self.sequence, 0);
    }

    /// Whether the prompt is not decoded yet.
    pub(crate) fn is_reading(&self) -> bool {
        self.active.as_ref().is_some_and(|active| active.prompt_done < active.job.prompt.len())
    }

    /// The next tokens to decode: one that was chosen, or a piece of the prompt.
    pub(crate) fn batch_tokens(&self) -> Vec<BatchToken> {
        let Some(active) = &self.active else { return Vec::new() };
        let sequence = self.sequence;
        let prompt = &active.job.prompt;
        if active.prompt_done < prompt.len() {
            let begin = active.prompt_done;
            let end = (begin / PIECE_TOKENS + 1).saturating_mul(PIECE_TOKENS).min(prompt.len());
            let piece = prompt.get(begin..end).unwrap_or_default();
            return (begin..)
                .zip(piece)
                .map(|(index, token)| BatchToken {
                    token: *token,
                    sequence,
                    position: u32::try_from(index).unwrap_or(u32::MAX),
                    logits: active.job.prompt_logprobs || index + 1 == prompt.len(),
                })
                .collect();
        }
        // The last chosen token is not in memory yet, so it is not counted.
        let before = active.generated.saturating_sub(1);
        let position = u32::try_from(prompt.len()).unwrap_or(u32::MAX).saturating_add(before);
        active
            .next
            .map(|token| BatchToken { token, sequence, position, logits: true })
            .into_iter()
            .collect()
    }

    /// Takes the results of a decoded batch in which the tokens of this slot were the
    /// `count` from `first` on.
    pub(crate) fn advance(
        &mut self,
        first: usize,
        count: usize,
        context: &StepContext<'_>,
    ) -> Progress {
        let Some(active) = &mut self.active else { return Progress::Ended };
        if active.prompt_done < active.job.prompt.len() {
            if active.job.prompt_logprobs {
                active.note_prompt(first, count, context.decoder);
            }
            active.prompt_done += count;
            self.held = active.job.prompt.get(..active.prompt_done).unwrap_or_default().to_vec();
            if active.prompt_done < active.job.prompt.len() {
                return Progress::Continues;
            }
            let prompt_logprobs = std::mem::take(&mut active.prompt_logprobs);
            let cached_tokens = u32::try_from(active.cached_tokens).unwrap_or(u32::MAX);
            active.send(JobEvent::Started { cached_tokens, prompt_logprobs });
        }
        if active.job.tokens_max == 0 {
            return active.finish(FinishReason::Length);
        }
        let logits = context.decoder.logits(first + count.saturating_sub(1));
        match active.choose(logits, context) {
            Ok(progress) => progress,
            Err(fault) => {
                active.send(JobEvent::Failed { reason: fault.to_string() });
                Progress::Ended
            }
        }
    }
}

/// What a slot needs besides its own state.
pub(crate) struct StepContext<'a> {
    pub(crate) decoder: &'a dyn Decoder,
    pub(crate) vocabulary: &'a dyn Vocabulary,
    /// The tokens that end an answer.
    pub(crate) end_tokens: &'a [TokenId],
    pub(crate) context_tokens: usize,
}

impl Active {
    fn send(&self, event: JobEvent) {
        // A client that has gone is noticed by the loop before the next step.
        let _ = self.job.events.send((self.job.index, event));
    }

    /// Collects what the model thought of each token of the prompt: the logits at one
    /// position say what comes next.
    fn note_prompt(&mut self, first: usize, count: usize, decoder: &dyn Decoder) {
        if self.prompt_logprobs.is_empty() {
            self.prompt_logprobs.push(None);
        }
        let top = self.job.logprobs.unwrap_or(0);
        for index in 0..count {
            let following = self.job.prompt.get(self.prompt_done + index + 1);
            if let Some(token) = following {
                let logits = decoder.logits(first + index);
                self.prompt_logprobs.push(Some(position_logprobs(logits, *token, top)));
            }
        }
    }

    fn choose(
        &mut self,
        logits: &[f32],
        context: &StepContext<'_>,
    ) -> Result<Progress, SampleFault> {
        // A grammar knows best where its document ends.
        let may_not_end = self.job.constraint.is_none()
            && (self.job.ignore_end || self.generated < self.job.tokens_min);
        let forbidden = if may_not_end { context.end_tokens } else { &[] };
        let token = self.sampler.sample(logits, forbidden, self.job.constraint.as_mut())?;
        let logprobs = self.job.logprobs.map(|top| position_logprobs(logits, token, top));
        self.generated = self.generated.saturating_add(1);
        self.next = Some(token);
        if let Some(constraint) = &mut self.job.constraint {
            constraint.accept(token)?;
        }
        if context.vocabulary.is_end(token) {
            return Ok(self.finish(FinishReason::Stop));
        }
        let piece = context.vocabulary.piece(token);
        let released = self.assembler.push(TokenRecord { token, logprobs }, &piece);
        let stopped = released.stopped;
        self.deliver(released);
        if stopped {
            self.send_finished(FinishReason::Stop);
            return Ok(Progress::Ended);
        }
        if self.job.constraint.as_ref().is_some_and(|constraint| constraint.is_complete()) {
            return Ok(self.finish(FinishReason::Stop));
        }
        let length = self.job.prompt.len() + usize::try_from(self.generated).unwrap_or(0);
        if self.generated >= self.job.tokens_max || length >= context.context_tokens {
            return Ok(self.finish(FinishReason::Length));
        }
        Ok(Progress::Continues)
    }

    fn finish(&mut self, reason: FinishReason) -> Progress {
        let released = self.assembler.finish();
        let reason = if released.stopped { FinishReason::Stop } else { reason };
        self.deliver(released);
        self.send_finished(reason);
        Progress::Ended
    }

    fn deliver(&self, released: Released) {
        if !released.text.is_empty() || !released.tokens.is_empty() {
            self.send(JobEvent::Delta {
                text: released.text,
                tokens: released.tokens,
                generated_tokens: self.generated,
            });
        }
    }

    fn send_finished(&self, reason: FinishReason) {
        self.send(JobEvent::Finished { reason, generated_tokens: self.generated });
    }
}
