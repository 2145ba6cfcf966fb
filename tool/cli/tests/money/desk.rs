//! A person at a terminal: the real program, a real local chain behind real sockets.

use cocoon_chain::{LocalNode, NodeConfig, ServeConfig, Serving};
use cocoon_localchain::Genesis;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// When every chain of these tests begins, Unix milliseconds.
const BEGIN_MS: u64 = 1_790_000_000_000;
/// Words of `testdata/wallet/mnemonics.json`; every test's wallet is deterministic.
pub(crate) const WORDS: &str = include_str!("../../../../testdata/wallet/mnemonics.json");

pub(crate) struct Desk {
    home: TempDir,
    node: LocalNode,
    url: String,
    stop: Arc<AtomicBool>,
    clock: Option<std::thread::JoinHandle<()>>,
    _runtime: tokio::runtime::Runtime,
}

/// What the program said.
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Said {
    pub(crate) fn of(command: &mut Command) -> Self {
        let output = command.stdin(Stdio::null()).output().expect("the program runs");
        Self {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8(output.stdout).expect("text"),
            err: String::from_utf8(output.stderr).expect("text"),
        }
    }

    pub(crate) fn json(&self) -> Value {
        assert_eq!(self.code, 0, "{}{}", self.out, self.err);
        serde_json::from_str(&self.out).unwrap_or_else(|fault| panic!("{fault}: {}", self.out))
    }

    /// One sentence, exit code 2, nothing on standard output: how a user's mistake looks.
    pub(crate) fn mistake(&self, says: &str) {
        assert_eq!(self.code, 2, "{}{}", self.out, self.err);
        assert_eq!(self.out, "");
        assert!(self.err.starts_with("cocoon: ") && self.err.lines().count() == 1, "{}", self.err);
        assert!(self.err.contains(says), "{:?} does not say {says:?}", self.err);
    }
}

impl Desk {
    /// A chain whose blocks come every 20 ms while its clock stands still, so that outcomes are
    /// the same to the nanoton whenever they are computed.
    pub(crate) fn new() -> Self {
        let home = tempfile::tempdir().expect("directory");
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("runtime");
        let genesis = Genesis::new([7; 32], BEGIN_MS);
        let node = NodeConfig { genesis, directory: None, beat_ms: 0, repair: false };
        let http = "127.0.0.1:0".parse().expect("address");
        let config = ServeConfig { node, http, lite: None };
        let serving = runtime.block_on(Serving::start(&config)).expect("chain");
        let (node, url) = (serving.node.clone(), format!("http://{}", serving.http));
        // Serves until the runtime is gone.
        std::mem::forget(serving);
        let stop = Arc::new(AtomicBool::new(false));
        let clock = std::thread::spawn({
            let (node, stop) = (node.clone(), stop.clone());
            move || {
                while !stop.load(Ordering::Relaxed) {
                    node.advance(0).expect("a block");
                    std::thread::sleep(Duration::from_millis(20));
                }
            }
        });
        std::fs::write(home.path().join("passphrase"), "correct horse battery\n").expect("file");
        Self { home, node, url, stop, clock: Some(clock), _runtime: runtime }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    pub(crate) fn text(&self, path: &Path) -> String {
        path.display().to_string()
    }

    /// Lets time pass on the chain.
    pub(crate) fn wait(&self, seconds: u64) {
        self.node.advance(seconds * 1000).expect("a block");
    }

    /// Runs the program; nobody sits at its standard input.
    pub(crate) fn run(&self, arguments: &[&str]) -> Said {
        Said::of(
            Command::new(env!("CARGO_BIN_EXE_cocoon"))
                .args(arguments)
                .env_clear()
                .env("HOME", self.home.path())
                .env("COCOON_CHAIN", &self.url)
                .env("COCOON_PASSPHRASE_FILE", self.path("passphrase")),
        )
    }

    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let mut all = arguments.to_vec();
        all.push("--json");
        self.run(&all).json()
    }

    /// Imports the wallet with number `index` of the vectors and gives it coins.
    pub(crate) fn wallet(&self, name: &str, index: usize, ton: u64) -> Value {
        let vectors: Value = serde_json::from_str(WORDS).expect("JSON");
        let words = vectors["wallets"][index]["words"].as_str().expect("words");
        let file = self.path(&format!("{name}.words"));
        std::fs::write(&file, words).expect("file");
        let made = self.json(&["wallet", "import", name, "--words-file", &self.text(&file)]);
        if ton > 0 {
            self.json(&["chain", "faucet", name, &ton.to_string()]);
            self.until(|| {
                let shown = self.json(&["wallet", "show", name]);
                shown["balance_nanoton"] == ton * 1_000_000_000
            });
        }
        made
    }

    /// Waits for something that happens with the next blocks.
    pub(crate) fn until(&self, happened: impl Fn() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !happened() {
            assert!(Instant::now() < deadline, "it did not happen within 60 s");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Compares with `tests/snapshots/NAME.txt`; `COCOON_SNAPSHOTS=write` writes it.
    pub(crate) fn snapshot(&self, name: &str, text: &str) {
        // How many blocks were made meanwhile is the machine's to say.
        let lines = text.split('\n').map(|line| match line.strip_prefix("block  ") {
            Some(_) => "block         N",
            None => line,
        });
        let text = lines.collect::<Vec<_>>().join("\n");
        snapshot(name, &text.replace(&self.text(self.home.path()), "HOME"));
    }
}

/// Compares with `tests/snapshots/NAME.txt`; `COCOON_SNAPSHOTS=write` writes it.
pub(crate) fn snapshot(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/snapshots/{name}.txt"));
    if std::env::var_os("COCOON_SNAPSHOTS").is_some_and(|how| how == "write") {
        std::fs::write(&path, text).expect("snapshot");
        return;
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(text, expected, "{name} changed: COCOON_SNAPSHOTS=write, and review it");
}

impl Drop for Desk {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(clock) = self.clock.take() {
            let _ = clock.join();
        }
    }
}
