//! The hand of a [`WindDown`]: looks, has messages sent, waits.

use std::sync::Arc;
use std::time::Duration;

use cocoon_chain::{Account, Chain};
use cocoon_contract::wallet::Outgoing;
use cocoon_host::clock;
use cocoon_purse::{Label, Order, Outcome};
use cocoon_role_proxy::{OldSight, WindDown, WindStep, query_id};
use cocoon_units::Address;
use tokio::sync::{mpsc, oneshot};

/// Blocks after a message arrived, in which what follows from it happens.
const SETTLES_IN: u32 = 3;
/// Pause after a step that did not go through.
const PAUSE: Duration = Duration::from_secs(10);
/// Longest pause between two looks at a close that waits.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// What a winding task tells the loop.
pub(crate) enum WindEvent {
    /// Send this, and say what became of it.
    Order { order: Box<Order>, done: oneshot::Sender<Outcome> },
    /// Where it stands, for the status page.
    Progress { epoch: u32, contract: Address, remaining: usize, what: String },
    /// Everything is wound down, except what these contracts still hold.
    Done { epoch: u32, left: Vec<Address> },
}

/// Winds one old contract down.
pub(crate) struct Wind {
    pub(crate) epoch: u32,
    pub(crate) chain: Arc<dyn Chain>,
    pub(crate) machine: WindDown,
    pub(crate) poll: Duration,
    pub(crate) events: mpsc::Sender<WindEvent>,
}

impl Wind {
    /// Runs to the end. It can be stopped at any point and begun again: the chain remembers.
    pub(crate) async fn run(mut self) {
        loop {
            match self.machine.step().clone() {
                WindStep::Look(account) => {
                    let seen = self.look(account).await;
                    let sight = OldSight { data: seen.data.as_ref(), time_s: seen.head.time.0 };
                    let query_id = u64::from_be_bytes(clock::random());
                    self.machine.seen(account, sight, query_id);
                }
                WindStep::Send { what, message } => {
                    if !self.progress(what.to_owned()).await {
                        return;
                    }
                    if !self.send(what, *message).await {
                        tokio::time::sleep(PAUSE.min(self.poll * 20)).await;
                    }
                    self.machine.done();
                }
                WindStep::Wait { until_s } => {
                    if !self.progress(format!("waits for the close, until {until_s}")).await {
                        return;
                    }
                    self.wait(until_s).await;
                    self.machine.done();
                }
                WindStep::Done { left } => {
                    let event = WindEvent::Done { epoch: self.epoch, left };
                    let _ = self.events.send(event).await;
                    return;
                }
            }
        }
    }

    async fn look(&self, account: Address) -> Account {
        loop {
            match self.chain.account(account, None).await {
                Ok(seen) => return seen,
                // The line says that the chain is away.
                Err(_) => tokio::time::sleep(self.poll).await,
            }
        }
    }

    /// Whether it had its effect.
    async fn send(&self, what: &str, message: Outgoing) -> bool {
        let query_id = message.body.as_ref().and_then(query_id).unwrap_or_default();
        let to = message.to.to_raw();
        let (done, outcome) = oneshot::channel();
        let order = Box::new(Order { label: Label(query_id), message });
        if self.events.send(WindEvent::Order { order, done }).await.is_err() {
            return false;
        }
        let outcome = outcome.await;
        let is_success = outcome.as_ref().is_ok_and(Outcome::is_success);
        if is_success {
            tracing::info!(epoch = self.epoch, to, "old contract: {what}");
            self.blocks(SETTLES_IN).await;
        } else {
            tracing::warn!(epoch = self.epoch, to, ?outcome, "old contract: {what} did not work");
        }
        is_success
    }

    /// Lets blocks pass.
    async fn blocks(&self, count: u32) {
        let mut passed = BlocksPassed::default();
        loop {
            match self.chain.head().await {
                Ok(head) => {
                    if passed.seen(head.seqno) >= count {
                        return;
                    }
                    let moved = self.chain.moved_beyond(head.seqno);
                    let _either = tokio::time::timeout(self.poll, moved).await;
                }
                Err(_) => tokio::time::sleep(self.poll).await,
            }
        }
    }

    /// Waits for the chain's clock.
    async fn wait(&self, until_s: u64) {
        loop {
            let now_s = self.chain.head().await.map_or(0, |head| head.time.0);
            if now_s >= until_s {
                return;
            }
            let rest = Duration::from_secs(until_s - now_s);
            tokio::time::sleep(rest.min(LOOK_EVERY).max(self.poll)).await;
        }
    }

    async fn progress(&self, what: String) -> bool {
        let (epoch, contract) = (self.epoch, self.machine.contract());
        let remaining = self.machine.remaining();
        self.events.send(WindEvent::Progress { epoch, contract, remaining, what }).await.is_ok()
    }
}

/// Counts blocks from the lowest number seen: a server may have told one of any size before.
#[derive(Default)]
struct BlocksPassed {
    lowest: Option<u32>,
}

impl BlocksPassed {
    /// How many have passed at a block of this number.
    fn seen(&mut self, seqno: u32) -> u32 {
        let lowest = self.lowest.map_or(seqno, |lowest| lowest.min(seqno));
        self.lowest = Some(lowest);
        seqno - lowest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_counted_from_any_number_that_a_server_tells() {
        let mut passed = BlocksPassed::default();
        for (seqno, count) in [(u32::MAX, 0), (u32::MAX, 0), (7, 0), (9, 2), (8, 1), (10, 3)] {
            assert_eq!(passed.seen(seqno), count, "at {seqno}");
        }
        // The last one there can be.
        let mut passed = BlocksPassed::default();
        assert_eq!((passed.seen(0), passed.seen(u32::MAX)), (0, u32::MAX));
    }
}
