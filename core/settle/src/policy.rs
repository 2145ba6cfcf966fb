//! Thresholds, in nanoTON and seconds.

use cocoon_units::Nanoton;
use serde::{Deserialize, Serialize};

/// What operations cost: value that goes along and comes back for the most part, and the part
/// that is gone. Measured in `contracts/GAS.md` with mainnet's fees, the wallet's own transaction
/// added, rounded up.
pub mod cost {
    use cocoon_units::Nanoton;

    /// Goes along with a request for its gas; what is left comes back. The contracts ask for 0.1.
    pub const ATTACHED: Nanoton = Nanoton(300_000_000);
    /// Stays on a new client contract until it is closed.
    pub const CLIENT_DEPLOY: Nanoton = Nanoton(250_000_000);
    /// Stays on a new worker contract until it is closed.
    pub const WORKER_DEPLOY: Nanoton = Nanoton(250_000_000);
    /// Fees of a deployment, which may be the wallet's first message too.
    pub const DEPLOY_FEE: Nanoton = Nanoton(30_000_000);
    /// Fees of a request that stays with the client contract: secret, registration, charge.
    pub const TELL_FEE: Nanoton = Nanoton(12_000_000);
    /// Fees of a request that moves money: deposit, withdrawal, refund, payout.
    pub const MOVE_FEE: Nanoton = Nanoton(20_000_000);
    /// What a wallet must keep to take orders (protocol notes, chain 1.8, code 1035).
    pub const WALLET_FLOOR: Nanoton = Nanoton(2_000_000_000);
}

/// When a client moves money.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClientPolicy {
    /// What the contract's balance is filled up to; `None`, or less than the contract's stake,
    /// takes the stake.
    pub deposit: Option<Nanoton>,
    /// Fill up when less than this is left after what was used; `None` takes half the deposit.
    pub low: Option<Nanoton>,
    /// Least stake of a proxy that gets a deposit; `None` takes the network's least.
    pub least_proxy_stake: Option<Nanoton>,
    /// Used but not charged tokens worth this share of the stake, in hundredths, make the client
    /// submit the proxy's signed total itself, so that it can go on.
    pub charge_percent: u8,
    /// Seconds without a word of the proxy after which the client asks for its money back.
    /// 0 never does.
    pub lost_after_s: u64,
    /// What a proxy may count above the client's own count, in nanoTON, before it gets no more
    /// money: requests may be on their way to either side's books.
    pub dispute: Nanoton,
}

impl Default for ClientPolicy {
    fn default() -> Self {
        Self {
            deposit: None,
            low: None,
            least_proxy_stake: None,
            charge_percent: 75,
            lost_after_s: 3 * 86_400,
            dispute: Nanoton(500_000_000),
        }
    }
}

/// When a worker collects.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WorkerPolicy {
    /// Collect as soon as this much is signed for; the proxy does so by itself at 10 TON.
    pub payout_at: Nanoton,
    /// Collect this much when no new payment came for `idle_s`.
    pub payout_idle: Nanoton,
    /// Collect this much at the end of a contract; less is not worth its fees.
    pub payout_last: Nanoton,
    /// Seconds without a new payment that count as idle.
    pub idle_s: u64,
}

impl Default for WorkerPolicy {
    fn default() -> Self {
        Self {
            payout_at: Nanoton(12_000_000_000),
            payout_idle: Nanoton(200_000_000),
            payout_last: Nanoton(30_000_000),
            idle_s: 3_600,
        }
    }
}
