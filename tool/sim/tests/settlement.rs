//! The settlement protocol, explored exhaustively at small size.
//!
//! One proxy with its journal, one client, one worker, one chain. The client asks, the proxy books,
//! journals, commits, signs, charges and pays; the client tops up and closes; the proxy crashes
//! and loses what was not on disk, or an old copy of its disk is put back. In every state that can
//! be reached nobody has lost money that a rule promised.

use stateright::{Checker as _, Model, Property};

/// Requests that the client may send.
const REQUESTS: u8 = 2;
/// Commits that the proxy may start.
const COMMITS: u8 = 3;
/// Coins that the client may pay in.
const COINS: u8 = 3;
/// Tokens of a request; a token is worth one coin.
const COST: u8 = 1;

/// What a broken proxy does, to show that the search would find it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Slip {
    None,
    /// Signs for what no commit on chain covers.
    SignsEarly,
    /// Tells totals before they are on disk.
    TellsEarly,
    /// Serves on although the chain knows a commit that its journal lacks.
    IgnoresForeignCommit,
    /// Grants the refund while a request runs.
    RefundsEarly,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Contract {
    Normal,
    Closing,
    Closed,
}

/// What the proxy knows, in memory or on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Books {
    used: u8,
    /// Number of the last commit started, and the totals it covers.
    seqno: u8,
    covers: u8,
    /// Which process wrote it: before or after a rollback.
    session: bool,
    /// Total covered by a confirmed commit.
    committed: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    memory: Books,
    disk: Books,
    /// An old copy of the disk.
    copy: Option<Books>,
    stopped: bool,
    /// A request runs; a reservation is held for it.
    running: bool,
    asked: u8,
    /// Commit on the chain's side: number taken last, total that it covers.
    chain_seqno: u8,
    chain_covers: u8,
    chain_session: bool,
    /// Commit message under way: number, total, session.
    commit: Option<(u8, u8, bool)>,
    /// The total in the best payment that client and worker hold, and the highest told.
    signed: u8,
    told: u8,
    /// Charge or refund under way: total, and whether it is the refund.
    order: Option<(u8, bool)>,
    contract: Contract,
    balance: u8,
    charged: u8,
    paid_in: u8,
    given_back: u8,
    rolled_back: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Action {
    Ask,
    Finish,
    Fail,
    Sync,
    Tell,
    StartCommit,
    TakeCommit,
    LoseCommit,
    SeeCommit,
    Sign,
    Charge,
    TakeOrder,
    LoseOrder,
    PostHeld,
    TopUp,
    Close,
    Crash,
    CopyDisk,
    RollBack,
}

struct Settlement {
    slip: Slip,
}

impl Settlement {
    fn serves(state: &State) -> bool {
        !state.stopped
    }

    /// The proxy may not promise more than the deposit covers.
    fn affordable(state: &State) -> bool {
        let open = state.memory.used - state.charged.min(state.memory.used);
        state.contract == Contract::Normal && state.balance >= open + COST
    }

    fn act(&self, state: &mut State, action: Action) -> Option<()> {
        match action {
            Action::Ask => {
                let may = Self::serves(state) && !state.running && state.asked < REQUESTS;
                (may && Self::affordable(state)).then(|| {
                    state.running = true;
                    state.asked += 1;
                })
            }
            Action::Finish => (state.running && Self::serves(state)).then(|| {
                state.running = false;
                state.memory.used += COST;
            }),
            Action::Fail => state.running.then(|| state.running = false),
            Action::Sync => (state.disk != state.memory).then(|| state.disk = state.memory),
            Action::Tell => self.tell(state),
            Action::StartCommit | Action::TakeCommit | Action::LoseCommit | Action::SeeCommit => {
                self.commit(state, action)
            }
            Action::Sign => self.sign(state),
            Action::Charge | Action::TakeOrder | Action::LoseOrder | Action::PostHeld => {
                self.settle(state, action)
            }
            Action::TopUp => {
                let may = state.contract == Contract::Normal && state.paid_in < COINS;
                may.then(|| {
                    state.paid_in += 1;
                    state.balance += 1;
                })
            }
            Action::Close => {
                (state.contract == Contract::Normal).then(|| state.contract = Contract::Closing)
            }
            Action::Crash | Action::CopyDisk | Action::RollBack => self.misfortune(state, action),
        }
    }

    fn tell(&self, state: &mut State) -> Option<()> {
        let total = if self.slip == Slip::TellsEarly { state.memory.used } else { state.disk.used };
        (Self::serves(state) && total > state.told).then(|| state.told = total)
    }

    fn commit(&self, state: &mut State, action: Action) -> Option<()> {
        match action {
            // The record is on disk before the message leaves.
            Action::StartCommit => {
                let may = Self::serves(state)
                    && state.memory == state.disk
                    && state.commit.is_none()
                    && state.memory.used > state.memory.committed
                    && state.memory.seqno < COMMITS;
                may.then(|| {
                    state.memory.seqno += 1;
                    state.memory.covers = state.memory.used;
                    state.memory.session = state.rolled_back;
                    state.disk = state.memory;
                    let session = state.rolled_back;
                    state.commit = Some((state.memory.seqno, state.memory.used, session));
                })
            }
            Action::TakeCommit => {
                let (seqno, covers, session) = state.commit.take()?;
                if seqno > state.chain_seqno {
                    (state.chain_seqno, state.chain_covers) = (seqno, covers);
                    state.chain_session = session;
                }
                Some(())
            }
            Action::LoseCommit => state.commit.take().map(|_| ()),
            Action::SeeCommit => {
                if state.stopped || state.chain_seqno == 0 {
                    return None;
                }
                if self.is_foreign(state) {
                    state.stopped = true;
                    return Some(());
                }
                let fresh = state.chain_seqno == state.memory.seqno
                    && state.memory.committed < state.memory.covers;
                fresh.then(|| {
                    state.memory.committed = state.memory.covers;
                    state.disk.committed = state.memory.covers.min(state.disk.used);
                })
            }
            _ => None,
        }
    }

    /// The chain shows a commit that this journal never wrote.
    fn is_foreign(&self, state: &State) -> bool {
        let same_number = state.chain_seqno == state.memory.seqno;
        let newer = state.chain_seqno > state.memory.seqno;
        let foreign = newer || same_number && state.chain_session != state.memory.session;
        foreign && state.chain_seqno > 0 && self.slip != Slip::IgnoresForeignCommit
    }

    fn sign(&self, state: &mut State) -> Option<()> {
        let total =
            if self.slip == Slip::SignsEarly { state.memory.used } else { state.memory.committed };
        (Self::serves(state) && total > state.signed).then(|| state.signed = total)
    }

    fn settle(&self, state: &mut State, action: Action) -> Option<()> {
        match action {
            Action::Charge => {
                let may = Self::serves(state)
                    && state.order.is_none()
                    && state.contract != Contract::Closed;
                let refund = state.contract == Contract::Closing
                    && (!state.running || self.slip == Slip::RefundsEarly)
                    && state.memory.committed == state.memory.used;
                let owed = state.memory.committed > state.charged;
                (may && (refund || owed)).then(|| {
                    state.order = Some((state.disk.used, refund));
                })
            }
            Action::TakeOrder => {
                let (total, refund) = state.order.take()?;
                Self::take(state, total, refund);
                Some(())
            }
            Action::LoseOrder => state.order.take().map(|_| ()),
            // Client or worker post the payment that they hold, with or without the proxy.
            Action::PostHeld => (state.signed > state.charged
                && state.contract != Contract::Closed)
                .then(|| Self::take(state, state.signed, false)),
            _ => None,
        }
    }

    /// The client's contract takes a charge: cumulative, so that a repeated one does nothing.
    fn take(state: &mut State, total: u8, refund: bool) {
        if state.contract == Contract::Closed || total < state.charged {
            return;
        }
        let pays = (total - state.charged).min(state.balance);
        state.balance -= pays;
        state.charged = total;
        if refund {
            state.given_back += state.balance;
            state.balance = 0;
            state.contract = Contract::Closed;
        }
    }

    fn misfortune(&self, state: &mut State, action: Action) -> Option<()> {
        match action {
            Action::Crash => (state.memory != state.disk || state.running).then(|| {
                state.memory = state.disk;
                state.running = false;
            }),
            Action::CopyDisk => (state.copy.is_none() && !state.rolled_back && state.disk.used > 0)
                .then(|| state.copy = Some(state.disk)),
            Action::RollBack => {
                let copy = state.copy.take()?;
                // The operator puts the old copy back; the hand reads the chain at its start.
                state.memory = copy;
                state.disk = copy;
                state.running = false;
                state.rolled_back = true;
                state.stopped = self.is_foreign(state);
                Some(())
            }
            _ => None,
        }
    }
}

impl Model for Settlement {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            memory: Books::default(),
            disk: Books::default(),
            copy: None,
            stopped: false,
            running: false,
            asked: 0,
            chain_seqno: 0,
            chain_covers: 0,
            chain_session: false,
            commit: None,
            signed: 0,
            told: 0,
            order: None,
            contract: Contract::Normal,
            balance: 2,
            charged: 0,
            paid_in: 2,
            given_back: 0,
            rolled_back: false,
        }]
    }

    fn actions(&self, _: &State, actions: &mut Vec<Action>) {
        actions.extend([
            Action::Ask,
            Action::Finish,
            Action::Fail,
            Action::Sync,
            Action::Tell,
            Action::StartCommit,
            Action::TakeCommit,
            Action::LoseCommit,
            Action::SeeCommit,
            Action::Sign,
            Action::Charge,
            Action::TakeOrder,
            Action::LoseOrder,
            Action::PostHeld,
            Action::TopUp,
            Action::Close,
            Action::Crash,
            Action::CopyDisk,
            Action::RollBack,
        ]);
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut next = state.clone();
        self.act(&mut next, action)?;
        (next != *state).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("what was paid in is there, charged or given back", |_, s: &State| {
                let taken = s.paid_in - s.balance - s.given_back;
                taken <= s.charged
            }),
            Property::always("nothing is signed that no commit on chain covers", |_, s: &State| {
                s.signed <= s.chain_covers
            }),
            Property::always("a crash forgets nothing that was told", |_, s: &State| {
                s.rolled_back || s.told <= s.disk.used
            }),
            Property::always("the client can pay what it was charged", |_, s: &State| {
                s.charged <= s.paid_in
            }),
            Property::always("a closed client owes nothing that was booked", |_, s: &State| {
                s.rolled_back || s.contract != Contract::Closed || s.memory.used <= s.charged
            }),
            Property::sometimes("the worker can be paid for everything", |_, s: &State| {
                s.signed == REQUESTS
            }),
            Property::sometimes("the client gets its rest back", |_, s: &State| {
                s.contract == Contract::Closed && s.given_back > 0
            }),
            Property::sometimes("a rollback is found", |_, s: &State| s.rolled_back && s.stopped),
        ]
    }
}

#[test]
fn no_reachable_state_loses_money() {
    let checker = Settlement { slip: Slip::None }.checker().spawn_bfs().join();
    println!(
        "settlement: {} states, {} of them different, depth {}",
        checker.state_count(),
        checker.unique_state_count(),
        checker.max_depth()
    );
    checker.assert_properties();
    assert!(checker.unique_state_count() > 10_000, "the model is larger than that");
}

#[test]
fn the_search_finds_every_slip() {
    for (slip, property) in [
        (Slip::SignsEarly, "nothing is signed that no commit on chain covers"),
        (Slip::TellsEarly, "a crash forgets nothing that was told"),
        (Slip::RefundsEarly, "a closed client owes nothing that was booked"),
        (Slip::IgnoresForeignCommit, "a rollback is found"),
    ] {
        let checker = Settlement { slip }.checker().spawn_bfs().join();
        let found = checker.discovery(property).is_some();
        // An "always" is broken by a discovery, a "sometimes" by its absence.
        let broken = if slip == Slip::IgnoresForeignCommit { !found } else { found };
        assert!(broken, "{slip:?} was not found");
    }
}
