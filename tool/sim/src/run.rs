//! Runs, and runs made smaller.

use crate::client::End;
use crate::log::Log;
use crate::mutant::Mutant;
use crate::plan::Plan;
use crate::violation::Violation;
use crate::world::World;

/// How to run.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// A planted fault.
    pub mutant: Option<Mutant>,
    /// Events after which the run stops without a verdict.
    pub steps_max: u64,
    /// Keep the log.
    pub keep_log: bool,
    /// Run the compiled contracts beside their model, in worlds with a chain.
    pub contracts: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { mutant: None, steps_max: u64::MAX, keep_log: false, contracts: false }
    }
}

/// What came of a run.
#[derive(Debug)]
pub struct Outcome {
    /// The plan that was played.
    pub plan: Plan,
    /// The first broken promise.
    pub violation: Option<Violation>,
    /// The log, with the hash that names the run.
    pub log: Log,
    /// Virtual time that passed.
    pub virtual_ms: u64,
    /// Events handled.
    pub steps: u64,
    /// Requests answered whole.
    pub answered: u64,
    /// Requests that ended otherwise.
    pub failed: u64,
    /// Lives of processes that ended in a crash.
    pub crashes: u64,
    /// Messages that the contracts beside their model took.
    pub contract_messages: u64,
    /// Refunds and payouts for which a proxy contract had not enough.
    pub shortfalls: u64,
}

/// Plays a plan.
///
/// # Errors
/// The world could not be made: a bug of the simulator.
pub fn run(plan: Plan, options: Options) -> Result<Outcome, String> {
    let mut world = World::new(plan, options)?;
    world.play(options.steps_max);
    let ends = world.truth.ends.values();
    let answered = ends.clone().filter(|end| **end == End::Whole).count() as u64;
    let lives = |base: &crate::node::Base| base.life;
    let crashes = world.proxies.iter().map(|node| lives(&node.base)).sum::<u64>()
        + world.clients.iter().map(|node| lives(&node.base)).sum::<u64>()
        + world.workers.iter().map(|node| lives(&node.base)).sum::<u64>();
    Ok(Outcome {
        violation: world.violation,
        virtual_ms: world.now_ms,
        steps: world.steps,
        answered,
        failed: ends.count() as u64 - answered,
        crashes,
        shortfalls: world.chain.contracts.iter().map(|contracts| contracts.shortfalls).sum(),
        contract_messages: world.contracts.map_or(0, |contracts| contracts.messages),
        log: world.log,
        plan: world.plan,
    })
}

/// Makes a failing plan smaller, greedily: leaves out misfortunes and requests, halves first, then
/// one by one, as long as the same promise is broken. At most `runs_max` runs.
///
/// # Errors
/// As [`run`].
pub fn shrink(plan: Plan, options: Options, rule: &str, runs_max: usize) -> Result<Plan, String> {
    let options = Options { keep_log: false, ..options };
    let mut runs = 0;
    let mut fails = |plan: &Plan| -> Result<bool, String> {
        runs += 1;
        if runs > runs_max {
            return Ok(false);
        }
        let outcome = run(plan.clone(), options)?;
        Ok(outcome.violation.is_some_and(|violation| violation.rule == rule))
    };
    let mut best = plan;
    if best.liar.is_some() {
        let honest = Plan { liar: None, ..best.clone() };
        if fails(&honest)? {
            best = honest;
        }
    }
    loop {
        let before = (best.faults.len(), best.asks.len());
        let mut piece = before.0.max(before.1).max(1);
        while piece > 0 {
            best = without_pieces(best, piece, &mut fails)?;
            piece /= 2;
        }
        if (best.faults.len(), best.asks.len()) == before {
            return Ok(best);
        }
    }
}

fn without_pieces(
    mut best: Plan,
    piece: usize,
    fails: &mut impl FnMut(&Plan) -> Result<bool, String>,
) -> Result<Plan, String> {
    let mut at = 0;
    while at < best.faults.len() {
        let mut smaller = best.clone();
        smaller.faults.drain(at..(at + piece).min(best.faults.len()));
        if fails(&smaller)? {
            best = smaller;
        } else {
            at += piece;
        }
    }
    at = 0;
    while at < best.asks.len() {
        let mut smaller = best.clone();
        smaller.asks.drain(at..(at + piece).min(best.asks.len()));
        if fails(&smaller)? {
            best = smaller;
        } else {
            at += piece;
        }
    }
    Ok(best)
}
