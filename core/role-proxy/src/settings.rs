//! What an operator decides, and the bounds on everything a peer could make grow.

use cocoon_ledger::AccountId;
use cocoon_units::{Address, AddressForm, Nanoton, PublicKey};
use ed25519_dalek::SigningKey;

/// Who this proxy is (protocol notes 3.2, 7).
#[derive(Clone)]
pub struct Identity {
    /// Whom earnings and stake belong to.
    pub owner: Address,
    /// The root contract; the zero address in a network without a chain.
    pub root: Address,
    /// The node's wallet: pays for messages and gets unused value back.
    pub wallet: Address,
    /// The proxy key: signs payments; its public half is part of every contract's address.
    pub key: SigningKey,
    /// Test mode; peers must agree.
    pub is_test: bool,
    /// Whether address texts carry the test-network bit.
    pub is_testnet: bool,
}

impl Identity {
    /// The public half of the proxy key.
    #[must_use]
    pub fn public_key(&self) -> PublicKey {
        PublicKey(self.key.verifying_key().to_bytes())
    }

    /// The text form of an address in messages and book keys: non-bounceable, URL-safe.
    #[must_use]
    pub fn text(&self, address: Address) -> String {
        address.to_friendly(AddressForm::NON_BOUNCEABLE.on_testnet(self.is_testnet))
    }

    /// The address behind an account of the books.
    #[must_use]
    pub fn address_of(account: AccountId) -> Address {
        Address::new(0, account.0)
    }
}

/// Where money is real.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChainMode {
    /// No chain: every client has a deposit, commits are confirmed as soon as they are durable,
    /// charges and payouts are only booked (protocol notes, chain 10).
    Pseudo,
    /// The TON chain, reached through [`ChainOrder`](crate::ChainOrder)s and chain facts.
    Real,
}

/// Policy and limits of a proxy.
// house: a list of limits.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Whether money is real.
    pub chain: ChainMode,
    /// Whether workers' image and model hashes must be listed in the root contract.
    pub check_hashes: bool,
    /// Connections of either side that may be open, handshake or not.
    pub connections_max: usize,
    /// Clients, and workers, that may have an account. Anybody can come with a new address.
    pub accounts_max: usize,
    /// Requests of one client connection that may run or wait.
    pub requests_per_connection_max: usize,
    /// Requests that may run or wait in all.
    pub requests_max: usize,
    /// Longest time a request waits for a free worker, in milliseconds.
    pub queue_wait_max_ms: u64,
    /// Longest time limit accepted from a client, in milliseconds; longer ones are cut.
    pub request_timeout_max_ms: u64,
    /// How often a request may be given to another worker after one died under it.
    pub retries_max: u8,
    /// Time a connection has from its opening to the end of its handshake, in milliseconds.
    /// Waiting for a registration on chain has its own, longer limit.
    pub handshake_max_ms: u64,
    /// Time a client has to register its nonce on chain, in milliseconds.
    pub registration_max_ms: u64,
    /// With traffic, a state commit is made at least this often, in milliseconds.
    pub commit_every_ms: u64,
    /// A state commit is made as soon as this much is not covered by one.
    pub commit_at_risk: Nanoton,
    /// A client is charged on chain when it owes this much.
    pub charge_min: Nanoton,
    /// A worker is paid on chain when it is owed this much.
    pub payout_min: Nanoton,
    /// Bounds of the worker pool.
    pub pool: cocoon_schedule::Limits,
}

impl Default for Settings {
    /// The reference's thresholds (protocol notes, chain 3.5) and generous bounds.
    fn default() -> Self {
        Self {
            chain: ChainMode::Pseudo,
            check_hashes: true,
            connections_max: 20_000,
            accounts_max: 200_000,
            requests_per_connection_max: 8_192,
            requests_max: 65_536,
            queue_wait_max_ms: 30_000,
            request_timeout_max_ms: 24 * 3_600_000,
            retries_max: 2,
            handshake_max_ms: 60_000,
            registration_max_ms: 300_000,
            commit_every_ms: 30_000,
            commit_at_risk: Nanoton(100_000_000),
            charge_min: Nanoton(1_000_000_000),
            payout_min: Nanoton(10_000_000_000),
            pool: cocoon_schedule::Limits {
                waiting_per_model_max: 4_096,
                waiting_per_slot_milli: 500,
                waiting_per_client_max: 4_096,
                ..cocoon_schedule::Limits::default()
            },
        }
    }
}
