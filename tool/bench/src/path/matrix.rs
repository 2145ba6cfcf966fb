//! The cells of the matrix: one load, direct and through the network.

use super::child::MockChild;
use super::network::Network;
use super::{Fault, Options};
use crate::load::{self, Report, Reuse, Shape};
use crate::process::{Process, machine_cpu};
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How long requests that a load left behind may take to end.
const SETTLE_LIMIT: Duration = Duration::from_secs(10);

/// What the generator does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Load {
    /// What is asked for.
    pub shape: Shape,
    /// How connections are used.
    pub reuse: Reuse,
    /// Requests in flight.
    pub connections: usize,
}

/// One load, measured both ways.
#[derive(Clone, Debug, Serialize)]
pub struct Cell {
    /// What the generator did.
    pub load: Load,
    /// Straight to the model server.
    pub direct: Side,
    /// Through the network.
    pub through: Side,
}

/// One way, measured.
#[derive(Clone, Debug, Serialize)]
pub struct Side {
    /// What the load generator saw.
    pub report: Report,
    /// Processor time of each role, the load generator (`load`) and the model server (`mock`), for
    /// each request that the model server got.
    pub cpu_per_request: BTreeMap<String, Duration>,
    /// Memory of each role at the end, bytes.
    pub resident_bytes: BTreeMap<String, u64>,
    /// Share of the machine's processor time that went to other programs. Above a few percent the
    /// numbers are not worth much.
    pub others_share: f64,
}

/// What a role cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Cost {
    /// Processor time so far.
    pub cpu: Duration,
    /// Memory, bytes.
    pub resident_bytes: u64,
}

/// Everything that the cells share.
pub(crate) struct Matrix<'a> {
    pub(crate) options: &'a Options,
    pub(crate) mock: &'a MockChild,
    pub(crate) network: &'a Network,
}

impl Matrix<'_> {
    /// Measures a cell: all its runs, direct and through the network in turns.
    pub(crate) fn cell(&self, load: Load, pace: Duration) -> Result<Cell, Fault> {
        let (mut direct, mut through) = (Vec::new(), Vec::new());
        for _ in 0..self.options.runs.max(1) {
            let endpoint = self.network.endpoint();
            direct.push(self.side(&self.mock.url(), load, pace)?);
            through.push(self.side(&endpoint.url, load, pace)?);
        }
        let (direct, through) = (median(direct), median(through));
        let missing = || Fault::Mock;
        Ok(Cell {
            load,
            direct: direct.ok_or_else(missing)?,
            through: through.ok_or_else(missing)?,
        })
    }

    fn side(
        &self,
        url: &str,
        Load { shape, reuse, connections }: Load,
        pace: Duration,
    ) -> Result<Side, Fault> {
        let mut load = load::Options::new(url, shape);
        load.connections = connections;
        load.reuse = reuse;
        load.pace = pace;
        load.duration = self.options.duration;
        load.warm_up = self.options.warm_up;
        load.model = self.network.model().to_owned();
        load.key = self.network.endpoint().key.clone();
        let before = self.moment()?;
        let report = load::run(&load)?;
        let after = self.moment()?;
        self.settle()?;
        Ok(side(report, &before, &after))
    }

    fn moment(&self) -> Result<Moment, Fault> {
        let mut costs: BTreeMap<String, Cost> = BTreeMap::new();
        let named = |name: &str, process: Option<Process>| process.map(|p| (name.to_owned(), p));
        let ends = [named("load", Process::own()), named("mock", self.mock.process())];
        for (role, process) in
            self.network.processes().into_iter().chain(ends.into_iter().flatten())
        {
            let cost = costs.entry(role).or_default();
            cost.cpu += process.cpu;
            cost.resident_bytes += process.resident_bytes;
        }
        Ok(Moment {
            at: Instant::now(),
            costs,
            machine: machine_cpu(),
            requests: self.mock.counts()?.requests,
        })
    }

    /// Waits until requests that were cut off at the end of a load are over, so that they are not
    /// in the way of the next one.
    fn settle(&self) -> Result<(), Fault> {
        let begin = Instant::now();
        let mut before = self.mock.counts()?;
        while begin.elapsed() < SETTLE_LIMIT {
            std::thread::sleep(Duration::from_millis(100));
            let now = self.mock.counts()?;
            if now.running == 0 && now.requests == before.requests {
                break;
            }
            before = now;
        }
        Ok(())
    }
}

struct Moment {
    at: Instant,
    costs: BTreeMap<String, Cost>,
    machine: Duration,
    requests: u64,
}

fn side(report: Report, before: &Moment, after: &Moment) -> Side {
    let requests = after.requests.saturating_sub(before.requests).max(1);
    let mut ours = Duration::ZERO;
    let mut cpu_per_request = BTreeMap::new();
    for (role, cost) in &after.costs {
        let earlier = before.costs.get(role).map_or(Duration::ZERO, |cost| cost.cpu);
        let spent = cost.cpu.saturating_sub(earlier);
        ours += spent;
        cpu_per_request.insert(role.clone(), spent.div_f64(requests as f64));
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let available = after.at.duration_since(before.at).as_secs_f64() * cores as f64;
    let others = after.machine.saturating_sub(before.machine).saturating_sub(ours);
    Side {
        report,
        cpu_per_request,
        resident_bytes: after
            .costs
            .iter()
            .map(|(role, cost)| (role.clone(), cost.resident_bytes))
            .collect(),
        others_share: others.as_secs_f64() / available.max(1e-9),
    }
}

/// The run with the median rate.
fn median(mut runs: Vec<Side>) -> Option<Side> {
    runs.sort_by(|a, b| a.report.requests_per_s.total_cmp(&b.report.requests_per_s));
    let middle = runs.len() / 2;
    (middle < runs.len()).then(|| runs.swap_remove(middle))
}
