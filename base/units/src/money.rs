//! Amounts of money.

use std::fmt;
use std::str::FromStr;

use crate::{AmountFault, Tokens};

/// Nanotons in one TON.
const NANOTON_PER_TON: u64 = 1_000_000_000;

/// An amount of money in nanotons (10^-9 TON), the chain's smallest unit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(transparent))]
pub struct Nanoton(pub u64);

impl Nanoton {
    /// No money.
    pub const ZERO: Self = Self(0);
    /// One TON.
    pub const TON: Self = Self(NANOTON_PER_TON);
    /// The largest amount that fits.
    pub const MAX: Self = Self(u64::MAX);

    /// The sum, or `None` above [`Nanoton::MAX`].
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

    /// The difference, or zero when `other` is larger.
    #[must_use]
    pub const fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// The sum, or [`Nanoton::MAX`].
    #[must_use]
    pub const fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// The price of `tokens` at this amount per token, or `None` above [`Nanoton::MAX`].
    #[must_use]
    pub const fn checked_mul(self, tokens: Tokens) -> Option<Self> {
        match self.0.checked_mul(tokens.0) {
            Some(product) => Some(Self(product)),
            None => None,
        }
    }

    /// The price of `tokens` at this amount per token, at most [`Nanoton::MAX`].
    #[must_use]
    pub const fn saturating_mul(self, tokens: Tokens) -> Self {
        Self(self.0.saturating_mul(tokens.0))
    }

    /// How many whole tokens this amount buys at `price` per token.
    ///
    /// A price of zero buys 10^12 tokens (protocol notes 3.6).
    #[must_use]
    pub const fn buys(self, price: Self) -> Tokens {
        match self.0.checked_div(price.0) {
            Some(tokens) => Tokens(tokens),
            None => Tokens(1_000_000_000_000),
        }
    }

    /// Reads an amount: `1.5 TON`, `1.5`, `1500000000 nanoton` (case of the unit is free).
    ///
    /// A number without a unit is in TON. Underscores between digits are allowed.
    ///
    /// # Errors
    /// [`AmountFault`] says what to change in the text.
    pub fn parse(text: &str) -> Result<Self, AmountFault> {
        let lower = text.trim().to_ascii_lowercase();
        for unit in ["nanotons", "nanoton", "nano"] {
            if let Some(number) = lower.strip_suffix(unit) {
                return digits(number.trim_end()).map(Self);
            }
        }
        let number = lower.strip_suffix("ton").unwrap_or(&lower).trim_end();
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() && fraction.is_empty() {
            return Err(AmountFault::NotANumber);
        }
        let fraction = fraction.trim_end_matches('0');
        if !fraction.bytes().all(|b| b.is_ascii_digit()) {
            return Err(AmountFault::NotANumber);
        }
        if fraction.len() > 9 {
            return Err(AmountFault::TooFine);
        }
        let whole = if whole.is_empty() { 0 } else { digits(whole)? };
        let fraction = if fraction.is_empty() { 0 } else { digits(&format!("{fraction:0<9}"))? };
        whole
            .checked_mul(NANOTON_PER_TON)
            .and_then(|nano| nano.checked_add(fraction))
            .map(Self)
            .ok_or(AmountFault::TooLarge)
    }
}

/// Reads decimal digits with underscores between them.
fn digits(text: &str) -> Result<u64, AmountFault> {
    if text.is_empty() || text.starts_with('_') || text.ends_with('_') {
        return Err(AmountFault::NotANumber);
    }
    text.bytes().filter(|b| *b != b'_').try_fold(0u64, |sum, digit| {
        if !digit.is_ascii_digit() {
            return Err(AmountFault::NotANumber);
        }
        sum.checked_mul(10)
            .and_then(|sum| sum.checked_add(u64::from(digit - b'0')))
            .ok_or(AmountFault::TooLarge)
    })
}

impl fmt::Display for Nanoton {
    /// Writes the shortest exact form in TON, e.g. `1.5 TON`, `0 TON`, `0.000000001 TON`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = self.0 / NANOTON_PER_TON;
        let fraction = self.0 % NANOTON_PER_TON;
        if fraction == 0 {
            return write!(f, "{whole} TON");
        }
        let digits = format!("{fraction:09}");
        write!(f, "{whole}.{} TON", digits.trim_end_matches('0'))
    }
}

impl FromStr for Nanoton {
    type Err = AmountFault;

    fn from_str(text: &str) -> Result<Self, AmountFault> {
        Self::parse(text)
    }
}
