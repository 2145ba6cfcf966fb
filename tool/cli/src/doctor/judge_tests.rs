//! What a healthy and a sick machine are told, as reviewed.

use super::*;
use crate::doctor::check::{State, failed, text};

fn snapshot(name: &str, text: &str) {
    let place = format!("{}/tests/snapshots/{name}.txt", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("COCOON_SNAPSHOTS").is_some_and(|how| how == "write") {
        std::fs::write(&place, text).unwrap();
        return;
    }
    let expected = std::fs::read_to_string(&place).unwrap_or_default();
    assert_eq!(text, expected, "{name} changed: COCOON_SNAPSHOTS=write, and review it");
}

fn healthy() -> Facts {
    let address = "192.0.2.1:12000".parse().unwrap();
    Facts {
        settings: Some(("worker.toml".into(), Ok(()))),
        tee: TeeFacts::Real(Ok(("tdx".into(), "ab12".into()))),
        gpu: Some(Ok(())),
        gpu_device: true,
        collateral: vec![("https://collateral.example".into(), Ok(()))],
        now_s: 1_800_000_000,
        files_max: 65_536,
        core_pattern: "core".into(),
        swaps: Vec::new(),
        disk: Some(("/var/lib/cocoon".into(), Ok(8 << 30))),
        ports: vec![("http", address, Ok(()))],
        servers: vec![("model server", "http://127.0.0.1:8000".into(), Ok(()))],
        model: Some(("/models/m".into(), Ok(()))),
        chain: Some(ChainFacts {
            name: "mainnet".into(),
            head_s: Ok(1_799_999_996),
            is_local: false,
            wallet: Some(("UQwallet".into(), Ok(Nanoton(12_000_000_000)))),
        }),
        registry: Some((
            "EQroot".into(),
            Ok(Registry { version: 7, proxies: 3, lists_image: Some(true) }),
        )),
    }
}

fn sick() -> Facts {
    let why = |text: &str| text.to_owned();
    let address = "192.0.2.1:12000".parse().unwrap();
    Facts {
        settings: Some(("worker.toml".into(), Err(why("owner: is no address")))),
        tee: TeeFacts::Real(Err(why("this machine offers no TEE"))),
        gpu: Some(Err(why("developer mode is on"))),
        gpu_device: true,
        collateral: vec![("https://collateral.example".into(), Err(why("no answer in 10 s")))],
        now_s: 1_800_000_000,
        files_max: 1_000,
        core_pattern: "|/usr/lib/collector".into(),
        swaps: vec!["/dev/sda2".into()],
        disk: Some(("/var/lib/cocoon".into(), Err(why("permission denied")))),
        ports: vec![("http", address, Err(why("address in use")))],
        servers: vec![("model server", "http://127.0.0.1:8000".into(), Err(why("refused")))],
        model: Some(("/models/m".into(), Err(why("no such file")))),
        chain: Some(ChainFacts {
            name: "mainnet".into(),
            head_s: Ok(1_799_990_000),
            is_local: false,
            wallet: Some(("UQwallet".into(), Ok(Nanoton(1)))),
        }),
        registry: Some((
            "EQroot".into(),
            Ok(Registry { version: 7, proxies: 0, lists_image: Some(false) }),
        )),
    }
}

#[test]
fn a_healthy_machine_is_told_so() {
    let checks = judge(&healthy());
    assert_eq!(failed(&checks), 0);
    snapshot("doctor-healthy", &text("worker", &checks));
}

#[test]
fn each_failed_check_says_what_to_do() {
    let checks = judge(&sick());
    for check in &checks {
        let bad = matches!(check.state, State::Failed | State::Warning);
        assert_eq!(bad, !check.advice.is_empty(), "{check:?}");
    }
    snapshot("doctor-sick", &text("worker", &checks));
}

/// Each thing that is wrong alone makes the whole fail, or is said as a warning.
#[test]
fn every_fault_counts_by_itself() {
    let one = |change: fn(&mut Facts, Facts)| {
        let mut facts = healthy();
        change(&mut facts, sick());
        let checks = judge(&facts);
        (failed(&checks), checks.iter().any(|check| check.state == State::Warning))
    };
    let fatal: [fn(&mut Facts, Facts); 10] = [
        |facts, sick| facts.settings = sick.settings,
        |facts, sick| facts.tee = sick.tee,
        |facts, sick| facts.gpu = sick.gpu,
        |facts, sick| facts.collateral = sick.collateral,
        |facts, sick| facts.files_max = sick.files_max,
        |facts, sick| facts.disk = sick.disk,
        |facts, sick| facts.ports = sick.ports,
        |facts, sick| facts.servers = sick.servers,
        |facts, sick| facts.model = sick.model,
        |facts, _| facts.now_s = 1_800_000_100,
    ];
    for (number, change) in fatal.into_iter().enumerate() {
        assert_eq!(one(change).0, 1, "fault {number}");
    }
    let mild: [fn(&mut Facts, Facts); 4] = [
        |facts, sick| facts.swaps = sick.swaps,
        |facts, _| facts.files_max = 4_096,
        |facts, _| facts.tee = TeeFacts::Simulated(Ok(())),
        |facts, _| facts.disk = Some(("d".into(), Ok(1 << 30))),
    ];
    for (number, change) in mild.into_iter().enumerate() {
        assert_eq!(one(change), (0, true), "fault {number}");
    }
    assert_eq!(one(|facts, sick| facts.registry = sick.registry).0, 2);
}
