//! What an owner wishes of a client contract.

use std::fmt;

use cocoon_units::Nanoton;
use serde::{Deserialize, Serialize};

/// What the owner wishes of a contract.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Wish {
    /// Keep it usable: open it, fill it up, charge when the proxy does not.
    #[default]
    Use,
    /// Have paid in at least this much in all, then nothing more. The sum of the balance and of all
    /// that was charged: asking again for the same number does nothing twice.
    PaidIn(Nanoton),
    /// Take back what exceeds the stake.
    Withdraw,
    /// Take everything back and close.
    Leave,
    /// Touch nothing.
    Look,
    /// Submit the proxy's signed total, whatever the thresholds.
    Charge,
}

impl fmt::Display for Wish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Use => f.write_str("keep it usable"),
            Self::PaidIn(total) => write!(f, "have {total} paid in, in all"),
            Self::Withdraw => f.write_str("take back what exceeds the stake"),
            Self::Leave => f.write_str("take everything back and close"),
            Self::Look => f.write_str("touch nothing"),
            Self::Charge => f.write_str("submit the proxy's signed total"),
        }
    }
}
