//! Writing DER (ITU-T X.690), as much as certificates need.

/// Returns one element: tag, length, content.
pub(super) fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    let len = content.len();
    if len < 0x80 {
        out.push(len as u8);
    } else {
        let bytes = len.to_be_bytes();
        let significant: Vec<u8> = bytes.into_iter().skip_while(|byte| *byte == 0).collect();
        out.push(0x80 | significant.len() as u8);
        out.extend_from_slice(&significant);
    }
    out.extend_from_slice(content);
    out
}

/// Returns a SEQUENCE of the parts.
pub(super) fn sequence(parts: &[Vec<u8>]) -> Vec<u8> {
    element(0x30, &parts.concat())
}

/// Returns a SET of one part.
pub(super) fn set(part: &[u8]) -> Vec<u8> {
    element(0x31, part)
}

/// Returns a constructed element with a context tag.
pub(super) fn tagged(number: u8, content: &[u8]) -> Vec<u8> {
    element(0xa0 | number, content)
}

/// Returns a non-negative INTEGER of big-endian bytes.
pub(super) fn integer(bytes: &[u8]) -> Vec<u8> {
    let mut content: Vec<u8> = bytes.iter().copied().skip_while(|byte| *byte == 0).collect();
    if content.first().is_none_or(|byte| *byte >= 0x80) {
        content.insert(0, 0);
    }
    element(0x02, &content)
}

/// Returns an INTEGER of one machine word.
pub(super) fn number(value: u64) -> Vec<u8> {
    integer(&value.to_be_bytes())
}

/// Returns an ENUMERATED of one byte.
pub(super) fn enumerated(value: u8) -> Vec<u8> {
    element(0x0a, &[value])
}

/// Returns a BOOLEAN.
pub(super) fn boolean(value: bool) -> Vec<u8> {
    element(0x01, &[if value { 0xff } else { 0 }])
}

/// Returns an OCTET STRING.
pub(super) fn octets(bytes: &[u8]) -> Vec<u8> {
    element(0x04, bytes)
}

/// Returns a BIT STRING of whole bytes.
pub(super) fn bits(bytes: &[u8]) -> Vec<u8> {
    let mut content = vec![0];
    content.extend_from_slice(bytes);
    element(0x03, &content)
}

/// Returns a UTF8String.
pub(super) fn text(value: &str) -> Vec<u8> {
    element(0x0c, value.as_bytes())
}

/// Returns an IA5String.
pub(super) fn ia5(value: &str) -> Vec<u8> {
    element(0x16, value.as_bytes())
}

/// Returns NULL.
pub(super) fn null() -> Vec<u8> {
    element(0x05, &[])
}

/// Returns an OBJECT IDENTIFIER of its arcs.
pub(super) fn oid(arcs: &[u64]) -> Vec<u8> {
    let mut content = Vec::new();
    if let [first, second, rest @ ..] = arcs {
        arc(&mut content, first * 40 + second);
        for value in rest {
            arc(&mut content, *value);
        }
    }
    element(0x06, &content)
}

/// Returns a time: UTCTime before 2050, GeneralizedTime from then on (RFC 5280, 4.1.2.5).
pub(super) fn time(unix_s: u64) -> Vec<u8> {
    let iso = iso8601(unix_s);
    let digits: String = iso.chars().filter(char::is_ascii_digit).collect();
    if digits.as_str() < "20500101000000" {
        element(0x17, format!("{}Z", &digits[2..]).as_bytes())
    } else {
        element(0x18, format!("{digits}Z").as_bytes())
    }
}

/// Returns `YYYY-MM-DDTHH:MM:SSZ`.
pub(super) fn iso8601(unix_s: u64) -> String {
    let (days, seconds) = (unix_s / 86_400, unix_s % 86_400);
    // The count of days in eras of 400 years that begin in March.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

fn arc(out: &mut Vec<u8>, value: u64) {
    let mut groups = vec![(value & 0x7f) as u8];
    let mut rest = value >> 7;
    while rest > 0 {
        groups.push(0x80 | (rest & 0x7f) as u8);
        rest >>= 7;
    }
    out.extend(groups.iter().rev());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_those_of_openssl() {
        assert_eq!(hex::encode(oid(&[1, 2, 840, 113_549, 1, 1, 10])), "06092a864886f70d01010a");
        assert_eq!(hex::encode(number(128)), "02020080");
        assert_eq!(hex::encode(number(0)), "020100");
        assert_eq!(element(4, &[0; 200])[..3], [4, 0x81, 200]);
        assert_eq!(time(1_771_455_480), b"\x17\x0d260218225800Z");
        assert_eq!(iso8601(951_827_696), "2000-02-29T12:34:56Z");
        assert_eq!(time(4_102_444_800)[0], 0x18);
    }
}
