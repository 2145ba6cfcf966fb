//! A local chain that was killed, and whose files suffered: through the program.

use crate::desk::Said;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const DEADLINE: Duration = Duration::from_secs(60);
const BOX: &str = "0:0909090909090909090909090909090909090909090909090909090909090909";

/// A chain of its own in a directory, in a process of its own.
struct Site {
    home: TempDir,
    chain: Option<Child>,
}

impl Site {
    fn new() -> Self {
        Self { home: tempfile::tempdir().expect("directory"), chain: None }
    }

    fn directory(&self) -> PathBuf {
        self.home.path().join("chain")
    }

    fn program(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cocoon"));
        command.args(arguments).env_clear().env("HOME", self.home.path());
        command
    }

    fn start(&self, more: &[&str]) -> Command {
        let mut command = self.program(&["chain", "--http", "127.0.0.1:0", "--block-ms", "20"]);
        command.arg("--data-dir").arg(self.directory()).args(more);
        command
    }

    /// Starts the chain and waits until it answers.
    fn starts(&mut self, more: &[&str]) {
        let _ = std::fs::remove_file(self.directory().join("serving.json"));
        let log = std::fs::File::create(self.home.path().join("log")).expect("log");
        let mut command = self.start(more);
        let output = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.chain = Some(output.spawn().expect("the program runs"));
        self.until("the chain answers", || self.state().is_some());
    }

    /// As a power cut does, at whatever it was doing.
    fn killed(&mut self) {
        if let Some(mut chain) = self.chain.take() {
            chain.kill().expect("it runs");
            chain.wait().expect("it ended");
        }
    }

    fn ask(&self, arguments: &[&str]) -> Option<Value> {
        let mut all = arguments.to_vec();
        let directory = self.directory().display().to_string();
        all.extend(["--chain", &directory, "--json"]);
        let said = Said::of(&mut self.program(&all));
        (said.code == 0).then(|| said.json())
    }

    fn state(&self) -> Option<Value> {
        self.ask(&["chain", "state"])
    }

    fn balance(&self) -> u64 {
        let shown = self.ask(&["chain", "explore", BOX]);
        shown.and_then(|shown| shown["coins_nanoton"].as_u64()).unwrap_or(0)
    }

    fn gives(&self, ton: u64) {
        let before = self.balance();
        assert!(self.ask(&["chain", "faucet", BOX, &ton.to_string()]).is_some());
        self.until("coins arrive", || holds(self.balance(), before + ton * 1_000_000_000));
    }

    fn until(&self, what: &str, happened: impl Fn() -> bool) {
        let began = Instant::now();
        while !happened() {
            let log = || std::fs::read_to_string(self.home.path().join("log")).unwrap_or_default();
            assert!(began.elapsed() < DEADLINE, "{what}: not in time; {}", log());
        }
    }

    /// The newest log of the chain.
    fn log(&self) -> PathBuf {
        let files = std::fs::read_dir(self.directory()).expect("directory");
        let paths = files.map(|entry| entry.expect("entry").path());
        let logs = paths.filter(|path| path.extension().is_some_and(|ext| ext == "log"));
        logs.max().expect("a log")
    }

    /// What the program says when it cannot start.
    fn refuses(&self, more: &[&str]) -> Said {
        Said::of(&mut self.start(more))
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.killed();
    }
}

/// Whether so much is there, but for some nanoTON that the storage of the seconds between costs.
fn holds(balance: u64, nanoton: u64) -> bool {
    (nanoton - 100..=nanoton).contains(&balance)
}

fn change(path: &Path, with: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = std::fs::read(path).expect("file");
    with(&mut bytes);
    std::fs::write(path, bytes).expect("file");
}

#[test]
fn a_torn_record_costs_what_was_never_answered() {
    let mut site = Site::new();
    site.starts(&[]);
    site.gives(7);
    site.killed();
    // A write that was cut short: a head that promises more than there is.
    change(&site.log(), |bytes| bytes.extend_from_slice(&[0, 0, 0, 9, 1, 2, 3]));
    site.starts(&[]);
    assert_eq!(site.balance(), 7_000_000_000);
    let log = std::fs::read_to_string(site.home.path().join("log")).expect("log");
    assert!(log.contains("the torn end of the log is cut off"), "{log}");
    // The last record itself, torn: it goes, what was before stays.
    site.gives(1);
    site.killed();
    change(&site.log(), |bytes| bytes.truncate(bytes.len() - 5));
    site.starts(&[]);
    // It is executed again, a moment later.
    assert!(holds(site.balance(), 8_000_000_000), "{}", site.balance());
    site.gives(2);
}

#[test]
fn a_damaged_record_is_refused_with_its_place_until_repair_is_asked_for() {
    let mut site = Site::new();
    site.starts(&[]);
    site.gives(7);
    let height = site.state().expect("state");
    site.killed();
    let log = site.log();
    let kept = std::fs::read(&log).expect("log");
    // The first record's checksum; everything was confirmed to somebody.
    change(&log, |bytes| bytes[5] ^= 0x10);
    let said = site.refuses(&[]);
    assert_eq!(said.code, 1, "{}", said.err);
    let place = format!("{} is damaged at byte 0, after 0 good records", log.display());
    for part in [place.as_str(), "checksum", "start with repair"] {
        assert!(said.err.contains(part), "{part:?} is not in {}", said.err);
    }
    assert!(said.err.contains("--repair"), "{}", said.err);
    assert_ne!(std::fs::read(&log).expect("log"), kept, "nothing is mended unasked");

    site.starts(&["--repair"]);
    let after = site.state().expect("state");
    assert!(after["seqno"].as_u64() < height["seqno"].as_u64() || site.balance() == 0);
    let aside = PathBuf::from(format!("{}.damaged", log.display()));
    assert_eq!(std::fs::read(aside).expect("the damaged file").len(), kept.len());
    site.gives(3);
    site.killed();
    site.starts(&[]);
    assert!(holds(site.balance(), 3_000_000_000), "{}", site.balance());
}

#[test]
fn a_damaged_snapshot_is_named() {
    let mut site = Site::new();
    site.starts(&[]);
    site.killed();
    let snapshot = site.log().with_extension("snapshot");
    change(&snapshot, |bytes| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
    });
    let said = site.refuses(&["--repair"]);
    assert_eq!(said.code, 1, "{}", said.err);
    let place = format!("{} is damaged", snapshot.display());
    for part in [place.as_str(), "checksum", "move it away to begin a new chain"] {
        assert!(said.err.contains(part), "{part:?} is not in {}", said.err);
    }
}
