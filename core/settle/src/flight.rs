//! The message that is on its way, and the pauses after messages without effect.

use crate::record::Before;
use crate::{Step, Wait};

/// Seconds after a message arrived in which the chain must show its effect: what follows from it
/// needs a few blocks.
const SETTLE_S: u64 = 60;
/// First pause after a message without effect, seconds; it doubles.
pub const RETRY_LEAST_S: u64 = 30;
/// Longest pause, seconds.
const RETRY_MOST_S: u64 = 3_600;

/// A message on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flight {
    /// What it does.
    pub step: Step,
    /// The label it was ordered under.
    pub label: u64,
    /// When it arrived at the contract, Unix seconds; `None` until the wallet says so.
    pub arrived_s: Option<u64>,
    /// What the contract showed before.
    pub before: Before,
}

/// One message at a time, and patience after failures.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lane {
    flight: Option<Flight>,
    failures: u32,
    not_before_s: u64,
}

impl Lane {
    /// A message was handed to the wallet.
    pub(crate) fn sent(&mut self, flight: Flight) {
        self.flight = Some(flight);
    }

    /// The message that is on its way.
    pub(crate) const fn flight(&self) -> Option<&Flight> {
        self.flight.as_ref()
    }

    /// The wallet says that the message has arrived at the contract.
    pub(crate) fn arrived(&mut self, now_s: u64) {
        if let Some(flight) = &mut self.flight {
            flight.arrived_s = Some(now_s);
        }
    }

    /// The wallet gave up on the message, or the chain refused it: try again after a pause.
    pub(crate) fn failed(&mut self, now_s: u64) {
        if self.flight.take().is_some() {
            self.failures = self.failures.saturating_add(1);
            let doubled =
                RETRY_LEAST_S.saturating_mul(1 << self.failures.min(10).saturating_sub(1));
            self.not_before_s = now_s.saturating_add(doubled.min(RETRY_MOST_S));
        }
    }

    /// What to wait for before the next message may go; `None` when the way is free. `took_effect`
    /// says whether the chain shows what a message was to bring.
    pub(crate) fn look(
        &mut self,
        now_s: u64,
        took_effect: impl FnOnce(&Flight) -> bool,
    ) -> Option<Wait> {
        if let Some(flight) = &self.flight {
            if took_effect(flight) {
                self.flight = None;
                self.failures = 0;
                self.not_before_s = 0;
                return None;
            }
            let is_over = |arrived_s: u64| now_s > arrived_s.saturating_add(SETTLE_S);
            if !flight.arrived_s.is_some_and(is_over) {
                return Some(Wait::Effect { step: flight.step });
            }
            self.failed(now_s);
        }
        (now_s < self.not_before_s)
            .then_some(Wait::Retry { at_s: self.not_before_s, failures: self.failures })
    }
}
