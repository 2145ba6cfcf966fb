//! Laws of the journal: what was reported durable is read back, whatever happens to the tail;
//! what was altered is noticed; nothing panics.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use cocoon_journal::{Event, Fault, Journal, JournalKey, Options, decode_segment, fuzz, recover};
use cocoon_units::Secret;
use proptest::prelude::*;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

const DEADLINE: Duration = Duration::from_secs(20);

fn key(n: u8) -> JournalKey {
    JournalKey::new(Secret::new([n; 32]))
}

fn start(dir: &Path, generation: u64, snapshot: &[Vec<u8>]) -> (Journal, Receiver<Event>) {
    let (report, events) = channel();
    let options = Options { dir: dir.to_owned(), generation };
    let journal = Journal::start(&options, key(1), snapshot.to_vec(), move |event| {
        let _ = report.send(event);
    })
    .unwrap();
    (journal, events)
}

fn wait_durable(events: &Receiver<Event>, ticket: u64) {
    loop {
        match events.recv_timeout(DEADLINE).unwrap() {
            Event::Durable(done) if done >= ticket => return,
            Event::Durable(_) => {}
            other => panic!("unexpected {other:?}"),
        }
    }
}

fn segment(dir: &Path, generation: u64) -> PathBuf {
    dir.join(format!("journal-{generation:010}.log"))
}

/// Writes `records` one per ticket and gives the file's bytes.
fn written(records: &[Vec<u8>]) -> (tempfile::TempDir, Vec<u8>) {
    let dir = tempfile::tempdir().unwrap();
    let (journal, events) = start(dir.path(), 1, &[b"snapshot".to_vec()]);
    for (ticket, record) in (1..).zip(records) {
        journal.append(ticket, vec![record.clone()]).unwrap();
        wait_durable(&events, ticket);
    }
    drop(journal);
    let bytes = std::fs::read(segment(dir.path(), 1)).unwrap();
    (dir, bytes)
}

#[test]
fn durable_records_come_back_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, events) = start(dir.path(), 1, &[b"snapshot".to_vec()]);
    let mut expected = vec![b"snapshot".to_vec()];
    for ticket in 1..=500u64 {
        let records = vec![ticket.to_le_bytes().to_vec(), vec![7; (ticket % 50) as usize]];
        expected.extend(records.clone());
        journal.append(ticket, records).unwrap();
    }
    wait_durable(&events, 500);
    drop(journal);
    let recovered = recover(dir.path(), &key(1), false).unwrap();
    assert_eq!(recovered.records, expected);
    assert_eq!((recovered.generation, recovered.notices.len()), (1, 0));
}

#[test]
fn a_snapshot_replaces_what_came_before_it() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, events) = start(dir.path(), 4, &[b"old".to_vec()]);
    journal.append(1, vec![b"before".to_vec()]).unwrap();
    journal.snapshot(vec![b"new".to_vec()]).unwrap();
    journal.append(2, vec![b"after".to_vec()]).unwrap();
    wait_durable(&events, 2);
    drop(journal);
    let recovered = recover(dir.path(), &key(1), false).unwrap();
    assert_eq!(recovered.records, [b"new".to_vec(), b"after".to_vec()]);
    assert_eq!(recovered.generation, 5);
    assert!(!segment(dir.path(), 4).exists());
}

#[test]
fn a_second_process_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (_journal, _events) = start(dir.path(), 1, &[b"snapshot".to_vec()]);
    let options = Options { dir: dir.path().to_owned(), generation: 2 };
    let second = Journal::start(&options, key(1), vec![b"x".to_vec()], |_| {});
    assert!(matches!(second, Err(Fault::InUse { .. })));
}

#[test]
fn another_key_reads_nothing() {
    let (dir, _) = written(&[b"secret".to_vec()]);
    assert!(matches!(recover(dir.path(), &key(2), false), Err(Fault::WrongKey { .. })));
}

#[test]
fn records_are_not_on_disk_in_clear() {
    let canary = b"canary-in-a-record".to_vec();
    let (_dir, bytes) = written(std::slice::from_ref(&canary));
    assert!(!bytes.windows(canary.len()).any(|window| window == canary));
}

#[test]
fn damage_in_the_middle_is_refused_and_repaired_on_request() {
    let records: Vec<Vec<u8>> = (0..5u8).map(|n| vec![n; 40]).collect();
    let (dir, bytes) = written(&records);
    let good = decode_segment(&key(1), &bytes).unwrap().good_len;
    let frame_len = 16 + 44 + 16;
    let mut altered = bytes;
    altered[good as usize - 3 * frame_len + 30] ^= 1;
    std::fs::write(segment(dir.path(), 1), &altered).unwrap();
    let refused = recover(dir.path(), &key(1), false);
    assert!(matches!(refused, Err(Fault::Damaged { records: 3, .. })), "{refused:?}");
    let repaired = recover(dir.path(), &key(1), true).unwrap();
    assert_eq!(repaired.records.len(), 3);
    assert_eq!(repaired.notices.len(), 1);
    assert!(segment(dir.path(), 1).with_extension("log.damaged").exists());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn a_torn_last_write_loses_nothing_durable(
        lens in prop::collection::vec(1usize..60, 1..6),
        keep in 0.0f64..1.0,
        noise in any::<u8>(),
    ) {
        let records: Vec<Vec<u8>> = lens.iter().map(|len| vec![3; *len]).collect();
        let (dir, mut bytes) = written(&records);
        let good = decode_segment(&key(1), &bytes).unwrap().good_len as usize;
        let last = 16 + 4 + lens[lens.len() - 1] + 16;
        let cut = good - last + (keep * last as f64) as usize;
        for byte in &mut bytes[cut..good] {
            *byte = noise;
        }
        std::fs::write(segment(dir.path(), 1), &bytes).unwrap();
        let recovered = recover(dir.path(), &key(1), false).unwrap();
        // All but the torn one, which was never confirmed in this story.
        prop_assert!(recovered.records.len() >= records.len());
        prop_assert_eq!(&recovered.records[1..records.len()], &records[..records.len() - 1]);
    }

    #[test]
    fn foreign_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = decode_segment(&key(1), &bytes);
    }
}

#[test]
fn a_frame_cut_to_its_first_zeros_is_one_that_was_never_written() {
    // A sealed frame of 256 bytes: its length begins with a byte 0, all that a cut behind the header's
    // 40 bytes leaves.
    let cut = [&[1, 41, 0, 0], [b'a'; 236].as_slice()].concat();
    fuzz::segment(&cut);
}

/// The writer's thread stands still while it reports.
#[test]
fn one_snapshot_at_a_time_and_none_before_the_journal_has_doubled() {
    const LIMIT: u64 = 100;
    let dir = tempfile::tempdir().unwrap();
    let options = Options { dir: dir.path().to_owned(), generation: 1 };
    let books = vec![vec![7; 1_000]];
    let (report, events) = channel();
    let (go_on, wait) = channel::<()>();
    let journal = Journal::start(&options, key(1), books.clone(), move |event| {
        let _ = report.send(event);
        let _ = wait.recv_timeout(DEADLINE);
    })
    .unwrap();
    assert!(!journal.wants_snapshot(LIMIT), "nothing to gain: it is all snapshot");
    let append = |ticket| {
        journal.append(ticket, vec![vec![8; 1_500]]).unwrap();
        wait_durable(&events, ticket);
    };
    append(1);
    go_on.send(()).unwrap();
    // What the length says is behind what was reported.
    append(2);
    let mut snapshots = 0;
    for _ in 0..100 {
        if journal.wants_snapshot(LIMIT) {
            snapshots += 1;
            journal.snapshot(vec![vec![9; 9_000]]).unwrap();
        }
    }
    assert_eq!(snapshots, 1, "it is on its way");
    go_on.send(()).unwrap();
    append(3);
    // Longer than the journal was when it was asked for, and written.
    assert!(journal.segment_len() > 9_000);
    assert!(!journal.wants_snapshot(LIMIT), "not twice the snapshot");
    for ticket in 4..=10 {
        go_on.send(()).unwrap();
        append(ticket);
    }
    assert!(journal.wants_snapshot(LIMIT), "{} bytes", journal.segment_len());
    drop(go_on);
}

#[test]
fn a_snapshot_that_failed_is_asked_for_again_when_the_journal_has_doubled() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, events) = start(dir.path(), 1, &[b"snapshot".to_vec()]);
    // Nothing can be made in the place of the next segment.
    let taken = dir.path().join("journal-0000000002.log");
    std::fs::create_dir(&taken).unwrap();
    let mut ticket = 0;
    let mut grow = |bytes: u64| {
        while journal.segment_len() < bytes {
            ticket += 1;
            journal.append(ticket, vec![vec![8; 500]]).unwrap();
            wait_durable(&events, ticket);
        }
    };
    grow(4_000);
    assert!(journal.wants_snapshot(1_000));
    journal.snapshot(vec![vec![9; 100]]).unwrap();
    grow(5_000);
    assert!(!journal.wants_snapshot(1_000));
    grow(14_000);
    assert!(journal.wants_snapshot(1_000));
    std::fs::remove_dir(&taken).unwrap();
    journal.snapshot(vec![vec![9; 100]]).unwrap();
    ticket += 1;
    journal.append(ticket, vec![vec![8; 10]]).unwrap();
    wait_durable(&events, ticket);
    assert!(journal.segment_len() < 1_000, "{}", journal.segment_len());
}
