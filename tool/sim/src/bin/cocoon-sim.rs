//! The simulator's command.
#![allow(clippy::print_stdout, reason = "a command prints")]

use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use clap::Parser;
use cocoon_sim::{Mutant, Options, Outcome, Plan, run, shrink};

/// Plays the network in virtual time, from seeds.
#[derive(Debug, Parser)]
#[command(name = "cocoon-sim", version)]
struct Arguments {
    /// Replay one seed and print its log.
    #[arg(long, conflicts_with = "seeds")]
    seed: Option<u64>,
    /// Play all seeds of a range, `from..to`.
    #[arg(long)]
    seeds: Option<String>,
    /// Begin no seed after so many minutes, whatever the range.
    #[arg(long)]
    minutes: Option<f64>,
    /// Threads; every seed runs on one.
    #[arg(long, default_value_t = 1)]
    jobs: u64,
    /// Stop after so many events.
    #[arg(long)]
    steps: Option<u64>,
    /// Keep only these requests of the plan, as a failing seed prints them.
    #[arg(long)]
    asks: Option<String>,
    /// Keep only these misfortunes of the plan.
    #[arg(long)]
    faults: Option<String>,
    /// Leave out the dishonest node.
    #[arg(long)]
    honest: bool,
    /// Plant a fault.
    #[arg(long)]
    mutant: Option<Mutant>,
    /// Print no log on a replay, only its hash.
    #[arg(long)]
    brief: bool,
    /// Run the compiled contracts beside their model, in worlds with a chain; slower.
    #[arg(long)]
    contracts: bool,
    /// Play on after failing seeds.
    #[arg(long)]
    keep_going: bool,
}

impl Arguments {
    fn options(&self, keep_log: bool) -> Options {
        Options {
            mutant: self.mutant,
            steps_max: self.steps.unwrap_or(u64::MAX),
            keep_log,
            contracts: self.contracts,
        }
    }
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    if let Some(seed) = arguments.seed {
        return replay(&arguments, seed);
    }
    let range = arguments.seeds.as_deref().unwrap_or("0..100");
    let (from, to) = range.split_once("..").context("seeds are given as from..to")?;
    let (from, to): (u64, u64) = (from.trim().parse()?, to.trim().parse()?);
    play_all(&arguments, from, to)
}

fn replay(arguments: &Arguments, seed: u64) -> Result<()> {
    let (asks, faults) =
        (numbers(arguments.asks.as_deref())?, numbers(arguments.faults.as_deref())?);
    let mut plan = Plan::of_seed(seed).keeping(asks.as_deref(), faults.as_deref());
    if arguments.honest {
        plan.liar = None;
    }
    let outcome = play(plan, arguments.options(!arguments.brief))?;
    print_outcome(&outcome);
    match outcome.violation {
        Some(violation) => bail!("{violation}"),
        None => Ok(()),
    }
}

/// A list of numbers; an empty text is the empty list.
fn numbers(text: Option<&str>) -> Result<Option<Vec<usize>>> {
    let Some(text) = text else { return Ok(None) };
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    Ok(Some(parts.map(str::parse).collect::<Result<_, _>>()?))
}

fn play(plan: Plan, options: Options) -> Result<Outcome> {
    run(plan, options).map_err(anyhow::Error::msg)
}

fn print_outcome(outcome: &Outcome) {
    let plan = &outcome.plan;
    println!(
        "seed {}: {} clients, {} proxies, {} workers, {}, liar {:?}, proxies in the end {:?}",
        plan.seed,
        plan.clients,
        plan.proxies,
        plan.workers,
        if plan.real_chain { "chain" } else { "no chain" },
        plan.liar,
        plan.fates
    );
    for (number, fault) in &plan.faults {
        println!("  fault {number}: {fault:?}");
    }
    for entry in outcome.log.lines() {
        println!("{entry}");
    }
    println!(
        "hash {:016x}, {} events, {} virtual s, {} answered, {} ended otherwise, {} crashes",
        outcome.log.hash(),
        outcome.steps,
        outcome.virtual_ms / 1_000,
        outcome.answered,
        outcome.failed,
        outcome.crashes
    );
}

/// Sums over seeds.
#[derive(Default)]
struct Sums {
    seeds: u64,
    virtual_ms: u64,
    steps: u64,
    answered: u64,
    failed: u64,
    crashes: u64,
    contract_messages: u64,
    shortfalls: u64,
    broken: u64,
}

fn play_all(arguments: &Arguments, from: u64, to: u64) -> Result<()> {
    let started = Instant::now();
    let jobs = arguments.jobs.max(1);
    let sums: Vec<Result<Sums>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..jobs)
            .map(|job| {
                let until = arguments.minutes.map(|minutes| (started, minutes * 60.0));
                scope.spawn(move || play_share(arguments, (from + job, to, jobs), until))
            })
            .collect();
        let joined = threads.into_iter().map(|thread| thread.join());
        joined.map(|sums| sums.unwrap_or_else(|_| bail!("a run panicked"))).collect()
    });
    let mut all = Sums::default();
    for sums in sums {
        let sums = sums?;
        all.seeds += sums.seeds;
        all.virtual_ms += sums.virtual_ms;
        all.steps += sums.steps;
        all.answered += sums.answered;
        all.failed += sums.failed;
        all.crashes += sums.crashes;
        all.contract_messages += sums.contract_messages;
        all.shortfalls += sums.shortfalls;
        all.broken += sums.broken;
    }
    let seconds = started.elapsed().as_secs_f64();
    let hours = all.virtual_ms as f64 / 3_600_000.0;
    println!(
        "{} seeds, {} events, {} crashes, {} requests answered, {} ended otherwise",
        all.seeds, all.steps, all.crashes, all.answered, all.failed
    );
    if all.shortfalls > 0 {
        println!("{} refunds and payouts fell short, each explained", all.shortfalls);
    }
    if arguments.contracts {
        println!("{} messages to contracts, which agree with their model", all.contract_messages);
    }
    println!(
        "{hours:.1} virtual hours in {seconds:.1} s: {:.0} virtual hours per hour",
        hours / seconds * 3_600.0
    );
    if all.broken > 0 {
        bail!("{} seeds failed", all.broken);
    }
    Ok(())
}

fn play_share(
    arguments: &Arguments,
    (from, to, step): (u64, u64, u64),
    until: Option<(Instant, f64)>,
) -> Result<Sums> {
    let mut sums = Sums::default();
    let mut seed = from;
    let is_over =
        || until.is_some_and(|(started, seconds)| started.elapsed().as_secs_f64() >= seconds);
    while seed < to && !is_over() {
        let outcome = play(Plan::of_seed(seed), arguments.options(false))?;
        sums.seeds += 1;
        sums.virtual_ms += outcome.virtual_ms;
        sums.steps += outcome.steps;
        sums.answered += outcome.answered;
        sums.failed += outcome.failed;
        sums.crashes += outcome.crashes;
        sums.contract_messages += outcome.contract_messages;
        sums.shortfalls += outcome.shortfalls;
        if let Some(violation) = &outcome.violation {
            sums.broken += 1;
            if arguments.keep_going {
                println!("seed {seed}: {violation}");
            } else {
                explain(arguments, seed, violation.rule)?;
                bail!("seed {seed}: {violation}");
            }
        }
        seed += step;
    }
    Ok(sums)
}

/// Shrinks a failing seed, prints its log and how to replay it.
fn explain(arguments: &Arguments, seed: u64, rule: &str) -> Result<()> {
    let options = arguments.options(false);
    let small = shrink(Plan::of_seed(seed), options, rule, 300).map_err(anyhow::Error::msg)?;
    let outcome = play(small, arguments.options(true))?;
    print_outcome(&outcome);
    let list =
        |numbers: Vec<usize>| numbers.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let plan = &outcome.plan;
    println!(
        "replay: cocoon-sim --seed {seed} --asks '{}' --faults '{}'{}{}",
        list(plan.asks.iter().map(|(number, _)| *number).collect()),
        list(plan.faults.iter().map(|(number, _)| *number).collect()),
        if plan.liar.is_none() && Plan::of_seed(seed).liar.is_some() { " --honest" } else { "" },
        arguments.mutant.map(|mutant| format!(" --mutant {mutant}")).unwrap_or_default()
            + if arguments.contracts { " --contracts" } else { "" }
    );
    Ok(())
}
