//! The pause before the next attempt to dial.

use std::time::Duration;

use crate::settings::BackoffSettings;

/// Grows with each failure, starts over after a connection that held.
#[derive(Debug)]
pub(crate) struct Backoff {
    settings: BackoffSettings,
    current: Duration,
}

impl Backoff {
    pub(crate) fn new(settings: BackoffSettings) -> Self {
        Self { current: settings.first, settings }
    }

    /// The next pause; `spread` in 0 to 1 says how much of its second half to leave out.
    pub(crate) fn next(&mut self, spread: f64) -> Duration {
        let pause = self.current.mul_f64(1.0 - spread.clamp(0.0, 1.0) / 2.0);
        self.current = (self.current + self.current / 2).min(self.settings.max);
        pause
    }

    /// Tells that a connection was ready for `lived`.
    pub(crate) fn held(&mut self, lived: Duration) {
        if lived >= self.settings.stable_after {
            self.current = self.settings.first;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_limit_and_start_over() {
        let mut backoff = Backoff::new(BackoffSettings::default());
        let pauses: Vec<_> = (0..20).map(|_| backoff.next(0.0)).collect();
        assert_eq!(pauses[0], Duration::from_millis(100));
        assert_eq!(pauses[1], Duration::from_millis(150));
        assert!(pauses.is_sorted());
        assert_eq!(pauses[19], Duration::from_secs(10));
        backoff.held(Duration::from_secs(4));
        assert_eq!(backoff.next(1.0), Duration::from_secs(5), "shortened by half at most");
        backoff.held(Duration::from_secs(5));
        assert_eq!(backoff.next(0.0), Duration::from_millis(100));
    }
}
