//! What an order about money does, costs and brings, before or as it is carried out.

use cocoon_settle::{Order, Wish};
use cocoon_units::{Address, Nanoton};
use serde_json::{Value, json};

/// What was asked for, and the first step towards it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MoneyPlan {
    /// It is in the journal and will be done; otherwise it was only looked at.
    pub is_accepted: bool,
    /// Our contract.
    pub contract: Address,
    /// The proxy contract.
    pub proxy: Address,
    /// The wallet that pays.
    pub wallet: Address,
    /// What is wished.
    pub wish: Wish,
    /// The first message, when one has to be sent.
    pub step: Option<PlannedStep>,
    /// What comes next, one sentence.
    pub next: String,
    /// What one should know before.
    pub note: Option<String>,
    /// The contract's balance now.
    pub balance: Option<Nanoton>,
    /// The contract's stake.
    pub stake: Option<Nanoton>,
}

/// A message to the contract, coin by coin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedStep {
    /// What it does.
    pub does: String,
    /// Why.
    pub why: String,
    /// What leaves the wallet.
    pub sends: Nanoton,
    /// Part of it that becomes a deposit.
    pub becomes_a_deposit: Nanoton,
    /// Part of it that stays on the contract until it is closed.
    pub stays: Nanoton,
    /// Part of it that comes back within seconds, about.
    pub comes_back_at_once: Nanoton,
    /// What the contract pays out besides.
    pub comes_back_from_the_contract: Nanoton,
    /// The fees, at most about so much.
    pub fees_at_most: Nanoton,
}

impl PlannedStep {
    pub(crate) fn of(order: &Order) -> Self {
        let value = order.message.value;
        let spent = order.moved.saturating_add(order.stays).saturating_add(order.fees);
        Self {
            does: order.step.to_string(),
            why: order.why.clone(),
            sends: value,
            becomes_a_deposit: order.moved,
            stays: order.stays,
            comes_back_at_once: value.saturating_sub(spent),
            comes_back_from_the_contract: order.returns,
            fees_at_most: order.fees,
        }
    }

    fn to_json(&self) -> Value {
        json!({
            "step": self.does,
            "why": self.why,
            "sends_nanoton": self.sends.0,
            "becomes_a_deposit_nanoton": self.becomes_a_deposit.0,
            "stays_until_it_is_closed_nanoton": self.stays.0,
            "comes_back_at_once_about_nanoton": self.comes_back_at_once.0,
            "comes_back_from_the_contract_nanoton": self.comes_back_from_the_contract.0,
            "fees_at_most_about_nanoton": self.fees_at_most.0,
        })
    }
}

impl MoneyPlan {
    /// As the gateway answers `/request/topup` and the like.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({
            "accepted": self.is_accepted,
            "contract": self.contract.to_raw(),
            "proxy_contract": self.proxy.to_raw(),
            "wallet": self.wallet.to_raw(),
            "wish": self.wish.to_string(),
            "until_paid_in_nanoton": match self.wish {
                Wish::PaidIn(total) => Some(total.0),
                _ => None,
            },
            "step": self.step.as_ref().map_or(Value::Null, PlannedStep::to_json),
            "next": self.next,
            "note": self.note,
            "balance_nanoton": self.balance.map(|balance| balance.0),
            "stake_nanoton": self.stake.map(|stake| stake.0),
        })
    }
}
