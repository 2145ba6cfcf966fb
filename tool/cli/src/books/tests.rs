//! Books made here, written by the real journal, read by the command.

use super::stored::Stored;
use super::{Day, Prices, beancount, csv};
use cocoon_channel::{ChannelRecord, Channels};
use cocoon_contract::payment::{PaymentKind, SignedPayment};
use cocoon_host::{Books as Journal, BooksEvent, books, keys};
use cocoon_ledger::{AccountId, ClientStatus, Record};
use cocoon_units::{Address, Nanoton, PublicKey, Tokens};
use ed25519_dalek::SigningKey;
use std::collections::BTreeMap;
use std::path::Path;

const CLIENT: AccountId = AccountId([0xc1; 32]);
const WORKER: AccountId = AccountId([0x77; 32]);

fn proxy_records() -> Vec<Vec<u8>> {
    let finished = |number, tokens| Record::Finished {
        request: [number; 32],
        client: CLIENT,
        worker: WORKER,
        tokens,
    };
    let records = [
        Record::Opened { epoch: 1, price_nanoton: 20, seqno: 0 },
        Record::ClientSeen {
            client: CLIENT,
            status: ClientStatus::Normal,
            balance_nanoton: 1_000_000,
            stake_nanoton: 1_000_000,
            charged: 0,
        },
        Record::WorkerSeen { worker: WORKER, paid_out: 0 },
        finished(1, 60),
        finished(2, 40),
    ];
    let encode = |record: &Record| {
        let mut bytes = Vec::new();
        record.encode(&mut bytes);
        bytes
    };
    records.iter().map(encode).collect()
}

fn worker_records() -> Vec<Vec<u8>> {
    let key = SigningKey::from_bytes(&[7; 32]);
    let (proxy, own) = (Address::new(0, [1; 32]), Address::new(0, [2; 32]));
    let mut channels = Channels::new(PaymentKind::WorkerPayout);
    let public = PublicKey(key.verifying_key().to_bytes());
    let mut records = vec![channels.pin(proxy, public, own).unwrap().unwrap()];
    records.extend(channels.finished(proxy, Tokens(100)));
    let payment =
        SignedPayment::sign(PaymentKind::WorkerPayout, 1, Tokens(90), own, own, &key).unwrap();
    let payment = payment.to_boc().unwrap();
    records.extend(channels.state(proxy, Some(&payment), Tokens(95), Tokens(95)).unwrap());
    let mut bytes = vec![b"cocoon-worker".to_vec()];
    bytes.extend(records.iter().map(ChannelRecord::encode));
    bytes
}

/// Writes a node's journal, as the node does.
fn write(data_dir: &Path, mut records: Vec<Vec<u8>>) -> Journal {
    let key = keys::load_or_make(&data_dir.join("journal.key")).unwrap();
    let rest = records.split_off(1);
    let opening = Journal::open(&data_dir.join("journal"), &key, false).unwrap();
    let (mut journal, mut events) = opening.start(records).unwrap();
    let ticket = journal.append(rest).unwrap();
    loop {
        match events.blocking_recv() {
            Some(BooksEvent::Durable(done)) if done >= ticket => return journal,
            Some(BooksEvent::Durable(_)) => {}
            other => panic!("{other:?}"),
        }
    }
}

fn day() -> Day {
    "2026-11-22".parse().unwrap()
}

#[test]
fn a_proxys_books_are_checked_and_exported() {
    let dir = tempfile::tempdir().unwrap();
    drop(write(dir.path(), proxy_records()));
    let stored = Stored::read(dir.path()).unwrap();
    let lines = stored.check().unwrap().join("\n");
    assert!(lines.contains("100 tokens spent") && lines.contains("100 tokens earned"), "{lines}");
    let prices = Prices { client: Some(Nanoton(20)), worker: None };
    let table = csv::accounts(&stored, prices);
    let client = format!("client,0:{},normal,100,100,0,0,2000,0,2000\r\n", "c1".repeat(32));
    assert!(table.contains(&client), "{table}");
    assert!(
        table.contains(&format!("worker,0:{},,100,100,0,0,,,\r\n", "77".repeat(32))),
        "{table}"
    );
    let requests = csv::requests(&stored);
    assert_eq!(requests.lines().count(), 3);
    assert!(requests.lines().last().unwrap().ends_with(",40"), "{requests}");
    assert!(beancount::ledger(&stored, prices, day()).unwrap_err().contains("--worker-fee"));
}

#[test]
fn every_transaction_of_an_export_comes_to_zero() {
    for records in [proxy_records(), worker_records()] {
        let stored = Stored::replay(&records).unwrap();
        let prices = Prices { client: Some(Nanoton(20)), worker: Some(Nanoton(19)) };
        let text = beancount::ledger(&stored, prices, day()).unwrap();
        let mut sums: BTreeMap<usize, i128> = BTreeMap::new();
        let (mut transaction, mut largest) = (0, 0);
        for line in text.lines() {
            if line.contains(" * \"") {
                transaction += 1;
            } else if let Some(posting) = line.strip_suffix(" NANOTON")
                && line.starts_with("  ")
            {
                let (account, amount) = posting.trim().split_once("  ").unwrap();
                let amount: i128 = amount.parse().unwrap();
                assert!(
                    text.contains(&format!("2026-11-22 open {account} NANOTON\n")),
                    "{account}"
                );
                *sums.entry(transaction).or_default() += amount;
                largest = largest.max(amount);
            }
        }
        assert!(!sums.is_empty() && sums.values().all(|sum| *sum == 0), "{text}");
        assert!(largest >= 95 * 19, "{text}");
    }
}

#[test]
fn a_workers_books_are_checked_with_their_payment() {
    let stored = Stored::replay(&worker_records()).unwrap();
    let lines = stored.check().unwrap().join("\n");
    assert!(lines.contains("95 tokens, 90 of them signed"), "{lines}");
    assert!(lines.contains("5 less than this node"), "{lines}");
    let mut forged = worker_records();
    let Some(ChannelRecord::Stated { proxy, durable, max, payment, .. }) =
        ChannelRecord::decode(&forged.pop().unwrap())
    else {
        panic!("the statement is last")
    };
    forged.push(ChannelRecord::Stated { proxy, signed: 94, durable, max, payment }.encode());
    let fault = Stored::replay(&forged).unwrap().check().unwrap_err();
    assert!(format!("{fault:#}").contains("good for 90"), "{fault:#}");
}

#[test]
fn what_cannot_be_read_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let told = |path: &Path| match Stored::read(path) {
        Ok(_) => panic!("read"),
        Err(fault) => format!("{fault:#}"),
    };
    let nothing = told(dir.path());
    assert!(nothing.contains("holds no journal"), "{nothing}");
    assert!(!dir.path().join("journal.key").exists(), "reading makes no key");
    let running = write(dir.path(), proxy_records());
    let busy = told(dir.path());
    assert!(busy.contains("stop the node"), "{busy}");
    drop(running);
    books::read(dir.path()).unwrap();
    std::fs::write(dir.path().join("journal.key"), hex::encode([9; 32])).unwrap();
    let foreign = told(dir.path());
    assert!(foreign.contains("was not written with this node's key"), "{foreign}");
}
