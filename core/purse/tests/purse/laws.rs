//! Laws over random histories: lost messages, late blocks, deaths between any two acts.

use std::collections::BTreeSet;

use cocoon_localchain::Trouble;
use cocoon_purse::Outcome;
use proptest::prelude::*;

use crate::stage::{Stage, TON, order};

#[derive(Clone, Debug)]
enum Step {
    /// Order so much, in tenths of a TON.
    Order(u64),
    Block(u64),
    Look,
    Lose(u32),
    Late(u64),
    Fund(u64),
    /// The process dies after so many acts of the next look.
    Die(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1_u64..60).prop_map(Step::Order),
        6 => (100_u64..90_000).prop_map(Step::Block),
        6 => Just(Step::Look),
        1 => (1_u32..5).prop_map(Step::Lose),
        1 => (0_u64..5_000).prop_map(Step::Late),
        1 => (1_u64..10).prop_map(Step::Fund),
        2 => (0_usize..6).prop_map(Step::Die),
    ]
}

/// Whoever orders: repeats after a restart what has no report yet.
fn order_again(stage: &mut Stage, ordered: &[(u64, u64)]) {
    for (label, value) in ordered {
        let is_done = stage.outcomes.get(label).is_some_and(|outcomes| !outcomes.is_empty());
        if !is_done {
            stage.purse.order(order(*label, 9, *value)).unwrap();
        }
    }
}

fn run(steps: &[Step]) -> Result<(), TestCaseError> {
    let mut stage = Stage::new();
    stage.fund(20 * TON);
    let mut ordered: Vec<(u64, u64)> = Vec::new();
    for step in steps {
        match *step {
            Step::Order(tenths) => {
                let label = ordered.len() as u64 + 1;
                ordered.push((label, tenths * TON / 10));
                stage.purse.order(order(label, 9, tenths * TON / 10)).unwrap();
            }
            Step::Block(ms) => stage.block(ms),
            Step::Look => prop_assert!(stage.look()),
            Step::Lose(count) => {
                stage.chain.set_trouble(Trouble { lose_externals: count, ..Trouble::default() });
            }
            Step::Late(ms) => {
                stage.chain.set_trouble(Trouble { late_ms: ms, ..Trouble::default() });
            }
            Step::Fund(ton) => stage.fund(ton * TON),
            Step::Die(after) => {
                stage.dies_after = Some(after);
                let _ = stage.look();
                stage.restart();
                order_again(&mut stage, &ordered);
            }
        }
    }
    // Calm: everything that was ordered happens.
    stage.chain.set_trouble(Trouble::default());
    stage.fund(1_000 * TON);
    order_again(&mut stage, &ordered);
    stage.settle();
    let mut spent = 0;
    for (label, value) in &ordered {
        prop_assert_eq!(stage.received(9, *label), 1, "order {} at its receiver", label);
        let outcomes = &stage.outcomes[label];
        let ends: BTreeSet<bool> = outcomes.iter().map(Outcome::is_final).collect();
        prop_assert!(ends.contains(&true), "order {}: {:?}", label, outcomes);
        let is_refused = outcomes.iter().any(|o| matches!(o, Outcome::NotSent { .. }));
        prop_assert!(!is_refused);
        spent += value;
    }
    let coins = stage.chain.coins();
    prop_assert_eq!(coins.minted, coins.held + coins.waiting + coins.fees);
    prop_assert!(
        stage.balance(stage.wallet.address()) + spent <= u64::try_from(coins.minted).unwrap()
    );
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn every_order_happens_once(steps in proptest::collection::vec(step(), 1..40)) {
        run(&steps)?;
    }
}
