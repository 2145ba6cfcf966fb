//! Laws of the books: whatever happens in whatever order, every invariant of `docs/books.md`
//! holds after every step, and replaying the journal gives the same books.

use cocoon_ledger::{
    Account, AccountId, Books, ClientStatus, Difference, Fault, OwnBooks, Record, Refusal,
    Statement,
};
use cocoon_units::{RequestId, Tokens};
use proptest::prelude::*;

const CLIENTS: u8 = 3;
const WORKERS: u8 = 2;

fn client(n: u8) -> AccountId {
    AccountId([n % CLIENTS; 32])
}

fn worker(n: u8) -> AccountId {
    AccountId([100 + n % WORKERS; 32])
}

fn request(n: u8) -> RequestId {
    RequestId([n; 32])
}

#[derive(Clone, Debug)]
enum Step {
    Seen { client: u8, balance: u32, stake: u32, closing: bool },
    Reserve { request: u8, client: u8, tokens: u16 },
    Finish { request: u8, worker: u8, tokens: u16 },
    Release { request: u8 },
    Durable,
    Commit,
    Confirm { back: u8 },
    Charge { client: u8 },
    Payout { worker: u8 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        1 => (any::<u8>(), any::<u32>(), any::<u32>(), prop::bool::weighted(0.1))
            .prop_map(|(client, balance, stake, closing)| Step::Seen { client, balance, stake, closing }),
        4 => (any::<u8>(), any::<u8>(), any::<u16>())
            .prop_map(|(request, client, tokens)| Step::Reserve { request, client, tokens }),
        4 => (any::<u8>(), any::<u8>(), any::<u16>())
            .prop_map(|(request, worker, tokens)| Step::Finish { request, worker, tokens }),
        1 => any::<u8>().prop_map(|request| Step::Release { request }),
        1 => Just(Step::Durable),
        1 => Just(Step::Commit),
        1 => any::<u8>().prop_map(|back| Step::Confirm { back }),
        1 => any::<u8>().prop_map(|client| Step::Charge { client }),
        1 => any::<u8>().prop_map(|worker| Step::Payout { worker }),
    ]
}

/// Books with the journal that a node would have written.
struct Node {
    books: Books,
    journal: Vec<Record>,
}

impl Node {
    fn new() -> Self {
        let mut node = Self { books: Books::new(), journal: Vec::new() };
        node.write(Record::Opened { epoch: 1, price_nanoton: 20, seqno: 0 });
        for n in 0..WORKERS {
            node.write(Record::WorkerSeen { worker: worker(n), paid_out: 0 });
        }
        node
    }

    fn write(&mut self, record: Record) {
        if self.books.apply(&record).is_ok() {
            self.journal.push(record);
        }
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Seen { client: n, balance, stake, closing } => {
                let charged = self.books.client(client(n)).map_or(0, |account| account.charged().0);
                let status = if closing { ClientStatus::Closing } else { ClientStatus::Normal };
                self.write(Record::ClientSeen {
                    client: client(n),
                    status,
                    balance_nanoton: balance.into(),
                    stake_nanoton: stake.into(),
                    charged,
                });
            }
            Step::Reserve { request: r, client: n, tokens } => {
                let before = self.books.available(client(n));
                let result = self.books.reserve(request(r), client(n), Tokens(tokens.into()));
                if result.is_ok() {
                    assert!(u64::from(tokens) <= before.0, "reserved more than available");
                }
            }
            Step::Finish { request: r, worker: n, tokens } => {
                if let Ok(record) = self.books.finish(request(r), worker(n), Tokens(tokens.into()))
                {
                    self.journal.push(record);
                }
            }
            Step::Release { request: r } => {
                let _ = self.books.release(request(r));
            }
            Step::Durable => self.books.made_durable(),
            Step::Commit => {
                let seqno = self.books.seqno() + 1;
                self.write(Record::CommitStarted { seqno, session: [7; 32] });
            }
            Step::Confirm { back } => {
                let seqno = self.books.seqno().saturating_sub(u32::from(back % 3));
                self.write(Record::CommitConfirmed { seqno });
            }
            Step::Charge { client: n } => self.charge(n),
            Step::Payout { worker: n } => {
                let Some(account) = self.books.worker(worker(n)) else {
                    return;
                };
                let paid_out = account.counters().committed().0;
                self.write(Record::WorkerSeen { worker: worker(n), paid_out });
            }
        }
    }

    fn charge(&mut self, n: u8) {
        let Some(account) = self.books.client(client(n)) else {
            return;
        };
        let charged = account.counters().durable().0;
        let cost = (charged - account.charged().0) * self.books.price().0;
        self.write(Record::ClientSeen {
            client: client(n),
            status: account.status(),
            balance_nanoton: account.balance().0.saturating_sub(cost),
            stake_nanoton: account.stake().0,
            charged,
        });
    }
}

fn counters(books: &Books) -> Vec<(AccountId, Account)> {
    let mut all: Vec<_> = books
        .clients()
        .map(|(id, account)| (*id, *account.counters()))
        .chain(books.workers().map(|(id, account)| (*id, *account.counters())))
        .collect();
    all.sort_by_key(|(id, _)| *id);
    all
}

fn replayed(records: &[Record]) -> Books {
    let mut books = Books::new();
    for record in records {
        books.apply(record).expect("a journalled record fits");
    }
    books.made_durable();
    books
}

proptest! {
    #[test]
    fn every_invariant_holds_after_every_step(steps in prop::collection::vec(step(), 1..200)) {
        let mut node = Node::new();
        let mut before = counters(&node.books);
        for step in &steps {
            node.take(step);
            node.books.check().unwrap();
            let after = counters(&node.books);
            for (id, old) in &before {
                let (_, new) = after.iter().find(|(other, _)| other == id).unwrap();
                prop_assert!(new.max() >= old.max() && new.durable() >= old.durable());
                prop_assert!(new.committed() >= old.committed());
            }
            before = after;
        }
    }

    #[test]
    fn replay_and_snapshot_give_the_same_books(steps in prop::collection::vec(step(), 1..200)) {
        let mut node = Node::new();
        for step in &steps {
            node.take(step);
        }
        node.books.made_durable();
        let from_journal = replayed(&node.journal);
        prop_assert_eq!(counters(&from_journal), counters(&node.books));
        let mut from_snapshot = replayed(&node.books.snapshot());
        prop_assert_eq!(counters(&from_snapshot), counters(&node.books));
        prop_assert_eq!(from_snapshot.totals().spent, node.books.totals().spent);
        // What is confirmed later covers the same totals in both.
        let last = Record::CommitConfirmed { seqno: node.books.seqno() };
        prop_assert_eq!(from_snapshot.apply(&last).is_ok(), node.books.apply(&last).is_ok());
        prop_assert_eq!(counters(&from_snapshot), counters(&node.books));
        from_snapshot.check().unwrap();
    }

    #[test]
    fn records_survive_encoding(steps in prop::collection::vec(step(), 1..60)) {
        let mut node = Node::new();
        for step in &steps {
            node.take(step);
        }
        for record in node.journal.iter().chain(&node.books.snapshot()) {
            let mut bytes = Vec::new();
            record.encode(&mut bytes);
            prop_assert_eq!(&Record::decode(&bytes).unwrap(), record);
            bytes.push(0);
            prop_assert!(Record::decode(&bytes).is_err(), "trailing bytes are refused");
        }
    }

    #[test]
    fn foreign_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let _ = Record::decode(&bytes);
    }

    #[test]
    fn own_books_keep_maxima(states in prop::collection::vec(any::<(u16, u16, u16)>(), 1..40)) {
        let mut own = OwnBooks::default();
        let mut seen = (0, 0, 0);
        for (signed, durable, max) in states {
            let statement = Statement {
                signed: Some(Tokens(signed.into())),
                durable: Tokens(durable.into()),
                max: Tokens(max.into()),
            };
            let result = own.compare(&statement);
            let now = (own.signed().0, own.durable().0, own.max().0);
            prop_assert!(now.0 >= seen.0 && now.1 >= seen.1 && now.2 >= seen.2);
            if matches!(result, Err(Difference::Forgot { .. } | Difference::Inconsistent { .. })) {
                prop_assert_eq!(now, seen);
            }
            seen = now;
        }
    }
}

#[test]
fn a_request_is_booked_once() {
    let mut node = Node::new();
    node.take(&Step::Seen { client: 0, balance: 1_000_000, stake: 1_000_000, closing: false });
    node.books.reserve(request(1), client(0), Tokens(100)).unwrap();
    assert_eq!(node.books.reserve(request(1), client(0), Tokens(1)), Err(Refusal::Duplicate));
    node.books.finish(request(1), worker(0), Tokens(40)).unwrap();
    assert_eq!(
        node.books.finish(request(1), worker(0), Tokens(40)),
        Err(Fault::NotReserved(request(1)))
    );
    let account = node.books.client(client(0)).unwrap();
    assert_eq!(account.counters().max(), Tokens(40));
    assert_eq!(account.reserved(), Tokens(0));
}

#[test]
fn nobody_pays_more_than_was_held() {
    let mut node = Node::new();
    node.take(&Step::Seen { client: 0, balance: 1_000_000, stake: 1_000_000, closing: false });
    node.books.reserve(request(1), client(0), Tokens(100)).unwrap();
    node.books.finish(request(1), worker(0), Tokens(5_000)).unwrap();
    assert_eq!(node.books.client(client(0)).unwrap().counters().max(), Tokens(100));
    assert_eq!(node.books.worker(worker(0)).unwrap().counters().max(), Tokens(100));
}

#[test]
fn the_chain_cannot_know_more_than_the_books() {
    let mut node = Node::new();
    node.take(&Step::Seen { client: 0, balance: 1_000, stake: 1_000, closing: false });
    let ahead = Record::ClientSeen {
        client: client(0),
        status: ClientStatus::Normal,
        balance_nanoton: 0,
        stake_nanoton: 0,
        charged: 1,
    };
    assert_eq!(
        node.books.apply(&ahead),
        Err(Fault::BehindChain { account: client(0), chain: 1, books: 0 })
    );
}

#[test]
fn a_new_epoch_keeps_the_final_totals_until_they_are_wound_down() {
    let mut node = Node::new();
    let seen = |n: u8, status: ClientStatus| Record::ClientSeen {
        client: client(n),
        status,
        balance_nanoton: 1_000_000,
        stake_nanoton: 1_000_000,
        charged: 0,
    };
    node.write(seen(0, ClientStatus::Normal));
    node.write(seen(1, ClientStatus::Closed));
    node.books.reserve(request(1), client(0), Tokens(50)).unwrap();
    let record = node.books.finish(request(1), worker(0), Tokens(44)).unwrap();
    node.journal.push(record);
    node.write(Record::ClientSecret { client: client(0), hash: [9; 32] });
    node.write(Record::ChainSeen { lt: 77 });
    assert_eq!(node.books.chain_lt(), 77);
    node.write(Record::Opened { epoch: 2, price_nanoton: 30, seqno: 0 });
    node.write(Record::ChainSeen { lt: 5 });
    assert_eq!((node.books.chain_lt(), node.books.secret(client(0))), (5, None));

    let mut from_journal = Books::new();
    for record in &node.journal {
        from_journal.apply(record).unwrap();
    }
    let mut from_snapshot = Books::new();
    for record in node.books.snapshot() {
        from_snapshot.apply(&record).unwrap();
    }
    for books in [&node.books, &from_journal, &from_snapshot] {
        let old: Vec<_> = books.old().collect();
        assert_eq!(old.len(), 1);
        let (epoch, old) = old[0];
        assert_eq!(epoch, 1);
        // A closed client has its money back; everybody else is there.
        assert_eq!(old.clients().collect::<Vec<_>>(), [(client(0), Tokens(44))]);
        assert_eq!(old.workers().map(|(_, tokens)| tokens.0).sum::<u64>(), 44);
        assert_eq!(books.chain_lt(), 5);
    }
    node.write(Record::OldClosed { epoch: 1 });
    assert_eq!(node.books.old().count(), 0);
    let refused = node.books.apply(&Record::OldBooks { epoch: 2 });
    assert!(refused.is_err(), "the present books are not old");
}
