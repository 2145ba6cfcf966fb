//! The simulator can see: every planted fault is found.

use cocoon_sim::{Mutant, Options, Plan, run};

/// Seeds within which every planted fault must be found.
const SEEDS_MAX: u64 = 1_000;

/// The first seed that finds a planted fault.
fn finds(mutant: Mutant) -> Option<(u64, &'static str)> {
    let contracts = mutant.needs_contracts();
    let options = Options { mutant: Some(mutant), contracts, ..Options::default() };
    (0..SEEDS_MAX).find_map(|seed| {
        let outcome = run(Plan::of_seed(seed), options).expect("the world is made");
        outcome.violation.map(|violation| (seed, violation.rule))
    })
}

#[test]
fn every_planted_fault_is_found() {
    assert!(Mutant::ALL.len() >= 20, "only {} faults are planted", Mutant::ALL.len());
    let mut missed = Vec::new();
    for mutant in Mutant::ALL {
        match finds(*mutant) {
            Some((seed, rule)) => println!("{mutant}: seed {seed}, {rule}"),
            None => missed.push(mutant.name()),
        }
    }
    assert!(missed.is_empty(), "not found in {SEEDS_MAX} seeds: {}", missed.join(", "));
}

#[test]
fn names_of_planted_faults_are_read_back() {
    for mutant in Mutant::ALL {
        assert_eq!(mutant.name().parse(), Ok(*mutant));
    }
    assert!("no-such-fault".parse::<Mutant>().is_err());
}
