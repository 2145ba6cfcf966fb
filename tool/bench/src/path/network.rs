//! The network that is measured.

use super::ask::Endpoint;
use super::child::Node;
use super::{Fault, Options};
use crate::process::Process;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long a network may take to give its first answer.
const START_LIMIT: Duration = Duration::from_secs(60);
/// Pause between two looks at a network that starts: short against what is measured, long enough
/// not to take the processor away from it.
const LOOK_PAUSE: Duration = Duration::from_millis(5);
/// Longest time between the end of a process and the word that it ended.
const GONE_IN: Duration = Duration::from_secs(5);
/// What the `cocoon` program calls its parts.
const ROLES: [&str; 5] = ["gateway", "proxy", "worker", "chain", "engine"];

/// How to start a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plan {
    /// `cocoon up` with a fresh data directory and the mock as its model server.
    Up {
        /// The `cocoon` program.
        program: PathBuf,
        /// Workers.
        workers: u16,
        /// Further arguments.
        arguments: Vec<String>,
    },
    /// Nodes from a TOML file, to measure other networks, the reference's too:
    ///
    /// ```toml
    /// endpoint = "http://127.0.0.1:10000"       # the gateway
    /// [[node]]
    /// name = "proxy"                            # its role; several may share one
    /// command = ["cocoon", "proxy", "--config", "proxy.toml"]
    /// ready = "http://127.0.0.1:10001/ready"    # waited for before the next one, if given
    /// ```
    ///
    /// `{engine}` in a command stands for the mock's address, `http://127.0.0.1:PORT`.
    Nodes(PathBuf),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NodesFile {
    endpoint: String,
    node: Vec<NodeEntry>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NodeEntry {
    name: String,
    command: Vec<String>,
    ready: Option<String>,
}

/// A running network. Ends with this value at the latest.
#[derive(Debug)]
pub(crate) struct Network {
    /// In the order of their start; dropped before their directory.
    nodes: Vec<Node>,
    endpoint: Endpoint,
    model: String,
    started_in: Duration,
    supervised: bool,
    _dir: TempDir,
}

impl Network {
    /// Starts it and waits for its first answer.
    pub(crate) fn start(options: &Options, engine: &str) -> Result<Self, Fault> {
        let dir = TempDir::with_prefix("cocoon-bench-")?;
        let begin = Instant::now();
        let (url, entries) = match &options.plan {
            Plan::Up { program, workers, arguments } => {
                up(program, *workers, arguments, engine, dir.path())?
            }
            Plan::Nodes(file) => read_nodes(file, engine)?,
        };
        let mut network = Self {
            nodes: Vec::new(),
            endpoint: Endpoint { url, key: options.key.clone() },
            model: options.model.clone(),
            started_in: Duration::ZERO,
            supervised: matches!(options.plan, Plan::Up { .. }),
            _dir: dir,
        };
        for (at, entry) in entries.iter().enumerate() {
            let log = network._dir.path().join(format!("{}-{at}.log", entry.name));
            network.nodes.push(Node::start(&entry.name, &entry.command, &log)?);
            if let Some(url) = &entry.ready {
                network.wait_for("a node did not become ready", |_| answers(url))?;
            }
        }
        if network.model.is_empty() {
            network.wait_for("no model was listed", |network| {
                match network.endpoint.first_model(START_LIMIT) {
                    Ok(Some(model)) => {
                        network.model = model;
                        Ok(())
                    }
                    Ok(None) => Err("an empty list".into()),
                    Err(fault) => Err(fault.to_string()),
                }
            })?;
        }
        network.wait_for("no answer came", |network| {
            match network.endpoint.chat(&network.model, START_LIMIT) {
                Ok(200) => Ok(()),
                Ok(status) => Err(format!("status {status}")),
                Err(fault) => Err(fault.to_string()),
            }
        })?;
        network.started_in = begin.elapsed();
        Ok(network)
    }

    /// Looks again and again until what is waited for is there.
    fn wait_for(
        &mut self,
        what: &'static str,
        mut look: impl FnMut(&mut Self) -> Result<(), String>,
    ) -> Result<(), Fault> {
        let begin = Instant::now();
        loop {
            let Err(last) = look(self) else { return Ok(()) };
            for node in &mut self.nodes {
                if let Some(status) = node.ended() {
                    let log = node.last_words();
                    return Err(Fault::Ended { what: node.name.clone(), status, log });
                }
            }
            if begin.elapsed() > START_LIMIT {
                let log: Vec<String> = self.nodes.iter().map(Node::last_words).collect();
                let log = log.join("\n");
                return Err(Fault::NotReady { what, limit: START_LIMIT, last, log });
            }
            std::thread::sleep(LOOK_PAUSE);
        }
    }

    /// From the start of its first process to its first answer.
    pub(crate) fn started_in(&self) -> Duration {
        self.started_in
    }

    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    pub(crate) fn model(&self) -> &str {
        &self.model
    }

    /// Its processes with their roles.
    pub(crate) fn processes(&self) -> Vec<(String, Process)> {
        let mut found = Vec::new();
        for node in &self.nodes {
            found.extend(Process::read(node.id()).map(|process| (node.name.clone(), process)));
            for process in Process::descendants(node.id()) {
                let role = role(&process.arguments).unwrap_or(&node.name);
                found.push((role.to_owned(), process));
            }
        }
        found
    }

    /// Memory of each role, bytes.
    pub(crate) fn resident_bytes(&self) -> BTreeMap<String, u64> {
        let mut sums = BTreeMap::new();
        for (role, process) in self.processes() {
            *sums.entry(role).or_default() += process.resident_bytes;
        }
        sums
    }

    /// Starts the nodes of a role again, where the network does not do that by itself.
    pub(crate) fn revive(&mut self, role: &str) -> Result<(), Fault> {
        if self.supervised {
            return Ok(());
        }
        let began = Instant::now();
        // Its last thread may end a moment after its first, with which it looks gone.
        let mut has_ended = |node: &mut Node| node.name == role && node.ended().is_some();
        while !self.nodes.iter_mut().any(&mut has_ended) && began.elapsed() < GONE_IN {
            std::thread::yield_now();
        }
        let dead = self.nodes.iter_mut().filter(|node| node.name == role);
        for node in dead {
            if node.ended().is_some() {
                node.again()?;
            }
        }
        Ok(())
    }

    /// Ends all processes, the last one started first.
    pub(crate) fn end(&mut self) {
        while let Some(mut node) = self.nodes.pop() {
            node.end();
        }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.end();
    }
}

/// The role that a process of the `cocoon` program plays, by its arguments.
fn role(arguments: &[String]) -> Option<&'static str> {
    let first = arguments.get(1)?;
    ROLES.into_iter().find(|role| role == first)
}

fn up(
    program: &Path,
    workers: u16,
    further: &[String],
    engine: &str,
    dir: &Path,
) -> Result<(String, Vec<NodeEntry>), Fault> {
    // Free at this moment; nobody else on a measuring machine takes it in the next one.
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let mut command = vec![program.display().to_string(), "up".into(), "--fresh".into()];
    for (name, value) in [
        ("--engine", engine.to_owned()),
        ("--workers", workers.to_string()),
        ("--data-dir", dir.join("data").display().to_string()),
        ("--port", port.to_string()),
    ] {
        command.extend([name.to_owned(), value]);
    }
    command.extend_from_slice(further);
    let node = NodeEntry { name: "up".into(), command, ready: None };
    Ok((format!("http://127.0.0.1:{port}"), vec![node]))
}

fn read_nodes(path: &Path, engine: &str) -> Result<(String, Vec<NodeEntry>), Fault> {
    let fault = |reason: String| Fault::Nodes { path: path.to_owned(), reason };
    let text = std::fs::read_to_string(path).map_err(|wrong| fault(wrong.to_string()))?;
    let file: NodesFile = toml::from_str(&text).map_err(|wrong| fault(wrong.to_string()))?;
    let mut nodes = file.node;
    if nodes.iter().any(|node| node.command.is_empty()) {
        return Err(fault("a node without a command".into()));
    }
    for argument in nodes.iter_mut().flat_map(|node| &mut node.command) {
        *argument = argument.replace("{engine}", engine);
    }
    Ok((file.endpoint, nodes))
}

/// Whether a page answers with 200.
fn answers(url: &str) -> Result<(), String> {
    let rest = url.trim_start_matches("http://");
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let page = Endpoint { url: format!("http://{authority}"), key: None };
    match page.ask(&format!("/{path}"), None, START_LIMIT) {
        Ok((200, _)) => Ok(()),
        Ok((status, _)) => Err(format!("{url}: status {status}")),
        Err(fault) => Err(format!("{url}: {fault}")),
    }
}

#[cfg(test)]
mod tests {
    use super::{read_nodes, role};
    use crate::path::Fault;
    use std::io::Write as _;

    #[test]
    fn roles_are_read_from_arguments() {
        let arguments = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(role(&arguments("/a/cocoon proxy --config worker.toml")), Some("proxy"));
        assert_eq!(role(&arguments("/a/cocoon up --port 1")), None);
        assert_eq!(role(&[]), None);
    }

    #[test]
    fn nodes_come_from_a_file() {
        let read = |text: &str| {
            let mut file = tempfile::NamedTempFile::new().unwrap();
            file.write_all(text.as_bytes()).unwrap();
            read_nodes(file.path(), "http://127.0.0.1:5")
        };
        let (url, nodes) = read(
            "endpoint = \"http://127.0.0.1:1\"\n\
             [[node]]\nname = \"worker\"\ncommand = [\"w\", \"--to={engine}\"]\n",
        )
        .unwrap();
        assert_eq!(url, "http://127.0.0.1:1");
        assert_eq!(nodes[0].command, ["w", "--to=http://127.0.0.1:5"]);
        for wrong in ["", "endpoint = 1", "endpoint = \"a\"\n[[node]]\nname = \"b\"\ncommand = []"]
        {
            assert!(matches!(read(wrong), Err(Fault::Nodes { .. })), "{wrong}");
        }
    }
}
