//! The proxy's books.

use crate::account::{Account, AccountId, ClientAccount, ClientStatus, WorkerAccount};
use crate::fault::{Broken, Fault, Refusal};
use crate::old::OldBooks;
use crate::record::Record;
use cocoon_units::{Nanoton, RequestId, Tokens};
use std::collections::{BTreeMap, HashMap};

/// An open promise: so many tokens of the client are held for a running request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reservation {
    /// Who pays.
    pub client: AccountId,
    /// Tokens held.
    pub tokens: Tokens,
}

/// Sums over all accounts, for reports and for comparing two copies of the books.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Tokens spent by clients since the books were opened.
    pub spent: u128,
    /// Tokens earned by workers since the books were opened.
    pub earned: u128,
    /// Tokens held by open reservations.
    pub reserved: u128,
}

/// All accounts of one contract instance of a proxy.
#[derive(Clone, Debug, Default)]
pub struct Books {
    epoch: Option<u32>,
    price: u64,
    clients: HashMap<AccountId, ClientAccount>,
    workers: HashMap<AccountId, WorkerAccount>,
    open: HashMap<RequestId, Reservation>,
    seqno: u32,
    pending: BTreeMap<u32, PendingCommit>,
    spent: u128,
    earned: u128,
    secrets: HashMap<AccountId, [u8; 32]>,
    chain_lt: u64,
    old: BTreeMap<u32, OldBooks>,
}

/// Totals that a commit on its way to the chain covers.
#[derive(Clone, Debug, PartialEq, Eq)]
struct PendingCommit {
    session: [u8; 32],
    clients: HashMap<AccountId, u64>,
    workers: HashMap<AccountId, u64>,
}

impl Books {
    /// Empty books; [`Record::Opened`] must be the first record applied.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Holds tokens of a client for a request, before it is sent to a worker.
    ///
    /// # Errors
    /// [`Refusal`]: answer the client with it; nothing changed.
    pub fn reserve(
        &mut self,
        request: RequestId,
        client: AccountId,
        tokens: Tokens,
    ) -> Result<(), Refusal> {
        let price = Nanoton(self.price);
        let account = self.clients.get_mut(&client).ok_or(Refusal::UnknownClient)?;
        if account.status != ClientStatus::Normal {
            return Err(Refusal::NotNormal(account.status));
        }
        if self.open.contains_key(&request) {
            return Err(Refusal::Duplicate);
        }
        let available = account.available(price);
        if tokens > available {
            return Err(Refusal::TooLow { needed: tokens, available });
        }
        account.reserved += tokens.0;
        self.open.insert(request, Reservation { client, tokens });
        Ok(())
    }

    /// Ends a reservation without spending: the request failed or never ran.
    ///
    /// # Errors
    /// [`Fault::NotReserved`]: it ended before; a bug of the caller.
    pub fn release(&mut self, request: RequestId) -> Result<Reservation, Fault> {
        let reservation = self.open.remove(&request).ok_or(Fault::NotReserved(request))?;
        if let Some(account) = self.clients.get_mut(&reservation.client) {
            account.reserved = account.reserved.saturating_sub(reservation.tokens.0);
        }
        Ok(reservation)
    }

    /// Ends a reservation by spending `tokens`, and gives the record to journal. What is above the
    /// reservation is capped to it: no client pays more than was held for the request.
    ///
    /// The books count at once ([`Account::max`]); [`Books::made_durable`] follows when the record
    /// is on disk.
    ///
    /// # Errors
    /// [`Fault::NotReserved`] when it ended before, [`Fault::NoWorker`] for a stranger.
    pub fn finish(
        &mut self,
        request: RequestId,
        worker: AccountId,
        tokens: Tokens,
    ) -> Result<Record, Fault> {
        let reservation = *self.open.get(&request).ok_or(Fault::NotReserved(request))?;
        if !self.workers.contains_key(&worker) {
            return Err(Fault::NoWorker(worker));
        }
        let tokens = tokens.0.min(reservation.tokens.0);
        let record =
            Record::Finished { request: request.0, client: reservation.client, worker, tokens };
        self.apply(&record)?;
        Ok(record)
    }

    /// Applies a record: at run time when it is written, on replay when it is read. The only way
    /// the durable part of the books changes.
    ///
    /// # Errors
    /// [`Fault`]: the record does not fit; nothing changed.
    pub fn apply(&mut self, record: &Record) -> Result<(), Fault> {
        if self.epoch.is_none() && !matches!(record, Record::Opened { .. }) {
            return Err(Fault::Epoch { open: None, found: 0 });
        }
        match record {
            Record::Opened { epoch, price_nanoton, seqno } => {
                self.open(*epoch, *price_nanoton, *seqno)
            }
            Record::ClientSeen { client, status, balance_nanoton, stake_nanoton, charged } => {
                self.client_seen(*client, *status, *balance_nanoton, *stake_nanoton, *charged)
            }
            Record::WorkerSeen { worker, paid_out } => self.worker_seen(*worker, *paid_out),
            Record::Finished { request, client, worker, tokens } => {
                self.finished(RequestId(*request), *client, *worker, *tokens)
            }
            Record::CommitStarted { seqno, session } => self.commit_started(*seqno, *session),
            Record::CommitConfirmed { seqno } => self.commit_confirmed(*seqno),
            Record::ClientLine {
                client,
                status,
                balance_nanoton,
                stake_nanoton,
                charged,
                counters,
            } => {
                let account = ClientAccount {
                    counters: *counters,
                    status: *status,
                    balance: *balance_nanoton,
                    stake: *stake_nanoton,
                    charged: *charged,
                    reserved: 0,
                };
                self.spent += u128::from(counters.max);
                if let Some(before) = self.clients.insert(*client, account) {
                    self.spent -= u128::from(before.counters.max);
                }
                Ok(())
            }
            Record::WorkerLine { worker, paid_out, counters } => {
                let account = WorkerAccount { counters: *counters, paid_out: *paid_out };
                self.earned += u128::from(counters.max);
                if let Some(before) = self.workers.insert(*worker, account) {
                    self.earned -= u128::from(before.counters.max);
                }
                Ok(())
            }
            Record::ChainSeen { lt } => {
                self.chain_lt = self.chain_lt.max(*lt);
                Ok(())
            }
            Record::ClientSecret { client, hash } => {
                self.secrets.insert(*client, *hash);
                Ok(())
            }
            Record::OldBooks { epoch } => self.old_books(*epoch).map(|_| ()),
            Record::OldClient { epoch, client, tokens } => {
                self.old_books(*epoch)?.clients.insert(*client, *tokens);
                Ok(())
            }
            Record::OldWorker { epoch, worker, tokens } => {
                self.old_books(*epoch)?.workers.insert(*worker, *tokens);
                Ok(())
            }
            Record::OldClosed { epoch } => {
                self.old.remove(epoch);
                Ok(())
            }
        }
    }

    /// Marks everything counted so far as durable. Call it when the journal has confirmed the
    /// last record given out, and once after replay.
    pub fn made_durable(&mut self) {
        for account in self.clients.values_mut() {
            account.counters.durable = account.counters.max;
        }
        for account in self.workers.values_mut() {
            account.counters.durable = account.counters.max;
        }
    }

    /// Marks the totals of one request's two accounts as durable: the cheap form of
    /// [`made_durable`](Self::made_durable) for the hot path. `tokens_client` and `tokens_worker`
    /// are the totals that the durable record led to.
    pub fn request_durable(&mut self, client: (AccountId, Tokens), worker: (AccountId, Tokens)) {
        if let Some(account) = self.clients.get_mut(&client.0) {
            raise(&mut account.counters, client.1);
        }
        if let Some(account) = self.workers.get_mut(&worker.0) {
            raise(&mut account.counters, worker.1);
        }
    }

    /// A client's account.
    #[must_use]
    pub fn client(&self, id: AccountId) -> Option<&ClientAccount> {
        self.clients.get(&id)
    }

    /// A worker's account.
    #[must_use]
    pub fn worker(&self, id: AccountId) -> Option<&WorkerAccount> {
        self.workers.get(&id)
    }

    /// All clients, in no order.
    pub fn clients(&self) -> impl Iterator<Item = (&AccountId, &ClientAccount)> {
        self.clients.iter()
    }

    /// All workers, in no order.
    pub fn workers(&self) -> impl Iterator<Item = (&AccountId, &WorkerAccount)> {
        self.workers.iter()
    }

    /// Tokens that a client may still be promised; zero for a stranger.
    #[must_use]
    pub fn available(&self, client: AccountId) -> Tokens {
        self.clients
            .get(&client)
            .map_or(Tokens(0), |account| account.available(Nanoton(self.price)))
    }

    /// Price of a token.
    #[must_use]
    pub const fn price(&self) -> Nanoton {
        Nanoton(self.price)
    }

    /// Epoch of the books, none before they are opened.
    #[must_use]
    pub const fn epoch(&self) -> Option<u32> {
        self.epoch
    }

    /// Number of the last commit started.
    #[must_use]
    pub const fn seqno(&self) -> u32 {
        self.seqno
    }

    /// Commits started and not confirmed: number and session.
    pub fn pending_commits(&self) -> impl Iterator<Item = (u32, &[u8; 32])> {
        self.pending.iter().map(|(seqno, commit)| (*seqno, &commit.session))
    }

    /// Whether a commit would cover anything that no commit covers yet.
    #[must_use]
    pub fn has_uncommitted(&self) -> bool {
        let ahead = |counters: &Account| counters.durable > counters.committed;
        self.clients.values().any(|account| ahead(&account.counters))
            || self.workers.values().any(|account| ahead(&account.counters))
    }

    /// SHA-256 of a client's secret, when its contract was seen.
    #[must_use]
    pub fn secret(&self, client: AccountId) -> Option<[u8; 32]> {
        self.secrets.get(&client).copied()
    }

    /// Logical time of the proxy contract's last transaction that is taken in; 0 for none.
    #[must_use]
    pub const fn chain_lt(&self) -> u64 {
        self.chain_lt
    }

    /// Books of earlier epochs that are not wound down, by epoch.
    pub fn old(&self) -> impl Iterator<Item = (u32, &OldBooks)> {
        self.old.iter().map(|(epoch, old)| (*epoch, old))
    }

    /// Final totals of the present books, as they would be if a new epoch began now.
    #[must_use]
    pub fn closing(&self) -> OldBooks {
        OldBooks::of(self.clients.iter(), self.workers.iter())
    }

    /// Sums over all accounts.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let reserved = self.open.values().map(|held| u128::from(held.tokens.0)).sum();
        Totals { spent: self.spent, earned: self.earned, reserved }
    }

    /// The books as records, shortest form: replaying them gives the same durable books. Pending
    /// commits are carried on; open reservations are not, they end with the process.
    #[must_use]
    pub fn snapshot(&self) -> Vec<Record> {
        let Some(epoch) = self.epoch else {
            return Vec::new();
        };
        let seqno = self.pending.keys().next().map_or(self.seqno, |first| first - 1);
        let mut records = vec![Record::Opened { epoch, price_nanoton: self.price, seqno }];
        records.extend(self.old.iter().flat_map(|(epoch, old)| old.records(*epoch)));
        if self.chain_lt > 0 {
            records.push(Record::ChainSeen { lt: self.chain_lt });
        }
        let secret = |(client, hash): (&AccountId, &[u8; 32])| Record::ClientSecret {
            client: *client,
            hash: *hash,
        };
        records.extend(self.secrets.iter().map(secret));
        for (seqno, commit) in &self.pending {
            // Lines as they stood when the commit started, so that replay covers the same totals.
            records.extend(commit.clients.iter().filter_map(|(id, total)| {
                Some(client_line(*id, self.clients.get(id)?, Some(*total)))
            }));
            records.extend(commit.workers.iter().filter_map(|(id, total)| {
                Some(worker_line(*id, self.workers.get(id)?, Some(*total)))
            }));
            records.push(Record::CommitStarted { seqno: *seqno, session: commit.session });
        }
        records.extend(self.clients.iter().map(|(id, account)| client_line(*id, account, None)));
        records.extend(self.workers.iter().map(|(id, account)| worker_line(*id, account, None)));
        records
    }

    /// Asserts every invariant of `docs/books.md`. Linear in accounts and reservations.
    ///
    /// # Errors
    /// [`Broken`]: a bug of ours; stop and keep the journal.
    pub fn check(&self) -> Result<(), Broken> {
        if self.spent != self.earned {
            return Err(Broken::Conservation { spent: self.spent, earned: self.earned });
        }
        let mut held: HashMap<AccountId, u64> = HashMap::new();
        for reservation in self.open.values() {
            *held.entry(reservation.client).or_default() += reservation.tokens.0;
        }
        for (id, account) in &self.clients {
            ordered(*id, &account.counters, account.charged)?;
            let sum = held.get(id).copied().unwrap_or(0);
            if sum != account.reserved {
                return Err(Broken::Reserved { account: *id, total: account.reserved, sum });
            }
        }
        for (id, account) in &self.workers {
            ordered(*id, &account.counters, account.paid_out)?;
        }
        Ok(())
    }

    fn open(&mut self, epoch: u32, price: u64, seqno: u32) -> Result<(), Fault> {
        if self.epoch.is_some_and(|open| epoch <= open) {
            return Err(Fault::Epoch { open: self.epoch, found: epoch });
        }
        let mut old = std::mem::take(&mut self.old);
        if let Some(before) = self.epoch {
            old.insert(before, OldBooks::of(self.clients.iter(), self.workers.iter()));
        }
        *self = Self { epoch: Some(epoch), price, seqno, old, ..Self::default() };
        Ok(())
    }

    /// Old books of an epoch, which must be before the present one.
    fn old_books(&mut self, epoch: u32) -> Result<&mut OldBooks, Fault> {
        if self.epoch.is_none_or(|open| epoch >= open) {
            return Err(Fault::Epoch { open: self.epoch, found: epoch });
        }
        Ok(self.old.entry(epoch).or_default())
    }

    fn client_seen(
        &mut self,
        client: AccountId,
        status: ClientStatus,
        balance: u64,
        stake: u64,
        charged: u64,
    ) -> Result<(), Fault> {
        if let Some(account) = self.clients.get_mut(&client) {
            not_falling(client, account.charged, charged)?;
            not_ahead(client, charged, account.counters.max)?;
            account.status = status;
            account.balance = balance;
            account.stake = stake;
            account.charged = charged;
            return Ok(());
        }
        // A client that is new to these books starts at zero here; tokens charged on chain before
        // would mean that we forgot them.
        not_ahead(client, charged, 0)?;
        let account = ClientAccount {
            counters: Account::default(),
            status,
            balance,
            stake,
            charged,
            reserved: 0,
        };
        self.clients.insert(client, account);
        Ok(())
    }

    fn worker_seen(&mut self, worker: AccountId, paid_out: u64) -> Result<(), Fault> {
        if let Some(account) = self.workers.get_mut(&worker) {
            not_falling(worker, account.paid_out, paid_out)?;
            not_ahead(worker, paid_out, account.counters.max)?;
            account.paid_out = paid_out;
            return Ok(());
        }
        not_ahead(worker, paid_out, 0)?;
        self.workers.insert(worker, WorkerAccount { counters: Account::default(), paid_out });
        Ok(())
    }

    fn finished(
        &mut self,
        request: RequestId,
        client: AccountId,
        worker: AccountId,
        tokens: u64,
    ) -> Result<(), Fault> {
        let payer = self.clients.get_mut(&client).ok_or(Fault::NoClient(client))?;
        let earner = self.workers.get_mut(&worker).ok_or(Fault::NoWorker(worker))?;
        let client_max = payer.counters.max.checked_add(tokens).ok_or(Fault::Overflow(client))?;
        let worker_max = earner.counters.max.checked_add(tokens).ok_or(Fault::Overflow(worker))?;
        payer.counters.max = client_max;
        earner.counters.max = worker_max;
        self.spent += u128::from(tokens);
        self.earned += u128::from(tokens);
        // On replay there is no reservation to end.
        if let Some(reservation) = self.open.remove(&request) {
            payer.reserved = payer.reserved.saturating_sub(reservation.tokens.0);
        }
        Ok(())
    }

    fn commit_started(&mut self, seqno: u32, session: [u8; 32]) -> Result<(), Fault> {
        if Some(seqno) != self.seqno.checked_add(1) {
            return Err(Fault::UnknownCommit(seqno));
        }
        // Totals in the journal before this record; when it is durable, so are they.
        let clients = ahead_of_commit(self.clients.iter().map(|(id, a)| (id, &a.counters)));
        let workers = ahead_of_commit(self.workers.iter().map(|(id, a)| (id, &a.counters)));
        self.seqno = seqno;
        self.pending.insert(seqno, PendingCommit { session, clients, workers });
        Ok(())
    }

    fn commit_confirmed(&mut self, seqno: u32) -> Result<(), Fault> {
        if !self.pending.contains_key(&seqno) {
            return Err(Fault::UnknownCommit(seqno));
        }
        let later = self.pending.split_off(&seqno.saturating_add(1));
        for commit in std::mem::replace(&mut self.pending, later).into_values() {
            for (id, total) in commit.clients {
                if let Some(account) = self.clients.get_mut(&id) {
                    commit_to(&mut account.counters, total);
                }
            }
            for (id, total) in commit.workers {
                if let Some(account) = self.workers.get_mut(&id) {
                    commit_to(&mut account.counters, total);
                }
            }
        }
        Ok(())
    }
}

fn client_line(client: AccountId, account: &ClientAccount, total: Option<u64>) -> Record {
    Record::ClientLine {
        client,
        status: account.status,
        balance_nanoton: account.balance,
        stake_nanoton: account.stake,
        charged: account.charged,
        counters: line_counters(&account.counters, total),
    }
}

fn worker_line(worker: AccountId, account: &WorkerAccount, total: Option<u64>) -> Record {
    let counters = line_counters(&account.counters, total);
    Record::WorkerLine { worker, paid_out: account.paid_out, counters }
}

fn line_counters(counters: &Account, total: Option<u64>) -> Account {
    total.map_or(*counters, |total| Account {
        max: total,
        durable: total,
        committed: counters.committed,
    })
}

fn raise(counters: &mut Account, durable: Tokens) {
    counters.durable = counters.durable.max(durable.0.min(counters.max));
}

fn commit_to(counters: &mut Account, total: u64) {
    counters.durable = counters.durable.max(total);
    counters.committed = counters.committed.max(total);
}

fn ahead_of_commit<'a>(
    accounts: impl Iterator<Item = (&'a AccountId, &'a Account)>,
) -> HashMap<AccountId, u64> {
    accounts
        .filter(|(_, counters)| counters.max > counters.committed)
        .map(|(id, counters)| (*id, counters.max))
        .collect()
}

fn not_falling(account: AccountId, from: u64, to: u64) -> Result<(), Fault> {
    if to < from { Err(Fault::Falling { account, from, to }) } else { Ok(()) }
}

fn not_ahead(account: AccountId, chain: u64, books: u64) -> Result<(), Fault> {
    if chain > books { Err(Fault::BehindChain { account, chain, books }) } else { Ok(()) }
}

fn ordered(id: AccountId, counters: &Account, on_chain: u64) -> Result<(), Broken> {
    if counters.max < counters.durable || counters.durable < counters.committed {
        return Err(Broken::Counters(id));
    }
    if on_chain > counters.durable {
        return Err(Broken::AheadOfDisk {
            account: id,
            chain: on_chain,
            durable: counters.durable,
        });
    }
    Ok(())
}
