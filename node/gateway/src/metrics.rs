//! What the gateway counts, for Prometheus, for `/jsonstats` and for people.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use cocoon_openai::Endpoint;
use http::StatusCode;
use serde_json::{Value, json};

use crate::answer::FinalRecord;
use crate::upstream::NetworkStatus;

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// A complete answer.
    Success,
    /// An error, before or within the answer.
    Failure,
    /// The user left before the end.
    GivenUp,
}

/// All counters. They only grow, but for the gauge of running requests.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    running: AtomicUsize,
    answers: [AtomicU64; 6],
    outcomes: [AtomicU64; 3],
    endpoints: [AtomicU64; 8],
    refused_connections: AtomicU64,
    given_up_connections: AtomicU64,
    bytes_sent: AtomicU64,
    cost_nanoton: AtomicU64,
    tokens: [AtomicU64; 5],
    first_byte: Histogram,
    whole: Histogram,
    rates: Mutex<Rates>,
}

impl Metrics {
    /// Counts a request as running, unless `limit` run already.
    pub(crate) fn begin(&self, limit: usize) -> bool {
        if self.running.fetch_add(1, Relaxed) >= limit {
            self.running.fetch_sub(1, Relaxed);
            return false;
        }
        true
    }

    /// Counts the end of a request that [`Metrics::begin`] counted.
    pub(crate) fn end(
        &self,
        endpoint: Endpoint,
        outcome: Outcome,
        took: Duration,
        first_byte: Option<Duration>,
        bytes: u64,
    ) {
        self.running.fetch_sub(1, Relaxed);
        let index = Endpoint::ALL.iter().position(|other| *other == endpoint);
        if let Some(counter) = index.and_then(|index| self.endpoints.get(index)) {
            counter.fetch_add(1, Relaxed);
        }
        let [success, failure, given_up] = &self.outcomes;
        match outcome {
            Outcome::Success => success.fetch_add(1, Relaxed),
            Outcome::Failure => failure.fetch_add(1, Relaxed),
            Outcome::GivenUp => given_up.fetch_add(1, Relaxed),
        };
        self.bytes_sent.fetch_add(bytes, Relaxed);
        if let Some(first_byte) = first_byte {
            self.first_byte.observe(first_byte);
        }
        self.whole.observe(took);
        let success = f64::from(u8::from(outcome == Outcome::Success));
        let seen = [1.0, success, 1.0 - success, 0.0, bytes as f64, took.as_secs_f64()];
        self.lock_rates().add(Instant::now(), seen);
    }

    /// Counts tokens and money.
    pub(crate) fn spent(&self, record: &FinalRecord) {
        self.cost_nanoton.fetch_add(record.cost.0, Relaxed);
        let usage = record.usage.unwrap_or_default();
        let counts = [
            usage.prompt,
            usage.cached,
            usage.completion,
            usage.reasoning,
            record.charged_tokens.0,
        ];
        for (counter, count) in self.tokens.iter().zip(counts) {
            counter.fetch_add(count, Relaxed);
        }
    }

    /// Counts an HTTP answer by its status class.
    pub(crate) fn answered(&self, status: StatusCode) {
        let class = usize::from(status.as_u16() / 100);
        if let Some(counter) = self.answers.get(class) {
            counter.fetch_add(1, Relaxed);
        }
    }

    /// Counts a connection above the limit.
    pub(crate) fn connection_refused(&self) {
        self.refused_connections.fetch_add(1, Relaxed);
    }

    /// Counts a connection that was closed for a new one.
    pub(crate) fn connection_given_up(&self) {
        self.given_up_connections.fetch_add(1, Relaxed);
    }

    fn lock_rates(&self) -> std::sync::MutexGuard<'_, Rates> {
        self.rates.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The counters in Prometheus' text form.
    pub(crate) fn prometheus(&self, network: &NetworkStatus) -> String {
        let mut text = String::with_capacity(4096);
        let gauges = [
            ("running_requests", "Requests running now.", self.running.load(Relaxed) as u64),
            ("ready_proxies", "Proxies ready for requests.", u64::from(network.ready_proxies)),
        ];
        for (name, help, value) in gauges {
            write_family(&mut text, name, "gauge", help, &[(String::new(), value)]);
        }
        let plain: [(&str, &str, &AtomicU64); 4] = [
            (
                "refused_connections_total",
                "Connections above the limit.",
                &self.refused_connections,
            ),
            (
                "given_up_connections_total",
                "Idle or slow connections closed for new ones while the port was full.",
                &self.given_up_connections,
            ),
            ("answer_bytes_total", "Bytes of answers from the network.", &self.bytes_sent),
            ("cost_nanoton_total", "Cost of all requests.", &self.cost_nanoton),
        ];
        for (name, help, counter) in plain {
            let value = counter.load(Relaxed);
            write_family(&mut text, name, "counter", help, &[(String::new(), value)]);
        }
        let classes = ["0xx", "1xx", "2xx", "3xx", "4xx", "5xx"];
        let outcomes = ["success", "failure", "given_up"];
        let kinds = ["prompt", "cached", "completion", "reasoning", "charged"];
        let paths = Endpoint::ALL.map(Endpoint::path);
        let families = [
            (
                "answers_total",
                "HTTP answers by status class.",
                labelled("class", &classes, &self.answers),
            ),
            (
                "requests_total",
                "Inference requests by outcome.",
                labelled("outcome", &outcomes, &self.outcomes),
            ),
            (
                "endpoint_requests_total",
                "Inference requests by endpoint.",
                labelled("path", &paths, &self.endpoints),
            ),
            ("tokens_total", "Tokens by kind.", labelled("kind", &kinds, &self.tokens)),
        ];
        for (name, help, lines) in families {
            write_family(&mut text, name, "counter", help, &lines);
        }
        self.first_byte.write(&mut text, "first_byte_seconds", "Time to an answer's first byte.");
        self.whole.write(&mut text, "request_seconds", "Time to the end of an answer.");
        text
    }

    /// The object of `/jsonstats` (protocol notes 4.3).
    pub(crate) fn jsonstats(&self, network: &NetworkStatus) -> String {
        let now = Instant::now();
        let mut rates = self.lock_rates();
        rates.add(now, [0.0; 6]);
        let names = ["queries", "success", "failed", "bytes_received", "bytes_sent", "time"];
        let mut stats = serde_json::Map::new();
        for (index, name) in names.into_iter().enumerate() {
            stats.insert(name.to_owned(), json!(rates.row(index)));
        }
        drop(rates);
        let mut all = serde_json::Map::new();
        for (name, section) in &network.sections {
            let value = serde_json::from_str(section).unwrap_or(Value::Null);
            all.insert(name.clone(), value);
        }
        all.insert("stats".to_owned(), Value::Object(stats));
        Value::Object(all).to_string()
    }

    /// The page of `/stats`, for people.
    pub(crate) fn html(&self, network: &NetworkStatus) -> String {
        let warning = if network.fake_evidence {
            "<p><strong>Fake evidence: nothing here is protected by hardware.</strong></p>"
        } else {
            ""
        };
        let [success, failure, given_up] = &self.outcomes;
        format!(
            "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Cocoon gateway</title>\
             <h1>Cocoon gateway</h1>{warning}<ul><li>Proxies ready: {}</li><li>Requests running: {}</li>\
             <li>Requests answered: {}, failed: {}, given up by users: {}</li><li>Cost so far: {}</li></ul>\
             <p><a href=\"/jsonstats\">JSON</a> · <a href=\"/metrics\">Prometheus</a> · \
             <a href=\"/openapi.json\">OpenAPI</a></p></html>",
            network.ready_proxies,
            self.running.load(Relaxed),
            success.load(Relaxed),
            failure.load(Relaxed),
            given_up.load(Relaxed),
            crate::failure::ton(cocoon_units::Nanoton(self.cost_nanoton.load(Relaxed))),
        )
    }
}

fn write_family(text: &mut String, name: &str, kind: &str, help: &str, lines: &[(String, u64)]) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "# HELP cocoon_gateway_{name} {help}");
    let _ = writeln!(text, "# TYPE cocoon_gateway_{name} {kind}");
    for (labels, value) in lines {
        let _ = writeln!(text, "cocoon_gateway_{name}{labels} {value}");
    }
}

fn labelled(label: &str, names: &[&str], counters: &[AtomicU64]) -> Vec<(String, u64)> {
    let lines = names.iter().zip(counters);
    lines
        .map(|(name, counter)| (format!("{{{label}=\"{name}\"}}"), counter.load(Relaxed)))
        .collect()
}

/// Durations in buckets of doubling width, from 1 ms.
#[derive(Debug, Default)]
struct Histogram {
    buckets: [AtomicU64; BUCKETS],
    sum_us: AtomicU64,
    count: AtomicU64,
}

const BUCKETS: usize = 18;

impl Histogram {
    fn observe(&self, took: Duration) {
        let millis = u64::try_from(took.as_micros().div_ceil(1000)).unwrap_or(u64::MAX);
        // 1 ms falls into bucket 0, 2 ms into 1, 3 and 4 ms into 2, and so on.
        let index = millis.max(1).next_power_of_two().trailing_zeros() as usize;
        if let Some(bucket) = self.buckets.get(index) {
            bucket.fetch_add(1, Relaxed);
        }
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.sum_us.fetch_add(micros, Relaxed);
        self.count.fetch_add(1, Relaxed);
    }

    fn write(&self, text: &mut String, name: &str, help: &str) {
        let _ = writeln!(text, "# HELP cocoon_gateway_{name} {help}");
        let _ = writeln!(text, "# TYPE cocoon_gateway_{name} histogram");
        let mut sum = 0;
        for (index, bucket) in self.buckets.iter().enumerate() {
            sum += bucket.load(Relaxed);
            let bound = f64::from(1u32 << index) / 1000.0;
            let _ = writeln!(text, "cocoon_gateway_{name}_bucket{{le=\"{bound}\"}} {sum}");
        }
        let count = self.count.load(Relaxed);
        let _ = writeln!(text, "cocoon_gateway_{name}_bucket{{le=\"+Inf\"}} {count}");
        let seconds = self.sum_us.load(Relaxed) as f64 / 1e6;
        let _ = writeln!(text, "cocoon_gateway_{name}_sum {seconds}");
        let _ = writeln!(text, "cocoon_gateway_{name}_count {count}");
    }
}

/// Time constants of the rates in `/jsonstats`, seconds.
const CONSTANTS_S: [f64; 6] = [1.0, 10.0, 60.0, 600.0, 3600.0, 86_400.0];

/// Sums, and rates that decay exponentially with each time constant.
#[derive(Debug)]
struct Rates {
    seen: Instant,
    sums: [f64; 6],
    decaying: [[f64; 6]; 6],
}

impl Default for Rates {
    fn default() -> Rates {
        Rates { seen: Instant::now(), sums: [0.0; 6], decaying: [[0.0; 6]; 6] }
    }
}

impl Rates {
    fn add(&mut self, now: Instant, values: [f64; 6]) {
        let passed_s = now.saturating_duration_since(self.seen).as_secs_f64();
        self.seen = now;
        let factors = CONSTANTS_S.map(|constant| (-passed_s / constant).exp());
        for ((sum, row), value) in self.sums.iter_mut().zip(&mut self.decaying).zip(values) {
            *sum += value;
            for (rate, factor) in row.iter_mut().zip(factors) {
                *rate = *rate * factor + value;
            }
        }
    }

    /// Sum and rates per second of one counter.
    fn row(&self, index: usize) -> Vec<f64> {
        let mut row: Vec<f64> = self.sums.get(index).copied().into_iter().collect();
        let rates = self.decaying.get(index).into_iter().flatten().zip(CONSTANTS_S);
        row.extend(rates.map(|(rate, constant)| rate / constant));
        row
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_decay_and_sums_do_not() {
        let mut rates = Rates::default();
        let start = rates.seen;
        rates.add(start, [60.0; 6]);
        rates.add(start + Duration::from_secs(60), [0.0; 6]);
        let row = rates.row(0);
        assert_eq!(row.len(), 7);
        assert!((row[0] - 60.0).abs() < 1e-9);
        assert!((row[3] - (-1.0f64).exp()).abs() < 1e-9, "one minute after 60 events");
        assert!(row[1] < 1e-9);
    }

    #[test]
    fn durations_fall_into_their_buckets() {
        let histogram = Histogram::default();
        for millis in [0, 1, 2, 3, 4, 5, 10_000_000] {
            histogram.observe(Duration::from_millis(millis));
        }
        let counts: Vec<u64> =
            histogram.buckets.iter().take(4).map(|bucket| bucket.load(Relaxed)).collect();
        assert_eq!(counts, [2, 1, 2, 1]);
        assert_eq!(histogram.count.load(Relaxed), 7);
    }
}
