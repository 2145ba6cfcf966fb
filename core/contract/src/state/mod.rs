//! What each working contract and the wallet store (protocol notes 2.4 to 2.7).

mod client;
mod proxy;
mod wallet;
mod worker;

pub use client::{ClientConst, ClientState};
pub use proxy::ProxyState;
pub use wallet::WalletState;
pub use worker::WorkerState;

use crate::Fault;
use crate::cell::Reader;

/// Where a contract is in its life. There is no way back.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord)]
pub enum Phase {
    /// 0: in use.
    Normal,
    /// 1: asked to close.
    Closing,
    /// 2: closed for good.
    Closed,
}

impl Phase {
    /// The two bits on chain.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Normal => 0,
            Self::Closing => 1,
            Self::Closed => 2,
        }
    }

    pub(crate) fn read(what: &'static str, reader: &mut Reader<'_>) -> Result<Self, Fault> {
        match reader.uint(2)? {
            0 => Ok(Self::Normal),
            1 => Ok(Self::Closing),
            2 => Ok(Self::Closed),
            found => Err(Fault::Range { what, field: "state", found }),
        }
    }
}
