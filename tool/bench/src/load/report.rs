//! What came of a load.

use super::reading::{Broken, Reading};
use super::{Options, Reuse, Shape};
use crate::histogram::Histogram;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A distribution of durations, milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Millis {
    /// Half are not above.
    pub p50: f64,
    /// 99 of 100 are not above.
    pub p99: f64,
    /// The largest.
    pub max: f64,
    /// The mean.
    pub mean: f64,
}

impl From<&Histogram> for Millis {
    fn from(histogram: &Histogram) -> Self {
        let millis = |duration: Duration| duration.as_secs_f64() * 1e3;
        Self {
            p50: millis(histogram.percentile(50.0)),
            p99: millis(histogram.percentile(99.0)),
            max: millis(histogram.max()),
            mean: millis(histogram.mean()),
        }
    }
}

/// What came of a load. Only whole answers count as requests; everything else is in `statuses`
/// and `errors`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// What was asked for.
    pub shape: Shape,
    /// How connections were used.
    pub reuse: Reuse,
    /// Requests in flight at any time.
    pub connections: usize,
    /// How long results counted, seconds.
    pub seconds: f64,
    /// Whole answers with status 200.
    pub requests: u64,
    /// The same per second.
    pub requests_per_s: f64,
    /// From the start of the request (with a new connection: of connecting) to the last byte.
    pub latency: Millis,
    /// To the head of the answer.
    pub head: Millis,
    /// To the first bytes of the body: for a stream, the first event.
    pub first: Millis,
    /// Between pieces of a body that arrived one after the other: for a stream, between events.
    pub gap: Millis,
    /// To the end of an answer with another status than 200.
    #[serde(default)]
    pub refusal: Millis,
    /// Events received, `[DONE]` included.
    pub events: u64,
    /// Bytes of bodies received.
    pub bytes: u64,
    /// Connections made.
    pub connects: u64,
    /// Answers with other statuses than 200.
    pub statuses: BTreeMap<u16, u64>,
    /// Requests without a whole answer, by what went wrong.
    pub errors: BTreeMap<String, u64>,
}

impl Report {
    /// Requests that did not get their answer.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.statuses.values().chain(self.errors.values()).sum()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let row = |f: &mut fmt::Formatter<'_>, name: &str, millis: &Millis| {
            let Millis { p50, p99, max, mean } = millis;
            writeln!(f, "{name:<12}{p50:>10.3}{p99:>10.3}{max:>10.3}{mean:>10.3}")
        };
        writeln!(
            f,
            "{} requests in {:.1} s over {} connections: {:.0} requests/s, {:.1} MB/s",
            self.requests,
            self.seconds,
            self.connections,
            self.requests_per_s,
            self.bytes as f64 / 1e6 / self.seconds.max(1e-9),
        )?;
        writeln!(f, "{:<12}{:>10}{:>10}{:>10}{:>10}", "ms", "p50", "p99", "max", "mean")?;
        row(f, "latency", &self.latency)?;
        row(f, "head", &self.head)?;
        row(f, "first event", &self.first)?;
        row(f, "gap", &self.gap)?;
        for (status, count) in &self.statuses {
            writeln!(f, "{count} answers with status {status}")?;
        }
        for (error, count) in &self.errors {
            writeln!(f, "{count} requests failed: {error}")?;
        }
        Ok(())
    }
}

/// How a request ended.
pub(crate) enum Outcome {
    Whole(Whole),
    /// With its status, after this long.
    Refused(StatusCode, Duration),
    Broken(Broken),
}

/// Figures of a whole answer.
pub(crate) struct Whole {
    latency: Duration,
    head: Duration,
    first: Duration,
    events: u64,
    bytes: u64,
}

impl Whole {
    pub(crate) fn new(start: Instant, head: Duration, reading: &Reading) -> Self {
        Self {
            latency: start.elapsed(),
            head,
            first: reading.first.map_or(head, |first| first.saturating_duration_since(start)),
            events: reading.events,
            bytes: reading.bytes,
        }
    }
}

/// Collects outcomes between two moments. An answer counts when it ends between them, whenever it
/// began: so the rate is right even when answers take as long as the measurement.
pub(crate) struct Recorder {
    begin: Instant,
    end: Instant,
    totals: Mutex<Totals>,
}

#[derive(Default)]
struct Totals {
    latency: Histogram,
    head: Histogram,
    first: Histogram,
    gap: Histogram,
    refusal: Histogram,
    events: u64,
    bytes: u64,
    connects: u64,
    statuses: BTreeMap<u16, u64>,
    errors: BTreeMap<Broken, u64>,
}

impl Recorder {
    pub(crate) fn new(begin: Instant, end: Instant) -> Arc<Self> {
        Arc::new(Self { begin, end, totals: Mutex::default() })
    }

    /// The totals, between begin and end.
    fn now(&self) -> Option<MutexGuard<'_, Totals>> {
        let now = Instant::now();
        (self.begin..=self.end).contains(&now).then(|| self.totals())
    }

    /// One thread uses them, so this never waits, and a panic elsewhere leaves them whole.
    fn totals(&self) -> MutexGuard<'_, Totals> {
        self.totals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn connected(&self) {
        self.totals().connects += 1;
    }

    pub(crate) fn gap(&self, gap: Duration) {
        if let Some(mut totals) = self.now() {
            totals.gap.record(gap);
        }
    }

    pub(crate) fn record(&self, outcome: &Outcome) {
        let Some(mut totals) = self.now() else { return };
        match outcome {
            Outcome::Whole(whole) => {
                totals.latency.record(whole.latency);
                totals.head.record(whole.head);
                totals.first.record(whole.first);
                totals.events += whole.events;
                totals.bytes += whole.bytes;
            }
            Outcome::Refused(status, took) => {
                totals.refusal.record(*took);
                *totals.statuses.entry(status.as_u16()).or_default() += 1;
            }
            Outcome::Broken(broken) => *totals.errors.entry(*broken).or_default() += 1,
        }
    }

    pub(crate) fn report(&self, options: &Options, now: Instant) -> Report {
        let totals = self.totals();
        let seconds = now.min(self.end).saturating_duration_since(self.begin).as_secs_f64();
        let requests = totals.latency.count();
        Report {
            shape: options.shape,
            reuse: options.reuse,
            connections: options.connections.max(1),
            seconds,
            requests,
            requests_per_s: requests as f64 / seconds.max(1e-9),
            latency: Millis::from(&totals.latency),
            head: Millis::from(&totals.head),
            first: Millis::from(&totals.first),
            gap: Millis::from(&totals.gap),
            refusal: Millis::from(&totals.refusal),
            events: totals.events,
            bytes: totals.bytes,
            connects: totals.connects,
            statuses: totals.statuses.clone(),
            errors: totals.errors.iter().map(|(error, n)| (error.to_string(), *n)).collect(),
        }
    }
}
