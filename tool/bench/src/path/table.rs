//! Results as Markdown.

use super::Results;
use super::matrix::{Cell, Side};
use crate::load::{Millis, Report, Reuse, Shape};
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::Duration;

/// The measuring itself, which is no part of the network.
const ENDS: [&str; 2] = ["load", "mock"];

pub(crate) fn start(out: &mut impl Write, results: &Results) -> io::Result<()> {
    let mut starts = results.starts.clone();
    starts.sort_unstable();
    let each: Vec<String> = results.starts.iter().map(|time| seconds(*time)).collect();
    let median = starts.get(starts.len() / 2).copied().unwrap_or_default();
    writeln!(out, "Start to first answer: **{} s** ({}).\n", seconds(median), each.join(", "))?;
    writeln!(out, "Idle memory: {}.\n", memory_line(&results.idle_bytes))?;
    out.flush()
}

pub(crate) fn cells(out: &mut impl Write, reuse: Reuse, cells: &[Cell]) -> io::Result<()> {
    match reuse {
        Reuse::NewConnection => writeln!(out, "### New TCP connection per request\n")?,
        Reuse::KeepAlive => writeln!(out, "### Keep-alive\n")?,
    }
    speed(out, cells)?;
    cost(out, cells)?;
    out.flush()
}

fn speed(out: &mut impl Write, cells: &[Cell]) -> io::Result<()> {
    head(
        out,
        &[
            "shape",
            "connections",
            "direct req/s",
            "through req/s",
            "ratio",
            "direct p50 / p99 ms",
            "through p50 / p99 ms",
            "added p50 ms",
            "first event p50 / p99 ms",
            "direct",
            "gap p50 / p99 ms",
            "direct",
            "failed",
        ],
    )?;
    for cell in cells {
        let (direct, through) = (&cell.direct.report, &cell.through.report);
        let pair = |millis: &Millis| format!("{:.2} / {:.2}", millis.p50, millis.p99);
        let gaps = |report: &Report| match cell.load.shape {
            Shape::Stream => format!("{:.3} / {:.3}", report.gap.p50, report.gap.p99),
            Shape::Small => "-".into(),
        };
        let ratio = through.requests_per_s / direct.requests_per_s.max(1e-9);
        row(
            out,
            &[
                shape(cell.load.shape).into(),
                cell.load.connections.to_string(),
                format!("{:.0}", direct.requests_per_s),
                format!("{:.0}", through.requests_per_s),
                format!("{ratio:.2}"),
                pair(&direct.latency),
                pair(&through.latency),
                format!("{:.2}", through.latency.p50 - direct.latency.p50),
                pair(&through.first),
                pair(&direct.first),
                gaps(through),
                gaps(direct),
                failed(cell),
            ],
        )?;
    }
    writeln!(out)
}

/// Streams at the pace of a model: what a user feels, as long as the machine is not full.
pub(crate) fn paced(out: &mut impl Write, cells: &[Cell]) -> io::Result<()> {
    if cells.is_empty() {
        return Ok(());
    }
    writeln!(out, "### Streams at 50 events a second, keep-alive\n")?;
    head(
        out,
        &[
            "streams",
            "direct streams/s",
            "through streams/s",
            "direct first event p50 / p99 ms",
            "through first event p50 / p99 ms",
            "direct gap p50 / p99 / max ms",
            "through gap p50 / p99 / max ms",
            "CPU ms/stream",
            "failed",
        ],
    )?;
    for cell in cells {
        let (direct, through) = (&cell.direct.report, &cell.through.report);
        let first = |report: &Report| format!("{:.2} / {:.2}", report.first.p50, report.first.p99);
        let gaps = |report: &Report| {
            let gap = &report.gap;
            format!("{:.2} / {:.2} / {:.2}", gap.p50, gap.p99, gap.max)
        };
        let nodes = cell.through.cpu_per_request.iter();
        let cpu = nodes.filter(|(role, _)| !ENDS.contains(&role.as_str())).map(|(_, cpu)| *cpu);
        row(
            out,
            &[
                cell.load.connections.to_string(),
                format!("{:.1}", direct.requests_per_s),
                format!("{:.1}", through.requests_per_s),
                first(direct),
                first(through),
                gaps(direct),
                gaps(through),
                millis(cpu.sum()),
                failed(cell),
            ],
        )?;
    }
    writeln!(out)?;
    out.flush()
}

/// Failures of both ways, those of the direct one named.
fn failed(cell: &Cell) -> String {
    let list = |side: &Side| {
        let statuses = side.report.statuses.iter().map(|(status, n)| format!("{n} x {status}"));
        let errors = side.report.errors.iter().map(|(error, n)| format!("{n} x {error}"));
        statuses.chain(errors).collect::<Vec<_>>()
    };
    let mut all = list(&cell.through);
    all.extend(list(&cell.direct).iter().map(|text| format!("direct {text}")));
    if all.is_empty() { "0".into() } else { all.join(", ") }
}

fn cost(out: &mut impl Write, cells: &[Cell]) -> io::Result<()> {
    let roles = roles(cells);
    let names = roles.join(" / ");
    head(
        out,
        &[
            "shape",
            "connections",
            &format!("CPU ms/request {names} (sum)"),
            "load / mock",
            "direct load / mock",
            &format!("memory MB {names} (sum)"),
            "other programs' CPU",
        ],
    )?;
    for cell in cells {
        let through = &cell.through;
        let cpu = |role: &str| through.cpu_per_request.get(role).copied().unwrap_or_default();
        let memory = |role: &str| through.resident_bytes.get(role).copied().unwrap_or_default();
        let ends = |side: &Side| {
            let of = |role| side.cpu_per_request.get(role).copied().unwrap_or_default();
            ENDS.map(|role| millis(of(role))).join(" / ")
        };
        let cpu_sum: Duration = roles.iter().map(|role| cpu(role)).sum();
        let cpu_each: Vec<String> = roles.iter().map(|role| millis(cpu(role))).collect();
        let memory_sum: u64 = roles.iter().map(|role| memory(role)).sum();
        let memory_each: Vec<String> = roles.iter().map(|role| mega(memory(role))).collect();
        let others = through.others_share.max(cell.direct.others_share);
        row(
            out,
            &[
                shape(cell.load.shape).into(),
                cell.load.connections.to_string(),
                format!("{} ({})", cpu_each.join(" / "), millis(cpu_sum)),
                ends(through),
                ends(&cell.direct),
                format!("{} ({})", memory_each.join(" / "), mega(memory_sum)),
                format!("{:.0} %", others * 100.0),
            ],
        )?;
    }
    writeln!(out)
}

/// Roles of the network, in the order in which a request meets them, others behind.
fn roles(cells: &[Cell]) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for role in cells.iter().flat_map(|cell| cell.through.cpu_per_request.keys()) {
        if !ENDS.contains(&role.as_str()) && !found.contains(role) {
            found.push(role.clone());
        }
    }
    let place = |role: &String| {
        let order = ["gateway", "proxy", "worker"];
        order.iter().position(|known| known == role).unwrap_or(order.len())
    };
    found.sort_by_key(place);
    found
}

pub(crate) fn memory(out: &mut impl Write, results: &Results) -> io::Result<()> {
    writeln!(out, "Memory after all of this: {}.\n", memory_line(&results.after_bytes))?;
    out.flush()
}

pub(crate) fn recoveries(out: &mut impl Write, results: &Results) -> io::Result<()> {
    for recovery in &results.recoveries {
        let list: Vec<String> =
            recovery.meanwhile.iter().map(|(what, n)| format!("{n} x {what}")).collect();
        let meanwhile = if list.is_empty() { "no request failed".into() } else { list.join(", ") };
        let next = seconds(recovery.next_answer);
        writeln!(out, "`kill -9` of the proxy to the next answer: **{next} s** ({meanwhile}).\n")?;
    }
    out.flush()
}

fn head(out: &mut impl Write, names: &[&str]) -> io::Result<()> {
    writeln!(out, "| {} |", names.join(" | "))?;
    writeln!(out, "|{}", "---|".repeat(names.len()))
}

fn row(out: &mut impl Write, cells: &[String]) -> io::Result<()> {
    writeln!(out, "| {} |", cells.join(" | "))
}

fn memory_line(bytes: &BTreeMap<String, u64>) -> String {
    let each: Vec<String> =
        bytes.iter().map(|(role, bytes)| format!("{role} {}", mega(*bytes))).collect();
    format!("**{} MB** ({})", mega(bytes.values().sum()), each.join(", "))
}

fn shape(shape: Shape) -> &'static str {
    match shape {
        Shape::Stream => "stream",
        Shape::Small => "small",
    }
}

fn seconds(duration: Duration) -> String {
    format!("{:.2}", duration.as_secs_f64())
}

fn millis(duration: Duration) -> String {
    format!("{:.2}", duration.as_secs_f64() * 1e3)
}

fn mega(bytes: u64) -> String {
    format!("{:.0}", bytes as f64 / 1e6)
}
