//! Measures the path through a network against the direct way to the model server.
//!
//! Starts a mock model server and a network as child processes, runs the load over both, one
//! after the other, and reads what the nodes cost from `/proc`. The tables it prints are those of
//! `bench/README.md`.

mod ask;
mod child;
mod matrix;
mod network;
mod recovery;
mod table;

pub use matrix::{Cell, Cost, Load, Side};
pub use network::Plan;
pub use recovery::Recovery;

use crate::load::{Reuse, Shape};
use child::MockChild;
use matrix::Matrix;
use network::Network;
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use thiserror::Error;

/// Between the events of a stream that flows like a model's: 50 tokens a second.
const PACE: Duration = Duration::from_millis(20);

/// What to measure.
#[derive(Clone, Debug)]
pub struct Options {
    /// The network.
    pub plan: Plan,
    /// The `cocoon-bench` program, which is started again as the mock.
    pub mock_program: PathBuf,
    /// Where the mock listens; port 0 takes any free one.
    pub mock_listen: SocketAddr,
    /// Numbers of connections.
    pub connections: Vec<usize>,
    /// Numbers of streams that flow at the pace of a model, over kept connections.
    pub paced: Vec<usize>,
    /// What is asked for.
    pub shapes: Vec<Shape>,
    /// How connections are used.
    pub reuses: Vec<Reuse>,
    /// How long each run counts.
    pub duration: Duration,
    /// How long each run goes before it counts.
    pub warm_up: Duration,
    /// Runs of each cell; the one with the median rate is reported.
    pub runs: usize,
    /// How many times the network is started to measure its start. At least once.
    pub starts: usize,
    /// How many times the proxy is killed.
    pub kills: usize,
    /// Model to ask for; the first one the network lists when empty.
    pub model: String,
    /// API key of the gateway, if it wants one.
    pub key: Option<String>,
}

/// A measurement that cannot go on. Nothing is left running.
#[derive(Debug, Error)]
pub enum Fault {
    /// Environment: a program cannot be started.
    #[error("cannot start {what}: {source}")]
    Start {
        /// Which.
        what: String,
        /// Why not.
        source: std::io::Error,
    },
    /// A program ended when it should run.
    #[error("{what} ended, {status}; its last words:\n{log}")]
    Ended {
        /// Which.
        what: String,
        /// How.
        status: std::process::ExitStatus,
        /// End of its output.
        log: String,
    },
    /// A network that gave no answer in time.
    #[error("{what} within {limit:?}: {last}\n{log}")]
    NotReady {
        /// What did not happen.
        what: &'static str,
        /// How long it was waited for.
        limit: Duration,
        /// What came instead.
        last: String,
        /// End of the network's output.
        log: String,
    },
    /// The mock's first line is not its address.
    #[error("the mock did not say where it listens")]
    Mock,
    /// Configuration: the file that describes the network.
    #[error("{path}: {reason}")]
    Nodes {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The load could not be made.
    #[error(transparent)]
    Load(#[from] crate::load::Fault),
    /// The report could not be written, or a file of the measurement.
    #[error("cannot write: {0}")]
    Write(#[from] std::io::Error),
}

/// Everything that was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Results {
    /// The machine and the day.
    pub machine: String,
    /// From the start of the first process to the first answer, each time.
    pub starts: Vec<Duration>,
    /// Memory of each role before any load, bytes.
    pub idle_bytes: BTreeMap<String, u64>,
    /// The matrix.
    pub cells: Vec<Cell>,
    /// Streams at the pace of a model.
    pub paced: Vec<Cell>,
    /// Memory of each role after all load, bytes.
    pub after_bytes: BTreeMap<String, u64>,
    /// What happened when the proxy was killed.
    pub recoveries: Vec<Recovery>,
}

/// Measures all of it and prints Markdown to `out` as it goes.
///
/// # Errors
/// [`Fault`]; what was measured until then has been printed.
pub fn run(options: &Options, out: &mut impl Write) -> Result<Results, Fault> {
    let mock = MockChild::start(&options.mock_program, options.mock_listen)?;
    let mut results = Results {
        machine: crate::machine::line(),
        starts: Vec::new(),
        idle_bytes: BTreeMap::new(),
        cells: Vec::new(),
        paced: Vec::new(),
        after_bytes: BTreeMap::new(),
        recoveries: Vec::new(),
    };
    writeln!(out, "Machine: {}.\n", results.machine)?;
    let mut network = Network::start(options, &mock.url())?;
    results.starts.push(network.started_in());
    while results.starts.len() < options.starts {
        network.end();
        network = Network::start(options, &mock.url())?;
        results.starts.push(network.started_in());
    }
    // Memory that the start took and gave back settles within the second.
    std::thread::sleep(Duration::from_secs(1));
    results.idle_bytes = network.resident_bytes();
    table::start(out, &results)?;

    let matrix = Matrix { options, mock: &mock, network: &network };
    for reuse in &options.reuses {
        let mut cells = Vec::new();
        for shape in &options.shapes {
            for connections in &options.connections {
                let load = Load { shape: *shape, reuse: *reuse, connections: *connections };
                cells.push(matrix.cell(load, Duration::ZERO)?);
            }
        }
        table::cells(out, *reuse, &cells)?;
        results.cells.append(&mut cells);
    }
    for connections in &options.paced {
        let load =
            Load { shape: Shape::Stream, reuse: Reuse::KeepAlive, connections: *connections };
        results.paced.push(matrix.cell(load, PACE)?);
    }
    table::paced(out, &results.paced)?;
    results.after_bytes = network.resident_bytes();
    table::memory(out, &results)?;
    for _ in 0..options.kills {
        results.recoveries.push(recovery::kill_proxy(&mut network)?);
    }
    table::recoveries(out, &results)?;
    network.end();
    Ok(results)
}
