//! Child processes: nodes and the mock.

use super::Fault;
use super::ask::Endpoint;
use crate::mock::Counts;
use crate::process::Process;
use serde::Deserialize;
use std::fs::OpenOptions;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How long a child may take to end when asked to, before it is killed.
const END_LIMIT: Duration = Duration::from_secs(6);
/// Lines of a log that are worth showing.
const LAST_WORDS: usize = 15;

/// A child whose output goes to a file. Ends with this value at the latest.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) name: String,
    command: Vec<String>,
    log: PathBuf,
    child: Child,
}

impl Node {
    pub(crate) fn start(name: &str, command: &[String], log: &Path) -> Result<Self, Fault> {
        let fault = |source| Fault::Start { what: name.to_owned(), source };
        let file = OpenOptions::new().create(true).append(true).open(log).map_err(fault)?;
        let (program, arguments) =
            command.split_first().ok_or_else(|| fault(std::io::ErrorKind::InvalidInput.into()))?;
        let child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(file.try_clone().map_err(fault)?)
            .stderr(file)
            .spawn()
            .map_err(|source| Fault::Start { what: format!("{name} ({program})"), source })?;
        let (name, command, log) = (name.to_owned(), command.to_vec(), log.to_owned());
        Ok(Self { name, command, log, child })
    }

    /// Starts it again after it was killed.
    pub(crate) fn again(&mut self) -> Result<(), Fault> {
        let _ = self.child.wait();
        let next = Self::start(&self.name, &self.command, &self.log)?;
        *self = next;
        Ok(())
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Set once it has ended.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    pub(crate) fn last_words(&self) -> String {
        let text = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let mut lines: Vec<&str> = text.lines().rev().take(LAST_WORDS).collect();
        lines.reverse();
        lines.join("\n")
    }

    /// Asks it to end, waits, kills it if it must. Returns how long that took.
    pub(crate) fn end(&mut self) -> Duration {
        let begin = Instant::now();
        if self.ended().is_none()
            && let Some(process) = Process::read(self.id())
            && process.signal("TERM")
        {
            while self.ended().is_none() && begin.elapsed() < END_LIMIT {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        if self.ended().is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        begin.elapsed()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.end();
    }
}

/// The mock in a process of its own, so that its cost can be told from the generator's. It ends
/// when its standard input closes, so it cannot outlive this process.
#[derive(Debug)]
pub(crate) struct MockChild {
    address: SocketAddr,
    child: Child,
    _stdin: Option<ChildStdin>,
}

#[derive(Deserialize)]
struct Hello {
    listen: SocketAddr,
}

impl MockChild {
    pub(crate) fn start(program: &Path, listen: SocketAddr) -> Result<Self, Fault> {
        let mut child = Command::new(program)
            .args(["mock", "--with-parent", "--listen", &listen.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|source| Fault::Start { what: program.display().to_string(), source })?;
        let stdin = child.stdin.take();
        let mut line = String::new();
        if let Some(stdout) = child.stdout.take() {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        let hello: Hello = serde_json::from_str(&line).map_err(|_| Fault::Mock)?;
        Ok(Self { address: hello.listen, child, _stdin: stdin })
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn process(&self) -> Option<Process> {
        Process::read(self.child.id())
    }

    pub(crate) fn counts(&self) -> Result<Counts, Fault> {
        let endpoint = Endpoint { url: self.url(), key: None };
        let (_, body) = endpoint.ask("/counts", None, Duration::from_secs(5))?;
        serde_json::from_slice(&body).map_err(|_| Fault::Mock)
    }
}

impl Drop for MockChild {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
