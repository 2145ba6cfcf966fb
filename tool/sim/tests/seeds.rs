//! Random worlds keep every promise, and equal seeds give equal worlds.

use cocoon_sim::{Mutant, Options, Plan, run, shrink};

/// Seeds that are played here; the rest is for `cocoon-sim --seeds`.
const SEEDS: u64 = if cfg!(debug_assertions) { 150 } else { 600 };

#[test]
fn every_promise_is_kept() {
    let (mut virtual_ms, mut crashes, mut answered, mut shortfalls) = (0, 0, 0, 0);
    for seed in 0..SEEDS {
        let outcome = run(Plan::of_seed(seed), Options::default()).expect("the world is made");
        if let Some(violation) = outcome.violation {
            panic!(
                "seed {seed}: {violation}; replay with: cocoon-sim --seeds {seed}..{}",
                seed + 1
            );
        }
        virtual_ms += outcome.virtual_ms;
        crashes += outcome.crashes;
        answered += outcome.answered;
        shortfalls += outcome.shortfalls;
    }
    assert!(shortfalls > SEEDS / 20, "{shortfalls} refunds or payouts fell short");
    assert!(virtual_ms > SEEDS * 300_000, "{virtual_ms} virtual ms");
    assert!(crashes > SEEDS / 4, "{crashes} crashes");
    assert!(answered > SEEDS, "{answered} answers");
}

#[test]
fn the_contracts_agree_with_their_model() {
    let options = Options { contracts: true, ..Options::default() };
    let mut messages = 0;
    for seed in 0..SEEDS / 3 {
        let outcome = run(Plan::of_seed(seed), options).expect("the world is made");
        if let Some(violation) = outcome.violation {
            panic!("seed {seed}: {violation}; replay with: cocoon-sim --seed {seed} --contracts");
        }
        messages += outcome.contract_messages;
    }
    assert!(messages > 10 * SEEDS / 3, "{messages} messages");
}

#[test]
fn equal_seeds_give_equal_runs() {
    for seed in 0..20 {
        let play = || run(Plan::of_seed(seed), Options::default()).expect("the world is made");
        let (one, two) = (play(), play());
        assert_eq!(one.log.hash(), two.log.hash(), "seed {seed}");
        assert_eq!((one.steps, one.virtual_ms), (two.steps, two.virtual_ms), "seed {seed}");
        let other = run(Plan::of_seed(seed + 1_000), Options::default()).expect("made");
        assert_ne!(one.log.hash(), other.log.hash(), "seed {seed} is no other seed");
    }
}

#[test]
fn a_kept_log_tells_the_same_story() {
    let kept = Options { keep_log: true, ..Options::default() };
    let silent = run(Plan::of_seed(3), Options::default()).expect("the world is made");
    let told = run(Plan::of_seed(3), kept).expect("the world is made");
    assert_eq!(silent.log.hash(), told.log.hash());
    assert_eq!(told.log.lines().len() as u64, told.log.count());
    assert!(silent.log.lines().is_empty());
}

#[test]
fn a_failing_plan_shrinks_and_still_fails_the_same_way() {
    let options = Options { mutant: Some(Mutant::FinishForgotten), ..Options::default() };
    let violation = |plan: &Plan| {
        let outcome = run(plan.clone(), options).expect("the world is made");
        outcome.violation.map(|violation| violation.rule)
    };
    let found = (0..100).find_map(|seed| {
        let plan = Plan::of_seed(seed);
        violation(&plan).map(|rule| (seed, plan, rule))
    });
    let (seed, plan, rule) = found.expect("some seed finds a forgotten record");
    let small = shrink(plan.clone(), options, rule, 300).expect("the world is made");
    assert!(small.asks.len() + small.faults.len() < plan.asks.len() + plan.faults.len());
    let asks: Vec<usize> = small.asks.iter().map(|(number, _)| *number).collect();
    let faults: Vec<usize> = small.faults.iter().map(|(number, _)| *number).collect();
    let mut again = Plan::of_seed(seed).keeping(Some(&asks), Some(&faults));
    again.liar = small.liar;
    assert_eq!(again, small, "the lists on the command line name the same plan");
    assert_eq!(violation(&again), Some(rule));
}
