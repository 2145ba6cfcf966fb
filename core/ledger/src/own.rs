//! Books of a client or a worker: what it knows by itself, and how a proxy's word compares.

use cocoon_units::Tokens;
use thiserror::Error;

/// What a proxy claims at a contact (protocol notes, wire 3.9): the total its signed payment
/// carries, the total it has on disk, the total it ever counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Statement {
    /// Total inside the signed payment, if it gave one.
    pub signed: Option<Tokens>,
    /// `db_tokens`.
    pub durable: Tokens,
    /// `max_tokens`.
    pub max: Tokens,
}

/// How a proxy's statement differs from our own books.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Difference {
    /// The proxy's own numbers are out of order: it is lying or broken.
    #[error("proxy states signed {signed}, durable {durable}, max {max}")]
    Inconsistent {
        /// Total in its signed payment.
        signed: u64,
        /// Its durable total.
        durable: u64,
        /// Its highest total.
        max: u64,
    },
    /// The proxy forgot what it told us before: it was rolled back.
    #[error("proxy states {counter} {stated}, it had stated {known}")]
    Forgot {
        /// Which counter.
        counter: &'static str,
        /// What it says now.
        stated: u64,
        /// What it said before.
        known: u64,
    },
    /// The proxy counts more than we ever saw finish.
    #[error("proxy counts {stated} tokens, our own books {own}")]
    MoreThanOwn {
        /// Its total.
        stated: u64,
        /// Ours.
        own: u64,
    },
    /// The proxy counts less than we saw finish.
    #[error("proxy counts {stated} tokens, our own books {own}")]
    LessThanOwn {
        /// Its total.
        stated: u64,
        /// Ours.
        own: u64,
    },
}

/// Own books of one side of a channel: totals seen to finish, and the best statement so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OwnBooks {
    own: u64,
    signed: u64,
    durable: u64,
    max: u64,
}

impl OwnBooks {
    /// Starts from what is on chain already.
    #[must_use]
    pub const fn starting_at(total: Tokens) -> Self {
        Self { own: total.0, signed: total.0, durable: total.0, max: total.0 }
    }

    /// Books a request that ended with this many tokens, by our own count.
    pub const fn finished(&mut self, tokens: Tokens) {
        self.own = self.own.saturating_add(tokens.0);
    }

    /// Total by our own count.
    #[must_use]
    pub const fn own(&self) -> Tokens {
        Tokens(self.own)
    }

    /// Highest total inside a signed payment we hold.
    #[must_use]
    pub const fn signed(&self) -> Tokens {
        Tokens(self.signed)
    }

    /// Highest durable total the proxy ever stated.
    #[must_use]
    pub const fn durable(&self) -> Tokens {
        Tokens(self.durable)
    }

    /// Highest total the proxy ever stated.
    #[must_use]
    pub const fn max(&self) -> Tokens {
        Tokens(self.max)
    }

    /// Accepts a total below what the proxy had told before: it lost its books and cannot be made
    /// to pay what it forgot. Returns the tokens given up, to be reported.
    pub fn settle_to(&mut self, total: Tokens) -> Tokens {
        let lost = self.max.saturating_sub(total.0);
        self.max = self.max.min(total.0);
        self.durable = self.durable.min(total.0);
        self.own = self.own.min(total.0);
        Tokens(lost)
    }

    /// Takes a statement in, keeping maxima; then compares the proxy's total with our own count.
    ///
    /// # Errors
    /// [`Difference::Inconsistent`] and [`Difference::Forgot`] leave the books unchanged: refuse
    /// the proxy. [`Difference::MoreThanOwn`] and [`Difference::LessThanOwn`] are taken in: a
    /// request may still be on its way; report them when they stay with nothing running.
    pub fn compare(&mut self, statement: &Statement) -> Result<(), Difference> {
        let signed = statement.signed.map_or(self.signed, |tokens| tokens.0);
        let (durable, max) = (statement.durable.0, statement.max.0);
        if signed > durable && statement.signed.is_some() || durable > max {
            return Err(Difference::Inconsistent { signed, durable, max });
        }
        for (counter, stated, known) in [
            ("signed", signed, self.signed),
            ("durable", durable, self.durable),
            ("max", max, self.max),
        ] {
            if stated < known {
                return Err(Difference::Forgot { counter, stated, known });
            }
        }
        (self.signed, self.durable, self.max) = (signed, durable, max);
        match max.cmp(&self.own) {
            std::cmp::Ordering::Greater => {
                Err(Difference::MoreThanOwn { stated: max, own: self.own })
            }
            std::cmp::Ordering::Less => Err(Difference::LessThanOwn { stated: max, own: self.own }),
            std::cmp::Ordering::Equal => Ok(()),
        }
    }
}
