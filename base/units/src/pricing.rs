//! Tokens, coefficients and what a request costs (protocol notes, chain part, section 4).

use std::fmt;

use crate::{Nanoton, PriceFault};

/// Adjusted tokens: the unit of every counter, payment and reservation.
///
/// One adjusted token costs `price_per_token`. Raw counts of a model server are plain
/// `u64` inside [`Usage`], so the two cannot be mixed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(transparent))]
pub struct Tokens(pub u64);

impl Tokens {
    /// No tokens.
    pub const ZERO: Self = Self(0);
    /// The largest count the wire can carry (a signed 64-bit number).
    pub const MAX: Self = Self(i64::MAX as u64);

    /// The sum, or `None` on overflow.
    #[must_use]
    pub const fn checked_add(self, other: Self) -> Option<Self> {
        match self.0.checked_add(other.0) {
            Some(sum) => Some(Self(sum)),
            None => None,
        }
    }

    /// The difference, or `None` when `other` is larger.
    #[must_use]
    pub const fn checked_sub(self, other: Self) -> Option<Self> {
        match self.0.checked_sub(other.0) {
            Some(rest) => Some(Self(rest)),
            None => None,
        }
    }

    /// The sum, at most [`u64::MAX`].
    #[must_use]
    pub const fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// The difference, or zero when `other` is larger.
    #[must_use]
    pub const fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// Reads a wire `long`; `None` for a negative one, which is the sender's fault.
    #[must_use]
    pub const fn from_wire(value: i64) -> Option<Self> {
        if value < 0 { None } else { Some(Self(value.unsigned_abs())) }
    }

    /// The wire `long`, at most [`i64::MAX`].
    #[must_use]
    pub const fn to_wire(self) -> i64 {
        if self.0 > Self::MAX.0 { i64::MAX } else { self.0.cast_signed() }
    }
}

impl fmt::Display for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A worker's price factor in thousandths: 1000 is 1.0. Range 0..=999 999 999.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(transparent))]
pub struct Coefficient(u32);

impl Coefficient {
    /// Factor 1.0.
    pub const ONE: Self = Self(1000);
    /// The largest factor a proxy accepts.
    pub const MAX: Self = Self(999_999_999);

    /// Makes a coefficient of `milli` thousandths.
    ///
    /// # Errors
    /// [`PriceFault::Coefficient`] outside the range; a proxy refuses such a worker.
    pub const fn new(milli: i64) -> Result<Self, PriceFault> {
        if milli < 0 || milli > Self::MAX.0 as i64 {
            return Err(PriceFault::Coefficient { value: milli });
        }
        Ok(Self(milli as u32))
    }

    /// Makes a coefficient from a client's cap: negative becomes 0, too large becomes the maximum.
    #[must_use]
    pub const fn clamped(milli: i64) -> Self {
        if milli < 0 {
            Self(0)
        } else if milli > Self::MAX.0 as i64 {
            Self::MAX
        } else {
            Self(milli as u32)
        }
    }

    /// Thousandths.
    #[must_use]
    pub const fn milli(self) -> u32 {
        self.0
    }

    /// Thousandths as the wire's `int`; always fits.
    #[must_use]
    pub const fn to_wire(self) -> i32 {
        self.0.cast_signed()
    }
}

impl fmt::Display for Coefficient {
    /// Writes the factor with three decimals, e.g. `1.500`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03}", self.0 / 1000, self.0 % 1000)
    }
}

/// A class multiplier of the root contract in ten-thousandths: 10000 is 1.0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(transparent))]
pub struct Multiplier(pub u32);

impl Multiplier {
    /// Factor 1.0, also the value of root contracts that do not store multipliers.
    pub const ONE: Self = Self(10_000);

    /// Reads a wire `int`.
    ///
    /// # Errors
    /// [`PriceFault::Multiplier`] for a negative one; the root config must be rejected.
    pub const fn from_wire(value: i32) -> Result<Self, PriceFault> {
        if value < 0 {
            return Err(PriceFault::Multiplier { value: value as i64 });
        }
        Ok(Self(value.cast_unsigned()))
    }
}

impl Default for Multiplier {
    fn default() -> Self {
        Self::ONE
    }
}

/// Counts a model server reports, in raw tokens.
///
/// `cached` is part of `prompt` and `reasoning` is part of `completion`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Usage {
    /// Tokens of the prompt, cached ones included.
    pub prompt: u64,
    /// Tokens of the prompt that came from a cache.
    pub cached: u64,
    /// Generated tokens, reasoning ones included.
    pub completion: u64,
    /// Generated tokens that were reasoning.
    pub reasoning: u64,
}

impl Usage {
    /// Keeps the larger of each count: over a streamed answer each counter is the maximum
    /// ever seen, never a sum (protocol notes 4.7).
    #[must_use]
    pub fn merge_max(self, seen: Self) -> Self {
        Self {
            prompt: self.prompt.max(seen.prompt),
            cached: self.cached.max(seen.cached),
            completion: self.completion.max(seen.completion),
            reasoning: self.reasoning.max(seen.reasoning),
        }
    }

    /// The five numbers of `tokensUsed` at a worker's coefficient.
    ///
    /// Each class is truncated on its own. A `cached` above `prompt` (or `reasoning` above
    /// `completion`) counts as all of it: the difference never becomes negative.
    #[must_use]
    pub fn adjusted(&self, coefficient: Coefficient, table: &PriceTable) -> AdjustedUsage {
        let fresh = self.prompt.saturating_sub(self.cached);
        let visible = self.completion.saturating_sub(self.reasoning);
        AdjustedUsage::of_classes(
            adjust(fresh, coefficient, table.prompt),
            adjust(self.cached, coefficient, table.cached),
            adjust(visible, coefficient, table.completion),
            adjust(self.reasoning, coefficient, table.reasoning),
        )
    }
}

/// The five numbers of the wire's `tokensUsed`: adjusted tokens per class and their sum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct AdjustedUsage {
    /// Prompt tokens that were not cached.
    pub prompt: Tokens,
    /// Cached prompt tokens.
    pub cached: Tokens,
    /// Generated tokens that were not reasoning.
    pub completion: Tokens,
    /// Reasoning tokens.
    pub reasoning: Tokens,
    /// What is charged. Taken as given when it comes from a peer.
    pub total: Tokens,
}

impl AdjustedUsage {
    /// Nothing used.
    pub const ZERO: Self = Self {
        prompt: Tokens(0),
        cached: Tokens(0),
        completion: Tokens(0),
        reasoning: Tokens(0),
        total: Tokens(0),
    };

    /// Sums the four classes; the sum stops at [`Tokens::MAX`].
    #[must_use]
    pub fn of_classes(
        prompt: Tokens,
        cached: Tokens,
        completion: Tokens,
        reasoning: Tokens,
    ) -> Self {
        let sum =
            prompt.saturating_add(cached).saturating_add(completion).saturating_add(reasoning);
        Self { prompt, cached, completion, reasoning, total: sum.min(Tokens::MAX) }
    }

    /// Whether `total` is the sum of the four classes; a peer whose numbers fail this lies.
    #[must_use]
    pub fn is_consistent(&self) -> bool {
        *self == Self::of_classes(self.prompt, self.cached, self.completion, self.reasoning)
    }
}

/// What the root contract says about prices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct PriceTable {
    /// What a client pays per adjusted token.
    pub price_per_token: Nanoton,
    /// What the worker gets of it; never above the price.
    pub worker_fee_per_token: Nanoton,
    /// Factor of prompt tokens that were not cached.
    pub prompt: Multiplier,
    /// Factor of cached prompt tokens.
    pub cached: Multiplier,
    /// Factor of generated tokens that were not reasoning.
    pub completion: Multiplier,
    /// Factor of reasoning tokens.
    pub reasoning: Multiplier,
}

impl PriceTable {
    /// Checks that the proxy's part is not negative.
    ///
    /// # Errors
    /// [`PriceFault::FeeAbovePrice`]: the root config must not be used.
    pub fn check(&self) -> Result<(), PriceFault> {
        if self.worker_fee_per_token > self.price_per_token {
            return Err(PriceFault::FeeAbovePrice {
                fee: self.worker_fee_per_token.0,
                price: self.price_per_token.0,
            });
        }
        Ok(())
    }

    /// What a client pays for `tokens`, or `None` on overflow.
    #[must_use]
    pub const fn client_pays(&self, tokens: Tokens) -> Option<Nanoton> {
        self.price_per_token.checked_mul(tokens)
    }

    /// What the worker gets for `tokens`, or `None` on overflow.
    #[must_use]
    pub const fn worker_gets(&self, tokens: Tokens) -> Option<Nanoton> {
        self.worker_fee_per_token.checked_mul(tokens)
    }

    /// What stays with the proxy, or `None` on overflow or when the fee is above the price.
    #[must_use]
    pub const fn proxy_keeps(&self, tokens: Tokens) -> Option<Nanoton> {
        match self.price_per_token.checked_sub(self.worker_fee_per_token) {
            Some(part) => part.checked_mul(tokens),
            None => None,
        }
    }

    /// The largest of the four multipliers.
    #[must_use]
    pub fn largest_multiplier(&self) -> Multiplier {
        self.prompt.max(self.cached).max(self.completion).max(self.reasoning)
    }
}

/// Adjusted tokens of `raw` tokens: `trunc(raw · (c · 0.001) · m · 0.0001)` in doubles,
/// evaluated left to right with a rounding at each step.
///
/// Exact arithmetic would differ by one in rare cases and thereby from every peer. The
/// result saturates at [`Tokens::MAX`] and the function never panics.
#[must_use]
#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the formula is defined on doubles"
)]
pub fn adjust(raw: u64, coefficient: Coefficient, multiplier: Multiplier) -> Tokens {
    let factor = f64::from(coefficient.0) * 0.001;
    let value = raw as f64 * factor * f64::from(multiplier.0) * 0.0001;
    Tokens(value as u64).min(Tokens::MAX)
}

/// What the reference proxy reserves for a request: every byte of the query counts as a
/// prompt token, at the client's cap, with multiplier 1.0 (protocol notes 3.6).
#[must_use]
pub fn reserve_tokens(max_tokens: u64, query_len: u64, max_coefficient: Coefficient) -> Tokens {
    adjust(max_tokens.saturating_add(query_len), max_coefficient, Multiplier::ONE)
}

/// What a request can cost at most: the query at the dearer prompt multiplier plus the
/// answer at the dearer completion multiplier, never less than [`reserve_tokens`].
///
/// The reference leaves the multipliers out, so its charge can exceed its reservation.
/// This bound holds for every usage with at most `query_len` prompt tokens and at most
/// `max_tokens` generated tokens; two tokens are added because each class is rounded
/// on its own.
#[must_use]
pub fn reserve_tokens_worst_case(
    max_tokens: u64,
    query_len: u64,
    max_coefficient: Coefficient,
    table: &PriceTable,
) -> Tokens {
    let prompt = adjust(query_len, max_coefficient, table.prompt.max(table.cached));
    let answer = adjust(max_tokens, max_coefficient, table.completion.max(table.reasoning));
    prompt
        .saturating_add(answer)
        .saturating_add(Tokens(2))
        .max(reserve_tokens(max_tokens, query_len, max_coefficient))
        .min(Tokens::MAX)
}
