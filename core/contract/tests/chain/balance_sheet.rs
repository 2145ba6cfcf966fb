//! For random sequences of steps, honest or not, what the contracts hold is what the books say:
//! after every step, to the nanoton.

use cocoon_contract::message::{ClientAction, ProxyAction, TextCommand};
use cocoon_contract::params::Params;
use cocoon_contract::payment::{CloseKind, PaymentKind};
use cocoon_units::Nanoton;
use proptest::prelude::*;

use crate::books::{Books, Step};
use crate::cast;
use crate::stage::{DAY_S, SECRET, Stage, client_owner, exit, worker_owner};
use crate::world::{Exit, Tx};

const CLIENTS: usize = 3;
const WORKERS: usize = 2;
const TON: u64 = 1_000_000_000;
/// What the proxy contract always keeps.
const MIN_BALANCE: u64 = 10_000_000;

fn params() -> Params {
    Params {
        min_proxy_stake: Nanoton(5 * TON),
        min_client_stake: Nanoton(2 * TON),
        ..cast::params()
    }
}

fn steps() -> impl Strategy<Value = Step> {
    let client = 0..CLIENTS;
    let amount = prop_oneof![1..20 * TON, Just(1), Just(19), Just(20), Just(21)];
    let more = prop_oneof![0..TON, Just(0), Just(1), 0..100 * TON];
    let kind = prop::sample::select(vec![
        PaymentKind::ClientCharge,
        PaymentKind::ClientCharge,
        PaymentKind::WorkerPayout,
        PaymentKind::WorkerPayout,
        PaymentKind::ClientGrantRefund,
        PaymentKind::WorkerLastPayout,
    ]);
    prop_oneof![
        6 => (client.clone(), amount.clone())
            .prop_map(|(client, amount)| Step::TopUp { client, amount }),
        2 => client.clone().prop_map(|client| Step::Withdraw { client }),
        3 => client.clone().prop_map(|client| Step::RequestRefund { client }),
        1 => (client.clone(), 1..10 * TON)
            .prop_map(|(client, stake)| Step::IncreaseStake { client, stake }),
        1 => client.prop_map(|client| Step::ChangeSecret { client }),
        8 => (kind, 0..WORKERS, more).prop_map(|(kind, who, more)| Step::Submit { kind, who, more }),
        2 => amount.prop_map(|amount| Step::Stake { amount }),
        2 => any::<bool>().prop_map(|by_text| Step::Earnings { by_text }),
        1 => Just(Step::Close { kind: CloseKind::Request }),
        1 => Just(Step::Close { kind: CloseKind::Complete }),
        1 => Just(Step::OwnerClose),
        2 => prop_oneof![Just(1), Just(DAY_S + 1), Just(2 * DAY_S), 1..DAY_S]
            .prop_map(|seconds| Step::Wait { seconds }),
    ]
}

/// Takes the step on the machine.
fn take(stage: &mut Stage, books: &Books, step: &Step) -> Vec<Tx> {
    match *step {
        Step::TopUp { client, amount } => stage.top_up(client, Nanoton(amount)),
        Step::Withdraw { client } => stage.client(client, ClientAction::Withdraw),
        Step::RequestRefund { client } => stage.client(client, ClientAction::RequestRefund),
        Step::IncreaseStake { client, stake } => {
            let new_stake = Nanoton(stake);
            stage.client(client, ClientAction::IncreaseStake { new_stake })
        }
        Step::ChangeSecret { client } => {
            stage.client(client, ClientAction::ChangeSecretHash { secret_hash: SECRET })
        }
        Step::Submit { kind, who, more } => {
            let known = match kind {
                PaymentKind::ClientCharge | PaymentKind::ClientGrantRefund => {
                    books.clients[who].tokens
                }
                _ => books.workers[who].tokens,
            };
            stage.submit(kind, who, known + more)
        }
        Step::Stake { amount } => {
            let owner = stage.proxy_owner;
            stage.proxy_from(owner, ProxyAction::IncreaseStake { amount: Nanoton(amount) })
        }
        Step::Earnings { by_text: true } => {
            let owner = stage.proxy_owner;
            stage.text(owner, TextCommand::Withdraw)
        }
        Step::Earnings { by_text: false } => {
            let owner = stage.proxy_owner;
            stage.proxy_from(owner, ProxyAction::Payout)
        }
        Step::Close { kind } => stage.close(kind),
        Step::OwnerClose => {
            let owner = stage.proxy_owner;
            stage.proxy_from(owner, ProxyAction::Close)
        }
        Step::Wait { seconds } => {
            stage.world.now_s += seconds;
            Vec::new()
        }
    }
}

/// What the proxy contract's account holds besides what the books know: its gas money.
struct GasMoney(u64);

impl GasMoney {
    /// Storage takes from it; notices of one nanoton and refused shortfalls add to it.
    fn follow(&mut self, stage: &Stage, txs: &[Tx], books: &mut Books) {
        for tx in txs.iter().filter(|tx| tx.to == stage.proxy) {
            self.0 -= tx.storage.0;
            if tx.exit == Exit::NoGas {
                self.0 += tx.value.0;
            }
            // An account that storage has brought below its minimum is refilled by a message.
            if tx.exit == Exit::Code(0) {
                // The minimum comes before the pool.
                let moved = MIN_BALANCE.saturating_sub(self.0).min(books.pool);
                books.pool -= moved;
                self.0 += moved;
                let account = self.0 + books.balance + books.stake + books.pool;
                self.0 += MIN_BALANCE.saturating_sub(account);
            }
        }
    }
}

fn check(stage: &Stage, books: &Books, gas: &GasMoney) {
    let proxy = stage.proxy_state();
    assert_eq!(proxy.phase, books.phase);
    assert_eq!(proxy.balance.0, books.balance);
    assert_eq!(proxy.stake.0, books.stake);
    assert_eq!(u64::from(proxy.unlock_s), books.unlock_s);
    let account = stage.world.balance(stage.proxy).0;
    assert_eq!(account, gas.0 + books.balance + books.stake + books.pool, "coins = books");
    for (n, client) in books.clients.iter().enumerate() {
        let state = stage.client_state(n);
        assert_eq!(state.phase, client.phase);
        assert_eq!(state.balance.0, client.balance);
        assert_eq!(state.stake.0, client.stake);
        assert_eq!(state.tokens_used.0, client.tokens);
        assert_eq!(u64::from(state.unlock_s), client.unlock_s);
    }
    for (n, worker) in books.workers.iter().enumerate() {
        let state = stage.worker_state(n);
        assert_eq!(state.phase, worker.phase);
        assert_eq!(state.tokens.0, worker.tokens);
    }
}

/// Nobody but owners gets coins from the proxy contract, and never more than the books allow.
fn check_receipts(stage: &Stage, txs: &[Tx], before: &Books, after: &Books) {
    for n in 0..CLIENTS {
        let received = after.clients[n].received - before.clients[n].received;
        assert_eq!(stage.paid(txs, client_owner(n)), received);
    }
    for n in 0..WORKERS {
        let received = after.workers[n].received - before.workers[n].received;
        assert_eq!(stage.paid(txs, worker_owner(n)), received);
    }
    let is_text = txs.first().is_some_and(|tx| tx.body.bit_len() == 40);
    if !is_text {
        let received = after.owner_received - before.owner_received;
        assert_eq!(stage.paid(txs, stage.proxy_owner), received);
    }
    assert!(txs.iter().all(|tx| tx.action_code.is_none_or(|code| code == 0)), "actions go through");
}

fn play(steps: &[Step], record: Option<&str>) {
    let params = params();
    let mut stage = Stage::new(params.clone(), CLIENTS, WORKERS);
    match record {
        Some(name) => stage.world.record.rename(name),
        None => stage.world.record.discard(),
    }
    let mut books = Books::new(&params, stage.world.now_s, CLIENTS, WORKERS);
    let mut gas = GasMoney(stage.world.balance(stage.proxy).0);
    // The contract counts gas money above its minimum as part of the pool, so that it serves
    // clients last; the books treat it the same way.
    let spare = |gas: &GasMoney| gas.0.saturating_sub(MIN_BALANCE);
    for step in steps {
        let before = books.clone();
        let txs = take(&mut stage, &books, step);
        gas.follow(&stage, &txs, &mut books);
        books.pool += spare(&gas);
        books.short = MIN_BALANCE.saturating_sub(gas.0);
        let expected = books.take(step);
        // What refunds or payouts took of the gas money is gone from it.
        let left = books.pool.min(spare(&gas));
        gas.0 = MIN_BALANCE - books.short + left;
        books.pool -= left;
        if txs.iter().any(|tx| tx.to == stage.proxy && tx.exit == Exit::Code(0)) {
            let account = gas.0 + books.balance + books.stake + books.pool;
            gas.0 += MIN_BALANCE.saturating_sub(account);
        }
        if !matches!(step, Step::Wait { .. }) {
            assert_eq!(exit(&txs), expected, "{step:?}");
        }
        check(&stage, &books, &gas);
        check_receipts(&stage, &txs, &before, &books);
    }
}

/// One long sequence, always the same, that the referee repeats.
#[test]
fn a_long_sequence_for_the_referee() {
    use proptest::strategy::ValueTree as _;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let sequence = proptest::collection::vec(steps(), 120..=120);
    let sequence = sequence.new_tree(&mut runner).expect("sequence").current();
    play(&sequence, Some("random-sequence"));
}

/// Fewer cases than usual unless asked for: each runs some hundred transactions.
fn config() -> ProptestConfig {
    let asked = std::env::var_os("PROPTEST_CASES").is_some();
    let usual = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    ProptestConfig { cases: if asked { usual.cases } else { 48 }, ..usual }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn coins_in_contracts_are_what_the_books_say(
        steps in proptest::collection::vec(steps(), 1..60),
    ) {
        play(&steps, None);
    }

    /// When payouts follow charges, every client can always be paid in full from the deposits.
    #[test]
    fn honest_books_always_cover_every_client(
        amounts in proptest::collection::vec(20..10 * TON, CLIENTS),
        shares in proptest::collection::vec((0..CLIENTS, 0..TON, 0..WORKERS), 0..12),
    ) {
        let params = params();
        let mut steps: Vec<Step> = amounts
            .iter()
            .enumerate()
            .map(|(client, amount)| Step::TopUp { client, amount: *amount })
            .collect();
        let mut books = Books::new(&params, 0, CLIENTS, WORKERS);
        steps.iter().for_each(|step| { books.take(step); });
        for (client, more, worker) in shares {
            let charge = Step::Submit { kind: PaymentKind::ClientCharge, who: client, more };
            let before = books.clients[client].tokens;
            books.take(&charge);
            let more = books.clients[client].tokens - before;
            steps.push(charge);
            steps.push(Step::Submit { kind: PaymentKind::WorkerPayout, who: worker, more });
            books.take(steps.last().expect("pushed"));
        }
        let left: u64 = books.clients.iter().map(|client| client.balance).sum();
        prop_assert_eq!(books.pool, left, "what is not charged is there");
        // The proxy is gone: everybody forces the refund.
        for client in 0..CLIENTS {
            steps.push(Step::RequestRefund { client });
            steps.push(Step::Wait { seconds: DAY_S + 1 });
            steps.push(Step::RequestRefund { client });
        }
        for step in steps.iter().rev().take(3 * CLIENTS).rev() {
            books.take(step);
        }
        prop_assert!(books.clients.iter().all(|client| client.balance == 0));
        prop_assert_eq!(books.pool, 0);
        play(&steps, None);
    }
}
