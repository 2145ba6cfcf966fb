//! The machine.

use std::collections::VecDeque;
use std::fmt;

use cocoon_contract::wallet::{Layout, Outgoing};
use cocoon_units::{Address, Nanoton};

use crate::batch::{Arrival, Batch};
use crate::kept::{self, Kept};
use crate::order::{Label, Order, Outcome, Report};
use crate::seen::{Delivery, Lookout, Passed, Sighting, WalletStanding};
use crate::wallet::{Inside, Signed, Wallet};
use crate::{OrderFault, PurseFault};

/// Kept back for the fees of an external message, and of each message in it. A real one with four
/// messages costs 0.042 (`contracts/GAS.md`).
const FEE_BASE: Nanoton = Nanoton(50_000_000);
const FEE_PER_MESSAGE: Nanoton = Nanoton(10_000_000);

/// How a purse behaves.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How long a signature is good, seconds of the chain's time.
    pub valid_for_s: u32,
    /// So long after its end a signature is void: no block that is not yet known can hold it.
    pub void_after_s: u32,
    /// How often the external message is sent again while nothing happens, milliseconds.
    pub resend_every_ms: u64,
    /// Orders that may wait.
    pub queue_max: usize,
    /// Messages that may be underway to their receivers.
    pub arrivals_max: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            valid_for_s: 120,
            void_after_s: 60,
            resend_every_ms: 5_000,
            queue_max: 10_000,
            arrivals_max: 64,
        }
    }
}

/// What to do. Perform acts in order; a [`Act::Keep`] that fails is repeated before anything
/// after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// Make these bytes durable, in place of those kept before.
    Keep(Vec<u8>),
    /// Send an external message, a bag of cells. A failure needs no answer: it is sent again.
    Send(Vec<u8>),
    /// Tell whoever ordered.
    Report(Report),
    /// Tell the log.
    Note(Note),
}

/// An order waits because the wallet cannot pay it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lacking {
    /// The wallet.
    pub wallet: Address,
    /// What is on it.
    pub has: Nanoton,
    /// What must be on it.
    pub needs: Nanoton,
    /// The order that waits.
    pub label: Label,
}

impl fmt::Display for Lacking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (has, needs, wallet) = (self.has, self.needs, self.wallet.to_raw());
        write!(f, "the wallet has {has} TON, needs {needs} TON: fund {wallet}")
    }
}

/// Something the log should say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Note {
    /// An order waits for coins.
    Lacking(Lacking),
    /// Enough coins are there again.
    Funded,
    /// The wallet is being deployed.
    Deploying,
    /// A batch is signed anew because its signature ran out unheard.
    SignedAnew {
        /// The wallet's sequence number.
        seqno: u32,
    },
    /// The contract took the order and failed to carry it out; it is not repeated.
    Failed {
        /// The wallet's sequence number.
        seqno: u32,
        /// The contract's exit code.
        exit_code: Option<i32>,
    },
    /// Somebody else spends from this wallet: another program has its key. Orders are repeated at
    /// the next number.
    Stranger {
        /// The number that was taken.
        seqno: u32,
    },
    /// The wallet's owner has blocked it: nothing can be sent until it is unblocked.
    Blocked,
    /// The account was frozen for unpaid storage; it must be restored by hand.
    Frozen,
    /// The account at the wallet's address holds something else; nothing can be sent.
    NotOurs,
}

/// The purse, to look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The wallet.
    pub wallet: Address,
    /// Its coins; `None` before the first sight.
    pub balance: Option<Nanoton>,
    /// Whether it is deployed; `None` before the first sight.
    pub standing: Option<WalletStanding>,
    /// Orders that wait.
    pub waiting: usize,
    /// Orders that are signed and sent.
    pub on_the_way: usize,
    /// Messages that left the wallet and have not arrived.
    pub underway: usize,
    /// What the first unpayable order lacks.
    pub lacking: Option<Lacking>,
    /// Why nothing can be sent, when it is not for lack of coins.
    pub trouble: Option<Note>,
}

/// See the crate.
pub struct Purse {
    wallet: Wallet,
    settings: Settings,
    queue: VecDeque<Order>,
    kept: Kept,
    seen: Option<Sighting>,
    /// When to send the batch again; 0 is at once.
    resend_ms: u64,
    lacking: Option<Lacking>,
    trouble: Option<Note>,
    /// Whether `kept` differs from what was last given to keep.
    is_changed: bool,
}

impl Purse {
    /// Opens a purse with what an earlier process kept, if anything.
    ///
    /// # Errors
    /// [`PurseFault`]: the node must not spend from this wallet.
    pub fn open(
        wallet: Wallet,
        settings: Settings,
        kept: Option<&[u8]>,
    ) -> Result<Self, PurseFault> {
        let kept = match kept {
            Some(bytes) => kept::decode(wallet.address(), bytes)?,
            None => Kept::default(),
        };
        Ok(Self {
            wallet,
            settings,
            queue: VecDeque::new(),
            kept,
            seen: None,
            resend_ms: 0,
            lacking: None,
            trouble: None,
            is_changed: false,
        })
    }

    /// The wallet's address.
    #[must_use]
    pub fn address(&self) -> Address {
        self.wallet.address()
    }

    /// From which logical time on (exclusive) the purse must see the wallet's transactions;
    /// `None` is from now on.
    #[must_use]
    pub fn history_from_lt(&self) -> Option<u64> {
        self.kept.batch.as_ref().map(|batch| batch.since_lt)
    }

    /// Labels of orders that wait or are on their way, those of an earlier process too.
    pub fn labels(&self) -> impl Iterator<Item = Label> + '_ {
        let batch = self.kept.batch.iter().flat_map(|batch| &batch.orders);
        let orders = self.queue.iter().chain(batch).map(|order| order.label);
        orders.chain(self.kept.arrivals.iter().map(|arrival| arrival.label))
    }

    /// Takes an order; false when one with its label is waiting or on its way already.
    ///
    /// # Errors
    /// [`OrderFault`]: nothing was taken.
    pub fn order(&mut self, order: Order) -> Result<bool, OrderFault> {
        if self.labels().any(|label| label == order.label) {
            return Ok(false);
        }
        if self.queue.len() >= self.settings.queue_max {
            return Err(OrderFault::Full { waiting: self.queue.len() });
        }
        order.message.cell(Layout::References)?;
        self.queue.push_back(order);
        Ok(true)
    }

    /// Takes back an order that is not signed yet; false when there is none such.
    pub fn cancel(&mut self, label: Label) -> bool {
        let before = self.queue.len();
        self.queue.retain(|order| order.label != label);
        self.queue.len() < before
    }

    /// The wallet's account, and all its transactions since the last call (or since
    /// [`Purse::history_from_lt`]), oldest first. `now_ms` is any steady clock.
    pub fn observed(
        &mut self,
        sighting: Sighting,
        passed: &[Passed],
        now_ms: u64,
        acts: &mut Vec<Act>,
    ) {
        let is_newer = self
            .seen
            .as_ref()
            .is_none_or(|seen| sighting.last_lt >= seen.last_lt && sighting.time_s >= seen.time_s);
        if is_newer {
            self.seen = Some(sighting);
        }
        let inside = self.look_inside(acts);
        self.follow_batch(inside.as_ref(), passed, acts);
        if let Some(inside) = inside {
            self.advance(&inside, now_ms, acts);
        }
        self.keep(acts);
    }

    /// The wallet's history does not reach back to the batch: what became of it is not known.
    pub fn history_lost(&mut self, acts: &mut Vec<Act>) {
        let Some(batch) = self.kept.batch.take() else { return };
        self.is_changed = true;
        for order in batch.orders {
            let reason = "the wallet's history no longer reaches back so far".to_owned();
            report(order.label, Outcome::Unknown { reason }, acts);
        }
        self.keep(acts);
    }

    /// Lets time pass: sends again what was not heard of. Also signs new orders.
    pub fn tick(&mut self, now_ms: u64, acts: &mut Vec<Act>) {
        if let Some(inside) = self.look_inside(acts) {
            self.advance(&inside, now_ms, acts);
        }
        self.keep(acts);
    }

    /// Receivers whose transactions shall be looked through now.
    #[must_use]
    pub fn lookouts(&self) -> Vec<Lookout> {
        let lookout = |arrival: &Arrival| Lookout {
            label: arrival.label,
            account: arrival.to,
            after_lt: arrival.after_lt,
            message: arrival.message,
        };
        self.kept.arrivals.iter().map(lookout).collect()
    }

    /// What a lookout found.
    pub fn looked(&mut self, label: Label, delivery: Delivery, acts: &mut Vec<Act>) {
        let Some(index) = self.kept.arrivals.iter().position(|a| a.label == label) else { return };
        let outcome = match delivery {
            Delivery::NotUpTo { lt } => {
                if let Some(arrival) = self.kept.arrivals.get_mut(index) {
                    arrival.after_lt = arrival.after_lt.max(lt);
                }
                return;
            }
            Delivery::Found { lt, exit_code, is_aborted } => {
                Outcome::Arrived { lt, exit_code, is_aborted }
            }
            Delivery::Forgotten => Outcome::Unknown {
                reason: "the receiver's history no longer reaches back so far".to_owned(),
            },
        };
        self.kept.arrivals.remove(index);
        self.is_changed = true;
        report(label, outcome, acts);
        self.keep(acts);
    }

    /// Whether nothing waits and nothing is on its way.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.kept == Kept::default()
    }

    /// The purse, to look at.
    #[must_use]
    pub fn status(&self) -> Status {
        Status {
            wallet: self.wallet.address(),
            balance: self.seen.as_ref().map(|seen| seen.balance),
            standing: self.seen.as_ref().map(|seen| seen.standing),
            waiting: self.queue.len(),
            on_the_way: self.kept.batch.as_ref().map_or(0, |batch| batch.orders.len()),
            underway: self.kept.arrivals.len(),
            lacking: self.lacking,
            trouble: self.trouble,
        }
    }

    /// Reads the wallet's data; `None` when nothing can be sent, with a note once.
    fn look_inside(&mut self, acts: &mut Vec<Act>) -> Option<Inside> {
        let seen = self.seen.as_ref()?;
        let inside = match (seen.standing, &seen.data) {
            (WalletStanding::Uninit, _) => Ok(Inside { seqno: 0, is_blocked: false }),
            (WalletStanding::Frozen, _) => Err(Note::Frozen),
            (WalletStanding::Active, data) => {
                data.as_ref().and_then(|data| self.wallet.read(data)).ok_or(Note::NotOurs)
            }
        };
        let trouble = match &inside {
            Ok(inside) if inside.is_blocked => Some(Note::Blocked),
            Ok(_) => None,
            Err(note) => Some(*note),
        };
        if let Some(note) = trouble.filter(|_| trouble != self.trouble) {
            acts.push(Act::Note(note));
        }
        self.trouble = trouble;
        inside.ok()
    }

    /// Looks for the batch among what passed.
    fn follow_batch(&mut self, inside: Option<&Inside>, passed: &[Passed], acts: &mut Vec<Act>) {
        let Some(batch) = &mut self.kept.batch else { return };
        let seqno = batch.seqno;
        let has_moved = inside.is_some_and(|inside| inside.seqno > seqno);
        let ours = passed.iter().filter(|passed| batch.is_body(passed));
        let failed: Vec<&Passed> = ours.clone().filter(|passed| passed.is_aborted).collect();
        let taken = ours.clone().find(|passed| !passed.is_aborted);
        let ended = taken.or_else(|| failed.last().copied().filter(|_| has_moved));
        if let Some(ended) = ended {
            self.conclude(ended, acts);
            return;
        }
        if let Some(last) = failed.last() {
            batch.failures = batch.failures.saturating_add(1);
            self.is_changed = true;
            acts.push(Act::Note(Note::Failed { seqno, exit_code: last.exit_code }));
        }
        if has_moved {
            acts.push(Act::Note(Note::Stranger { seqno }));
            self.requeue();
        }
    }

    /// The wallet's transaction is there: every order's message left, or never will.
    fn conclude(&mut self, passed: &Passed, acts: &mut Vec<Act>) {
        let Some(batch) = self.kept.batch.take() else { return };
        self.is_changed = true;
        for (order, sent) in batch.outcomes(passed) {
            let Some(sent) = sent else {
                let reason = match passed.is_aborted {
                    true => format!("the wallet's contract failed: {:?}", passed.exit_code),
                    false => "the wallet skipped it: it could not pay the message".to_owned(),
                };
                report(order.label, Outcome::NotSent { reason }, acts);
                continue;
            };
            let (lt, message) = (passed.lt, sent.message);
            self.kept.arrivals.push(Arrival {
                label: order.label,
                to: order.message.to,
                message,
                after_lt: lt,
            });
            report(order.label, Outcome::Sent { lt, message }, acts);
        }
    }

    /// Puts the batch's orders back to the head of the line.
    fn requeue(&mut self) {
        let Some(batch) = self.kept.batch.take() else { return };
        self.is_changed = true;
        for order in batch.orders.into_iter().rev() {
            self.queue.push_front(order);
        }
    }

    /// Signs what can be signed and sends what must be sent.
    fn advance(&mut self, inside: &Inside, now_ms: u64, acts: &mut Vec<Act>) {
        if inside.is_blocked {
            return;
        }
        self.renew(inside, now_ms, acts);
        if self.kept.batch.is_none() {
            self.sign_next(inside, now_ms, acts);
        }
        let resend_every_ms = self.settings.resend_every_ms;
        let (Some(batch), Some(seen)) = (&self.kept.batch, &self.seen) else { return };
        let is_good = seen.time_s < u64::from(batch.valid_until_s);
        let can_pay = seen.balance >= self.wallet.floor();
        if now_ms >= self.resend_ms && is_good && can_pay && batch.failures == 0 {
            let boc = batch.boc.clone();
            self.resend_ms = now_ms.saturating_add(resend_every_ms);
            self.keep(acts);
            acts.push(Act::Send(boc));
        }
    }

    /// Signs the batch anew when its signature is void; gives up one that failed.
    fn renew(&mut self, inside: &Inside, now_ms: u64, acts: &mut Vec<Act>) {
        let (Some(batch), Some(seen)) = (&mut self.kept.batch, &self.seen) else { return };
        let void_s = u64::from(batch.valid_until_s) + u64::from(self.settings.void_after_s);
        if seen.time_s < void_s || inside.seqno != batch.seqno {
            return;
        }
        self.is_changed = true;
        if batch.failures > 0 {
            let Some(batch) = self.kept.batch.take() else { return };
            for order in batch.orders {
                let reason = "the wallet's contract failed to send it".to_owned();
                report(order.label, Outcome::NotSent { reason }, acts);
            }
            return;
        }
        let valid_until_s = until(seen.time_s, self.settings.valid_for_s);
        let messages = batch.orders.iter().map(|order| &order.message);
        // What was built once can be built again.
        let Ok(signed) = self.wallet.sign(batch.seqno, valid_until_s, messages) else { return };
        let Signed { boc, body } = signed;
        batch.remember_body(body);
        (batch.boc, batch.valid_until_s) = (boc, valid_until_s);
        self.resend_ms = now_ms;
        acts.push(Act::Note(Note::SignedAnew { seqno: batch.seqno }));
    }

    /// Makes a batch of what waits and can be paid.
    fn sign_next(&mut self, inside: &Inside, now_ms: u64, acts: &mut Vec<Act>) {
        let Some(seen) = self.seen.as_ref().map(|seen| (seen.standing, seen.last_lt, seen.time_s))
        else {
            return;
        };
        let (standing, since_lt, time_s) = seen;
        let is_new = standing == WalletStanding::Uninit;
        if self.kept.arrivals.len() >= self.settings.arrivals_max
            || (is_new && !self.wallet.can_deploy())
        {
            return;
        }
        let orders = self.take_payable(acts);
        if orders.is_empty() && !(is_new && self.can_deploy_alone()) {
            return;
        }
        let valid_until_s = until(time_s, self.settings.valid_for_s);
        let messages = orders.iter().map(|order| &order.message);
        let signed = match self.wallet.sign(inside.seqno, valid_until_s, messages) {
            Ok(signed) => signed,
            Err(fault) => {
                for order in orders {
                    let reason = format!("it cannot be built: {fault}");
                    report(order.label, Outcome::NotSent { reason }, acts);
                }
                return;
            }
        };
        if is_new {
            acts.push(Act::Note(Note::Deploying));
        }
        self.kept.batch = Some(Batch {
            seqno: inside.seqno,
            since_lt,
            valid_until_s,
            bodies: vec![signed.body],
            orders,
            boc: signed.boc,
            failures: 0,
        });
        self.is_changed = true;
        self.resend_ms = now_ms;
    }

    fn can_deploy_alone(&self) -> bool {
        let balance = self.seen.as_ref().map_or(Nanoton::ZERO, |seen| seen.balance);
        self.queue.is_empty() && self.wallet.deploys_alone() && balance >= self.wallet.floor()
    }

    /// Takes from the line what the balance pays for, oldest first. An order that is too large
    /// does not hold up smaller ones behind it.
    fn take_payable(&mut self, acts: &mut Vec<Act>) -> Vec<Order> {
        let balance = self.seen.as_ref().map_or(Nanoton::ZERO, |seen| seen.balance);
        let (floor, limit) = (self.wallet.floor(), self.wallet.messages_max());
        let (mut taken, mut spent, mut lacking) = (Vec::new(), FEE_BASE, None);
        let mut passed_over = VecDeque::new();
        while let Some(order) = self.queue.pop_front() {
            let cost = cost(&order.message);
            let needs = cost.saturating_add(FEE_BASE).max(floor);
            let after = spent.saturating_add(cost);
            if needs <= balance && after <= balance && taken.len() < limit {
                spent = after;
                taken.push(order);
                continue;
            }
            if needs > balance && lacking.is_none() {
                let (wallet, label) = (self.wallet.address(), order.label);
                lacking = Some(Lacking { wallet, has: balance, needs, label });
            }
            passed_over.push_back(order);
            if taken.len() >= limit {
                break;
            }
        }
        passed_over.append(&mut self.queue);
        self.queue = passed_over;
        let label = |lacking: &Lacking| (lacking.label, lacking.needs);
        if lacking.as_ref().map(label) != self.lacking.as_ref().map(label) {
            acts.push(Act::Note(lacking.map_or(Note::Funded, Note::Lacking)));
        }
        self.lacking = lacking;
        taken
    }

    fn keep(&mut self, acts: &mut Vec<Act>) {
        if std::mem::take(&mut self.is_changed) {
            acts.push(Act::Keep(kept::encode(self.wallet.address(), &self.kept)));
        }
    }
}

/// What a message takes from the balance, fees included.
fn cost(message: &Outgoing) -> Nanoton {
    message.value.saturating_add(FEE_PER_MESSAGE)
}

fn until(time_s: u64, valid_for_s: u32) -> u32 {
    u32::try_from(time_s.saturating_add(u64::from(valid_for_s))).unwrap_or(u32::MAX)
}

fn report(label: Label, outcome: Outcome, acts: &mut Vec<Act>) {
    acts.push(Act::Report(Report { label, outcome }));
}
