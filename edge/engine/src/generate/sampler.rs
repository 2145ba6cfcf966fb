//! Chooses the next token from the logits.

use std::collections::HashMap;

use crate::generate::constraint::{Constraint, ConstraintFault};
use crate::generate::random::Random;
use crate::model::TokenId;

/// How one request wants its tokens chosen.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SamplingParams {
    /// Divides the logits; 0 takes the likeliest token.
    pub(crate) temperature: f32,
    pub(crate) top_p: f32,
    /// 0 keeps all.
    pub(crate) top_k: u32,
    pub(crate) min_p: f32,
    /// Taken from a token's logit for each time it was generated.
    pub(crate) frequency_penalty: f32,
    /// Taken once from the logit of a token that was generated.
    pub(crate) presence_penalty: f32,
    pub(crate) seed: u64,
    /// Which of the request's choices this is; makes the choices differ.
    pub(crate) choice: u32,
    /// Added to logits; tokens outside the vocabulary have been refused before.
    pub(crate) logit_bias: Vec<(TokenId, f32)>,
}

/// Why no token could be chosen.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SampleFault {
    #[error(transparent)]
    Constraint(#[from] ConstraintFault),
    #[error("no token is possible: the model gave no usable logits or the grammar is stuck")]
    NoToken,
}

/// The state of sampling for one sequence.
#[derive(Debug)]
pub(crate) struct Sampler {
    params: SamplingParams,
    random: Random,
    generated: HashMap<TokenId, u32>,
    /// Reused between steps: the logits after biases and penalties, and the candidates.
    logits: Vec<f32>,
    candidates: Vec<(TokenId, f32)>,
}

impl Sampler {
    pub(crate) fn new(params: SamplingParams) -> Self {
        let random = Random::new(params.seed, params.choice);
        Self {
            params,
            random,
            generated: HashMap::new(),
            logits: Vec::new(),
            candidates: Vec::new(),
        }
    }

    /// Chooses a token. The grammar is asked about that one token first; only if it refuses
    /// is every token checked and the choice made again among the allowed ones. That gives
    /// the same distribution as masking at once, for a fraction of the work.
    pub(crate) fn sample(
        &mut self,
        logits: &[f32],
        forbidden: &[TokenId],
        constraint: Option<&mut Constraint>,
    ) -> Result<TokenId, SampleFault> {
        self.adjust(logits, forbidden);
        let mut token = self.pick();
        if let Some(constraint) = constraint {
            let allowed = match token {
                Some(token) => constraint.allows(token)?,
                None => false,
            };
            if !allowed {
                constraint.mask(&mut self.logits)?;
                token = self.pick();
            }
        }
        let token = token.ok_or(SampleFault::NoToken)?;
        *self.generated.entry(token).or_default() += 1;
        Ok(token)
    }

    fn adjust(&mut self, logits: &[f32], forbidden: &[TokenId]) {
        self.logits.clear();
        self.logits.extend(
            logits.iter().map(|logit| if logit.is_nan() { f32::NEG_INFINITY } else { *logit }),
        );
        for (token, bias) in &self.params.logit_bias {
            if let Some(logit) = slot_of(&mut self.logits, *token) {
                *logit += bias;
            }
        }
        let (frequency, presence) = (self.params.frequency_penalty, self.params.presence_penalty);
        if frequency != 0.0 || presence != 0.0 {
            for (token, count) in &self.generated {
                if let Some(logit) = slot_of(&mut self.logits, *token) {
                    #[allow(clippy::cast_precision_loss)] // a count of tokens is small
                    let times = *count as f32;
                    *logit -= frequency * times + presence;
                }
            }
        }
        for token in forbidden {
            if let Some(logit) = slot_of(&mut self.logits, *token) {
                *logit = f32::NEG_INFINITY;
            }
        }
    }

    /// Chooses among the adjusted logits: temperature, then `min_p`, `top_k`, `top_p`.
    fn pick(&mut self) -> Option<TokenId> {
        let (best, highest) = argmax(&self.logits)?;
        if self.params.temperature <= 0.0 {
            return Some(best);
        }
        let temperature = self.params.temperature;
        let threshold = if self.params.min_p > 0.0 {
            highest + temperature * self.params.min_p.ln()
        } else {
            f32::MIN
        };
        self.candidates.clear();
        let kept = (0..).zip(&self.logits).filter(|(_, logit)| **logit >= threshold);
        self.candidates.extend(kept.map(|(token, logit)| (token, (logit - highest) / temperature)));
        let top_k = usize::try_from(self.params.top_k).unwrap_or(0);
        if top_k > 0 && top_k < self.candidates.len() {
            self.candidates.select_nth_unstable_by(top_k - 1, by_likelihood);
            self.candidates.truncate(top_k);
        }
        let nucleus = self.params.top_p < 1.0;
        if nucleus || top_k > 0 {
            self.candidates.sort_unstable_by(by_likelihood);
        }
        for (_, weight) in &mut self.candidates {
            *weight = weight.exp();
        }
        let total: f64 = self.candidates.iter().map(|(_, weight)| f64::from(*weight)).sum();
        let total = if nucleus { self.cut_nucleus(total) } else { total };
        Some(self.draw(total).unwrap_or(best))
    }

    /// Keeps the likeliest candidates that together have `top_p`; answers their weight.
    fn cut_nucleus(&mut self, total: f64) -> f64 {
        let wanted = total * f64::from(self.params.top_p.max(0.0));
        let mut sum = 0.0;
        let mut keep = 0;
        for (_, weight) in &self.candidates {
            sum += f64::from(*weight);
            keep += 1;
            if sum >= wanted {
                break;
            }
        }
        self.candidates.truncate(keep);
        sum
    }

    fn draw(&mut self, total: f64) -> Option<TokenId> {
        let mut left = self.random.unit() * total;
        for (token, weight) in &self.candidates {
            left -= f64::from(*weight);
            if left < 0.0 {
                return Some(*token);
            }
        }
        self.candidates.last().map(|(token, _)| *token)
    }
}

/// Likelier first; of equals the lower number first, so that no sort decides.
fn by_likelihood(a: &(TokenId, f32), b: &(TokenId, f32)) -> std::cmp::Ordering {
    b.1.total_cmp(&a.1).then(a.0.cmp(&b.0))
}

fn slot_of(logits: &mut [f32], token: TokenId) -> Option<&mut f32> {
    logits.get_mut(usize::try_from(token).ok()?)
}

/// The likeliest token, if any is possible at all; of equals the first.
pub(crate) fn argmax(logits: &[f32]) -> Option<(TokenId, f32)> {
    let mut best: Option<(TokenId, f32)> = None;
    for (token, logit) in (0..).zip(logits) {
        if *logit > best.map_or(f32::NEG_INFINITY, |(_, highest)| highest) {
            best = Some((token, *logit));
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn params(temperature: f32) -> SamplingParams {
        SamplingParams {
            temperature,
            top_p: 1.0,
            top_k: 0,
            min_p: 0.0,
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
            seed: 7,
            choice: 0,
            logit_bias: vec![],
        }
    }

    fn draws(params: SamplingParams, logits: &[f32], count: usize) -> Vec<TokenId> {
        let mut sampler = Sampler::new(params);
        (0..count).map(|_| sampler.sample(logits, &[], None).unwrap()).collect()
    }

    #[test]
    fn temperature_zero_takes_the_likeliest_and_the_first_of_equals() {
        assert_eq!(draws(params(0.0), &[1.0, 3.0, 3.0, 2.0], 3), [1, 1, 1]);
    }

    #[test]
    fn draws_follow_the_probabilities() {
        let logits = [0.75_f32.ln(), 0.25_f32.ln()];
        let zeros = draws(params(1.0), &logits, 4000).iter().filter(|t| **t == 0).count();
        assert!((2850..3150).contains(&zeros), "{zeros} of 4000, expected about 3000");
    }

    #[test]
    fn cuts_leave_only_what_they_should() {
        let logits = [0.6_f32.ln(), 0.3_f32.ln(), 0.1_f32.ln()];
        let seen = |params: SamplingParams| {
            let mut tokens = draws(params, &logits, 500);
            tokens.sort_unstable();
            tokens.dedup();
            tokens
        };
        assert_eq!(seen(params(1.0)), [0, 1, 2]);
        assert_eq!(seen(SamplingParams { top_k: 2, ..params(1.0) }), [0, 1]);
        assert_eq!(seen(SamplingParams { top_p: 0.5, ..params(1.0) }), [0]);
        assert_eq!(seen(SamplingParams { top_p: 0.7, ..params(1.0) }), [0, 1]);
        assert_eq!(seen(SamplingParams { min_p: 0.4, ..params(1.0) }), [0, 1]);
    }

    #[test]
    fn penalties_and_biases_move_the_choice() {
        let logits = [2.0, 1.5, 0.0];
        let alternating =
            draws(SamplingParams { frequency_penalty: 1.0, ..params(0.0) }, &logits, 4);
        assert_eq!(alternating, [0, 1, 0, 1]);
        let biased = SamplingParams { logit_bias: vec![(2, 100.0), (99, 1.0)], ..params(0.0) };
        assert_eq!(draws(biased, &logits, 1), [2]);
        let mut sampler = Sampler::new(params(0.0));
        assert_eq!(sampler.sample(&logits, &[0], None).unwrap(), 1);
    }

    #[test]
    fn useless_logits_are_a_fault_and_no_panic() {
        for logits in [&[][..], &[f32::NAN], &[f32::NEG_INFINITY, f32::NEG_INFINITY]] {
            let fault = Sampler::new(params(1.0)).sample(logits, &[], None).unwrap_err();
            assert!(matches!(fault, SampleFault::NoToken));
        }
    }

    proptest! {
        #[test]
        fn any_logits_give_a_token_of_the_vocabulary_and_repeat_for_a_seed(
            logits in proptest::collection::vec(-50.0_f32..50.0, 1..200),
            temperature in 0.0_f32..2.0,
            top_p in 0.0_f32..=1.0,
            top_k in 0_u32..50,
            min_p in 0.0_f32..=1.0,
            seed: u64,
        ) {
            let params = SamplingParams { temperature, top_p, top_k, min_p, seed, ..params(0.0) };
            let tokens = draws(params.clone(), &logits, 8);
            prop_assert!(tokens.iter().all(|token| (*token as usize) < logits.len()));
            prop_assert_eq!(tokens, draws(params, &logits, 8));
        }
    }
}
