//! State commits, and what may be signed, charged and paid because of them (protocol notes, chain
//! 3.3 to 3.6).

use cocoon_contract::payment::PaymentKind;
use cocoon_ledger::{AccountId, ClientStatus, Record};
use cocoon_units::{Nanoton, Tokens};

use crate::fault::StartFault;
use crate::instance::{Party, sign};
use crate::outbox::{Act, ChainOrder, Note, Now, Outbox};
use crate::proxy::{Mark, Proxy};
use crate::settings::ChainMode;

/// Something seen on chain, told by the hand that reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChainFact {
    /// The state of a client's contract, from a message that the proxy contract verified.
    ClientSeen {
        /// Whose.
        client: AccountId,
        /// Its state.
        status: ClientStatus,
        /// What it still has.
        balance: Nanoton,
        /// Its stake.
        stake: Nanoton,
        /// Tokens charged so far.
        charged: Tokens,
        /// SHA-256 of its secret.
        secret_hash: [u8; 32],
    },
    /// A client registered a nonce.
    Registered {
        /// Who.
        client: AccountId,
        /// The nonce.
        nonce: u64,
    },
    /// A worker's contract was paid.
    WorkerSeen {
        /// Whose.
        worker: AccountId,
        /// Tokens paid so far.
        paid_out: Tokens,
    },
    /// A state commit from the own wallet stands on the proxy contract.
    CommitSeen {
        /// Its number.
        seqno: u32,
        /// The session that wrote it.
        session: [u8; 32],
    },
    /// An order to a client's contract went through or failed; its effect comes as `ClientSeen`.
    ClientOrderDone {
        /// Whose.
        client: AccountId,
    },
    /// An order to a worker's contract went through or failed; its effect comes as `WorkerSeen`.
    WorkerOrderDone {
        /// Whose.
        worker: AccountId,
    },
}

impl Proxy {
    /// Writes the record that opens books of a new epoch, when there are none yet.
    pub(crate) fn open_books(&mut self) -> Result<(), StartFault> {
        let root = self.instance.epoch();
        match self.books.epoch() {
            Some(books) if books == root => Ok(()),
            Some(books) if books > root => Err(StartFault::OlderRoot { books, root }),
            old => {
                let opened = self.opening();
                self.books.apply(&opened).map_err(StartFault::Replay)?;
                match (old, self.settings.chain) {
                    // Without a chain there is nothing to wind down.
                    (Some(epoch), ChainMode::Pseudo) => {
                        let closed = Record::OldClosed { epoch };
                        self.books.apply(&closed).map_err(StartFault::Replay)
                    }
                    _ => Ok(()),
                }
            }
        }
    }

    /// Makes everybody in the books known, so that accounts are settled whether or not their
    /// owners come back. Without a chain nobody is settled with who is not here.
    pub(crate) fn restore_parties(&mut self) -> Result<(), StartFault> {
        if self.settings.chain == ChainMode::Pseudo {
            return Ok(());
        }
        let address = crate::settings::Identity::address_of;
        for (client, account) in self.books.clients() {
            let contract = self.instance.client_contract(address(*client))?;
            let mut party = Party::new(&self.identity, *client, contract);
            party.signable = account.counters().committed();
            party.secret_hash = self.books.secret(*client);
            self.parties.clients.insert(*client, party);
        }
        for (worker, account) in self.books.workers() {
            let contract = self.instance.worker_contract(address(*worker))?;
            let mut party = Party::new(&self.identity, *worker, contract);
            party.signable = account.counters().committed();
            self.parties.workers.insert(*worker, party);
        }
        Ok(())
    }

    /// The record that opens the books of the present instance.
    pub(crate) fn opening(&self) -> Record {
        Record::Opened {
            epoch: self.instance.epoch(),
            price_nanoton: self.instance.prices.price_per_token.0,
            seqno: self.books.seqno(),
        }
    }

    /// Tokens were booked that no commit covers: makes one soon, or at once when much is at risk.
    pub(crate) fn put_at_risk(&mut self, tokens: Tokens, now: Now) {
        self.ink.at_risk = self.ink.at_risk.saturating_add(tokens.0);
        let amount = self.instance.prices.price_per_token.saturating_mul(Tokens(self.ink.at_risk));
        let due_ms = if amount >= self.settings.commit_at_risk {
            now.ms
        } else {
            now.ms.saturating_add(self.settings.commit_every_ms)
        };
        let due = self.ink.commit_due_ms.get_or_insert(due_ms);
        *due = (*due).min(due_ms);
    }

    /// Starts a commit unless one is on its way; its record must be durable before anything is
    /// sent.
    pub(crate) fn start_commit(&mut self, now: Now, out: &mut Outbox) {
        let session = self.ink.session;
        if self.books.pending_commits().any(|(_, known)| *known == session) {
            // One at a time: look again when it may be through.
            self.ink.commit_due_ms = Some(now.ms.saturating_add(1_000));
            return;
        }
        let seqno = self.books.seqno().saturating_add(1);
        self.ink.commit_due_ms = None;
        self.ink.at_risk = 0;
        if self.book(Record::CommitStarted { seqno, session }, out).is_ok() {
            self.mark(Mark::CommitStarted { seqno });
        }
    }

    /// The record of a commit is durable: sends it to the chain, or confirms it where there is
    /// none.
    pub(crate) fn commit_written(&mut self, seqno: u32, out: &mut Outbox) {
        match self.settings.chain {
            ChainMode::Pseudo => self.confirm_commit(seqno, out),
            ChainMode::Real => {
                let session = self.ink.session;
                out.act(Act::Chain(ChainOrder::SaveState { seqno, session }));
            }
        }
    }

    fn confirm_commit(&mut self, seqno: u32, out: &mut Outbox) {
        if self.book(Record::CommitConfirmed { seqno }, out).is_ok() {
            self.mark(Mark::CommitConfirmed { seqno });
        }
    }

    /// The confirmation is durable: payments may be signed for what the commit covers.
    pub(crate) fn commit_settled(&mut self, seqno: u32, now: Now, out: &mut Outbox) {
        self.standing.committed();
        for (account, party) in &mut self.parties.clients {
            let committed = self.books.client(*account).map(|c| c.counters().committed());
            party.signable = committed.unwrap_or_default();
        }
        for (account, party) in &mut self.parties.workers {
            let committed = self.books.worker(*account).map(|w| w.counters().committed());
            party.signable = committed.unwrap_or_default();
        }
        self.counts.commits += 1;
        out.note(Note::Committed { seqno });
        // What was booked meanwhile may be too much to wait.
        if self.ink.at_risk > 0 {
            self.put_at_risk(Tokens::ZERO, now);
        }
        self.settle(now, out);
    }

    /// A commit of our wallet stands on chain. One that this journal never wrote means a second
    /// proxy with our key, or an old journal: the reference aborts, we stop serving.
    fn commit_seen(&mut self, seqno: u32, session: [u8; 32], now: Now, out: &mut Outbox) {
        let known = self.books.pending_commits().any(|(at, hash)| at == seqno && *hash == session);
        if known {
            self.ink.remember_confirmed(&self.books, seqno);
            self.confirm_commit(seqno, out);
            return;
        }
        let own = session == self.ink.session && seqno <= self.books.seqno();
        if own || self.ink.confirmed.contains(&(seqno, session)) {
            // Seen twice: through the wallet and on the contract.
            return;
        }
        let text = format!(
            "commit {seqno} on chain is not in this journal: another proxy runs with the same key, \
             or the journal is an old copy; stop one of them or restore the newest journal"
        );
        self.stop_serving(text, now, out);
    }

    pub(crate) fn stop_serving(&mut self, text: String, now: Now, out: &mut Outbox) {
        self.standing.stop(text.clone());
        out.note(Note::Stopped { text });
        self.drop_everybody("proxy has stopped", now, out);
    }

    /// Takes in what was seen on chain.
    pub fn chain(&mut self, fact: ChainFact, now: Now, out: &mut Outbox) {
        match fact {
            ChainFact::ClientSeen { client, status, balance, stake, charged, secret_hash } => {
                self.client_seen(client, status, balance, stake, charged, secret_hash, out);
                self.settle_client(client, out);
            }
            ChainFact::Registered { client, nonce } => self.registered(client, nonce, now, out),
            ChainFact::WorkerSeen { worker, paid_out } => {
                let seen = Record::WorkerSeen { worker, paid_out: paid_out.0 };
                let _ = self.book(seen, out);
                self.settle_worker(worker, out);
            }
            ChainFact::CommitSeen { seqno, session } => {
                self.commit_seen(seqno, session, now, out);
            }
            ChainFact::ClientOrderDone { client } => {
                if let Some(party) = self.parties.clients.get_mut(&client) {
                    (party.in_flight, party.order_id) = (false, None);
                }
                self.settle_client(client, out);
            }
            ChainFact::WorkerOrderDone { worker } => {
                if let Some(party) = self.parties.workers.get_mut(&worker) {
                    (party.in_flight, party.order_id) = (false, None);
                }
                self.settle_worker(worker, out);
            }
        }
    }

    /// Nothing is on its way any more: from here on the chain's own number counts, which a charge
    /// that took only a part left behind the ordered one.
    pub(crate) fn end_client_order(&mut self, client: AccountId) {
        if let Some(party) = self.parties.clients.get_mut(&client) {
            (party.in_flight, party.order_id, party.ordered) = (false, None, Tokens::ZERO);
        }
    }

    pub(crate) fn end_worker_order(&mut self, worker: AccountId) {
        if let Some(party) = self.parties.workers.get_mut(&worker) {
            (party.in_flight, party.order_id, party.ordered) = (false, None, Tokens::ZERO);
        }
    }

    #[allow(clippy::too_many_arguments, reason = "the fields of one state")]
    fn client_seen(
        &mut self,
        client: AccountId,
        status: ClientStatus,
        balance: Nanoton,
        stake: Nanoton,
        charged: Tokens,
        secret_hash: [u8; 32],
        out: &mut Outbox,
    ) {
        let is_new = !self.parties.clients.contains_key(&client);
        if is_new {
            let owner = crate::settings::Identity::address_of(client);
            let Ok(contract) = self.instance.client_contract(owner) else { return };
            let party = Party::new(&self.identity, client, contract);
            self.parties.clients.insert(client, party);
        }
        let seen = Record::ClientSeen {
            client,
            status,
            balance_nanoton: balance.0,
            stake_nanoton: stake.0,
            charged: charged.0,
        };
        let counted = self.books.client(client).map(|c| c.counters().max()).unwrap_or_default();
        // An update that falls behind is refused by the books and ignored, as it must be.
        let taken = self.book(seen, out).is_ok();
        if let Some(party) = self.parties.clients.get_mut(&client) {
            party.behind_chain |= charged > counted;
            if taken {
                party.secret_hash = Some(secret_hash);
            }
        }
        if taken && self.books.secret(client) != Some(secret_hash) {
            let _ = self.book(Record::ClientSecret { client, hash: secret_hash }, out);
        }
        self.refresh_signable(client, is_new);
    }

    /// Looks at every account for something to charge or to pay.
    fn settle(&mut self, _now: Now, out: &mut Outbox) {
        let clients: Vec<AccountId> = self.parties.clients.keys().copied().collect();
        for client in clients {
            self.settle_client(client, out);
        }
        let workers: Vec<AccountId> = self.parties.workers.keys().copied().collect();
        for worker in workers {
            self.settle_worker(worker, out);
        }
    }

    /// Charges a client that owes enough, gives a closing one the rest back (chain 3.5).
    pub(crate) fn settle_client(&mut self, client: AccountId, out: &mut Outbox) {
        let (Some(account), Some(party)) =
            (self.books.client(client), self.parties.clients.get(&client))
        else {
            return;
        };
        let counters = *account.counters();
        let (status, charged) = (account.status(), account.charged().max(party.ordered));
        if party.in_flight || status == ClientStatus::Closed {
            return;
        }
        let all_committed = counters.committed() == counters.max();
        if status == ClientStatus::Closing && party.running == 0 && all_committed {
            self.order(client, PaymentKind::ClientGrantRefund, counters.max(), out);
            return;
        }
        let price = self.instance.prices.price_per_token;
        let owed = price.saturating_mul(counters.committed().saturating_sub(charged));
        // A charge takes no more than the balance.
        let owed = match self.settings.chain {
            ChainMode::Real => owed.min(account.balance()),
            ChainMode::Pseudo => owed,
        };
        // Half the stake at the latest: what is owed is taken out of what may be used.
        let enough = self.settings.charge_min.min(Nanoton(account.stake().0 / 2));
        if owed < enough || owed == Nanoton::ZERO {
            return;
        }
        match self.settings.chain {
            // Never more than is durable: a charge must not outrun the journal.
            ChainMode::Real => {
                self.order(client, PaymentKind::ClientCharge, counters.durable(), out);
            }
            ChainMode::Pseudo => {
                let paid = price.saturating_mul(counters.committed().saturating_sub(charged));
                let seen = Record::ClientSeen {
                    client,
                    status,
                    balance_nanoton: account.balance().saturating_sub(paid).0,
                    stake_nanoton: account.stake().0,
                    charged: counters.committed().0,
                };
                let _ = self.book(seen, out);
            }
        }
    }

    /// Pays a worker that is owed enough (chain 3.5).
    pub(crate) fn settle_worker(&mut self, worker: AccountId, out: &mut Outbox) {
        let (Some(account), Some(party)) =
            (self.books.worker(worker), self.parties.workers.get(&worker))
        else {
            return;
        };
        let committed = account.counters().committed();
        let paid = account.paid_out().max(party.ordered);
        let owed = self.instance.prices.worker_fee_per_token;
        let owed = owed.saturating_mul(committed.saturating_sub(paid));
        if party.in_flight || owed < self.settings.payout_min || owed == Nanoton::ZERO {
            return;
        }
        match self.settings.chain {
            ChainMode::Real => self.order(worker, PaymentKind::WorkerPayout, committed, out),
            ChainMode::Pseudo => {
                let _ = self.book(Record::WorkerSeen { worker, paid_out: committed.0 }, out);
            }
        }
    }

    /// Signs an order and sends it to the chain, one at a time per account.
    pub(crate) fn order(
        &mut self,
        account: AccountId,
        kind: PaymentKind,
        tokens: Tokens,
        out: &mut Outbox,
    ) {
        let pays_worker = kind == PaymentKind::WorkerPayout;
        let parties = &mut self.parties;
        let parties = if pays_worker { &mut parties.workers } else { &mut parties.clients };
        let Some(party) = parties.get_mut(&account) else { return };
        let contract = party.contract;
        let query_id = self.draw.number();
        let Some(body) = sign(&self.identity, kind, contract, tokens, query_id) else { return };
        (party.in_flight, party.ordered) = (true, party.ordered.max(tokens));
        party.order_id = Some(query_id);
        let order = match kind {
            PaymentKind::ClientCharge => {
                ChainOrder::Charge { client: account, contract, tokens, body }
            }
            PaymentKind::ClientGrantRefund => {
                ChainOrder::GrantRefund { client: account, contract, tokens, body }
            }
            PaymentKind::WorkerPayout | PaymentKind::WorkerLastPayout => {
                ChainOrder::Payout { worker: account, contract, tokens, body }
            }
        };
        out.act_when_durable(Act::Chain(order));
    }

    /// Whether a confirmation was booked that is not known to be on disk. The books count it
    /// already, yet nothing may be signed because of it: [`Self::commit_settled`] will allow it.
    fn is_confirming(&self) -> bool {
        self.ink.marks.iter().any(|(_, mark)| matches!(mark, Mark::CommitConfirmed { .. }))
    }

    /// What may be signed for a client after its account changed. `is_new`: none of its
    /// connections is ready, so that all it is told waits for the disk.
    pub(crate) fn refresh_signable(&mut self, client: AccountId, is_new: bool) {
        if !is_new && self.is_confirming() {
            return;
        }
        if let Some(party) = self.parties.clients.get_mut(&client) {
            let committed = self.books.client(client).map(|c| c.counters().committed());
            party.signable = committed.unwrap_or_default();
        }
    }

    /// The same for a worker.
    pub(crate) fn refresh_signable_worker(&mut self, worker: AccountId, is_new: bool) {
        if !is_new && self.is_confirming() {
            return;
        }
        if let Some(party) = self.parties.workers.get_mut(&worker) {
            let committed = self.books.worker(worker).map(|w| w.counters().committed());
            party.signable = committed.unwrap_or_default();
        }
    }
}
