//! Orders on their way: signed together at one sequence number, then underway to receivers.

use cocoon_contract::cell::Hash;
use cocoon_units::Address;

use crate::order::{Label, Order};
use crate::seen::{Passed, Sent};

/// Signatures of one batch that are remembered; older ones have long expired.
const BODIES_MAX: usize = 8;

/// Orders that are signed at one sequence number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Batch {
    pub(crate) seqno: u32,
    /// The wallet's last transaction before the batch was signed: its own comes after it.
    pub(crate) since_lt: u64,
    pub(crate) valid_until_s: u32,
    /// Hashes of the bodies that were signed; any of them may come through.
    pub(crate) bodies: Vec<Hash>,
    pub(crate) orders: Vec<Order>,
    /// The external message signed last.
    pub(crate) boc: Vec<u8>,
    /// How often the contract took the order and failed to carry it out.
    pub(crate) failures: u32,
}

/// A message that left the wallet and is not seen at its receiver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Arrival {
    pub(crate) label: Label,
    pub(crate) to: Address,
    pub(crate) message: Hash,
    pub(crate) after_lt: u64,
}

impl Batch {
    pub(crate) fn remember_body(&mut self, body: Hash) {
        if !self.bodies.contains(&body) {
            self.bodies.push(body);
        }
        let surplus = self.bodies.len().saturating_sub(BODIES_MAX);
        self.bodies.drain(..surplus);
    }

    pub(crate) fn is_body(&self, passed: &Passed) -> bool {
        passed.external_body.is_some_and(|body| self.bodies.contains(&body))
    }

    /// Finds the message of each order among what the transaction sent. `None`: skipped.
    pub(crate) fn outcomes<'a>(
        &'a self,
        passed: &'a Passed,
    ) -> impl Iterator<Item = (&'a Order, Option<&'a Sent>)> {
        let mut rest: Vec<&Sent> = passed.sent.iter().collect();
        self.orders.iter().map(move |order| {
            let body = body_hash(order);
            let found = rest.iter().position(|sent| {
                sent.to == order.message.to && (body.is_none() || body == Some(sent.body))
            });
            (order, found.map(|index| rest.remove(index)))
        })
    }
}

/// Hash of the order's body; `None` for a message without one.
fn body_hash(order: &Order) -> Option<Hash> {
    order.message.body.as_ref().map(|body| Hash(*body.repr_hash().as_array()))
}
