//! Log-probabilities of tokens, as the model gives them (before temperature and cuts).

use crate::model::TokenId;

/// A token with its log-probability.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct TokenLogprob {
    pub(crate) token: TokenId,
    /// Natural logarithm of the probability; never above 0.
    pub(crate) logprob: f32,
}

/// What is known of one position: the token that stands there and the likeliest ones.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct PositionLogprobs {
    pub(crate) chosen: TokenLogprob,
    /// Likeliest first.
    pub(crate) top: Vec<TokenLogprob>,
}

/// The log-probabilities at a position with these logits, where `token` was chosen.
pub(crate) fn position_logprobs(logits: &[f32], token: TokenId, top: usize) -> PositionLogprobs {
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|logit| f64::from(logit - highest).exp()).sum();
    let normalizer = f64::from(highest) + sum.ln();
    #[allow(clippy::cast_possible_truncation)] // the rounding is wanted
    let logprob_of = |logit: f32| ((f64::from(logit) - normalizer) as f32).min(0.0);
    let chosen_logit = usize::try_from(token).ok().and_then(|index| logits.get(index));
    let mut ranked: Vec<TokenLogprob> = (0..)
        .zip(logits)
        .filter(|(_, logit)| logit.is_finite())
        .map(|(token, logit)| TokenLogprob { token, logprob: *logit })
        .collect();
    let by_likelihood = |a: &TokenLogprob, b: &TokenLogprob| {
        b.logprob.total_cmp(&a.logprob).then(a.token.cmp(&b.token))
    };
    if top == 0 {
        ranked.clear();
    } else if top < ranked.len() {
        ranked.select_nth_unstable_by(top - 1, by_likelihood);
        ranked.truncate(top);
    }
    ranked.sort_unstable_by(by_likelihood);
    for entry in &mut ranked {
        entry.logprob = logprob_of(entry.logprob);
    }
    // OpenAI writes -9999.0 for a token that was not possible at all; JSON has no infinity.
    let chosen = chosen_logit
        .map(|logit| logprob_of(*logit))
        .filter(|logprob| logprob.is_finite())
        .unwrap_or(-9999.0);
    PositionLogprobs { chosen: TokenLogprob { token, logprob: chosen }, top: ranked }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn probabilities_are_those_of_the_softmax() {
        let logits = [0.5_f32.ln() + 3.0, 0.3_f32.ln() + 3.0, 0.2_f32.ln() + 3.0];
        let position = position_logprobs(&logits, 2, 2);
        assert!((position.chosen.logprob - 0.2_f32.ln()).abs() < 1e-5);
        let tokens: Vec<_> = position.top.iter().map(|entry| entry.token).collect();
        assert_eq!(tokens, [0, 1]);
        assert!((position.top[0].logprob - 0.5_f32.ln()).abs() < 1e-5);
    }

    proptest! {
        #[test]
        fn tops_are_sorted_and_never_above_zero(
            logits in proptest::collection::vec(-80.0_f32..80.0, 1..100),
            token in 0_u32..120,
            top in 0_usize..25,
        ) {
            let position = position_logprobs(&logits, token, top);
            prop_assert_eq!(position.top.len(), top.min(logits.len()));
            prop_assert!(position.chosen.logprob <= 0.0 && position.chosen.logprob.is_finite());
            prop_assert!(position.top.windows(2).all(|w| w[0].logprob >= w[1].logprob));
        }
    }
}
