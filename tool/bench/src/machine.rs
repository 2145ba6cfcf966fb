//! The machine that measures: without it a number says nothing.

use std::fs;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// One line for the head of a table: cores, processor, memory, kernel, day.
#[must_use]
pub fn line() -> String {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let processor = member(&read("/proc/cpuinfo"), "model name").unwrap_or("unknown").to_owned();
    let memory = member(&read("/proc/meminfo"), "MemTotal")
        .and_then(|text| text.split(' ').next()?.parse::<u64>().ok())
        .map_or_else(|| "?".into(), |kib| format!("{:.0}", kib as f64 / f64::from(1 << 20)));
    let kernel = read("/proc/sys/kernel/osrelease");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("{cores} cores, {processor}, {memory} GiB, Linux {}, {}", kernel.trim(), day(now))
}

/// The value of a member in one of the kernel's `name : value` files.
pub(crate) fn member<'a>(file: &'a str, name: &str) -> Option<&'a str> {
    file.lines().find_map(|line| {
        let (found, value) = line.split_once(':')?;
        (found.trim() == name).then(|| value.trim())
    })
}

/// The day of a Unix time as `2026-11-21`, UTC.
///
/// Counts days in years that begin in March, so that the leap day comes last; an era is 400 years,
/// the period of the Gregorian calendar.
fn day(since_epoch: Duration) -> String {
    let days = since_epoch.as_secs() / 86_400 + 719_468; // since 0000-03-01
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    use super::{day, line, member};
    use std::time::Duration;

    #[test]
    fn days_are_those_of_the_calendar() {
        // `date -u -d @SECONDS +%F`
        for (seconds, expected) in [
            (0, "1970-01-01"),
            (951_782_400, "2000-02-29"),
            (951_868_800, "2000-03-01"),
            (1_767_225_599, "2025-12-31"),
            (1_795_219_200, "2026-11-21"),
            (4_107_542_400, "2100-03-01"),
        ] {
            assert_eq!(day(Duration::from_secs(seconds)), expected);
        }
    }

    #[test]
    fn members_are_found_by_their_whole_name() {
        let file = "model\t\t: 2\nmodel name\t: AMD EPYC: 7\n\nbroken line\n";
        assert_eq!(member(file, "model name"), Some("AMD EPYC: 7"));
        assert_eq!(member(file, "name"), None);
    }

    #[test]
    fn this_machine_has_cores() {
        assert!(line().contains(" cores, "), "{}", line());
    }
}
