//! Why a purse does not open or take an order.

use cocoon_units::Address;

/// Why a purse does not open.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum PurseFault {
    /// What was kept is damaged or of a later version. Orders may be on their way that nobody
    /// remembers: look at the wallet's history, then remove the file.
    #[error("what the wallet had on its way cannot be read: {0}")]
    Kept(&'static str),
    /// What was kept belongs to another wallet: configure that wallet again, or remove the file.
    #[error("orders of wallet {} are on their way, and this is wallet {}", kept.to_raw(), ours.to_raw())]
    OtherWallet {
        /// Whose orders were kept.
        kept: Address,
        /// Which wallet was opened.
        ours: Address,
    },
}

/// Why an order was not taken.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum OrderFault {
    /// As many orders wait as may: order again later.
    #[error("{waiting} orders wait for the wallet already")]
    Full {
        /// How many.
        waiting: usize,
    },
    /// The message cannot be built; a bug of whoever ordered it.
    #[error(transparent)]
    Message(#[from] cocoon_contract::Fault),
}
