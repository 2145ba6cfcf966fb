//! A steady allowance of requests: a bucket that refills.

use std::time::{Duration, Instant};

/// Requests that may still be made now. As many as a minute allows may come at once after a pause.
#[derive(Debug)]
pub(crate) struct Pace {
    allowance: f64,
    seen: Instant,
}

impl Pace {
    /// A full allowance.
    pub(crate) fn new(per_minute: u32, now: Instant) -> Pace {
        Pace { allowance: f64::from(per_minute), seen: now }
    }

    /// Takes one request from the allowance, or tells when there will be one.
    pub(crate) fn take(&mut self, per_minute: u32, now: Instant) -> Result<(), Duration> {
        let per_minute = f64::from(per_minute);
        let passed_s = now.saturating_duration_since(self.seen).as_secs_f64();
        self.seen = now;
        self.allowance = (self.allowance + passed_s * per_minute / 60.0).min(per_minute);
        if self.allowance >= 1.0 {
            self.allowance -= 1.0;
            return Ok(());
        }
        let missing_s =
            if per_minute > 0.0 { (1.0 - self.allowance) * 60.0 / per_minute } else { 60.0 };
        Err(Duration::from_secs_f64(missing_s))
    }

    /// How long nothing was taken. After a minute the allowance is whole.
    pub(crate) fn idle(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.seen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pace_refills() {
        let start = Instant::now();
        let mut pace = Pace::new(1, start);
        assert!(pace.take(60, start).is_ok());
        let wait = pace.take(60, start).unwrap_err();
        assert!((wait.as_secs_f64() - 1.0).abs() < 0.01);
        assert!(pace.take(60, start + Duration::from_secs(1)).is_ok());
        assert!(pace.take(0, start + Duration::from_secs(100)).is_err());
    }
}
