//! The decoding loop: all sequences together, one step after the other, on one thread.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TryRecvError;

use crate::generate::job::{EmbeddingJob, Job, JobEvent, Work};
use crate::generate::slot::{PIECE_TOKENS, Progress, Slot, StepContext};
use crate::metrics::Metrics;
use crate::model::{BatchToken, Decoder, TokenId, Vocabulary};

/// The loop and everything that it owns.
pub(crate) struct Scheduler<D> {
    decoder: D,
    vocabulary: Arc<dyn Vocabulary>,
    end_tokens: Vec<TokenId>,
    context_tokens: usize,
    slots: Vec<Slot>,
    waiting: VecDeque<Job>,
    embeddings: VecDeque<EmbeddingJob>,
    /// Which slot may read its prompt first; moves on so that none waits for ever.
    first_reader: usize,
    metrics: Arc<Metrics>,
}

/// One slot's part of a batch.
struct Share {
    slot: usize,
    first: usize,
    count: usize,
}

impl<D: Decoder> Scheduler<D> {
    pub(crate) fn new(
        decoder: D,
        vocabulary: Arc<dyn Vocabulary>,
        sequences: u32,
        context_tokens: u32,
        metrics: Arc<Metrics>,
    ) -> Self {
        let size = TokenId::try_from(vocabulary.size()).unwrap_or(TokenId::MAX);
        let end_tokens = (0..size).filter(|token| vocabulary.is_end(*token)).collect();
        Self {
            decoder,
            vocabulary,
            end_tokens,
            context_tokens: usize::try_from(context_tokens).unwrap_or(usize::MAX),
            slots: (0..sequences).map(Slot::new).collect(),
            waiting: VecDeque::new(),
            embeddings: VecDeque::new(),
            first_reader: 0,
            metrics,
        }
    }

    /// Works until `stop` is set or every sender of `work` is gone and nothing is left.
    pub(crate) fn run(&mut self, mut work: mpsc::UnboundedReceiver<Work>, stop: &AtomicBool) {
        let mut open = true;
        while !stop.load(Ordering::Acquire) {
            if open && self.is_idle() {
                match work.blocking_recv() {
                    Some(item) => self.take(item),
                    None => open = false,
                }
            }
            while open {
                match work.try_recv() {
                    Ok(item) => self.take(item),
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => open = false,
                }
            }
            if !open && self.is_idle() {
                return;
            }
            self.step();
        }
    }

    pub(crate) fn take(&mut self, item: Work) {
        match item {
            Work::Generate(job) => self.waiting.push_back(*job),
            Work::Embed(job) => self.embeddings.push_back(job),
            Work::Wake => {}
        }
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.waiting.is_empty()
            && self.embeddings.is_empty()
            && self.slots.iter().all(|slot| slot.active.is_none())
    }

    /// Drops what nobody waits for, fills free slots, and decodes one batch.
    pub(crate) fn step(&mut self) {
        self.drop_abandoned();
        self.fill_slots();
        self.publish_gauges();
        self.embed_one();
        let (batch, shares) = self.next_batch();
        if batch.is_empty() {
            return;
        }
        match self.decoder.decode(&batch) {
            Ok(()) => self.advance(&shares),
            Err(fault) => self.fail(&shares, &fault.to_string()),
        }
        self.publish_gauges();
    }

    fn drop_abandoned(&mut self) {
        let before = self.waiting.len() + self.embeddings.len();
        self.waiting.retain(|job| !job.events.is_closed());
        self.embeddings.retain(|job| !job.answer.is_closed());
        let mut dropped = before - self.waiting.len() - self.embeddings.len();
        for slot in &mut self.slots {
            if slot.active.as_ref().is_some_and(|active| active.job.events.is_closed()) {
                slot.end();
                dropped += 1;
            }
        }
        self.metrics.add_abandoned(dropped);
    }

    /// Gives each free slot the oldest waiting job; of several free slots the one that
    /// already holds most of its prompt.
    fn fill_slots(&mut self) {
        while let Some(job) = self.waiting.pop_front() {
            let best = self
                .slots
                .iter_mut()
                .filter(|slot| slot.active.is_none())
                .max_by_key(|slot| (slot.reusable(&job.prompt), u32::MAX - slot.sequence));
            match best {
                Some(slot) => {
                    let reused = slot.begin(job, &mut self.decoder);
                    self.metrics.add_prompt(0, reused);
                }
                None => {
                    self.waiting.push_front(job);
                    return;
                }
            }
        }
    }

    fn embed_one(&mut self) {
        let Some(job) = self.embeddings.pop_front() else { return };
        self.metrics.add_prompt(job.tokens.len(), 0);
        let answer = self.decoder.embed(&job.tokens).map_err(|fault| fault.to_string());
        drop(job.permit);
        // A client that has gone needs no answer.
        let _ = job.answer.send(answer);
    }

    /// One token of each answer under way, then pieces of prompts. While answers are under
    /// way only one piece is read a step, so that they keep flowing.
    fn next_batch(&mut self) -> (Vec<BatchToken>, Vec<Share>) {
        let mut batch: Vec<BatchToken> = Vec::new();
        let mut shares = Vec::new();
        let writing: Vec<usize> = (0..self.slots.len())
            .filter(|index| {
                self.slots
                    .get(*index)
                    .is_some_and(|slot| slot.active.is_some() && !slot.is_reading())
            })
            .collect();
        let count = self.slots.len();
        let reading: Vec<usize> = (0..count)
            .map(|offset| (self.first_reader + offset) % count)
            .filter(|index| self.slots.get(*index).is_some_and(Slot::is_reading))
            .collect();
        let pieces_max = if writing.is_empty() { usize::MAX } else { 1 };
        if let Some(first) = reading.first() {
            self.first_reader = (first + 1) % count;
        }
        for slot in writing.into_iter().chain(reading.into_iter().take(pieces_max)) {
            let tokens = self.slots.get(slot).map(Slot::batch_tokens).unwrap_or_default();
            if tokens.is_empty() || batch.len() + tokens.len() > self.decoder.batch_tokens_max() {
                continue;
            }
            shares.push(Share { slot, first: batch.len(), count: tokens.len() });
            batch.extend(tokens);
        }
        (batch, shares)
    }

    fn advance(&mut self, shares: &[Share]) {
        for share in shares {
            let Some(slot) = self.slots.get_mut(share.slot) else { continue };
            let reading = slot.is_reading();
            let context = StepContext {
                decoder: &self.decoder,
                vocabulary: &*self.vocabulary,
                end_tokens: &self.end_tokens,
                context_tokens: self.context_tokens,
            };
            let progress = slot.advance(share.first, share.count, &context);
            if reading {
                self.metrics.add_prompt(share.count, 0);
            }
            if !slot.is_reading() {
                self.metrics.add_generated(1);
            }
            if progress == Progress::Ended {
                slot.end();
            }
        }
    }

    fn fail(&mut self, shares: &[Share], reason: &str) {
        tracing::error!(reason, sequences = shares.len(), "a decoding step failed");
        for share in shares {
            let Some(slot) = self.slots.get_mut(share.slot) else { continue };
            if let Some(job) = slot.end() {
                let event = JobEvent::Failed { reason: reason.to_owned() };
                let _ = job.events.send((job.index, event));
            }
            slot.forget_all(&mut self.decoder);
        }
    }

    fn publish_gauges(&self) {
        let active = self.slots.iter().filter(|slot| slot.active.is_some()).count();
        self.metrics.set_load(active, self.waiting.len() + self.embeddings.len());
    }
}

// A batch must have room for every answer under way and one piece of a prompt.
const _: () = assert!(PIECE_TOKENS + crate::config::SEQUENCES_MAX as usize <= 512);

#[cfg(test)]
#[path = "scheduler_tests.rs"]
mod tests;
