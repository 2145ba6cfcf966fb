//! Counters with decaying rates, as the reference's status page shows them (protocol notes 4.3).

use cocoon_role_proxy::Counts;
use serde::Serialize;

/// Time constants, in seconds.
const SPANS_S: [f64; 6] = [1.0, 10.0, 60.0, 600.0, 3_600.0, 86_400.0];

/// Names of the counters, in the order of [`Rates`].
pub(crate) const NAMES: [&str; 12] = [
    "queries",
    "success",
    "failed",
    "rejected",
    "bytes_received",
    "bytes_sent",
    "time",
    "total_adjusted_tokens_used",
    "prompt_adjusted_tokens_used",
    "cached_adjusted_tokens_used",
    "completion_adjusted_tokens_used",
    "reasoning_adjusted_tokens_used",
];

/// One counter: its total, then rates per second that decay with each time constant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Rate([f64; 7]);

impl Rate {
    fn advance(&mut self, total: f64, elapsed_s: f64) {
        let [before, rates @ ..] = &mut self.0;
        let grown = total - *before;
        for (rate, span) in rates.iter_mut().zip(SPANS_S) {
            *rate = rate.mul_add((-elapsed_s / span).exp(), grown / span);
        }
        *before = total;
    }
}

/// All counters of the page.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Rates {
    rates: [Rate; NAMES.len()],
    at_ms: u64,
}

impl Rates {
    /// Takes the present totals in.
    #[allow(clippy::cast_precision_loss, reason = "a page for people")]
    pub(crate) fn advance(&mut self, counts: &Counts, now_ms: u64) {
        let elapsed_s = now_ms.saturating_sub(self.at_ms) as f64 / 1_000.0;
        self.at_ms = now_ms;
        let tokens = &counts.tokens;
        let totals = [
            counts.queries as f64,
            counts.success as f64,
            counts.failed as f64,
            counts.rejected as f64,
            counts.bytes_in as f64,
            counts.bytes_out as f64,
            counts.time_ms as f64 / 1_000.0,
            tokens.total.0 as f64,
            tokens.prompt.0 as f64,
            tokens.cached.0 as f64,
            tokens.completion.0 as f64,
            tokens.reasoning.0 as f64,
        ];
        for (rate, total) in self.rates.iter_mut().zip(totals) {
            rate.advance(total, elapsed_s);
        }
    }

    /// Names with their rates.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&'static str, Rate)> + '_ {
        NAMES.into_iter().zip(self.rates)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steady_flow_shows_its_rate_and_silence_fades() {
        let mut rates = Rates::default();
        for second in 1..=200u64 {
            let counts = Counts { queries: second * 5, ..Counts::default() };
            rates.advance(&counts, second * 1_000);
        }
        let (name, Rate(queries)) = rates.iter().next().unwrap();
        assert_eq!((name, queries[0]), ("queries", 1_000.0));
        assert!((queries[2] - 5.0).abs() < 0.3, "{queries:?}");
        let counts = Counts { queries: 1_000, ..Counts::default() };
        rates.advance(&counts, 400_000);
        let (_, Rate(queries)) = rates.iter().next().unwrap();
        assert!(queries[2] < 0.001 && queries[0] == 1_000.0);
    }
}
