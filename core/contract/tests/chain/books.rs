//! What the contracts should hold, by the rules in words: an independent account of the money.

use cocoon_contract::op::exit;
use cocoon_contract::params::Params;
use cocoon_contract::payment::{CloseKind, PaymentKind};
use cocoon_contract::state::Phase;

#[derive(Clone, Debug)]
pub(crate) struct Client {
    pub(crate) phase: Phase,
    pub(crate) balance: u64,
    pub(crate) stake: u64,
    pub(crate) tokens: u64,
    pub(crate) unlock_s: u64,
    /// Coins the owner got back.
    pub(crate) received: u64,
}

#[derive(Clone, Debug)]
pub(crate) struct Worker {
    pub(crate) phase: Phase,
    pub(crate) tokens: u64,
    /// Coins the owner got.
    pub(crate) received: u64,
}

/// One step somebody takes.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    TopUp { client: usize, amount: u64 },
    Withdraw { client: usize },
    RequestRefund { client: usize },
    IncreaseStake { client: usize, stake: u64 },
    ChangeSecret { client: usize },
    Submit { kind: PaymentKind, who: usize, more: u64 },
    Stake { amount: u64 },
    Earnings { by_text: bool },
    Close { kind: CloseKind },
    OwnerClose,
    Wait { seconds: u32 },
}

#[derive(Clone, Debug)]
pub(crate) struct Books {
    price: u64,
    fee: u64,
    proxy_delay_s: u64,
    client_delay_s: u64,
    min_proxy_stake: u64,
    pub(crate) now_s: u64,
    pub(crate) phase: Phase,
    pub(crate) unlock_s: u64,
    pub(crate) balance: u64,
    pub(crate) stake: u64,
    /// What clients deposited and nobody was paid yet.
    pub(crate) pool: u64,
    /// What storage took of the account's minimum; it is refilled before the owner is paid.
    pub(crate) short: u64,
    pub(crate) clients: Vec<Client>,
    pub(crate) workers: Vec<Worker>,
    /// Coins the proxy's owner got.
    pub(crate) owner_received: u64,
}

impl Books {
    pub(crate) fn new(params: &Params, now_s: u32, clients: usize, workers: usize) -> Self {
        let client = Client {
            phase: Phase::Normal,
            balance: 0,
            stake: params.min_client_stake.0,
            tokens: 0,
            unlock_s: 0,
            received: 0,
        };
        Self {
            price: params.price_per_token.0,
            fee: params.worker_fee_per_token.0,
            proxy_delay_s: u64::from(params.proxy_delay_s),
            client_delay_s: u64::from(params.client_delay_s),
            min_proxy_stake: params.min_proxy_stake.0,
            now_s: u64::from(now_s),
            phase: Phase::Normal,
            unlock_s: 0,
            balance: 0,
            stake: 0,
            pool: 0,
            short: 0,
            clients: vec![client; clients],
            workers: vec![Worker { phase: Phase::Normal, tokens: 0, received: 0 }; workers],
            owner_received: 0,
        }
    }

    /// Takes the step; the exit code that the contract should end with.
    pub(crate) fn take(&mut self, step: &Step) -> i32 {
        match *step {
            Step::TopUp { client, amount } => self.top_up(client, amount),
            Step::Withdraw { client } => self.withdraw(client),
            Step::RequestRefund { client } => self.request_refund(client),
            Step::IncreaseStake { client, stake } => self.increase_stake(client, stake),
            Step::ChangeSecret { client } => {
                if self.clients[client].phase == Phase::Closed {
                    exit::WRONG_STATE
                } else {
                    0
                }
            }
            Step::Submit { kind, who, more } => match kind {
                PaymentKind::ClientCharge => self.charge(who, more),
                PaymentKind::ClientGrantRefund => self.grant(who, more),
                PaymentKind::WorkerPayout => self.payout(who, more, false),
                PaymentKind::WorkerLastPayout => self.payout(who, more, true),
            },
            Step::Stake { amount } => self.add_stake(amount),
            Step::Earnings { by_text } => self.earnings(by_text),
            Step::Close { kind: CloseKind::Request } => self.start_close(Phase::Normal),
            Step::Close { kind: CloseKind::Complete } => self.complete_close(),
            Step::OwnerClose => self.owner_close(),
            Step::Wait { seconds } => {
                self.now_s += u64::from(seconds);
                0
            }
        }
    }

    fn top_up(&mut self, n: usize, amount: u64) -> i32 {
        let client = &mut self.clients[n];
        if client.phase != Phase::Normal {
            return exit::WRONG_STATE;
        }
        client.balance += amount;
        self.pool += amount;
        0
    }

    fn withdraw(&mut self, n: usize) -> i32 {
        let client = &self.clients[n];
        if client.phase != Phase::Normal {
            return exit::WRONG_STATE;
        }
        if client.balance <= client.stake {
            return exit::CONTRACT_BALANCE;
        }
        let amount = client.balance - client.stake;
        self.refund(n, amount);
        0
    }

    fn request_refund(&mut self, n: usize) -> i32 {
        let (now_s, delay_s) = (self.now_s, self.client_delay_s);
        let client = &mut self.clients[n];
        if client.phase == Phase::Closed && client.balance == 0 {
            return exit::WRONG_STATE;
        }
        if client.phase == Phase::Normal {
            client.phase = Phase::Closing;
            client.unlock_s = now_s + delay_s;
            let above = client.balance.saturating_sub(client.stake);
            self.refund(n, above);
            return 0;
        }
        if now_s <= client.unlock_s {
            return exit::LOCKED;
        }
        client.phase = Phase::Closed;
        let all = client.balance;
        self.refund(n, all);
        0
    }

    fn increase_stake(&mut self, n: usize, stake: u64) -> i32 {
        let client = &mut self.clients[n];
        if client.phase == Phase::Closed {
            return exit::WRONG_STATE;
        }
        if stake <= client.stake {
            return exit::LOW_VALUE;
        }
        client.stake = stake;
        0
    }

    /// Takes `amount` off the client's balance and pays what is there; the rest goes back.
    fn refund(&mut self, n: usize, amount: u64) {
        let from_pool = amount.min(self.pool);
        let from_stake = (amount - from_pool).min(self.stake);
        self.pool -= from_pool;
        self.stake -= from_stake;
        self.clients[n].balance -= from_pool + from_stake;
        self.clients[n].received += from_pool + from_stake;
    }

    /// Takes what the tokens cost, as far as the balance goes.
    fn deduct(&mut self, n: usize, more: u64) -> u64 {
        let client = &mut self.clients[n];
        let paid = more.min(client.balance.checked_div(self.price).unwrap_or(more));
        client.tokens += paid;
        client.balance -= paid * self.price;
        paid
    }

    fn charge(&mut self, n: usize, more: u64) -> i32 {
        if self.clients[n].phase == Phase::Closed {
            return exit::WRONG_STATE;
        }
        if more == 0 {
            return exit::OLD_MESSAGE;
        }
        if self.deduct(n, more) == 0 { exit::CONTRACT_BALANCE } else { 0 }
    }

    fn grant(&mut self, n: usize, more: u64) -> i32 {
        if self.clients[n].phase == Phase::Closed && self.clients[n].balance == 0 {
            return exit::WRONG_STATE;
        }
        self.deduct(n, more);
        self.clients[n].phase = Phase::Closed;
        self.clients[n].unlock_s = 0;
        let all = self.clients[n].balance;
        self.refund(n, all);
        0
    }

    fn payout(&mut self, n: usize, more: u64, is_last: bool) -> i32 {
        let worker = &mut self.workers[n];
        if worker.phase == Phase::Closed {
            return exit::WRONG_STATE;
        }
        if more == 0 && !is_last {
            return exit::OLD_MESSAGE;
        }
        let mut paid = more;
        if is_last {
            worker.phase = Phase::Closed;
        }
        if self.phase == Phase::Closed {
            // Refused by the proxy contract: counts as not made.
            paid = 0;
        } else if u128::from(more) * u128::from(self.fee) > u128::from(self.pool) {
            paid = self.pool / self.fee;
        }
        if paid < more {
            worker.phase = Phase::Normal;
        }
        worker.tokens += paid;
        worker.received += paid * self.fee;
        self.pool -= paid * self.fee;
        let earned = (paid * (self.price - self.fee)).min(self.pool);
        self.pool -= earned;
        self.balance += earned;
        0
    }

    fn add_stake(&mut self, amount: u64) -> i32 {
        if self.phase == Phase::Closed {
            return exit::WRONG_STATE;
        }
        self.stake += amount;
        0
    }

    fn earnings(&mut self, by_text: bool) -> i32 {
        if self.phase == Phase::Closed && !by_text {
            return exit::WRONG_STATE;
        }
        let fill = self.balance.min(self.min_proxy_stake.saturating_sub(self.stake));
        self.stake += fill;
        let amount = self.pay_owner(self.balance - fill);
        // A payout by text carries the value of the message too, so it is not counted here.
        if !by_text {
            self.owner_received += amount;
        }
        self.balance = 0;
        0
    }

    /// What of `amount` is on the account above its minimum.
    fn pay_owner(&mut self, amount: u64) -> u64 {
        let there = self.balance + self.stake + self.pool - self.short;
        let paid = amount.min(there);
        self.short -= amount - paid;
        paid
    }

    fn start_close(&mut self, from: Phase) -> i32 {
        if self.phase != from {
            return exit::WRONG_STATE;
        }
        self.phase = Phase::Closing;
        self.unlock_s = self.now_s + self.proxy_delay_s.max(2 * self.client_delay_s);
        0
    }

    fn complete_close(&mut self) -> i32 {
        if self.phase != Phase::Closing {
            return exit::WRONG_STATE;
        }
        if self.now_s < self.unlock_s {
            return exit::LOCKED;
        }
        self.phase = Phase::Closed;
        self.owner_received += self.pay_owner(self.balance + self.stake);
        (self.balance, self.stake, self.unlock_s) = (0, 0, 0);
        0
    }

    fn owner_close(&mut self) -> i32 {
        match self.phase {
            Phase::Normal => self.start_close(Phase::Normal),
            Phase::Closing if self.now_s < self.unlock_s => exit::WRONG_STATE,
            Phase::Closing => self.complete_close(),
            Phase::Closed => exit::WRONG_STATE,
        }
    }
}
