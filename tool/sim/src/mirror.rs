//! What the model of the contracts took is given to the contracts, and both are compared.

use cocoon_ledger::AccountId;
use cocoon_role_proxy::ChainOrder;

use crate::chain::Message;
use crate::contracts::{Checked, Contracts, Purse};
use crate::liar::account;
use crate::world::World;

impl World {
    /// Sends a message of a block to the contracts and compares them with their model.
    pub(crate) fn mirror(&mut self, p: u8, message: &Message, was_normal: bool) {
        let Some(mut contracts) = self.contracts.take() else { return };
        let result = self
            .repeat(&mut contracts, p, message, was_normal)
            .and_then(|()| self.compare(&contracts, p));
        self.contracts = Some(contracts);
        if let Err(text) = result {
            self.fail("the contracts and their model differ", text);
        }
    }

    fn repeat(
        &self,
        contracts: &mut Contracts,
        p: u8,
        message: &Message,
        was_normal: bool,
    ) -> Checked<()> {
        let now_ms = self.now_ms;
        match message {
            Message::Register { client, nonce } => contracts.register(p, *client, *nonce, now_ms),
            // Without a contract there is nobody to pay or to ask.
            Message::TopUp { client } if self.has_contract(*client, p) => {
                contracts.top_up(p, *client, crate::chain::TOP_UP, now_ms)
            }
            // Asked again after the delay it would take the money by force.
            Message::Close { client } if was_normal && self.has_contract(*client, p) => {
                contracts.close(p, *client, now_ms)
            }
            Message::Post { client, body } if self.has_contract(*client, p) => {
                let to = contracts.client(p, *client)?;
                contracts.hand_in(Purse::Client(*client), to, body, now_ms)
            }
            Message::TopUp { .. } | Message::Close { .. } | Message::Post { .. } => Ok(()),
            Message::Order { order, .. } => match order {
                ChainOrder::SaveState { seqno, session } => {
                    contracts.commit(p, *seqno, *session, now_ms)
                }
                ChainOrder::Charge { contract, body, .. }
                | ChainOrder::GrantRefund { contract, body, .. } => {
                    contracts.hand_in(Purse::Proxy(p), *contract, body, now_ms)
                }
                ChainOrder::Payout { worker, body, .. } => {
                    let owner = self.worker_owner(*worker).ok_or("a payout to a stranger")?;
                    contracts.pay_out(p, owner, body, now_ms)
                }
                _ => Ok(()),
            },
        }
    }

    pub(crate) fn compare(&self, contracts: &Contracts, p: u8) -> Checked<()> {
        let model = &self.chain.contracts[usize::from(p)];
        let (mut charged, mut left) = (0, 0);
        for c in 0..self.plan.clients {
            let Some(client) = model.clients.get(&account(crate::client::owner(c))) else {
                continue;
            };
            contracts.compare_client(p, c, client)?;
            charged += client.used;
            left += client.balance;
        }
        for (worker, paid) in &model.workers {
            let owner = self.worker_owner(*worker).ok_or("a payout to a stranger")?;
            contracts.compare_worker(p, owner, *paid)?;
        }
        contracts.check_coins(p, model, (model.workers.values().sum(), charged, left))
    }

    /// Tells the model how much gas money the contract will take for deposits.
    pub(crate) fn look_for_spare(&mut self, p: u8) {
        let Some(contracts) = &self.contracts else { return };
        let model = &mut self.chain.contracts[usize::from(p)];
        model.spare = contracts.spare(p, model.pool);
    }

    fn worker_owner(&self, id: AccountId) -> Option<cocoon_units::Address> {
        (0..self.plan.workers).map(crate::worker::owner).find(|owner| account(*owner) == id)
    }
}
