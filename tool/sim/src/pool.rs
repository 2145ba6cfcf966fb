//! The contracts of one proxy as a model: whose coins are in the proxy contract, and what happens when
//! they are too few.
//!
//! ```text
//!   deposits ──► pool ──► workers, by whole tokens; the owner's part of each goes to earnings
//!                 │
//!                 └─────► refunds; when the pool is empty, from the stake
//! ```
//!
//! What a refund falls short of stays on the client's contract, what a payout falls short of stays owed
//! (`contracts/DIFFERENCES.md`). Earnings pay nobody but the owner.

use std::collections::{BTreeMap, BTreeSet};

use cocoon_contract::payment::PaymentKind;
use cocoon_contract::state::Phase;
use cocoon_ledger::{AccountId, ClientStatus};

use crate::world::{FEE, PRICE};

/// A client's contract.
#[derive(Clone, Debug)]
pub(crate) struct ClientContract {
    pub(crate) status: ClientStatus,
    /// What it has, the stake included; once closed, what a refund fell short of.
    pub(crate) balance: u64,
    pub(crate) stake: u64,
    pub(crate) used: u64,
    pub(crate) deposited: u64,
    pub(crate) paid: u64,
    pub(crate) refunded: u64,
    /// When its refund may be forced, Unix seconds of the chain.
    pub(crate) unlock_s: u64,
    /// Whether its client took the rest without the proxy.
    pub(crate) is_forced: bool,
}

impl ClientContract {
    /// Whether a charge of this total can have an effect.
    pub(crate) fn takes(&self, tokens: u64, kind: PaymentKind) -> bool {
        // A refund that fell short may be granted again.
        let is_owed = kind == PaymentKind::ClientGrantRefund && self.balance > 0;
        (self.status != ClientStatus::Closed || is_owed) && tokens >= self.used
    }
}

/// A proxy's contract and those below it.
#[derive(Clone, Debug)]
pub(crate) struct Contracts {
    pub(crate) last: Option<(u32, [u8; 32])>,
    pub(crate) phase: Phase,
    /// When its close may be completed, Unix seconds of the chain.
    pub(crate) unlock_s: u64,
    pub(crate) clients: BTreeMap<AccountId, ClientContract>,
    /// Tokens that workers were paid for; a contract that is on chain has an entry.
    pub(crate) workers: BTreeMap<AccountId, u64>,
    pub(crate) closed_workers: BTreeSet<AccountId>,
    /// Coins that went to workers, and to the owner when it closed.
    workers_got: BTreeMap<AccountId, u64>,
    pub(crate) owner_got: u64,
    /// What clients have deposited and nobody has been paid yet.
    pub(crate) pool: u64,
    /// Gas money that lies on the account beyond what it keeps: the contract counts it as deposits.
    /// Without the compiled contracts there is none.
    pub(crate) spare: u64,
    /// What of it went to clients and workers.
    pub(crate) spared: u64,
    /// The owner's part of what workers were paid for.
    pub(crate) earned: u64,
    pub(crate) stake: u64,
    /// All that was ever staked.
    pub(crate) staked: u64,
    /// What of the stake went into refunds: workers had been paid for tokens that these clients were
    /// never charged, or fees had eaten it.
    pub(crate) lent: u64,
    /// What storage fees took of the pool.
    pub(crate) eaten: u64,
    /// The owner's part of tokens for which the pool had only the worker's.
    forgone: u64,
    /// Refunds and payouts that fell short.
    pub(crate) shortfalls: u64,
    /// Whether what is asked of the proxy contract now bounces: it counts as not made.
    pub(crate) bounces: bool,
    /// Grows with every message.
    pub(crate) last_lt: u64,
}

impl Contracts {
    /// A new proxy contract with this stake.
    pub(crate) fn new(stake: u64) -> Self {
        Self {
            last: None,
            phase: Phase::Normal,
            unlock_s: 0,
            clients: BTreeMap::new(),
            workers: BTreeMap::new(),
            closed_workers: BTreeSet::new(),
            workers_got: BTreeMap::new(),
            owner_got: 0,
            pool: 0,
            spare: 0,
            spared: 0,
            earned: 0,
            stake,
            staked: stake,
            lent: 0,
            eaten: 0,
            forgone: 0,
            shortfalls: 0,
            bounces: false,
            last_lt: 0,
        }
    }

    /// The owner's stake and earnings.
    pub(crate) const fn of_owner(&self) -> u64 {
        self.earned + self.stake
    }

    /// What the proxy contract holds, without what it keeps for its storage.
    pub(crate) const fn coins(&self) -> u64 {
        self.pool + self.earned + self.stake
    }

    /// A client's contract comes on chain with its first deposit, unless it is there.
    pub(crate) fn open(&mut self, id: AccountId, stake: u64, deposit: u64) {
        if self.clients.contains_key(&id) {
            return;
        }
        let contract = ClientContract {
            status: ClientStatus::Normal,
            balance: 0,
            stake,
            used: 0,
            deposited: 0,
            paid: 0,
            refunded: 0,
            unlock_s: 0,
            is_forced: false,
        };
        self.clients.insert(id, contract);
        self.deposit(id, deposit);
    }

    /// Coins for a client that is open; others get none.
    pub(crate) fn deposit(&mut self, id: AccountId, amount: u64) {
        let open = self.clients.get_mut(&id).filter(|it| it.status == ClientStatus::Normal);
        if let Some(client) = open {
            client.balance += amount;
            client.deposited += amount;
            self.pool += amount;
        }
    }

    /// The client asks for its money: what exceeds the stake leaves at once, unless a fault keeps it.
    pub(crate) fn starts_to_close(&mut self, id: AccountId, unlock_s: u64, keeps: bool) {
        let open = self.clients.get_mut(&id).filter(|it| it.status == ClientStatus::Normal);
        let Some(client) = open else { return };
        (client.status, client.unlock_s) = (ClientStatus::Closing, unlock_s);
        let free = client.balance.saturating_sub(client.stake);
        if !keeps {
            self.refund(id, free, false);
        }
    }

    /// A client takes what it has without the proxy.
    pub(crate) fn force_refund(&mut self, id: AccountId, forgets: bool) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        (client.status, client.is_forced) = (ClientStatus::Closed, true);
        let all = client.balance;
        self.refund(id, all, forgets);
    }

    /// Pays a client as far as pool and stake go; what is missing stays the client's, unless a fault
    /// forgets it.
    pub(crate) fn refund(&mut self, id: AccountId, amount: u64, forgets: bool) {
        let (from_pool, from_stake) = if self.bounces {
            (0, 0)
        } else {
            let from_pool = self.take(amount);
            (from_pool, (amount - from_pool).min(self.stake))
        };
        let paid = from_pool + from_stake;
        self.stake -= from_stake;
        self.lent += from_stake;
        self.shortfalls += u64::from(paid < amount);
        let Some(client) = self.clients.get_mut(&id) else { return };
        client.refunded += paid;
        client.balance -= if forgets { amount } else { paid };
    }

    /// Takes what is there of an amount out of the pool.
    fn take(&mut self, amount: u64) -> u64 {
        let from_pool = amount.min(self.pool);
        let from_spare = (amount - from_pool).min(self.spare);
        self.pool -= from_pool;
        self.spare -= from_spare;
        self.spared += from_spare;
        from_pool + from_spare
    }

    /// Pays a worker for so many tokens more, as far as the pool goes; returns for how many.
    pub(crate) fn pay(&mut self, worker: AccountId, owed: u64) -> u64 {
        let there = if self.bounces { 0 } else { self.pool + self.spare };
        let pays = owed.min(there / FEE);
        self.take(pays * FEE);
        let part = self.take(pays * (PRICE - FEE));
        self.earned += part;
        self.forgone += pays * (PRICE - FEE) - part;
        self.shortfalls += u64::from(pays < owed);
        *self.workers.entry(worker).or_default() += pays;
        *self.workers_got.entry(worker).or_default() += pays * FEE;
        pays
    }

    /// Coins that a worker got, and the tokens that it counts as paid.
    pub(crate) fn paid_to(&self, worker: AccountId) -> (u64, u64) {
        let of = |map: &BTreeMap<AccountId, u64>| map.get(&worker).copied().unwrap_or(0);
        (of(&self.workers_got), of(&self.workers))
    }

    /// The owner stakes more.
    pub(crate) fn add_stake(&mut self, amount: u64) {
        if self.phase != Phase::Closed {
            self.stake += amount;
            self.staked += amount;
        }
    }

    /// Storage fees come out of the pool when nothing else is left for them.
    pub(crate) fn eat(&mut self, amount: u64) {
        let eaten = amount.min(self.pool);
        self.pool -= eaten;
        self.eaten += eaten;
    }

    /// Two sheets, to the nanoTON. What came is there or went to somebody; and what clients still have
    /// beyond the pool is exactly what workers were paid and these clients were never charged, and
    /// what fees took, less what the stake has covered.
    pub(crate) fn check(&self) -> Result<(), String> {
        let sum =
            |of: fn(&ClientContract) -> u64| i128::from(self.clients.values().map(of).sum::<u64>());
        let wide = i128::from;
        let went = sum(|client| client.refunded)
            + wide(self.workers_got.values().sum::<u64>() + self.owner_got + self.eaten);
        let came = sum(|client| client.deposited) + wide(self.staked + self.spared);
        if came != went + wide(self.coins()) {
            return Err(format!("{came} came, {went} went, {} are there", self.coins()));
        }
        let uncharged = wide(self.workers.values().sum::<u64>()) - sum(|client| client.used);
        let owed = sum(|client| client.balance);
        let missing = owed - wide(self.pool);
        let explained = uncharged * wide(PRICE) + wide(self.eaten)
            - wide(self.lent + self.spared)
            - wide(self.forgone);
        if missing != explained {
            return Err(format!("{missing} are missing for clients, {explained} are explained"));
        }
        Ok(())
    }
}
