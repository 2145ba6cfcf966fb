//! Dates that people type.

/// A date in Unix milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct At(pub(crate) u64);

/// Reads `2026-02-18T22:58:00Z` or Unix seconds.
///
/// # Errors
/// The text says what to write.
pub(crate) fn parse(text: &str) -> Result<At, String> {
    let wrong = || format!("{text:?} is no date; write 2026-02-18T22:58:00Z or Unix seconds");
    if let Ok(seconds) = text.parse::<u64>() {
        return seconds.checked_mul(1000).map(At).ok_or_else(wrong);
    }
    read(text).ok_or_else(wrong)
}

fn read(text: &str) -> Option<At> {
    let bytes = text.as_bytes();
    let marks = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':'), (19, b'Z')];
    if bytes.len() != 20 || marks.iter().any(|(place, mark)| bytes.get(*place) != Some(mark)) {
        return None;
    }
    let number = |from: usize, to: usize| text.get(from..to)?.parse::<u64>().ok();
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let lengths = [31, 28 + u64::from(leap), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let length = *lengths.get(usize::try_from(month.checked_sub(1)?).ok()?)?;
    if year < 1970 || day == 0 || day > length || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    // Leap days of the years before this one, since 1970.
    let before = year - 1;
    let leaps = |year: u64| year / 4 - year / 100 + year / 400;
    let months: u64 = lengths.iter().take(usize::try_from(month - 1).ok()?).sum();
    let days = (year - 1970) * 365 + leaps(before) - leaps(1969) + months + day - 1;
    Some(At((((days * 24 + hour) * 60 + minute) * 60 + second) * 1000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_read_as_everybody_does() {
        assert_eq!(parse("1970-01-01T00:00:00Z"), Ok(At(0)));
        assert_eq!(parse("2026-02-18T22:58:00Z"), Ok(At(1_771_455_480_000)));
        assert_eq!(parse("2024-02-29T00:00:00Z"), Ok(At(1_709_164_800_000)));
        assert_eq!(parse("1771455480"), Ok(At(1_771_455_480_000)));
        for bad in ["", "2026-02-29T00:00:00Z", "2026-13-01T00:00:00Z", "2026-02-18", "yesterday"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
