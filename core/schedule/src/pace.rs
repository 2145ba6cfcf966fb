//! How fast and how honest a worker has proved to be.

/// What became of a request on a worker, seen from the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Answered completely.
    Served {
        /// From handing the request to the worker to its final part.
        service_ms: u64,
        /// Size of the answer in tokens with prices taken out; 0 when the worker reported none.
        tokens: u64,
    },
    /// Ended for a reason that says nothing about the worker (the client left, a bad request).
    Neutral,
    /// The worker had no room although it announced some: another way into it is in use, as when
    /// it is connected twice. No failure, but a reason to look elsewhere for a moment.
    Full,
    /// The worker failed: an error of its own, a timeout, parts out of order.
    Failed,
    /// The worker claimed more tokens than the request could cost.
    Lied,
}

/// A request of this many tokens is the yardstick all workers are measured by.
const STANDARD_TOKENS: u64 = 256;
/// The fixed part of a request (prompt, transport), expressed in tokens of answer.
const OVERHEAD_TOKENS: u64 = 64;
/// What a worker nobody has measured is taken for: good, so that it gets measured.
const UNMEASURED_US: u64 = 100_000;
/// No sample counts for more than this.
const SAMPLE_MAX_US: u64 = 600_000_000;
/// Failures in a row before a worker cools down.
const STREAK_MAX: u32 = 3;
/// First cool-down after a streak of failures; doubles with each repetition.
const COOL_FAILED_MS: u64 = 1_000;
/// First cool-down after a lie; doubles with each repetition.
const COOL_LIED_MS: u64 = 30_000;
/// How long a worker that said it was full is left alone.
const COOL_FULL_MS: u64 = 100;
/// Longest cool-down after failures: less than a request waits in line, so that a single worker
/// that came back is found.
const COOL_FAILED_MAX_MS: u64 = 15_000;
/// Longest cool-down after lies.
const COOL_LIED_MAX_MS: u64 = 600_000;
/// A measurement older than this is believed only half, so a slow worker gets another chance.
const STALE_MS: u64 = 60_000;
/// Weight of the past in moving averages: `new = old + (sample - old) / 8`.
const PAST: u64 = 8;

/// Measured speed and reputation of one worker connection.
#[derive(Clone, Debug)]
pub(crate) struct Pace {
    /// Moving average of the time for a standard request, in microseconds.
    standard_us: u64,
    /// Moving average of how many other requests ran beside a measured one, in thousandths.
    beside_milli: u64,
    measured: bool,
    measured_at_ms: u64,
    /// Share of failures, in thousandths.
    failed_milli: u64,
    streak: u32,
    cooled: u32,
    lies: u32,
    cool_until_ms: u64,
}

impl Pace {
    pub(crate) fn new(now_ms: u64) -> Self {
        Self {
            standard_us: UNMEASURED_US,
            beside_milli: 0,
            measured: false,
            measured_at_ms: now_ms,
            failed_milli: 0,
            streak: 0,
            cooled: 0,
            lies: 0,
            cool_until_ms: 0,
        }
    }

    /// Learns from one finished request that ran beside `beside` others.
    pub(crate) fn learn(&mut self, outcome: Outcome, beside: u32, now_ms: u64) {
        match outcome {
            Outcome::Served { service_ms, tokens } => {
                self.served(service_ms, tokens, beside, now_ms)
            }
            Outcome::Neutral => {}
            Outcome::Full => self.cool(COOL_FULL_MS, COOL_FULL_MS, 0, now_ms),
            Outcome::Failed => self.failed(now_ms),
            Outcome::Lied => self.lied(now_ms),
        }
    }

    /// The expected time of one more request when `running` run already, in microseconds.
    ///
    /// The measured time belongs to the load under which it was measured, so it is scaled by the
    /// load now over the load then. No claim of the worker enters: a huge announced limit does
    /// not attract traffic.
    pub(crate) fn expected_us(&self, running: u32) -> u64 {
        let load = 1_000u64.saturating_mul(u64::from(running).saturating_add(1));
        let scaled =
            self.standard_us.saturating_mul(load) / self.beside_milli.saturating_add(1_000);
        // A worker that fails every time looks five times as slow.
        scaled.saturating_mul(1_000 + 4 * self.failed_milli) / 1_000
    }

    pub(crate) fn is_cooling(&self, now_ms: u64) -> bool {
        self.cool_until_ms > now_ms
    }

    /// When something about this worker changes by itself: the end of a cool-down, or the moment
    /// its measurement goes stale.
    pub(crate) fn alarm_ms(&self, now_ms: u64) -> Option<u64> {
        if self.is_cooling(now_ms) {
            return Some(self.cool_until_ms);
        }
        let stale = self.measured && self.standard_us > UNMEASURED_US;
        stale.then(|| self.measured_at_ms.saturating_add(STALE_MS).max(now_ms.saturating_add(1)))
    }

    /// Halves a stale measurement.
    pub(crate) fn refresh(&mut self, now_ms: u64) {
        if self.measured && now_ms >= self.measured_at_ms.saturating_add(STALE_MS) {
            self.standard_us = (self.standard_us / 2).max(UNMEASURED_US.min(self.standard_us));
            self.measured_at_ms = now_ms;
        }
    }

    /// Share of failures, in thousandths.
    pub(crate) fn failed_milli(&self) -> u64 {
        self.failed_milli
    }

    fn served(&mut self, service_ms: u64, tokens: u64, beside: u32, now_ms: u64) {
        let whole = service_ms.saturating_mul(1_000).min(SAMPLE_MAX_US);
        let sample = match tokens {
            0 => whole,
            n => {
                let scale = STANDARD_TOKENS + OVERHEAD_TOKENS;
                (whole.saturating_mul(scale) / n.saturating_add(OVERHEAD_TOKENS)).min(SAMPLE_MAX_US)
            }
        };
        let beside = u64::from(beside).saturating_mul(1_000);
        if self.measured {
            self.standard_us = drift(self.standard_us, sample);
            self.beside_milli = drift(self.beside_milli, beside);
        } else {
            (self.standard_us, self.beside_milli, self.measured) = (sample, beside, true);
        }
        self.standard_us = self.standard_us.max(1);
        self.measured_at_ms = now_ms;
        self.failed_milli = drift(self.failed_milli, 0);
        self.streak = 0;
        self.cooled = 0;
    }

    fn failed(&mut self, now_ms: u64) {
        self.failed_milli = drift(self.failed_milli, 1_000);
        self.streak = self.streak.saturating_add(1);
        if self.streak >= STREAK_MAX {
            self.cool(COOL_FAILED_MS, COOL_FAILED_MAX_MS, self.cooled, now_ms);
            self.cooled = self.cooled.saturating_add(1);
        }
    }

    fn lied(&mut self, now_ms: u64) {
        self.failed_milli = drift(self.failed_milli, 1_000);
        self.cool(COOL_LIED_MS, COOL_LIED_MAX_MS, self.lies, now_ms);
        self.lies = self.lies.saturating_add(1);
    }

    fn cool(&mut self, first_ms: u64, longest_ms: u64, doublings: u32, now_ms: u64) {
        let span = first_ms.saturating_mul(1 << doublings.min(16)).min(longest_ms);
        self.cool_until_ms = self.cool_until_ms.max(now_ms.saturating_add(span));
    }
}

/// One step of the moving average, rounded towards the sample.
fn drift(old: u64, sample: u64) -> u64 {
    if sample >= old {
        old + (sample - old).div_ceil(PAST)
    } else {
        old - (old - sample).div_ceil(PAST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quick_worker_is_expected_to_be_quick() {
        let (mut quick, mut slow) = (Pace::new(0), Pace::new(0));
        quick.learn(Outcome::Served { service_ms: 1_000, tokens: 1_000 }, 0, 10);
        slow.learn(Outcome::Served { service_ms: 1_000, tokens: 10 }, 0, 10);
        assert!(quick.expected_us(0) < slow.expected_us(0));
        // Ten in flight on the quick one make it the worse choice.
        assert!(quick.expected_us(40) > slow.expected_us(0));
    }

    #[test]
    fn time_measured_under_load_is_not_scaled_again() {
        let mut busy = Pace::new(0);
        busy.learn(Outcome::Served { service_ms: 2_000, tokens: 256 }, 9, 10);
        assert_eq!(busy.expected_us(9), 2_000_000);
    }

    #[test]
    fn failures_cool_down_longer_each_time_and_success_forgives() {
        let mut pace = Pace::new(0);
        for _ in 0..2 {
            pace.learn(Outcome::Failed, 0, 0);
        }
        assert!(!pace.is_cooling(0));
        pace.learn(Outcome::Failed, 0, 0);
        assert!(pace.is_cooling(999) && !pace.is_cooling(1_000));
        pace.learn(Outcome::Failed, 0, 1_000);
        assert!(pace.is_cooling(2_999) && !pace.is_cooling(3_000));
        pace.learn(Outcome::Served { service_ms: 10, tokens: 1 }, 0, 3_000);
        pace.learn(Outcome::Failed, 0, 3_000);
        assert!(!pace.is_cooling(3_000));
    }

    #[test]
    fn a_lie_cools_at_once_and_is_not_forgiven_by_success() {
        let mut pace = Pace::new(0);
        pace.learn(Outcome::Lied, 0, 0);
        assert!(pace.is_cooling(29_999));
        pace.learn(Outcome::Served { service_ms: 10, tokens: 1 }, 0, 30_000);
        pace.learn(Outcome::Lied, 0, 30_000);
        assert!(pace.is_cooling(89_999));
    }

    #[test]
    fn a_full_worker_rests_and_keeps_its_name() {
        let mut pace = Pace::new(0);
        for _ in 0..10 {
            pace.learn(Outcome::Full, 0, 0);
        }
        assert!(pace.is_cooling(99) && !pace.is_cooling(100));
        assert_eq!(pace.failed_milli(), 0);
    }

    #[test]
    fn a_slow_measurement_fades() {
        let mut pace = Pace::new(0);
        pace.learn(Outcome::Served { service_ms: 64_000, tokens: 256 }, 0, 0);
        let before = pace.expected_us(0);
        assert_eq!(pace.alarm_ms(1), Some(60_000));
        pace.refresh(60_000);
        assert_eq!(pace.expected_us(0), before / 2);
    }
}
