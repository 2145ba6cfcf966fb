//! Laws of the channels' memory: what is journaled brings it back.

#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

use cocoon_channel::{ChannelFault, ChannelRecord, Channels};
use cocoon_contract::payment::{PaymentKind, SignedPayment};
use cocoon_ledger::OwnBooks;
use cocoon_units::{Address, PublicKey, Tokens};
use ed25519_dalek::SigningKey;
use proptest::prelude::*;
use std::collections::BTreeMap;

const KIND: PaymentKind = PaymentKind::WorkerPayout;

fn key() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

fn public() -> PublicKey {
    PublicKey(key().verifying_key().to_bytes())
}

fn proxy(number: u8) -> Address {
    Address::new(0, [number; 32])
}

fn own(number: u8) -> Address {
    Address::new(0, [number + 100; 32])
}

fn payment(number: u8, tokens: u64) -> Vec<u8> {
    let payment =
        SignedPayment::sign(KIND, 1, Tokens(tokens), own(number), proxy(number), &key()).unwrap();
    payment.to_boc().unwrap()
}

type Known = BTreeMap<[u8; 32], (PublicKey, Address, OwnBooks, Option<Vec<u8>>)>;

/// What must come back after a restart.
fn known(channels: &Channels) -> Known {
    channels
        .channels()
        .map(|(proxy, channel)| {
            let own_contract = channel.own_contract;
            let payment = channel.payment.clone();
            (proxy.hash, (channel.proxy_key, own_contract, channel.books, payment))
        })
        .collect()
}

fn replayed(records: &[ChannelRecord]) -> Channels {
    let mut channels = Channels::new(KIND);
    for record in records {
        channels.apply(&ChannelRecord::decode(&record.encode()).unwrap());
    }
    channels
}

fn pinned() -> (Channels, Vec<ChannelRecord>) {
    let mut channels = Channels::new(KIND);
    let record = channels.pin(proxy(1), public(), own(1)).unwrap().unwrap();
    (channels, vec![record])
}

#[test]
fn a_key_is_pinned_once() {
    let (mut channels, _) = pinned();
    assert_eq!(channels.pin(proxy(1), public(), own(1)), Ok(None));
    let changed = channels.pin(proxy(1), PublicKey([9; 32]), own(1));
    assert!(matches!(changed, Err(ChannelFault::Identity { what: "public key", .. })));
    assert_eq!(channels.channel(proxy(1)).unwrap().proxy_key, public());
}

#[test]
fn nothing_new_is_nothing_to_journal() {
    let (mut channels, _) = pinned();
    assert_eq!(channels.state(proxy(1), None, Tokens(0), Tokens(0)), Ok(None));
    let stated = payment(1, 3);
    let state =
        |channels: &mut Channels| channels.state(proxy(1), Some(&stated), Tokens(5), Tokens(6));
    assert!(state(&mut channels).unwrap().is_some());
    assert_eq!(state(&mut channels), Ok(None));
}

#[test]
fn an_empty_payment_takes_nothing_away() {
    let (mut channels, _) = pinned();
    let best = payment(1, 3);
    channels.state(proxy(1), Some(&best), Tokens(5), Tokens(6)).unwrap();
    channels.state(proxy(1), None, Tokens(7), Tokens(8)).unwrap();
    assert_eq!(channels.channel(proxy(1)).unwrap().payment, Some(best));
}

#[test]
fn a_write_off_below_the_payment_survives_a_restart() {
    let (mut channels, mut records) = pinned();
    records
        .extend(channels.state(proxy(1), Some(&payment(1, 50)), Tokens(60), Tokens(70)).unwrap());
    channels.dead_end(proxy(1), Tokens(20));
    records.extend(channels.take_write_off(proxy(1)));
    records.extend(channels.state(proxy(1), None, Tokens(25), Tokens(30)).unwrap());
    let books = channels.channel(proxy(1)).unwrap().books;
    assert_eq!(
        (books.signed(), books.durable(), books.max()),
        (Tokens(50), Tokens(25), Tokens(30))
    );
    assert_eq!(known(&replayed(&records)), known(&channels));
    assert_eq!(known(&replayed(&channels.snapshot())), known(&channels));
}

#[test]
fn records_of_unknown_channels_are_skipped() {
    let orphan = ChannelRecord::Finished { proxy: [1; 32], tokens: 5 };
    assert!(known(&replayed(&[orphan])).is_empty());
}

#[derive(Debug, Clone)]
enum Step {
    Pin(u8),
    Finish(u8, u64),
    State(u8, Option<u64>, u64, u64),
    WriteOff(u8, u64),
    DeadEnd(u8, u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let number = 1u8..3;
    let tokens = 0u64..100;
    let step = prop_oneof![
        number.clone().prop_map(Step::Pin),
        (number.clone(), tokens.clone()).prop_map(|(n, t)| Step::Finish(n, t)),
        (number.clone(), prop::option::of(0u64..40), 0u64..60, 0u64..60)
            .prop_map(|(n, signed, a, b)| Step::State(n, signed, a, a + b)),
        (number.clone(), tokens.clone()).prop_map(|(n, t)| Step::WriteOff(n, t)),
        (number, tokens).prop_map(|(n, t)| Step::DeadEnd(n, t)),
    ];
    prop::collection::vec(step, 1..24)
}

fn play(channels: &mut Channels, step: &Step) -> Option<ChannelRecord> {
    match *step {
        Step::Pin(n) => channels.pin(proxy(n), public(), own(n)).unwrap(),
        Step::Finish(n, tokens) => channels.finished(proxy(n), Tokens(tokens)),
        Step::State(n, signed, durable, max) => {
            let payment = signed.map(|tokens| payment(n, tokens));
            let before = known(channels);
            match channels.state(proxy(n), payment.as_deref(), Tokens(durable), Tokens(max)) {
                Ok(record) => record,
                Err(_) => {
                    assert_eq!(known(channels), before, "a refused statement changes nothing");
                    None
                }
            }
        }
        Step::WriteOff(n, total) => channels.write_off(proxy(n), Tokens(total)),
        Step::DeadEnd(n, total) => {
            channels.dead_end(proxy(n), Tokens(total));
            channels.take_write_off(proxy(n))
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn records_and_snapshots_bring_everything_back(steps in steps()) {
        let mut channels = Channels::new(KIND);
        let mut records = Vec::new();
        for step in &steps {
            records.extend(play(&mut channels, step));
            prop_assert_eq!(known(&replayed(&records)), known(&channels));
            prop_assert_eq!(known(&replayed(&channels.snapshot())), known(&channels));
        }
    }

    #[test]
    fn any_bytes_are_a_record_or_none(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Some(record) = ChannelRecord::decode(&bytes) {
            let mut channels = Channels::new(KIND);
            channels.apply(&record);
            prop_assert_eq!(ChannelRecord::decode(&record.encode()), Some(record));
        }
    }
}

/// The proxy counts as much as it ever told, and less than was seen to finish: giving that up
/// lowers the own count alone. It used to leave no record, so that a restart counted it again.
#[test]
fn a_write_off_of_the_own_count_alone_is_journalled() {
    let mut channels = Channels::new(KIND);
    let mut records = Vec::new();
    records.extend(channels.pin(proxy(1), public(), own(1)).unwrap());
    records.extend(channels.state(proxy(1), None, Tokens(10), Tokens(10)).unwrap());
    records.extend(channels.finished(proxy(1), Tokens(25)));
    let record = channels.write_off(proxy(1), Tokens(10)).expect("a record");
    assert_eq!(record, ChannelRecord::WrittenOff { proxy: proxy(1).hash, total: 10 });
    records.push(record);
    let books = channels.channel(proxy(1)).unwrap().books;
    assert_eq!((books.own(), books.durable(), books.max()), (Tokens(10), Tokens(10), Tokens(10)));
    assert_eq!(replayed(&records).channel(proxy(1)).unwrap().books, books);
    assert_eq!(channels.write_off(proxy(1), Tokens(10)), None, "nothing is left to give up");
}
