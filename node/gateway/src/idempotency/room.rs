//! Room for answers: so much in all, so much for each API key.

use std::ops::Add;

use cocoon_openai::ApiError;

use super::{Entry, MAX_KEPT_BYTES, MAX_KEPT_BYTES_PER_KEY, conflict};
use crate::config::GatewayConfig;

/// What somebody holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Holding {
    pub(super) entries: usize,
    pub(super) bytes: usize,
}

impl Add for Holding {
    type Output = Holding;

    fn add(self, other: Holding) -> Holding {
        Holding {
            entries: self.entries.saturating_add(other.entries),
            bytes: self.bytes.saturating_add(other.bytes),
        }
    }
}

impl Holding {
    /// What is too much, where `held` is more than this.
    pub(super) fn lacking(self, held: Holding) -> Option<Lack> {
        if held.entries > self.entries {
            Some(Lack::Entries)
        } else if held.bytes > self.bytes {
            Some(Lack::Bytes)
        } else {
            None
        }
    }
}

/// The most that is held.
pub(super) struct KeptLimits {
    /// By everybody together.
    pub(super) all: Holding,
    /// By one API key.
    pub(super) own: Holding,
}

impl KeptLimits {
    pub(super) fn of(config: &GatewayConfig) -> KeptLimits {
        let limits = &config.limits;
        let own = match limits.idempotent_answers_per_key {
            0 => limits.idempotent_answers,
            own => own,
        };
        KeptLimits {
            all: Holding { entries: limits.idempotent_answers, bytes: MAX_KEPT_BYTES },
            own: Holding { entries: own, bytes: MAX_KEPT_BYTES_PER_KEY },
        }
    }
}

/// Whose room is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whose {
    /// That of one API key.
    Key,
    /// That of everybody together.
    All,
}

impl Whose {
    pub(super) fn refusal(self) -> ApiError {
        let whose = match self {
            Whose::Key => " of this API key",
            Whose::All => "",
        };
        conflict(429, &format!("Too many requests{whose} with Idempotency-Key are running."))
    }
}

/// What there is too little room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lack {
    Entries,
    Bytes,
}

impl Lack {
    pub(super) fn of(self, holding: Holding) -> usize {
        match self {
            Lack::Entries => holding.entries,
            Lack::Bytes => holding.bytes,
        }
    }

    /// Whether there is more room without this entry.
    pub(super) fn is_held_by(self, entry: &Entry) -> bool {
        self == Lack::Entries || entry.bytes > 0
    }
}
