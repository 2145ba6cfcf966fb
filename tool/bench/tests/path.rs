//! The whole measurement, with a second mock in the place of a network.

#![allow(clippy::unwrap_used, reason = "a test")]

use cocoon_bench::load::{Reuse, Shape};
use cocoon_bench::path::{self, Fault, Options, Plan};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

const PROGRAM: &str = env!("CARGO_BIN_EXE_cocoon-bench");

fn options(nodes: &Path) -> Options {
    Options {
        plan: Plan::Nodes(nodes.to_owned()),
        mock_program: PathBuf::from(PROGRAM),
        mock_listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        connections: vec![1, 4],
        paced: vec![2],
        shapes: vec![Shape::Stream, Shape::Small],
        reuses: vec![Reuse::NewConnection, Reuse::KeepAlive],
        // Something ends in every one of them, also when the machine stands still for a moment.
        duration: Duration::from_secs(1),
        warm_up: Duration::from_millis(20),
        runs: 1,
        starts: 2,
        kills: 1,
        model: String::new(),
        key: None,
    }
}

/// A network of one node that the mock plays: its role is that of the proxy, so it gets killed.
fn nodes(dir: &Path, command: &str) -> PathBuf {
    // Below the ports that the system gives to connections: the node comes back to it.
    let of_ours = |step: u32| u16::try_from(20_000 + (std::process::id() + step) % 10_000).unwrap();
    let is_free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    let port = (0..100).map(of_ours).find(is_free).unwrap();
    let url = format!("http://127.0.0.1:{port}");
    let text = format!(
        "endpoint = \"{url}\"\n[[node]]\nname = \"proxy\"\nready = \"{url}/health\"\n\
         command = [\"{PROGRAM}\", \"{command}\", \"--listen\", \"127.0.0.1:{port}\"]\n"
    );
    let file = dir.join("nodes.toml");
    std::fs::write(&file, text).unwrap();
    file
}

#[test]
fn everything_is_measured_and_printed() {
    let dir = tempfile::tempdir().unwrap();
    let mut out = Vec::new();
    let results = path::run(&options(&nodes(dir.path(), "mock")), &mut out).unwrap();
    assert_eq!((results.starts.len(), results.cells.len(), results.recoveries.len()), (2, 8, 1));
    assert!(results.idle_bytes["proxy"] > 0);
    for cell in &results.cells {
        for side in [&cell.direct, &cell.through] {
            assert!(side.report.requests > 0, "{side:?}");
            assert_eq!(side.report.failures(), 0, "{side:?}");
        }
        assert!(cell.through.resident_bytes["proxy"] > 0);
    }
    // 51 pauses of 20 ms are longer than the measurement: nothing ends, nothing fails.
    assert_eq!((results.paced.len(), results.paced[0].through.report.failures()), (1, 0));
    assert!(results.paced[0].through.report.gap.p50 >= 10.0, "{:?}", results.paced);
    let text = String::from_utf8(out).unwrap();
    for part in ["Machine: ", "### Keep-alive", "| stream | 4 |", "kill -9", "proxy"] {
        assert!(text.contains(part), "{part:?} is missing in\n{text}");
    }
    // Rows have as many cells as the head of their table.
    for table in text.split("\n\n").filter(|part| part.starts_with('|')) {
        let widths: Vec<usize> = table.lines().map(|line| line.matches('|').count()).collect();
        assert!(widths.iter().all(|width| *width == widths[0]), "{table}");
    }
}

#[test]
fn a_network_that_ends_at_once_is_named_with_its_last_words() {
    let dir = tempfile::tempdir().unwrap();
    let file = nodes(dir.path(), "no-such-command");
    match path::run(&options(&file), &mut Vec::new()) {
        Err(Fault::Ended { what, log, .. }) => {
            assert_eq!(what, "proxy");
            assert!(log.contains("no-such-command"), "{log}");
        }
        other => panic!("{other:?}"),
    }
}
