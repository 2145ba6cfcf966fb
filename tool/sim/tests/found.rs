//! Worlds that failed once, written down so that they cannot fail again unseen.

use cocoon_sim::{Ask, Fault, FaultKind, NodeId, Options, Plan, Point, run};

/// A small world where nothing goes wrong.
fn calm() -> Plan {
    Plan {
        seed: 1,
        clients: 1,
        proxies: 1,
        workers: 2,
        real_chain: false,
        liar: None,
        asks: Vec::new(),
        faults: Vec::new(),
        span_ms: 120_000,
        fates: Vec::new(),
        stakes: Vec::new(),
    }
}

fn ask(at_ms: u64) -> Ask {
    Ask {
        client: 0,
        at_ms,
        tokens: 40,
        tokens_max: 50,
        timeout_ms: 40_000,
        parts: 3,
        pace_ms: 1_000,
        cancel_after_ms: None,
        proxy: None,
    }
}

fn with(plan: Plan, faults: Vec<(u64, FaultKind)>) -> Plan {
    let faults = faults.into_iter().map(|(at_ms, kind)| Fault { at_ms, kind });
    Plan { faults: faults.enumerate().collect(), ..plan }
}

fn keeps_every_promise(plan: Plan) {
    for seed in 0..20 {
        let plan = Plan { seed, ..plan.clone() };
        let outcome = run(plan, Options::default()).expect("the world is made");
        assert_eq!(outcome.violation, None, "with chance {seed}");
    }
}

#[test]
fn a_step_back_of_the_clock_silences_nobody() {
    for node in [NodeId::Worker(0), NodeId::Client(0)] {
        let step = FaultKind::ClockStep { node, step_ms: -3_600_000 };
        keeps_every_promise(with(calm(), vec![(60_000, step)]));
    }
}

#[test]
fn money_asked_back_while_a_request_runs_comes_back_when_it_fails() {
    let plan = Plan { real_chain: true, workers: 1, ..calm() };
    let plan = Plan { asks: vec![(0, Ask { parts: 6, pace_ms: 3_000, ..ask(30_000) })], ..plan };
    let parted = FaultKind::Partition { peer: NodeId::Worker(0), proxy: 0, ms: 100_000 };
    let closes = FaultKind::CloseClient { client: 0, proxy: 0 };
    keeps_every_promise(with(plan, vec![(30_100, parted), (31_000, closes)]));
}

#[test]
fn commits_of_an_earlier_process_may_be_seen_twice() {
    let plan = Plan { real_chain: true, asks: vec![(0, ask(30_000))], ..calm() };
    for point in [Point::Written, Point::Synced, Point::Input] {
        let crash = FaultKind::Crash {
            node: NodeId::Proxy(0),
            point,
            countdown: 0,
            down_ms: 500,
            quiet: false,
        };
        let commit = FaultKind::Commit { proxy: 0 };
        keeps_every_promise(with(plan.clone(), vec![(50_000, commit), (51_000, crash)]));
    }
}

#[test]
fn a_client_that_owes_nearly_its_stake_is_served_after_any_crash() {
    // Two requests are too few to be charged for, the third is the last that the stake allows.
    let dear = |at_ms| Ask { tokens: 128, tokens_max: 128, parts: 1, pace_ms: 10, ..ask(at_ms) };
    let asks = [10_000, 50_000, 90_000].into_iter().map(dear).enumerate();
    let plan = Plan { asks: asks.collect(), ..calm() };
    let factor = |worker| (3_000, FaultKind::Coefficient { worker, milli: 1_800 });
    for countdown in 0..6 {
        let crash = FaultKind::Crash {
            node: NodeId::Proxy(0),
            point: Point::Synced,
            countdown,
            down_ms: 300,
            quiet: false,
        };
        let faults = vec![factor(0), factor(1), (89_000, crash)];
        keeps_every_promise(with(plan.clone(), faults));
    }
}
