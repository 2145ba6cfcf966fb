//! A day of the calendar.

use std::fmt;
use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

/// A day, proleptic Gregorian, UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Day {
    year: u32,
    month: u32,
    day: u32,
}

impl Day {
    pub(crate) fn today() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self::after_epoch(since.as_secs() / 86_400)
    }

    /// So many days after 1 January 1970.
    fn after_epoch(mut days: u64) -> Self {
        let mut year = 1970;
        loop {
            let length = if is_leap(year) { 366 } else { 365 };
            if days < length {
                break;
            }
            days -= length;
            year += 1;
        }
        let mut month = 1;
        while days >= u64::from(days_of(year, month)) {
            days -= u64::from(days_of(year, month));
            month += 1;
        }
        Self { year, month, day: u32::try_from(days).unwrap_or_default() + 1 }
    }
}

impl FromStr for Day {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fault = || format!("{text:?} is no day: write YYYY-MM-DD");
        let parts: Vec<&str> = text.split('-').collect();
        let [year, month, day] = parts.as_slice() else { return Err(fault()) };
        if [year.len(), month.len(), day.len()] != [4, 2, 2] {
            return Err(fault());
        }
        let number = |part: &str| part.parse::<u32>().map_err(|_| fault());
        let (year, month, day) = (number(year)?, number(month)?, number(day)?);
        if !(1..=12).contains(&month) || day == 0 || day > days_of(year, month) {
            return Err(fault());
        }
        Ok(Self { year, month, day })
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}-{:02}", self.year, self.month, self.day)
    }
}

fn is_leap(year: u32) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

fn days_of(year: u32, month: u32) -> u32 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if is_leap(year) => 29,
        2 => 28,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use super::Day;

    #[test]
    fn days_are_those_of_the_calendar() {
        let shown = |days| Day::after_epoch(days).to_string();
        assert_eq!(shown(0), "1970-01-01");
        assert_eq!(shown(59), "1970-03-01");
        assert_eq!(shown(789), "1972-02-29");
        assert_eq!(shown(11_016), "2000-02-29");
        assert_eq!(shown(20_779), "2026-11-22");
        assert_eq!("2028-02-29".parse::<Day>().unwrap().to_string(), "2028-02-29");
        for wrong in ["", "2026-02-29", "2026-13-01", "2026-1-1", "26-01-01", "2026-01-00"] {
            assert!(wrong.parse::<Day>().is_err(), "{wrong}");
        }
    }
}
