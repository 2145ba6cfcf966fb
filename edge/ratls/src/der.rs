//! Reads and writes the few DER forms a certificate needs (X.690).
//!
//! A strict library refuses certificates that deployed peers really send: OpenSSL 3.0 leaves
//! the version field out although extensions follow (protocol notes 2.4). So the walk is our
//! own. It borrows from the input, keeps no state besides the rest of the bytes, and never
//! recurses, so its cost is linear in the input.

use crate::fault::CertificateFault;

pub(crate) const BOOLEAN: u8 = 0x01;
pub(crate) const INTEGER: u8 = 0x02;
pub(crate) const BIT_STRING: u8 = 0x03;
pub(crate) const OCTET_STRING: u8 = 0x04;
pub(crate) const OID: u8 = 0x06;
pub(crate) const UTF8_STRING: u8 = 0x0c;
pub(crate) const PRINTABLE_STRING: u8 = 0x13;
pub(crate) const UTC_TIME: u8 = 0x17;
pub(crate) const GENERALIZED_TIME: u8 = 0x18;
pub(crate) const SEQUENCE: u8 = 0x30;
pub(crate) const SET: u8 = 0x31;

/// One element: its tag, its contents, and the bytes of the whole.
#[derive(Clone, Copy)]
pub(crate) struct Element<'a> {
    pub(crate) tag: u8,
    pub(crate) contents: &'a [u8],
    pub(crate) whole: &'a [u8],
}

/// Walks over sibling elements.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The tag of the next element, without taking it.
    pub(crate) fn peek_tag(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    /// Takes the next element. Long tags, indefinite and non-minimal lengths are refused:
    /// they are not DER.
    pub(crate) fn next(&mut self) -> Result<Element<'a>, CertificateFault> {
        let malformed = CertificateFault::Malformed("element header");
        let (&tag, rest) = self.rest.split_first().ok_or(malformed.clone())?;
        if tag & 0x1f == 0x1f {
            return Err(malformed);
        }
        let (&first, rest) = rest.split_first().ok_or(malformed.clone())?;
        let (length, rest) = if first < 0x80 {
            (usize::from(first), rest)
        } else {
            long_length(usize::from(first & 0x7f), rest)?
        };
        let (contents, after) =
            rest.split_at_checked(length).ok_or(CertificateFault::Malformed("element length"))?;
        let whole_len = self.rest.len() - after.len();
        let (whole, _) = self.rest.split_at(whole_len);
        self.rest = after;
        Ok(Element { tag, contents, whole })
    }

    /// Takes the next element, which must carry `tag`; `what` names it in the error.
    pub(crate) fn expect(
        &mut self,
        tag: u8,
        what: &'static str,
    ) -> Result<Element<'a>, CertificateFault> {
        let element = self.next()?;
        if element.tag == tag { Ok(element) } else { Err(CertificateFault::Malformed(what)) }
    }

    /// Takes the next element if it carries `tag`.
    pub(crate) fn optional(&mut self, tag: u8) -> Result<Option<Element<'a>>, CertificateFault> {
        if self.peek_tag() == Some(tag) { self.next().map(Some) } else { Ok(None) }
    }

    /// Fails if anything is left.
    pub(crate) fn finish(&self, what: &'static str) -> Result<(), CertificateFault> {
        if self.is_empty() { Ok(()) } else { Err(CertificateFault::Malformed(what)) }
    }
}

/// The length of the long form: at most four bytes, no leading zero, not below 128.
fn long_length(count: usize, rest: &[u8]) -> Result<(usize, &[u8]), CertificateFault> {
    let malformed = CertificateFault::Malformed("element length");
    if count == 0 || count > 4 {
        return Err(malformed);
    }
    let (digits, rest) = rest.split_at_checked(count).ok_or(malformed.clone())?;
    let length = digits.iter().fold(0usize, |acc, &digit| (acc << 8) | usize::from(digit));
    if digits.first() == Some(&0) || length < 0x80 {
        return Err(malformed);
    }
    Ok((length, rest))
}

/// Seconds since 1970 of a UTCTime or GeneralizedTime as RFC 5280 4.1.2.5 restricts them:
/// seconds present, zone `Z`, no fraction.
pub(crate) fn unix_time_s(element: Element<'_>) -> Result<i64, CertificateFault> {
    let malformed = || CertificateFault::Malformed("time");
    let text = element.contents;
    let digits = text.strip_suffix(b"Z").ok_or_else(malformed)?;
    let (year, rest) = match (element.tag, digits.len()) {
        (UTC_TIME, 12) => {
            let (year, rest) = digits.split_at(2);
            let year = number(year).ok_or_else(malformed)?;
            (if year < 50 { 2000 + year } else { 1900 + year }, rest)
        }
        (GENERALIZED_TIME, 14) => {
            let (year, rest) = digits.split_at(4);
            (number(year).ok_or_else(malformed)?, rest)
        }
        _ => return Err(malformed()),
    };
    let mut fields = [0i64; 5];
    for (field, pair) in fields.iter_mut().zip(rest.chunks(2)) {
        *field = number(pair).ok_or_else(malformed)?;
    }
    let [month, day, hour, minute, second] = fields;
    let valid = (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && hour < 24
        && minute < 60
        && second < 60;
    if !valid {
        return Err(malformed());
    }
    Ok(days_since_1970(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second)
}

/// The value of ASCII digits; at most four of them reach here, so it cannot overflow.
fn number(digits: &[u8]) -> Option<i64> {
    digits.iter().try_fold(0i64, |acc, digit| {
        digit.is_ascii_digit().then(|| acc * 10 + i64::from(digit - b'0'))
    })
}

/// Days of the proleptic Gregorian calendar; years start in March so that leap days come last.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let shifted_year = if month <= 2 { year - 1 } else { year };
    let era = shifted_year.div_euclid(400);
    let year_of_era = shifted_year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// An element of `tag` around the concatenation of `parts`.
pub(crate) fn element(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let mut out = Vec::with_capacity(length + 6);
    out.push(tag);
    if let (Ok(short), true) = (u8::try_from(length), length < 0x80) {
        out.push(short);
    } else {
        let bytes = length.to_be_bytes();
        let skip = bytes.iter().take_while(|byte| **byte == 0).count();
        let digits = bytes.get(skip..).unwrap_or_default();
        // A usize has at most eight bytes, so the count fits seven bits.
        out.push(0x80 | digits.len() as u8);
        out.extend_from_slice(digits);
    }
    for part in parts {
        out.extend_from_slice(part);
    }
    out
}

/// `unix_s` as UTCTime up to 2049, GeneralizedTime after (RFC 5280 4.1.2.5).
pub(crate) fn time(unix_s: i64) -> Vec<u8> {
    let (year, month, day) = civil_date(unix_s.div_euclid(86_400));
    let second_of_day = unix_s.rem_euclid(86_400);
    let rest = format!(
        "{month:02}{day:02}{:02}{:02}{:02}Z",
        second_of_day / 3_600,
        second_of_day / 60 % 60,
        second_of_day % 60
    );
    if (1950..2050).contains(&year) {
        element(UTC_TIME, &[format!("{:02}{rest}", year % 100).as_bytes()])
    } else {
        element(GENERALIZED_TIME, &[format!("{year:04}{rest}").as_bytes()])
    }
}

/// The inverse of [`days_since_1970`].
fn civil_date(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn written_elements_read_back(tag in 1u8..31, contents in prop::collection::vec(any::<u8>(), 0..70_000)) {
            let bytes = element(tag, &[&contents]);
            let mut reader = Reader::new(&bytes);
            let read = reader.next().unwrap();
            prop_assert_eq!((read.tag, read.contents), (tag, &contents[..]));
            prop_assert_eq!(read.whole, &bytes[..]);
            prop_assert!(reader.is_empty());
        }

        #[test]
        fn times_read_back(unix_s in -600_000_000i64..200_000_000_000) {
            let bytes = time(unix_s);
            let read = Reader::new(&bytes).next().unwrap();
            prop_assert_eq!(unix_time_s(read).unwrap(), unix_s);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let mut reader = Reader::new(&bytes);
            while let Ok(element) = reader.next() {
                let _ = unix_time_s(element);
            }
        }
    }

    #[test]
    fn known_dates() {
        let at = |text: &str| {
            let bytes = element(GENERALIZED_TIME, &[text.as_bytes()]);
            unix_time_s(Reader::new(&bytes).next().unwrap()).unwrap()
        };
        assert_eq!(at("19700101000000Z"), 0);
        assert_eq!(at("20000229120000Z"), 951_825_600);
        assert_eq!(at("20260101000000Z"), 1_767_225_600);
    }

    #[test]
    fn non_minimal_and_indefinite_lengths_are_refused() {
        for bytes in
            [&[0x30, 0x80, 0, 0][..], &[0x30, 0x81, 0x01, 0], &[0x30, 0x82, 0, 0x81], &[0x1f, 0]]
        {
            assert!(Reader::new(bytes).next().is_err());
        }
    }
}
