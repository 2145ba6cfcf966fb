//! The engine's counters, as Prometheus text (exposition format 0.0.4).

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counters and gauges; any thread may write them.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    active: AtomicU64,
    waiting: AtomicU64,
    prompt_tokens: AtomicU64,
    cached_tokens: AtomicU64,
    generated_tokens: AtomicU64,
    abandoned: AtomicU64,
    /// Answers by class of status: 2xx, 4xx, 5xx.
    answers: [AtomicU64; 3],
}

fn wide(value: usize) -> u64 {
    u64::try_from(value).unwrap_or(u64::MAX)
}

impl Metrics {
    pub(crate) fn set_load(&self, active: usize, waiting: usize) {
        self.active.store(wide(active), Ordering::Relaxed);
        self.waiting.store(wide(waiting), Ordering::Relaxed);
    }

    /// Sequences under way and requests waiting for one.
    pub(crate) fn load(&self) -> (u64, u64) {
        (self.active.load(Ordering::Relaxed), self.waiting.load(Ordering::Relaxed))
    }

    pub(crate) fn add_prompt(&self, decoded: usize, cached: usize) {
        self.prompt_tokens.fetch_add(wide(decoded), Ordering::Relaxed);
        self.cached_tokens.fetch_add(wide(cached), Ordering::Relaxed);
    }

    pub(crate) fn add_generated(&self, count: usize) {
        self.generated_tokens.fetch_add(wide(count), Ordering::Relaxed);
    }

    pub(crate) fn add_abandoned(&self, count: usize) {
        self.abandoned.fetch_add(wide(count), Ordering::Relaxed);
    }

    pub(crate) fn add_answer(&self, status: u16) {
        let class = match status {
            0..=399 => 0,
            400..=499 => 1,
            _ => 2,
        };
        if let Some(counter) = self.answers.get(class) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn render(&self) -> String {
        let mut text = String::new();
        let mut line = |name: &str, kind: &str, help: &str, value: &AtomicU64| {
            let value = value.load(Ordering::Relaxed);
            // Writing to a string cannot fail.
            let _ = write!(
                text,
                "# HELP cocoon_engine_{name} {help}\n# TYPE cocoon_engine_{name} {kind}\n\
                 cocoon_engine_{name} {value}\n"
            );
        };
        line("sequences_active", "gauge", "Sequences being decoded.", &self.active);
        line("requests_waiting", "gauge", "Requests waiting for a sequence.", &self.waiting);
        line("prompt_tokens_total", "counter", "Prompt tokens decoded.", &self.prompt_tokens);
        line("cached_tokens_total", "counter", "Prompt tokens reused.", &self.cached_tokens);
        line("generated_tokens_total", "counter", "Tokens generated.", &self.generated_tokens);
        line("abandoned_total", "counter", "Sequences whose client went away.", &self.abandoned);
        let help = "# HELP cocoon_engine_answers_total Answers by class of status.\n\
                    # TYPE cocoon_engine_answers_total counter\n";
        text.push_str(help);
        for (class, counter) in ["2xx", "4xx", "5xx"].iter().zip(&self.answers) {
            let value = counter.load(Ordering::Relaxed);
            let _ = writeln!(text, "cocoon_engine_answers_total{{status=\"{class}\"}} {value}");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_come_out_as_prometheus_text() {
        let metrics = Metrics::default();
        metrics.add_generated(3);
        metrics.set_load(2, 1);
        metrics.add_answer(404);
        let text = metrics.render();
        assert!(text.contains("cocoon_engine_generated_tokens_total 3\n"), "{text}");
        assert!(text.contains("cocoon_engine_sequences_active 2\n"), "{text}");
        assert!(text.contains("cocoon_engine_answers_total{status=\"4xx\"} 1\n"), "{text}");
        assert!(text.lines().all(|line| line.starts_with('#') || line.contains(' ')));
    }
}
