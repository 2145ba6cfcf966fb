//! What the proxy contract's own transactions say (protocol notes, chain 1.4 to 1.6, 3.5, 3.6).
//!
//! Nothing is believed that is not derived: a notice counts only when its sender's address follows
//! from the owner it names. Messages of one nanoton never run, so the success of a transaction
//! says nothing about them; requests about money that failed come back to their sender.

use cocoon_contract::cell::Cell;
use cocoon_contract::message::{Body, ClientNotice, ClientPayload, SaveState, WorkerNotice, peek};
use cocoon_contract::state::Phase;
use cocoon_ledger::{AccountId, ClientStatus, Record};
use cocoon_units::{Address, Nanoton, Tokens};

use crate::commit::ChainFact;
use crate::outbox::{Note, Now, Outbox};
use crate::proxy::Proxy;

/// A transaction of the proxy contract, as far as the proxy cares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContractTransaction {
    /// Logical time.
    pub lt: u64,
    /// Who sent the message; `None` for one from outside.
    pub source: Option<Address>,
    /// The message's body.
    pub body: Cell,
    /// Whether it came back from somewhere.
    pub is_bounced: bool,
    /// Whether the contract ran and what it did was undone.
    pub is_failed: bool,
    /// Bodies of the messages it sent, with their receivers.
    pub sent: Vec<(Address, Cell)>,
}

impl Proxy {
    /// Takes in a transaction of the proxy contract. Call it for each, in order, then
    /// [`Proxy::contract_reached`].
    pub fn contract_transaction(
        &mut self,
        transaction: &ContractTransaction,
        now: Now,
        out: &mut Outbox,
    ) {
        let Some(source) = transaction.source.filter(|_| !transaction.is_bounced) else { return };
        // What means nothing to this network is not for us.
        let Ok(body) = Body::parse(&transaction.body) else { return };
        match body {
            Body::SaveState(save) if source == self.identity.wallet => {
                self.save_seen(save, transaction, now, out);
            }
            Body::ClientNotice(notice) => {
                self.client_notice(source, &notice, transaction, now, out);
            }
            Body::WorkerNotice(notice) => {
                self.worker_notice(source, &notice, transaction, now, out);
            }
            _ => {}
        }
    }

    /// All transactions up to this logical time are taken in.
    pub fn contract_reached(&mut self, lt: u64, out: &mut Outbox) {
        if lt > self.books.chain_lt() {
            let _ = self.book(Record::ChainSeen { lt }, out);
        }
    }

    /// Where the proxy contract stands in its life. One that is closing serves nobody until the
    /// parameters change, which gives it a new address.
    pub fn contract_phase(&mut self, phase: Phase, now: Now, out: &mut Outbox) {
        let is_closing = phase != Phase::Normal;
        if self.standing.set_closing(is_closing) && is_closing {
            let text = "the proxy contract is closing: nobody is served until the network's \
                        parameters change";
            out.note(Note::Stopped { text: text.to_owned() });
            self.drop_everybody("proxy contract is closing", now, out);
        }
    }

    /// An order has ended without a notice: it failed, or nothing more will be heard of it. The
    /// caller waits a while before it says so, because the order may be given again at once.
    pub fn order_ended(&mut self, query_id: u64, out: &mut Outbox) {
        let is_it = |order_id: &Option<u64>| *order_id == Some(query_id);
        let clients = &mut self.parties.clients;
        let client = clients.iter().find(|(_, party)| is_it(&party.order_id)).map(|(id, _)| *id);
        if let Some(client) = client {
            self.end_client_order(client);
            self.settle_client(client, out);
        }
        let workers = &mut self.parties.workers;
        let worker = workers.iter().find(|(_, party)| is_it(&party.order_id)).map(|(id, _)| *id);
        if let Some(worker) = worker {
            self.end_worker_order(worker);
            self.settle_worker(worker, out);
        }
    }

    /// The chain is away for too long, or is back. Meanwhile nothing new is admitted: what would
    /// be promised could not be settled.
    pub fn set_chain_away(&mut self, is_away: bool) {
        self.standing.chain_away(is_away);
    }

    fn save_seen(
        &mut self,
        save: SaveState,
        transaction: &ContractTransaction,
        now: Now,
        out: &mut Outbox,
    ) {
        let Ok(seqno) = u32::try_from(save.seqno) else {
            let lt = transaction.lt;
            let text = format!("commit {} on chain has no sense, transaction {lt}", save.seqno);
            out.note(Note::BooksRefused { text });
            return;
        };
        let session = save.session_hash.0;
        self.chain(ChainFact::CommitSeen { seqno, session }, now, out);
    }

    fn client_notice(
        &mut self,
        source: Address,
        notice: &ClientNotice,
        transaction: &ContractTransaction,
        now: Now,
        out: &mut Outbox,
    ) {
        let Some(client) = account_of(notice.owner) else { return };
        if self.instance.client_contract(notice.owner).ok() != Some(source) {
            return;
        }
        let snapshot = &notice.snapshot;
        let fact = ChainFact::ClientSeen {
            client,
            status: status(snapshot.phase),
            balance: balance_after(notice, transaction),
            stake: snapshot.stake,
            charged: snapshot.tokens_used,
            secret_hash: snapshot.secret_hash.0,
        };
        if self.parties.clients.get(&client).is_some_and(|p| p.order_id == Some(notice.query_id)) {
            self.end_client_order(client);
        }
        self.chain(fact, now, out);
        let has_failed = transaction.is_failed;
        if let (Some(ClientPayload::Register { nonce }), false) = (notice.payload, has_failed) {
            self.chain(ChainFact::Registered { client, nonce }, now, out);
        }
    }

    fn worker_notice(
        &mut self,
        source: Address,
        notice: &WorkerNotice,
        transaction: &ContractTransaction,
        now: Now,
        out: &mut Outbox,
    ) {
        let Some(worker) = account_of(notice.owner) else { return };
        if self.instance.worker_contract(notice.owner).ok() != Some(source) {
            return;
        }
        // A payout that failed comes back: the contract counts it as not made. The order ends
        // when its hand says so, after a while.
        if transaction.is_failed {
            return;
        }
        if self.parties.workers.get(&worker).is_some_and(|p| p.order_id == Some(notice.query_id)) {
            self.end_worker_order(worker);
        }
        let unpaid = self.unpaid(source, transaction);
        let paid_out = notice.tokens.saturating_sub(unpaid);
        self.chain(ChainFact::WorkerSeen { worker, paid_out }, now, out);
    }

    /// Tokens that the proxy contract could not pay and gave back to the worker contract.
    fn unpaid(&self, worker: Address, transaction: &ContractTransaction) -> Tokens {
        let short = transaction.sent.iter().find_map(|(to, body)| match Body::parse(body) {
            Ok(Body::PayoutShort(short)) if *to == worker => Some(short.amount),
            _ => None,
        });
        let fee = self.instance.prices.worker_fee_per_token;
        short.map_or(Tokens::ZERO, |amount| Tokens(amount.0.checked_div(fee.0).unwrap_or(0)))
    }
}

/// Operation and query id of an ordered body: its query id names the order.
#[must_use]
pub fn query_id(body: &Cell) -> Option<u64> {
    peek(body).map(|(_, query_id)| query_id)
}

/// Accounts of the books live in the basic workchain.
fn account_of(owner: Address) -> Option<AccountId> {
    (owner.workchain == 0).then_some(AccountId(owner.hash))
}

fn status(phase: Phase) -> ClientStatus {
    match phase {
        Phase::Normal => ClientStatus::Normal,
        Phase::Closing => ClientStatus::Closing,
        Phase::Closed => ClientStatus::Closed,
    }
}

/// What the client contract holds when the notice has had its effect: a request about money that
/// failed comes back to it, and so does what a refund fell short of.
fn balance_after(notice: &ClientNotice, transaction: &ContractTransaction) -> Nanoton {
    let balance = notice.snapshot.balance;
    match notice.payload {
        Some(ClientPayload::TopUp { amount, .. }) if transaction.is_failed => {
            balance.saturating_sub(amount)
        }
        Some(
            ClientPayload::RefundGranted { amount, .. } | ClientPayload::RefundForce { amount, .. },
        ) => {
            let short = transaction.sent.iter().find_map(|(_, body)| match Body::parse(body) {
                Ok(Body::RefundShort(short)) => Some(short.amount),
                _ => None,
            });
            let back = if transaction.is_failed { amount } else { short.unwrap_or_default() };
            balance.saturating_add(back)
        }
        _ => balance,
    }
}
