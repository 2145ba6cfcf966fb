//! What can be typed.

use anyhow::{Context as _, Result};
use clap::{Args, Parser, Subcommand, ValueEnum};
use cocoon_bench::load::{self, Reuse, Shape};
use cocoon_bench::{mock, path};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Measures the path through a Cocoon network.
#[derive(Debug, Parser)]
#[command(name = "cocoon-bench", version, propagate_version = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve prepared answers like a model server. Prints {"listen":"ADDRESS"} when ready.
    Mock(MockArguments),
    /// Put load on an OpenAI-compatible server.
    Load(LoadArguments),
    /// Start a mock and a network, measure both ways, print Markdown tables.
    Path(PathArguments),
    /// Measure signed payments and proven accounts on one core.
    Money(MoneyArguments),
}

#[derive(Debug, Args)]
pub(crate) struct MoneyArguments {
    /// How long each is measured.
    #[arg(long, short, default_value_t = 3.0)]
    seconds: f64,
    /// How to print the result.
    #[arg(long, value_enum, default_value = "table")]
    pub(crate) format: Format,
}

impl MoneyArguments {
    pub(crate) fn patience(&self) -> Duration {
        seconds(self.seconds)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Table,
    Json,
}

#[derive(Debug, Args)]
pub(crate) struct MockArguments {
    /// Where to listen; port 0 takes any free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Threads that serve.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Model to list; may be repeated. Any name is answered.
    #[arg(long = "model", default_value = "mock")]
    models: Vec<String>,
    /// Events of a stream.
    #[arg(long, default_value_t = 50)]
    events: usize,
    /// Size of an event, bytes.
    #[arg(long, default_value_t = 128)]
    event_bytes: usize,
    /// Text of an answer that is no stream, bytes.
    #[arg(long, default_value_t = 64)]
    answer_bytes: usize,
    /// Pause before each event, milliseconds.
    #[arg(long, default_value_t = 0.0)]
    gap_ms: f64,
    /// How events are written.
    #[arg(long, value_enum, default_value_t)]
    style: mock::Style,
    /// End when standard input closes.
    #[arg(long, hide = true)]
    pub(crate) with_parent: bool,
}

impl From<MockArguments> for mock::Options {
    fn from(arguments: MockArguments) -> Self {
        Self {
            listen: arguments.listen,
            threads: arguments.threads,
            models: arguments.models,
            events: arguments.events,
            event_bytes: arguments.event_bytes,
            answer_bytes: arguments.answer_bytes,
            gap: seconds(arguments.gap_ms / 1e3),
            style: arguments.style,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct LoadArguments {
    /// The server: http://host:port.
    #[arg(long)]
    url: String,
    /// Requests in flight.
    #[arg(long, short, default_value_t = 1)]
    connections: usize,
    /// How long results count.
    #[arg(long, short, default_value_t = 5.0)]
    seconds: f64,
    /// How long the load runs before that, seconds; 0.5 when left out, or 0 with --requests.
    #[arg(long)]
    warm_up: Option<f64>,
    /// End after so many requests, if that comes first.
    #[arg(long)]
    requests: Option<u64>,
    /// Ask the mock for this pause before each event, milliseconds.
    #[arg(long, default_value_t = 0)]
    pace_ms: u32,
    /// What to ask for.
    #[arg(long, value_enum, default_value = "stream")]
    mode: Shape,
    /// Make a new TCP connection for every request.
    #[arg(long)]
    new_connection: bool,
    /// Model to ask for.
    #[arg(long, default_value = "mock")]
    model: String,
    /// API key.
    #[arg(long, env = "COCOON_API_KEY", hide_env_values = true)]
    key: Option<String>,
    /// A request that takes longer is an error, seconds.
    #[arg(long, default_value_t = 20.0)]
    timeout: f64,
    /// Pause of a connection after a refusal, milliseconds.
    #[arg(long, default_value_t = 5)]
    refusal_pause_ms: u64,
    /// How to print the result.
    #[arg(long, value_enum, default_value = "table")]
    pub(crate) format: Format,
}

impl From<LoadArguments> for load::Options {
    fn from(arguments: LoadArguments) -> Self {
        let reuse = if arguments.new_connection { Reuse::NewConnection } else { Reuse::KeepAlive };
        Self {
            url: arguments.url,
            connections: arguments.connections,
            duration: seconds(arguments.seconds),
            warm_up: seconds(arguments.warm_up.unwrap_or(if arguments.requests.is_some() {
                0.0
            } else {
                0.5
            })),
            requests: arguments.requests,
            shape: arguments.mode,
            pace: Duration::from_millis(arguments.pace_ms.into()),
            reuse,
            model: arguments.model,
            key: arguments.key.filter(|key| !key.is_empty()),
            timeout: seconds(arguments.timeout),
            refusal_pause: Duration::from_millis(arguments.refusal_pause_ms),
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct PathArguments {
    /// The `cocoon` program; the one beside this program when left out.
    #[arg(long)]
    cocoon: Option<PathBuf>,
    /// Workers that `cocoon up` starts.
    #[arg(long, default_value_t = 1)]
    workers: u16,
    /// Further argument for `cocoon up`; may be repeated.
    #[arg(long = "up", value_name = "ARGUMENT", allow_hyphen_values = true)]
    up_arguments: Vec<String>,
    /// Measure the nodes of this TOML file instead of `cocoon up`; see bench/README.md.
    #[arg(long, conflicts_with = "cocoon")]
    nodes: Option<PathBuf>,
    /// Where the mock listens.
    #[arg(long, default_value = "127.0.0.1:0")]
    mock_listen: SocketAddr,
    /// A short version: 1, 30 and 100 connections, 2 seconds, one run, one start, one kill.
    #[arg(long)]
    quick: bool,
    /// Numbers of connections.
    #[arg(long, short, value_delimiter = ',')]
    connections: Option<Vec<usize>>,
    /// Numbers of streams that flow at 50 events a second; none to leave them out.
    #[arg(long, value_delimiter = ',', num_args = 0..)]
    paced: Option<Vec<usize>>,
    /// What to ask for; both when left out.
    #[arg(long, value_enum)]
    mode: Option<Shape>,
    /// How to use connections; both ways when left out.
    #[arg(long, value_enum)]
    reuse: Option<Reuse>,
    /// How long each run counts.
    #[arg(long, short)]
    seconds: Option<f64>,
    /// How long each run goes before it counts, seconds.
    #[arg(long, default_value_t = 0.5)]
    warm_up: f64,
    /// Runs of each cell; the median one is reported.
    #[arg(long)]
    runs: Option<usize>,
    /// Starts of the network.
    #[arg(long)]
    starts: Option<usize>,
    /// Kills of the proxy.
    #[arg(long)]
    kills: Option<usize>,
    /// Model to ask for; the first one listed when left out.
    #[arg(long, default_value = "")]
    model: String,
    /// API key of the gateway.
    #[arg(long, env = "COCOON_API_KEY", hide_env_values = true)]
    key: Option<String>,
    /// Write everything that was measured to this file too.
    #[arg(long)]
    pub(crate) json: Option<PathBuf>,
}

impl PathArguments {
    pub(crate) fn options(self) -> Result<path::Options> {
        let own = std::env::current_exe().context("cannot find this program's own file")?;
        let plan = match self.nodes {
            Some(file) => path::Plan::Nodes(file),
            None => {
                let program = self.cocoon.unwrap_or_else(|| own.with_file_name("cocoon"));
                anyhow::ensure!(
                    program.is_file(),
                    "{} is not there: build it with `cargo build --release --bin cocoon`",
                    program.display()
                );
                path::Plan::Up { program, workers: self.workers, arguments: self.up_arguments }
            }
        };
        let (connections, length, runs) =
            if self.quick { (vec![1, 30, 100], 2.0, 1) } else { (ALL.to_vec(), 5.0, 3) };
        let times = if self.quick { 1 } else { 5 };
        let paced = if self.quick { vec![30] } else { ALL.to_vec() };
        Ok(path::Options {
            plan,
            mock_program: own,
            mock_listen: self.mock_listen,
            connections: self.connections.unwrap_or(connections),
            paced: self.paced.unwrap_or(paced),
            shapes: self.mode.map_or(vec![Shape::Stream, Shape::Small], |shape| vec![shape]),
            reuses: self
                .reuse
                .map_or(vec![Reuse::NewConnection, Reuse::KeepAlive], |reuse| vec![reuse]),
            duration: seconds(self.seconds.unwrap_or(length)),
            warm_up: seconds(self.warm_up),
            runs: self.runs.unwrap_or(runs),
            starts: self.starts.unwrap_or(times),
            kills: self.kills.unwrap_or(times),
            model: self.model,
            key: self.key.filter(|key| !key.is_empty()),
        })
    }
}

/// Numbers of connections that are measured.
const ALL: [usize; 6] = [1, 10, 30, 100, 300, 1000];

/// Seconds typed by a user: no number and negative ones are zero, a year is the longest.
fn seconds(typed: f64) -> Duration {
    Duration::from_secs_f64(typed.clamp(0.0, 31_536_000.0).max(0.0))
}
