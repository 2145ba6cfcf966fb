//! What the chain does with the messages of the last act: the model, and the contracts beside it.

use cocoon_contract::boc;
use cocoon_contract::message::{Body, ClientAction};
use cocoon_contract::payment::{CloseKind, PaymentKind, SignedPayment};
use cocoon_contract::state::Phase;
use cocoon_contract::wallet::Outgoing;
use cocoon_ledger::{AccountId, ClientStatus};
use cocoon_units::Address;

use super::After;
use super::look::unix_s;
use crate::contracts::Purse;
use crate::liar::account;
use crate::mutant::Mutant;
use crate::world::World;

impl World {
    /// A message of the last act is in a block; whether it had its effect.
    pub(super) fn take(
        &mut self,
        after: &mut After,
        p: u8,
        from: Purse,
        message: &Outgoing,
    ) -> bool {
        self.look_for_spare(p);
        let bounces = after.bounces(self.now_ms, p);
        let contracts = &mut self.chain.contracts[usize::from(p)];
        contracts.last_lt += 1;
        contracts.bounces = bounces;
        let had_effect = match message.body.as_ref().map(Body::parse) {
            None => self.deploys(p, message.to),
            Some(Ok(Body::Client(request))) => {
                self.client_asks(after, p, message.to, &request.action)
            }
            Some(Ok(Body::Payment(payment))) => self.pays(after, p, message.to, &payment),
            Some(Ok(Body::Close(close))) => {
                let key = crate::proxy::identity(p).public_key();
                close.verify(&message.to, key).is_ok() && self.closes(p, close.kind())
            }
            _ => {
                self.fail("a message that nobody reads", format!("{message:?}"));
                false
            }
        };
        self.chain.contracts[usize::from(p)].bounces = false;
        self.take_for_real(p, from, message);
        had_effect
    }

    /// The compiled contracts take it too.
    fn take_for_real(&mut self, p: u8, from: Purse, message: &Outgoing) {
        let Some(mut contracts) = self.contracts.take() else { return };
        let result = contracts
            .send(from, self.now_ms, std::slice::from_ref(message))
            .and_then(|()| self.compare(&contracts, p));
        self.contracts = Some(contracts);
        if let Err(text) = result {
            self.fail("the contracts and their model differ", text);
        }
    }

    fn worker_at(&self, p: u8, to: Address) -> Option<AccountId> {
        let worker = (0..self.plan.workers).find(|w| self.worker_contract(*w, p) == Some(to))?;
        Some(account(crate::worker::owner(worker)))
    }

    fn client_at(&self, p: u8, to: Address) -> Option<AccountId> {
        let client = (0..self.plan.clients).find(|c| self.client_contract(p, *c) == Some(to))?;
        Some(account(crate::client::owner(client)))
    }

    fn deploys(&mut self, p: u8, to: Address) -> bool {
        let Some(worker) = self.worker_at(p, to) else { return false };
        self.chain.contracts[usize::from(p)].workers.entry(worker).or_default();
        true
    }

    fn client_asks(
        &mut self,
        after: &mut After,
        p: u8,
        to: Address,
        action: &ClientAction,
    ) -> bool {
        let Some(id) = self.client_at(p, to) else { return false };
        let (now_s, delay_s) = (unix_s(self.now_ms), self.root.network.params.client_delay_s);
        let has_no_delay = self.mutant == Some(Mutant::ForcedAtOnce);
        let forgets = self.mutant == Some(Mutant::ShortForgotten);
        let contracts = &mut self.chain.contracts[usize::from(p)];
        let Some(contract) = contracts.clients.get(&id) else { return false };
        match (action, contract.status) {
            (ClientAction::TopUp { amount }, ClientStatus::Normal) => {
                contracts.deposit(id, amount.0);
            }
            (ClientAction::RequestRefund, ClientStatus::Normal) => {
                after.asked_ms.insert((p, id), self.now_ms);
                contracts.starts_to_close(id, now_s + u64::from(delay_s), false);
            }
            // What a refund fell short of is asked for again.
            (ClientAction::RequestRefund, ClientStatus::Closed) if contract.balance > 0 => {
                contracts.force_refund(id, forgets);
            }
            (ClientAction::RequestRefund, ClientStatus::Closing)
                if now_s >= contract.unlock_s || has_no_delay =>
            {
                contracts.force_refund(id, forgets);
                // Who asked before the last act has waited longer.
                let asked_ms = after.asked_ms.get(&(p, id)).copied().unwrap_or(0);
                if self.now_ms < asked_ms + u64::from(delay_s) * 1_000 {
                    let text = format!("{id:?} at proxy {p}, asked at {asked_ms} ms");
                    self.fail("a refund was forced before its delay", text);
                }
            }
            _ => return false,
        }
        self.check_sheet(p, id);
        self.check_pool(p);
        true
    }

    fn pays(&mut self, after: &After, p: u8, to: Address, payment: &SignedPayment) -> bool {
        let kind = payment.kind();
        let body = payment.cell().map(|cell| boc::encode(&cell)).unwrap_or_default();
        let Some(tokens) = self.is_body_good(p, &body, kind, &to) else { return false };
        match kind {
            PaymentKind::ClientCharge | PaymentKind::ClientGrantRefund => {
                let Some(id) = self.client_at(p, to) else { return false };
                let old = after.parts.get(&p).and_then(|part| part.old.as_ref());
                let told = old.and_then(|old| {
                    old.clients().find(|(client, _)| *client == id).map(|(_, tokens)| tokens.0)
                });
                if told.is_some_and(|told| tokens > told) {
                    let text = format!("proxy {p} charges {tokens}, its books say {told:?}");
                    self.fail("charged above the books", text);
                }
                self.book_charge(p, id, tokens, kind)
            }
            PaymentKind::WorkerPayout | PaymentKind::WorkerLastPayout => {
                let Some(worker) = self.worker_at(p, to) else { return false };
                // A winding proxy deploys the contract with the payment.
                self.chain.contracts[usize::from(p)].workers.entry(worker).or_default();
                let is_last = kind == PaymentKind::WorkerLastPayout;
                self.pay_worker(p, worker, tokens, is_last)
            }
        }
    }

    fn closes(&mut self, p: u8, kind: CloseKind) -> bool {
        let (now_s, delay_s) = (unix_s(self.now_ms), self.root.network.params.proxy_delay_s);
        let takes_all = self.mutant == Some(Mutant::CloseTakesAll);
        let contracts = &mut self.chain.contracts[usize::from(p)];
        match (kind, contracts.phase) {
            // As contracts of an earlier generation did.
            (CloseKind::Request, Phase::Normal) if takes_all => {
                contracts.phase = Phase::Closed;
                let (his, there) = (contracts.of_owner(), contracts.coins());
                contracts.owner_got += there;
                (contracts.pool, contracts.earned, contracts.stake) = (0, 0, 0);
                if there != his {
                    self.fail(
                        "the owner of a proxy got what is not his",
                        format!("{there} of {his}"),
                    );
                }
            }
            (CloseKind::Request, Phase::Normal) => {
                contracts.phase = Phase::Closing;
                contracts.unlock_s = now_s + u64::from(delay_s);
            }
            (CloseKind::Complete, Phase::Closing) if now_s >= contracts.unlock_s => {
                contracts.phase = Phase::Closed;
                contracts.owner_got += contracts.of_owner();
                (contracts.earned, contracts.stake) = (0, 0);
            }
            _ => return false,
        }
        self.check_pool(p);
        true
    }
}
