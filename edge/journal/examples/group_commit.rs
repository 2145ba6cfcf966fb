//! Prints how many records a second the journal makes durable, and how long each one waits, with
//! 1, 10 and 100 callers that each wait for their own record. Beside it: the bare disk.
//!
//! Usage: `group_commit [DIR [SECONDS]]`. Without a directory it takes one under the system's
//! temporary files, which may be memory: give one on the disk that matters.

#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a measuring program")]

use cocoon_journal::{Event, Journal, JournalKey, Options};
use cocoon_units::Secret;
use std::fs::OpenOptions;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// What a request writes to the books of a proxy, about.
const RECORD_LEN: usize = 128;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let base = arguments.next().map_or_else(std::env::temp_dir, PathBuf::from);
    let seconds = arguments.next().map_or(3, |text| text.parse().unwrap());
    let limit = Duration::from_secs(seconds);
    let dir = tempfile::tempdir_in(base).unwrap();
    println!("records of {RECORD_LEN} bytes in {}", dir.path().display());
    print("bare write and fdatasync", bare(&dir.path().join("bare"), limit), limit);
    for callers in [1, 10, 100] {
        let dir = dir.path().join(format!("journal-{callers}"));
        print(&format!("journal, {callers} callers"), journal(&dir, callers, limit), limit);
    }
}

fn print(name: &str, mut waits: Vec<Duration>, limit: Duration) {
    waits.sort_unstable();
    let at = |percent: usize| waits[(waits.len() - 1) * percent / 100].as_secs_f64() * 1e3;
    let per_second = waits.len() as f64 / limit.as_secs_f64();
    println!("{name}: {per_second:.0} records/s, p50 {:.2} ms, p99 {:.2} ms", at(50), at(99));
}

/// The floor: one record, one fdatasync, into a file that has its length already.
fn bare(path: &Path, limit: Duration) -> Vec<Duration> {
    let mut file = OpenOptions::new().create_new(true).write(true).open(path).unwrap();
    file.write_all(&vec![0; 1 << 20]).unwrap();
    file.sync_all().unwrap();
    let mut waits = Vec::new();
    let end = Instant::now() + limit;
    let mut offset = 0;
    while Instant::now() < end {
        let begin = Instant::now();
        file.seek(SeekFrom::Start(offset)).unwrap();
        file.write_all(&[7; RECORD_LEN]).unwrap();
        file.sync_data().unwrap();
        waits.push(begin.elapsed());
        offset = (offset + RECORD_LEN as u64) % ((1 << 20) - RECORD_LEN as u64);
    }
    waits
}

/// The newest durable ticket, and who waits for it.
#[derive(Default)]
struct Durable {
    ticket: Mutex<u64>,
    rose: Condvar,
}

/// The journal takes rising tickets, so taking one and queueing its record is one step.
struct Books {
    journal: Journal,
    tickets: u64,
}

impl Books {
    fn append(&mut self) -> u64 {
        self.tickets += 1;
        self.journal.append(self.tickets, vec![vec![7; RECORD_LEN]]).unwrap();
        self.tickets
    }
}

fn journal(dir: &Path, callers: usize, limit: Duration) -> Vec<Duration> {
    let durable = Arc::new(Durable::default());
    let reported = Arc::clone(&durable);
    let report = move |event| match event {
        Event::Durable(ticket) => {
            *reported.ticket.lock().unwrap() = ticket;
            reported.rose.notify_all();
        }
        Event::Stalled(fault) | Event::Failed(fault) => panic!("{fault}"),
    };
    let options = Options { dir: dir.to_owned(), generation: 1 };
    let key = JournalKey::new(Secret::new([7; 32]));
    let journal = Journal::start(&options, key, vec![b"empty".to_vec()], report).unwrap();
    let books = Mutex::new(Books { journal, tickets: 0 });
    let end = Instant::now() + limit;
    let call = || {
        let mut waits = Vec::new();
        while Instant::now() < end {
            let begin = Instant::now();
            let ticket = books.lock().unwrap().append();
            let newest = durable.ticket.lock().unwrap();
            drop(durable.rose.wait_while(newest, |newest| *newest < ticket).unwrap());
            waits.push(begin.elapsed());
        }
        waits
    };
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..callers).map(|_| scope.spawn(call)).collect();
        running.into_iter().flat_map(|caller| caller.join().unwrap()).collect()
    })
}
