//! What a process costs, as the kernel counts it in `/proc`.

use crate::machine::member;
use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

/// Length of the kernel's unit of processor time. Linux shows it to programs as a hundredth of a
/// second on every machine (USER_HZ, see proc(5)).
const TICK: Duration = Duration::from_millis(10);

/// A process at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its number.
    pub id: u32,
    /// The number of the process that started it.
    pub parent: u32,
    /// Program and arguments.
    pub arguments: Vec<String>,
    /// Processor time so far, its threads' together, in user and kernel mode.
    pub cpu: Duration,
    /// Memory in use (resident), bytes.
    pub resident_bytes: u64,
    /// Threads.
    pub threads: u32,
}

impl Process {
    /// Reads a process; none when it has ended, reaped or not.
    #[must_use]
    pub fn read(id: u32) -> Option<Self> {
        let file = |name: &str| fs::read_to_string(format!("/proc/{id}/{name}")).ok();
        let stat = Stat::parse(&file("stat")?)?;
        if stat.ended {
            return None;
        }
        let status = file("status")?;
        let kib = member(&status, "VmRSS").and_then(|text| text.split(' ').next()?.parse().ok());
        let threads = member(&status, "Threads").and_then(|text| text.parse().ok());
        let arguments = fs::read(format!("/proc/{id}/cmdline")).ok()?;
        Some(Self {
            id,
            parent: stat.parent,
            arguments: split_arguments(&arguments),
            cpu: stat.cpu,
            resident_bytes: kib.unwrap_or(0_u64).saturating_mul(1024),
            threads: threads.unwrap_or(0),
        })
    }

    /// The process that runs this code.
    #[must_use]
    pub fn own() -> Option<Self> {
        Self::read(std::process::id())
    }

    /// Everything that a process started, and what those started, without itself. In the order of
    /// their numbers, which is the order of their start until numbers wrap round.
    #[must_use]
    pub fn descendants(of: u32) -> Vec<Self> {
        let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for id in numbers() {
            let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok();
            if let Some(stat) = stat.as_deref().and_then(Stat::parse) {
                children.entry(stat.parent).or_default().push(id);
            }
        }
        let mut found = Vec::new();
        let mut open = vec![of];
        while let Some(parent) = open.pop() {
            // Taken out, so that no entry is walked twice.
            let ids = children.remove(&parent).unwrap_or_default();
            found.extend(ids.iter().filter_map(|id| Self::read(*id)));
            open.extend(ids);
        }
        found.sort_by_key(|process| process.id);
        found
    }

    /// Sends it a signal, such as `KILL`. True when it was there to take it.
    #[must_use]
    pub fn signal(&self, name: &str) -> bool {
        // The shell's own `kill` needs no package.
        std::process::Command::new("sh")
            .args(["-c", "kill -s \"$0\" \"$1\"", name, &self.id.to_string()])
            .stderr(std::process::Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    }
}

/// Processor time that the whole machine has spent at work so far, all cores together. Time that
/// the hypervisor took away is not in it.
#[must_use]
pub fn machine_cpu() -> Duration {
    fs::read_to_string("/proc/stat").ok().as_deref().and_then(parse_machine_cpu).unwrap_or_default()
}

/// First line of `/proc/stat`: user, nice, system, idle, iowait, irq, softirq, and more.
fn parse_machine_cpu(file: &str) -> Option<Duration> {
    let fields = file.lines().next()?.strip_prefix("cpu ")?;
    let ticks = fields.split_ascii_whitespace().take(7).enumerate();
    let busy = ticks.filter(|(at, _)| *at != 3 && *at != 4);
    let mut sum = 0_u64;
    for (_, text) in busy {
        sum = sum.saturating_add(text.parse().ok()?);
    }
    Some(duration(sum))
}

/// Numbers of all processes.
fn numbers() -> impl Iterator<Item = u32> {
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

fn split_arguments(cmdline: &[u8]) -> Vec<String> {
    let text = cmdline.strip_suffix(b"\0").unwrap_or(cmdline);
    text.split(|byte| *byte == 0).map(|part| String::from_utf8_lossy(part).into_owned()).collect()
}

fn duration(ticks: u64) -> Duration {
    Duration::from_millis(ticks.saturating_mul(TICK.as_millis() as u64))
}

/// What is used of `/proc/PID/stat`, see proc(5).
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    parent: u32,
    cpu: Duration,
    ended: bool,
}

impl Stat {
    fn parse(file: &str) -> Option<Self> {
        // The name stands in parentheses and may hold spaces and parentheses itself.
        let (_, rest) = file.rsplit_once(')')?;
        let mut fields = rest.split_ascii_whitespace();
        let state = fields.next()?;
        let parent = fields.next()?.parse().ok()?;
        let mut times = fields.skip(9);
        let user: u64 = times.next()?.parse().ok()?;
        let system: u64 = times.next()?.parse().ok()?;
        let ended = matches!(state, "Z" | "X" | "x");
        Some(Self { parent, cpu: duration(user.saturating_add(system)), ended })
    }
}

#[cfg(test)]
mod tests {
    use super::{Process, Stat, machine_cpu, parse_machine_cpu, split_arguments};
    use proptest::prelude::*;
    use std::process::{Command, Stdio};
    use std::time::{Duration, Instant};

    #[test]
    fn names_may_hold_anything() {
        let file = "7 (a) b (c)) S 3 7 7 0 -1 4194560 1 2 3 4 150 50 0 0 20 0 1 0 9 1 1";
        let stat = Stat { parent: 3, cpu: Duration::from_secs(2), ended: false };
        assert_eq!(Stat::parse(file), Some(stat));
    }

    #[test]
    fn idle_time_is_no_work() {
        let file = "cpu  100 20 30 9000 800 5 45 7 0 0\ncpu0 1 2 3\n";
        assert_eq!(parse_machine_cpu(file), Some(Duration::from_secs(2)));
    }

    #[test]
    fn own_process_is_known() {
        let own = Process::own().unwrap();
        assert!(own.resident_bytes > 0 && own.threads > 0 && !own.arguments.is_empty());
        assert!(machine_cpu() >= own.cpu);
    }

    #[test]
    fn children_are_found_signalled_and_gone() {
        let mut child =
            Command::new("sh").args(["-c", "read x"]).stdin(Stdio::piped()).spawn().unwrap();
        let own = std::process::id();
        let is_child = |process: &Process| process.id == child.id() && process.parent == own;
        let found = Process::descendants(own).into_iter().find(is_child).unwrap();
        assert!(found.signal("KILL"));
        // Not reaped yet, it has ended all the same.
        let deadline = Instant::now() + Duration::from_secs(10);
        while Process::read(found.id).is_some() {
            assert!(Instant::now() < deadline);
            std::thread::yield_now();
        }
        child.wait().unwrap();
        assert!(!found.signal("KILL"));
    }

    proptest! {
        #[test]
        fn arbitrary_files_never_panic(text in ".*", bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = Stat::parse(&text);
            let _ = parse_machine_cpu(&text);
            let _ = split_arguments(&bytes);
        }

        #[test]
        fn huge_times_do_not_overflow(user: u64, system: u64) {
            let file = format!("1 (x) R 1 1 1 0 0 0 0 0 0 0 {user} {system} 0");
            prop_assert!(Stat::parse(&file).is_some());
        }
    }
}
