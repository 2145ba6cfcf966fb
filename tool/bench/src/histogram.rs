//! Durations counted in buckets of equal relative width.

use std::time::Duration;

/// Buckets per power of two: the width of a bucket is at most 1/64 of its values.
const STEPS: usize = 64;
const STEPS_LOG2: u32 = STEPS.trailing_zeros();
/// Values below `2 * STEPS` have a bucket each; above, every power of two up to 2^64 has `STEPS`.
const BUCKETS: usize = STEPS * (65 - STEPS_LOG2 as usize);

/// Counts of durations, from which percentiles are read with a relative error below 1/64.
/// Takes 30 kB whatever it holds; recording is a few instructions.
#[derive(Clone)]
pub struct Histogram {
    counts: Box<[u64]>,
    count: u64,
    sum_ns: u128,
    max_ns: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; BUCKETS].into(), count: 0, sum_ns: 0, max_ns: 0 }
    }
}

impl std::fmt::Debug for Histogram {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Histogram({} values, max {:?})", self.count, self.max())
    }
}

impl Histogram {
    /// Counts one duration. Over 584 years it counts as that.
    pub fn record(&mut self, duration: Duration) {
        let ns = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        if let Some(count) = self.counts.get_mut(bucket(ns)) {
            *count += 1;
        }
        self.count += 1;
        self.sum_ns += u128::from(ns);
        self.max_ns = self.max_ns.max(ns);
    }

    /// Adds what another one counted.
    pub fn merge(&mut self, other: &Self) {
        for (mine, others) in self.counts.iter_mut().zip(&other.counts) {
            *mine += others;
        }
        self.count += other.count;
        self.sum_ns += other.sum_ns;
        self.max_ns = self.max_ns.max(other.max_ns);
    }

    /// How many durations were recorded.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The largest one, exactly; zero when there is none.
    #[must_use]
    pub fn max(&self) -> Duration {
        Duration::from_nanos(self.max_ns)
    }

    /// The mean, exactly; zero when there is none.
    #[must_use]
    pub fn mean(&self) -> Duration {
        let mean = self.sum_ns.checked_div(u128::from(self.count)).unwrap_or(0);
        Duration::from_nanos(u64::try_from(mean).unwrap_or(u64::MAX))
    }

    /// The smallest duration that at least `percent` of the recorded ones do not exceed, rounded
    /// up to the end of its bucket (less than 1/64 too large) but never above the maximum. Zero
    /// when there is none.
    #[must_use]
    pub fn percentile(&self, percent: f64) -> Duration {
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "a rank between 1 and the count"
        )]
        let rank =
            ((percent / 100.0 * self.count as f64).ceil() as u64).clamp(1, self.count.max(1));
        let mut below = 0;
        for (index, count) in self.counts.iter().enumerate() {
            below += count;
            if below >= rank {
                return Duration::from_nanos(last_of(index).min(self.max_ns));
            }
        }
        self.max()
    }
}

/// The bucket of a value. Its leading one and the six bits behind it choose the bucket.
fn bucket(ns: u64) -> usize {
    let shift = (u64::BITS - ns.leading_zeros()).saturating_sub(STEPS_LOG2 + 1);
    let step = usize::try_from(ns >> shift).unwrap_or(usize::MAX);
    STEPS * shift as usize + step
}

/// The largest value of a bucket.
fn last_of(bucket: usize) -> u64 {
    let shift = (bucket / STEPS).saturating_sub(1);
    let step = (bucket - STEPS * shift) as u64;
    let first = u128::from(step) << shift;
    u64::try_from(first + (1_u128 << shift) - 1).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::{BUCKETS, Histogram, bucket, last_of};
    use proptest::prelude::*;
    use std::time::Duration;

    #[test]
    fn ends_of_the_range_have_buckets() {
        assert_eq!(bucket(0), 0);
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
        assert_eq!(last_of(BUCKETS - 1), u64::MAX);
    }

    #[test]
    fn empty_histogram_is_zero() {
        let empty = Histogram::default();
        assert_eq!((empty.percentile(99.0), empty.mean()), (Duration::ZERO, Duration::ZERO));
    }

    /// Values of all magnitudes, not only large ones.
    fn nanoseconds() -> impl Strategy<Value = u64> {
        (any::<u64>(), 0..64_u32).prop_map(|(value, shift)| value >> shift)
    }

    proptest! {
        #[test]
        fn bucket_holds_its_value(ns in nanoseconds()) {
            let last = last_of(bucket(ns));
            prop_assert!(ns <= last);
            prop_assert!(last - ns <= ns / 64);
        }

        #[test]
        fn buckets_rise_with_values(a in nanoseconds(), b in nanoseconds()) {
            prop_assert!(bucket(a.min(b)) <= bucket(a.max(b)));
        }

        #[test]
        fn percentiles_match_exact_ones(
            values in prop::collection::vec(nanoseconds(), 1..300),
            percent in 0.0..=100.0_f64,
        ) {
            let mut histogram = Histogram::default();
            for ns in &values {
                histogram.record(Duration::from_nanos(*ns));
            }
            let mut sorted = values.clone();
            sorted.sort_unstable();
            let rank = ((percent / 100.0 * values.len() as f64).ceil() as usize).max(1);
            let exact = sorted[rank - 1];
            let found = u64::try_from(histogram.percentile(percent).as_nanos()).unwrap();
            prop_assert!(found >= exact, "{found} < {exact}");
            prop_assert!(found - exact <= exact / 64, "{found} is too far above {exact}");
            prop_assert_eq!(histogram.max().as_nanos(), u128::from(*sorted.last().unwrap()));
        }

        #[test]
        fn merging_is_recording_both(
            left in prop::collection::vec(nanoseconds(), 0..50),
            right in prop::collection::vec(nanoseconds(), 0..50),
        ) {
            let (mut both, mut a, mut b) =
                (Histogram::default(), Histogram::default(), Histogram::default());
            for ns in &left { a.record(Duration::from_nanos(*ns)); both.record(Duration::from_nanos(*ns)); }
            for ns in &right { b.record(Duration::from_nanos(*ns)); both.record(Duration::from_nanos(*ns)); }
            a.merge(&b);
            prop_assert_eq!(a.count(), both.count());
            prop_assert_eq!(a.mean(), both.mean());
            for percent in [1.0, 50.0, 99.0] {
                prop_assert_eq!(a.percentile(percent), both.percentile(percent));
            }
        }
    }
}
