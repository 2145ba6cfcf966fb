//! A child process: one node of the local network.

use anyhow::{Context as _, Result};
use std::fs::OpenOptions;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::process::{Child, ChildStdin, Command};

/// What to start.
#[derive(Clone, Debug)]
pub(crate) struct Recipe {
    /// Name for people and for the log file: `proxy`, `worker-1`.
    pub(crate) name: String,
    /// Arguments of this program.
    pub(crate) arguments: Vec<String>,
    /// Where its output goes.
    pub(crate) log: PathBuf,
}

/// A running child. It ends when the pipe to its standard input closes, so it never outlives this
/// process, however this one ends.
pub(crate) struct Running {
    pub(crate) recipe: Recipe,
    child: Child,
    stdin: Option<ChildStdin>,
}

impl Running {
    pub(crate) fn start(recipe: Recipe) -> Result<Self> {
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&recipe.log)
            .with_context(|| format!("cannot write {}", recipe.log.display()))?;
        let program = std::env::current_exe().context("cannot find this program's own file")?;
        let mut child = Command::new(program)
            .args(&recipe.arguments)
            .arg("--with-parent")
            // Several nodes share this machine: one thread each wastes no time on hand-overs.
            .args(["--node-threads", "1"])
            // Read by the engine's thread library before `main`.
            .envs(cocoon_engine::PROCESS_ENVIRONMENT.iter().copied())
            .stdin(Stdio::piped())
            .stdout(log.try_clone().context("cannot share the log file")?)
            .stderr(log)
            .kill_on_drop(true)
            // Ctrl-C goes to the terminal's whole group. The nodes stand outside of it, so that
            // they end in order, when this process asks them to.
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {}", recipe.name))?;
        let stdin = child.stdin.take();
        Ok(Self { recipe, child, stdin })
    }

    /// Process id, while it runs.
    pub(crate) fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Waits for its end.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        self.child.wait().await.unwrap_or_default()
    }

    /// Asks it to end and waits; after `grace` it is killed. True when it ended by itself.
    pub(crate) async fn end(mut self, grace: Duration) -> bool {
        drop(self.stdin.take());
        if tokio::time::timeout(grace, self.child.wait()).await.is_ok() {
            return true;
        }
        let _ = self.child.kill().await;
        false
    }

    /// The last lines of its log, for an error message.
    pub(crate) fn last_words(&self, lines: usize) -> String {
        let text = std::fs::read_to_string(&self.recipe.log).unwrap_or_default();
        let mut last: Vec<&str> = text.lines().rev().take(lines).collect();
        last.reverse();
        last.join("\n")
    }
}
